"""Layers that mix frames in the unified framework: TAM, TSM and non-local blocks; also
squeeze-and-excitation and pooling through time.

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
  """Temporal aggregation module (Fan et al., NeurIPS 2019): ReLU of the blend of `taps` neighboring
  frames, each weighted per channel, zeros beyond the clip.

  Attributes:
    taps: odd number; tap i is for frame t + i - taps // 2.
    blend: 'sum' or 'max' of the weighted frames.
    dense: every tap is a full C x C map ("Conv." of the paper's table 5).
    start: initialization. 'ibm': each tap N(0, 2 / C), as released, which loses pre-trained
      features at the start; 'identity': the middle tap 1, the others 0.
  """

  taps: int = 3
  blend: str = 'sum'
  dense: bool = False
  start: str = 'ibm'
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c']) -> Float[Array, 'b t h w c']:
    """Returns the clip with its frames mixed. Raises ValueError for an even number of taps or an
    unknown blend or start."""
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
  """Temporal shift, TSM (Lin et al., ICCV 2019): the first C / fraction channels come from the next
  frame, as many from the frame before, zeros beyond the clip."""
  fold = x.shape[-1] // fraction
  zeros = jnp.zeros_like(x[:, :1])
  later, earlier = jnp.concatenate([x[:, 1:], zeros], 1), jnp.concatenate([zeros, x[:, :-1]], 1)
  return jnp.concatenate(
    [later[..., :fold], earlier[..., fold : 2 * fold], x[..., 2 * fold :]], axis=-1
  )


class NonLocal(nn.Module):
  """Non-local block (Wang et al., CVPR 2018): x + norm(out(sum over positions of weight x g)), the
  identity at the start.

  Attributes:
    kind: weights: 'softmax' of the products, or 'dot', the products divided by their number.
    scaled: products are first divided by the square root of the inner width (PySlowFast; with
      softmax only).
    pool: max-pools keys and values by `size`, 'before' their projections (PySlowFast), 'after' them
      (TSM), or '' for no pool.
    size: of the pool in (time, height, width).
  """

  kind: str = 'softmax'
  scaled: bool = True
  pool: str = 'before'
  size: Triple = (1, 2, 2)
  norm: Callable = BatchNorm
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b t h w c']:
    """Returns the clip, plus at each position the weighted sum over all positions.

    Raises ValueError for an unknown kind or pool, or a map smaller than `size`.
    """
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
  """Squeeze-and-excitation: sigmoid channel gates from features averaged over the clip, by two
  layers with biases (Hu et al., CVPR 2018).

  Attributes:
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
  """Pools windows of three frames at stride 2: 'max', or 'avg', which counts the zeros beyond the
  clip (as released)."""
  window, strides, padding = (3, 1, 1), (2, 1, 1), ((1, 1), (0, 0), (0, 0))
  if kind == 'max':
    return max_pool(x, window, strides, padding)
  if kind == 'avg':
    return nn.avg_pool(x, window, strides, padding)
  raise ValueError(f"pooling through time is {kind!r}; need 'max' or 'avg'")
