"""Preprocessing on the accelerator: normalization, and augmentation of frames that the host sent
whole.

Training, evaluation and prediction share `normalize`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from vjax import device_augment
from vjax.types import Batch


def normalize(
  video: UInt8[Array, '... 3'] | Float[Array, '... 3'], mean: Sequence[float], std: Sequence[float]
) -> Float[Array, '... 3']:
  """Returns (x / 255 - mean) / std of RGB in 0..255, float32."""
  return (video.astype(jnp.float32) / 255 - jnp.asarray(mean)) / jnp.asarray(std)


def clips(
  batch: Batch, crop_size: int, mean: Sequence[float], std: Sequence[float]
) -> Float[jax.Array, 'b t h w 3']:
  """Returns the normalized clips of a training batch, augmented here as far as the host left it.

  The order is the host's: RandAugment, window and resize, color, flip, erase.
  """
  video = batch['video']
  if 'ops' in batch:
    video = device_augment.rand_augment(video, batch['frame_size'], batch['ops'], batch['values'])
  if 'window' in batch:
    video = crops(video, batch['window'], batch['mirror'], batch.get('color'), crop_size)
  if 'erased' in batch:
    video = device_augment.erase(video, batch['erased'], batch['noise'])
  return normalize(video, mean, std)


def crops(
  video: UInt8[Array, 'b t h w 3'],
  window: Int[Array, 'b 4'],
  mirror: Bool[Array, ' b'],
  color: Float[Array, 'b 3'] | None,
  size: int,
) -> Float[Array, 'b t size size 3']:
  """Returns clips in 0..255 of the `window` (y, x, height, width) of padded frames.

  Bilinear between pixel centers (two matrix products a frame), then factors of brightness, contrast
  and saturation: what `data/augment.py::render` does on the host, but for its rounding. Mirrored
  where `mirror`.
  """
  rows = _bilinear(window[:, 0], window[:, 2], video.shape[2], size)
  columns = _bilinear(window[:, 1], window[:, 3], video.shape[3], size)
  columns = jnp.where(mirror[:, None, None], columns[:, ::-1], columns)
  clip = jnp.einsum('bih,bthwc->btiwc', rows, video.astype(jnp.float32))
  clip = jnp.einsum('bjw,btiwc->btijc', columns, clip)
  if color is None:
    return clip
  brightness, contrast, saturation = (f[:, None, None, None, None] for f in color.T)
  clip = _blend(0.0, clip, brightness)
  clip = _blend(_gray(clip).mean((2, 3, 4), keepdims=True), clip, contrast)
  return _blend(_gray(clip), clip, saturation)


def _bilinear(start: Array, length: Array, most: int, size: int) -> Array:
  """(B, size, most): weights by which `size` pixels are made of `length` pixels from `start` of
  `most`."""
  at = (jnp.arange(size) + 0.5) * (length[:, None] / size) - 0.5
  at = start[:, None] + jnp.clip(at, 0, length[:, None] - 1)
  return jnp.maximum(0.0, 1 - jnp.abs(at[..., None] - jnp.arange(most)))


def _blend(other, clip, factor):
  return jnp.clip(other + factor * (clip - other), 0, 255)


def _gray(clip):
  return (clip * jnp.array([0.299, 0.587, 0.114])).sum(-1, keepdims=True)
