"""Max pooling of clips, with a gradient that CPUs compute fast."""

import functools
import itertools
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vjax.kernels import table

Triple = tuple[int, int, int]
Sides = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
NONE = ((0, 0), (0, 0), (0, 0))


def max_pool(
  x: Float[Array, 'b t h w c'], window: Triple, strides: Triple = (1, 1, 1), padding: Sides = NONE
) -> Float[Array, 'b u v z c']:
  """Returns the largest value of every window of (time, height, width), -inf beyond the edges.
  padding: (before, after) of each axis.

  The gradient goes to the first of equal values, as in PyTorch.
  """
  if table.chosen('max_pool') == 'derived':
    return nn.max_pool(x, window, strides, padding)
  return written_max_pool(x, window, strides, padding)


def written_max_pool(x: jax.Array, window: Triple, strides: Triple, padding: Sides) -> jax.Array:
  """Max pooling as `max_pool`, by shifted clips and a written gradient."""
  return _pool(x, tuple(window), tuple(strides), tuple(map(tuple, padding)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _pool(x, window, strides, padding):
  """Returns the maximum over shifted clips, one for every place in the window; XLA fuses these.

  The gradient that XLA derives stores a position for each value and takes four to twenty times as
  long (benchmarks/gradients.py).
  """
  return functools.reduce(jnp.maximum, _shifted(x, window, strides, padding))


def _shifted(x, window, strides, padding) -> Iterator[jax.Array]:
  """Yields, for every place in the window, first to last, the values that all windows have at this
  place."""
  x = lax.pad(
    x, jnp.array(-jnp.inf, x.dtype), [(0, 0, 0), *((a, b, 0) for a, b in padding), (0, 0, 0)]
  )
  for place in itertools.product(*map(range, window)):
    y = x
    for axis, (i, n, size, s) in enumerate(zip(place, x.shape[1:4], window, strides), start=1):
      y = lax.slice_in_dim(y, i, i + n - size + 1, s, axis)
    yield y


def _forward(x, window, strides, padding):
  y = _pool(x, window, strides, padding)
  return y, (x, y)


def _backward(window, strides, padding, saved, dy):
  """Returns dx. Positions are grouped by their residue modulo the strides: each group is one clip,
  the sum over the places in the window that fall on the group; then the groups are interleaved."""
  x, y = saved
  first = jnp.zeros(y.shape, jnp.int16)
  for number, value in reversed(list(enumerate(_shifted(x, window, strides, padding)))):
    first = jnp.where(value == y, number, first)
  steps = [-(-n // s) for n, s in zip(x.shape[1:4], strides)]
  parts = dict.fromkeys(
    itertools.product(*map(range, strides)), jnp.zeros((len(x), *steps, x.shape[-1]), dy.dtype)
  )
  for number, place in enumerate(itertools.product(*map(range, window))):
    at = [divmod(i - before, s) for i, (before, _), s in zip(place, padding, strides)]
    reach = [(q, n - m - q, 0) for (q, _), n, m in zip(at, steps, y.shape[1:4])]
    part = jnp.where(first == number, dy, 0)
    residue = tuple(r for _, r in at)
    parts[residue] += lax.pad(part, jnp.zeros((), dy.dtype), [(0, 0, 0), *reach, (0, 0, 0)])
  rows = list(parts.values())
  for axis, s in ((3, strides[2]), (2, strides[1]), (1, strides[0])):
    rows = [jnp.stack(rows[i : i + s], axis + 1) for i in range(0, len(rows), s)]
    rows = [r.reshape(*r.shape[:axis], -1, *r.shape[axis + 2 :]) for r in rows]
  return (rows[0][:, : x.shape[1], : x.shape[2], : x.shape[3]],)


_pool.defvjp(_forward, _backward)
