"""Formulation of every operation on each backend; the fastest one measured there, where something
was measured.

Operations:
  depthwise, pointwise, spatial, temporal, full, grouped: kinds of 3D convolution, see
  `kernels/conv.py`.
  batch_norm, layer_norm, max_pool: 'written' (a gradient of our own) or 'derived' (JAX's).
  linear: 'rows' (tokens as one matrix) or 'plain' (`nn.Dense`).
  attention: 'heads' (matrix products, heads first), 'xla' or 'cudnn' (in half precision; else
  'xla').

`python -m benchmarks.conv`, `.gradients` and `.gpu` measure; `python -m benchmarks.gpu --apply
FILE` writes the row of GPUs.
"""

import contextlib
import contextvars
import types
from collections.abc import Iterator, Mapping

import jax

# cpu: measured on 2 x86 cores (AVX-512). gpu, tpu: not measured yet; depthwise follows from grouped
# 3D convolutions being a known weak spot of cuDNN too.
TABLE = {
  'cpu': {
    'depthwise': 'framed',
    'pointwise': 'product',
    'spatial': 'folded',
    'temporal': 'flattened',
    'full': 'taps',
    'grouped': 'taps',
    'batch_norm': 'written',
    'layer_norm': 'written',
    'max_pool': 'written',
    'linear': 'rows',
    'attention': 'heads',
  },
  'gpu': {
    'depthwise': 'shifted',
    'pointwise': 'lax',
    'spatial': 'lax',
    'temporal': 'lax',
    'full': 'lax',
    'grouped': 'lax',
    'batch_norm': 'written',
    'layer_norm': 'written',
    'max_pool': 'derived',
    'linear': 'rows',
    'attention': 'cudnn',
  },
  'tpu': {
    'depthwise': 'shifted',
    'pointwise': 'lax',
    'spatial': 'lax',
    'temporal': 'lax',
    'full': 'lax',
    'grouped': 'lax',
    'batch_norm': 'written',
    'layer_norm': 'written',
    'max_pool': 'derived',
    'linear': 'rows',
    'attention': 'xla',
  },
}
# Channels of a head, up to which cuDNN's attention is used; wider ones were not tried.
CUDNN_WIDTH = 128


_NONE: Mapping[str, str] = types.MappingProxyType({})
_OTHERS: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar(
  'formulations in place of the table', default=_NONE
)


@contextlib.contextmanager
def using(**formulations: str) -> Iterator[None]:
  """Chooses formulations of operations, by their names, in functions that are traced inside."""
  token = _OTHERS.set({**_OTHERS.get(), **formulations})
  try:
    yield
  finally:
    _OTHERS.reset(token)


def chosen(operation: str) -> str:
  """Name of the formulation of an operation on the default backend."""
  others = _OTHERS.get()
  return others[operation] if operation in others else TABLE[jax.default_backend()][operation]
