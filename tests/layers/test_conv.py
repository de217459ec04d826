"""Every formulation of conv3d is the convolution that XLA computes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax import macs
from vjax.layers import conv

# name of the kind: kernel (kT, kH, kW), C_in, C_out, groups
KERNELS = {
  'depthwise': ((3, 3, 3), 6, 6, 6),
  'depthwise_time': ((3, 1, 1), 6, 6, 6),
  'pointwise': ((1, 1, 1), 5, 7, 1),
  'spatial': ((1, 3, 3), 5, 7, 1),
  'spatial_wide': ((1, 3, 3), 65, 66, 1),
  'spatial_large': ((1, 7, 5), 3, 4, 1),
  'temporal': ((3, 1, 1), 5, 7, 1),
  'full': ((3, 3, 3), 5, 7, 1),
  'grouped': ((3, 3, 3), 6, 4, 2),
  'grouped_time': ((3, 1, 1), 6, 4, 2),
}
SETTINGS = [  # strides, padding, dilation
  ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
  ((2, 2, 2), (1, 1, 1), (1, 1, 1)),
  ((1, 2, 2), (0, 3, 3), (1, 1, 1)),
  ((2, 1, 3), (2, 0, 1), (2, 1, 1)),
  ((1, 1, 1), (2, 2, 3), (2, 2, 2)),
]


def example(kernel, channels, features, groups, dtype):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.standard_normal((2, 5, 9, 8, channels)), dtype)
  return x, jnp.asarray(rng.standard_normal((*kernel, channels // groups, features)), dtype)


@pytest.mark.parametrize('name', KERNELS)
def test_formulation_equals_lax_forward_and_gradients(name):
  kernel, channels, features, groups = KERNELS[name]
  chosen = conv.TABLE['cpu'][conv.kind((*kernel, channels // groups, features), channels, groups)]
  for dtype, tolerance in ((jnp.float64, 1e-11), (jnp.float32, 3e-4)):
    with jax.enable_x64(dtype == jnp.float64):
      x, weights = example(kernel, channels, features, groups, dtype)
      for strides, padding, dilation in SETTINGS:
        if any((k - 1) * d + 1 > n + 2 * p for k, d, n, p in zip(kernel, dilation, x.shape[1:4], padding)):
          continue
        settings = (strides, padding, dilation, groups)

        @jax.jit
        def run(x, weights, dy, function, settings=settings):
          y, pull = jax.vjp(lambda x, weights: conv.FORMULATIONS[function](x, weights, *settings), x, weights)
          return y, *pull(dy)

        run = jax.jit(run.__wrapped__, static_argnums=3)
        shape = jax.eval_shape(lambda x, w: conv.FORMULATIONS['lax'](x, w, *settings), x, weights).shape
        dy = jnp.asarray(np.random.default_rng(1).standard_normal(shape), dtype)
        for a, b in zip(run(x, weights, dy, chosen), run(x, weights, dy, 'lax')):
          assert a.dtype == dtype and a.shape == b.shape
          np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance, err_msg=f'{name} {settings}')
