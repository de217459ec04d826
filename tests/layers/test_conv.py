"""The convolution layer: its parameters and their types."""

import jax
import jax.numpy as jnp
import pytest

from vjax.layers.conv import Conv3D


def test_module_names_bias_and_types():
  x = jnp.ones((1, 2, 4, 4, 6), jnp.float32)
  module = Conv3D(4, (3, 1, 1), padding=(1, 0, 0), groups=2, bias=True, dtype=jnp.bfloat16)
  y, variables = module.init_with_output(jax.random.key(0), x)
  params = variables['params']
  assert params['kernel'].shape == (3, 1, 1, 3, 4) and params['bias'].shape == (4,)
  assert y.dtype == jnp.bfloat16 and params['kernel'].dtype == jnp.float32
  assert 'bias' not in Conv3D(4, (1, 1, 1)).init(jax.random.key(0), x)['params']


def test_groups_that_do_not_divide_the_channels_are_an_error():
  with pytest.raises(ValueError, match='groups=3 must divide both 4'):
    Conv3D(6, (1, 1, 1), groups=3).init(jax.random.key(0), jnp.ones((2, 5, 9, 8, 4)))
