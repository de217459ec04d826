"""Attention of queries, keys and values, and the product of tokens with a matrix, as
`kernels/table.py` says for the backend."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.kernels import conv, table

MANY_KEYS = 1024  # from this number on, a CPU computes head by head
_CHUNK = 2**20  # logits at a time when head by head: these stay in the CPU's caches


def by_rows(x: jax.Array, kernel: jax.Array, dimensions: Any, **options: Any) -> jax.Array:
  """x (..., D) times a kernel (D, E), as one matrix of rows. From (B, N, D) the gradient of the
  kernel first copies what it multiplies, transposed: on a CPU that takes as long as all three
  products of a narrow layer."""
  if table.chosen('linear') == 'plain':
    return jax.lax.dot_general(x, kernel, dimensions, **options)
  rows = jax.lax.dot_general(
    x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())), **options
  )
  return rows.reshape(*x.shape[:-1], kernel.shape[1])


def attend(
  query: Float[Array, 'b n h d'],
  key: Float[Array, 'b m h d'],
  value: Float[Array, 'b m h e'],
  scale: float | None = None,
  bias: Float[Array, 'b h n m'] | None = None,
) -> Float[Array, 'b n h e']:
  """Returns softmax(scale * query key^T + bias) value per head, (B, N, heads, d); the softmax is in
  at least float32. scale=None: 1 / sqrt(d).

  The formulation is chosen here alone, by `kernels/table.py`. 'heads': matrix products with heads
  first, which took 0.5 to 0.9 of the time of `jax.nn.dot_product_attention` on a CPU, forward and
  with gradient, for 17 to 1569 tokens. With 1024 keys or more, these are computed head by head, for
  half of that time again. 'cudnn': the fused kernel, where it supports the operands.
  """
  factor = query.shape[-1] ** -0.5 if scale is None else scale
  if table.chosen('attention') == 'heads':
    q, k, v = (x.swapaxes(1, 2) for x in (query, key, value))  # (B, heads, N, d)
    if bias is None and k.shape[2] >= MANY_KEYS and not conv.as_written():
      return _by_head(q * jnp.asarray(factor, q.dtype), k, v).swapaxes(1, 2)
    logits = jnp.matmul(q if factor == 1 else q * factor, k.swapaxes(2, 3))
    logits = logits if bias is None else logits + bias
    weights = jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), axis=-1)
    return jnp.matmul(weights.astype(v.dtype), v).swapaxes(1, 2)
  width = -(-query.shape[-1] // 8) * 8  # the kernels need one width for all three, a multiple of 8
  q, k, v = (jnp.pad(x, ((0, 0),) * 3 + ((0, width - x.shape[-1]),)) for x in (query, key, value))
  if _fused(q):
    return fused(q, k, v, factor, bias)[..., : value.shape[-1]]
  return jax.nn.dot_product_attention(q, k, v, bias, scale=factor)[..., : value.shape[-1]]


def fused(
  query: Float[Array, 'b n h d'],
  key: Float[Array, 'b m h d'],
  value: Float[Array, 'b m h d'],
  scale: float,
  bias: Float[Array, 'b h n m'] | None = None,
  implementation: Literal['cudnn', 'xla'] = 'cudnn',
) -> Float[Array, 'b n h d']:
  """Returns softmax(scale * query key^T + bias) value, computed by cuDNN's kernel.

  In training the kernel takes even numbers of tokens only. An odd number, as with a class token, is
  padded by one token, which the given lengths exclude.
  """
  n, m = query.shape[1], key.shape[1]
  lengths: dict[str, Any] = {}
  if n % 2 or m % 2:
    even = lambda x: jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0)))
    query, key, value = even(query), even(key), even(value)
    count = lambda tokens: jnp.full(query.shape[:1], tokens, jnp.int32)
    lengths = dict(query_seq_lengths=count(n), key_value_seq_lengths=count(m))
    bias = None if bias is None else jnp.pad(bias, ((0, 0), (0, 0), (0, n % 2), (0, m % 2)))
  y = jax.nn.dot_product_attention(
    query, key, value, bias, scale=scale, implementation=implementation, **lengths
  )
  return y[:, :n]


@jax.custom_vjp
def _by_head(q, k, v):
  """Returns softmax(q k^T) v of (B, heads, N, d), for one head and one chunk of queries at a time.

  The gradient computes the weights again. No array holds the logits of all heads.
  """
  return _by_head_forward(q, k, v)[0]


def _chunks(x, keys: int):
  """Returns x (N, ...) as (chunks, rows, ...), with zeros at the end."""
  count = max(1, -(-x.shape[0] * keys // _CHUNK))
  rows = -(-x.shape[0] // count)
  x = jnp.pad(x, ((0, count * rows - x.shape[0]), *((0, 0),) * (x.ndim - 1)))
  return x.reshape(count, rows, *x.shape[1:])


def _heads(x):
  return x.reshape(-1, *x.shape[2:])


def _by_head_forward(q, k, v):
  wide = jnp.promote_types(q.dtype, jnp.float32)

  def head(one):
    q, k, v = one

    def rows(q):
      logits = (q @ k.T).astype(wide)
      most = logits.max(-1, keepdims=True)
      weights = jnp.exp(logits - most)
      total = weights.sum(-1, keepdims=True)
      return ((weights.astype(v.dtype) @ v) / total).astype(v.dtype), (most + jnp.log(total))[:, 0]

    y, norms = jax.lax.map(rows, _chunks(q, len(k)))
    return y.reshape(-1, y.shape[-1])[: len(q)], norms.reshape(-1)[: len(q)]

  y, norms = jax.lax.map(head, (_heads(q), _heads(k), _heads(v)))
  return y.reshape(*q.shape[:3], -1), (q, k, v, y, norms)


def _by_head_backward(saved, dy):
  q, k, v, y, norms = saved
  wide = norms.dtype

  def head(one):
    q, k, v, y, norms, dy = one
    share = (y.astype(wide) * dy).sum(-1)

    def rows(sums, one):
      q, dy, norms, share = one
      weights = jnp.exp((q @ k.T).astype(wide) - norms[:, None])
      slopes = (weights * ((dy @ v.T).astype(wide) - share[:, None])).astype(q.dtype)
      to_k, to_v = sums
      return (
        to_k + (slopes.T @ q).astype(wide),
        to_v + (weights.astype(dy.dtype).T @ dy).astype(wide),
      ), slopes @ k

    start = (jnp.zeros(k.shape, wide), jnp.zeros(v.shape, wide))
    (to_k, to_v), to_q = jax.lax.scan(
      rows, start, tuple(_chunks(x, len(k)) for x in (q, dy, norms, share))
    )
    return to_q.reshape(-1, q.shape[-1])[: len(q)], to_k.astype(k.dtype), to_v.astype(v.dtype)

  found = jax.lax.map(head, (_heads(q), _heads(k), _heads(v), y, norms, _heads(dy)))
  return tuple(x.reshape(like.shape) for x, like in zip(found, (q, k, v)))


_by_head.defvjp(_by_head_forward, _by_head_backward)


def _fused(query: Array) -> bool:
  """Returns whether cuDNN's attention takes the operands: CUDA, Ampere generation or later, half
  precision, d <= table.CUDNN_WIDTH."""
  if table.chosen('attention') != 'cudnn' or query.dtype not in (jnp.bfloat16, jnp.float16):
    return False
  device = jax.devices()[0]
  cuda = 'cuda' in device.client.platform_version.lower() and float(device.compute_capability) >= 8
  return cuda and query.shape[-1] % 8 == 0 and query.shape[-1] <= table.CUDNN_WIDTH
