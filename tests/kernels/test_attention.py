"""Every formulation of attention is softmax(scale q k^T + bias) v, with its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax.kernels import attention


@pytest.mark.parametrize(
  'tokens, dtype, tolerance',
  [(5, jnp.float32, 1e-6), (33, jnp.float32, 1e-6), (9, jnp.bfloat16, 3e-2)],
)
def test_attend(tokens, dtype, tolerance):
  q, k, v = (jax.random.normal(jax.random.key(i), (2, tokens, 3, 8), dtype) for i in range(3))
  out = attention.attend(q, k, v)
  assert out.dtype == dtype
  a, b, c = (np.asarray(x, np.float64) for x in (q, k, v))
  logits = np.einsum('bnhd,bmhd->bhnm', a, b) / np.sqrt(8)
  weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  np.testing.assert_allclose(
    np.asarray(out, np.float64), np.einsum('bhnm,bmhd->bnhd', weights, c), atol=tolerance
  )
  np.testing.assert_allclose(out, jax.nn.dot_product_attention(q, k, v), atol=tolerance)


@pytest.mark.parametrize('chunk', [2**20, 100])
def test_head_by_head_is_the_same(chunk, monkeypatch):
  """Values and gradients in float64, with chunks of rows that do not divide the queries."""
  with jax.enable_x64(True):
    q, k, v = (
      jax.random.normal(jax.random.key(i), (2, n, 3, d), jnp.float64)
      for i, (n, d) in enumerate([(13, 8), (17, 8), (17, 5)])
    )
    loss = lambda q, k, v: (attention.attend(q, k, v) ** 3).sum()
    plain = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(q, k, v)
    monkeypatch.setattr(attention, 'MANY_KEYS', 1)
    monkeypatch.setattr(attention, '_CHUNK', chunk)
    again = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(q, k, v)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), plain, again)
  half = [x.astype(jnp.bfloat16) for x in (q, k, v)]
  assert attention.attend(*half).dtype == jnp.bfloat16
  np.testing.assert_allclose(
    attention.attend(*half).astype(jnp.float32), attention.attend(q, k, v), atol=0.05
  )


@pytest.mark.parametrize(('queries', 'keys'), [(5, 7), (6, 7)])
@pytest.mark.parametrize('biased', [False, True])
def test_odd_numbers_of_tokens_are_padded_without_effect(queries, keys, biased):
  """cuDNN's kernel needs them even in training; XLA's stands in for it: the same outputs and
  gradients."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
  q, k, v = draw(2, queries, 3, 8), draw(2, keys, 3, 8), draw(2, keys, 3, 8)
  bias = draw(2, 3, queries, keys) if biased else None

  def value_and_gradients(function):
    loss = lambda q, k, v: jnp.sin(function(q, k, v)).sum()
    return function(q, k, v), jax.grad(loss, argnums=(0, 1, 2))(q, k, v)

  fused = lambda q, k, v: attention.fused(q, k, v, 0.3, bias, implementation='xla')
  plain = lambda q, k, v: jax.nn.dot_product_attention(q, k, v, bias, scale=0.3)
  found, wanted = value_and_gradients(fused), value_and_gradients(plain)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), found, wanted)
