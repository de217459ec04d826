"""Formulations of single operations beside each other; each case ends with what `kernels/table.py` should hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import conv as conv_bench
from benchmarks import gradients as gradients_bench
from benchmarks.gpu_cases.recorder import Recorder, seconds_of
from vjax.kernels import table
from vjax.layers import conv, norm, pool

GROUPED = ((2, 8, 28, 28, 128), (3, 3, 3, 4, 128), (1, 1, 1))  # CSN's and X3D's groups are single channels


def convolutions(
  record: Recorder, kind: str, dtype: str, batch: int = 16, shrink: int = 1, most: int | None = None
) -> None:
  """Forward and both gradients of every formulation of a kind of convolution, at the zoo's shapes.

  Args:
    record: of the results.
    kind: of kernel, see `layers/conv.py`.
    dtype: of inputs and kernel.
    batch: clips.
    shrink: divides rows and columns, most: shapes that are tried; for tests.
  """
  cases = [c for c in [*conv_bench.CASES, GROUPED] if conv.kind(c[1], c[0][-1], c[0][-1] // c[1][3]) == kind][:most]
  names = {**conv_bench.FITS, 'grouped': ('lax', 'taps')}[kind]
  for shape, kernel_shape, strides in cases:
    shape = (batch, shape[1], shape[2] // shrink, shape[3] // shrink, shape[4])
    groups, padding = shape[-1] // kernel_shape[3], tuple(k // 2 for k in kernel_shape[:3])
    operands = _normal(shape, dtype), _normal(kernel_shape, dtype)
    for name in names:
      call = lambda x, k, f=conv.FORMULATIONS[name], s=(strides, padding, (1, 1, 1), groups): f(x, k, *s)
      line = f'{_text(shape)} * {_text(kernel_shape)} / {_text(strides)}: {name}'
      record.measure(line, partial(_forward_and_gradient, call, *operands))
  _choose(record, kind, dtype)


def gradients(
  record: Recorder, layer: str, dtype: str, batch: int = 16, shrink: int = 1, most: int | None = None
) -> None:
  """Forward and gradients of a layer by our written gradient and by JAX's.

  Args:
    record: of the results.
    layer: operation of `kernels/table.py`.
    dtype: of inputs; norms compute in float32, as the layers do.
    batch: clips.
    shrink: divides rows and columns, most: shapes that are tried; for tests.
  """
  for name, shape, variants in _layers(layer, batch, shrink)[:most]:
    for formulation, call in variants.items():
      line = f'{_text(shape)}{name}: {formulation}'
      record.measure(line, partial(_gradient, call, _normal(shape, dtype)))
  _choose(record, layer, dtype)


def _layers(layer: str, batch: int, shrink: int) -> list[tuple[str, tuple[int, ...], dict[str, Callable]]]:
  """(description, input shape, {formulation: function of the input}) of the shapes that are measured."""
  clip = lambda shape: (batch, shape[1], shape[2] // shrink, shape[3] // shrink, shape[4])
  if layer == 'batch_norm':
    shapes = [clip(shape) for shape, groups in gradients_bench.NORMS if groups == 1]
    return [('', shape, {n: _batch_norm(f) for n, f in norm.NORMALIZE.items()}) for shape in shapes]
  if layer == 'layer_norm':
    shapes = [(batch * 4, 197, 768), (batch, 1568, 768), (batch, 1568, 1024)]
    return [('', shape, {n: _layer_norm(f) for n, f in norm.NORMALIZE_LAYER.items()}) for shape in shapes]
  if layer == 'max_pool':
    return [_max_pool(clip(shape), *rest) for shape, *rest in gradients_bench.POOLS]
  shapes = [((batch * 4, 158, 768), 3072), ((batch * 4, 158, 1024), 4096), ((batch, 1569, 768), 768)]
  rows = []
  for shape, width in shapes:
    kernel = jnp.zeros((shape[-1], width), jnp.bfloat16)
    plain = lambda x, k=kernel: jax.lax.dot_general(x, k.astype(x.dtype), (((2,), (0,)), ((), ())))
    by_rows = lambda x, k=kernel: (x.reshape(-1, x.shape[-1]) @ k.astype(x.dtype)).reshape(*x.shape[:-1], -1)
    rows.append((f' to {width}', shape, {'rows': by_rows, 'plain': plain}))
  return rows


def _batch_norm(function: Callable) -> Callable:
  def call(x: jax.Array) -> jax.Array:
    ones = jnp.ones(x.shape[-1])
    wide = x.astype(jnp.float32).reshape(1, -1, x.shape[-1])
    return function(wide, ones, ones, 1e-5)[0].astype(x.dtype)

  return call


def _layer_norm(function: Callable) -> Callable:
  return lambda x: function(x.astype(jnp.float32), jnp.ones(x.shape[-1]), jnp.ones(x.shape[-1]), 1e-6).astype(x.dtype)


def _max_pool(shape: tuple, window: tuple, strides: tuple, padding: tuple) -> tuple[str, tuple, dict[str, Callable]]:
  sides = tuple((p, p) for p in padding)
  variants = {
    'written': lambda x: pool.written_max_pool(x, window, strides, sides),
    'derived': lambda x: nn.max_pool(x, window, strides, sides),
  }
  return f', {_text(window)} / {_text(strides)}', shape, variants


def attentions(record: Recorder, width: int, tokens: int = 1569, batch: int = 8) -> None:
  """Attention of heads of `width` channels: cuDNN's kernel beside XLA's, forward and with gradients, in bfloat16."""
  heads = max(1, 768 // width)
  q, k, v = (_normal((batch, tokens, heads, width), 'bfloat16') for _ in range(3))

  def values(name: str) -> dict:
    call = lambda q, k, v: jax.nn.dot_product_attention(q, k, v, implementation=name)
    forward = jax.jit(call)
    gradient = jax.jit(jax.grad(lambda *x: call(*x).astype(jnp.float32).sum(), argnums=(0, 1, 2)))
    return {
      'forward_ms': 1e3 * seconds_of(lambda: forward(q, k, v), jax.block_until_ready),
      'ms': 1e3 * seconds_of(lambda: gradient(q, k, v), jax.block_until_ready),
    }

  for name in ('xla', 'cudnn'):
    record.measure(f'{batch}x{tokens}x{heads}x{width}: {name}', lambda name=name: values(name))
  _choose(record, 'attention', 'bfloat16')


def _forward_and_gradient(call: Callable, x: jax.Array, kernel: jax.Array) -> dict[str, float]:
  dy = jnp.ones_like(jax.eval_shape(call, x, kernel))
  forward, backward = jax.jit(call), jax.jit(lambda x, k, dy: jax.vjp(call, x, k)[1](dy))
  first = 1e3 * seconds_of(lambda: forward(x, kernel), jax.block_until_ready)
  second = 1e3 * seconds_of(lambda: backward(x, kernel, dy), jax.block_until_ready)
  return {'forward_ms': first, 'gradient_ms': second, 'ms': first + second}


def _gradient(call: Callable, x: jax.Array) -> dict[str, float]:
  gradient = jax.jit(jax.value_and_grad(lambda x: jnp.square(call(x).astype(jnp.float32)).mean()))
  return {'ms': 1e3 * seconds_of(lambda: gradient(x), jax.block_until_ready)}


def _choose(record: Recorder, operation: str, dtype: str) -> None:
  """Records which formulation is fastest by the geometric mean over shapes, relative to the one the table names."""
  times: dict[str, dict[str, float]] = {}
  for line, values in record.known.items():
    shape, _, name = line.rpartition(': ')
    if 'ms' in values:
      times.setdefault(shape, {})[name] = values['ms']
  whole = [row for row in times.values() if len(row) == max(map(len, times.values()))]
  if not whole:
    return
  means = {name: math.exp(np.mean([math.log(row[name]) for row in whole])) for name in whole[0]}
  best, now = min(means, key=means.get), table.chosen(operation)
  values = {'operation': operation, 'dtype': dtype, 'fastest': best, 'table': now, 'shapes': len(whole)}
  ratios = {name: means[name] / means[best] for name in means}
  record.measure('choice', lambda: {**values, 'ratios': ratios})


def _normal(shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return jax.random.normal(jax.random.key(len(shape)), shape, dtype)


def _text(shape: tuple[int, ...]) -> str:
  return 'x'.join(map(str, shape))
