"""The manifest of a dataset folder, manifest.json: its one schema, read and written here.

data_prep writes the manifest last, so a folder with a manifest is complete. `write_scanned` makes
one for records without a manifest.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from etils import epath

from vjax import files
from vjax.data import sequence_example, tfrecord
from vjax.data.labels import Labels

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
    renumbered: by split and label space, the label in use of every label of its records, -1 = none;
      splits whose records have the labels in use are left out.
    frame_rate: frames per second of records that do not say their own, 0 = unknown.
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
  renumbered: dict[str, dict[str, list[int]]]
  frame_rate: float
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
  renumbered: Mapping[str, Mapping[str, list[int]]] | None = None,
  frame_rate: float = 0,
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
    'renumbered': {split: dict(maps) for split, maps in (renumbered or {}).items()},
    'frame_rate': frame_rate,
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
  nothing |= {'renumbered': {}, 'frame_rate': 0, 'fingerprint': ''}
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
  kinds |= {'renumbered': (dict, 'object')}
  wrong += [
    f'{key} is no {kind}'
    for key, (of, kind) in kinds.items()
    if key in manifest and type(manifest[key]) is not of
  ]
  if not _is_rate(manifest.get('frame_rate', 0)):
    wrong.append('frame_rate is no number of frames per second')
  if not wrong and not all(map(_is_maps, manifest.get('renumbered', {}).values())):
    wrong.append('renumbered is no description of labels')
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


def _is_rate(value: Any) -> bool:
  return type(value) in (int, float) and 0 <= value < math.inf


def _is_maps(value: Any) -> bool:
  """Returns whether a value is lists of label numbers by label space."""
  return isinstance(value, dict) and all(
    isinstance(of, list) and all(type(i) is int for i in of) for of in value.values()
  )


def write_scanned(
  folder: str | epath.Path,
  classes: Sequence[str] = (),
  frame_rate: float = 0,
  say: Callable[[str], None] = logging.warning,
  to: str | epath.Path = '',
) -> str:
  """Writes the manifest of a folder of records that have none; returns its path.

  Args:
    folder: of the dataset; all its splits are read.
    classes: names by label index of the main label space; without them the records' own
      `clip/label/text` is used, or the numbers.
    frame_rate: frames per second of records that do not say their own, 0 = unknown.
    say: is given a sentence for people about labels that had to be interpreted.
    to: folder that it is written to, '' = `folder`.

  Raises:
    ValueError: for damaged records, labels without a name, and names and numbers of labels that
      contradict each other or `classes`.
  """
  folder = epath.Path(folder)
  found = Labels(classes)
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
  settled = found.settle(str(folder))
  for split, described in splits.items():
    counts = {space: found.counted(split, space, settled) for space in settled.classes}
    described['clips_per_class'] = counts.pop('')
    described['views'] = counts
  for note in settled.notes:
    say(note)
  made = make(
    name=folder.name,
    classes=settled.classes,
    multi_label=found.multi_label,
    splits=splits,
    renumbered=settled.renumbered,
    frame_rate=frame_rate,
  )
  return write(to or folder, made)


def _describe(file: epath.Path, clips: int) -> ShardEntry:
  size, checksum = tfrecord.size_and_crc(file)
  return {'file': file.name, 'clips': clips, 'bytes': size, 'crc32c': checksum}
