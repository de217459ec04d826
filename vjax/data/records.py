"""TFRecord shards read by position: scanning, the index beside them, one record at a time. Neither JAX nor TensorFlow.

  python -m vjax.data.records --folder=data/foreign [--classes=names.txt]

builds index and manifest for records that DMVR, Scenic or another tool wrote. A record is: length (uint64), masked crc32c
of the length, payload, masked crc32c of the payload.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import itertools
import json
import mmap
import os
import re
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from vjax.data import wire

try:
  import google_crc32c  # in the `data` extra; payload checksums are verified where it is installed
except ImportError:
  google_crc32c = None

_SHARD = re.compile(r'(?P<split>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.tfrecord')
_OPEN_FILES = 64


@dataclass(frozen=True)
class Index:
  """Where the clips of a split are. folder, files: shards by absolute path; shard, offset, length, frames, label (N,):
  shard number, byte offset and length of the payload, frames in it, first label or -1. manifest: what the folder's
  manifest.json says; view: which labels; classes: their names."""

  folder: str
  files: tuple[str, ...]
  shard: np.ndarray
  offset: np.ndarray
  length: np.ndarray
  frames: np.ndarray
  label: np.ndarray
  manifest: dict[str, Any]
  view: str
  classes: tuple[str, ...]

  def __len__(self) -> int:
    return len(self.offset)

  def where(self, i: int) -> str:
    """'file: record i at byte b', for errors."""
    return f'{self.files[self.shard[i]]}: record {i} at byte {self.offset[i]}'


def write_index(folder: str, split: str) -> str:
  """Path of the index written: `<split>.index.npz` beside the shards `<split>-00000-of-00008.tfrecord`, ....

  Arrays, one entry a record in shard order: shard (int32), offset and length of the payload (int64), frames (int32), label
  (int32, the first of `clip/label/index`, -1 = none), label_VIEW of every `clip/label/VIEW/index`; shard_files and
  shard_bytes say which files they describe. Raises ValueError for missing shards and damaged files.
  """
  folder = epath.Path(folder)
  files = shard_files(folder, split)
  columns = scan([folder / f for f in files])
  path = folder / f'{split}.index.npz'
  save_index(path, files, [(folder / f).stat().length for f in files], columns)
  return str(path)


def save_index(path: epath.Path, files: Sequence[str], sizes: Sequence[int], columns: dict[str, np.ndarray]) -> None:
  """Writes an index under a temporary name, then renames it."""
  buffer = io.BytesIO()
  np.savez(buffer, shard_files=np.array(files, dtype=np.str_), shard_bytes=np.array(sizes, np.int64), **columns)
  _write(path, buffer.getvalue())


def shard_files(folder: str | epath.Path, split: str) -> list[str]:
  """Names of the shards of a split, in order. Raises ValueError naming those missing from the series."""
  names = sorted(p.name for p in epath.Path(folder).glob(f'{split}-*-of-*.tfrecord'))
  matches = [m for m in map(_SHARD.fullmatch, names) if m and m['split'] == split]
  if not matches:
    raise ValueError(f'no {split}-?????-of-?????.tfrecord in {folder}; splits there: {splits(folder) or "none"}')
  totals = sorted({int(m['total']) for m in matches})
  if len(totals) > 1:
    raise ValueError(f'{folder}: shards of {split} belong to series of {totals}: delete those of the wrong one')
  missing = sorted(set(range(totals[0])) - {int(m['number']) for m in matches})
  if missing:
    first = ', '.join(f'{split}-{i:05}-of-{totals[0]:05}.tfrecord' for i in missing[:5])
    raise ValueError(f'{folder}: {len(missing)} of {totals[0]} shards of {split} are missing: {first}')
  return [m[0] for m in matches]


def splits(folder: str | epath.Path) -> list[str]:
  """Names of the splits that have shards in the folder, sorted."""
  matches = (_SHARD.fullmatch(p.name) for p in epath.Path(folder).glob('*.tfrecord'))
  return sorted({m['split'] for m in matches if m})


def scan(files: Sequence[str | epath.Path]) -> dict[str, np.ndarray]:
  """Index columns (see write_index) of TFRecord files of SequenceExamples or Examples."""
  rows, labels = [], []
  for number, file in enumerate(files):
    for offset, payload in _payloads(epath.Path(file)):
      context, spans = _parse(payload, file, offset)
      rows.append((number, offset, len(payload), len(spans) or 1))  # an Example is a clip of one frame
      labels.append({v: values[0] if values else -1 for v, values in label_views(context).items()})
  table = np.array(rows, np.int64).reshape(-1, 4)
  columns = {'shard': table[:, 0].astype(np.int32), 'offset': table[:, 1], 'length': table[:, 2]}
  columns['frames'] = table[:, 3].astype(np.int32)
  for view in sorted({''}.union(*labels)):
    name = f'label_{view}' if view else 'label'
    columns[name] = np.array([row.get(view, -1) for row in labels], np.int32)
  return columns


def label_views(context: dict[str, list]) -> dict[str, list[int]]:
  """Label indices of a record by view; '' is the main one (also TFDS's `label`)."""
  views = {}
  for key, values in context.items():
    if key in ('label', 'clip/label/index'):
      views[''] = values
    elif key.startswith('clip/label/') and key.endswith('/index'):
      views[key[len('clip/label/') : -len('/index')]] = values
  return views


def open_index(folder: str, split: str, view: str = '', prepare: str = '') -> Index:
  """The index of a split, checked against its shards. Raises FileNotFoundError naming the folder looked in and the command
  that prepares it (`prepare`), ValueError for an index that does not fit its shards, or an unknown split or view."""
  folder = epath.Path(folder)
  rebuild = f'python -m vjax.data.records --folder={folder}'
  prepare = (
    prepare or f'python -m data_prep.write --out={folder} (your own videos) or {rebuild} (records from elsewhere)'
  )
  if not folder.exists():
    raise FileNotFoundError(f'no data set in {folder}; to prepare it: {prepare}')
  if not (folder / 'manifest.json').exists():
    raise FileNotFoundError(
      f'{folder} has no manifest.json, so it is not complete; to prepare or finish it: {prepare}'
    )
  manifest = json.loads((folder / 'manifest.json').read_text())
  if split not in manifest['splits']:
    raise ValueError(f'split {split!r} is not in {folder}; it has: {", ".join(sorted(manifest["splits"]))}')
  path = folder / f'{split}.index.npz'
  if not path.exists():
    raise FileNotFoundError(f'{folder} has no {path.name}; to build it: {rebuild}')
  return load_index(path, folder, manifest, view, rebuild)


def load_index(path: epath.Path, folder: epath.Path, manifest: dict[str, Any], view: str, rebuild: str) -> Index:
  """An index read and compared with the sizes of its shards; `rebuild` is the command its errors recommend."""
  with np.load(io.BytesIO(path.read_bytes())) as arrays:
    columns = {k: arrays[k] for k in arrays.files}
  names, sizes = columns.pop('shard_files'), columns.pop('shard_bytes')
  for name, size in zip(names, sizes):
    if not (folder / str(name)).exists():
      raise FileNotFoundError(
        f'{folder / str(name)} is gone, but {path.name} lists it; copy it back, or run: {rebuild}'
      )
    if (folder / str(name)).stat().length != size:
      raise ValueError(f'{folder / str(name)}: index older than its shard ({size} bytes expected); run: {rebuild}')
  labels = {k.removeprefix('label').removeprefix('_'): v for k, v in columns.items() if k.startswith('label')}
  if view not in labels:
    raise ValueError(f'{folder} has no label view {view!r}; it has: {sorted(labels)}')
  return Index(
    folder=str(folder),
    files=tuple(str(folder / str(n)) for n in names),
    label=labels[view],
    manifest=manifest,
    view=view,
    classes=tuple(manifest['views'][view]) if view else tuple(manifest['classes']),
    **{k: columns[k] for k in ('shard', 'offset', 'length', 'frames')},
  )


def read(index: Index, i: int) -> bytes:
  """Payload of record i: one read of exactly its bytes. Raises ValueError naming file, record and byte if it is damaged."""
  path, offset, length = index.files[index.shard[i]], int(index.offset[i]), int(index.length[i])
  payload, crc = read_ranges(path, offset, (length, 4))
  if len(crc) < 4:
    raise ValueError(f'{index.where(i)}: the file ends inside its {length} bytes; write the shard again')
  if google_crc32c and _mask(google_crc32c.value(payload)) != struct.unpack('<I', crc)[0]:
    raise ValueError(f'{index.where(i)}: wrong checksum, the record is damaged; write the shard again')
  return payload


def read_ranges(path: str, offset: int, lengths: Sequence[int]) -> list[bytes]:
  """Pieces of these lengths that follow each other in a file from `offset`; shorter at its end. The one place that reads
  clips: local files through descriptors kept open, anything with a scheme (gs://, s3://) through TensorFlow."""
  if '://' in path:
    import tensorflow as tf

    with tf.io.gfile.GFile(path, 'rb') as f:
      f.seek(offset)
      return [f.read(n) for n in lengths]
  return _FILES.read(path, offset, lengths)


class _Files:
  """The last few files read, kept open; a file is closed once nobody reads it."""

  def __init__(self, limit: int):
    self.limit, self.lock = limit, threading.Lock()
    self.files: OrderedDict[str, io.FileIO] = OrderedDict()

  def read(self, path: str, offset: int, lengths: Sequence[int]) -> list[bytes]:
    """Consecutive pieces of the file; threads read side by side."""
    with self.lock:
      file = self.files.pop(path, None) or io.FileIO(path)
      self.files[path] = file
      if len(self.files) > self.limit:
        self.files.popitem(last=False)  # closed when its last reader lets go of it
    starts = itertools.accumulate(lengths, initial=offset)
    return [os.pread(file.fileno(), n, start) for n, start in zip(lengths, starts)]


_FILES = _Files(_OPEN_FILES)


def _payloads(file: epath.Path) -> Iterator[tuple[int, memoryview]]:
  """(byte offset, payload) of every record. Raises ValueError naming file and offset where the file is damaged."""
  buffer, at = _contents(file), 0
  while at < len(buffer):
    if at + 12 > len(buffer):
      raise ValueError(f'{file}: ends inside a record header at byte {at}: it was cut short; write the shard again')
    length, crc = struct.unpack('<QI', buffer[at : at + 12])
    if _mask(_crc32c(bytes(buffer[at : at + 8]))) != crc:
      raise ValueError(f'{file}: wrong length checksum at byte {at}: not a TFRecord file, or damaged; write it again')
    if at + 16 + length > len(buffer):
      raise ValueError(
        f'{file}: the record at byte {at} needs {length} bytes, beyond the end of the file; write it again'
      )
    yield at + 12, buffer[at + 12 : at + 12 + length]
    at += 16 + length


def _contents(file: epath.Path) -> memoryview:
  if '://' in str(file):
    return memoryview(file.read_bytes())
  with open(file, 'rb') as f:
    size = os.fstat(f.fileno()).st_size
    return memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if size else b'')


def _parse(payload, file, offset: int):
  try:
    return wire.parse(payload)
  except ValueError as e:
    raise ValueError(f'{file}: the record at byte {offset} cannot be read: {e}') from e


def _mask(crc: int) -> int:
  return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@functools.cache
def _crc_table() -> tuple[int, ...]:
  table = range(256)
  for _ in range(8):
    table = [(c >> 1) ^ (0x82F63B78 if c & 1 else 0) for c in table]
  return tuple(table)


def _crc32c(data: bytes) -> int:
  crc, table = 0xFFFFFFFF, _crc_table()
  for byte in data:
    crc = (crc >> 8) ^ table[(crc ^ byte) & 255]
  return crc ^ 0xFFFFFFFF


def _write(path: epath.Path, data: bytes) -> None:
  temporary = path.parent / f'{path.name}.tmp-{os.getpid()}'
  temporary.write_bytes(data)
  temporary.replace(path)


def write_manifest(folder: str, classes: Sequence[str] = ()) -> str:
  """Path of the manifest.json written for a folder of records that came without one, from a scan of all its splits.

  classes: names by label index; without them the records' own `clip/label/text` is used, or the numbers.
  """
  folder = epath.Path(folder)
  names: dict[str, dict[int, str]] = {'': dict(enumerate(classes))}
  many, described = False, {}
  for split in splits(folder):
    counts, clips, frames, duration_us = [], [], 0, 0
    for file in shard_files(folder, split):
      clips.append(0)
      for offset, payload in _payloads(folder / file):
        context, spans = _parse(payload, folder / file, offset)
        for view, labels in label_views(context).items():
          texts = context.get(f'clip/label/{view}/text' if view else 'clip/label/text', [])
          if view or not classes:
            named = dict(zip(labels, (t.decode() for t in texts)))
            names.setdefault(view, {}).update({i: named.get(i, names.get(view, {}).get(i, str(i))) for i in labels})
          many |= len(labels) > 1
          counts += labels if not view else []
        clips[-1] += 1
        frames += len(spans) or 1
        duration_us += context.get('clip/end/timestamp', [0])[0] - context.get('clip/start/timestamp', [0])[0]
    described[split] = {
      'clips': sum(clips),
      'frames': frames,
      'duration_s': duration_us / 1e6,
      'shards': [_describe(folder / f, n) for f, n in zip(shard_files(folder, split), clips)],
      'clips_per_class': np.bincount(np.array(counts, np.int64)).tolist(),
    }
  listed = {view: _listed(indexed, f'{folder}, view {view!r}') for view, indexed in names.items()}
  manifest = {'format': 'vjax-1', 'name': folder.name, 'classes': listed.pop(''), 'labels': 'many' if many else 'one'}
  manifest |= {'views': listed, 'settings': {}, 'versions': {}, 'splits': described, 'failed': 0}
  _write(folder / 'manifest.json', json.dumps(manifest, indent=1).encode())
  return str(folder / 'manifest.json')


def _describe(file: epath.Path, clips: int) -> dict[str, Any]:
  buffer = _contents(file)
  return {'file': file.name, 'clips': clips, 'bytes': len(buffer), 'sha256': hashlib.sha256(buffer).hexdigest()}


def _listed(names: dict[int, str], where: str) -> list[str]:
  """Names in label order; a label between others that no record names is called by its number."""
  if any(i < 0 for i in names):
    raise ValueError(f'{where}: labels {[i for i in names if i < 0]} are negative; they must count from 0')
  return [names.get(i, str(i)) for i in range(max(names, default=-1) + 1)]


def main() -> None:
  """Builds index and manifest of a folder of foreign records."""
  parser = argparse.ArgumentParser(description='Index and manifest for TFRecords that DMVR or another tool wrote.')
  parser.add_argument('--folder', required=True, help='holds <split>-00000-of-00008.tfrecord, ...')
  parser.add_argument('--classes', help='text file, one class name a line, in label order')
  args = parser.parse_args()
  if not splits(args.folder):
    raise SystemExit(f'no <split>-?????-of-?????.tfrecord in {args.folder}')
  classes = epath.Path(args.classes).read_text().split('\n') if args.classes else []
  for split in splits(args.folder):
    print(write_index(args.folder, split), flush=True)
  if (epath.Path(args.folder) / 'manifest.json').exists():
    print('manifest.json is there and stays as it is')
  else:
    print(write_manifest(args.folder, [c for c in classes if c]))


if __name__ == '__main__':
  main()
