"""Decomposed relative positions: scores of the distances in time, height and width, added to the
logits of attention.

Li et al. 2022 (MViTv2), sec. 4.1; also Feichtenhofer et al. 2022 for detection. A table holds 2 *
max(Q, K) - 1 vectors of the width of a head, one per distance along an axis between Q queries and K
keys; all heads share it.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vjax.layers import position
from vjax.layers.position import Grid

AXES = ('t', 'h', 'w')


def tables(
  module: nn.Module, rows: Sequence[int], width: int, init: Callable, axes: str = 'thw'
) -> list[Float[Array, '_ d'] | None]:
  """Returns the parameters 'relative_t', 'relative_h' and 'relative_w' of `module`, (rows, width)
  each; None for an axis that is not in `axes`."""
  return [
    module.param(f'relative_{axis}', init, (n, width)) if axis in axes else None
    for axis, n in zip(AXES, rows)
  ]


def rows(queries: Grid, keys: Grid) -> tuple[int, ...]:
  """Returns the numbers of rows of the three tables, for a grid of queries and one of keys."""
  return tuple(2 * max(q, k) - 1 for q, k in zip(queries, keys))


def index(queries: int, keys: int) -> np.ndarray:
  """Returns the row of the table for every pair (Q, K).

  The arithmetic is in float32, in this order, and truncated, as in PySlowFast. Where one length is
  no multiple of the other, exact arithmetic gives other rows (103 of 780 for 78 queries and 10
  keys).
  """
  ratio_q, ratio_k = (np.float32(max(n, 1)) for n in (keys / queries, queries / keys))
  distance = (
    np.arange(queries, dtype=np.float32)[:, None] * ratio_q
    - np.arange(keys, dtype=np.float32) * ratio_k
  )
  return (distance + np.float32((keys - 1) * max(queries / keys, 1))).astype(np.int64)


def lookup(table: Float[Array, 'l d'], queries: int, keys: int) -> Float[Array, 'q k d']:
  """Returns the table's vector for every pair. A table of another length is interpolated (linear,
  half-pixel centers)."""
  length = 2 * max(queries, keys) - 1
  if len(table) != length:
    table = jnp.asarray(position.linear(len(table), length), table.dtype) @ table
  return table[index(queries, keys)]


def scores(
  query: Float[Array, 'b n h d'],
  tables: Sequence[Float[Array, '_ d'] | None],
  grids: tuple[Grid, Grid],
) -> list[Float[Array, 'b m h _']]:
  """Returns query . table, for the queries of a grid, with every slot, every row and every column
  of the keys' grid; 0 for an axis without a table.

  grids: of queries and of keys. Queries before those of the grid (a class token) are left out.
  """
  (b, n, heads, _), (to, of) = query.shape, grids
  body = query[:, n - math.prod(to) :].reshape(b, *to, heads, -1)
  found = [
    jnp.zeros((*body.shape[:5], k), query.dtype)
    if table is None
    else jnp.einsum(f'bthwnd,{axis}kd->bthwnk', body, lookup(table.astype(query.dtype), q, k))
    for axis, table, q, k in zip(AXES, tables, to, of)
  ]
  return [x.reshape(b, -1, heads, x.shape[-1]) for x in found]


def added(found: Sequence[Float[Array, 'b m h _']], rest: int) -> Float[Array, 'b h p q']:
  """Returns the bias that `scores` add to the logits (B, heads, rest + M, rest + T * H * W): a sum
  over the axes, 0 for the first `rest` tokens."""
  t, h, w = (jnp.swapaxes(x, 1, 2) for x in found)  # (B, heads, M, size of the axis)
  total = t[..., :, None, None] + h[..., None, :, None] + w[..., None, None, :]
  return jnp.pad(total.reshape(*t.shape[:3], -1), ((0, 0), (0, 0), (rest, 0), (rest, 0)))


def extended(
  query: Float[Array, 'b n h d'],
  key: Float[Array, 'b m h d'],
  found: Sequence[Float[Array, 'b p h _']],
  of: Grid,
) -> tuple[Float[Array, 'b n h e'], Float[Array, 'b m h e']]:
  """Returns queries and keys with more channels, so that their products are query . key plus the
  `scores` found.

  Each slot, row and column of the keys' grid `of` adds one channel. Attention stays one matrix
  product, or one fused kernel, without an (N, M) array of added scores.
  """
  (b, n, heads, _), places = query.shape, sum(of)
  query = jnp.concatenate([query, _after(jnp.concatenate(found, axis=-1), n)], axis=-1)
  ones = np.concatenate(
    [np.eye(size)[np.indices(of)[axis].reshape(-1)] for axis, size in enumerate(of)], axis=-1
  )
  ones = _after(
    jnp.asarray(ones, key.dtype)[None, :, None], key.shape[1]
  )  # (1, M, 1, T + H + W), three ones a key
  return query, jnp.concatenate(
    [key, jnp.broadcast_to(ones, (b, key.shape[1], heads, places))], axis=-1
  )


def _after(x: jax.Array, length: int) -> jax.Array:
  """Returns x (B, N, ...) with zeros in front, `length` tokens in all."""
  return jnp.pad(x, ((0, 0), (length - x.shape[1], 0), (0, 0), (0, 0)))
