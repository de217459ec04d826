"""Reads the tensors of PyTorch and Caffe2 files without PyTorch and without executing what is
inside them.

A pickle is a program; this one may only call the few constructors listed below, all of them ours
and inert. Whatever else it asks for is refused by name. No size it states is believed before it is
checked against the bytes there are.
"""

import collections
import io
import math
import mmap
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {
  'Double': np.float64,
  'Float': np.float32,
  'Half': np.float16,
  'BFloat16': ml_dtypes.bfloat16,
  'Long': np.int64,
  'Int': np.int32,
  'Short': np.int16,
  'Char': np.int8,
  'Byte': np.uint8,
  'Bool': np.bool_,
}
MAX_DIMENSIONS = 32
MAX_TYPE_NAME = 16  # characters of '<f4' and its like
DAMAGE = (
  pickle.UnpicklingError,
  EOFError,
  zipfile.BadZipFile,
  LookupError,
  TypeError,
  AttributeError,
  MemoryError,
  OverflowError,
  RuntimeError,  # RecursionError too
  AssertionError,
  struct.error,
)
LARGEST = 2**63
SLACK = 2**20  # bytes by which what a file unfolds to may exceed it


@dataclass
class Storage:
  """A flat run of numbers, shared by the tensors that view it. Legacy files bring its bytes after
  the tensors."""

  dtype: np.dtype
  count: int
  data: bytes | None = None


@dataclass
class Tensor:
  """A view of a storage: offset and stride in elements."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  stride: tuple[int, ...]

  def array(self) -> np.ndarray:
    """Its numbers, read-only where they share memory. Raises ValueError if the view leaves its
    storage."""
    integers = (self.offset, *self.shape, *self.stride)
    if (
      len(self.shape) != len(self.stride)
      or len(self.shape) > MAX_DIMENSIONS
      or not all(map(_natural, integers))
    ):
      raise ValueError(
        f'tensor of shape {_say(self.shape)}, stride {_say(self.stride)} is malformed'
      )
    size = math.prod(self.shape)
    last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride)) if size else 0
    if size > self.storage.count or last >= max(self.storage.count, 1):
      raise ValueError(
        f'tensor of shape {_say(self.shape)}, stride {_say(self.stride)} leaves its storage of '
        f'{self.storage.count}'
      )
    if self.storage.data is None:
      raise ValueError(f'the file ends before the numbers of a tensor of shape {_say(self.shape)}')
    flat = np.frombuffer(self.storage.data, self.storage.dtype)[self.offset if size else 0 :]
    steps = tuple(s * flat.itemsize for s in self.stride)
    return np.lib.stride_tricks.as_strided(flat, self.shape, steps, writeable=False)


class Budget:
  """What a file may still make us copy or walk: one long string or tuple can be named a million
  times."""

  def __init__(self, size: int):
    self.left = size + SLACK

  def spend(self, items: Any) -> Any:
    """`items`, counted. Raises ValueError once they are more than the file of `size` bytes can
    hold."""
    self.left -= len(items)
    if self.left < 0:
      raise ValueError('the file unfolds to far more than it holds')
    return items


class Array:
  """A NumPy array being unpickled; NumPy's own constructor would allocate whatever it is told to.
  `array` is None until the file has said what is in it."""

  def __init__(self, budget: Budget):
    self.budget, self.array = budget, None

  def __setstate__(self, state):
    _, shape, dtype, fortran, data = state
    if (
      not isinstance(shape, (tuple, list))
      or len(shape) > MAX_DIMENSIONS
      or not all(map(_natural, shape))
    ):
      raise ValueError(f'a NumPy array in the file has the shape {_say(shape)}, which is malformed')
    if isinstance(data, str):
      data = self.budget.spend(data).encode('latin1')  # written by Python 2
    if not isinstance(dtype, DType) or not isinstance(data, bytes):
      raise ValueError(
        'a NumPy array in the file holds Python objects or is malformed; only numbers are read'
      )
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
      raise ValueError(f'a NumPy array of shape {_say(shape)} brings {len(data)} bytes')
    self.array = np.frombuffer(data, dtype.dtype).reshape(shape, order='F' if fortran else 'C')


class DType:
  """A NumPy number type being unpickled."""

  def __init__(self, name, *_):
    self.dtype = np.dtype(name if isinstance(name, str) and len(name) <= MAX_TYPE_NAME else 'O')
    if self.dtype.kind not in 'biuf':
      raise ValueError(f'a NumPy array in the file is of type {_say(name)}; only numbers are read')

  def __setstate__(self, state):
    if state[1] in ('<', '>'):
      self.dtype = self.dtype.newbyteorder(state[1])


def _natural(value: Any) -> bool:
  return isinstance(value, int) and 0 <= value < LARGEST


def _huge(value: Any) -> bool:
  return isinstance(value, int) and abs(value) >= LARGEST


def _say(value: Any) -> str:
  """A short form of whatever a file holds: printed whole, nested and shared parts can be without
  end."""
  if isinstance(value, (tuple, list)):
    more = ', ...' if len(value) > 8 else ''
    return f'({", ".join(_say(v) if _plain(v) else type(v).__name__ for v in value[:8])}{more})'
  if not _plain(value) or _huge(value):
    return f'some {type(value).__name__}'
  return repr(value)[:80]


def _plain(key: Any) -> bool:
  return key is None or isinstance(key, (str, bytes, int, float))


def _tensor(budget, storage, offset, size, stride, *_):
  if not isinstance(storage, Storage):
    raise ValueError('a tensor in the file has no storage')
  if max(len(size), len(stride)) > MAX_DIMENSIONS:
    raise ValueError(
      f'a tensor in the file has {len(size)} dimensions, at most {MAX_DIMENSIONS} are read'
    )
  return Tensor(storage, offset, tuple(budget.spend(size)), tuple(budget.spend(stride)))


def _scalar(budget, dtype, data=None):
  number = Array(budget)
  number.__setstate__((1, (), dtype, False, data))
  return number.array[()]


def _allowed(budget: Budget) -> dict[tuple[str, str], Any]:
  """Everything a file may name, and what it gets. Made anew for every file, so that none can alter
  it for the next. What copies spends of the file's budget."""
  inert = lambda name: type(name, (), {})  # a bag of attributes
  spend = budget.spend

  def encode(text, encoding='latin1'):
    if encoding not in ('latin1', 'latin-1', 'iso-8859-1'):
      raise ValueError(f'bytes in the file are encoded as {_say(encoding)}; only latin1 is read')
    return spend(text).encode('latin1')

  def unique(items=()):
    if not all(_plain(item) and not _huge(item) for item in spend(items)):
      raise ValueError('a set in the file holds more than numbers and strings')
    return set(items)

  def ordered(pairs=()):
    return collections.OrderedDict((_key(name), value) for name, value in spend(pairs))

  table = {
    ('collections', 'OrderedDict'): ordered,
    ('torch._utils', '_rebuild_tensor'): lambda *args: _tensor(budget, *args),
    ('torch._utils', '_rebuild_tensor_v2'): lambda *args: _tensor(budget, *args),
    ('torch._utils', '_rebuild_parameter'): lambda tensor, *_: tensor,
    ('torch', 'Size'): lambda size=(): tuple(spend(size)),
    ('torch', 'device'): lambda *name: ('device', *spend(name)),
    ('torch.serialization', '_get_layout'): lambda name: name,
    ('argparse', 'Namespace'): inert('Namespace'),
    ('_codecs', 'encode'): encode,
    ('numpy', 'dtype'): type('DType', (DType,), {}),
    ('numpy', 'ndarray'): inert('ndarray'),
  }
  for numpy_core in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    table[numpy_core, '_reconstruct'] = lambda *_: Array(budget)
    table[numpy_core, 'scalar'] = lambda *args: _scalar(budget, *args)
  for builtins in ('builtins', '__builtin__'):
    table[builtins, 'set'] = unique
  for name, dtype in DTYPES.items():
    table['torch', f'{name}Storage'] = table['torch.cuda', f'{name}Storage'] = np.dtype(dtype)
  return table


def _key(key: Any) -> Any:
  """A key of a dictionary. Tuples may hold plain values only: Python hashes nested, shared and huge
  ones without end."""
  parts = key if isinstance(key, tuple) else (key,)
  if not all(_plain(part) and not _huge(part) for part in parts):
    raise ValueError(
      'a dictionary or set in the file has a key that is no number, string, or tuple of such'
    )
  return key


class _Unpickler(pickle._Unpickler):
  """The pure Python one: a forged memo index costs it a dictionary entry, the C one gigabytes. It
  builds dictionaries, lists and the objects of the table, and alters nothing else."""

  dispatch = dict(pickle._Unpickler.dispatch)
  for refused in (
    pickle.BYTEARRAY8,
    pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER,
    pickle.EXT1,
    pickle.EXT2,
    pickle.EXT4,
  ):
    del dispatch[refused[0]]
  for refused in (pickle.FROZENSET, pickle.ADDITEMS, pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX):
    del dispatch[refused[0]]

  def __init__(self, stream, storage: Callable, size: int):
    super().__init__(stream, encoding='latin1')
    self._spend = (budget := Budget(size)).spend
    self._table, self._storage = _allowed(budget), storage
    self._bags = tuple(
      v for v in self._table.values() if isinstance(v, type) and not issubclass(v, DType)
    )

  def find_class(self, module, name):
    """What a name of the table stands for. Raises ValueError for any other."""
    if (module, name) not in self._table:
      asked = ''.join(c if c.isprintable() else '?' for c in f'{module}.{name}')[:200]
      raise ValueError(
        f'the file asks for {asked}, which is not a tensor and will not be run: if you trust the '
        'file, save '
        "its state dict alone (torch.save(model.state_dict(), 'clean.pth')) and convert that"
      )
    return self._table[module, name]

  def persistent_load(self, pid):
    """The storage that (kind, dtype, key, device, elements, ...) names. Raises ValueError for
    anything else."""
    if (
      not isinstance(pid, tuple)
      or len(pid) < 5
      or pid[0] != 'storage'
      or not isinstance(pid[1], np.dtype)
    ):
      raise ValueError(f'the file refers to {_say(pid)}, which is not the storage of a tensor')
    if not _natural(pid[4]) or not isinstance(pid[2], (str, int)):
      raise ValueError(f'the file states a storage {_say(pid[2])} of {_say(pid[4])} elements')
    return self._storage(*pid[1:5], *pid[5:])

  def load_newobj(self):
    """An empty bag. Raises ValueError for anything else."""
    if not any(self.stack[-2] is bag for bag in self._bags):
      raise ValueError('the file makes an object of what is no class')
    self._spend(self.stack[-1])
    super().load_newobj()

  dispatch[pickle.NEWOBJ[0]] = load_newobj

  def load_reduce(self):
    self._spend(self.stack[-1])  # a call copies its arguments
    super().load_reduce()

  dispatch[pickle.REDUCE[0]] = load_reduce

  def load_build(self):
    """Attributes of a bag: entries of its __dict__, never an assignment; the contents of an array.
    Those of a state dict (`_metadata`) are left out: they could hide its methods."""
    state, made = self.stack.pop(), self.stack[-1]
    if isinstance(made, (Array, DType)):
      made.__setstate__(state)
    elif isinstance(made, self._bags) and isinstance(state, dict):
      names = [name for name in self._spend(state) if isinstance(name, str)]
      special = [
        name for name in names if name.startswith('__')
      ]  # NumPy would read memory where some of them say
      if special:
        raise ValueError(
          f'the file sets {_say(special)} of a {type(made).__name__}, which no checkpoint needs'
        )
      made.__dict__.update({name: state[name] for name in names})
    elif isinstance(made, collections.OrderedDict) and isinstance(state, dict):
      pass
    else:
      raise ValueError(f'the file sets the state of a {type(made).__name__}, which has none')

  dispatch[pickle.BUILD[0]] = load_build

  def load_setitem(self):
    value, key = self.stack.pop(), self.stack.pop()
    self._fill([key, value])

  dispatch[pickle.SETITEM[0]] = load_setitem

  def load_setitems(self):
    self._fill(self.pop_mark())

  dispatch[pickle.SETITEMS[0]] = load_setitems

  def load_dict(self):
    items = self.pop_mark()
    self.append({})
    self._fill(items)

  dispatch[pickle.DICT[0]] = load_dict

  def _fill(self, items):
    made = self.stack[-1]
    if not isinstance(made, dict) or len(items) % 2:
      raise ValueError(f'the file sets items of a {type(made).__name__}')
    for key, value in zip(items[::2], items[1::2]):
      made[_key(self._spend(key) if isinstance(key, tuple) else key)] = value


def read(path: str) -> Any:
  """What a .pth, .pt, .pyth or .pkl file holds: dicts and lists, with Tensor and Array where arrays
  were.

  Raises ValueError naming what a file asks for beyond the allow-list, and for damaged files.
  """
  try:
    with open(path, 'rb') as file:
      if zipfile.is_zipfile(file):
        return _read_zip(file, os.path.getsize(path))
      with mmap.mmap(
        file.fileno(), 0, access=mmap.ACCESS_READ
      ) as mapped:  # never reads more than there is
        return _read_stream(mapped)
  except (*DAMAGE, OSError) as error:  # a forged place in the file is sought in vain
    raise ValueError(
      f'{path} is damaged, or no PyTorch or Caffe2 file: {repr(error)[:200]}'
    ) from error
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _read_zip(file: io.BufferedReader, size: int) -> Any:
  with zipfile.ZipFile(file) as archive:
    entries = {info.filename: info for info in archive.infolist()}
    stored = all(info.compress_type == zipfile.ZIP_STORED for info in entries.values())
    if not stored or sum(info.file_size for info in entries.values()) > size:
      raise ValueError('the file is a compressed archive; PyTorch does not compress what it saves')
    pickles = [name for name in entries if name.endswith('data.pkl') and name.count('/') <= 1]
    if len(pickles) != 1:
      raise ValueError(f'the archive has {len(pickles)} entries data.pkl, a PyTorch file has one')
    root = pickles[0][: -len('data.pkl')]
    order = archive.read(f'{root}byteorder') if f'{root}byteorder' in entries else b'little'
    storages = {}

    def storage(dtype, key, location, count):
      if key not in storages:
        data = archive.read(f'{root}data/{key}')
        if len(data) != count * dtype.itemsize:
          raise ValueError(
            f'storage {_say(key)} states {count} elements and brings {len(data)} bytes'
          )
        storages[key] = Storage(dtype.newbyteorder('>') if order == b'big' else dtype, count, data)
      if storages[key].dtype.newbyteorder('=') != dtype:
        raise ValueError(f'storage {_say(key)} is used with two types')
      return storages[key]

    return _Unpickler(io.BytesIO(archive.read(pickles[0])), storage, size).load()


def _read_stream(file: mmap.mmap) -> Any:
  """A plain pickle, or PyTorch's format before 1.6: magic, version, system, object, keys, then the
  numbers."""
  storages = {}

  def storage(dtype, key, location, count, view=None):
    if view is not None:
      raise ValueError(
        'the file has views of storages, as PyTorch before 0.4 wrote: load and save it with a '
        'newer one'
      )
    return storages.setdefault(key, Storage(dtype, count))

  load = lambda: _Unpickler(file, storage, len(file)).load()
  first = load()
  if first != LEGACY_MAGIC or isinstance(first, bool):
    return first
  version, system, result, keys = load(), load(), load(), load()
  if version != 1001 or not system.get('little_endian', True):
    raise ValueError(
      f'legacy PyTorch format {_say(version)}, or big-endian; need 1001, little-endian'
    )
  for key in keys:
    if not _plain(key) or key not in storages:
      raise ValueError(f'the file brings numbers of an unknown storage {_say(key)}')
    count = int.from_bytes(file.read(8), 'little')
    if count != storages[key].count:
      raise ValueError(
        f'storage {_say(key)} states {storages[key].count} elements and brings {count}'
      )
    storages[key].data = file.read(count * storages[key].dtype.itemsize)
    if len(storages[key].data) != count * storages[key].dtype.itemsize:
      raise ValueError(f'the file ends within storage {_say(key)}')
  return result
