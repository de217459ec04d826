"""Convolution over time, height and width as a layer; `kernels/conv.py` computes it."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.kernels.conv import Triple, conv3d

HE = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


class Conv3D(nn.Module):
  """Convolution over time, height and width with explicit symmetric zero padding.

  kernel, strides, padding, dilation: (time, height, width). Parameter kernel (kT, kH, kW, C_in /
  groups, features). Weights start as N(0, 2 / fan_out), fan_out = features * kT * kH * kW (He et
  al. 2015).
  """

  features: int
  kernel: Triple
  strides: Triple = (1, 1, 1)
  padding: Triple = (0, 0, 0)
  dilation: Triple = (1, 1, 1)
  groups: int = 1
  bias: bool = False
  dtype: Any = jnp.float32
  kernel_init: Callable = HE
  bias_init: Callable = nn.initializers.zeros

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c']) -> Float[Array, 'b u v z d']:
    """The convolved clip in `dtype`. Raises ValueError if groups do not divide the channels."""
    if x.shape[-1] % self.groups or self.features % self.groups:
      raise ValueError(
        f'groups={self.groups} must divide both {x.shape[-1]} input and {self.features} output '
        'channels'
      )
    shape = (*self.kernel, x.shape[-1] // self.groups, self.features)
    kernel = jnp.asarray(self.param('kernel', self.kernel_init, shape, jnp.float32), self.dtype)
    y = conv3d(x.astype(self.dtype), kernel, self.strides, self.padding, self.dilation, self.groups)
    if self.bias:
      y = y + self.param('bias', self.bias_init, (self.features,), jnp.float32).astype(self.dtype)
    return y
