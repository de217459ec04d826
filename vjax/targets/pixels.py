"""Pixels as targets, standardized per token or raw.  (Feichtenhofer et al. 2022, sec. 3 and table
2c.)"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.layers.position import patchify
from vjax.types import Target

VARIANCE_EPSILON = 1e-6
Patch = tuple[int, int, int]


def frames(count: int, predicted: int, rule: str) -> list[int]:
  """Returns the indices, among `count` frames, of the `predicted` target frames.

  'stride': every (count / predicted)-th from 0, as PySlowFast and the released weights (0, 2, .. 14
  of 16).
  'linspace': from the first to the last, rounded down, as the authors' stand-alone code (0, 2, 4,
  .. 12, 15).
  """
  if rule == 'stride':
    return list(range(0, count, count // predicted))[:predicted]
  if rule == 'linspace':
    return [i * (count - 1) // max(predicted - 1, 1) for i in range(predicted)]
  raise ValueError(f"target is {rule!r}; it must be 'stride' or 'linspace'")


def of_tokens(
  video: Float[Array, 'b t h w c'], patch: Patch, each: int, normalize: bool, rule: str
) -> tuple[Array, Array | float, Array | float]:
  """Returns (targets (B, N, V), mean, deviation) for each token of `video`.

  targets * deviation + mean are pixels again. Statistics are per token, over its predicted values
  of all channels, with the unbiased variance. Without `normalize`, mean and deviation are 0 and 1.

  Args:
    video: normalized clips.
    patch: (frames, rows, columns) of a patch.
    each: frames predicted of each patch.
    normalize: standardize per token.
    rule: see `frames`.
  """
  chosen = frames(video.shape[1], video.shape[1] // patch[0] * each, rule)
  pixels = patchify(jnp.take(video, jnp.array(chosen), axis=1), (each, *patch[1:]))
  pixels = pixels.astype(jnp.promote_types(pixels.dtype, jnp.float32))
  if not normalize:
    return pixels, 0.0, 1.0
  mean = jnp.mean(pixels, axis=-1, keepdims=True)
  deviation = jnp.sqrt(jnp.var(pixels, axis=-1, keepdims=True, ddof=1) + VARIANCE_EPSILON)
  return (pixels - mean) / deviation, mean, deviation


def frames_each(values: int, patch: Patch, channels: int) -> int:
  """Returns the frames of each patch that `values` predicted values are."""
  _, rows, columns = patch
  if values % (rows * columns * channels):
    raise ValueError(
      f'the head predicts {values} values a token, no multiple of {rows}x{columns}x{channels}'
    )
  return values // (rows * columns * channels)


def error(
  predictions: Float[Array, 'b n v'],
  video: Float[Array, 'b t h w c'],
  patch: Patch,
  *,
  normalize: bool,
  target: str,
  **_: Any,
) -> Float[Array, 'b n']:
  """Returns the squared error of each token, mean over its values."""
  each = frames_each(predictions.shape[-1], patch, video.shape[-1])
  wanted = of_tokens(video, patch, each, normalize, target)[0]
  return jnp.mean(jnp.square(predictions - wanted), axis=-1)


# As many values as the head's pred_frames make.
TARGET = Target(error, values=lambda patch, **_: None, pixels=True)
