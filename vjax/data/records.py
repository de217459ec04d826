"""TFRecord shards read by position: scanning, the index beside them, one record at a time. Neither
JAX nor TensorFlow.

  python -m vjax.data.records --folder=data/foreign [--classes=names.txt]

builds index and manifest for records that DMVR, Scenic or another tool wrote.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import struct
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from etils import epath

from vjax import remote
from vjax.data import recordio, wire

_SHARD = re.compile(r'(?P<split>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.tfrecord')
TABLE = np.dtype(
  [('start', '<u4'), ('length', '<u4'), ('crc', '<u4')]
)  # a frame's bytes in the payload
_MOST_CLASSES = 1_000_000  # a larger label is damage, and would ask for a list of as many names


@dataclass(frozen=True)
class Index:
  """Where the clips of a split are. folder, files: shards by absolute path; shard, offset, length,
  frames, label (N,): shard number, byte offset and length of the payload, frames in it, first label
  or -1. manifest: what the folder's manifest.json says; view: which labels; classes: their names.
  crc (N,): masked checksums of the payloads, None in indexes made before they were kept; rebuild:
  the command that makes the index again. head, head_crc (N,), first (N,), table: what it takes to
  read single frames, see vjax.data.clips; None where only whole records can be read."""

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
  crc: np.ndarray | None
  rebuild: str
  head: np.ndarray | None = None
  head_crc: np.ndarray | None = None
  first: np.ndarray | None = None
  table: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.offset)

  def where(self, i: int) -> str:
    """'file: record i at byte b', for errors."""
    return f'{self.files[self.shard[i]]}: record {i} at byte {self.offset[i]}'


def write_index(folder: str, split: str) -> str:
  """Path of the index written: `<split>.index.npz` beside the shards
  `<split>-00000-of-00008.tfrecord`, ....

  Arrays, one entry a record in shard order: shard (int32), offset and length of the payload
  (int64), frames (int32), label (int32, the first of `clip/label/index`, -1 = none), label_VIEW of
  every `clip/label/VIEW/index`, crc (uint32) of the payload as it stands in the file, head (int32)
  and head_crc (uint32): the bytes before its first frame; shard_files and shard_bytes say which
  files they describe. `<split>.frames` beside it holds a row of TABLE for every frame. Raises
  ValueError for missing shards and damaged files.
  """
  folder = epath.Path(folder)
  files = shard_files(folder, split)
  path = folder / f'{split}.index.npz'
  temporary = folder / f'{table_path(path).name}.tmp-{os.getpid()}'
  with temporary.open('wb') as table:
    columns = scan([folder / f for f in files], table)
  temporary.replace(table_path(path))
  save_index(path, files, [(folder / f).stat().length for f in files], columns)
  return str(path)


def table_path(index: epath.Path) -> epath.Path:
  """Where the frame table of an index lies."""
  return index.parent / f'{index.name.removesuffix(".index.npz")}.frames'


def save_index(
  path: epath.Path, files: Sequence[str], sizes: Sequence[int], columns: dict[str, np.ndarray]
) -> None:
  """Writes an index under a temporary name, then renames it."""
  buffer = io.BytesIO()
  np.savez(
    buffer,
    shard_files=np.array(files, dtype=np.str_),
    shard_bytes=np.array(sizes, np.int64),
    **columns,
  )
  write(path, buffer.getvalue())


def shard_files(folder: str | epath.Path, split: str) -> list[str]:
  """Names of the shards of a split, in order. Raises ValueError naming those missing from the
  series."""
  names = sorted(p.name for p in epath.Path(folder).glob(f'{split}-*-of-*.tfrecord'))
  matches = [m for m in map(_SHARD.fullmatch, names) if m and m['split'] == split]
  if not matches:
    raise ValueError(
      f'no {split}-?????-of-?????.tfrecord in {folder}; splits there: {splits(folder) or "none"}'
    )
  totals = sorted({int(m['total']) for m in matches})
  if len(totals) > 1:
    raise ValueError(
      f'{folder}: shards of {split} belong to series of {totals}: delete those of the wrong one'
    )
  missing = sorted(set(range(totals[0])) - {int(m['number']) for m in matches})
  if missing:
    first = ', '.join(f'{split}-{i:05}-of-{totals[0]:05}.tfrecord' for i in missing[:5])
    raise ValueError(
      f'{folder}: {len(missing)} of {totals[0]} shards of {split} are missing: {first}'
    )
  return [m[0] for m in matches]


def splits(folder: str | epath.Path) -> list[str]:
  """Names of the splits that have shards in the folder, sorted."""
  matches = (_SHARD.fullmatch(p.name) for p in epath.Path(folder).glob('*.tfrecord'))
  return sorted({m['split'] for m in matches if m})


def scan(files: Sequence[str | epath.Path], table: BinaryIO | None = None) -> dict[str, np.ndarray]:
  """Index columns (see write_index) of TFRecord files of SequenceExamples or Examples; a row of
  TABLE for each of their frames is appended to the file `table`, if there is one."""
  rows, labels, heads = [], [], []
  for number, file in enumerate(files):
    for offset, payload, crc in recordio.payloads(epath.Path(file)):
      context, spans, views = parse(payload, file, offset)
      frames = len(spans) or len(context.get('image', []))  # an Example is a clip of one frame
      rows.append((number, offset, len(payload), frames, crc))
      if table is not None:
        heads.append(_tabulate(payload, context, spans, frames, table))
      labels.append({view: values[0] if values else -1 for view, values in views.items()})
  shard, offset, length, frames, crc = np.array(rows, np.int64).reshape(-1, 5).T
  columns = {'shard': shard.astype(np.int32), 'offset': offset, 'length': length}
  columns |= {'frames': frames.astype(np.int32), 'crc': crc.astype(np.uint32)}
  if table is not None:
    head, head_crc = np.array(heads, np.int64).reshape(-1, 2).T
    columns |= {'head': head.astype(np.int32), 'head_crc': head_crc.astype(np.uint32)}
  for view in sorted({''}.union(*labels)):
    name = f'label_{view}' if view else 'label'
    columns[name] = np.array([row.get(view, -1) for row in labels], np.int32)
  return columns


def _tabulate(
  payload: bytes, context: dict, spans: list, frames: int, table: BinaryIO
) -> tuple[int, int]:
  """(length, checksum) of what precedes the first frame, after the frames' rows are appended to the
  table. Length 0: the context is not whole there, or a frame is none, so that the record must be
  read whole; its rows are zeros."""
  rows, head = np.zeros(frames, TABLE), spans[0][0] if spans else 0
  try:
    if head and wire.context(payload[:head]) == context:
      places = [wire.frame_span(payload, span) for span in spans]
      rows[:] = [(a, b - a, recordio.masked_crc(payload[a:b])) for a, b in places]
    else:
      head = 0
  except ValueError:  # said when the frame is read
    head = 0
  table.write(rows.tobytes())
  return head, recordio.masked_crc(payload[:head])


def label_views(context: dict[str, list]) -> dict[str, list[int]]:
  """Label indices of a record by view; '' is the main one (also TFDS's `label`). Raises ValueError
  for what is none."""
  views = {}
  for key, values in context.items():
    if key in ('label', 'clip/label/index'):
      views[''] = values
    elif key.startswith('clip/label/') and key.endswith('/index'):
      views[key[len('clip/label/') : -len('/index')]] = values
    else:
      continue
    wrong = [v for v in values if not isinstance(v, int) or not -1 <= v < _MOST_CLASSES]
    if wrong:
      raise ValueError(
        f'{key} holds {wrong[0]!r:.40}; labels are whole numbers below {_MOST_CLASSES}, -1 for none'
      )
  return views


def number(context: dict[str, list], key: str) -> float:
  """The first value of a record's feature, 0 if it has none. Raises ValueError for one that is no
  finite number."""
  value = (context.get(key) or [0])[0]
  if isinstance(value, bytes) or not -np.inf < value < np.inf:
    raise ValueError(f'{key} is {value!r:.40}; it must be a finite number')
  return value


def open_index(folder: str, split: str, view: str = '', prepare: str = '') -> Index:
  """The index of a split, checked against its shards. Raises FileNotFoundError naming the folder
  looked in and the command that prepares it (`prepare`), ValueError for an index that does not fit
  its shards, or an unknown split or view."""
  folder = epath.Path(folder)
  rebuild = f'python -m vjax.data.records --folder={folder}'
  prepare = (
    prepare
    or f'python -m data_prep.write --out={folder} (your own videos) or {rebuild} (records from '
    'elsewhere)'
  )
  if not folder.exists():
    raise FileNotFoundError(f'no data set in {folder}; to prepare it: {prepare}')
  if not (folder / 'manifest.json').exists():
    raise FileNotFoundError(
      f'{folder} has no manifest.json, so it is not complete; to prepare or finish it: {prepare}'
    )
  manifest = _read_manifest(folder / 'manifest.json', prepare)
  if split not in manifest['splits']:
    raise ValueError(
      f'split {split!r} is not in {folder}; it has: {", ".join(sorted(manifest["splits"]))}'
    )
  path = folder / f'{split}.index.npz'
  if not path.exists():
    raise FileNotFoundError(f'{folder} has no {path.name}; to build it: {rebuild}')
  index = load_index(path, folder, manifest, view, rebuild)
  clips = manifest['splits'][split].get('clips', len(index))
  if clips != len(index):
    raise ValueError(
      f'{folder}: manifest.json counts {clips} clips of {split}, {path.name} {len(index)}: they '
      'are not of one making; '
      f'copy both from where they were made, or delete manifest.json and run: {rebuild}'
    )
  return index


def _read_manifest(path: epath.Path, prepare: str) -> dict[str, Any]:
  try:
    manifest = json.loads(path.read_bytes())
    lacking = {'classes', 'views', 'splits'} - set(manifest)
  except (ValueError, TypeError, RecursionError) as e:
    raise ValueError(
      f'{path} is damaged ({e}); copy it from where it was made, or prepare again: {prepare}'
    ) from e
  wrong = [f'it lacks {sorted(lacking)}'] if lacking else _wrong_types(manifest)
  if wrong:
    raise ValueError(f'{path} is not a manifest of records: {wrong[0]}; prepare again: {prepare}')
  return manifest


def _wrong_types(manifest: Any) -> list[str]:
  """What keeps a manifest's entries from being what they are named."""
  if not isinstance(manifest, dict):
    return ['it is no object']
  names = lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value)
  views, splits = manifest['views'], manifest['splits']
  wrong = [
    f'{key} is no object' for key in ('views', 'splits') if not isinstance(manifest[key], dict)
  ]
  lists = {'classes': manifest['classes']} | (
    {f'views.{v}': n for v, n in views.items()} if not wrong else {}
  )
  wrong += [f'{key} is no list of names' for key, value in lists.items() if not names(value)]
  if not wrong:
    twice = {
      key: [n for n, count in Counter(value).items() if count > 1] for key, value in lists.items()
    }
    wrong += [f'{key} has {repeated[0]!r} twice' for key, repeated in twice.items() if repeated]
    counts = {
      name: value.get('clips', 0) if isinstance(value, dict) else None
      for name, value in splits.items()
    }
    wrong += [
      f'splits.{name} is no description of a split'
      for name, n in counts.items()
      if type(n) is not int
    ]
  return wrong


def load_index(
  path: epath.Path, folder: epath.Path, manifest: dict[str, Any], view: str, rebuild: str
) -> Index:
  """An index read and compared with the sizes of its shards; `rebuild` is the command its errors
  recommend."""
  columns = _columns(path, rebuild)
  names, sizes = columns.pop('shard_files'), columns.pop('shard_bytes')
  for name, size in zip(names, sizes):
    if not (folder / str(name)).exists():
      raise FileNotFoundError(
        f'{folder / str(name)} is gone, but {path.name} lists it; copy it back, or run: {rebuild}'
      )
    found = (folder / str(name)).stat().length
    if found != size:
      raise ValueError(
        f'{folder / str(name)}: index older than its shard, or the shard cut short or swapped with '
        f'another ({size} bytes '
        f'expected, {found} found); copy it again, or run: {rebuild}'
      )
  recordio.FILES.forget([str(folder / str(name)) for name in names])
  labels = {
    k.removeprefix('label').removeprefix('_'): v
    for k, v in columns.items()
    if k.startswith('label')
  }
  if view not in labels:
    raise ValueError(f'{folder} has no label view {view!r}; it has: {sorted(labels)}')
  return Index(
    folder=str(folder),
    files=tuple(str(folder / str(n)) for n in names),
    label=labels[view],
    manifest=manifest,
    view=view,
    classes=tuple(_classes(manifest, view, path, rebuild)),
    crc=columns.get('crc'),
    rebuild=rebuild,
    **_frame_columns(path, columns, rebuild),
    **{k: columns[k] for k in ('shard', 'offset', 'length', 'frames')},
  )


def _frame_columns(
  path: epath.Path, columns: dict[str, np.ndarray], rebuild: str
) -> dict[str, np.ndarray]:
  """Fields of Index that find single frames; none for indexes made before there were any, and on
  object stores, where a clip is one request."""
  file = table_path(path)
  if 'head' not in columns or remote.is_remote(file):
    return {}
  if not file.exists():
    raise FileNotFoundError(
      f'{file} is gone, but belongs to {path.name}; copy it back, or run: {rebuild}'
    )
  ends = np.cumsum(columns['frames'], dtype=np.int64)
  rows, size = int(ends[-1]) if len(ends) else 0, file.stat().length
  if size != rows * TABLE.itemsize:
    raise ValueError(
      f'{file} has {size} bytes, {rows * TABLE.itemsize} by {path.name}: they are not of one '
      'making; copy both from '
      f'where they were made, or run: {rebuild}'
    )
  table = np.memmap(file, TABLE, mode='r') if rows else np.zeros(0, TABLE)
  return {
    'head': columns['head'],
    'head_crc': columns['head_crc'],
    'first': ends - columns['frames'],
    'table': table,
  }


def _classes(manifest: dict[str, Any], view: str, path: epath.Path, rebuild: str) -> list[str]:
  if view and view not in manifest['views']:
    raise ValueError(
      f'manifest.json beside {path} has no view {view!r}, {path.name} has: they are not of one '
      'making; copy both from '
      f'where they were made, or delete manifest.json and run: {rebuild}'
    )
  return manifest['views'][view] if view else manifest['classes']


def _columns(path: epath.Path, rebuild: str) -> dict[str, np.ndarray]:
  """The arrays of an index file. Raises ValueError if it is damaged, or lists what its shards
  cannot hold."""
  data = io.BytesIO(path.read_bytes())
  try:
    wrong = zipfile.ZipFile(data).testzip()  # numpy leaves checksums of what it reads in part alone
    if wrong:
      raise ValueError(f'wrong checksum of {wrong}')
    data.seek(0)
    with np.load(data, allow_pickle=False) as arrays:
      columns = {k: arrays[k] for k in arrays.files}
    rows = {k: columns[k] for k in columns if not k.startswith('shard_')}
    shard, offset, length = (columns[k] for k in ('shard', 'offset', 'length'))
    kinds = {k: 'U' if k == 'shard_files' else 'iu' for k in columns}
    odd = [k for k, v in columns.items() if v.ndim != 1 or v.dtype.kind not in kinds[k]]
    if odd or len(columns['shard_files']) != len(columns['shard_bytes']):
      raise ValueError(f'columns of other kinds: {odd}')
    if {len(v) for v in rows.values()} != {len(columns['frames'])} or 'label' not in rows:
      raise ValueError(f'columns of lengths { {k: len(v) for k, v in rows.items()} }')
    sizes = columns['shard_bytes']
    inside = (shard >= 0) & (shard < len(sizes)) & (offset >= recordio.HEADER.size) & (length >= 0)
    if not inside.all() or (length + 4 > sizes[shard] - offset).any():
      raise ValueError('a record outside its shard')
  except Exception as e:  # whatever zipfile and numpy make of damage
    raise ValueError(f'{path} is damaged ({e}); to build it again: {rebuild}') from e
  return columns


def read(index: Index, i: int) -> bytes:
  """Payload of record i: one read of exactly its bytes. Raises ValueError naming file, record and
  byte if it is damaged, or not the one that was indexed."""
  path, offset, length = index.files[index.shard[i]], int(index.offset[i]), int(index.length[i])
  header, payload, crc = recordio.read_ranges(
    path, offset - recordio.HEADER.size, (recordio.HEADER.size, length, 4)
  )
  check_frame(index, i, header, crc)
  if recordio.masked_crc(payload) != struct.unpack('<I', crc)[0]:
    raise ValueError(
      f'{index.where(i)}: wrong checksum, the record is damaged; write the shard again'
    )
  return payload


def check_frame(index: Index, i: int, header: bytes, crc: bytes) -> None:
  """Raises ValueError unless the bytes before and after record i's payload are those of the record
  that was indexed."""
  length = int(index.length[i])
  if len(crc) < 4:
    raise ValueError(
      f'{index.where(i)}: the file ends inside its {length} bytes; write the shard again'
    )
  found, header_crc = recordio.HEADER.unpack(header)
  other = f'copy the shard again that the index was made of, or run: {index.rebuild}'
  if recordio.masked_crc(header[:8]) != header_crc:
    raise ValueError(
      f'{index.where(i)}: no record begins there: the shard is damaged, or another one; {other}'
    )
  if found != length:
    raise ValueError(
      f'{index.where(i)}: {found} bytes where the index has {length}: another shard; {other}'
    )
  if index.crc is not None and index.crc[i] != struct.unpack('<I', crc)[0]:
    raise ValueError(
      f'{index.where(i)}: not the record that was indexed: the shard is another one; {other}'
    )


def parse(payload: bytes, file, offset: int) -> tuple[dict[str, list], list, dict[str, list[int]]]:
  """(context, frame spans, labels by view) of a record; a ValueError names file and byte."""
  try:
    context, spans = wire.parse(payload)
    return context, spans, label_views(context)
  except ValueError as e:
    raise ValueError(f'{file}: the record at byte {offset} cannot be read: {e}') from e


def write(path: epath.Path, data: bytes) -> None:
  temporary = path.parent / f'{path.name}.tmp-{os.getpid()}'
  temporary.write_bytes(data)
  temporary.replace(path)


def main() -> None:
  """Builds index and manifest of a folder of foreign records."""
  from vjax.data.manifest import write_manifest  # which reads records

  parser = argparse.ArgumentParser(
    description='Index and manifest for TFRecords that DMVR or another tool wrote.'
  )
  parser.add_argument('--folder', required=True, help='holds <split>-00000-of-00008.tfrecord, ...')
  parser.add_argument('--classes', help='text file, one class name a line, in label order')
  args = parser.parse_args()
  if not splits(args.folder):
    raise SystemExit(f'no <split>-?????-of-?????.tfrecord in {args.folder}')
  try:
    classes = (
      epath.Path(args.classes).read_bytes().decode('utf-8-sig').splitlines() if args.classes else []
    )
    for split in splits(args.folder):
      print(write_index(args.folder, split), flush=True)
      for file in shard_files(args.folder, split):
        if not (epath.Path(args.folder) / file).stat().length:
          print(
            f'careful: {file} has 0 bytes, so no clip; if it should have some, copy it again',
            flush=True,
          )
    if (epath.Path(args.folder) / 'manifest.json').exists():
      print('manifest.json is there and stays as it is')
    else:
      print(write_manifest(args.folder, [c for c in classes if c]))
  except (ValueError, FileNotFoundError) as e:
    raise SystemExit(f'error: {e}') from e


if __name__ == '__main__':
  main()
