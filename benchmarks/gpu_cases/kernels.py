"""Formulations of single operations beside each other; each case ends with what `kernels/table.py`
should hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import conv as conv_bench
from benchmarks import gradients as gradients_bench
from benchmarks.gpu_cases.recorder import Recorder, seconds_of
from vjax.kernels import attention, conv, norm, pool, table

GROUPED = (
  (2, 8, 28, 28, 128),
  (3, 3, 3, 4, 128),
  (1, 1, 1),
)  # CSN's and X3D's groups are single channels


def convolutions(
  record: Recorder, kind: str, dtype: str, batch: int = 16, shrink: int = 1, most: int | None = None
) -> None:
  """Forward and both gradients of every formulation of a kind of convolution, at the zoo's shapes.

  Args:
    record: of the results.
    kind: of kernel, see `kernels/conv.py`.
    dtype: of inputs and kernel.
    batch: clips.
    shrink: divides rows and columns, most: shapes that are tried; for tests.
  """
  cases = [
    c
    for c in [*conv_bench.CASES, GROUPED]
    if conv.kind(c[1], c[0][-1], c[0][-1] // c[1][3]) == kind
  ][:most]
  names = {**conv_bench.FITS, 'grouped': ('lax', 'taps')}[kind]
  for shape, kernel_shape, strides in cases:
    shape = (batch, shape[1], shape[2] // shrink, shape[3] // shrink, shape[4])
    groups, padding = shape[-1] // kernel_shape[3], tuple(k // 2 for k in kernel_shape[:3])
    operands = _normal(shape, dtype), _normal(kernel_shape, dtype)
    for name in names:
      call = lambda x, k, f=conv.FORMULATIONS[name], s=(strides, padding, (1, 1, 1), groups): f(
        x, k, *s
      )
      line = f'{_text(shape)} * {_text(kernel_shape)} / {_text(strides)}: {name}'
      record.measure(line, partial(_forward_and_gradient, call, *operands))
  _choose(record, kind, dtype)


def gradients(
  record: Recorder,
  layer: str,
  dtype: str,
  batch: int = 16,
  shrink: int = 1,
  most: int | None = None,
) -> None:
  """Forward and gradients of a layer by our written gradient and by JAX's.

  Args:
    record: of the results.
    layer: operation of `kernels/table.py`.
    dtype: of inputs; norms compute in float32, as the layers do.
    batch: clips.
    shrink: divides rows and columns, most: shapes that are tried; for tests.
  """
  for name, shape, parameters, variants in _layers(layer, batch, shrink)[:most]:
    for formulation, call in variants.items():
      line = f'{_text(shape)}{name}: {formulation}'
      operands = [
        _normal(shape, dtype),
        *(_normal(p, dtype if len(p) > 1 else jnp.float32) for p in parameters),
      ]
      record.measure(line, partial(_gradient, call, *operands))
  _choose(record, layer, dtype)


def _layers(
  layer: str, batch: int, shrink: int
) -> list[tuple[str, tuple, list[tuple], dict[str, Callable]]]:
  """(description, input shape, shapes of parameters, {formulation: function of input and
  parameters}) to be measured."""
  clip = lambda shape: (batch, shape[1], shape[2] // shrink, shape[3] // shrink, shape[4])
  if layer == 'batch_norm':
    shapes = [clip(shape) for shape, groups in gradients_bench.NORMS if groups == 1]
    calls = {name: _batch_norm(function) for name, function in norm.BATCH_NORM.items()}
    return [('', shape, [shape[-1:]] * 2, calls) for shape in shapes]
  if layer == 'layer_norm':
    shapes = [(batch * 4, 197, 768), (batch, 1568, 768), (batch, 1568, 1024)]
    calls = {name: _layer_norm(function) for name, function in norm.LAYER_NORM.items()}
    return [('', shape, [shape[-1:]] * 2, calls) for shape in shapes]
  if layer == 'max_pool':
    return [_max_pool(clip(shape), *rest) for shape, *rest in gradients_bench.POOLS]
  shapes = [
    ((batch * 4, 158, 768), 3072),
    ((batch * 4, 158, 1024), 4096),
    ((batch, 1569, 768), 768),
  ]
  plain = lambda x, kernel: jax.lax.dot_general(x, kernel, (((2,), (0,)), ((), ())))
  by_rows = lambda x, kernel: (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)
  calls = {'rows': by_rows, 'plain': plain}
  return [(f' to {width}', shape, [(shape[-1], width)], calls) for shape, width in shapes]


def _batch_norm(function: Callable) -> Callable:
  def call(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    wide = x.astype(jnp.float32).reshape(1, -1, x.shape[-1])
    return function(wide, scale, bias, 1e-5)[0].astype(x.dtype)

  return call


def _layer_norm(function: Callable) -> Callable:
  return lambda x, scale, bias: function(x.astype(jnp.float32), scale, bias, 1e-6).astype(x.dtype)


def _max_pool(
  shape: tuple, window: tuple, strides: tuple, padding: tuple
) -> tuple[str, tuple, list, dict]:
  sides = tuple((p, p) for p in padding)
  variants = {
    'written': lambda x: pool.written_max_pool(x, window, strides, sides),
    'derived': lambda x: nn.max_pool(x, window, strides, sides),
  }
  return f', {_text(window)} / {_text(strides)}', shape, [], variants


def attentions(record: Recorder, width: int, tokens: int = 1569, batch: int = 8) -> None:
  """Attention of heads of `width` channels: cuDNN's kernel beside XLA's, forward and with
  gradients, in bfloat16."""
  heads = max(1, 768 // width)
  q, k, v = (_normal((batch, tokens, heads, width), 'bfloat16') for _ in range(3))

  def values(name: Literal['cudnn', 'xla']) -> dict:
    call = lambda q, k, v: attention.fused(q, k, v, width**-0.5, implementation=name)
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


def _gradient(call: Callable, *operands: jax.Array) -> dict[str, float]:
  """Milliseconds of a loss and its gradients with respect to input and parameters."""
  loss = lambda *operands: jnp.square(call(*operands).astype(jnp.float32)).mean()
  gradient = jax.jit(jax.value_and_grad(loss, argnums=tuple(range(len(operands)))))
  return {'ms': 1e3 * seconds_of(lambda: gradient(*operands), jax.block_until_ready)}


def _choose(record: Recorder, operation: str, dtype: str) -> None:
  """Records which formulation is fastest by the geometric mean over shapes, relative to the one the
  table names."""
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
  values = {
    'operation': operation,
    'dtype': dtype,
    'fastest': best,
    'table': now,
    'shapes': len(whole),
  }
  ratios = {name: means[name] / means[best] for name in means}
  found = {**values, 'ratios': ratios}
  if (
    record.known.get('choice') != found
  ):  # a formulation that failed before may have been measured now
    record.write('choice', 'done', found, 0.0)
    record.known['choice'] = found


def _normal(shape: tuple[int, ...], dtype: Any) -> jax.Array:
  return jax.random.normal(jax.random.key(len(shape)), shape, dtype)


def _text(shape: tuple[int, ...]) -> str:
  return 'x'.join(map(str, shape))
