"""Discrete codes as targets: the nearest vector of a codebook to a patch's pixels.

DIFFERS(paper): Feichtenhofer et al. 2022, table 2c, take the tokens of a dVAE that was trained on
other images, as BEiT does. Here the codebook is a file of patch vectors, which
vjax/analysis/codebook.py makes of the training videos by k-means, so that no outside weights are
needed. Of each patch the first frame alone is coded.
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from vjax import files
from vjax.targets import pixels
from vjax.types import Target

_MAKE = 'vjax.analysis.codebook.make writes one, as configs/studies/mae_ablations.py does'


@functools.lru_cache(maxsize=2)
def load(path: str) -> Float[np.ndarray, 'k v']:
  """Returns the vectors of a codebook, a .npy file (K, V). Raises ValueError where there is
  none."""
  file = files.path(path)
  if not path or not file.is_file():
    raise ValueError(
      f'config.objective.codebook is {path!r}, and there is no such file: predict=tokens needs a '
      f'.npy file of patch vectors (codes, values); {_MAKE}'
    )
  with file.open('rb') as stream:
    vectors = np.load(stream, allow_pickle=False)
  if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
    raise ValueError(
      f'config.objective.codebook={path!r} holds {vectors.dtype} {vectors.shape}; it must be '
      f'floats (codes, values); {_MAKE}'
    )
  return vectors


def codes(vectors: Float[Array, 'b n v'], codebook: Float[Array, 'k v']) -> Int[Array, 'b n']:
  """Returns the index of the nearest vector of the codebook; ties go to the first."""
  distance = jnp.sum(codebook**2, -1) - 2 * vectors @ codebook.T  # but for the vector's own square
  return jnp.argmin(distance, -1)


def error(
  predictions: Float[Array, 'b n v'],
  video: Float[Array, 'b t h w c'],
  patch: tuple[int, int, int],
  *,
  normalize: bool,
  target: str,
  codebook: str,
  **_: Any,
) -> Float[Array, 'b n']:
  """Returns the cross-entropy of each token's code."""
  vectors = jnp.asarray(load(codebook))
  wanted = pixels.of_tokens(video, patch, 1, normalize, target)[0]
  if wanted.shape[-1] != vectors.shape[-1]:
    raise ValueError(
      f'config.objective.codebook={codebook!r} has vectors of {vectors.shape[-1]} values; patches '
      f'{patch} have {wanted.shape[-1]} in a frame: make the codebook for this model'
    )
  return optax.softmax_cross_entropy_with_integer_labels(predictions, codes(wanted, vectors))


def values(patch: tuple[int, int, int], *, codebook: str, **_: Any) -> int:
  """Returns the number of codes."""
  return len(load(codebook))


TARGET = Target(error, values=values)
