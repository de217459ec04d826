"""Makes the codebook of a masked autoencoder that predicts codes (config.objective.predict=tokens):
k-means of the patches of training clips."""

import io
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.cluster import vq

from vjax import build, files
from vjax.config import plain
from vjax.targets import pixels

ITERATIONS = 20


def make(
  config: Any, data_dir: str, path: str, *, codes: int = 512, clips: int = 1024, patches: int = 64
) -> dict[str, float]:
  """Writes the codebook (codes, values) of a masked autoencoder's config to a .npy file.

  Args:
    config: of the training; its clips, augmentation, patches and objective.normalize count.
    data_dir: folder of prepared datasets.
    path: of the file, local or on an object store.
    codes: vectors of the codebook.
    clips: training clips that are looked at.
    patches: drawn from each of them.

  Returns:
    {'codes', 'patches', 'explained': share of the variance of the patches that the codes explain}.
  """
  config = plain(config)
  objective = {**config['objective'], 'predict': 'pixels', 'codebook': ''}
  exp = build.experiment({**config, 'objective': objective, 'evals': {}}, data_dir)
  vectors = _patches(exp, clips, patches)
  if len(vectors) < codes:
    raise ValueError(f'codes is {codes}, but there are {len(vectors)} patches: ask for fewer codes')
  found, nearest = vq.kmeans2(
    vectors, codes, iter=ITERATIONS, minit='points', missing='warn', rng=exp.seed
  )
  left = np.square(vectors - found[nearest]).sum()
  all_of_it = np.square(vectors - vectors.mean(0)).sum()
  stream = io.BytesIO()
  np.save(stream, found.astype(np.float32))
  files.write_bytes(path, stream.getvalue())
  return {'codes': codes, 'patches': len(vectors), 'explained': float(1 - left / all_of_it)}


def _patches(exp: build.Experiment, clips: int, each: int) -> Float[np.ndarray, 'n v']:
  """Returns patches of the target frames of training clips, `each` of every clip."""
  patch = exp.model.backbone.patch
  normalize, rule = exp.objective.setting('normalize'), exp.objective.setting('target')

  @jax.jit
  def of_clips(batch: Any) -> jax.Array:
    video = exp.update.pixels(batch)
    return pixels.of_tokens(video, patch, 1, normalize, rule)[0]

  draw = np.random.default_rng(exp.seed)
  found = []
  batches = exp.train_batches(0)
  for _ in range(math.ceil(clips / exp.clips_per_step)):
    tokens = np.asarray(of_clips({k: jnp.asarray(v) for k, v in next(batches).items()}))
    chosen = draw.permuted(np.tile(np.arange(tokens.shape[1]), (len(tokens), 1)), axis=1)[:, :each]
    found.append(np.take_along_axis(tokens, chosen[..., None], axis=1).reshape(-1, tokens.shape[2]))
  return np.concatenate(found)
