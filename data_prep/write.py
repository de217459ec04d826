"""Videos -> a dataset of TFRecord shards, with manifest, index and a list of what failed.

  python -m data_prep.write --folder=DIR --out=data/mine                 # DIR/<class>/*.mp4
  python -m data_prep.write --manifest=train.csv --videos=DIR --out=data/mine
  python -m data_prep.write --manifest=train:a.csv --manifest=val:b.csv --videos=DIR --out=data/mine
  python -m data_prep.write --list train.csv val.csv --root=DIR --out=data/k400   # docs/prepare.md

Run again after an interruption, it continues. On a Beam cluster: --runner=SparkRunner and the
runner's own flags; --videos and --out must be on a file system that all its machines share.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator, Sequence

from data_prep import dataset, folders, list_rows, rows, shards, windows
from vjax.data import tfrecord
from vjax.data.class_list import read_classes
from vjax.data.manifest import Manifest
from vjax.data.video_file import MAX_DURATION_S


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the command line."""
  parser = _parser()
  args, others = parser.parse_known_args(argv)
  if others and args.runner == 'pool':
    parser.error(f'unknown flags: {" ".join(others)} (a Beam --runner=... would take its own here)')
  if sum(map(bool, (args.folder, args.manifest, args.list))) != 1:
    parser.error('name the videos by --folder=DIR, --manifest=FILE or --list FILE, one of them')
  for flag in ('list_kind', 'multi_label', 'allow_missing', 'window_s', 'report'):
    others_too = flag == 'allow_missing' and args.manifest
    if getattr(args, flag) and not args.list and not others_too:
      parser.error(f'--{flag} is of --list FILE, which is not given: leave --{flag} out')
  if args.processes < 0:
    parser.error(f'--processes={args.processes} must be 1 or more; 0 takes one a core')
  if args.join_splits and not args.holdout:
    parser.error('--join_splits needs --holdout=SHARE, which makes a split val of all: pass it too')
  with one_message(args.out):
    classes = read_classes(args.classes) if args.classes else None
    listed = _rows(args, classes)
    found = listed.rows
    if args.report:
      _report(listed, args.out)
      return
    if args.join_splits:
      found = [dataclasses.replace(row, split='train') for row in found]
    if args.holdout:
      names = listed.names if args.join_splits else None
      found = rows.hold_out(found, args.holdout, names=names)
      print('\n'.join(rows.describe_holdout(found)), flush=True)
    manifest = dataset.write_dataset(
      found,
      args.out,
      root=listed.root,
      settings=shards.Settings(args.short_side, args.quality, args.frame_rate, args.max_duration_s),
      shards=args.shards,
      classes=listed.classes,
      space_classes=listed.space_classes,
      processes=args.processes,
      runner=args.runner,
      runner_options=others,
      skipped=listed.skipped,
      missing=listed.missing,
      allow_empty_classes=args.allow_empty_classes,
      shard_names=args.shard_names,
    )
  print(summary(manifest, args.out))


def _report(listed: list_rows.Found, out: str) -> None:
  """Writes missing.csv, and says what of the lists is there."""
  if dataset.complete_manifest(out):
    raise ValueError(
      f'--report: {out} holds a finished dataset, whose missing.csv says what it lacks; pass '
      'another --out'
    )
  if not listed.missing:  # else it is among the notes
    print('\n'.join(windows.availability(listed.rows, [])))
  os.makedirs(out, exist_ok=True)
  dataset.write_missing(out, listed.missing)
  where = f'; each is named in {os.path.join(out, "missing.csv")}' if listed.missing else ''
  print(f'missing: {len(listed.missing)} clips of {len(listed.rows)}{where}; nothing else written')


@contextlib.contextmanager
def one_message(out: str) -> Iterator[None]:
  """Ends the command in words where its input, disk, memory or workers fail, not in a traceback."""
  try:
    yield
  except ValueError as e:
    raise SystemExit(f'error: {e}') from e
  except (OSError, RuntimeError, MemoryError) as e:
    why = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
    where = f' ({e.filename})' if isinstance(e, OSError) and e.filename else ''
    safe = (
      ''
      if 'the same command' in why
      else '; nothing is lost, the same command continues once that is mended'
    )
    raise SystemExit(
      f'error: writing --out={out} stopped: {why or type(e).__name__}{where}{safe}'
    ) from e


def summary(manifest: Manifest, out: str) -> str:
  """Summary for people: clips of a dataset, and those left out."""
  lines = [f'{out}: {len(manifest["classes"])} classes']
  for name, split in manifest['splits'].items():
    megabytes = sum(shard['bytes'] for shard in split['shards']) / 1e6
    lines.append(
      f'  {name}: {split["clips"]} clips, {split["frames"]} frames, '
      f'{split["duration_s"] / 60:.1f} min, {megabytes:.1f} MB in {len(split["shards"])} shards'
    )
  if manifest['failed']:
    reasons = ', '.join(f'{count} {kind}' for kind, count in manifest['failed_by_reason'].items())
    lines.append(
      f'  not written: {manifest["failed"]} ({reasons}); each is named in '
      f'{os.path.join(out, "failed.csv")}'
    )
  if manifest['skipped']:
    lines.append(
      f'  skipped: {manifest["skipped"]} files, folders or rows that are no videos of a class; '
      f'each is named in {os.path.join(out, "skipped.csv")}'
    )
  lines += _lacking(manifest)
  if manifest['in_several_splits']:
    lines.append(f'  careful: {manifest["in_several_splits"]} videos are in more than one split')
  return '\n'.join(lines)


def _lacking(manifest: Manifest) -> list[str]:
  """Lines about the classes of which a split has no clip."""
  lines = []
  for name, split in manifest['splits'].items():
    counts = split['clips_per_class']
    lacking = [n for n, count in zip(manifest['classes'], counts) if not count]
    if lacking and any(counts):
      more = f' and {len(lacking) - 10} more' if len(lacking) > 10 else ''
      lines.append(
        f'  careful: {name} has no clip of {len(lacking)} of {len(counts)} classes '
        f'({", ".join(lacking[:10])}{more})'
      )
  return lines


def _rows(args: argparse.Namespace, classes: list[str] | None) -> list_rows.Found:
  """Rows and what is told about them, by the flags. classes: of --classes."""
  if not 0 <= args.image_rate < math.inf:
    raise ValueError(
      f'--image_rate={args.image_rate:g} must be images per second, e.g. 12; 0: as the list says'
    )
  if args.window_s and not windows.LEAST_S <= args.window_s < math.inf:
    raise ValueError(
      f'--window_s={args.window_s:g} must be {windows.LEAST_S:g} seconds or more, e.g. 10; 0 takes '
      'segments whole'
    )
  if args.list:
    listed = list_rows.read_lists(
      args.list,
      args.videos or '',
      kind=args.list_kind,
      splits=args.split,
      classes=classes,
      multi_label=args.multi_label,
      allow_missing=args.allow_missing or args.report,
      allow_outside=args.allow_outside,
      ignore=args.out,
      image_rate=args.image_rate,
      window_s=args.window_s,
    )
    print('\n'.join(listed.notes), flush=True)
    return listed
  if args.folder:
    if len(args.split) > 1:
      raise ValueError(
        f'--folder takes one --split, not {len(args.split)}; sub-folders train, val, test are '
        'splits'
      )
    split = rows.split_name((args.split or ['train'])[0], 'rename it')
    scanned = folders.scan_folder(
      args.folder, split, allow_empty_classes=args.allow_empty_classes, ignore=args.out
    )
    for note in scanned.notes:
      print(note, flush=True)
    found = rows.of_folder(scanned)
    return list_rows.Found(found, args.folder, classes, scanned.skipped, scanned.notes)
  named = manifest_splits(args.manifest, args.split)
  roots = {args.videos or os.path.dirname(os.path.abspath(path)) for _, path in named}
  if len(roots) > 1:
    raise ValueError(
      f'the manifests are in different folders ({", ".join(sorted(roots))}): pass --videos=DIR'
    )
  root = roots.pop()
  if not os.path.isdir(root):
    raise ValueError(f'--videos: no folder {root}; the paths in a manifest start from there')
  notes: list[str] = []
  found = [
    row
    for split, path in named
    for row in rows.read_manifest(path, split, root, args.allow_outside, notes)
  ]
  for note in notes:
    print(note, flush=True)
  if not args.allow_missing:
    missing = [(r.split, r.path) for r in found if not os.path.lexists(os.path.join(root, r.path))]
    list_rows.check_missing(missing, found, root, '--videos')
  return list_rows.Found(found, root, classes, [], notes)


def manifest_splits(manifests: Sequence[str], splits: Sequence[str]) -> list[tuple[str, str]]:
  """(split, path) of every --manifest: 'SPLIT:FILE', or 'FILE' with its own --split, or named after
  the file.

  Raises ValueError for a split that is named twice, or a number of --split that does not fit.
  """
  if splits and len(splits) != len(manifests):
    raise ValueError(
      f'{len(splits)} --split for {len(manifests)} --manifest: give one each, or '
      '--manifest=SPLIT:FILE'
    )
  pairs = []
  for i, text in enumerate(manifests):
    split, colon, path = text.partition(':')
    if splits:
      split, path = splits[i], text
    elif not colon or os.path.exists(text):
      split, path = os.path.splitext(os.path.basename(text))[0], text
    pairs.append((rows.split_name(split, f'write --manifest=train:{path}'), path))
  if len({split for split, _ in pairs}) < len(pairs):
    raise ValueError(
      f'the manifests share a split ({", ".join(s for s, _ in pairs)}): join the files, or rename '
      'one'
    )
  return pairs


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add('--out', required=True, help='folder of the dataset, e.g. data/mine')
  add(
    '--folder',
    help='DIR/<class>/*.mp4, or DIR/<train|val|test>/<class>/*.mp4; folders below a class belong '
    'to it',
  )
  add(
    '--manifest',
    action='append',
    default=[],
    help='[SPLIT:]CSV of path,label[,start_s,end_s]; repeat for splits',
  )
  add(
    '--list',
    nargs='+',
    action='extend',
    default=[],
    metavar='[SPLIT:]FILE',
    help='lists that datasets and other frameworks have, e.g. Kinetics CSV, Something-Something '
    'JSON, paths and labels of SlowFast and MMAction; see docs/prepare.md',
  )
  add(
    '--list_kind',
    choices=sorted(list_rows.KINDS),
    default='',
    help='of every --list; default: recognized by what is in it',
  )
  add(
    '--window_s',
    type=float,
    default=0,
    help='cut the segments of a --list into windows of so many seconds, each a clip; the last one '
    f'is what is left, if that is {windows.LEAST_S:g} s or more',
  )
  add(
    '--report',
    action='store_true',
    help='say what of a --list is there, write OUT/missing.csv, and nothing else',
  )
  add('--multi_label', action='store_true', help='all fields of a --list after the path are labels')
  add(
    '--videos',
    '--root',
    metavar='DIR',
    help="folder that the paths of a manifest or list start from; default: the list's own",
  )
  add(
    '--split',
    action='append',
    default=[],
    help='split of --folder (default train), or of each --manifest or --list in turn',
  )
  add(
    '--holdout',
    type=float,
    default=0,
    help='share of every class that goes to a split val, e.g. 0.1; one video of a class at least',
  )
  add(
    '--join_splits',
    action='store_true',
    help='take the videos of all splits together before --holdout; which go to val depends on a '
    "list's names alone, not on folders",
  )
  add('--classes', help='file with one class name a line; default: all labels, sorted')
  add('--short_side', type=int, default=256, help='stored pixels; 0 keeps the size')
  add('--quality', type=int, default=95, metavar='1..100', help='of the stored JPEG frames')
  add(
    '--frame_rate',
    type=float,
    default=0,
    help='frames per second to store; 0 keeps all, with their own times',
  )
  add(
    '--image_rate',
    type=float,
    default=0,
    help='images per second of folders of images in a --list; 0: what the kind of list says',
  )
  add(
    '--max_duration_s',
    type=float,
    default=MAX_DURATION_S,
    help='of a clip; a longer one fails, default an hour',
  )
  add('--shards', type=int, default=0, help='per split; 0: about 256 clips each')
  add(
    '--shard_names',
    choices=sorted(tfrecord.FORMS),
    default='vjax',
    help="form of the shards' names: train-00000-of-00005.tfrecord, train-00000-of-00005 (dmvr: "
    'DMVR finds it, and Scenic as train@5), or train.tfrecord-00000-of-00005 (scenic)',
  )
  add(
    '--allow_empty_classes',
    action='store_true',
    help='go on where a class has no video, or none that can be read',
  )
  add('--allow_outside', action='store_true', help='let a list name files outside --videos')
  add(
    '--allow_missing',
    action='store_true',
    help='go on where more than half of the videos of a list are not there',
  )
  add('--processes', type=int, default=0, help='of the pool; 0: one a core')
  add(
    '--runner',
    default='pool',
    help='pool, or a Beam runner, e.g. DirectRunner, SparkRunner; its flags pass through',
  )
  return parser


if __name__ == '__main__':
  main()
