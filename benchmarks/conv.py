"""Measures every formulation of conv3d on this machine's backend: python benchmarks/conv.py
[--dtype=bfloat16]

For each kernel: milliseconds forwards, and of both gradients (input and kernel) for a given output
gradient, then the ratio to XLA's 3D convolution. `*` marks what vjax/kernels/table.py names for
this backend: it should be the fastest sum."""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from vjax.kernels import conv, table

CLIP = (2, 8, 56, 56)
# input (B, T, H, W, C), kernel (kT, kH, kW, C / groups, D), strides; groups = C / its fourth number
CASES = [
  ((*CLIP, 64), (3, 3, 3, 1, 64), (1, 1, 1)),
  ((*CLIP, 64), (3, 1, 1, 1, 64), (1, 1, 1)),
  ((*CLIP, 64), (1, 1, 1, 64, 256), (1, 1, 1)),
  ((*CLIP, 256), (1, 1, 1, 256, 64), (1, 1, 1)),
  ((2, 8, 14, 14, 1024), (1, 1, 1, 1024, 256), (1, 1, 1)),
  ((*CLIP, 256), (1, 1, 1, 256, 512), (2, 2, 2)),
  ((2, 8, 112, 112, 3), (1, 7, 7, 3, 45), (1, 2, 2)),
  ((*CLIP, 64), (1, 3, 3, 64, 64), (1, 1, 1)),
  ((2, 4, 28, 28, 128), (1, 3, 3, 128, 128), (1, 1, 1)),
  ((*CLIP, 64), (1, 3, 3, 64, 230), (1, 2, 2)),
  ((*CLIP, 64), (3, 1, 1, 64, 64), (1, 1, 1)),
  ((2, 4, 28, 28, 128), (3, 1, 1, 128, 128), (1, 1, 1)),
  ((2, 8, 28, 28, 230), (3, 1, 1, 230, 128), (2, 1, 1)),
  ((2, 8, 112, 112, 3), (3, 7, 7, 3, 64), (1, 2, 2)),
  ((*CLIP, 64), (3, 3, 3, 64, 64), (1, 1, 1)),
  ((2, 4, 28, 28, 128), (3, 3, 3, 128, 128), (1, 1, 1)),
  ((*CLIP, 64), (3, 3, 3, 64, 128), (2, 2, 2)),
]
FITS = {  # which formulations say anything new about a kind of kernel
  'depthwise': ('lax', 'shifted', 'framed'),
  'pointwise': ('lax', 'product'),
  'spatial': ('lax', 'folded'),
  'temporal': ('lax', 'flattened'),
  'full': ('lax', 'taps'),
}


def milliseconds(function, *args, repeats: int = 5) -> float:
  """The best of a few runs after one to compile."""
  function = jax.jit(function)
  jax.block_until_ready(function(*args))
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    times.append(time.perf_counter() - start)
  return 1e3 * min(times)


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--dtype', default='float32')
  dtype = jnp.dtype(parser.parse_args().dtype)
  rng = np.random.default_rng(0)
  backend = jax.default_backend()
  print(f'{jax.devices()[0].device_kind} ({backend}), {dtype}, jax {jax.__version__}; milliseconds')
  print(
    f'{"input":24}{"kernel":22}{"strides":11}{"formulation":13}{"forward":>9}{"gradient":>9}{"ratio":>7}'
  )
  for shape, kernel_shape, strides in CASES:
    groups = shape[-1] // kernel_shape[3]
    padding = tuple(k // 2 for k in kernel_shape[:3])
    x = jnp.asarray(rng.standard_normal(shape), dtype)
    kernel = jnp.asarray(rng.standard_normal(kernel_shape), dtype)
    kind = conv.kind(kernel_shape, shape[-1], groups)
    base = None
    for name in FITS[kind]:
      call = lambda x, k, f=conv.FORMULATIONS[name], s=(strides, padding, (1, 1, 1), groups): f(
        x, k, *s
      )
      dy = jnp.ones_like(jax.eval_shape(call, x, kernel))
      forward = milliseconds(call, x, kernel)
      gradient = milliseconds(lambda x, k, dy, call=call: jax.vjp(call, x, k)[1](dy), x, kernel, dy)
      base = base or forward + gradient
      mark = '*' if name == table.chosen(kind) else ' '
      ratio = (forward + gradient) / base
      row = f'{shape!s:24}{kernel_shape!s:22}{"".join(str(strides).split()):11}{name + mark:13}'
      print(f'{row}{forward:9.1f}{gradient:9.1f}{ratio:7.3f}', flush=True)


if __name__ == '__main__':
  main()
