"""A split of a data set: its records in use, what is in one of them, and what is wrong with a
broken one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjax.data import clips, records, tfds_images, wire
from vjax.types import DatasetSpec


@dataclass(frozen=True)
class Source:
  """A split ready to be read.

  Attributes:
    name: of the dataset.
    index: of its records.
    rows: the records in use, by number.
    images: TFDS images, in any format that TensorFlow decodes.
    labels: 'single_label' or 'multi_label'.
  """

  name: str
  index: records.Index
  rows: np.ndarray
  images: bool
  labels: str

  @property
  def classes(self) -> tuple[str, ...]:
    """Class names in label order."""
    return self.index.classes

  @property
  def num_clips(self) -> int:
    """Clips in use."""
    return len(self.rows)

  @property
  def manifest(self) -> dict[str, Any]:
    """What manifest.json says of the whole data set."""
    return self.index.manifest


def open_split(
  data_dir: str, spec: DatasetSpec, split: str, *, per_class: float | None = None, seed: int = 0
) -> Source:
  """The split of a data set under data_dir/<spec.folder or spec.name>; folder 'tfds:NAME' reads
  what TFDS prepared there.

  per_class: use only so many clips of each class (a whole number), or this share of them (below 1),
  chosen by `seed`. Raises FileNotFoundError naming the folder looked in and the command that
  prepares it, ValueError where records and spec disagree.
  """
  folder = spec.folder or spec.name
  images = folder.startswith('tfds:')
  if images:
    index = tfds_images.open_index(folder.removeprefix('tfds:'), data_dir, split)
  else:
    index = records.open_index(f'{data_dir}/{folder}', split, spec.label_space, spec.prepare)
  labels = _label_kind(spec, index)
  if spec.num_classes not in (0, len(index.classes)):
    raise ValueError(
      f'{index.folder} has {len(index.classes)} classes, dataset {spec.name} {spec.num_classes}'
    )
  if len(index) == 0:
    raise ValueError(f'split {split!r} of {index.folder} is empty')
  if not index.classes and (index.label >= 0).any():
    raise ValueError(
      f'{index.folder}: clips have labels, but manifest.json names no classes; prepare the set '
      'again'
    )
  hidden = labels == 'multi_label' or (index.label == -1).all()  # test labels that nobody tells
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
  rows = np.arange(len(index)) if per_class is None else _subset(index.label, per_class, seed)
  return Source(spec.name, index, rows, images, labels)


def _label_kind(spec: DatasetSpec, index: records.Index) -> str:
  """'single_label' or 'multi_label', by the dataset's facts and its manifest. Raises ValueError
  where they disagree."""
  said = {'one': 'single_label', 'many': 'multi_label'}.get(index.manifest.get('labels', ''), '')
  said = '' if spec.label_space else said  # the manifest speaks of the first label space
  labels = spec.labels or said or 'single_label'
  if labels not in ('single_label', 'multi_label'):
    raise ValueError(
      f"labels={labels!r} of dataset {spec.name}: this pipeline reads 'single_label' or "
      "'multi_label'"
    )
  if labels == 'single_label' and said == 'multi_label':
    raise ValueError(
      f'{index.folder}: some clips have several labels by manifest.json, but dataset {spec.name} '
      'has one a clip: use '
      f"config.data.name='custom' with this folder, or prepare it with one label a clip"
    )
  return labels


def _subset(label: np.ndarray, per_class: float, seed: int) -> np.ndarray:
  """Sorted record numbers: of every class `per_class` clips, or (below 1) that share, at least
  one."""
  if per_class <= 0:
    raise ValueError(
      f'per_class={per_class}; needed: a share between 0 and 1, or a whole number of clips'
    )
  chosen = []
  for c in np.unique(label):
    of_class = np.random.default_rng([seed, int(c) + 1]).permutation(np.flatnonzero(label == c))
    count = max(1, round(per_class * len(of_class))) if per_class < 1 else int(per_class)
    chosen.append(of_class[:count])
  return np.sort(np.concatenate(chosen))


def name_of(source: Source, row: int) -> str:
  """Returns a video's name in its list, 'clip/media_id', or the record's number where it has
  none."""
  names = read(source, row)[0].context.get('clip/media_id', [])
  return names[0].decode() if names and isinstance(names[0], bytes) else str(row)


def read(source: Source, row: int) -> tuple[clips.Clip, float]:
  """A record, and its frames per second (0 = unknown). Raises ValueError naming file, record and
  byte where it cannot be read."""
  try:
    clip = clips.read(source.index, row, 'image' if source.images else '')
    if not clip.count or source.images and not isinstance(clip.frame(0), bytes):
      raise ValueError(f'it has no {"image" if source.images else wire.FRAMES.decode()}')
    rate = records.number(clip.context, 'image/frame_rate')
    if rate < 0:
      raise ValueError(f'image/frame_rate is {rate}; it must be 0 (unknown) or more')
    labels = records.label_views(clip.context).get(source.index.view, [])
    if source.classes and not all(0 <= label < len(source.classes) for label in labels):
      raise ValueError(f'labels {labels} are not all of the {len(source.classes)} classes')
  except ValueError as e:
    if str(e).startswith(source.index.where(row)):
      raise
    raise ValueError(f'{source.index.where(row)} cannot be read: {e}; write the shard again') from e
  return clip, float(rate)


def size(source: Source, row: int, jpegs: Sequence[bytes]) -> tuple[int, int]:
  """(height, width) of a record's frames. Raises ValueError where they differ, or one is no
  picture."""
  try:
    sizes = {wire.image_size(jpeg) for jpeg in jpegs}
    if len(sizes) > 1:
      raise ValueError(
        f'frames of (height, width) {" and ".join(map(str, sorted(sizes)))}; a clip has one'
      )
  except ValueError as e:
    raise ValueError(
      f'{source.index.where(row)} cannot be read: {e}; prepare the video again'
    ) from e
  return sizes.pop()


def check(source: Source, row: int) -> None:
  """Reads a record and decodes all its frames. Raises ValueError naming file, record, byte, video
  and frame."""
  clip, _ = read(source, row)
  names = clip.context.get('video/filename', []) + clip.context.get('clip/media_id', [])
  name = next((n for n in names if isinstance(n, bytes)), b'unnamed')
  jpegs = []
  for t in range(clip.count):
    try:
      jpegs.append(clip.frame(t))
      wire.image_size(jpegs[-1])
      decode(jpegs[-1])
    except ValueError as e:
      if str(e).startswith(source.index.where(row)):
        raise
      where = f'{source.index.where(row)} (video {name.decode(errors="replace")})'
      raise ValueError(
        f'{where}: frame {t} cannot be decoded: {e}; prepare the video again'
      ) from None
  size(source, row, jpegs)


def decode(image: bytes, into: np.ndarray | None = None) -> np.ndarray:
  """Pixels (H, W, 3) uint8 of an encoded frame, in the array `into` where it is a plain JPEG of
  that size. Raises ValueError for what cannot be decoded whole."""
  import simplejpeg

  try:
    return simplejpeg.decode_jpeg(image, 'RGB', buffer=into)
  except ValueError:  # not a JPEG, or one with a harmless flaw: TensorFlow tells those from damage
    import tensorflow as tf
  try:
    return tf.io.decode_image(image, channels=3, expand_animations=False).numpy()
  except tf.errors.OpError as e:
    raise ValueError(e.message.split('\n')[0]) from None
