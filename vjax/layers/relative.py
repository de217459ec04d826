"""Decomposed relative positions: scores of the distances in time, height and width, added to those of attention.

Li et al. 2022 (MViTv2), sec. 4.1; also Feichtenhofer et al. 2022 for detection. A table holds 2 * max(Q, K) - 1 vectors
of the width of a head, one per distance along an axis between Q queries and K keys; all heads share it.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vjax.layers import position
from vjax.layers.position import Grid

AXES = ('t', 'h', 'w')


def tables(module: nn.Module, rows: Sequence[int], width: int, init: Callable) -> list[Float[Array, 'l d']]:
  """Parameters 'relative_t', 'relative_h' and 'relative_w' of `module`, (rows, width) each."""
  return [module.param(f'relative_{axis}', init, (n, width)) for axis, n in zip(AXES, rows)]


def rows(queries: Grid, keys: Grid) -> tuple[int, ...]:
  """Rows of the three tables for a grid of queries and one of keys."""
  return tuple(2 * max(q, k) - 1 for q, k in zip(queries, keys))


def index(queries: int, keys: int) -> np.ndarray:
  """Row of the table for every pair (Q, K). In float32 and in this order, truncated, as PySlowFast: where one length is no
  multiple of the other, exact arithmetic finds other rows (103 of 780 for 78 queries and 10 keys)."""
  ratio_q, ratio_k = (np.float32(max(n, 1)) for n in (keys / queries, queries / keys))
  distance = np.arange(queries, dtype=np.float32)[:, None] * ratio_q - np.arange(keys, dtype=np.float32) * ratio_k
  return (distance + np.float32((keys - 1) * max(queries / keys, 1))).astype(np.int64)


def lookup(table: Float[Array, 'l d'], queries: int, keys: int) -> Float[Array, 'q k d']:
  """The table's vector for every pair; a table of another length is interpolated (linear, half-pixel centres)."""
  length = 2 * max(queries, keys) - 1
  if len(table) != length:
    table = jnp.asarray(position.linear(len(table), length), table.dtype) @ table
  return table[index(queries, keys)]


def extended(
  query: Float[Array, 'b n h d'],
  key: Float[Array, 'b m h d'],
  tables: Sequence[Float[Array, '_ d']],
  grids: tuple[Grid, Grid],
  scale: float,
) -> tuple[Float[Array, 'b n h e'], Float[Array, 'b m h e']]:
  """Queries and keys, longer by a place for every slot, row and column of the keys' grid, so that their products are
  scale * query . key plus query . table of the distance in time, in height and in width. So attention stays one matrix product,
  or one fused kernel, without a (N, M) array of added scores.

  grids: of queries and of keys. Tokens before those of the grids (a class token) get no such scores.
  """
  (b, n, heads, _), (to, of), dtype = query.shape, grids, query.dtype
  body = query[:, n - to[0] * to[1] * to[2] :].reshape(b, *to, heads, -1)
  scores = [
    jnp.einsum(f'bthwnd,{axis}kd->bthwnk', body, lookup(table.astype(dtype), q, k))
    for axis, table, q, k in zip(AXES, tables, to, of)
  ]
  scores = jnp.concatenate(scores, axis=-1).reshape(b, -1, heads, sum(of))
  query = jnp.concatenate([query * scale, _after(scores, n)], axis=-1)
  places = np.concatenate([_places(of, axis) for axis in range(3)], axis=-1)  # (M', T + H + W), three ones a row
  places = _after(jnp.asarray(places, dtype)[None, :, None], key.shape[1])
  places = jnp.broadcast_to(places, (b, key.shape[1], heads, sum(of)))
  return query, jnp.concatenate([key, places], axis=-1)


def _places(grid: Grid, axis: int) -> np.ndarray:
  """(T * H * W, size of the axis): 1 where a token is."""
  where = np.indices(grid)[axis].reshape(-1)
  return np.eye(grid[axis])[where]


def _after(x: jax.Array, length: int) -> jax.Array:
  """x (B, N, ...) with zeros in front, `length` in all."""
  return jnp.pad(x, ((0, 0), (length - x.shape[1], 0), (0, 0), (0, 0)))
