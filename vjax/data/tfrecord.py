"""The TFRecord format: names of shards, framing, and reading of byte ranges.

A record is its length (uint64), the length's masked CRC-32C, the payload, and the payload's masked
CRC-32C (tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import io
import itertools
import mmap
import os
import re
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from etils import epath
from google_crc32c import Checksum
from google_crc32c import value as crc32c

from vjax import files
from vjax.data.split_names import SPLITS

HEADER = struct.Struct('<QI')  # length, masked CRC of its 8 bytes
_CRC = struct.Struct('<I')
# Names of shards: ours, those of DMVR, and those of Scenic and TensorFlow Datasets.
FORMS = {
  'vjax': '{split}-{number}-of-{total}.tfrecord',
  'dmvr': '{split}-{number}-of-{total}',
  'scenic': '{split}.tfrecord-{number}-of-{total}',
}
_SHARD = re.compile(
  r'(?P<split>.+?)(?P<before>\.tfrecord)?-(?P<number>\d{5,})-of-(?P<total>\d{5,})'
  r'(?P<after>\.tfrecord)?'
)
_USUAL = '|'.join(SPLITS)
_PREFIXED = re.compile(rf'(?!(?:{_USUAL})[-_.])(?P<prefix>.+[-_.])(?P<split>{_USUAL})')
# Shards of other formats, such as those of TensorFlow's checkpoints and of ArrayRecord.
_OTHERS = re.compile(r'\.(data|index|array_record|riegeli|recordio|parquet|arrow|csv|json)$')
_OPEN_FILES = 64
_CHUNK = 1 << 20


def masked_crc(data: bytes) -> int:
  """Returns the CRC-32C of `data`, rotated and shifted as TFRecord files store it."""
  crc = crc32c(data)
  return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def encode(payload: bytes) -> bytes:
  """Returns the payload in TFRecord framing."""
  length = struct.pack('<Q', len(payload))
  return b''.join((length, _CRC.pack(masked_crc(length)), payload, _CRC.pack(masked_crc(payload))))


def shard_files(folder: str | epath.Path, split: str) -> list[str]:
  """Returns the names of the shards of a split, in order.

  Raises ValueError for missing shards, for shards of two series, and for shards whose names are of
  two forms.
  """
  series = _series(folder)
  matches = series.get(split) or series.get(_with_prefix(folder, series).get(split, ''), [])
  if not matches:
    raise ValueError(
      f'no {" or ".join(shard_name(split, "?????", "?????", form) for form in FORMS)} in {folder}; '
      f'splits there: {splits(folder) or "none"}'
    )
  forms = {_form_of(m): m[0] for m in matches}
  if len(forms) > 1:
    raise ValueError(
      f'{folder}: shards of {split} have names of {len(forms)} forms '
      f'({", ".join(forms[form] for form in sorted(forms))}): delete or move those of one form, so '
      'that no clip counts twice'
    )
  totals = sorted({int(m['total']) for m in matches})
  if len(totals) > 1:
    raise ValueError(
      f'{folder}: shards of {split} belong to series of {totals}: delete those of the wrong one'
    )
  by_number = {int(m['number']): m[0] for m in matches}
  missing = sorted(set(range(totals[0])) - set(by_number))
  if missing:
    (form,), stem = forms, matches[0]['split']
    first = ', '.join(shard_name(stem, i, totals[0], form) for i in missing[:5])
    raise ValueError(
      f'{folder}: {len(missing)} of {totals[0]} shards of {split} are missing: {first}'
    )
  if beyond := sorted(set(by_number) - set(range(totals[0]))):
    raise ValueError(
      f'{epath.Path(folder) / by_number[beyond[0]]}: shards count from 0, so that there is no '
      f'number {beyond[0]} of {totals[0]}: rename the shards of {split} or write them again'
    )
  return [by_number[i] for i in sorted(by_number)]


def splits(folder: str | epath.Path) -> list[str]:
  """Returns the names of the splits that have shards in the folder, sorted.

  A name of the dataset before that of the split (kinetics-train, kinetics-val) is left out where
  all shards have the same one, and the rest is a usual name of a split.
  """
  series = _series(folder)
  return sorted(_with_prefix(folder, series) or series)


def all_shards(folder: str | epath.Path) -> list[epath.Path]:
  """Returns the paths of all shards in the folder."""
  return [epath.Path(folder) / m[0] for matches in _series(folder).values() for m in matches]


def shard_name(split: str, number: int | str, total: int | str, form: str = 'vjax') -> str:
  """Returns the name of a shard in one of FORMS."""
  number, total = (f'{n:05}' if isinstance(n, int) else n for n in (number, total))
  return FORMS[form].format(split=split, number=number, total=total)


def _form_of(match: re.Match[str]) -> str:
  """Returns the one of FORMS that a shard's name has."""
  return 'scenic' if match['before'] else 'vjax' if match['after'] else 'dmvr'


def _series(folder: str | epath.Path) -> dict[str, list[re.Match[str]]]:
  """Returns the shards in a folder, in order of their names, by what their names begin with."""
  series: dict[str, list[re.Match[str]]] = {}
  for name in sorted(p.name for p in epath.Path(folder).glob('*-of-*')):
    match = _SHARD.fullmatch(name)
    if match and not (match['before'] and match['after']) and not _OTHERS.search(match['split']):
      series.setdefault(match['split'], []).append(match)
  return series


def _with_prefix(folder: str | epath.Path, series: dict[str, list]) -> dict[str, str]:
  """Returns {split: name with the dataset's before it}; nothing where that is not certain.

  An index of the whole name is of a dataset whose splits are called so.
  """
  found = [_PREFIXED.fullmatch(name) for name in series]
  known = [m for m in found if m]
  certain = len(known) == len(found) and len({m['prefix'] for m in known}) == 1
  indexed = any((epath.Path(folder) / f'{name}.index.npz').exists() for name in series)
  return {m['split']: m[0] for m in known} if certain and not indexed else {}


def payloads(file: epath.Path) -> Iterator[tuple[int, bytes, int]]:
  """Yields (byte offset, payload, its masked CRC) of every record of a file.

  Raises ValueError naming file and offset of damage.
  """
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
    (crc,) = _CRC.unpack(buffer[at + 12 + length : at + 16 + length])
    if masked_crc(payload) != crc:
      raise ValueError(
        f'{file}: wrong checksum of the record at byte {at + 12}: it is damaged; write the shard '
        'again'
      )
    yield at + 12, payload, crc
    at += 16 + length


def contents(file: epath.Path) -> memoryview:
  """Returns the bytes of a shard; a local file is mapped into memory."""
  if files.is_remote(file):
    return memoryview(file.read_bytes())
  with open(file, 'rb') as f:
    size = os.fstat(f.fileno()).st_size
    return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if size else b'')


def size_and_crc(file: epath.Path) -> tuple[int, str]:
  """Returns the number of bytes of a shard, and the CRC-32C (not masked) of all of them, 8 hex
  digits."""
  buffer, checksum = contents(file), Checksum()
  for start in range(0, len(buffer), _CHUNK):
    checksum.update(bytes(buffer[start : start + _CHUNK]))
  return len(buffer), checksum.digest().hex()


class OpenFiles:
  """Keeps the last `limit` files open; a file is closed once no thread reads it."""

  def __init__(self, limit: int):
    self._limit, self._lock = limit, threading.Lock()
    self._files: OrderedDict[str, io.FileIO] = OrderedDict()

  def __len__(self) -> int:
    return len(self._files)

  def forget(self, paths: Sequence[str] | None = None) -> None:
    """Drops these files, or all: the next read opens them again."""
    with self._lock:
      for path in list(self._files) if paths is None else paths:
        self._files.pop(path, None)

  def read(self, path: str, offset: int, lengths: Sequence[int]) -> list[bytes]:
    """Returns consecutive pieces of the file; threads read in parallel.

    Raises OSError naming file and byte.
    """
    try:
      with self._lock:
        file = self._files.pop(path, None) or io.FileIO(path)
        self._files[path] = file
        if len(self._files) > self._limit:
          self._files.popitem(last=False)  # closed when its last reader is done
      starts = itertools.accumulate(lengths, initial=offset)
      return [os.pread(file.fileno(), n, start) for n, start in zip(lengths, starts)]
    except OSError as e:
      raise OSError(
        e.errno, f'{path} cannot be read at byte {offset}: {os.strerror(e.errno)}'
      ) from e


_FILES = OpenFiles(_OPEN_FILES)
# Spans with fewer bytes between them are read as one. A page of a disk is read whole anyway; a
# request costs an object store's client as much processor time as some hundred kilobytes.
_NEAR_LOCAL, _NEAR_REMOTE = 1 << 12, 1 << 18


def read_ranges(path: str, offset: int, lengths: Sequence[int]) -> list[bytes]:
  """Returns consecutive pieces of these lengths of a file, from `offset`; shorter at its end.

  All records are read by position here: local files through descriptors kept open, object stores by
  one ranged request.
  """
  if files.is_remote(path):
    return files.read_ranges(path, offset, lengths)
  return _FILES.read(path, offset, lengths)


def read_spans(path: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
  """Returns the bytes of spans (start, end) of a file, in any order; shorter at its end.

  Spans near each other are one read. The reads of a file on an object store go out together.
  """
  remote = files.is_remote(path)
  order = sorted(set(spans))
  merged: list[tuple[int, int]] = []
  for start, end in order:
    if merged and start <= merged[-1][1] + (_NEAR_REMOTE if remote else _NEAR_LOCAL):
      merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
    else:
      merged.append((start, end))
  if remote:
    blocks = files.read_spans(path, merged)
  else:
    blocks = [_FILES.read(path, start, (end - start,))[0] for start, end in merged]
  found, i = {}, 0
  for start, end in order:
    while start > merged[i][1] or end > merged[i][1]:
      i += 1
    found[start, end] = blocks[i][start - merged[i][0] : end - merged[i][0]]
  return [found[span] for span in spans]


def forget(paths: Sequence[str] | None = None) -> None:
  """Closes these files, or all. Call it for files that may have been replaced or moved."""
  _FILES.forget(paths)
