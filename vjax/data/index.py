"""The index of a split: positions of its records in the shards. Needs neither JAX nor TensorFlow.

  python -m vjax.data.index --folder=data/foreign [--classes=names.txt] [--frame_rate=25]

builds index and manifest for records that DMVR, Scenic or another tool wrote.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import math
import os
import re
import struct
import uuid
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from etils import epath

from vjax import files
from vjax.data import labels as labels_lib
from vjax.data import manifest as manifests
from vjax.data import sequence_example, tfrecord
from vjax.data.class_list import read_classes
from vjax.data.manifest import Manifest

TABLE = np.dtype(
  [('start', '<u4'), ('length', '<u4'), ('crc', '<u4')]
)  # a frame's bytes in the payload


class RemoteTable:
  """A frame table on an object store; a slice of it is one request."""

  def __init__(self, file: str):
    self._file = file

  def __getitem__(self, rows: slice) -> np.ndarray:
    """Returns rows of TABLE."""
    size, count = TABLE.itemsize, int(rows.stop - rows.start)
    (data,) = files.read_ranges(self._file, int(rows.start) * size, (count * size,))
    return np.frombuffer(data, TABLE)


class UnknownSplitError(ValueError):
  """A dataset has no split of that name. splits: those it has."""

  def __init__(self, split: str, folder: object, splits: Iterable[str], more: str = ''):
    self.splits, self.folder = sorted(splits), folder
    super().__init__(f'split {split!r} is not in {folder}; it has: {", ".join(self.splits)}{more}')


@dataclass(frozen=True)
class Index:
  """The records of a split and their positions.

  Attributes:
    folder: of the dataset.
    files: absolute paths of the shards.
    shard: (N,) number of each record's shard.
    offset: (N,) first byte of the payload in its shard.
    length: (N,) bytes of the payload.
    frames: (N,) frames of the record.
    label: (N,) first label, -1 = none.
    manifest: of the folder.
    label_space: of `label` and `classes`, '' = the main one.
    classes: names in label order.
    crc: (N,) masked CRCs of the payloads; None in old indexes, which have no CRCs.
    rebuild: command that makes the index again, for errors.
    head: (N,) bytes before the first frame, 0 = read the record whole. This and the following are
      None where only whole records can be read.
    head_crc: (N,) masked CRCs of those bytes.
    first: (N,) row of `table` of the record's first frame.
    table: (frames,) of TABLE, sliced by record.
    renumbered: the label in use of every label of the records, -1 = none; None = the same.
    rated: (N,) 1 where the record says its frame rate or has one frame; None in old indexes.
    video: (N,) numbers made of the names of the videos, 0 = without a name; None in old indexes.
    names: labels in use and their names, as the records give these; () in old indexes.
  """

  folder: str
  files: tuple[str, ...]
  shard: np.ndarray
  offset: np.ndarray
  length: np.ndarray
  frames: np.ndarray
  label: np.ndarray
  manifest: Manifest
  label_space: str
  classes: tuple[str, ...]
  crc: np.ndarray | None
  rebuild: str
  head: np.ndarray | None = None
  head_crc: np.ndarray | None = None
  first: np.ndarray | None = None
  table: np.ndarray | RemoteTable | None = None
  renumbered: np.ndarray | None = None
  rated: np.ndarray | None = None
  video: np.ndarray | None = None
  names: tuple[tuple[int, str], ...] = ()

  def __len__(self) -> int:
    return len(self.offset)

  def where(self, i: int) -> str:
    """Returns 'file: record i at byte b', for errors."""
    return f'{self.files[self.shard[i]]}: record {i} at byte {self.offset[i]}'


def write_index(folder: str, split: str, to: str | epath.Path = '') -> str:
  """Writes the index of a split beside its shards, or to the folder `to`, and returns its path.

  `<split>.index.npz` has one entry a record, in shard order:
    shard (int32), offset and length of the payload (int64), frames (int32);
    label (int32): the first of `clip/label/index`, -1 = none; and label_NAME for the label space of
      every `clip/label/NAME/index`;
    crc (uint32) of the payload as it stands in the file;
    head (int32), head_crc (uint32): length and CRC of the bytes before its first frame;
    rated (uint8): whether it says its frame rate, or has one frame;
    video (uint64): of the name of its video, 0 = it has none;
  names and sizes of the shards, shard_files and shard_bytes; and the labels with their names that
  the records give, name_index and name_text (name_index_NAME, ... of label spaces).
  `<split>.frames` has a row of TABLE for every frame.

  Raises:
    ValueError: for missing shards and damaged files.
  """
  folder = epath.Path(folder)
  files = tfrecord.shard_files(folder, split)
  path = epath.Path(to or folder) / f'{split}.index.npz'
  temporary = path.parent / f'{table_path(path).name}.tmp-{os.getpid()}'
  with temporary.open('wb') as table:
    columns = scan([folder / f for f in files], table)
  temporary.replace(table_path(path))
  save_index(path, files, [(folder / f).stat().length for f in files], columns)
  return str(path)


def kept_folder(folder: str | epath.Path, shards: Iterable[epath.Path]) -> epath.Path:
  """Returns the folder in the user's cache for indexes of a folder that cannot be written to: one
  for every folder and content of it (names and sizes of shards)."""
  content = [(p.name, p.stat().length) for p in sorted(shards)]
  key = hashlib.sha256(repr((str(files.path(folder)), content)).encode()).hexdigest()[:16]
  return files.cache_dir() / 'indexes' / f'{epath.Path(folder).name}-{key}'


def place_for(
  folder: str | epath.Path, shards: Iterable[epath.Path], say: Callable[[str], None]
) -> epath.Path:
  """Returns the folder that an index is written to: that of its shards, or where that cannot be
  written to, `kept_place`."""
  try:
    _try_writing(epath.Path(folder))
    return epath.Path(folder)
  except Exception as why:  # packages of object stores raise kinds of their own
    return kept_place(folder, shards, why, say)


def kept_place(
  folder: str | epath.Path,
  shards: Iterable[epath.Path],
  why: Exception,
  say: Callable[[str], None],
) -> epath.Path:
  """Makes `kept_folder`, tells `say` of it, and returns it.

  why: what writing to `folder` raised. Raises ValueError where the cache cannot be written to
  either.
  """
  kept = kept_folder(folder, shards)
  try:
    kept.mkdir(parents=True, exist_ok=True)
    _try_writing(kept)
  except OSError as e:
    raise ValueError(
      f'{folder} cannot be written to ({why}), so that its index would be kept in {kept}, and '
      f'that cannot either ({e}): set XDG_CACHE_HOME to a folder that can'
    ) from e
  say(f'{folder} cannot be written to ({type(why).__name__}): its index is kept in {kept}')
  return kept


def _try_writing(folder: epath.Path) -> None:
  probe = folder / f'.vjax-{uuid.uuid4().hex[:8]}.tmp'
  files.write_bytes(probe, b'')
  probe.unlink()


def table_path(index: epath.Path) -> epath.Path:
  """Returns the path of the frame table of an index."""
  return index.parent / f'{index.name.removesuffix(".index.npz")}.frames'


def save_index(
  path: epath.Path, names: Sequence[str], sizes: Sequence[int], columns: dict[str, np.ndarray]
) -> None:
  """Writes an index of these shards."""
  buffer = io.BytesIO()
  np.savez(
    buffer,
    shard_files=np.array(names, dtype=np.str_),
    shard_bytes=np.array(sizes, np.int64),
    **columns,
  )
  files.write_bytes(path, buffer.getvalue(), shared=True)


def scan(
  files: Sequence[str | epath.Path], table: IO[bytes] | None = None
) -> dict[str, np.ndarray]:
  """Returns the index columns (see `write_index`) of TFRecord files of (Sequence)Examples.

  A row of TABLE for each of their frames is appended to the file `table`, if there is one.
  """
  rows, labels, heads, rated, videos = [], [], [], [], []
  named: dict[str, set[tuple[int, str]]] = {}
  for number, file in enumerate(files):
    for offset, payload, crc in tfrecord.payloads(epath.Path(file)):
      context, spans, spaces = sequence_example.decode_at(payload, file, offset)
      # An Example is a video of one frame.
      frames = len(spans) or len(context.get(sequence_example.IMAGE, []))
      rows.append((number, offset, len(payload), frames, crc))
      if table is not None:
        heads.append(_tabulate(payload, context, spans, frames, table))
      labels.append({space: values[0] if values else -1 for space, values in spaces.items()})
      videos.append(_video_number(context))
      rated.append(frames < 2 or _says_rate(context))
      for space, values in spaces.items():
        named.setdefault(space, set()).update(labels_lib.named(context, values, space))
  shard, offset, length, frames, crc = np.array(rows, np.int64).reshape(-1, 5).T
  columns = {'shard': shard.astype(np.int32), 'offset': offset, 'length': length}
  columns |= {'frames': frames.astype(np.int32), 'crc': crc.astype(np.uint32)}
  if table is not None:
    head, head_crc = np.array(heads, np.int64).reshape(-1, 2).T
    columns |= {'head': head.astype(np.int32), 'head_crc': head_crc.astype(np.uint32)}
  for space in sorted({''}.union(*labels)):
    name = f'label_{space}' if space else 'label'
    columns[name] = np.array([row.get(space, -1) for row in labels], np.int32)
  columns['video'] = np.array(videos, np.uint64)
  columns['rated'] = np.array(rated, np.uint8)
  for space, pairs in sorted(named.items()):
    of_space = f'_{space}' if space else ''
    columns[f'name_index{of_space}'] = np.array([i for i, _ in sorted(pairs)], np.int32)
    columns[f'name_text{of_space}'] = np.array([text for _, text in sorted(pairs)], np.str_)
  return columns


def _video_number(context: dict[str, list]) -> int:
  """Returns 64 bits of the hash of a video's name, 0 = without a name."""
  for key in (sequence_example.MEDIA_ID, sequence_example.FILENAME):
    name = next(iter(context.get(key, [])), b'')
    if isinstance(name, bytes) and name:
      return int.from_bytes(hashlib.sha256(name).digest()[:8], 'little')
  return 0


def _says_rate(context: dict[str, list]) -> bool:
  try:
    return sequence_example.number(context, sequence_example.FRAME_RATE) != 0
  except ValueError:  # reading the record reports this
    return True


def _tabulate(
  payload: bytes, context: dict, spans: list, frames: int, table: IO[bytes]
) -> tuple[int, int]:
  """Appends the frames' rows to the table; returns the number of bytes before the first frame, and
  their CRC.

  The number is 0 where those bytes do not hold the whole context, or a frame is damaged: then the
  record must be read whole, and its rows are zeros.
  """
  rows, head = np.zeros(frames, TABLE), spans[0][0] if spans else 0
  try:
    if head and sequence_example.decode_context(payload[:head]) == context:
      places = [sequence_example.frame_span(payload, span) for span in spans]
      rows[:] = [(a, b - a, tfrecord.masked_crc(payload[a:b])) for a, b in places]
    else:
      head = 0
  except ValueError:  # reading the frame reports this
    head = 0
  table.write(rows.tobytes())
  return head, tfrecord.masked_crc(payload[:head])


def prepare_command(prepare: str, folder: str) -> str:
  """Returns the command that prepares a dataset in `folder`, of that of the dataset's file, which
  names the folder that the dataset has by default; '' = of a dataset of one's own."""
  return (
    re.sub(r'--out=\S+', lambda _: f'--out={folder}', prepare)
    or f'python -m data_prep.write --folder=DIR --out={folder} (your own videos, DIR/<class>/*) or '
    f'python -m vjax.data.index --folder={folder} (records from elsewhere)'
  )


def open_index(folder: str, split: str, label_space: str = '', prepare: str = '') -> Index:
  """Reads the index of a split and checks it against its shards.

  Args:
    folder: of the dataset.
    split: name.
    label_space: label space of the labels and classes, '' = the main one.
    prepare: command that prepares the dataset, for the error where it is missing.

  Raises:
    FileNotFoundError: naming the folder and the command that prepares it.
    ValueError: for an index that does not fit its shards, an unknown split or label space.
  """
  root = epath.Path(folder)
  kept = root
  rebuild = f'python -m vjax.data.index --folder={folder}'
  prepare = prepare_command(prepare, folder)
  if not root.exists():
    raise FileNotFoundError(f'no dataset in {folder}; to prepare it: {prepare}')
  remedy = f'copy it from where it was made, or prepare again: {prepare}'
  manifest = manifests.read(root, remedy)
  if manifest is None or not (root / f'{split}.index.npz').exists():
    kept = kept_folder(root, tfrecord.all_shards(root))
    manifest = manifest or manifests.read(kept, f'delete it and run: {rebuild}')
  if manifest is None:
    raise FileNotFoundError(
      f'{folder} has no manifest.json, so it is not complete; to prepare or finish it: {prepare}'
    )
  if split not in manifest['splits']:
    raise UnknownSplitError(split, folder, manifest['splits'])
  path = kept / f'{split}.index.npz'
  if not path.exists():
    raise FileNotFoundError(f'{folder} has no {path.name}; to build it: {rebuild}')
  index = load_index(path, root, manifest, label_space, rebuild, split)
  clips = manifest['splits'][split].get('clips', len(index))
  if clips != len(index):
    raise ValueError(
      f'{folder}: manifest.json counts {clips} clips of {split}, {path.name} {len(index)}: they '
      'are not of one making; copy both from where they were made, or delete manifest.json and '
      f'run: {rebuild}'
    )
  return index


def load_index(
  path: epath.Path,
  folder: epath.Path,
  manifest: Manifest,
  label_space: str,
  rebuild: str,
  split: str = '',
) -> Index:
  """Reads an index file and compares it with the sizes of its shards, and the names of its labels
  with the manifest's. Errors recommend the command `rebuild`."""
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
        f'{folder / str(name)}: index older than its shard, or the shard cut short or swapped '
        f'with another ({size} bytes expected, {found} found); copy it again, or run: {rebuild}'
      )
  tfrecord.forget([str(folder / str(name)) for name in names])
  labels = {
    k.removeprefix('label').removeprefix('_'): v
    for k, v in columns.items()
    if k.startswith('label')
  }
  if label_space not in labels:
    raise ValueError(f'{folder} has no label space {label_space!r}; it has: {sorted(labels)}')
  classes = tuple(_classes(manifest, label_space, path, rebuild))
  change = manifest.get('renumbered', {}).get(split, {}).get(label_space)
  change = None if change is None else np.array(change, np.int32)
  of_space = f'_{label_space}' if label_space else ''
  numbers = columns.get(f'name_index{of_space}', np.zeros(0, np.int32))
  texts = columns.get(f'name_text{of_space}', np.zeros(0, np.str_))
  try:
    label, numbers = (renumber(values, change) for values in (labels[label_space], numbers))
  except ValueError as e:
    raise ValueError(
      f'{path}: {e}: manifest.json and {path.name} are not of one making; delete manifest.json and '
      f'run: {rebuild}'
    ) from e
  named = tuple(zip(numbers.tolist(), texts.tolist()))
  labels_lib.check_manifest(classes, named, f'{folder}, split {split}', rebuild)
  return Index(
    folder=str(folder),
    files=tuple(str(folder / str(n)) for n in names),
    label=label,
    manifest=manifest,
    label_space=label_space,
    classes=classes,
    renumbered=change,
    rated=columns.get('rated'),
    video=columns.get('video'),
    names=named,
    crc=columns.get('crc'),
    rebuild=rebuild,
    **_frame_columns(path, columns, rebuild),
    **{k: columns[k] for k in ('shard', 'offset', 'length', 'frames')},
  )


def renumber(labels: np.ndarray, change: np.ndarray | None) -> np.ndarray:
  """Returns the labels in use of labels of records (see `Index.renumbered`); -1 stays. Raises
  ValueError for a label that `change` lacks."""
  if change is None or not len(labels):
    return labels
  if labels.max() >= len(change):
    raise ValueError(f'label {labels.max()} is renumbered to nothing')
  return np.where(labels < 0, labels, np.append(change, -1)[np.maximum(labels, -1)]).astype(
    labels.dtype
  )


def _frame_columns(
  path: epath.Path, columns: dict[str, np.ndarray], rebuild: str
) -> dict[str, np.ndarray]:
  """Returns the fields of Index by which single frames are read; none for indexes without a frame
  table, and where the table was not copied to an object store."""
  file, remote = table_path(path), files.is_remote(path)
  if 'head' not in columns or remote and not file.exists():
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
      f'making; copy both from where they were made, or run: {rebuild}'
    )
  table: Any = np.zeros(0, TABLE)
  if rows:
    table = RemoteTable(str(file)) if remote else np.memmap(file, TABLE, mode='r')
  return {
    'head': columns['head'],
    'head_crc': columns['head_crc'],
    'first': ends - columns['frames'],
    'table': table,
  }


def _classes(manifest: Manifest, label_space: str, path: epath.Path, rebuild: str) -> list[str]:
  if label_space and label_space not in manifest['views']:
    raise ValueError(
      f'manifest.json beside {path} has no label space {label_space!r}, {path.name} has: they are '
      'not of one making; copy both from where they were made, or delete manifest.json and '
      f'run: {rebuild}'
    )
  return manifest['views'][label_space] if label_space else manifest['classes']


def _columns(path: epath.Path, rebuild: str) -> dict[str, np.ndarray]:
  """Returns the arrays of an index file. Raises ValueError if the file is damaged, or lists records
  that the shards cannot hold."""
  data = io.BytesIO(path.read_bytes())
  try:
    wrong = zipfile.ZipFile(data).testzip()  # numpy does not check members that it reads in part
    if wrong:
      raise ValueError(f'wrong checksum of {wrong}')
    data.seek(0)
    with np.load(data, allow_pickle=False) as arrays:
      columns = {k: arrays[k] for k in arrays.files}
    rows = {k: columns[k] for k in columns if not k.startswith(('shard_', 'name_'))}
    shard, offset, length = (columns[k] for k in ('shard', 'offset', 'length'))
    is_text = lambda k: k == 'shard_files' or k.startswith('name_text')
    kinds = {k: 'U' if is_text(k) else 'iu' for k in columns}
    odd = [k for k, v in columns.items() if v.ndim != 1 or v.dtype.kind not in kinds[k]]
    pairs = {k: k.replace('name_index', 'name_text') for k in columns if k.startswith('name_index')}
    odd += [k for k, v in pairs.items() if v not in columns or len(columns[k]) != len(columns[v])]
    if odd or len(columns['shard_files']) != len(columns['shard_bytes']):
      raise ValueError(f'columns of other kinds: {odd}')
    if {len(v) for v in rows.values()} != {len(columns['frames'])} or 'label' not in rows:
      raise ValueError(f'columns of lengths { {k: len(v) for k, v in rows.items()} }')
    sizes = columns['shard_bytes']
    inside = (shard >= 0) & (shard < len(sizes)) & (offset >= tfrecord.HEADER.size) & (length >= 0)
    if not inside.all() or (length + 4 > sizes[shard] - offset).any():
      raise ValueError('a record outside its shard')
  except Exception as e:  # zipfile and numpy raise many kinds for damage
    raise ValueError(f'{path} is damaged ({e}); to build it again: {rebuild}') from e
  return columns


def read_record(index: Index, i: int) -> bytes:
  """Returns the payload of record i, in one read of exactly its bytes.

  Raises ValueError naming file, record and byte if the record is damaged, or is not the indexed
  one.
  """
  path, offset, length = index.files[index.shard[i]], int(index.offset[i]), int(index.length[i])
  header, payload, crc = tfrecord.read_ranges(
    path, offset - tfrecord.HEADER.size, (tfrecord.HEADER.size, length, 4)
  )
  check_framing(index, i, header, crc)
  if tfrecord.masked_crc(payload) != struct.unpack('<I', crc)[0]:
    raise ValueError(
      f'{index.where(i)}: wrong checksum, the record is damaged; write the shard again'
    )
  return payload


def check_framing(index: Index, i: int, header: bytes, crc: bytes) -> None:
  """Raises ValueError unless the bytes before and after record i's payload are those of the indexed
  record."""
  length = int(index.length[i])
  if len(crc) < 4:
    raise ValueError(
      f'{index.where(i)}: the file ends inside its {length} bytes; write the shard again'
    )
  found, header_crc = tfrecord.HEADER.unpack(header)
  other = f'copy the shard again that the index was made of, or run: {index.rebuild}'
  if tfrecord.masked_crc(header[:8]) != header_crc:
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


def main(argv: Sequence[str] | None = None) -> None:
  """Builds index and manifest of a folder of foreign records."""
  parser = argparse.ArgumentParser(
    description='Index and manifest for TFRecords that DMVR or another tool wrote.'
  )
  parser.add_argument(
    '--folder',
    required=True,
    help='holds <split>-00000-of-00008.tfrecord, <split>-00000-of-00008 (DMVR) or '
    '<split>.tfrecord-00000-of-00008 (Scenic), ...',
  )
  parser.add_argument('--classes', help='text file, one class name a line, in label order')
  parser.add_argument(
    '--frame_rate',
    type=float,
    help=f'frames per second of records without {sequence_example.FRAME_RATE}; otherwise '
    f'{sequence_example.DEFAULT_RATE:g} is assumed',
  )
  args = parser.parse_args(argv)
  if args.frame_rate is not None and not 0 < args.frame_rate < math.inf:
    parser.error(f'--frame_rate={args.frame_rate:g} must be frames per second above 0, e.g. 25')
  if not tfrecord.splits(args.folder):
    forms = ' or '.join(
      tfrecord.shard_name('<split>', '?????', '?????', form) for form in tfrecord.FORMS
    )
    raise SystemExit(
      f'error: no {forms} in --folder={args.folder}: give the folder in which the shards lie, or '
      'rename them so; videos are made into records by: python -m data_prep.write'
    )
  try:
    _index_folder(args.folder, args.classes, args.frame_rate)
  except (ValueError, OSError) as e:
    raise SystemExit(f'error: {e}') from e


def _index_folder(folder: str, classes_file: str | None, frame_rate: float | None) -> None:
  """Writes the indexes of all splits of a folder, and its manifest, and prints what it takes for
  granted."""
  say = lambda text: print(text, flush=True)
  classes = read_classes(classes_file) if classes_file else []
  splits, again = tfrecord.splits(folder), 'delete it, and run this command again'
  place = place_for(folder, tfrecord.all_shards(folder), say)
  described = folder if (epath.Path(folder) / 'manifest.json').exists() else place
  manifest = manifests.read(described, again)
  if manifest and not {*splits} & {*manifest['splits']}:
    splits = sorted(manifest['splits'])
  for split in splits:
    say(write_index(folder, split, place))
    for file in tfrecord.shard_files(folder, split):
      if not (epath.Path(folder) / file).stat().length:
        say(f'careful: {file} has 0 bytes, so no clip; if it should have some, copy it again')
  if manifest:
    say('manifest.json is there and stays as it is')
    if classes and classes != manifest['classes']:
      raise ValueError(
        f'--classes={classes_file} names other classes than {described}/manifest.json: delete '
        'manifest.json and run this command again, or leave --classes out'
      )
    if frame_rate and frame_rate != manifest['frame_rate']:
      manifest['frame_rate'] = frame_rate
      say(f'frame_rate in {manifests.write(described, manifest)}')
  else:
    if (epath.Path(folder) / 'failed.csv').exists():
      say(
        f'careful: {folder} was written by data_prep.write, and its manifest.json is gone. What '
        'no record tells is lost: classes without a clip (if there were some, pass all names by '
        '--classes=FILE), the settings, and the mark by which data_prep.write finds its work '
        'finished, so that its command needs a new --out'
      )
    say(manifests.write_scanned(folder, classes, frame_rate or 0, say, place))
  lacking, rate = {}, frame_rate
  for split in splits:
    if not manifest or split in manifest['splits']:
      index = open_index(folder, split)
      unsaid = 0 if index.rated is None else int((index.rated == 0).sum())
      lacking[split], rate = (unsaid, len(index)), index.manifest.get('frame_rate', 0)
  if any(n for n, _ in lacking.values()):
    say(f'careful: {unrated(folder, lacking, rate or 0)}')
  elif frame_rate:
    say(f'all records say their {sequence_example.FRAME_RATE}: --frame_rate is not used')


def unrated(folder: str, lacking: Mapping[str, tuple[int, int]], frame_rate: float) -> str:
  """Returns a sentence about records without a frame rate.

  lacking: number of these, and of all records, by split. frame_rate: by the manifest, 0 = unknown.
  """
  counts = ', '.join(f'{n} of {total} records of {split}' for split, (n, total) in lacking.items())
  said = f'{counts} have no {sequence_example.FRAME_RATE}: '
  if frame_rate:
    return f'{said}{frame_rate:g} frames per second are assumed, as --frame_rate says'
  return (
    f'{said}{sequence_example.DEFAULT_RATE:g} frames per second are assumed. If they have another '
    f'rate, run: python -m vjax.data.index --folder={folder} --frame_rate=FPS'
  )


if __name__ == '__main__':
  main()
