"""Max pooling is Flax's, its gradient too, but for ties, where the first of equal values gets
it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax.kernels import pool

SETTINGS = [  # window, strides, padding
  ((1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1))),
  ((3, 3, 3), (1, 1, 1), ((1, 1), (1, 1), (1, 1))),
  ((3, 1, 1), (2, 1, 1), ((1, 1), (0, 0), (0, 0))),
  ((2, 2, 2), (2, 2, 2), ((0, 0), (0, 0), (0, 0))),
  ((1, 3, 2), (1, 2, 2), ((0, 0), (0, 2), (0, 1))),  # padding at the ends alone
  ((1, 2, 2), (1, 3, 3), ((0, 0), (0, 0), (0, 0))),  # pixels that no window sees
]


def both(function, setting, x):
  """Pooled clip, and gradient of its product with fixed noise."""

  def differentiate(x):
    y, pull = jax.vjp(lambda x: function(x, *setting), x)
    return y, pull(jnp.asarray(np.random.default_rng(1).standard_normal(y.shape), x.dtype))[0]

  return jax.jit(differentiate)(x)


@pytest.mark.parametrize('setting', SETTINGS, ids=str)
def test_equals_flax(setting):
  with jax.enable_x64(True):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 9, 8, 3)))
    for ours, theirs in zip(both(pool.max_pool, setting, x), both(nn.max_pool, setting, x)):
      np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_first_of_equal_values_gets_the_gradient():
  x = jnp.zeros((1, 1, 4, 4, 1))
  dx = jax.grad(lambda x: pool.max_pool(x, (1, 2, 2), (1, 2, 2)).sum())(x)
  np.testing.assert_array_equal(
    dx[0, 0, :, :, 0], [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
  )


def test_not_a_number_is_passed_on():
  x = jnp.zeros((1, 1, 2, 2, 1)).at[0, 0, 1, 0, 0].set(jnp.nan)
  assert jnp.isnan(pool.max_pool(x, (1, 2, 2), (1, 2, 2))).all()
