import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax.layers import attention


def test_norm_is_float32_and_exact():
  x = 1000 + jax.random.normal(jax.random.key(0), (4, 64))
  layer = attention.norm('norm', jnp.bfloat16)
  out = layer.apply(layer.init(jax.random.key(0), x), x)
  exact = np.asarray(x, np.float64)
  exact = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-6)
  assert out.dtype == jnp.float32
  np.testing.assert_allclose(
    out, exact, atol=1e-3
  )  # a variance from the mean of squares would be off by 0.1


def test_gelu_is_exact():
  layer = attention.Mlp(1.0)
  params = {'params': {f'fc{i}': {'kernel': jnp.eye(2), 'bias': jnp.zeros(2)} for i in (1, 2)}}
  out = layer.apply(params, jnp.array([[[1.0, -2.0]]]))
  np.testing.assert_allclose(
    out[0, 0], [0.8413447, -0.0455003], atol=1e-6
  )  # x * normal CDF; tanh form: 0.841192


def test_heads_must_divide_the_width():
  with pytest.raises(ValueError, match='does not divide'):
    attention.Attention(3).init(jax.random.key(0), jnp.zeros((1, 2, 8)))


def test_gradients_of_layer_norm():
  """As JAX derives them from Flax's layer, in float64."""
  with jax.enable_x64(True):
    x = jax.random.normal(jax.random.key(0), (2, 5, 7), jnp.float64)
    ours = attention.norm('norm', jnp.float64)
    theirs = nn.LayerNorm(epsilon=attention.EPSILON, dtype=jnp.float64, use_fast_variance=False)
    variables = {'params': {'scale': jnp.linspace(0.5, 2, 7), 'bias': jnp.linspace(-1, 1, 7)}}
    gradients = [
      jax.jit(jax.value_and_grad(lambda v, x, m=m: (m.apply(v, x) ** 3).sum(), argnums=(0, 1)))(
        variables, x
      )
      for m in (ours, theirs)
    ]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), *gradients)


@pytest.mark.parametrize('shape', [(6,), (4, 6), (2, 3, 6), (2, 1, 3, 6)])
def test_dense_is_linens(shape):
  x = jax.random.normal(jax.random.key(0), shape)
  ours, theirs = attention.Dense(5), nn.Dense(5)
  params = ours.init(jax.random.key(1), x)
  assert jax.tree.map(jnp.shape, params) == {'params': {'kernel': (6, 5), 'bias': (5,)}}
  jax.tree.map(np.testing.assert_array_equal, params, theirs.init(jax.random.key(1), x))
  loss = lambda layer: lambda p, x: jnp.sum(jnp.sin(layer.apply(p, x)))
  np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), rtol=1e-6, atol=1e-6)
  for a, b in zip(
    *(jax.tree.leaves(jax.grad(loss(m), argnums=(0, 1))(params, x)) for m in (ours, theirs))
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
