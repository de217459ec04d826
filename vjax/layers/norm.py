"""Normalization with gradients that CPUs compute fast: BatchNorm whose statistics do not depend on
how many devices there are, and LayerNorm."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.kernels import table


class BatchNorm(nn.Module):
  """Normalizes over clips, time and space, channels last; statistics and arithmetic in float32.

  group_size: clips that share one statistic in training (0 = all of the batch); the papers'
  multi-GPU runs never
  synchronised, so their group is the clips of one GPU. Consecutive clips form a group. bn_decay:
  weight of the *old* running average (Caffe2's momentum 0.9, PyTorch's 0.1), which moves once a
  step by the mean over groups. Parameters scale, bias (C,); batch_stats mean, var (C,).

  DIFFERS(code): the running variance averages the biased batch variance, where PyTorch stores the
  unbiased one; with M values per group they differ by 1 / M, below 1e-4 for all but toy inputs, and
  'biased' is what normalizes.
  """

  group_size: int = 0
  bn_decay: float = 0.9
  eps: float = 1e-5
  dtype: Any = jnp.float32
  scale_init: Callable = nn.initializers.ones

  @nn.compact
  def __call__(self, x: Float[Array, 'b *axes c'], *, train: bool) -> Float[Array, 'b *axes c']:
    """x normalized, same shape. Raises ValueError in training if the batch is no multiple of
    group_size."""
    channels = x.shape[-1]
    wide = jnp.promote_types(jnp.float32, x.dtype)  # float64 stays
    scale = self.param('scale', self.scale_init, (channels,), jnp.float32)
    bias = self.param('bias', nn.initializers.zeros, (channels,), jnp.float32)
    mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,), jnp.float32)
    var = self.variable('batch_stats', 'var', jnp.ones, (channels,), jnp.float32)
    if not train:
      gain = scale * jax.lax.rsqrt(var.value + self.eps)
      return (x.astype(wide) * gain + (bias - mean.value * gain)).astype(self.dtype)
    groups = self._groups(x.shape[0])
    grouped = x.astype(wide).reshape(groups, -1, channels)
    normalize = NORMALIZE[table.chosen('batch_norm')]
    y, batch_mean, batch_var = normalize(grouped, scale.astype(wide), bias.astype(wide), self.eps)
    if not self.is_initializing():
      mean.value = self.bn_decay * mean.value + (1 - self.bn_decay) * batch_mean.mean((0, 1))
      var.value = self.bn_decay * var.value + (1 - self.bn_decay) * batch_var.mean((0, 1))
    return y.reshape(x.shape).astype(self.dtype)

  def _groups(self, batch: int) -> int:
    size = self.group_size or batch
    if batch % size:
      raise ValueError(
        f'group_size={size} does not divide the batch of {batch} clips: choose a batch that is a '
        'multiple of the clips per statistic, or set group_size=0 for statistics over the whole '
        'batch'
      )
    return batch // size


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalized(x, scale, bias, eps: float):
  """(x (G, N, C) normalized over N, times scale (C,), plus bias; means and biased variances (G, 1,
  C), which pass no gradient on). The gradient is written down: XLA's of the same lines takes CPUs
  many times as long."""
  mean = _mean(x)
  var = _mean(jnp.square(x - mean))
  return (x - mean) * (jax.lax.rsqrt(var + eps) * scale) + bias, mean, var


def _mean(x):
  """Over N; with one group over both axes, since XLA sums products over a middle axis far slower on
  CPUs."""
  return x.mean((0, 1) if x.shape[0] == 1 else 1, keepdims=True)


def _forward(x, scale, bias, eps):
  y, mean, var = normalized(x, scale, bias, eps)
  return (y, mean, var), (x, scale, mean, jax.lax.rsqrt(var + eps))


def _backward(eps, saved, gradients):
  (x, scale, mean, rate), dy = saved, gradients[0]
  unit = (x - mean) * rate
  to_bias, to_scale = _mean(dy), _mean(dy * unit)
  to_x = rate * scale * (dy - to_bias - unit * to_scale)
  return to_x, to_scale.sum((0, 1)) * x.shape[1], to_bias.sum((0, 1)) * x.shape[1]


normalized.defvjp(_forward, _backward)
NORMALIZE = {'written': normalized, 'derived': normalized.__wrapped__}  # by whose gradient


class LayerNorm(nn.Module):
  """Normalizes over channels, (..., C): parameters scale and bias (C,); variance in two passes, as
  PyTorch. Arithmetic and result in `dtype`."""

  eps: float
  dtype: Any = jnp.float32
  bias_init: Callable = nn.initializers.zeros

  @nn.compact
  def __call__(self, x: Float[Array, '*axes c']) -> Float[Array, '*axes c']:
    scale = self.param('scale', nn.initializers.ones, x.shape[-1:], jnp.float32)
    bias = self.param('bias', self.bias_init, x.shape[-1:], jnp.float32)
    normalize = NORMALIZE_LAYER[table.chosen('layer_norm')]
    return normalize(
      x.astype(self.dtype), scale.astype(self.dtype), bias.astype(self.dtype), self.eps
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _layer(x, scale, bias, eps: float):
  """LayerNorm; its gradient is written down: XLA's takes CPUs four times as long."""
  return _layer_forward(x, scale, bias, eps)[0]


def _layer_forward(x, scale, bias, eps):
  mean = x.mean(-1, keepdims=True)
  rate = jax.lax.rsqrt(jnp.square(x - mean).mean(-1, keepdims=True) + eps)
  return (x - mean) * rate * scale + bias, (x, scale, mean, rate)


def _layer_backward(eps, saved, dy):
  x, scale, mean, rate = saved
  unit, to_unit = (x - mean) * rate, dy * scale
  inner = (
    to_unit - to_unit.mean(-1, keepdims=True) - unit * (to_unit * unit).mean(-1, keepdims=True)
  )
  flat = dy.reshape(-1, dy.shape[-1])
  return rate * inner, (flat * unit.reshape(flat.shape)).sum(0), flat.sum(0)


_layer.defvjp(_layer_forward, _layer_backward)
NORMALIZE_LAYER = {'written': _layer, 'derived': _layer.__wrapped__}
