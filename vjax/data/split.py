"""A split of a dataset, opened: its records in use, their contents, and errors for broken records.

A clip of 16 frames needs a twentieth of a video of 300. The index has the position and the checksum
of each frame (index.TABLE), so the other frames are neither read nor checked. Records without such
a table are read whole, and so are those on object stores, in one request, up to a size at which a
few further requests cost less than the bytes that they save.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vjax import files
from vjax.data import image, manifest, sequence_example, tfds_images, tfrecord
from vjax.data import index as index_lib
from vjax.data import labels as labels_lib
from vjax.data.index import Index
from vjax.data.manifest import Manifest
from vjax.data.specs import DatasetSpec
from vjax.data.split_names import HELD_OUT

WHOLE = 8 << 20  # a record on an object store up to so many bytes is read whole


@dataclass(frozen=True)
class Record:
  """A stored video (or image).

  Attributes:
    context: its features by name.
    num_frames: of the record.
    frame_rate: frames per second, by the record or the manifest; 0 = unknown.
    read: returns the encoded frames of these indices. Raises ValueError naming file, record and
      byte of damage.
  """

  context: dict[str, list]
  num_frames: int
  frame_rate: float
  read: Callable[[Sequence[int]], list[bytes]]

  def frame(self, t: int) -> bytes:
    """Returns the encoded frame t. Raises what `frames` does."""
    return self.read([t])[0]

  def frames(self, indices: Sequence[int]) -> list[bytes]:
    """Returns the encoded frames of these indices: those near each other in one read, and on an
    object store all reads at once. Raises ValueError naming file, record and byte of damage."""
    return self.read([int(t) for t in indices])


@dataclass(frozen=True)
class Split:
  """An opened split.

  Attributes:
    name: of the dataset.
    index: of its records.
    rows: the records in use, by number.
    images: whether the records are TFDS images.
    labels: 'single_label' or 'multi_label'.
    order: number of each of the records' labels in `classes`, -1 = of a class that is not in use;
      None = as they are.
  """

  name: str
  index: Index
  rows: np.ndarray
  images: bool
  labels: str
  order: np.ndarray | None = None

  @property
  def classes(self) -> tuple[str, ...]:
    """Class names in label order."""
    return self.index.classes

  @property
  def num_clips(self) -> int:
    """Number of records in use."""
    return len(self.rows)

  @property
  def manifest(self) -> Manifest:
    """The manifest of the whole dataset."""
    return self.index.manifest

  def read(self, row: int) -> Record:
    """Returns a record, checked. Raises ValueError naming file, record and byte where it cannot be
    read."""
    try:
      record = open_record(self.index, row, sequence_example.IMAGE if self.images else '')
      if not record.num_frames or self.images and not isinstance(record.frame(0), bytes):
        raise ValueError(
          f'it has no {sequence_example.IMAGE if self.images else sequence_example.FRAMES}'
        )
      labels = self.labels_of(record)
      if self.classes and not all(0 <= label < len(self.classes) for label in labels):
        raise ValueError(f'labels {labels} are not all of the {len(self.classes)} classes')
      if not self.index.names:  # an index from before names were compared when it was made
        space = self.index.label_space
        named = labels_lib.named(record.context, labels, space)
        where = self.index.where(row)
        labels_lib.check_manifest(self.classes, named, where, self.index.rebuild)
    except ValueError as e:
      if str(e).startswith(self.index.where(row)):
        raise
      raise ValueError(f'{self.index.where(row)} cannot be read: {e}; write the shard again') from e
    return record

  def labels_of(self, record: Record) -> list[int]:
    """Returns the label indices of a record in the split's label space."""
    found = sequence_example.labels_by_space(record.context).get(self.index.label_space, [])
    if self.index.renumbered is not None:
      found = index_lib.renumber(np.array(found, np.int64), self.index.renumbered).tolist()
    if self.order is None:
      return found
    known = range(len(self.order))
    return [int(self.order[label]) if label in known else label for label in found]

  def name_of(self, row: int) -> str:
    """Returns a video's name in its list, or the record's number where it has none."""
    names = self.read(row).context.get(sequence_example.MEDIA_ID, [])
    return names[0].decode() if names and isinstance(names[0], bytes) else str(row)

  def frame_size(self, row: int, frames: Sequence[bytes]) -> tuple[int, int]:
    """Returns the (height, width) of a record's encoded frames. Raises ValueError where the sizes
    differ, or a frame is no image."""
    try:
      sizes = {image.image_size(frame) for frame in frames}
      if len(sizes) > 1:
        raise ValueError(
          f'frames of (height, width) {" and ".join(map(str, sorted(sizes)))}; a clip has one'
        )
    except ValueError as e:
      raise ValueError(
        f'{self.index.where(row)} cannot be read: {e}; prepare the video again'
      ) from e
    return sizes.pop()

  def check(self, row: int) -> None:
    """Reads a record and decodes all its frames. Raises ValueError naming file, record, byte, video
    and frame."""
    record = self.read(row)
    names = record.context.get(sequence_example.FILENAME, [])
    names += record.context.get(sequence_example.MEDIA_ID, [])
    name = next((n for n in names if isinstance(n, bytes)), b'unnamed')
    frames = []
    for t in range(record.num_frames):
      try:
        frames.append(record.frame(t))
        image.image_size(frames[-1])
        image.decode(frames[-1])
      except ValueError as e:
        if str(e).startswith(self.index.where(row)):
          raise
        where = f'{self.index.where(row)} (video {name.decode(errors="replace")})'
        raise ValueError(
          f'{where}: frame {t} cannot be decoded: {e}; prepare the video again'
        ) from None
    self.frame_size(row, frames)


def open_split(
  data_dir: str,
  spec: DatasetSpec,
  split: str,
  *,
  per_class: float | None = None,
  seed: int = 0,
  classes: Sequence[str] = (),
) -> Split:
  """Opens a split of the dataset under data_dir/<spec.records>; folder 'tfds:NAME' reads the files
  of TFDS there. Of a dataset with a part of another one's classes, records of other classes are not
  in use, and labels are renumbered.

  Args:
    data_dir: folder of prepared datasets.
    spec: facts of the dataset.
    split: name.
    per_class: use only this many clips of each class (a whole number), or this share of them (below
      1), chosen by `seed`.
    seed: of that choice.
    classes: names in the order that labels shall have. Where the dataset has the same names in
      another order, its labels are renumbered; other names are left to the caller.

  Raises:
    FileNotFoundError: naming the folder and the command that prepares it.
    ValueError: where records and spec disagree.
  """
  folder = spec.records
  images = folder.startswith('tfds:')
  if images:
    index = tfds_images.open_index(folder.removeprefix('tfds:'), data_dir, split)
  else:
    index = index_lib.open_index(f'{data_dir}/{folder}', split, spec.label_space, spec.prepare)
  labels = _label_kind(spec, index)
  if not spec.classes and spec.num_classes not in (0, len(index.classes)):
    raise ValueError(
      f'{index.folder} has {len(index.classes)} classes, dataset {spec.name} {spec.num_classes}'
    )
  if len(index) == 0:
    raise ValueError(
      f'split {split!r} of {index.folder} is empty: its shards hold no record. Name another split '
      '(config.data.split, or config.evals.NAME.split of an evaluation), or prepare the data '
      'again; videos that could not be written are in failed.csv there'
    )
  if not index.classes and (index.label >= 0).any():
    raise ValueError(
      f'{index.folder}: clips have labels, but manifest.json names no classes; prepare the set '
      'again'
    )
  hidden = labels == 'multi_label' or (index.label == -1).all()  # unpublished test labels
  wrong = np.flatnonzero(
    (index.label >= len(index.classes)) | (index.label < (-1 if hidden else 0))
  )
  if index.classes and len(wrong):
    label = index.label[wrong[0]]
    raise ValueError(
      f'{index.where(wrong[0])}: label {label} is not one of {len(index.classes)} classes'
    )
  empty = np.flatnonzero(index.frames < 1)
  if len(empty):
    raise ValueError(
      f'{index.where(empty[0])}: a clip without frames; write the shard again without it'
    )
  if index.rated is not None and not index.rated.all() and not index.manifest.get('frame_rate'):
    _warn_once(
      index_lib.unrated(index.folder, {split: (int((index.rated == 0).sum()), len(index))}, 0)
    )
  order = None
  if spec.classes:
    order = _order_of_part(spec, index, labels)
    index = _relabeled(index, order, spec.classes)
  rows = np.flatnonzero(index.label >= 0) if spec.classes else np.arange(len(index))
  if not len(rows):
    raise ValueError(
      f'split {split!r} of {index.folder} has no record of the {len(spec.classes)} classes of '
      f'dataset {spec.name}: its labels may be hidden; name another split (config.data.split, or '
      'config.evals.NAME.split of an evaluation)'
    )
  if per_class is not None:
    rows = rows[_subset(index.label[rows], per_class, seed)]
  if tuple(index.classes) != tuple(classes) and sorted(index.classes) == sorted(classes):
    change = np.array([list(classes).index(name) for name in index.classes])
    index = _relabeled(index, change, classes)
    order = change if order is None else np.where(order >= 0, change[order], order)
  return Split(spec.name, index, rows, images, labels, order)


def _relabeled(index: Index, order: np.ndarray, classes: Sequence[str]) -> Index:
  """Returns the index with the labels that `order` has for its labels, and the names `classes`."""
  label = np.where(index.label >= 0, order[index.label], index.label)
  return dataclasses.replace(index, classes=tuple(classes), label=label.astype(np.int32))


def _order_of_part(spec: DatasetSpec, index: Index, labels: str) -> np.ndarray:
  """Returns the number of each of the records' classes in spec.classes, -1 = not in it. Raises
  ValueError for names that the records lack, and records with several labels."""
  if labels == 'multi_label':
    raise ValueError(
      f'{index.folder}: some clips have several labels by manifest.json, so that dataset '
      f'{spec.name} cannot use those of {len(spec.classes)} classes; prepare it with one label a '
      'clip'
    )
  try:
    found = labels_lib.find_names(spec.classes, index.classes)
  except ValueError as e:
    raise ValueError(
      f'{index.folder} cannot be read as dataset {spec.name}, a part of the classes of '
      f'{spec.classes_of}: {e}. Name the folder of {spec.classes_of} (config.data.folder), or '
      f'prepare it with names of classes: {spec.prepare}'
    ) from e
  order = np.full(len(index.classes), -1)
  order[found] = np.arange(len(found))
  return order


def evaluation_split(
  data_dir: str, spec: DatasetSpec, split: str, trained: Sequence[str] = ()
) -> str:
  """Returns the name of the split that an evaluation of `split` is meant to read.

  That is `split`, or where the dataset has no such split and `split` is one of HELD_OUT, the only
  other one of these that it has.

  Args:
    data_dir: folder of prepared datasets.
    spec: facts of the dataset.
    split: name in the config.
    trained: splits of this dataset that are trained on, which are never taken.

  Raises what `open_split` does, also where there are several such splits.
  """
  try:
    open_split(data_dir, spec, split)
  except index_lib.UnknownSplitError as e:
    if split not in HELD_OUT:
      raise
    found = [name for name in HELD_OUT if name in e.splits and name not in trained]
    if len(found) > 1:
      more = f'; which of {", ".join(found)} is meant is not certain'
      raise index_lib.UnknownSplitError(split, e.folder, e.splits, more) from e
    if not found:
      raise
    return found[0]
  return split


@functools.cache
def _warn_once(text: str) -> None:
  logging.warning(text)


def _label_kind(spec: DatasetSpec, index: Index) -> str:
  """Returns 'single_label' or 'multi_label', by the dataset's facts and its manifest. Raises
  ValueError where they disagree."""
  # The manifest's entry is for the main label space.
  said = '' if spec.label_space else manifest.label_kind(index.manifest)
  labels = spec.labels or said or 'single_label'
  if labels not in ('single_label', 'multi_label'):
    raise ValueError(
      f"labels={labels!r} of dataset {spec.name}: this pipeline reads 'single_label' or "
      "'multi_label'"
    )
  if labels == 'single_label' and said == 'multi_label':
    raise ValueError(
      f'{index.folder}: some clips have several labels by manifest.json, but dataset {spec.name} '
      "has one a clip: use config.data.name='custom' with this folder, or prepare it with one "
      'label a clip'
    )
  return labels


def _subset(label: np.ndarray, per_class: float, seed: int) -> np.ndarray:
  """Returns sorted record numbers: `per_class` clips of every class, or (below 1) that share of
  each class, at least one."""
  if per_class <= 0:
    raise ValueError(
      f'config.data.videos_per_class (or config.datasets.NAME.videos_per_class) is {per_class}; it '
      'must be a whole number of videos, such as 10, or a share of them above 0 and below 1, such '
      'as 0.1; None takes all'
    )
  chosen = []
  for c in np.unique(label):
    of_class = np.random.default_rng([seed, int(c) + 1]).permutation(np.flatnonzero(label == c))
    count = max(1, round(per_class * len(of_class))) if per_class < 1 else int(per_class)
    chosen.append(of_class[:count])
  return np.sort(np.concatenate(chosen))


def open_record(index: Index, i: int, feature: str = '') -> Record:
  """Returns record i. With a frame table only the context of the record is read now.

  Args:
    index: of the split.
    i: number of the record.
    feature: list of the context that holds the frames (of Examples); '' = the frames of a
      SequenceExample.

  Raises:
    ValueError: for damage, and for an invalid frame rate.
  """
  remote = files.is_remote(index.files[index.shard[i]])
  by_frames = index.head is not None and index.head[i] and not feature
  if by_frames and (not remote or index.length[i] > WHOLE):
    return _open_by_frames(index, i)
  payload = index_lib.read_record(index, i)
  context, spans = sequence_example.decode(payload)
  if feature:
    values = context.get(feature, [])
    return Record(
      context, len(values), _frame_rate(context, index), lambda some: [values[t] for t in some]
    )
  read = lambda some: [sequence_example.frame(payload, spans[t]) for t in some]
  return Record(context, len(spans), _frame_rate(context, index), read)


def _open_by_frames(index: Index, i: int) -> Record:
  path, offset, head = index.files[index.shard[i]], int(index.offset[i]), int(index.head[i])
  start, end = offset - tfrecord.HEADER.size, offset + int(index.length[i])
  beginning, crc = tfrecord.read_spans(path, [(start, offset + head), (end, end + 4)])
  header, begin = beginning[: tfrecord.HEADER.size], beginning[tfrecord.HEADER.size :]
  index_lib.check_framing(index, i, header, crc)
  if tfrecord.masked_crc(begin) != index.head_crc[i]:
    raise ValueError(
      f'{index.where(i)}: wrong checksum of its first {head} bytes, {_damaged(index)}'
    )
  table = index.table[index.first[i] : index.first[i] + index.frames[i]]

  def read(indices: Sequence[int]) -> list[bytes]:
    rows = [table[t].tolist() for t in indices]
    spans = [(offset + start, offset + start + length) for start, length, _ in rows]
    found = tfrecord.read_spans(path, spans)
    for t, (start, _, crc), encoded in zip(indices, rows, found):
      if tfrecord.masked_crc(encoded) != crc:
        raise ValueError(
          f'{index.where(i)}: wrong checksum of frame {t} at byte {offset + start}, '
          f'{_damaged(index)}'
        )
    return found

  context = sequence_example.decode_context(begin)
  return Record(context, len(table), _frame_rate(context, index), read)


def _frame_rate(context: dict[str, list], index: Index) -> float:
  rate = sequence_example.number(context, sequence_example.FRAME_RATE)
  if rate < 0:
    raise ValueError(f'{sequence_example.FRAME_RATE} is {rate}; it must be 0 (unknown) or more')
  return float(rate or index.manifest.get('frame_rate', 0))


def _damaged(index: Index) -> str:
  return f'the record or its index is damaged; write the shard again, or run: {index.rebuild}'
