"""BatchNorm over groups of clips, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax.kernels.norm import written_batch_norm
from vjax.layers.norm import BatchNorm


def example(batch=8):
  rng = np.random.default_rng(0)
  x = (
    rng.standard_normal((batch, 2, 3, 4, 5)).astype(np.float32) * 3
    + np.arange(batch)[:, None, None, None, None]
  )
  scale, bias = rng.uniform(0.5, 2, (2, 5)).astype(np.float32)
  params = {'scale': scale, 'bias': bias}
  x = jnp.asarray(x, jnp.float32)
  return x, {
    'params': params,
    'batch_stats': {'mean': np.full(5, 2, np.float32), 'var': np.full(5, 3, np.float32)},
  }


def expected(x, params, eps):
  mean, var = x.mean((0, 1, 2, 3)), x.var((0, 1, 2, 3))
  return (x - mean) / np.sqrt(var + eps) * params['scale'] + params['bias'], mean, var


@pytest.mark.parametrize('group_size', [0, 8, 4, 2])
def test_statistics_of_groups_and_the_running_average(group_size):
  x, variables = example()
  norm = BatchNorm(group_size=group_size, eps=1e-3)
  y, updated = norm.apply(variables, x, train=True, mutable=['batch_stats'])
  parts = [
    expected(part, variables['params'], 1e-3)
    for part in np.split(np.asarray(x), 8 // (group_size or 8))
  ]
  np.testing.assert_allclose(y, np.concatenate([part[0] for part in parts]), atol=2e-5)
  for name, i, old in (('mean', 1, 2.0), ('var', 2, 3.0)):
    wanted = 0.9 * old + 0.1 * np.mean([part[i] for part in parts], 0)
    np.testing.assert_allclose(updated['batch_stats'][name], wanted, rtol=1e-5)


def test_a_group_of_the_batch_is_plain_batch_norm_and_half_groups_are_two_half_batches():
  x, variables = example()
  run = lambda x, size: BatchNorm(group_size=size).apply(
    variables, x, train=True, mutable=['batch_stats']
  )[0]
  np.testing.assert_array_equal(run(x, 0), run(x, 8))
  np.testing.assert_allclose(run(x, 4), np.concatenate([run(x[:4], 0), run(x[4:], 0)]), atol=1e-6)
  assert np.abs(run(x, 4) - run(x, 8)).max() > 0.1


def test_evaluation_uses_the_running_average_and_any_batch():
  x, variables = example(batch=3)
  y = BatchNorm(group_size=8, eps=1e-5).apply(variables, x, train=False)
  params = variables['params']
  np.testing.assert_allclose(
    y, (x - 2) / np.sqrt(3 + 1e-5) * params['scale'] + params['bias'], atol=1e-5
  )


def test_initial_variables_and_types():
  x = jnp.ones((2, 1, 2, 2, 3), jnp.bfloat16)
  y, variables = BatchNorm(dtype=jnp.bfloat16).init_with_output(jax.random.key(0), x, train=True)
  assert y.dtype == jnp.bfloat16
  assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(variables))
  assert (variables['batch_stats']['mean'] == 0).all() and (
    variables['batch_stats']['var'] == 1
  ).all()


def test_batch_that_no_group_divides():
  x, variables = example(batch=6)
  with pytest.raises(ValueError, match='group_size=4 does not divide the batch of 6'):
    BatchNorm(group_size=4).apply(variables, x, train=True, mutable=['batch_stats'])


def test_gradient_is_that_of_the_formula():
  """Against JAX's own differentiation, in float64."""
  with jax.enable_x64(True):
    rng = np.random.default_rng(1)
    x, dy = (jnp.asarray(rng.normal(size=(3, 20, 5)) + 2, jnp.float64) for _ in range(2))
    scale, bias = (jnp.asarray(rng.normal(size=5), jnp.float64) for _ in range(2))

    def plain(x, scale, bias):
      mean = x.mean(1, keepdims=True)
      return (x - mean) / jnp.sqrt(
        jnp.square(x - mean).mean(1, keepdims=True) + 1e-3
      ) * scale + bias

    wanted = jax.vjp(plain, x, scale, bias)[1](dy)
    found = jax.vjp(lambda *args: written_batch_norm(*args, 1e-3)[0], x, scale, bias)[1](dy)
    for a, b in zip(found, wanted):
      np.testing.assert_allclose(a, b, atol=1e-12)
