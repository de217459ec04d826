"""The TFRecord format: pieces of shards read by position, and whole shards record by record. A
record is: length (uint64), masked crc32c of the length, payload, masked crc32c of the payload."""

import io
import itertools
import mmap
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from etils import epath
from google_crc32c import value as crc32c

from vjax import remote

HEADER = struct.Struct('<QI')  # length, masked checksum of its 8 bytes
_OPEN_FILES = 64


def masked_crc(data: bytes) -> int:
  """The checksum of a record's part, as files hold it."""
  crc = crc32c(data)
  return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_ranges(path: str, offset: int, lengths: Sequence[int]) -> list[bytes]:
  """Pieces of these lengths that follow each other in a file from `offset`; shorter at its end. The
  one place that reads clips: local files through descriptors kept open, object stores by one ranged
  request."""
  return (
    remote.read_ranges(path, offset, lengths)
    if remote.is_remote(path)
    else FILES.read(path, offset, lengths)
  )


class Files:
  """The last few files read, kept open; a file is closed once nobody reads it."""

  def __init__(self, limit: int):
    self.limit, self.lock = limit, threading.Lock()
    self.files: OrderedDict[str, io.FileIO] = OrderedDict()

  def forget(self, paths: Sequence[str]) -> None:
    """Opens these anew when they are read next: they may have been replaced."""
    with self.lock:
      for path in paths:
        self.files.pop(path, None)

  def read(self, path: str, offset: int, lengths: Sequence[int]) -> list[bytes]:
    """Consecutive pieces of the file; threads read side by side. Raises OSError naming file and
    byte."""
    try:
      with self.lock:
        file = self.files.pop(path, None) or io.FileIO(path)
        self.files[path] = file
        if len(self.files) > self.limit:
          self.files.popitem(last=False)  # closed when its last reader lets go of it
      starts = itertools.accumulate(lengths, initial=offset)
      return [os.pread(file.fileno(), n, start) for n, start in zip(lengths, starts)]
    except OSError as e:
      raise OSError(
        e.errno, f'{path} cannot be read at byte {offset}: {os.strerror(e.errno)}'
      ) from e


FILES = Files(_OPEN_FILES)


def payloads(file: epath.Path) -> Iterator[tuple[int, bytes, int]]:
  """(byte offset, payload, its masked checksum) of every record. Raises ValueError naming file and
  offset of damage."""
  buffer, at = contents(file), 0
  while at < len(buffer):
    if at + 12 > len(buffer):
      raise ValueError(
        f'{file}: ends inside a record header at byte {at}: it was cut short; write the shard again'
      )
    length, crc = HEADER.unpack(buffer[at : at + 12])
    if masked_crc(bytes(buffer[at : at + 8])) != crc:
      raise ValueError(
        f'{file}: wrong length checksum at byte {at}: not a TFRecord file, or damaged; write it '
        'again'
      )
    if at + 16 + length > len(buffer):
      raise ValueError(
        f'{file}: the record at byte {at} needs {length} bytes, beyond the end of the file; write '
        'it again'
      )
    payload = bytes(buffer[at + 12 : at + 12 + length])
    crc = struct.unpack('<I', buffer[at + 12 + length : at + 16 + length])[0]
    if masked_crc(payload) != crc:
      raise ValueError(
        f'{file}: wrong checksum of the record at byte {at + 12}: it is damaged; write the shard '
        'again'
      )
    yield at + 12, payload, crc
    at += 16 + length


def contents(file: epath.Path) -> memoryview:
  """The bytes of a shard, mapped into memory where it is a local file."""
  if remote.is_remote(file):
    return memoryview(file.read_bytes())
  with open(file, 'rb') as f:
    size = os.fstat(f.fileno()).st_size
    return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if size else b'')
