"""Multi-head self-attention and the pre-norm transformer block of ViT encoder and decoder
(Dosovitskiy 2021)."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.kernels import table
from vjax.layers import conv, relative
from vjax.layers.drop import DropPath
from vjax.layers.norm import LayerNorm
from vjax.layers.position import Grid

EPSILON = 1e-6  # of the LayerNorms of a ViT
MANY_KEYS = 1024  # from which on a CPU works head by head
_CHUNK = 2**20  # logits at a time, then: they stay in its caches
Initializer = Any


@dataclass(frozen=True)
class Init:
  """Initializers of the parameters of a block."""

  kernel: Initializer = nn.initializers.xavier_uniform()
  bias: Initializer = nn.initializers.zeros
  norm_bias: Initializer = nn.initializers.zeros


def gelu(x: jax.Array) -> jax.Array:
  """x Phi(x), exact, by erf: a third of the time of `nn.gelu`'s erfc on a CPU, an eighth off a
  small ViT's step."""
  return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def uniform(bound: float) -> Initializer:
  """Initializer that draws from [-bound, bound); PyTorch's default for linear and convolution is 1
  / sqrt(fan-in)."""
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def _by_rows(x: jax.Array, kernel: jax.Array, dimensions: Any, **options: Any) -> jax.Array:
  """x (..., D) times a kernel (D, E), as one matrix of rows. From (B, N, D) the gradient of the
  kernel first copies what it multiplies, transposed: on a CPU that takes as long as all three
  products of a narrow layer."""
  if table.chosen('linear') == 'plain':
    return jax.lax.dot_general(x, kernel, dimensions, **options)
  rows = jax.lax.dot_general(
    x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())), **options
  )
  return rows.reshape(*x.shape[:-1], kernel.shape[1])


Dense = functools.partial(nn.Dense, dot_general=_by_rows)  # `nn.Dense` of tokens (..., D)


def attend(
  query: Float[Array, 'b n h d'],
  key: Float[Array, 'b m h d'],
  value: Float[Array, 'b m h e'],
  scale: float | None = None,
  bias: Float[Array, 'b h n m'] | None = None,
) -> Float[Array, 'b n h e']:
  """softmax(scale * query key^T + bias) value per head, (B, N, heads, d); the softmax in at least
  float32. scale=None: 1 / sqrt(d).

  The one place that chooses a formulation, by `kernels/table.py`. 'heads': matrix products with
  heads first, which took 0.5 to 0.9 of the time of `jax.nn.dot_product_attention` on a CPU, forward
  and with gradient, for 17 to 1569 tokens; with 1024 keys or more head by head, for half of that
  time again. 'cudnn': the fused kernel, where it takes the operands."""
  scale = query.shape[-1] ** -0.5 if scale is None else scale
  if table.chosen('attention') == 'heads':
    q, k, v = (x.swapaxes(1, 2) for x in (query, key, value))  # (B, heads, N, d)
    if bias is None and k.shape[2] >= MANY_KEYS and not conv.as_written():
      return _by_head(q * jnp.asarray(scale, q.dtype), k, v).swapaxes(1, 2)
    logits = jnp.matmul(q if scale == 1 else q * scale, k.swapaxes(2, 3))
    logits = logits if bias is None else logits + bias
    weights = jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), axis=-1)
    return jnp.matmul(weights.astype(v.dtype), v).swapaxes(1, 2)
  width = -(-query.shape[-1] // 8) * 8  # the kernels want one width for all three, a multiple of 8
  q, k, v = (jnp.pad(x, ((0, 0),) * 3 + ((0, width - x.shape[-1]),)) for x in (query, key, value))
  if _fused(q):
    return fused(q, k, v, scale, bias)[..., : value.shape[-1]]
  return jax.nn.dot_product_attention(q, k, v, bias, scale=scale)[..., : value.shape[-1]]


def fused(
  query: Float[Array, 'b n h d'],
  key: Float[Array, 'b m h d'],
  value: Float[Array, 'b m h d'],
  scale: float,
  bias: Float[Array, 'b h n m'] | None = None,
  implementation: str = 'cudnn',
) -> Float[Array, 'b n h d']:
  """softmax(scale * query key^T + bias) value by cuDNN's kernel.

  In training the kernel takes even numbers of tokens only. An odd number, as a class token makes,
  gets one token more, which the kernel is told to leave out.
  """
  n, m = query.shape[1], key.shape[1]
  lengths = {}
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


def attend_relative(
  query: Float[Array, 'b n h d'],
  key: Float[Array, 'b m h d'],
  value: Float[Array, 'b m h d'],
  tables: Sequence[Float[Array, '_ d'] | None],
  grids: tuple[Grid, Grid],
) -> Float[Array, 'b n h d']:
  """Attention with decomposed relative positions, see `relative`; grids: of queries and of keys.
  Their scores are of queries that are not divided by sqrt(d)."""
  scale, found = query.shape[-1] ** -0.5, relative.scores(query, tables, grids)
  if conv.as_written():
    return attend(
      query, key, value, scale, relative.added(found, query.shape[1] - found[0].shape[1])
    )
  return attend(*relative.extended(query * scale, key, found, grids[1]), value, 1.0)


@jax.custom_vjp
def _by_head(q, k, v):
  """softmax(q k^T) v of (B, heads, N, d), one head and some of its queries after another; the
  gradient computes the weights again. No array of all heads' logits is ever there."""
  return _by_head_forward(q, k, v)[0]


def _chunks(x, keys: int):
  """(N, ...) -> (chunks, rows, ...), zeros at the end."""
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


def norm(
  name: str, dtype: Any, bias_init: Initializer = nn.initializers.zeros, eps: float = EPSILON
) -> LayerNorm:
  """LayerNorm of ViTs: eps 1e-6 unless given, computed and returned in at least float32."""
  return LayerNorm(eps, jnp.promote_types(dtype, jnp.float32), bias_init, name=name)


class Attention(nn.Module):
  """Self-attention with separate q, k, v and an output projection, with bias: (B, N, D) -> (B, N,
  D).

  relative: token grid of tables of relative positions, which start at 0 (so that a pre-trained
  network stays what it is);
  None: no such tables. qkv_bias: whether q, k and v have one."""

  heads: int
  initial: Init = Init()
  dtype: Any = jnp.float32
  relative: Grid | None = None
  qkv_bias: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, 'b n d']) -> Float[Array, 'b n d']:
    width = x.shape[-1]
    if width % self.heads:
      raise ValueError(
        f'heads is {self.heads}, which does not divide the width {width}: choose heads that do'
      )
    dense = lambda name: Dense(
      width, use_bias=self.qkv_bias or name == 'proj', dtype=self.dtype,
      kernel_init=self.initial.kernel,
      bias_init=self.initial.bias, name=name,
    )  # fmt: skip
    split = lambda y: y.reshape(*y.shape[:2], self.heads, width // self.heads)
    q, k, v = (split(dense(name)(x)) for name in 'qkv')
    if self.relative is None:
      return dense('proj')(attend(q, k, v).reshape(x.shape))
    grids = (self.relative, self.relative)
    tables = relative.tables(
      self, relative.rows(*grids), width // self.heads, nn.initializers.zeros
    )
    return dense('proj')(attend_relative(q, k, v, tables, grids).reshape(x.shape))


class Mlp(nn.Module):
  """Two linear layers around an exact (erf) GELU: (B, N, D) -> (B, N, features or D), inner width
  `ratio` * D."""

  ratio: float
  initial: Init = Init()
  dtype: Any = jnp.float32
  features: int | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'b n d']) -> Float[Array, 'b n e']:
    dense = lambda width, name: Dense(
      width,
      dtype=self.dtype,
      kernel_init=self.initial.kernel,
      bias_init=self.initial.bias,
      name=name,
    )
    return dense(self.features or x.shape[-1], 'fc2')(
      gelu(dense(int(x.shape[-1] * self.ratio), 'fc1')(x))
    )


class Block(nn.Module):
  """x + DropPath(attention(norm(x))), then x + DropPath(mlp(norm(x))): (B, N, D) -> (B, N, D).

  `train` is positional so that `nn.remat` can take it as static.
  """

  heads: int
  mlp_ratio: float = 4.0
  drop_path: float = 0.0
  initial: Init = Init()
  dtype: Any = jnp.float32
  relative: Grid | None = None
  qkv_bias: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, 'b n d'], train: bool) -> Float[Array, 'b n d']:
    drop = DropPath(self.drop_path, name='drop')
    y = norm('norm1', self.dtype, self.initial.norm_bias)(x)
    attend = Attention(
      self.heads, self.initial, self.dtype, self.relative, self.qkv_bias, name='attn'
    )
    x = x + drop(attend(y), train)
    y = norm('norm2', self.dtype, self.initial.norm_bias)(x)
    return x + drop(Mlp(self.mlp_ratio, self.initial, self.dtype, name='mlp')(y), train)


def blocks(
  x: Float[Array, 'b n d'],
  heads: int,
  rates: list[float],
  train: bool,
  *,
  mlp_ratio: float,
  init: Init,
  dtype: Any,
  remat: bool,
  relative: Grid | None = None,
  qkv_bias: bool = True,
) -> Float[Array, 'b n d']:
  """x (B, N, D) through 'block0', 'block1', ... of the enclosing compact module, one per drop rate
  in `rates`.

  relative: grid of their tables of relative positions. qkv_bias: whether queries, keys and values
  have one. remat: activations inside a block are computed again in the backward pass, not stored.
  """
  module = nn.remat(Block, static_argnums=(2,)) if remat else Block
  for i, rate in enumerate(rates):
    x = module(heads, mlp_ratio, rate, init, dtype, relative, qkv_bias, name=f'block{i}')(x, train)
  return x
