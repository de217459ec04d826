"""Writes a dataset folder from rows: shards by any runner, then failed.csv, indexes, manifest.json.

The manifest is written last, so a folder with a manifest is complete. An interrupted run continues:
finished shards have a `.done.json` beside them, everything else is written again.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import importlib.metadata
import io
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_prep import runners
from data_prep import shards as shards_lib
from data_prep.rows import Row, list_classes, set_aside
from data_prep.shards import Settings, Shard
from vjax import files
from vjax.data import manifest as manifests
from vjax.data import tfrecord
from vjax.data.index import write_index
from vjax.data.manifest import FORMAT, Manifest, SplitEntry

_DIGITS = '[0-9]' * 5  # of a shard's number, for glob
_LOCK = '.writing.lock'  # exists while a dataset is unfinished


def write_dataset(
  rows: Sequence[Row],
  out: str,
  *,
  root: str,
  settings: Settings,
  shards: int = 0,
  classes: Sequence[str] | None = None,
  space_classes: Mapping[str, Sequence[str]] | None = None,
  processes: int = 0,
  runner: str = 'pool',
  runner_options: Sequence[str] = (),
  origin: Mapping[str, Any] | None = None,
  skipped: Sequence[tuple[str, str]] = (),
  missing: Sequence[Row] = (),
  allow_empty_classes: bool = False,
  shard_names: str = 'vjax',
) -> Manifest:
  """Writes the dataset in `out`, continues it or, if it is complete from the same input, keeps it.

  Args:
    rows: videos to write, see data_prep.rows.
    out: folder of the dataset.
    root: folder that the rows' paths start from.
    settings: how clips are stored.
    shards: number per split, 0 = as many as make shards of about 256 clips.
    classes: a fixed list for the main label space; a row with another label fails.
    space_classes: the same for further label spaces, where labels not in their list are an error of
      the caller's.
    processes: of the pool, 0 = one a core.
    runner: 'pool' or the name of a Beam runner.
    runner_options: flags of the Beam runner.
    origin: source of the videos, for the manifest.
    skipped: (path, reason) of what lies beside the videos, for skipped.csv.
    missing: those of the rows whose videos are not there, for missing.csv.
    allow_empty_classes: go on where no video of a class could be read. A class of `classes` that
      no row names may always be empty.
    shard_names: form of the shards' names, one of tfrecord.FORMS.

  Returns:
    The manifest.

  Raises:
    ValueError: if nothing can be written, `out` holds something else, or shards is negative.
    OSError: if a disk cannot be read or written. The same call continues once the disk works.
  """
  if shards < 0:
    raise ValueError(
      f'--shards={shards} must be 1 or more; 0 makes shards of about {shards_lib.CLIPS_PER_SHARD} '
      'clips'
    )
  kept, aside = set_aside(rows, classes)
  _check_splits(rows, kept, aside)
  unknown = [row.path for row in kept if row.image_rate == 0]
  if settings.frame_rate and unknown:
    raise ValueError(
      f'--frame_rate={settings.frame_rate:g}: {len(unknown)} videos are folders of images, such as '
      f'{unknown[0]}, whose images per second are not known; pass --image_rate'
    )
  spaces = sorted({''}.union(*(row.labels for row in kept)))
  names = {space: list_classes(kept, space) for space in spaces}
  if classes is not None:
    names[''] = list(classes)
  names |= {s: list(fixed) for s, fixed in (space_classes or {}).items() if s in names}
  described = (
    settings.described() | {'shards': shards} | ({'origin': dict(origin)} if origin else {})
  )
  if (
    shard_names != 'vjax'
  ):  # the default is left out, so that older datasets keep their fingerprint
    described['shard_names'] = shard_names
  sizes = {path: shards_lib.size_of(os.path.join(root, path)) for path in {r.path for r in kept}}
  inputs = {_key(row): _input(row, sizes[row.path]) for row in kept}
  mark = [
    FORMAT,
    described,
    names,
    list(inputs.values()),
    [[*_key(row), why] for row, why in aside],
  ]
  mark = shards_lib.fingerprint(mark)
  _check_folder(out, mark, described)
  os.makedirs(out, exist_ok=True)
  with lock(os.path.join(out, _LOCK)):
    manifest = _check_folder(
      out, mark, described
    )  # another process may have finished it while this one waited
    if not manifest:
      plan = _plan(kept, out, root, settings, shards, names, inputs, shard_names)
      done = _write_shards(plan, out, processes, runner, runner_options)
      splits, failures = _finish(out, done, names, kept, aside)
      if classes is None and not allow_empty_classes:
        _check_classes(rows, splits, names[''], failures, out)
      if skipped:
        _write_csv(os.path.join(out, 'skipped.csv'), ('path', 'reason'), skipped)
      write_missing(out, missing)
      manifest = manifests.make(
        name=os.path.basename(os.path.abspath(out)),
        classes=names,
        multi_label=any(len(row.labels.get('', ())) > 1 for row in kept),
        splits=splits,
        settings=described,
        versions=_versions(),
        failed_by_reason=dict(_kinds(failures)),
        in_several_splits=_shared(kept),
        skipped=len(skipped),
        fingerprint=mark,
      )
      manifests.write(out, manifest)
    for path in _find_shards(out, '.done.json'):
      os.remove(path)
    with contextlib.suppress(FileNotFoundError):  # a process that waited may have removed it
      os.remove(os.path.join(out, _LOCK))
  return manifest


def write_missing(out: str, rows: Sequence[Row]) -> None:
  """Writes missing.csv, a line for each clip whose video is not there; removes it where all are."""
  path = os.path.join(out, 'missing.csv')
  if not rows:
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)
    return
  titles = ('path', 'split', 'row', 'start_s', 'end_s', 'label')
  time = lambda seconds: '' if seconds is None else f'{seconds:.10g}'
  lines = [
    (r.path, r.split, r.line, time(r.start_s), time(r.end_s), '|'.join(r.labels.get('', ())))
    for r in rows
  ]
  _write_csv(path, titles, lines)


@contextlib.contextmanager
def lock(path: str) -> Iterator[None]:
  """Waits until no other process holds the file `path`, then holds it. The lock ends with this
  process, however it ends."""
  import fcntl

  with open(path, 'a') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      print(f'waiting for another process that writes to {os.path.dirname(path)}', flush=True)
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


def complete_manifest(out: str) -> Manifest | None:
  """Returns the manifest in a folder, None if there is none (yet)."""
  return manifests.read(out, 'delete the folder to write the dataset again')


def _find_shards(folder: str, ending: str = '') -> list[str]:
  """Returns the shards in a folder, and what is called after them, that have this ending."""
  found = {
    path
    for pattern in (f'*.tfrecord*{ending}', f'*-{_DIGITS}-of-{_DIGITS}*{ending}')
    for path in glob.glob(os.path.join(glob.escape(folder), pattern))
  }
  return sorted(found)


def _input(row: Row, size: int) -> list[Any]:
  """Returns everything that the clip of a row depends on, its size last. A replaced file is written
  again. The rate of images is left out of rows without, so that older datasets keep their
  fingerprint."""
  rate = [] if row.image_rate is None else [row.image_rate]
  return [*_key(row), row.line, sorted(row.labels.items()), *rate, size]


def _key(row: Row) -> tuple[str, str]:
  return row.split, row.media_id


def _check_folder(out: str, mark: str, described: Mapping[str, Any]) -> Manifest | None:
  """Returns the manifest if the dataset is complete.

  Raises ValueError if the folder holds another dataset, or records without a manifest.
  """
  manifest = complete_manifest(out)
  if not manifest and not os.path.exists(os.path.join(out, _LOCK)) and _find_shards(out):
    raise ValueError(
      f'{out} holds records of another origin ({_find_shards(out)[0]}): choose another --out'
    )
  if manifest and manifest.get('fingerprint') != mark:
    theirs = manifest.get('settings', {})
    changed = [
      f'{k} {theirs.get(k)!r} -> {v!r}' for k, v in described.items() if theirs.get(k) != v
    ]
    raise ValueError(
      f'{out} holds a finished dataset made from other input '
      f'({", ".join(changed) or "other videos or labels"}): choose another --out, or delete that '
      'folder to write it again'
    )
  return manifest


def _check_splits(
  rows: Sequence[Row], kept: Sequence[Row], aside: Sequence[tuple[Row, str]]
) -> None:
  if not rows:
    raise ValueError('no rows: name videos by --folder, --manifest or --list')
  for split in {row.split for row in rows} - {row.split for row in kept}:
    first, why = next((row, why) for row, why in aside if row.split == split)
    raise ValueError(f'no row of split {split!r} can be written; the first: {first.path}: {why}')


def _plan(
  kept: Sequence[Row],
  out: str,
  root: str,
  settings: Settings,
  shards: int,
  names: Mapping[str, Sequence[str]],
  inputs: Mapping[tuple[str, str], Any],
  shard_names: str,
) -> list[Shard]:
  """Returns all shards of all splits, in order of split and number. inputs: by row, everything that
  its clip depends on."""
  plan, versions = [], _versions()
  for split in sorted({row.split for row in kept}):
    parts = shards_lib.assign([row for row in kept if row.split == split], shards)
    for number, part in enumerate(parts):
      mark = [FORMAT, settings.described(), names, [inputs[_key(row)] for row in part], versions]
      mark = shards_lib.fingerprint(mark)
      file = tfrecord.shard_name(split, number, len(parts), shard_names)
      sizes = tuple(inputs[_key(row)][-1] for row in part)
      plan.append(Shard(out, root, file, tuple(part), sizes, names, settings, mark))
  return plan


def _write_shards(
  plan: Sequence[Shard], out: str, processes: int, runner: str, runner_options: Sequence[str]
) -> list[dict[str, Any]]:
  """Writes the unfinished shards and returns the descriptions of all shards. Files that belong to
  no shard of the plan are removed."""
  owned = {os.path.join(out, shard.file) for shard in plan}
  for path in _find_shards(out):
    if path.removesuffix('.done.json') not in owned:
      os.remove(path)
  todo = [shard for shard in plan if not shards_lib.finished(shard)]
  rows = sum(len(shard.rows) for shard in plan)
  start = rows - sum(len(shard.rows) for shard in todo)
  if start:
    print(
      f'{out}: continuing; {len(plan) - len(todo)} of {len(plan)} shards are finished', flush=True
    )
  progress = runners.Progress('writing', rows, 'clips', start)
  if runner == 'pool':
    runners.run_pool(shards_lib.write_shard, todo, processes, progress)
  elif todo:
    runners.run_beam(shards_lib.write_shard, todo, runner, runner_options)
  progress.to(rows)
  progress.close()
  done = [shards_lib.finished(shard) for shard in plan]
  if None in done:
    raise RuntimeError(
      f'{plan[done.index(None)].file} is not in {out} after the run: the workers must write to a '
      'file system that this machine sees too'
    )
  return done


def _finish(
  out: str,
  done: Sequence[Mapping[str, Any]],
  names: Mapping[str, Sequence[str]],
  kept: Sequence[Row],
  aside: Sequence[tuple[Row, str]],
) -> tuple[dict[str, SplitEntry], list[list]]:
  """Writes failed.csv and the indexes; returns the manifest's splits, and the failures [path,
  split, row, reason]. Raises ValueError for an empty split."""
  failures = [[row.path, row.split, row.line, why] for row, why in aside] + sum(
    (d['failures'] for d in done), []
  )
  failures.sort(key=lambda f: (f[1], f[2], f[0]))
  _write_csv(os.path.join(out, 'failed.csv'), ('path', 'split', 'row', 'reason'), failures)
  splits = {}
  for split in sorted({row.split for row in kept}):
    parts = [d for d in done if d['file'].startswith((f'{split}-', f'{split}.tfrecord-'))]
    counts = {
      space: [sum(c) for c in zip(*(d['clips_per_class'][space] for d in parts))] for space in names
    }
    splits[split] = {key: sum(d[key] for d in parts) for key in ('clips', 'frames', 'duration_s')}
    splits[split]['shards'] = [
      {key: d[key] for key in ('file', 'clips', 'bytes', 'crc32c')} for d in parts
    ]
    splits[split] |= {'clips_per_class': counts.pop(''), 'views': counts}
    if not splits[split]['clips']:
      of_split = [failure for failure in failures if failure[1] == split]
      raise ValueError(
        f'no video of split {split!r} could be read: {count_reasons(of_split)}; see '
        f'{out}/failed.csv'
      )
    write_index(out, split)
  return splits, failures


def _shared(rows: Sequence[Row]) -> int:
  """Returns the number of videos that are in more than one split."""
  splits: dict[str, set[str]] = {}
  for row in rows:
    splits.setdefault(row.path, set()).add(row.split)
  return sum(len(names) > 1 for names in splits.values())


def _check_classes(
  rows: Sequence[Row],
  splits: Mapping[str, SplitEntry],
  names: Sequence[str],
  failures: Sequence[Sequence[Any]],
  out: str,
) -> None:
  """Raises ValueError for classes of which no video could be read."""
  counts = dict(zip(names, zip(*(split['clips_per_class'] for split in splits.values()))))
  empty = [name for name in list_classes(rows) if not sum(counts.get(name, ()))]
  if empty:
    theirs = {(r.path, r.split, r.line) for r in rows if {*r.labels.get('', ())} & {*empty}}
    reasons = count_reasons([f for f in failures if tuple(f[:3]) in theirs])
    more = f' and {len(empty) - 10} more' if len(empty) > 10 else ''
    raise ValueError(
      f'no video of {len(empty)} of {len(list_classes(rows))} classes could be read '
      f'({", ".join(empty[:10])}{more}): {reasons}; see {out}/failed.csv. Mend or remove them, or '
      'run the same command with --allow_empty_classes'
    )


def _write_csv(path: str, titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
  text = io.StringIO()
  csv.writer(text, lineterminator='\n').writerows([titles, *rows])
  files.write_bytes(path, text.getvalue().encode(errors='backslashreplace'), shared=True)


def _kinds(failures: Sequence[Sequence[Any]]) -> list[tuple[str, int]]:
  """Returns (kind of reason, count), most frequent first."""
  return sorted(
    Counter(f[3].split(':')[0] for f in failures).items(), key=lambda kind: (-kind[1], kind[0])
  )


def count_reasons(failures: Sequence[Sequence[Any]]) -> str:
  """Returns a text such as '3 truncated, 1 missing' for failures [path, split, row, reason]."""
  return ', '.join(f'{n} {kind}' for kind, n in _kinds(failures))


def _versions() -> dict[str, str]:
  """Returns the versions on which the bytes of a shard depend."""
  import av

  names = ('vjax', 'av', 'simplejpeg', 'numpy', 'pillow')
  codecs = {
    name: '.'.join(map(str, av.library_versions[name])) for name in ('libavcodec', 'libswscale')
  }
  return {name: importlib.metadata.version(name) for name in names} | codecs
