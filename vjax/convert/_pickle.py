"""Reads the tensors of PyTorch and Caffe2 files without PyTorch, and executes nothing inside them.

A pickle is a program that names what it calls. Here a name stands for an inert placeholder or is
refused (`_placeholders.stand_in`). What a file states about sizes is checked against the bytes
there are.
"""

import io
import mmap
import os
import pickle
import zipfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from vjax.convert import _downloads, _opcodes
from vjax.convert._placeholders import DTYPES, Storage, say, stand_in

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
REMEDY = (
  'download it again, or, if you trust it, load it with PyTorch and save its state dict alone '
  "(torch.save(model.state_dict(), 'clean.pth')) and convert that"
)


def read(path: str) -> Any:
  """Returns what a .pth, .pt, .pyth or .pkl file holds: dicts and lists, with Tensor and Array
  where arrays were.

  Raises ValueError that names what a file asks for beyond the list, and for damaged files.
  """
  try:
    with open(path, 'rb') as file:
      if zipfile.is_zipfile(file):
        return _read_zip(file, os.path.getsize(path))
      with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return _read_stream(mapped, len(mapped))
  except ValueError as error:
    raise ValueError(f'{path}: {error}; {REMEDY}') from error
  except Exception as error:  # a damaged pickle can end in any
    text = _downloads.as_text(path)
    why = f'it is text that begins {text}' if text else repr(error)[:200]
    raise ValueError(
      f'{path} is damaged, or no PyTorch or Caffe2 file ({why}); {REMEDY}'
    ) from error


class _Unpickler(pickle.Unpickler):
  def __init__(self, stream: IO[bytes], storage: Callable[..., Storage]):
    super().__init__(stream, encoding='latin1')
    self._storage = storage

  def find_class(self, module, name):
    """Returns what a name stands for. Raises ValueError for one that a harmful file would call."""
    found = stand_in(module, name)
    if found is None:
      asked = ''.join(c if c.isprintable() else '?' for c in f'{module}.{name}')[:200]
      raise ValueError(f'the file asks for {asked}, which is not a tensor and will not be run')
    return found

  def persistent_load(self, pid):
    """Returns the storage that ('storage', type, key, device, elements, ...) names."""
    kind, dtype, key, _, count, *view = pid
    if kind != 'storage' or not isinstance(dtype, str) or not isinstance(key, (str, int)):
      raise ValueError(f'the file refers to {say(kind)}, which is not the storage of a tensor')
    return self._storage(np.dtype(DTYPES[dtype]), key, count, *view)


def _load(stream: IO[bytes], length: int, storage: Callable[..., Storage]) -> Any:
  start = stream.tell()
  try:
    _opcodes.check(stream, length)
  except ValueError as error:
    raise pickle.UnpicklingError(str(error)) from error
  stream.seek(start)
  return _Unpickler(stream, storage).load()


def _read_zip(file: IO[bytes], size: int) -> Any:
  with zipfile.ZipFile(file) as archive:
    entries = {info.filename: info for info in archive.infolist()}
    stored = all(info.compress_type == zipfile.ZIP_STORED for info in entries.values())
    if not stored or sum(info.file_size for info in entries.values()) > size:
      raise ValueError('the file is a compressed archive; PyTorch does not compress what it saves')
    if any(name.endswith('/constants.pkl') for name in entries):
      raise ValueError('the file is a TorchScript archive, a program with its weights')
    pickles = [name for name in entries if name.endswith('data.pkl') and name.count('/') <= 1]
    if len(pickles) != 1:
      raise ValueError(f'the archive has {len(pickles)} entries data.pkl, a PyTorch file has one')
    root = pickles[0].removesuffix('data.pkl')
    order = archive.read(f'{root}byteorder') if f'{root}byteorder' in entries else b'little'
    storages = {}

    def storage(dtype, key, count):
      if key not in storages:
        data = archive.read(f'{root}data/{key}')
        stored = dtype.newbyteorder('>') if order == b'big' else dtype
        storages[key] = Storage(stored, count, _whole(data, key, count, dtype))
      if storages[key].dtype.newbyteorder('=') != dtype:
        raise ValueError(f'storage {say(key)} is used with two types')
      return storages[key]

    program = archive.read(pickles[0])
    return _load(io.BytesIO(program), len(program), storage)


def _read_stream(file: mmap.mmap, size: int) -> Any:
  """Reads a plain pickle, or PyTorch's format before 1.6: magic number, version, system, object,
  keys, then the numbers."""
  storages = {}

  def storage(dtype, key, count, view=None):
    if view is not None:
      raise ValueError(
        'the file has views of storages, as PyTorch before 0.4 wrote: load and save it with a '
        'newer one'
      )
    return storages.setdefault(key, Storage(dtype, count))

  first = _load(file, size, storage)
  if first != LEGACY_MAGIC:
    return first
  version, system, result, keys = (_load(file, size, storage) for _ in range(4))
  if version != 1001 or not system.get('little_endian', True):
    raise ValueError(
      f'legacy PyTorch format {say(version)}, or big-endian; need 1001, little-endian'
    )
  for key in keys:
    if not isinstance(key, (str, int)) or key not in storages:
      raise ValueError(f'the file brings numbers of an unknown storage {say(key)}')
    dtype, count = storages[key].dtype, int.from_bytes(file.read(8), 'little')
    if count != storages[key].count:
      raise ValueError(
        f'storage {say(key)} states {say(storages[key].count)} elements and brings {count}'
      )
    storages[key].data = _whole(file.read(count * dtype.itemsize), key, count, dtype)
  return result


def _whole(data: bytes, key: str | int, count: int, dtype: np.dtype) -> bytes:
  if len(data) != count * dtype.itemsize:
    raise ValueError(
      f'storage {say(key)} states {say(count)} elements of {dtype} and brings {len(data)} bytes'
    )
  return data
