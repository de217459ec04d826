"""Positions of tokens: cuts clips into patches, makes learned or fixed position tables, resizes
tables to another grid.

A grid is (t, h, w) slots, rows, columns; tokens are in that order, t slowest.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Grid = tuple[int, int, int]
SLOWEST = 10_000  # longest wavelength of fixed positions over 2 pi, in tokens
BICUBIC_A = -0.75  # PyTorch's kernel; jax.image.resize has -0.5


def patchify(video: Float[Array, 'b t h w c'], patch: Grid) -> Float[Array, 'b n v']:
  """Returns tokens (B, N, patch_t * patch_h * patch_w * C), each in the order (frame, row, column,
  channel), channel fastest.

  Pixels at the bottom or right that do not fill a patch are left out (312 px with patches of 16: 19
  x 19). Raises ValueError when the clip holds no whole patch, or the frames do not divide.
  """
  b, frames, height, width, c = video.shape
  t, h, w = grid_of((frames, height, width), patch)
  x = video[:, :, : h * patch[1], : w * patch[2]]
  x = x.reshape(b, t, patch[0], h, patch[1], w, patch[2], c).transpose(0, 1, 3, 5, 2, 4, 6, 7)
  return x.reshape(b, t * h * w, math.prod(patch) * c)


def unpatchify(tokens: Float[Array, 'b n v'], grid: Grid, patch: Grid) -> Float[Array, 'b t h w c']:
  """Returns the clip (B, T, H, W, C) of tokens in the order of `patchify`."""
  b, _, values = tokens.shape
  x = tokens.reshape(b, *grid, *patch, values // math.prod(patch)).transpose(0, 1, 4, 2, 5, 3, 6, 7)
  return x.reshape(b, *(g * p for g, p in zip(grid, patch)), x.shape[-1])


def grid_of(shape: tuple[int, int, int], patch: Grid) -> Grid:
  """Returns the grid (t, h, w) of clips of `shape` (T, H, W); space is floored. Raises ValueError
  when no whole grid fits."""
  grid = tuple(size // p for size, p in zip(shape, patch))
  if shape[0] % patch[0] or 0 in grid:
    raise ValueError(
      f'a clip of {shape[0]}x{shape[1]}x{shape[2]} (frames, rows, columns) does not split into '
      f'patches {patch}: frames must be a multiple of {patch[0]}, and each side at least one patch'
    )
  return grid


def check_grid(shape: tuple[int, ...], grid: Grid, wanted: Grid) -> None:
  """Raises ValueError where the token grid of a clip of `shape` (T, H, W) is not the grid of the
  position tables."""
  if grid != wanted:
    raise ValueError(
      f'a clip of {tuple(shape)} frames, rows, columns makes a token grid {grid}, but the '
      f'position tables are for {wanted}: set frames and crop of the model; checkpoints are '
      'resized on loading'
    )


def table(
  module: nn.Module, kind: str, grid: Grid, width: int, class_token: bool, init: Callable[..., Any]
) -> tuple[Float[Array, 'n d'], Float[Array, '1 d'] | None]:
  """Returns positions (N, D) of the patch tokens and (1, D) of the class token, as parameters of
  `module`.

  'separable' (Feichtenhofer et al. 2022, sec. 3): 'position_spatial' (1, h * w, D) plus
  'position_temporal' (1, t, D), and 'position_class' (1, 1, D).
  'joint': one 'position' (1, [1 +] N, D), row 0 for the class token.
  'sincos': no parameter; `sincos`, and zeros for the class token. Small networks learn sooner with
  this kind, because positions drawn by `init` are small beside the patches.
  """
  t, h, w = grid
  if kind == 'sincos':
    return jnp.asarray(sincos(grid, width)), jnp.zeros((1, width)) if class_token else None
  if kind == 'separable':
    space = module.param('position_spatial', init, (1, h * w, width))[0]
    time = module.param('position_temporal', init, (1, t, width))[0]
    first = module.param('position_class', init, (1, 1, width))[0] if class_token else None
    return (time[:, None] + space[None]).reshape(t * h * w, width), first
  if kind == 'joint':
    both = module.param('position', init, (1, class_token + t * h * w, width))[0]
    return both[int(class_token) :], both[:1] if class_token else None
  raise ValueError(f"positions is {kind!r}; it must be 'separable', 'joint' or 'sincos'")


def sincos(grid: Grid, width: int) -> Float[np.ndarray, 'n d']:
  """Returns fixed positions (N, D) of a grid: sines, then cosines of the slot, then of the row,
  then of the column, a sixth of the width each; the rest of the width is 0.

  The frequencies fall geometrically from 1 towards 1 / 10000 (Vaswani et al. 2017, sec. 3.5, as the
  image autoencoder has them for rows and columns). Raises ValueError for a width below 6.
  """
  if width < 6:
    raise ValueError(f'width is {width}; fixed positions need 6 channels or more')
  count = width // 6
  frequencies = SLOWEST ** (-np.arange(count) / count)
  places = np.stack(np.meshgrid(*(np.arange(size) for size in grid), indexing='ij'), -1).reshape(
    -1, 3, 1
  )
  angles = places * frequencies  # (N, 3, D // 6)
  found = np.concatenate([np.sin(angles), np.cos(angles)], -1).reshape(len(places), 6 * count)
  return np.pad(found, ((0, 0), (0, width - 6 * count))).astype(np.float32)


def _matrix(
  old: int, new: int, offsets: tuple[int, ...], weigh: Callable, clamp: bool
) -> np.ndarray:
  """Returns an interpolation matrix (new, old), half-pixel centers; taps beyond the border read the
  border."""
  source = (np.arange(new) + 0.5) * (old / new) - 0.5
  source = np.maximum(source, 0) if clamp else source
  base = np.floor(source).astype(int)
  matrix = np.zeros((new, old))
  for offset in offsets:
    np.add.at(
      matrix, (np.arange(new), np.clip(base + offset, 0, old - 1)), weigh(source - base - offset)
    )
  return matrix


def linear(old: int, new: int) -> np.ndarray:
  """Returns the matrix (new, old) of linear interpolation, half-pixel centers, the edges
  repeated."""
  return _matrix(old, new, (0, 1), lambda d: 1 - np.abs(d), clamp=True)


def _cubic(x: np.ndarray) -> np.ndarray:
  a, x = BICUBIC_A, np.abs(x)
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  return np.where(x <= 1, near, a * (((x - 5) * x + 8) * x - 4))


def resize_spatial(x: Any, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
  """Returns the table (..., new h * w, D) of (..., old h * w, D): bicubic with a = -0.75,
  half-pixel centers, no antialiasing, as PyTorch's `interpolate`. With the same size the table is
  unchanged."""
  x = np.asarray(x)
  if tuple(old) == tuple(new):
    return x
  rows, columns = (_matrix(o, n, (-1, 0, 1, 2), _cubic, clamp=False) for o, n in zip(old, new))
  y = np.einsum(
    'ph,qw,...hwd->...pqd',
    rows,
    columns,
    x.reshape(*x.shape[:-2], *old, x.shape[-1]),
    optimize=True,
  )
  return y.reshape(*x.shape[:-2], new[0] * new[1], x.shape[-1]).astype(x.dtype)


def resize_temporal(x: Any, new: int) -> np.ndarray:
  """Returns the table (..., new, D) of (..., old, D): linear, half-pixel centers. With the same
  length the table is unchanged."""
  x = np.asarray(x)
  if x.shape[-2] == new:
    return x
  return np.einsum('st,...td->...sd', linear(x.shape[-2], new), x).astype(x.dtype)


def resize_joint(x: Any, old: Grid, new: Grid) -> np.ndarray:
  """Returns the table (1, [1 +] new N, D) of (1, [1 +] old N, D): space bicubic, then time linear;
  a class row stays as it is."""
  x = np.asarray(x)
  rest = x.shape[1] - math.prod(old)
  if rest not in (0, 1):
    raise ValueError(
      f'a table of {x.shape[1]} rows does not belong to the grid {old} with or without a class row'
    )
  y = x[:, rest:].reshape(*old, x.shape[-1])
  y = resize_spatial(y.reshape(old[0], old[1] * old[2], -1), old[1:], new[1:])  # (t, h' * w', D)
  y = np.moveaxis(resize_temporal(np.moveaxis(y, 0, 1), new[0]), 1, 0)
  return np.concatenate([x[:, :rest], y.reshape(1, -1, x.shape[-1])], axis=1)


def resize(
  name: str,
  old: Any,
  shape: tuple[int, ...],
  *,
  old_grid: Grid | None = None,
  new_grid: Grid | None = None,
) -> np.ndarray:
  """Returns the position table `old`, a parameter called `name`, resized to `shape`.

  Grids (t, h, w) are needed for joint tables; spatial tables without grids count as square. Tables
  of relative positions (rows, D), 'relative_t' and so on, are interpolated along their rows. Raises
  ValueError when the shapes differ in more than the number of tokens, or the grids cannot be known.
  """
  old, last = np.asarray(old), name.split('/')[-1]
  if old.shape == tuple(shape):
    return old
  if (
    last.startswith('relative_') and old.ndim == 2 and len(shape) == 2 and old.shape[1] == shape[1]
  ):
    return resize_temporal(old, shape[0])
  if old.ndim != 3 or len(shape) != 3 or old.shape[0] != shape[0] or old.shape[2] != shape[2]:
    raise ValueError(
      f'{name} is {old.shape}, the model wants {tuple(shape)}: only the number of positions can be '
      'resized'
    )
  if last == 'position_temporal':
    return resize_temporal(old, shape[1])
  if last == 'position_spatial':
    before = old_grid[1:] if old_grid else _square(name, old.shape[1])
    after = new_grid[1:] if new_grid else _square(name, shape[1])
    new = resize_spatial(old, before, after)
  elif last == 'position' and old_grid and new_grid:
    new = resize_joint(old, old_grid, new_grid)
  elif last == 'position':
    raise ValueError(
      f'{name} {old.shape} -> {tuple(shape)}: a joint table needs the old and the new grid (t, h, '
      'w)'
    )
  else:
    raise ValueError(
      f'{name} {old.shape} -> {tuple(shape)}: no rule to resize a parameter of this name'
    )
  if new.shape != tuple(shape):
    raise ValueError(
      f'{name} resized from grid {old_grid} to {new_grid} is {new.shape}; the model wants '
      f'{tuple(shape)}'
    )
  return new


def _square(name: str, rows: int) -> tuple[int, int]:
  side = math.isqrt(rows)
  if side * side != rows:
    raise ValueError(
      f'{name} has {rows} rows, which are not those of a square crop: give old_grid and new_grid '
      '(t, h, w), or in a warm start leave it out by config.init.skip'
    )
  return side, side
