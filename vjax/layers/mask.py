"""Masks of a masked autoencoder: which tokens of a grid (t, h, w) are encoded.  (Feichtenhofer et
al. 2022, sec. 3)

The number of kept tokens is static. Each clip has a key, so that masks do not depend on batch or
devices.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vjax.types import Mask

Grid = tuple[int, int, int]
BLOCK_TRIES = 100  # failed draws in a row after which kind 'block' adds no more blocks


def kept(count: int, ratio: float) -> int:
  """Returns how many of `count` tokens stay when a share `ratio` is removed: int(count * (1 -
  ratio)) in Python floats, at least 1.

  The published code truncates, too: 160 tokens at 0.9 leave 15, not 16. Raises ValueError outside 0
  <= ratio < 1.
  """
  if not 0 <= ratio < 1:
    raise ValueError(
      f'mask ratio is {ratio}; it must lie in [0, 1): it is the share of tokens that are removed'
    )
  return max(1, int(count * (1 - ratio)))


def from_noise(noise: Array, keep: int) -> Mask:
  """Returns the mask that keeps, per row of noise (B, N), the `keep` smallest values, in ascending
  order; ties by position."""
  order = jnp.argsort(noise, axis=1, stable=True)
  restore = jnp.argsort(order, axis=1)
  return Mask(keep=order[:, :keep], restore=restore, removed=(restore >= keep).astype(jnp.float32))


def make(keys: Array, grid: Grid, ratio: float, kind: str) -> Mask:
  """Returns the mask of a batch: keep (B, K), restore (B, N), removed (B, N) with 1 = removed.

  Args:
    keys: (B,) typed, one a clip.
    grid: (t, h, w).
    ratio: share of removed tokens.
    kind: 'random' (space-time agnostic), 'tube' (the same places in every slot), 'frame' (whole
      slots), 'per_frame' (as many in every slot, drawn anew for each), 'block' (cuboids).

  Raises:
    ValueError: for another kind or a ratio outside [0, 1).
  """
  if kind not in KINDS:
    raise ValueError(f'kind is {kind!r}; a mask must be one of {", ".join(KINDS)}')
  draw, keep = KINDS[kind](grid, ratio)
  return from_noise(jax.vmap(draw)(keys).reshape(len(keys), math.prod(grid)), keep)


def removed_share(grid: Grid, ratio: float, kind: str) -> float:
  """Returns the share of the tokens of a grid that a mask removes. It is not `ratio` itself where a
  kind removes whole slots or places."""
  keep = KINDS[kind](grid, ratio)[1]
  return 1 - keep / math.prod(grid)


def _ranks(noise: Array) -> Int[Array, '...']:
  return jnp.argsort(
    jnp.argsort(noise, axis=-1), axis=-1
  )  # ranks have no ties: whole tubes and slots survive the sort


def _random(grid: Grid, ratio: float) -> tuple[Callable, int]:
  tokens = math.prod(grid)
  return lambda key: jax.random.uniform(key, (tokens,)), kept(tokens, ratio)


def _tube(grid: Grid, ratio: float) -> tuple[Callable, int]:
  # DIFFERS(code): PySlowFast keeps int(N * (1 - ratio)) tokens, 19.5 tubes of 8 at 90 %; we keep
  # whole tubes.
  t, places = grid[0], grid[1] * grid[2]
  draw = lambda key: jnp.broadcast_to(_ranks(jax.random.uniform(key, (places,))), (t, places))
  return draw, t * kept(places, ratio)


def _frame(grid: Grid, ratio: float) -> tuple[Callable, int]:
  t, places = grid[0], grid[1] * grid[2]
  draw = lambda key: jnp.broadcast_to(_ranks(jax.random.uniform(key, (t,)))[:, None], (t, places))
  return draw, places * kept(t, ratio)


def _per_frame(grid: Grid, ratio: float) -> tuple[Callable, int]:
  t, places = grid[0], grid[1] * grid[2]
  return lambda key: _ranks(jax.random.uniform(key, (t, places))), t * kept(places, ratio)


def _block(grid: Grid, ratio: float) -> tuple[Callable, int]:
  keep = kept(math.prod(grid), ratio)
  return partial(_block_noise, grid=grid, budget=math.prod(grid) - keep), keep


def _block_noise(key: Array, grid: Grid, budget: int) -> Float[Array, 't h w']:
  """Returns noise (t, h, w): in [0, 1) for tokens outside the blocks, in [1, 2) for tokens that the
  blocks removed.

  Blocks are drawn until `budget` tokens are removed or BLOCK_TRIES draws in a row do not fit. A
  block must remove at least one token and not exceed the budget (as in PySlowFast).

  DIFFERS(code): the tokens that are then still missing are removed at random (by the sort), so that
  shapes are static.
  """

  def more(state):
    _, removed, tries = state
    return (removed.sum() < budget) & (tries < BLOCK_TRIES)

  def draw(state):
    key, removed, tries = state
    key, now = jax.random.split(key)
    inside, fits = _cuboid(now, grid)
    new = jnp.sum(inside & ~removed)
    accept = fits & (new > 0) & (new <= budget - removed.sum())
    return key, removed | (inside & accept), jnp.where(accept, 0, tries + 1)

  key, last = jax.random.split(key)
  _, removed, _ = jax.lax.while_loop(more, draw, (key, jnp.zeros(grid, bool), jnp.int32(0)))
  return removed + jax.random.uniform(last, grid)


def _cuboid(key: Array, grid: Grid) -> tuple[Array, Array]:
  """Returns a random cuboid (t, h, w) of bools, and whether it is smaller than the frame.

  Its area is from a fifth of the frame up to all of it, its aspect log-uniform in [0.3, 1 / 0.3],
  its depth uniform over 1..t.
  """
  t, h, w = grid
  u = jax.random.uniform(key, (6,))  # one call: six would take seconds to compile
  area = h * w // 5 + u[0] * (h * w - h * w // 5)
  side = jnp.exp((u[1] - 0.5) * -math.log(0.3))  # square root of the aspect
  rows, columns = jnp.round(jnp.sqrt(area) * side), jnp.round(jnp.sqrt(area) / side)
  inside = jnp.ones(grid, bool)
  for axis, (edge, full) in enumerate(zip((1 + jnp.floor(u[2] * t), rows, columns), grid)):
    start = jnp.floor(u[3 + axis] * (jnp.maximum(full - edge, 0) + 1))
    place = jnp.arange(full).reshape([-1 if i == axis else 1 for i in range(3)])
    inside &= (place >= start) & (place < start + edge)
  return inside, (rows < h) & (columns < w)


KINDS = {
  'random': _random,
  'tube': _tube,
  'frame': _frame,
  'per_frame': _per_frame,
  'block': _block,
}
