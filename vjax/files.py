"""Paths on object stores: gs:// and s3:// through fsspec, for data and checkpoints alike. Importing
it makes `epath.Path('s3://...')` work; it needs the extra `cloud`.

etils hands every URL to TensorFlow once that is installed; TensorFlow has no s3:// since 2.7 and no
way to talk to an emulator. Orbax writes through epath, so what is said here holds for its folders
too.
"""

import functools
import itertools
import os
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from etils import epath
from etils.epath import backend, gpath

from vjax import s3

SCHEMES = ('gs://', 's3://')


@epath.register_path_cls(SCHEMES)
class ObjectPath(gpath.PosixGPath):
  """A path on an object store."""

  @property
  def _backend(self):
    _filesystem(str(self))  # says what to install
    return backend.fsspec_backend


def path(name: object) -> epath.Path:
  """A path, absolute where it is local."""
  return epath.Path(str(name)) if is_remote(name) else epath.Path(os.path.abspath(str(name)))


def is_remote(path: object) -> bool:
  """Returns whether a path is a URL. Raises ValueError for schemes that nothing here reads."""
  scheme, found, _ = str(path).partition('://')
  if found and scheme + found not in SCHEMES:
    raise ValueError(f'{path}: vjax reads local folders and {", ".join(SCHEMES)}; copy or mount it')
  return bool(found)


def read_ranges(path: str, offset: int, lengths: Sequence[int]) -> list[bytes]:
  """Pieces of these lengths that follow each other in a file from `offset`, in one request; shorter
  at its end. Raises OSError naming file and byte, whatever the store's own package raises."""
  if not sum(lengths):
    return [b'' for _ in lengths]
  (data,) = _spans(path, [(offset, offset + sum(lengths))])
  ends = list(itertools.accumulate(lengths))
  view = memoryview(data)
  return [bytes(view[end - length : end]) for end, length in zip(ends, lengths)]


def read_spans(path: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
  """Returns the bytes of these spans (start, end) of a file, asked for all at once; shorter at its
  end. Raises OSError naming file and byte."""
  return [bytes(data) for data in _spans(path, spans)]


def _spans(path: str, spans: Sequence[tuple[int, int]]) -> Sequence[Any]:
  """Returns what `read_spans` does, as buffers."""
  system = _filesystem(path)
  if path.startswith('s3://'):
    try:
      return s3.read_spans(system, path, spans)
    except Exception as e:
      raise _unreadable(path, spans[0][0], e) from e
  starts, ends = [a for a, _ in spans], [b for _, b in spans]
  found = system.cat_ranges([path] * len(spans), starts, ends, on_error='return')
  for start, data in zip(starts, found):
    if isinstance(data, Exception):
      raise _unreadable(path, start, data) from data
  return found


def _unreadable(path: str, offset: int, e: Exception) -> OSError:
  return OSError(f'{path} cannot be read at byte {offset}: {type(e).__name__}: {e}')


def cache_dir() -> epath.Path:
  """Returns the folder for what can be made again: $XDG_CACHE_HOME/vjax, else ~/.cache/vjax."""
  root = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
  return epath.Path(root) / 'vjax'


def check_new(flag: str, paths: Iterable[str | os.PathLike], *, overwrite: bool) -> None:
  """Raises ValueError for one of `paths` that is a folder, or that is there already and would be
  replaced without `overwrite`. flag: of the command that names the paths, for the message."""
  for file in paths:
    if path(file).is_dir():
      raise ValueError(f'{file} is a folder: give another {flag}, with the name of a file')
    if path(file).exists() and not overwrite:
      raise ValueError(
        f'{file} is there already: give another {flag}, or --overwrite to replace it'
      )


def write_bytes(file: str | os.PathLike, data: bytes, *, shared: bool = False) -> None:
  """Writes a file whole or not at all: under a temporary name beside it, which is then renamed.

  Args:
    file: path, local or on an object store, where an object is there whole or not at all anyway.
    data: content.
    shared: several writers may write the file at once: each takes a temporary name of its own.
      Otherwise it is always the same, so that what a kill leaves is overwritten by the next run.
  """
  target = path(file)
  if is_remote(target):
    target.write_bytes(data)
    return
  target.parent.mkdir(parents=True, exist_ok=True)
  temporary = f'{target}.tmp-{uuid.uuid4().hex[:8]}' if shared else f'{target}.partial'
  with open(temporary, 'wb') as stream:
    stream.write(data)
    stream.flush()
    os.fsync(stream.fileno())
  os.replace(temporary, target)


def move_aside(folder: str | os.PathLike) -> epath.Path:
  """Renames a folder to the first of FOLDER.old-1, FOLDER.old-2, ... that is free, and returns
  that."""
  source = path(folder)
  names = (source.parent / f'{source.name}.old-{number}' for number in itertools.count(1))
  target = next(name for name in names if not name.exists())
  if is_remote(source):
    system = _filesystem(str(source))
    names = system.find(str(source))
    root = system._strip_protocol(str(source))
    for name in names:  # the copy is whole before anything is removed
      system.cp_file(name, f'{target}{name.removeprefix(root)}')
    for name in names:
      system.rm_file(name)
  else:
    os.rename(source, target)
  return target


@functools.cache
def _package(scheme: str):
  import importlib

  for name in {'gs': ('gcsfs',), 's3': ('s3fs', 'obstore')}[scheme]:
    try:
      importlib.import_module(name)
    except ImportError as error:
      raise ImportError(f'{scheme}:// needs {name}: pip install "vjax[cloud]"') from error


def _filesystem(path: str):
  scheme = path.partition('://')[0]
  _package(scheme)
  return _shared_filesystem(scheme, os.getpid())


@functools.cache
def _shared_filesystem(scheme: str, process: int):
  """Returns the one file system of all threads of a process, which share its connections: fsspec
  by itself makes one for every thread, and each logs in again."""
  import fsspec

  fsspec.config.conf.setdefault(
    scheme, {'use_listings_cache': False}
  )  # other hosts write there too
  return fsspec.filesystem(scheme)
