"""BatchNorm, whose statistics do not depend on the number of devices, and LayerNorm;
`kernels/norm.py` computes both."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.kernels import table
from vjax.kernels.norm import BATCH_NORM, LAYER_NORM

_OF_THE_BATCH = contextvars.ContextVar('statistics of the batch alone', default=False)


@contextlib.contextmanager
def statistics_of_the_batch() -> Iterator[None]:
  """BatchNorm stores the statistics of the batch alone, in functions that are traced inside: for
  averages over batches with the same parameters."""
  token = _OF_THE_BATCH.set(True)
  try:
    yield
  finally:
    _OF_THE_BATCH.reset(token)


class BatchNorm(nn.Module):
  """Normalizes over clips, time and space, channels last; statistics and arithmetic in float32.

  Parameters are scale, bias (C,); batch_stats are mean, var (C,).

  Attributes:
    group_size: consecutive clips that share one statistic in training (0 = all of the batch). The
      papers' multi-GPU runs never synchronized, so their group is the clips of one GPU.
    bn_decay: weight of the *old* running average (Caffe2's momentum 0.9, PyTorch's 0.1). The
      average moves once a step, by the mean over groups.
    eps: added to the variance.
    scale_init: initializer of the scale.

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
    """Returns x normalized, same shape. Raises ValueError in training if the batch is no multiple
    of group_size."""
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
    normalize = BATCH_NORM[table.chosen('batch_norm')]
    y, batch_mean, batch_var = normalize(
      grouped, jnp.asarray(scale, wide), jnp.asarray(bias, wide), self.eps
    )
    if not self.is_initializing():
      decay = 0.0 if _OF_THE_BATCH.get() else self.bn_decay
      mean.value = decay * mean.value + (1 - decay) * batch_mean.mean((0, 1))
      var.value = decay * var.value + (1 - decay) * batch_var.mean((0, 1))
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


class LayerNorm(nn.Module):
  """Normalizes over channels, (..., C): parameters scale and bias (C,). The variance takes two
  passes, as in PyTorch. Arithmetic and result are in `dtype`."""

  eps: float
  dtype: Any = jnp.float32
  bias_init: Callable = nn.initializers.zeros

  @nn.compact
  def __call__(self, x: Float[Array, '*axes c']) -> Float[Array, '*axes c']:
    scale = self.param('scale', nn.initializers.ones, x.shape[-1:], jnp.float32)
    bias = self.param('bias', self.bias_init, x.shape[-1:], jnp.float32)
    normalize = LAYER_NORM[table.chosen('layer_norm')]
    x, scale, bias = (jnp.asarray(value, self.dtype) for value in (x, scale, bias))
    return normalize(x, scale, bias, self.eps)
