"""From a weights file, or a mapping, to {name in the original: NumPy array}."""

import math
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import flax as safetensors

from vjax.convert import _pickle

# Where training scripts keep the weights among optimizer state, epoch and arguments; looked for in this order.
SECTIONS = ('state_dict', 'model_state', 'model_state_dict', 'model', 'blobs')
MAX_NESTING = 4
MAX_GROWTH = 100  # of a compressed .npz; weights hardly shrink


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
    if path.endswith(('.safetensors', '.npz')):
      try:
        # The NumPy reader of safetensors has no bfloat16.
        found = safetensors.load_file(path) if path.endswith('.safetensors') else _arrays(path)
      except Exception as error:
        raise ValueError(f'{path} is damaged, or holds more than arrays of numbers: {error}') from error
    else:
      found = _pickle.read(path)
  section = _section(found)
  arrays = {str(name): _array(name, value) for name, value in section.items()}
  if arrays and all(name.startswith('module.') for name in arrays):
    arrays = {name.removeprefix('module.'): array for name, array in arrays.items()}
  return arrays


def _arrays(path: str) -> dict[str, np.ndarray]:
  headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
  with zipfile.ZipFile(path) as archive:
    size = sum(info.file_size for info in archive.infolist())
    if size > MAX_GROWTH * os.path.getsize(path):
      raise ValueError(f'{os.path.getsize(path)} bytes would unfold to {size}')
    for info in archive.infolist():
      with archive.open(info) as member:
        shape, _, dtype = headers[np.lib.format.read_magic(member)](member)
      if math.prod(shape) * dtype.itemsize > info.file_size:
        raise ValueError(f'{info.filename} states shape {shape} and brings {info.file_size} bytes')
  with np.load(path, allow_pickle=False) as arrays:
    return dict(arrays)


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
  # Nested lists are not unfolded: shared parts could make them larger than any memory.
  array = np.asarray(None if isinstance(value, (list, tuple, dict)) else value)
  if array.dtype.hasobject or array.dtype.kind in 'USM':
    raise ValueError(
      f'{name!r} is a {type(value).__name__}, not an array: give the mapping that holds weights only; looked for '
      f'it under {SECTIONS}'
    )
  return array
