"""Ends of video containers, from their bytes: where a file was cut off, which chunks an AVI has.
Demuxers do not tell: they take a cut for the end."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_TAIL = 1 << 18  # bytes at the end of a file that hold its last page or pack, at least
_TS_PACKETS = (188, 192, 204)  # bytes; those of 192 begin with 4 of a clock


def cut_inside(name: str, path: str) -> str:
  """Returns the unit inside which a file ends, '' where it ends behind one, or that is unknown.

  Args:
    name: of FFmpeg's demuxer.
    path: of the file.
  """
  check = next((check for key, check in _CHECKS.items() if key in name.split(',')), None)
  return check(path) if check else ''


@dataclass(frozen=True)
class AviChunks:
  """The chunks of one stream that are whole in an AVI file.

  Attributes:
    ticks: number of chunks: each is one tick of the stream's clock, an empty one too.
    pictures: number of those that hold data.
    cut: the file ends inside a chunk of a stream, of this one or another.
    whole: all lists of chunks say how long they are, and are there from end to end.
  """

  ticks: int
  pictures: int
  cut: bool
  whole: bool


def avi_chunks(path: str, stream: int) -> AviChunks:
  """Counts the chunks of a stream of an AVI file; no more than their headers is read."""
  ids = {b'%02d%s' % (stream, kind) for kind in (b'dc', b'db', b'DC', b'DB')}
  ticks, pictures, closed, end, at = 0, 0, True, 0, 0  # end: of the list that `at` is in
  with _Bytes(path) as data:
    size = len(data)
    while at + 8 <= size:
      head = data.read(at, 12)
      chunk, length, kind = head[:4], int.from_bytes(head[4:8], 'little'), head[8:]
      if chunk == b'RIFF' or chunk == b'LIST' and kind in (b'movi', b'rec '):
        if kind in (b'movi', b'rec '):
          closed &= length > 0  # a file that was never closed has 0
          end = max(end, at + 8 + length)
        at += 12
        continue
      if not _is_chunk(chunk) or at + 8 + length > size:  # damage, a cut, or something else behind
        break
      if chunk in ids:
        ticks, pictures = ticks + 1, pictures + (length > 0)
      at += 8 + length + length % 2
    whole = closed and 0 < end <= at
    inside = at < size and re.fullmatch(
      rb'\d{1,2}|\d\d[dw]?|\d\d(d[cb]|wb)', data.read(at, 4), re.I
    )
    return AviChunks(ticks, pictures, not whole and bool(inside), whole)


def _is_chunk(name: bytes) -> bool:
  """Returns whether four bytes can be a chunk's name: letters, digits and spaces."""
  return name.replace(b' ', b'a').isalnum()


def asf_is_whole(path: str) -> bool:
  """Returns whether an ASF file (WMV) says where its data end, and has them to there."""
  with open(path, 'rb') as file:
    header = file.read(24)
    file.seek(int.from_bytes(header[16:24], 'little'))
    data, size = file.read(24), os.path.getsize(path)
  if data[:16] != _ASF_DATA or len(data) < 24:
    return False
  length = int.from_bytes(data[16:24], 'little')
  return length > 50 and int.from_bytes(header[16:24], 'little') + length <= size


_ASF_DATA = bytes.fromhex('3626b2758e66cf11a6d900aa0062ce6c')  # id of the object with the packets


def _asf(path: str) -> str:
  with open(path, 'rb') as file:
    start = int.from_bytes(file.read(24)[16:24], 'little')
    file.seek(start)
    data = file.read(24)
  length = int.from_bytes(data[16:24], 'little')
  known = data[:16] == _ASF_DATA and 50 < length < 1 << 62
  return 'its packets' if known and start + length > os.path.getsize(path) else ''


def _matroska(path: str) -> str:
  with open(path, 'rb') as file:
    head = file.read(4096)
  if head[:4] != b'\x1a\x45\xdf\xa3':
    return ''
  at, size = _ebml_size(head, 4)
  at += size
  if head[at : at + 4] != b'\x18\x53\x80\x67':
    return ''
  at, size = _ebml_size(head, at + 4)
  return 'its segment' if size > 0 and at + size > os.path.getsize(path) else ''


def _ebml_size(data: bytes, at: int) -> tuple[int, int]:
  """(position after it, value) of an EBML length; -1 for 'unknown', which live streams use."""
  length = 9 - data[at].bit_length()
  value = int.from_bytes(data[at : at + length], 'big') & ((1 << 7 * length) - 1)
  return at + length, -1 if value == (1 << 7 * length) - 1 else value


def _mpegts(path: str) -> str:
  """Packets begin with 0x47; before the first and behind the last there may be something else."""
  size = os.path.getsize(path)
  with open(path, 'rb') as file:
    head = file.read(6 * max(_TS_PACKETS))
    for packet in _TS_PACKETS:
      first = next((o for o in range(packet) if head[o::packet][:5] == b'\x47' * 5), None)
      if first is None:
        continue
      clock = 4 if packet == 192 else 0
      rest = (size - first + clock) % packet
      file.seek(size - rest + clock)
      return 'a packet' if rest and file.read(1) in (b'\x47', b'') else ''
  return ''


def _mpeg(path: str) -> str:
  """The packets behind the last pack header, each of which says its length (MPEG-1 and MPEG-2)."""
  data = _tail(path)
  at, size = data.rfind(b'\0\0\1\xba'), len(data)
  if at < 0:
    return ''
  if at + 14 > size:
    return 'a pack'
  at += 14 + (data[at + 13] & 7) if data[at + 4] >> 6 == 1 else 12
  while at + 4 <= size and data[at : at + 3] == b'\0\0\1' and data[at + 3] >= 0xBB:
    if at + 6 > size:
      return 'a packet'
    at += 6 + int.from_bytes(data[at + 4 : at + 6], 'big')
  return 'a packet' if at > size else ''


def _ogg(path: str) -> str:
  data = _tail(path)
  at = data.rfind(b'OggS')
  if at < 0:
    return ''
  lacing = data[at + 27 : at + 27 + data[at + 26]] if at + 27 <= len(data) else b''
  whole = at + 27 <= len(data) and len(lacing) == data[at + 26]
  return '' if whole and at + 27 + len(lacing) + sum(lacing) <= len(data) else 'a page'


def _tail(path: str) -> bytes:
  with open(path, 'rb') as file:
    file.seek(max(0, os.path.getsize(path) - _TAIL))
    return file.read()


def _flv(path: str) -> str:
  with _Bytes(path) as data:
    size, at = len(data), int.from_bytes(data.read(5, 4), 'big') + 4
    while at + 11 <= size and data.at(at) & 31 in (8, 9, 18):
      at += 11 + int.from_bytes(data.read(at + 1, 3), 'big')
      if at > size:
        return 'a tag'
      at += 4
    return 'a tag' if at < size < at + 11 and data.at(at) & 31 in (8, 9, 18) else ''


def _gif(path: str) -> str:
  """Some writers leave out the last byte, the trailer: a file may end behind any block."""
  with _Bytes(path) as data:
    size, at = len(data), 13
    if size < at:
      return 'its header'
    at += _gif_colors(data.at(10))
    while at < size:
      kind = data.at(at)
      if kind == 0x21:  # extension
        at += 2
      elif kind == 0x2C and at + 9 < size:  # picture
        at += 11 + _gif_colors(data.at(at + 9))
      elif kind == 0x2C:
        return 'a picture'
      else:  # trailer, or something else
        return ''
      while at < size and (length := data.at(at)):
        at += 1 + length
      if at >= size:
        return 'a picture'
      at += 1
  return ''


def _gif_colors(flags: int) -> int:
  """Bytes of a color table."""
  return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _mp4(path: str) -> str:
  """Fragmented files only: others say in their tables what is due."""
  fragments = False
  with _Bytes(path) as data:
    size, at = len(data), 0
    while at + 8 <= size:
      head = data.read(at, 16)
      length, kind = int.from_bytes(head[:4], 'big'), head[4:8]
      length = int.from_bytes(head[8:], 'big') if length == 1 else length
      if length < 8 or not _is_chunk(kind):  # 0: to the end of the file
        return ''
      fragments |= kind == b'moof'
      at += length
      if at > size:
        return 'a fragment' if fragments else ''
    return 'a fragment' if fragments and at < size else ''


class _Bytes:
  """The bytes of a file, read where they are asked for. (Mapped memory would end the process where
  a disk fails or a file shrinks.)"""

  def __init__(self, path: str):
    self._file, self._size = open(path, 'rb'), os.path.getsize(path)

  def __enter__(self) -> _Bytes:
    return self

  def __exit__(self, *_: object) -> None:
    self._file.close()

  def __len__(self) -> int:
    return self._size

  def at(self, place: int) -> int:
    """Returns one byte, 0 behind the end."""
    return int.from_bytes(self.read(place, 1), 'big')

  def read(self, place: int, count: int) -> bytes:
    """Returns so many bytes, fewer at the end."""
    self._file.seek(place)
    return self._file.read(count)


_CHECKS = {
  'asf': _asf,
  'matroska': _matroska,
  'mpegts': _mpegts,
  'mpeg': _mpeg,
  'ogg': _ogg,
  'flv': _flv,
  'gif': _gif,
  'mp4': _mp4,
}
