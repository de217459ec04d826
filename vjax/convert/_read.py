"""From a weights file, or a mapping, to {name in the original: NumPy array}."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import flax as safetensors

from vjax.convert import _pickle

# Where training scripts keep the weights among optimizer state, epoch and arguments; looked for in this order.
SECTIONS = ('state_dict', 'model_state', 'model_state_dict', 'model', 'blobs')
MAX_NESTING = 4


def tensors(weights: str | os.PathLike | Mapping[str, Any]) -> dict[str, np.ndarray]:
  """{name: array} of a path (.pth, .pyth, .pt, .pkl, .safetensors, .npz) or of a mapping of names to arrays.

  The prefix 'module.' of data-parallel training is taken off. Raises ValueError for files without weights, and for
  files that ask to run something.
  """
  if isinstance(weights, Mapping):
    found = weights
  else:
    path = os.fspath(weights)
    if not os.path.isfile(path):
      raise ValueError(f'weights={path!r}: no such file')
    if path.endswith('.safetensors'):
      found = safetensors.load_file(path)  # the NumPy reader of safetensors has no bfloat16
    elif path.endswith('.npz'):
      with np.load(path, allow_pickle=False) as archive:
        found = dict(archive)
    else:
      found = _pickle.read(path)
  section = _section(found)
  arrays = {str(name): _array(name, value) for name, value in section.items()}
  if arrays and all(name.startswith('module.') for name in arrays):
    arrays = {name.removeprefix('module.'): array for name, array in arrays.items()}
  return arrays


def _section(found: Any) -> Mapping[str, Any]:
  for _ in range(MAX_NESTING):
    if not isinstance(found, Mapping):
      break
    inner = next((name for name in SECTIONS if isinstance(found.get(name), Mapping)), None)
    if inner is None:
      return found
    found = found[inner]
  raise ValueError(f'no weights found: need a mapping of names to arrays, alone or under one of {SECTIONS}')


def _array(name: str, value: Any) -> np.ndarray:
  if isinstance(value, _pickle.Tensor):
    value = value.array()
  elif isinstance(value, _pickle.Array):
    value = value.array
  array = np.asarray(value)
  if array.dtype.hasobject or array.dtype.kind in 'USM':
    raise ValueError(
      f'{name!r} is a {type(value).__name__}, not an array: give the mapping that holds weights only; looked for '
      f'it under {SECTIONS}'
    )
  return array
