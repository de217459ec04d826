"""Histograms of oriented gradients as targets.  (Dalal & Triggs 2005; Wei et al. 2022, MaskFeat;
Feichtenhofer et al. 2022, table 2c.)

The paper states no settings. These are MaskFeat's: 9 bins of unsigned orientation, each color
channel by itself, cells of 8 x 8 px, every cell's histogram divided by its L2 norm. Our choices:
Sobel gradients of the whole frame, borders reflected; a gradient counts for one bin, with its
magnitude; no Gaussian window and no blocks of cells; of each patch the first frame alone.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.layers.position import grid_of
from vjax.targets import pixels
from vjax.types import Target

BINS = 9
CELL = 8  # pixels
EPSILON = 1e-6


def histograms(images: Float[Array, 'b h w c'], cell: tuple[int, int]) -> Float[Array, '...']:
  """Returns histograms (B, H / rows, W / columns, C, BINS) of cells of (rows, columns) pixels, each
  of unit L2 norm, zeros where the cell is flat. Pixels that fill no cell are left out."""
  x = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='reflect')
  smooth = lambda x, axis: sum(
    weight * jax.lax.slice_in_dim(x, i, x.shape[axis] - 2 + i, axis=axis)
    for i, weight in enumerate((1.0, 2.0, 1.0))
  )
  slope = lambda x, axis: (
    jax.lax.slice_in_dim(x, 2, x.shape[axis], axis=axis)
    - jax.lax.slice_in_dim(x, 0, x.shape[axis] - 2, axis=axis)
  )
  down, right = slope(smooth(x, 2), 1), slope(smooth(x, 1), 2)
  turns = jnp.arctan2(down, right) / jnp.pi  # -1 .. 1; unsigned: modulo 1
  place = jnp.floor(turns * BINS).astype(jnp.int32) % BINS
  votes = jax.nn.one_hot(place, BINS) * jnp.hypot(down, right)[..., None]
  b, h, w, c = images.shape
  rows, columns = h // cell[0], w // cell[1]
  votes = votes[:, : rows * cell[0], : columns * cell[1]]
  sums = votes.reshape(b, rows, cell[0], columns, cell[1], c, BINS).sum((2, 4))
  return sums / jnp.maximum(jnp.linalg.norm(sums, axis=-1, keepdims=True), EPSILON)


def cells(patch: tuple[int, int, int]) -> tuple[int, int]:
  """Returns the rows and columns of a cell: CELL, or the patch's own where that is no multiple."""
  rows, columns = (side if side % CELL else CELL for side in patch[1:])
  return rows, columns


def values(patch: tuple[int, int, int], **_: Any) -> int:
  """Returns the values of a patch: cells * 3 channels * bins."""
  rows, columns = cells(patch)
  return (patch[1] // rows) * (patch[2] // columns) * 3 * BINS


def of_tokens(
  video: Float[Array, 'b t h w c'], patch: tuple[int, int, int], rule: str
) -> Float[Array, 'b n v']:
  """Returns the targets (B, N, V), each in the order (cell row, cell column, channel, bin)."""
  count, height, width = video.shape[1:4]
  t, h, w = grid_of((count, height, width), patch)
  first = jnp.take(video, jnp.array(pixels.frames(count, t, rule)), axis=1)
  first = first[:, :, : h * patch[1], : w * patch[2]].astype(jnp.float32)
  found = histograms(first.reshape(-1, *first.shape[2:]), cells(patch))
  rows, columns = found.shape[1] // h, found.shape[2] // w
  found = found.reshape(len(video), t, h, rows, w, columns, -1)
  return found.transpose(0, 1, 2, 4, 3, 5, 6).reshape(len(video), t * h * w, -1)


def error(
  predictions: Float[Array, 'b n v'],
  video: Float[Array, 'b t h w c'],
  patch: tuple[int, int, int],
  *,
  target: str,
  **_: Any,
) -> Float[Array, 'b n']:
  """Returns the squared error of each token, mean over its values."""
  return jnp.mean(jnp.square(predictions - of_tokens(video, patch, target)), axis=-1)


TARGET = Target(error, values=values)
