"""Layers written for their gradients, against the gradients that JAX derives: python -m
benchmarks.gradients

For BatchNorm in training (kernels/norm.py), max pooling (kernels/pool.py) and linear layers over
tokens (layers/attention.py): milliseconds of loss and gradients on this machine, with the same
lines left to JAX, and, where it is installed, PyTorch's.
"""

import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.conv import milliseconds
from vjax.kernels import norm, pool
from vjax.layers import attention

NORMS = [
  ((1, 8, 56, 56, 64), 1),
  ((1, 8, 56, 56, 256), 1),
  ((1, 8, 14, 14, 1024), 1),
  ((4, 8, 28, 28, 128), 2),
]
POOLS = [  # clip, window, strides, padding
  ((1, 8, 112, 112, 64), (1, 3, 3), (1, 2, 2), (0, 1, 1)),
  ((1, 8, 28, 28, 192), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
  ((1, 8, 56, 56, 256), (3, 1, 1), (2, 1, 1), (1, 0, 0)),
]
LINEAR = [((32, 73, 96), 384), ((32, 73, 96), 768), ((1, 1569, 768), 3072)]  # tokens, width after
EPS = 1e-5


def torch_milliseconds(layer: str, arguments: tuple, shape: tuple[int, ...]) -> float | None:
  """PyTorch's, of torch.nn.LAYER(*arguments) on a clip or tokens; None without PyTorch."""
  try:
    import torch
  except ImportError:
    return None
  module, times = getattr(torch.nn, layer)(*arguments), []
  x = torch.randn(shape)
  x = (x.permute(0, 4, 1, 2, 3).contiguous() if len(shape) == 5 else x).requires_grad_()
  for _ in range(6):
    start = time.perf_counter()
    module(x).square().sum().backward()
    times.append(time.perf_counter() - start)
  return 1e3 * min(times[1:])


def clip(shape: tuple[int, ...]) -> jax.Array:
  return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


def norm_milliseconds(function, shape: tuple[int, ...], groups: int) -> float:
  """Times a loss and its gradients with respect to clip, scale and bias."""
  x = clip(shape).reshape(groups, -1, shape[-1])
  loss = lambda x, s, b: (function(x, s, b, EPS)[0] ** 2).sum()
  return milliseconds(
    jax.value_and_grad(loss, argnums=(0, 1, 2)), x, jnp.ones(shape[-1]), jnp.zeros(shape[-1])
  )


def pool_milliseconds(function, shape: tuple[int, ...], window, strides, padding) -> float:
  """Times a loss and its gradient with respect to the clip."""
  sides = tuple((p, p) for p in padding)
  loss = lambda x: (function(x, window, strides, sides) ** 2).sum()
  return milliseconds(jax.value_and_grad(loss), clip(shape))


def linear_milliseconds(
  make: Callable[[int], nn.Dense], shape: tuple[int, ...], width: int
) -> float:
  """Times a loss and its gradients with respect to tokens and parameters."""
  layer, x = make(width), clip(shape)
  loss = lambda p, x: (layer.apply(p, x) ** 2).sum()
  return milliseconds(jax.value_and_grad(loss, argnums=(0, 1)), layer.init(jax.random.key(0), x), x)


def row(
  name: str, shape: tuple[int, ...], written: float, derived: float, theirs: float | None
) -> None:
  text = (
    f'{name:32}{"x".join(map(str, shape)):18}{written:9.1f}{derived:9.1f}{derived / written:7.1f}'
  )
  print(text + (f'{theirs:9.1f}' if theirs else ''), flush=True)


def main() -> None:
  """Prints the table."""
  print(f'{jax.devices()[0].device_kind}, float32, jax {jax.__version__}; milliseconds')
  print(f'{"layer":32}{"clip":18}{"written":>9}{"derived":>9}{"ratio":>7}{"PyTorch":>9}')
  for shape, groups in NORMS:
    times = [norm_milliseconds(f, shape, groups) for f in norm.BATCH_NORM.values()]
    theirs = torch_milliseconds('BatchNorm3d', shape[-1:], shape) if groups == 1 else None
    row(f'BatchNorm, {groups} groups' if groups > 1 else 'BatchNorm', shape, *times, theirs)
  for shape, window, strides, padding in POOLS:
    times = [
      pool_milliseconds(f, shape, window, strides, padding) for f in (pool.max_pool, nn.max_pool)
    ]
    theirs = torch_milliseconds('MaxPool3d', (window, strides, padding), shape)
    row(
      f'max of {"x".join(map(str, window))}, stride {"x".join(map(str, strides))}',
      shape,
      *times,
      theirs,
    )
  for shape, width in LINEAR:
    times = [linear_milliseconds(make, shape, width) for make in (attention.Dense, nn.Dense)]
    row(
      f'linear, to {width}', shape, *times, torch_milliseconds('Linear', (shape[-1], width), shape)
    )


if __name__ == '__main__':
  main()
