"""Lists of videos to be written: rows (video, segment, labels, split) from a CSV manifest or from
class folders, checked."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from data_prep.folders import EXTENSIONS, Folder, scan_folder
from data_prep.text import decode, separator_of

_SHOWN = 10  # bad rows quoted in one error
_LATEST_S = 1e7  # of a segment; 115 days
_MOST_QUOTED = 200  # characters of a value in an error


@dataclass(frozen=True)
class Row:
  """One clip to write.

  Attributes:
    path: relative to the video root, '/' between parts.
    split: name.
    labels: names by label space; '' is the main one, a label space that the clip is not in is
      absent.
    line: of its manifest, or place in the listing of the folder, from 1.
    start_s: of the segment, None = the video's start.
    end_s: of the segment, None = the video's end.
    image_rate: images per second, 0 = unknown, where `path` is a folder of images; None = it is a
      file.
  """

  path: str
  split: str
  labels: dict[str, tuple[str, ...]]
  line: int
  start_s: float | None = None
  end_s: float | None = None
  image_rate: float | None = None

  @property
  def media_id(self) -> str:
    """The path, and the segment if there is one: unique within a dataset's split."""
    if self.start_s is None and self.end_s is None:
      return self.path
    end = 'end' if self.end_s is None else f'{self.end_s:.10g}'
    return f'{self.path}@{self.start_s or 0:.10g}-{end}'


def shorten(text: str, most: int = _MOST_QUOTED) -> str:
  """Returns the text, cut where it is longer than an error should quote."""
  return text if len(text) <= most else f'{text[:most]}... ({len(text)} characters)'


def split_name(name: str, remedy: str) -> str:
  """`name`, which may hold letters, digits and underscores, for shards are called after it. Raises
  ValueError."""
  if not re.fullmatch(r'\w+', name):
    raise ValueError(f'split {name!r} may hold letters, digits and _ only; {remedy}')
  return name


def read_manifest(
  path: str,
  split: str,
  root: str,
  allow_outside: bool = False,
  notes: list[str] | None = None,
) -> list[Row]:
  """Rows of a CSV file `path,label[,start_s,end_s]`, header optional; columns may be separated by
  semicolons or tabs. Text is read as that of lists is (`text.decode`), any line ends.

  With a header, columns come in any order; `label` may be left out (unlabelled videos), and every
  `label:NAME` is a further label space, in which a clip with an empty cell has no part. '|'
  separates several labels. Videos are under `root` unless allow_outside. A line for people goes to
  `notes` where the encoding is not certain. Raises ValueError quoting file, line, column and value
  of what it cannot accept.
  """
  try:
    with open(path, 'rb') as file:
      data = file.read()
  except FileNotFoundError as e:
    raise ValueError(
      f'no manifest {path}; --manifest=SPLIT:FILE takes a CSV of path,label[,start_s,end_s]'
    ) from e
  except OSError as e:
    raise ValueError(f'manifest {path} cannot be read ({e.strerror}); it must be a CSV file') from e
  try:
    text, note = decode(data)
  except ValueError as e:
    raise ValueError(f'{path} {e}') from e
  if note and notes is not None:
    notes.append(f'careful: {path} {note}')
  table = csv.reader(io.StringIO(text, newline=''), delimiter=_separator(text), strict=True)
  try:
    lines = [(i, cells) for i, cells in _numbered(table) if any(c.strip() for c in cells)]
  except csv.Error as e:
    raise ValueError(f'{path} is not a comma-separated text file: {e}') from e
  if not lines:
    raise ValueError(f'{path} has no rows; it needs lines of path,label[,start_s,end_s]')
  _check_form(path, lines, root)
  columns = _columns(path, [c.strip() for c in lines[0][1]])
  lines = lines[1:] if _is_header(lines[0][1]) else lines
  rows, bad = [], []
  for line, cells in lines:
    row, problems = _row([c.strip() for c in cells], columns, split, line, root, allow_outside)
    rows.append(row)
    bad += [f'{path}, line {line}, {p}' for p in problems]
  if bad:
    more = f'\n... and {len(bad) - _SHOWN} more' if len(bad) > _SHOWN else ''
    raise ValueError(f'{len(bad)} bad values in {path}:\n' + '\n'.join(bad[:_SHOWN]) + more)
  if not rows:
    raise ValueError(f'{path} has a header and no rows')
  return rows


def _separator(text: str) -> str:
  """Returns what separates the columns: the first line is a header, or begins with a video."""
  return separator_of(
    text, lambda cells: _is_header(cells) or cells[0].lower().endswith(EXTENSIONS)
  )


def _numbered(reader) -> Iterable[tuple[int, list[str]]]:
  for cells in reader:
    yield reader.line_num, cells


def _is_header(cells: Sequence[str]) -> bool:
  """Returns whether a line names columns: 'path' is among its cells, and not as the label of some
  file."""
  cells = [c.strip().lower() for c in cells]
  return 'path' in cells and not any(c.endswith(EXTENSIONS) for c in cells)


def _check_form(path: str, lines: Sequence[tuple[int, list[str]]], root: str) -> None:
  """Raises ValueError for columns that are separated by what no table is, and a first line that
  names columns in other words."""
  first = [c.strip() for c in lines[0][1]]
  if len(first) == 1 and first[0].lower() != 'path':
    for separator in '|', ' ':
      start = first[0].split(separator)[0].strip().lower()
      whole = first[0].lower().endswith(EXTENSIONS)
      if separator in first[0] and not whole and (start == 'path' or start.endswith(EXTENSIONS)):
        raise ValueError(
          f'{path}: its columns are separated by {separator!r} ({shorten(first[0])!r}); '
          'separate them by commas: path,label[,start_s,end_s], or pass the file as --list'
        )
    if re.fullmatch(r'.*\S\s+\d+', first[0]) and not os.path.exists(os.path.join(root, first[0])):
      raise ValueError(
        f'{path}: its first line ({shorten(first[0])!r}) names no file; if it is a path or folder '
        'with numbers, as lists of SlowFast or MMAction are, pass the file as --list'
      )
  if (
    len(lines) > 1
    and not _is_header(first)
    and not any(c.lower().endswith(EXTENSIONS) for c in first)
  ):
    below = [c.strip() for c in lines[1][1]]
    if any(c.lower().endswith(EXTENSIONS) for c in below) and not os.path.exists(
      os.path.join(root, first[0])
    ):
      raise ValueError(
        f'{path}: its first line ({shorten(",".join(first))}) names no file, the next one does '
        f'({shorten(",".join(below))}): if it is a header, call its columns '
        'path,label[,start_s,end_s]; else mend or remove it'
      )


def _columns(path: str, first: list[str]) -> list[str]:
  """Column names: those of the header, or the usual ones by number."""
  if not _is_header(first):
    usual = ['path', 'label', 'start_s', 'end_s']
    if len(first) not in (1, 2, 4):
      raise ValueError(
        f'{path}: its first line has {len(first)} columns ({shorten(",".join(first))}); without a '
        'header it must be path,label or path,label,start_s,end_s. Lists of Kinetics, '
        'Something-Something, SlowFast or MMAction are read by --list'
      )
    return usual[: len(first)]
  names = [c if c.lower().startswith('label:') else c.lower() for c in first]
  for name in names:
    if name not in ('path', 'label', 'start_s', 'end_s') and not re.fullmatch(r'label:\w+', name):
      raise ValueError(
        f'{path}: unknown column {shorten(name)!r}; use path, label, start_s, end_s, and '
        'label:NAME for further label spaces'
      )
    if names.count(name) > 1:
      raise ValueError(f'{path}: column {name!r} is there {names.count(name)} times; keep one')
  return names


def _row(cells, columns, split, line, root, allow_outside) -> tuple[Row | None, list[str]]:
  """The row, and what is wrong with it: 'column NAME: VALUE why'."""
  if len(cells) != len(columns):
    return None, [
      f'{len(cells)} columns ({shorten(",".join(cells))}) where {len(columns)} are due '
      f'({",".join(columns)})'
    ]
  value, problems = dict(zip(columns, cells)), []
  for column, cell in value.items():
    if re.search(r'[\x00-\x1f\x7f]', cell):
      problems.append(
        f'column {column}: {cell!r:.80} holds a line break or control character; is a quote left '
        'open?'
      )
  times = {}
  for column in ('start_s', 'end_s'):
    times[column], problem = _seconds(value.get(column, ''))
    problems += [f'column {column}: {shorten(value[column])!r} {problem}'] if problem else []
  start, end = times['start_s'], times['end_s']
  if not problems and end is not None and end <= (start or 0):
    problems.append(
      f'column end_s: {shorten(value["end_s"])!r} is not after the start, {start or 0:g}'
    )
  path, problem = relative_path(value['path'], root, allow_outside)
  problems += [f'column path: {shorten(value["path"])!r} {problem}'] if problem else []
  labels = {}
  for column in (c for c in columns if c.startswith('label')):
    names = tuple(n.strip() for n in value[column].split('|')) if value[column] else ()
    if '' in names or len(set(names)) < len(names):
      problems.append(
        f'column {column}: {shorten(value[column])!r} holds an empty or repeated label'
      )
    if names:
      labels[column.removeprefix('label').removeprefix(':')] = names
  if 'label' in columns and not labels:
    problems.append(
      "column label: '' is empty; leave the whole column out (with a header) for unlabelled videos"
    )
  return Row(path, split, labels, line, start, end), problems


def _seconds(text: str) -> tuple[float | None, str]:
  if not text:
    return None, ''
  try:
    seconds = float(text) if text.isascii() and '_' not in text else None
  except ValueError:
    seconds = None
  if seconds is None:
    return None, 'is not a number of seconds'
  if not 0 <= seconds < math.inf:
    return None, 'must be 0 or more, and finite'
  return (seconds, '') if seconds <= _LATEST_S else (None, f'is more than {_LATEST_S:g} s')


def relative_path(path: str, root: str, allow_outside: bool) -> tuple[str, str]:
  """The path relative to the video root, and what is wrong with it ('' if nothing)."""
  if not path or '\0' in path:
    return path, 'is no file name'
  root = os.path.abspath(root)
  given = os.path.join(root, path)
  full, top = os.path.normpath(given), root
  real = _real_folder(os.path.dirname(given))
  if real != _real_folder(os.path.dirname(full)):  # 'link/..' is where the link leads, not here
    full, top = os.path.join(real, os.path.basename(given)), _real_folder(root)
  inside = os.path.relpath(full, top).replace(os.sep, '/')
  if inside == '.':
    return path, 'is no file name'
  named_inside = inside.split('/')[0] != '..'
  if allow_outside:
    return inside if named_inside else full.replace(os.sep, '/'), ''
  if not named_inside:
    return (
      path,
      f'lies outside the video folder {root}; set --videos to a folder above it, or pass '
      '--allow_outside',
    )
  real = (
    os.path.realpath(full) if os.path.islink(full) else os.path.join(real, os.path.basename(full))
  )
  if not real.startswith(_real_folder(root).rstrip(os.sep) + os.sep):
    return (
      path,
      f'leads by a symbolic link to {real}, outside {root}; pass --allow_outside to read it',
    )
  return inside, ''


@functools.lru_cache(10_000)
def _real_folder(folder: str) -> str:
  return os.path.realpath(folder)


def read_folder(folder: str, split: str = 'train') -> list[Row]:
  """Rows of DIR/<class>/*.mp4, or of DIR/<train|val|test>/<class>/*.mp4, see `scan_folder`."""
  return of_folder(scan_folder(folder, split))


def of_folder(found: Folder) -> list[Row]:
  """Rows of the videos that were found in a folder."""
  return [
    Row(path, where, {'': (label,)}, line)
    for line, (path, where, label) in enumerate(found.videos, 1)
  ]


def hold_out(
  rows: Sequence[Row],
  fraction: float,
  split: str = 'val',
  names: Mapping[str, str] | None = None,
) -> list[Row]:
  """The rows, of which a share of the videos of every class is moved to `split`, each with all of
  its segments: those whose name's hash is smallest.

  At least one video of every class that has two or more is moved, and one stays.

  Args:
    rows: of one split.
    fraction: of the videos of a class.
    split: to move to.
    names: by path; a video without one is called by its path.

  Raises:
    ValueError: if the rows have several splits already, the fraction is not in (0, 1), or nothing
      can be moved.
  """
  if not 0 < fraction < 1:
    raise ValueError(f'--holdout={fraction} must be between 0 and 1, e.g. 0.1')
  if len({r.split for r in rows}) > 1 or rows[0].split == split:
    splits = ', '.join(sorted({r.split for r in rows}))
    raise ValueError(
      f'--holdout: the videos are in splits already ({splits}); --join_splits takes them together'
    )
  videos = _by_class(rows)
  classes: dict[str, set[str]] = {}
  for name, paths in videos.items():
    for path in paths:
      classes.setdefault(path, set()).add(name)
  held: set[str] = set()
  left = {name: len(paths) for name, paths in videos.items()}
  for _, paths in sorted(videos.items()):
    due = min(max(1, round(fraction * len(paths))), len(paths) - 1)
    due -= len(held & paths)  # with another of their labels
    for path in sorted(paths - held, key=lambda path: digest((names or {}).get(path, path))):
      if due > 0 and all(left[other] > 1 for other in classes[path]):
        held.add(path)
        due -= 1
        for other in classes[path]:
          left[other] -= 1
  if not held:
    raise ValueError(
      f'--holdout={fraction}: no class has two videos, so that one could be held out; leave the '
      'flag out, or add videos'
    )
  return [replace(r, split=split) if r.path in held else r for r in rows]


def describe_holdout(rows: Sequence[Row], split: str = 'val') -> list[str]:
  """Lines for people: how many videos `hold_out` moved, of each class, and which class has none."""
  every, moved = _by_class(rows), _by_class([r for r in rows if r.split == split])
  held = len(set().union(*moved.values()))
  lines = [f'held out for {split}: {held} of {len({r.path for r in rows})} videos']
  counts = [f'{name} {len(moved.get(name, ()))} of {len(every[name])}' for name in sorted(every)]
  if '' not in every:
    lines[0] += f' ({some(counts, 20)})'
  lacking = sorted(name for name in every if name not in moved)
  if lacking:
    lines.append(
      f'careful: {len(lacking)} of {len(every)} classes have no video in {split} '
      f'({some(lacking)}): each needs two videos or more'
    )
  return lines


def _by_class(rows: Sequence[Row]) -> dict[str, set[str]]:
  """Paths of the videos of each class of the main label space; '' for those without a label."""
  videos: dict[str, set[str]] = {}
  for row in rows:
    for name in row.labels.get('', ()) or ('',):
      videos.setdefault(name, set()).add(row.path)
  return videos


def some(items: Sequence[str], most: int = _SHOWN) -> str:
  """Returns 'a, b, c and 4 more'."""
  more = f' and {len(items) - most} more' if len(items) > most else ''
  return ', '.join(items[:most]) + more


def digest(text: str) -> str:
  """A hash that orders rows at random, the same way everywhere."""
  return hashlib.sha256(text.encode()).hexdigest()


def list_classes(rows: Sequence[Row], label_space: str = '') -> list[str]:
  """Labels of a label space over all rows, sorted; by value where all of them are whole numbers."""
  names = {name for row in rows for name in row.labels.get(label_space, ())}
  return sorted(names, key=int) if all(re.fullmatch(r'\d+', n) for n in names) else sorted(names)


def set_aside(
  rows: Sequence[Row], classes: Sequence[str] | None
) -> tuple[list[Row], list[tuple[Row, str]]]:
  """Rows to write, and (row, reason) of those that are not: repeats of a clip within a split, and
  labels that a fixed class list lacks."""
  kept, aside, first = [], [], {}
  known = None if classes is None else set(classes)
  for row in rows:
    key = (row.split, row.media_id)
    unknown = [] if known is None else [n for n in row.labels.get('', ()) if n not in known]
    if not row.path.isascii() and row.path.encode(errors='replace').decode() != row.path:
      aside.append((row, 'name: the path is not UTF-8; rename the file'))
    elif key in first:
      other = (
        '' if first[key].labels == row.labels else f', there with labels {_labels(first[key])}'
      )
      aside.append((row, f'duplicate: of row {first[key].line}{other}'))
    elif unknown:
      aside.append((row, f'unknown label: {shorten(", ".join(unknown))} not in the class list'))
    else:
      first[key] = row
      kept.append(row)
  return kept, aside


def _labels(row: Row) -> str:
  return ', '.join(
    f'{space}:{"|".join(names)}' if space else '|'.join(names)
    for space, names in row.labels.items()
  )
