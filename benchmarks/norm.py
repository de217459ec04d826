"""BatchNorm in training, forwards and backwards, against the gradient that JAX derives: python -m benchmarks.norm

For each clip: milliseconds of loss and gradients for the clip, scale and bias with the gradient that vjax/layers/norm.py
writes down, and with that of the same lines left to JAX; and, where it is installed, PyTorch's.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.conv import milliseconds
from vjax.layers import norm

CASES = [((1, 8, 56, 56, 64), 1), ((1, 8, 56, 56, 256), 1), ((1, 8, 14, 14, 1024), 1), ((4, 8, 28, 28, 128), 2)]
EPS = 1e-5


def derived(x, scale, bias, eps: float):
  """The lines of `norm.normalised` without its own gradient."""
  return norm.normalised.__wrapped__(x, scale, bias, eps)


def torch_milliseconds(shape: tuple[int, ...]) -> float | None:
  """PyTorch's, statistics over the whole clip; None without PyTorch."""
  try:
    import torch
  except ImportError:
    return None
  import time

  layer = torch.nn.BatchNorm3d(shape[-1])
  x = torch.randn(shape).permute(0, 4, 1, 2, 3).contiguous().requires_grad_()
  times = []
  for _ in range(6):
    start = time.perf_counter()
    layer(x).sum().backward()
    times.append(time.perf_counter() - start)
  return 1e3 * min(times[1:])


def both_ways(function, shape: tuple[int, ...], groups: int) -> float:
  """Milliseconds of a loss and its gradients through `function`."""
  x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
  loss = lambda x, s, b: (function(x.reshape(groups, -1, shape[-1]), s, b, EPS)[0] ** 2).sum()
  return milliseconds(jax.value_and_grad(loss, argnums=(0, 1, 2)), x, jnp.ones(shape[-1]), jnp.zeros(shape[-1]))


def main() -> None:
  """Prints the table."""
  print(f'{jax.devices()[0].device_kind}, float32, jax {jax.__version__}; milliseconds')
  print(f'{"clip":24}{"groups":>7}{"written":>9}{"derived":>9}{"ratio":>7}{"PyTorch":>9}')
  for shape, groups in CASES:
    written, left = (both_ways(function, shape, groups) for function in (norm.normalised, derived))
    theirs = torch_milliseconds(shape) if groups == 1 else None
    row = f'{"x".join(map(str, shape)):24}{groups:7}{written:9.1f}{left:9.1f}{left / written:7.1f}'
    print(row + (f'{theirs:9.1f}' if theirs else ''), flush=True)


if __name__ == '__main__':
  main()
