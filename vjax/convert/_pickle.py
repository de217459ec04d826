"""Reads the tensors of PyTorch and Caffe2 files without PyTorch and without executing what is inside them.

A pickle is a program; this one may only call the few constructors listed below, all of them ours and inert. Whatever
else it asks for is refused by name. No size it states is believed before it is checked against the bytes there are.
"""

import collections
import io
import math
import mmap
import os
import pickle
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
DAMAGE = (
  pickle.UnpicklingError,
  EOFError,
  zipfile.BadZipFile,
  LookupError,
  TypeError,
  AttributeError,
  MemoryError,
  OverflowError,
  RecursionError,
)


@dataclass
class Storage:
  """A flat run of numbers, shared by the tensors that view it. Legacy files bring its bytes after the tensors."""

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
    """Its numbers, read-only where they share memory. Raises ValueError if the view leaves its storage."""
    integers = (self.offset, *self.shape, *self.stride)
    if len(self.shape) != len(self.stride) or len(self.shape) > MAX_DIMENSIONS or not all(map(_natural, integers)):
      raise ValueError(f'tensor of shape {self.shape}, stride {self.stride}, offset {self.offset} is malformed')
    size = math.prod(self.shape)
    last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride)) if size else 0
    if size > self.storage.count or last >= max(self.storage.count, 1):
      raise ValueError(
        f'tensor of shape {self.shape}, stride {self.stride} leaves its storage of {self.storage.count}'
      )
    if self.storage.data is None:
      raise ValueError(f'the file ends before the numbers of a tensor of shape {self.shape}')
    flat = np.frombuffer(self.storage.data, self.storage.dtype)[self.offset if size else 0 :]
    steps = tuple(s * flat.itemsize for s in self.stride)
    return np.lib.stride_tricks.as_strided(flat, self.shape, steps, writeable=False)


class Array:
  """A NumPy array being unpickled; NumPy's own constructor would allocate whatever it is told to."""

  def __setstate__(self, state):
    _, shape, dtype, fortran, data = state
    if isinstance(data, str):
      data = data.encode('latin1')  # written by Python 2
    if not isinstance(dtype, DType) or not isinstance(data, bytes) or not all(map(_natural, shape)):
      raise ValueError('a NumPy array in the file holds Python objects or is malformed; only numbers are read')
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
      raise ValueError(f'a NumPy array of shape {shape} brings {len(data)} bytes')
    self.array = np.frombuffer(data, dtype.dtype).reshape(shape, order='F' if fortran else 'C')


class DType:
  """A NumPy number type being unpickled."""

  def __init__(self, name, *_):
    self.dtype = np.dtype(name if isinstance(name, str) else 'O')
    if self.dtype.kind not in 'biuf':
      raise ValueError(f'a NumPy array in the file is of type {name!r}; only numbers are read')

  def __setstate__(self, state):
    if state[1] in ('<', '>'):
      self.dtype = self.dtype.newbyteorder(state[1])


def _natural(value: Any) -> bool:
  return isinstance(value, int) and value >= 0


def _tensor(storage, offset, size, stride, *_):
  if not isinstance(storage, Storage):
    raise ValueError('a tensor in the file has no storage')
  return Tensor(storage, offset, tuple(size), tuple(stride))


def _scalar(dtype, data=None):
  number = Array()
  number.__setstate__((1, (), dtype, False, data))
  return number.array[()]


def _latin1(text, encoding='latin1'):
  if encoding not in ('latin1', 'latin-1', 'iso-8859-1'):
    raise ValueError(f'bytes in the file are encoded as {encoding!r}; only latin1 is read')
  return text.encode('latin1')


def _allowed() -> dict[tuple[str, str], Any]:
  """Everything a file may name, and what it gets. Made anew for every file, so that none can alter it for the next."""
  inert = lambda name: type(name, (), {})  # a bag of attributes
  table = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch._utils', '_rebuild_tensor'): _tensor,
    ('torch._utils', '_rebuild_tensor_v2'): _tensor,
    ('torch._utils', '_rebuild_parameter'): lambda tensor, *_: tensor,
    ('torch', 'Size'): lambda size=(): tuple(size),
    ('torch', 'device'): lambda *name: ('device', *name),
    ('torch.serialization', '_get_layout'): lambda name: name,
    ('argparse', 'Namespace'): inert('Namespace'),
    ('_codecs', 'encode'): _latin1,
    ('numpy', 'dtype'): type('DType', (DType,), {}),
    ('numpy', 'ndarray'): inert('ndarray'),
  }
  for numpy_core in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    table[numpy_core, '_reconstruct'] = lambda *_: Array()
    table[numpy_core, 'scalar'] = _scalar
  for builtins in ('builtins', '__builtin__'):
    table[builtins, 'set'] = lambda items=(): set(items)
  for name, dtype in DTYPES.items():
    table['torch', f'{name}Storage'] = table['torch.cuda', f'{name}Storage'] = np.dtype(dtype)
  return table


class _Unpickler(pickle._Unpickler):
  """The pure Python one: a forged memo index costs it a dictionary entry, the C one gigabytes."""

  def __init__(self, stream, storage: Callable):
    super().__init__(stream, encoding='latin1')
    self._table, self._storage = _allowed(), storage

  def find_class(self, module, name):
    if (module, name) not in self._table:
      raise ValueError(
        f'the file asks for {module}.{name}, which is not a tensor and will not be run: if you trust the file, save '
        "its state dict alone (torch.save(model.state_dict(), 'clean.pth')) and convert that"
      )
    return self._table[module, name]

  def persistent_load(self, pid):
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != 'storage' or not isinstance(pid[1], np.dtype):
      raise ValueError(f'the file refers to {str(pid)[:80]!r}, which is not the storage of a tensor')
    if not _natural(pid[4]):
      raise ValueError(f'the file states a storage of {pid[4]!r} elements')
    return self._storage(*pid[1:5], *pid[5:])


def read(path: str) -> Any:
  """What a .pth, .pt, .pyth or .pkl file holds: dicts and lists, with Tensor and Array where arrays were.

  Raises ValueError naming what a file asks for beyond the allow-list, and for damaged files.
  """
  try:
    with open(path, 'rb') as file:
      if zipfile.is_zipfile(file):
        return _read_zip(file, os.path.getsize(path))
      with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:  # never reads more than there is
        return _read_stream(mapped)
  except DAMAGE as error:
    raise ValueError(f'{path} is damaged, or no PyTorch or Caffe2 file: {error!r}') from error


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
          raise ValueError(f'storage {key} states {count} elements and brings {len(data)} bytes')
        storages[key] = Storage(dtype.newbyteorder('>') if order == b'big' else dtype, count, data)
      if storages[key].dtype.newbyteorder('=') != dtype:
        raise ValueError(f'storage {key} is used with two types')
      return storages[key]

    return _Unpickler(io.BytesIO(archive.read(pickles[0])), storage).load()


def _read_stream(file: mmap.mmap) -> Any:
  """A plain pickle, or PyTorch's format before 1.6: magic, version, system, object, keys, then the numbers."""
  storages = {}

  def storage(dtype, key, location, count, view=None):
    if view is not None:
      raise ValueError(
        'the file has views of storages, as PyTorch before 0.4 wrote: load and save it with a newer one'
      )
    return storages.setdefault(key, Storage(dtype, count))

  load = lambda: _Unpickler(file, storage).load()
  first = load()
  if first != LEGACY_MAGIC or isinstance(first, bool):
    return first
  version, system, result, keys = load(), load(), load(), load()
  if version != 1001 or not system.get('little_endian', True):
    raise ValueError(f'legacy PyTorch format {version}, little_endian={system.get("little_endian")}: need 1001, True')
  for key in keys:
    if key not in storages:
      raise ValueError(f'the file brings numbers of an unknown storage {key!r}')
    count = int.from_bytes(file.read(8), 'little')
    if count != storages[key].count:
      raise ValueError(f'storage {key} states {storages[key].count} elements and brings {count}')
    storages[key].data = file.read(count * storages[key].dtype.itemsize)
    if len(storages[key].data) != count * storages[key].dtype.itemsize:
      raise ValueError(f'the file ends within storage {key}')
  return result
