"""Writes files as torch.save does, without PyTorch: stand-ins for its classes, found under its
names while pickling."""

import io
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

from vjax.convert import _pickle, _placeholders


class Stored:
  """A tensor to be written: a view of flat numbers, shared when `flat` is the same object."""

  def __init__(self, flat, offset, shape, stride, kind='Float'):
    self.flat, self.offset, self.shape, self.stride, self.kind = flat, offset, shape, stride, kind


class Standins:
  """The modules torch and torch._utils, with just what a pickle names."""

  def __init__(self, monkeypatch):
    torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')

    def _rebuild_tensor_v2(*arguments):
      raise AssertionError('only named, never called')

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = (
      'torch._utils',
      '_rebuild_tensor_v2',
    )
    utils._rebuild_tensor_v2, torch._utils = _rebuild_tensor_v2, utils
    for name in _placeholders.DTYPES:
      setattr(torch, f'{name}Storage', type(f'{name}Storage', (), {'__module__': 'torch'}))
    monkeypatch.setitem(sys.modules, 'torch', torch)
    monkeypatch.setitem(sys.modules, 'torch._utils', utils)
    self.torch, self.rebuild = torch, _rebuild_tensor_v2

  def dump(self, value, legacy: bool) -> tuple[bytes, dict[str, np.ndarray]]:
    """The pickle and the storages it refers to."""
    storages, stream, standins = {}, io.BytesIO(), self

    class Storage:
      def __init__(self, stored):
        self.stored = stored

    class Pickler(pickle.Pickler):
      def persistent_id(self, item):
        if isinstance(item, Storage):
          key = str(id(item.stored.flat))
          storages[key] = item.stored.flat
          kind = getattr(standins.torch, f'{item.stored.kind}Storage')
          return ('storage', kind, key, 'cpu', item.stored.flat.size, *([None] if legacy else []))
        return None

      def reducer_override(self, item):
        if isinstance(item, Stored):
          return standins.rebuild, (Storage(item), item.offset, item.shape, item.stride, False, {})
        return NotImplemented

    Pickler(stream, protocol=2).dump(value)
    return stream.getvalue(), storages

  def save(self, path, value) -> None:
    """The zip format, PyTorch 1.6 and later."""
    data, storages = self.dump(value, legacy=False)
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('archive/data.pkl', data)
      archive.writestr('archive/version', '3\n')
      for key, flat in storages.items():
        archive.writestr(f'archive/data/{key}', flat.tobytes())

  def save_legacy(self, path, value) -> None:
    """The stream of pickles of PyTorch before 1.6."""
    data, storages = self.dump(value, legacy=True)
    with open(path, 'wb') as file:
      for part in (
        _pickle.LEGACY_MAGIC,
        1001,
        {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {}},
      ):
        pickle.dump(part, file, protocol=2)
      file.write(data)
      pickle.dump(sorted(storages), file, protocol=2)
      for key in sorted(storages):
        file.write(struct.pack('<q', storages[key].size) + storages[key].tobytes())
