"""Layers that mix frames in the unified framework: TAM, TSM, non-local blocks; and
squeeze-excitation, pooling through time.

(Chen et al., Deep Analysis of CNN-based Spatio-temporal Representations, CVPR 2021, sec. 3; each
module's own paper below.)
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.kernels.conv import Triple, conv3d
from vjax.kernels.pool import max_pool
from vjax.layers.conv import Conv3D
from vjax.layers.norm import BatchNorm


class TAM(nn.Module):
  """Temporal aggregation (Fan et al., NeurIPS 2019): relu of the blend of `taps` neighboring
  frames, each weighted per channel, zeros beyond the clip. Tap i looks at frame t + i - taps // 2.

  blend: 'sum' or 'max' of the weighted frames. dense: every tap is a full C x C map ("Conv." of the
  paper's table 5).
  start: 'ibm': each tap N(0, 2 / C), as released, which makes nothing of pre-trained features at
  the start; 'identity': the middle tap 1, the others 0.
  """

  taps: int = 3
  blend: str = 'sum'
  dense: bool = False
  start: str = 'ibm'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c']) -> Float[Array, 'b t h w c']:
    """The clip with its frames mixed. Raises ValueError for an even number of taps or an unknown
    blend or start."""
    if (
      self.taps % 2 == 0
      or self.blend not in ('sum', 'max')
      or self.start not in ('ibm', 'identity')
    ):
      raise ValueError(
        f"taps={self.taps}, blend={self.blend!r}, start={self.start!r}: need an odd number, 'sum' "
        "or 'max', 'ibm' or "
        f"'identity'"
      )
    channels, reach = x.shape[-1], self.taps // 2
    shape = (self.taps, 1, 1, channels if self.dense else 1, channels)
    kernel = jnp.asarray(self.param('kernel', self._first, shape, jnp.float32), self.dtype)
    x, groups = x.astype(self.dtype), 1 if self.dense else channels
    if self.blend == 'sum':
      return nn.relu(conv3d(x, kernel, padding=(reach, 0, 0), groups=groups))
    padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0), (0, 0), (0, 0)))
    weighted = [
      conv3d(padded[:, i : i + x.shape[1]], kernel[i : i + 1], groups=groups)
      for i in range(self.taps)
    ]
    return nn.relu(functools.reduce(jnp.maximum, weighted))

  def _first(self, rng, shape, dtype):
    if self.start == 'ibm':
      return jax.random.normal(rng, shape, dtype) * (2 / shape[-1]) ** 0.5
    middle = jnp.eye(shape[-1]) if self.dense else jnp.ones(shape[-2:])
    return jnp.zeros(shape, dtype).at[self.taps // 2, 0, 0].set(middle)


def shift(x: Float[Array, 'b t h w c'], fraction: int = 8) -> Float[Array, 'b t h w c']:
  """TSM (Lin et al., ICCV 2019): the first C / fraction channels come from the next frame, as many
  from the one before, zeros beyond the clip."""
  fold = x.shape[-1] // fraction
  zeros = jnp.zeros_like(x[:, :1])
  later, earlier = jnp.concatenate([x[:, 1:], zeros], 1), jnp.concatenate([zeros, x[:, :-1]], 1)
  return jnp.concatenate(
    [later[..., :fold], earlier[..., fold : 2 * fold], x[..., 2 * fold :]], axis=-1
  )


class NonLocal(nn.Module):
  """Non-local block (Wang et al., CVPR 2018): x + norm(out(sum over positions of weight x g)), the
  identity at the start.

  kind: 'softmax' of the products, or 'dot': the products over their number. scaled: products are
  divided by the root of the inner width first (PySlowFast; with softmax only). pool: keys and
  values from a map max-pooled by `size` of (time, height, width), 'before' their projections
  (PySlowFast), 'after' them (TSM), or '' for none.
  """

  kind: str = 'softmax'
  scaled: bool = True
  pool: str = 'before'
  size: Triple = (1, 2, 2)
  norm: Callable = BatchNorm
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b t h w c']:
    """The clip with what every position gathers from all others added. Raises ValueError for an
    unknown kind or pool, or a map smaller than `size`."""
    if self.kind not in ('softmax', 'dot') or self.pool not in ('before', 'after', ''):
      raise ValueError(
        f"kind={self.kind!r}, pool={self.pool!r}: need 'softmax' or 'dot', 'before', 'after' or ''"
      )
    if self.pool and any(n < k for n, k in zip(x.shape[1:4], self.size)):
      raise ValueError(
        f'a map of {x.shape[1:4]} cannot be pooled by size={self.size}: give longer or larger '
        'clips, or a smaller size'
      )
    channels = x.shape[-1]
    inner = channels // 2
    project = lambda width, name: Conv3D(width, (1, 1, 1), bias=True, dtype=self.dtype, name=name)
    halve = lambda y: max_pool(y, self.size, self.size)
    flat = lambda y: y.reshape(y.shape[0], -1, y.shape[-1])
    source = halve(x) if self.pool == 'before' else x
    after = halve if self.pool == 'after' else lambda y: y
    query = flat(project(inner, 'theta')(x))
    keys, values = (flat(after(project(inner, name)(source))) for name in ('phi', 'g'))
    weights = jnp.einsum('bnd,bmd->bnm', query, keys).astype(
      jnp.promote_types(jnp.float32, query.dtype)
    )
    if self.kind == 'softmax':
      weights = nn.softmax(weights * (inner**-0.5 if self.scaled else 1.0), axis=-1)
    else:
      weights = weights / keys.shape[1]
    gathered = jnp.einsum('bnm,bmd->bnd', weights.astype(values.dtype), values)
    y = project(channels, 'out')(gathered.reshape(*x.shape[:-1], inner))
    return x + self.norm(scale_init=nn.initializers.zeros, name='norm')(y, train=train)


class SqueezeExcite(nn.Module):
  """Channels scaled by what two layers make of their means over the clip (Hu et al., CVPR 2018),
  with biases.

  width: of the layer between.
  """

  width: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c']) -> Float[Array, 'b t h w c']:
    dense = lambda width, name: nn.Dense(
      width, dtype=self.dtype, kernel_init=nn.initializers.he_normal(), name=name
    )
    gate = nn.relu(dense(self.width, 'reduce')(x.mean((1, 2, 3))))
    return x * nn.sigmoid(dense(x.shape[-1], 'expand')(gate))[:, None, None, None]


def pool_frames(x: Float[Array, 'b t h w c'], kind: str = 'max') -> Float[Array, 'b u h w c']:
  """Every second frame of windows of three: their 'max', or 'avg', zeros beyond the clip counted
  (as released)."""
  window, strides, padding = (3, 1, 1), (2, 1, 1), ((1, 1), (0, 0), (0, 0))
  if kind == 'max':
    return max_pool(x, window, strides, padding)
  if kind == 'avg':
    return nn.avg_pool(x, window, strides, padding)
  raise ValueError(f"pooling through time is {kind!r}; need 'max' or 'avg'")
