"""Normalization as functions of arrays, plain and with written gradients that CPUs compute fast."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def batch_norm(
  x: Float[Array, 'g n c'], scale: Float[Array, ' c'], bias: Float[Array, ' c'], eps: float
) -> Any:
  """Normalizes x (G, N, C) over N.

  Returns the result, times scale (C,), plus bias (C,); the means and the biased variances, both
  (G, 1, C).
  """
  mean = _mean(x)
  var = _mean(jnp.square(x - mean))
  return (x - mean) * (jax.lax.rsqrt(var + eps) * scale) + bias, mean, var


def layer_norm(
  x: Float[Array, '*axes c'], scale: Float[Array, ' c'], bias: Float[Array, ' c'], eps: float
) -> Any:
  """Normalizes x (..., C) over C, times scale (C,), plus bias (C,)."""
  return _layer_forward(x, scale, bias, eps)[0]


# The same with gradients of our own: XLA's take CPUs many times as long for BatchNorm, four times
# for LayerNorm (benchmarks/gradients.py). No gradient passes through means and variances.
written_batch_norm: Any = jax.custom_vjp(batch_norm, nondiff_argnums=(3,))
written_layer_norm: Any = jax.custom_vjp(layer_norm, nondiff_argnums=(3,))
# By whose gradient.
BATCH_NORM = {'written': written_batch_norm, 'derived': batch_norm}
LAYER_NORM = {'written': written_layer_norm, 'derived': layer_norm}


def _mean(x):
  """Mean over N. With one group it is taken over both axes: on CPUs XLA sums products over a middle
  axis far slower."""
  return x.mean((0, 1) if x.shape[0] == 1 else 1, keepdims=True)


def _batch_forward(x, scale, bias, eps):
  y, mean, var = batch_norm(x, scale, bias, eps)
  return (y, mean, var), (x, scale, mean, jax.lax.rsqrt(var + eps))


def _batch_backward(eps, saved, gradients):
  (x, scale, mean, rate), dy = saved, gradients[0]
  unit = (x - mean) * rate
  to_bias, to_scale = _mean(dy), _mean(dy * unit)
  to_x = rate * scale * (dy - to_bias - unit * to_scale)
  return to_x, to_scale.sum((0, 1)) * x.shape[1], to_bias.sum((0, 1)) * x.shape[1]


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


written_batch_norm.defvjp(_batch_forward, _batch_backward)
written_layer_norm.defvjp(_layer_forward, _layer_backward)
