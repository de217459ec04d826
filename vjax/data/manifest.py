"""The manifest of a dataset folder, manifest.json: its one schema, read and written here.

data_prep writes the manifest last, so a folder with a manifest is complete. `write_scanned` makes
one for records without a manifest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from etils import epath

from vjax import files
from vjax.data import sequence_example, tfrecord

FORMAT = 'vjax-1'
SCHEMA = 2  # a manifest without a number has schema 1
_LABELS = {False: 'one', True: 'many'}  # number of labels a clip, as stored


class ShardEntry(TypedDict, total=False):
  """One file of records.

  Attributes:
    file: name.
    clips: records in it.
    bytes: its size.
    crc32c: of the whole file, 8 hex digits. In schema 1, manifests made by scanning have `sha256`
      here.
  """

  file: str
  clips: int
  bytes: int
  crc32c: str


class SplitEntry(TypedDict, total=False):
  """One split.

  Attributes:
    clips: records in it.
    frames: of all records.
    duration_s: of all records, in seconds.
    shards: its files, in order.
    clips_per_class: clips by label index of the main label space.
    views: clips by label index, for every further label space.
  """

  clips: int
  frames: int
  duration_s: float
  shards: list[ShardEntry]
  clips_per_class: list[int]
  views: dict[str, list[int]]


class Manifest(TypedDict, total=False):
  """Description of a whole dataset.

  Attributes:
    format: FORMAT.
    schema: SCHEMA.
    name: of the folder.
    classes: names of the main label space, in label order.
    views: names of further label spaces, in label order, by label space.
    labels: 'one' or 'many' a clip.
    splits: by name.
    settings: of data_prep.
    versions: of the packages on which its bytes depend.
    failed: number of videos that could not be written; failed.csv lists these.
    failed_by_reason: number of these by kind of reason.
    in_several_splits: number of videos in more than one split.
    skipped: number of files and folders beside the videos; skipped.csv lists these.
    fingerprint: of rows and settings, by which data_prep recognizes its own datasets; '' = not made
      by data_prep.
  """

  format: str
  schema: int
  name: str
  classes: list[str]
  views: dict[str, list[str]]
  labels: str
  splits: dict[str, SplitEntry]
  settings: dict[str, Any]
  versions: dict[str, str]
  failed: int
  failed_by_reason: dict[str, int]
  in_several_splits: int
  skipped: int
  fingerprint: str


def make(
  *,
  name: str,
  classes: Mapping[str, Sequence[str]],
  multi_label: bool,
  splits: Mapping[str, SplitEntry],
  settings: Mapping[str, Any] | None = None,
  versions: Mapping[str, str] | None = None,
  failed_by_reason: Mapping[str, int] | None = None,
  in_several_splits: int = 0,
  skipped: int = 0,
  fingerprint: str = '',
) -> Manifest:
  """Returns a manifest of the current schema.

  classes: names by label space, '' = the main one. The other arguments are fields of `Manifest`.
  """
  failed = dict(failed_by_reason or {})
  return {
    'format': FORMAT,
    'schema': SCHEMA,
    'name': name,
    'classes': list(classes['']),
    'views': {space: list(names) for space, names in classes.items() if space},
    'labels': _LABELS[multi_label],
    'splits': dict(splits),
    'settings': dict(settings or {}),
    'versions': dict(versions or {}),
    'failed': sum(failed.values()),
    'failed_by_reason': failed,
    'in_several_splits': in_several_splits,
    'skipped': skipped,
    'fingerprint': fingerprint,
  }


def write(folder: str | epath.Path, manifest: Manifest) -> str:
  """Writes the manifest of a folder; returns its path."""
  path = epath.Path(folder) / 'manifest.json'
  text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
  files.write_bytes(path, f'{text}\n'.encode(), shared=True)
  return str(path)


def read(folder: str | epath.Path, remedy: str) -> Manifest | None:
  """Reads the manifest of a folder.

  Manifests of schema 1 are read too. These keep their shards' checksums of either kind, and missing
  fields are filled in.

  Args:
    folder: of the dataset.
    remedy: advice in the error for a damaged manifest.

  Returns:
    The manifest in the current schema, None where there is no manifest.json.

  Raises:
    ValueError: for a manifest that is damaged, of other types, or of a later schema.
  """
  path = epath.Path(folder) / 'manifest.json'
  if not path.exists():
    return None
  try:
    manifest = json.loads(path.read_bytes())
    lacking = {'classes', 'views', 'splits'} - set(manifest)
  except (ValueError, TypeError, RecursionError) as e:
    raise ValueError(f'{path} is damaged ({e}): {remedy}') from e
  wrong = [f'it lacks {sorted(lacking)}'] if lacking else _wrong_types(manifest)
  if wrong:
    raise ValueError(f'{path} is not a manifest of records ({wrong[0]}): {remedy}')
  if manifest.get('schema', 1) > SCHEMA:
    raise ValueError(
      f'{path} has schema {manifest["schema"]}, this version of vjax reads up to {SCHEMA}: update '
      'vjax'
    )
  return _upgraded(manifest, epath.Path(folder).name)


def _upgraded(manifest: dict[str, Any], name: str) -> Manifest:
  """Returns a manifest of any schema as one of the current schema. `labels` stays '' where it is
  unknown."""
  nothing = {'format': FORMAT, 'name': name, 'labels': '', 'settings': {}, 'versions': {}}
  nothing |= {'failed': 0, 'failed_by_reason': {}, 'in_several_splits': 0, 'skipped': 0}
  nothing |= {'fingerprint': ''}
  return {**nothing, **manifest, 'schema': SCHEMA}


def label_kind(manifest: Manifest) -> str:
  """Returns 'single_label' or 'multi_label', '' where the manifest has no such entry."""
  kinds = {_LABELS[False]: 'single_label', _LABELS[True]: 'multi_label'}
  return kinds.get(manifest.get('labels', ''), '')


def _wrong_types(manifest: Any) -> list[str]:
  """Returns an error text for every wrong entry of a manifest."""
  if not isinstance(manifest, dict):
    return ['it is no object']
  names = lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value)
  views, splits = manifest['views'], manifest['splits']
  wrong = [
    f'{key} is no object' for key in ('views', 'splits') if not isinstance(manifest[key], dict)
  ]
  kinds = {'schema': (int, 'whole number'), 'labels': (str, 'text'), 'settings': (dict, 'object')}
  wrong += [
    f'{key} is no {kind}'
    for key, (of, kind) in kinds.items()
    if key in manifest and type(manifest[key]) is not of
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


def write_scanned(folder: str, classes: Sequence[str] = ()) -> str:
  """Writes the manifest of a folder of records that have none; returns its path.

  Args:
    folder: of the dataset; all its splits are read.
    classes: names by label index of the main label space; without them the records' own
      `clip/label/text` is used, or the numbers.

  Raises:
    ValueError: for damaged records, and labels without a name.
  """
  folder = epath.Path(folder)
  found = _Labels(classes)
  splits: dict[str, SplitEntry] = {}
  for split in tfrecord.splits(folder):
    files = tfrecord.shard_files(folder, split)
    clips, frames, duration_us = Counter(), 0, 0
    for file in files:
      for offset, payload, _ in tfrecord.payloads(folder / file):
        context, spans, labels = sequence_example.decode_at(payload, folder / file, offset)
        where = f'{folder / file}: the record at byte {offset}'
        found.add(split, context, labels, where)
        clips[file] += 1
        frames += len(spans) or len(context.get(sequence_example.IMAGE, []))
        try:
          duration_us += sequence_example.number(context, sequence_example.END_US)
          duration_us -= sequence_example.number(context, sequence_example.START_US)
        except ValueError as e:
          raise ValueError(f'{where}: {e}') from e
    splits[split] = {
      'clips': clips.total(),
      'frames': frames,
      'duration_s': duration_us / 1e6,
      'shards': [_describe(folder / file, clips[file]) for file in files],
    }
  names = found.listed(str(folder))
  for split, described in splits.items():
    counts = {space: found.counted(split, space, len(listed)) for space, listed in names.items()}
    described['clips_per_class'] = counts.pop('')
    described['views'] = counts
  made = make(name=folder.name, classes=names, multi_label=found.multi_label, splits=splits)
  return write(folder, made)


class _Labels:
  """Collects names and numbers of the labels in a scan. classes: known names of the main label
  space."""

  def __init__(self, classes: Sequence[str]):
    self._known = classes
    self._names: dict[str, dict[int, str]] = {'': dict(enumerate(classes))}
    self._counts: dict[tuple[str, str], Counter] = {}
    self.multi_label = False

  def add(self, split: str, context: dict[str, list], labels: dict[str, list], where: str) -> None:
    """Adds the labels of one record, by label space. Raises ValueError naming the record."""
    for space, indices in labels.items():
      if self._known and not space and max(indices, default=0) >= len(self._known):
        raise ValueError(
          f'{where} has label {max(indices)}, but --classes names {len(self._known)}: add the '
          'others'
        )
      if space or not self._known:
        names = self._names.setdefault(space, {})
        texts = dict(zip(indices, _texts(context, space, where)))
        names.update({i: texts.get(i, names.get(i, str(i))) for i in indices})
      self.multi_label |= not space and len(indices) > 1
      self._counts.setdefault((split, space), Counter()).update(indices)

  def listed(self, where: str) -> dict[str, list[str]]:
    """Returns names in label order, by label space. A label below the highest one that has no name
    is named by its number."""
    listed = {}
    for space, names in self._names.items():
      if negative := [i for i in names if i < 0]:
        raise ValueError(
          f'{where}, label space {space!r}: labels {negative} are negative; they must count from 0'
        )
      listed[space] = [names.get(i, str(i)) for i in range(max(names, default=-1) + 1)]
    return listed

  def counted(self, split: str, space: str, classes: int) -> list[int]:
    """Returns the number of clips of each class."""
    counts = self._counts.get((split, space), Counter())
    return [counts[i] for i in range(classes)]


def _texts(context: dict[str, list], space: str, where: str) -> list[str]:
  """Returns the label names that a record gives."""
  key = sequence_example.label_key(space, 'text')
  try:
    return [text.decode() for text in context.get(key, [])]
  except (AttributeError, UnicodeDecodeError) as e:
    raise ValueError(
      f'{where}: {key} is {context[key]!r:.60}, not text in UTF-8; pass names by --classes'
    ) from e


def _describe(file: epath.Path, clips: int) -> ShardEntry:
  size, checksum = tfrecord.size_and_crc(file)
  return {'file': file.name, 'clips': clips, 'bytes': size, 'crc32c': checksum}
