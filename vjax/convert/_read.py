"""From a weights file, or a mapping, to {name in the original: NumPy array}."""

import collections
import math
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from vjax.convert import _downloads, _pickle, _placeholders

# Where training scripts keep the weights among optimizer state, epoch and arguments; looked for in
# this order.
SECTIONS = ('state_dict', 'model_state', 'model_state_dict', 'model', 'module', 'blobs')
MAX_NESTING = 4
# What wraps a network puts in front of all its names: data-parallel training, torch.compile, the
# modules of Lightning and others that hold the network as an attribute.
WRAPPERS = ('module.', '_orig_mod.', 'model.', 'net.')
COUNTERS = ('n_averaged', 'steps')  # of moving averages, beside the wrapped names
# Within names: rematerialised, compiled and sharded blocks.
_WRAPPED = ('_checkpoint_wrapped_module.', '_orig_mod.', '_fsdp_wrapped_module.')
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


@dataclass(frozen=True)
class Weights:
  """Arrays of a file, and where in it they were.

  Attributes:
    tensors: {name in the original: array}.
    section: keys on the way to them, joined by '/'; '' = they are not within any.
    prefix: taken off all names.
    others: sections with arrays that were not taken.
    left_out: number of names without the prefix that was asked for.
  """

  tensors: dict[str, np.ndarray]
  section: str = ''
  prefix: str = ''
  others: tuple[str, ...] = ()
  left_out: int = 0

  def without(self, prefix: str) -> 'Weights':
    """Returns the arrays with a further prefix, which all names have, taken off."""
    tensors = {name.removeprefix(prefix): array for name, array in self.tensors.items()}
    return replace(self, tensors=tensors, prefix=self.prefix + prefix)

  def described(self) -> str:
    """Section, prefix and what was left, in words; '' where there was neither."""
    section = f'section {self.section!r}' if self.section else ''
    prefix = f'prefix {self.prefix!r} taken off' if self.prefix else ''
    left = f'{self.left_out} names without it left out' if self.left_out else ''
    others = f'other sections: {", ".join(map(repr, self.others))}' if self.others else ''
    return ', '.join(part for part in (section, prefix, left, others) if part)


def tensors(weights: str | os.PathLike | Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns {name: array} of `read`, its section and prefix chosen by their rules."""
  return read(weights).tensors


def read(
  weights: str | os.PathLike | Mapping[str, Any],
  *,
  section: str | None = None,
  prefix: str | None = None,
) -> Weights:
  """Returns the arrays of a path (.pth, .pyth, .pt, .pkl, .safetensors, .npz) or of a mapping.

  Args:
    weights: path, or mapping of names to arrays.
    section: keys on the way to the weights, joined by '/'; None = the first of SECTIONS, or the
      only one that holds arrays.
    prefix: of the names that are taken, which is taken off; None = those of WRAPPERS that all names
      have. '_checkpoint_wrapped_module.' and its like are taken out of names in any case.

  Raises ValueError for files without weights, for files that ask to run something, and, listing the
  sections, where several could be meant.
  """
  if isinstance(weights, Mapping):
    return _weights(weights, section, prefix)
  path = os.fspath(weights)
  if os.path.isdir(path):
    raise ValueError(f'{path} is a folder: give the file of weights within it')
  if not os.path.isfile(path):
    raise ValueError(f'{path}: no such file; give the file of weights (.pth, .safetensors, ...)')
  _downloads.check(path)
  safe = path.endswith('.safetensors') or _downloads.is_safetensors(path)
  if safe or path.endswith('.npz'):
    try:
      found = _safetensors(path) if safe else _npz(path)
    except Exception as error:
      raise ValueError(
        f'{path} is damaged, or holds more than arrays of numbers: {error}'
      ) from error
  else:
    found = _pickle.read(path)
  try:
    return _weights(found, section, prefix)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _weights(found: Any, section: str | None, prefix: str | None) -> Weights:
  chosen, values, others = _section(found, section)
  arrays = {str(name): _array(name, value) for name, value in values.items()}
  prefix = _common_prefix(arrays) if prefix is None else prefix
  if arrays and not any(name.startswith(prefix) for name in arrays):
    raise ValueError(
      f'--prefix={prefix} (prefix={prefix!r}) begins no name of the weights; they begin '
      f'{begin(arrays)}: give one of these, or leave it out'
    )
  named = {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}
  left_out = [n for n in arrays if not n.startswith(prefix) and not _is_counter(n)]
  plain = {_plain(name): array for name, array in named.items()}
  if len(plain) < len(named):
    raise ValueError(
      f'several names differ in {" or ".join(_WRAPPED)} alone: give the weights of one model'
    )
  return Weights(plain, chosen, prefix, others, len(left_out))


def begin(names: Iterable[str], most: int = 5) -> str:
  """The first parts of names with how many begin so, for messages, the most frequent first."""
  counts = collections.Counter(name.partition('.')[0] for name in names)
  parts = [f"'{part}.' ({count})" for part, count in counts.most_common(most)]
  return ', '.join(parts) + (' ...' if len(counts) > most else '')


def _common_prefix(names: Iterable[str]) -> str:
  """The wrappers in front of all names, counters beside them aside."""
  names, prefix = [name for name in names if not _is_counter(name)], ''
  while names:
    wrapper = next((w for w in WRAPPERS if all(name.startswith(prefix + w) for name in names)), '')
    prefix += wrapper
    if not wrapper:
      break
  return prefix


def _is_counter(name: str) -> bool:
  return name.rpartition('.')[2] in COUNTERS


def _plain(name: str) -> str:
  for wrapped in _WRAPPED:
    name = name.replace(wrapped, '')
  return name


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


def _section(found: Any, wanted: str | None) -> tuple[str, Mapping[str, Any], tuple[str, ...]]:
  """Returns (path, content) of the section with the weights, and the other sections that hold
  arrays."""
  if not isinstance(found, Mapping):
    raise ValueError(
      f'no weights found: the file holds a {type(found).__name__}; need a mapping of names to '
      'arrays. Of a whole model saved as one object, save model.state_dict() with PyTorch'
    )
  sections = dict(_sections(found))
  path = _known(found) if wanted is None else wanted
  if wanted is None and not path and sections:
    path = next(iter(sections))
    if len(sections) > 1:
      raise ValueError(f'several sections hold arrays: choose one of {_listed(sections)}')
  content = sections.get(path, found)
  for key in path.split('/') if path and path not in sections else ():
    content = content.get(key) if isinstance(content, Mapping) else None
  if not isinstance(content, Mapping):
    raise ValueError(
      f'--section={path} (section={path!r}) is not in the file; there are {_listed(sections)}'
    )
  return path, content, tuple(name for name in sections if name != path)


def _known(found: Mapping[str, Any]) -> str:
  """Path of the section under the names that training scripts give it, '' = there is none."""
  path = []
  while (
    inner := next((n for n in SECTIONS if isinstance(found.get(n), Mapping)), None)
  ) is not None:
    path.append(inner)
    found = found[inner]
    if len(path) > MAX_NESTING:
      raise ValueError(f'no weights found: more than {MAX_NESTING} sections inside each other')
  return '/'.join(path)


def _sections(
  found: Mapping[str, Any], path: str = '', seen: set[int] | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
  """Yields (path, content) of the mappings inside `found` that hold arrays, each once."""
  seen = {id(found)} if seen is None else seen
  for key, value in found.items():
    if not isinstance(key, str) or not isinstance(value, Mapping) or id(value) in seen:
      continue
    seen.add(id(value))
    name = f'{path}/{key}' if path else key
    if _has_arrays(value):
      yield name, value
    if name.count('/') < MAX_NESTING:
      yield from _sections(value, name, seen)


def _has_arrays(section: Mapping[str, Any]) -> bool:
  kinds = (_placeholders.Tensor, _placeholders.Array, np.ndarray)
  return any(isinstance(value, kinds) or _is_foreign(value) for value in section.values())


def _listed(sections: Mapping[str, Any], most: int = 12) -> str:
  names = [f'--section={_placeholders.say(name)[1:-1]}' for name in sections][:most]
  return ', '.join(names) + (' ...' if len(sections) > most else '') or 'none with arrays'


def _array(name: str, value: Any) -> np.ndarray:
  if isinstance(value, (_placeholders.Tensor, _placeholders.Array)):
    value = value.array()
  # np.asarray follows an object's own words to any place in memory, and unfolds shared lists
  # without end: what may go there is listed.
  array = (
    np.asarray(value)
    if _is_foreign(value) or isinstance(value, (np.ndarray, np.generic, int, float))
    else None
  )
  if array is None or not _numeric(array.dtype):
    raise ValueError(
      f'{_placeholders.say(name)} is a {type(value).__name__}, not an array of numbers: give the '
      f'mapping that holds weights only; looked for it under {SECTIONS}'
    )
  return array


def _is_foreign(value: Any) -> bool:
  """Returns whether an object is PyTorch's or JAX's: files hold none, mappings may."""
  return type(value).__module__.partition('.')[0] in ('torch', 'jax', 'jaxlib')


def _numeric(dtype: np.dtype) -> bool:
  """Returns whether an array is of booleans, integers or real numbers, those of ml_dtypes
  (bfloat16) among them."""
  return dtype.kind in 'biuf' or dtype.type.__module__ == 'ml_dtypes'
