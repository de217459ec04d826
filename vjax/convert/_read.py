"""From a weights file, or a mapping, to {name in the original: NumPy array}."""

import collections
import math
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from vjax.convert import _pickle, _placeholders

# Where training scripts keep the weights among optimizer state, epoch and arguments; looked for in
# this order.
SECTIONS = ('state_dict', 'model_state', 'model_state_dict', 'model', 'blobs')
MAX_NESTING = 4
_WRAPPED = '_checkpoint_wrapped_module.'
MAX_GROWTH = 100  # of a compressed .npz; weights hardly shrink
# Types of .safetensors: its NumPy reader lacks bfloat16, its JAX reader halves what has 64 bits.
SAFE_DTYPES = {
  'BOOL': np.bool_,
  **{
    f'{kind}{bits}': np.dtype(f'{name}{bits}')
    for kind, name in (('I', 'int'), ('U', 'uint'))
    for bits in (8, 16, 32, 64)
  },
  **{f'F{bits}': np.dtype(f'float{bits}') for bits in (16, 32, 64)},
  'BF16': ml_dtypes.bfloat16,
  'F8_E4M3': ml_dtypes.float8_e4m3fn,
  'F8_E5M2': ml_dtypes.float8_e5m2,
}


def tensors(weights: str | os.PathLike | Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns {name: array} of a path (.pth, .pyth, .pt, .pkl, .safetensors, .npz) or of a mapping of
  names to arrays.

  The prefix 'module.' of data-parallel training and '_checkpoint_wrapped_module.' of rematerialised
  blocks are taken off. Raises ValueError for files without weights, and for files that ask to run
  something.
  """
  if isinstance(weights, Mapping):
    return _named_arrays(weights)
  path = os.fspath(weights)
  if not os.path.isfile(path):
    raise ValueError(f'weights={path!r}: no such file')
  if path.endswith(('.safetensors', '.npz')):
    try:
      found = _safetensors(path) if path.endswith('.safetensors') else _npz(path)
    except Exception as error:
      raise ValueError(
        f'{path} is damaged, or holds more than arrays of numbers: {error}'
      ) from error
  else:
    found = _pickle.read(path)
  try:
    return _named_arrays(found)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _named_arrays(found: Any) -> dict[str, np.ndarray]:
  section = _section(found)
  arrays = {str(name).replace(_WRAPPED, ''): _array(name, value) for name, value in section.items()}
  if len(arrays) < len(section):
    raise ValueError(f'several names differ in {_WRAPPED!r} alone: give the weights of one model')
  if arrays and all(name.startswith('module.') for name in arrays):
    arrays = {name.removeprefix('module.'): array for name, array in arrays.items()}
  return arrays


def _safetensors(path: str) -> dict[str, np.ndarray]:
  """Arrays of a .safetensors file, each in its own type. Raises ValueError naming those of other
  types."""
  with open(path, 'rb') as file:
    entries = safetensors.deserialize(file.read())
  others = sorted(
    {f'{name} ({entry["dtype"]})' for name, entry in entries if entry['dtype'] not in SAFE_DTYPES}
  )
  if others:
    raise ValueError(
      f'its types are not read: {", ".join(others)[:200]}; save them as one of '
      f'{", ".join(SAFE_DTYPES)}'
    )
  return {
    name: np.frombuffer(entry['data'], SAFE_DTYPES[entry['dtype']]).reshape(entry['shape'])
    for name, entry in entries
  }


def _npz(path: str) -> dict[str, np.ndarray]:
  headers = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  with zipfile.ZipFile(path) as archive:
    size = sum(info.file_size for info in archive.infolist())
    if size > MAX_GROWTH * os.path.getsize(path):
      raise ValueError(f'{os.path.getsize(path)} bytes would unfold to {size}')
    names = collections.Counter(info.filename.removesuffix('.npy') for info in archive.infolist())
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
      raise ValueError(
        f'it has more than one array called {", ".join(twice)[:200]}; keep one of each name'
      )
    for info in archive.infolist():
      with archive.open(info) as member:
        shape, _, dtype = headers[np.lib.format.read_magic(member)](member)
      if not _numeric(dtype):
        raise ValueError(
          f'{info.filename} is of type {str(dtype)[:80]}: save it as real numbers, e.g. float32'
        )
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
  raise ValueError(
    f'no weights found: need a mapping of names to arrays, alone or under one of {SECTIONS}'
  )


def _array(name: str, value: Any) -> np.ndarray:
  if isinstance(value, (_placeholders.Tensor, _placeholders.Array)):
    value = value.array()
  # np.asarray follows an object's own words to any place in memory, and unfolds shared lists
  # without end: what may go there is listed. Files hold no objects of PyTorch or JAX; mappings may.
  foreign = type(value).__module__.partition('.')[0] in ('torch', 'jax', 'jaxlib')
  array = (
    np.asarray(value)
    if foreign or isinstance(value, (np.ndarray, np.generic, int, float))
    else None
  )
  if array is None or not _numeric(array.dtype):
    raise ValueError(
      f'{_placeholders.say(name)} is a {type(value).__name__}, not an array of numbers: give the '
      f'mapping that holds weights only; looked for it under {SECTIONS}'
    )
  return array


def _numeric(dtype: np.dtype) -> bool:
  """Returns whether an array is of booleans, integers or real numbers, those of ml_dtypes
  (bfloat16) among them."""
  return dtype.kind in 'biuf' or dtype.type.__module__ == 'ml_dtypes'
