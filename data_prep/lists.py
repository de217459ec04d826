"""Readers of the lists of videos that users have already: the official Kinetics CSV,
Something-Something's JSON, UCF101 and HMDB51 splits, and the lists of SlowFast and MMAction. Those
of further datasets are in `data_prep.published`.

Each reader is a function from the text of a list to entries, and looks at no file;
`data_prep.list_rows` does.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from data_prep import folders
from data_prep.rows import shorten
from vjax.data.split_names import SPLITS

# Kinds of lists that name videos, by the name that --list_kind takes.
KINDS = {
  'kinetics': 'official Kinetics CSV',
  'ssv2': 'Something-Something V2 JSON',
  'path_label': 'paths and labels, as of SlowFast or MMAction',
  'rawframes': 'folders of images with their number and label, as of MMAction',
  'ucf101': 'UCF101 split',
  'hmdb51': 'HMDB51 split of a class',
}
# Kinds of lists that name classes, in order of their index.
CLASS_KINDS = {'ssv2_labels': "Something-Something's labels.json", 'ucf101_classes': 'classInd.txt'}

_SHOWN = 10  # bad lines quoted in one error
_SAMPLE = 200  # lines by which the kind of a list and its separator are recognized
_VIDEO = '|'.join(re.escape(e) for e in folders.EXTENSIONS)
ENDS_AS_VIDEO = re.compile(rf'.*(?:{_VIDEO})', re.I | re.S)
_VIDEO_AND_REST = re.compile(rf'(.*(?:{_VIDEO}))\s+(.+)', re.I)
_UCF101 = re.compile(r'(?P<label>\w+)[/\\](?P<stem>v_(?P<name>\w+)_g\d+_c\d+)(\.\w+)?([\s,]+\d+)?')
HMDB51_NAME = re.compile(r'(?P<label>.+)_test_split(?P<number>\d)\.txt', re.I)
_HMDB51_LINE = re.compile(r'(?P<name>[^/\\]+\.\w+)[\s,]+(?P<part>[012])')
# Column names of lists with a header, the most telling one first.
_PATHS = (
  'path video_path clip_path file_path filepath video filename file_name file video_name clip '
  'clip_name name video_id id'
).split()
_LABELS = (
  'class_name label_name label labels class class_id label_id class_index label_index category '
  'action target'
).split()
_COLUMNS = {
  **dict.fromkeys(_PATHS, 'path'),
  **dict.fromkeys(_LABELS, 'label'),
  **dict.fromkeys(('split', 'subset', 'usage'), 'split'),
  **dict.fromkeys('total_frames num_frames frames frame_id original_vido_id'.split(), 'frames'),
}
NO_IMAGES = (
  'neither a video nor images with numbers, such as img_00001.jpg, are there: copy the images into '
  'the folder DIR, or put the video beside it, as DIR.mp4 (any video format)'
)


@dataclass(frozen=True)
class Entry:
  """One row of a list.

  Attributes:
    names: of the file: paths from the video folder or, with by_stem, names without extension of a
      file in any folder. The first that is there is taken.
    labels: names or numbers; none for a video without a label.
    line: of the list, from 1; in JSON the place in the list.
    split: train, val, test, ...; '' where the list does not say.
    by_stem: how `names` are looked for.
    segment: (start, end) in seconds of the original video, which the file of the last name may be.
    unused: why the list itself leaves the video out, '' if it does not.
    always_cut: the files are the original video, whatever their names.
    images: with by_stem, a folder of images of that name is looked for before a file.
    image_rate: images per second in such a folder, 0 = the list does not say.
    spaces: labels of further label spaces.
  """

  names: tuple[str, ...]
  labels: tuple[str, ...]
  line: int
  split: str = ''
  by_stem: bool = False
  segment: tuple[float, float] | None = None
  unused: str = ''
  always_cut: bool = False
  images: bool = False
  image_rate: float = 0.0
  spaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


# Text


def lines_of(text: str) -> list[tuple[int, str]]:
  """(number, line without space at its ends) of the lines that are not empty."""
  lines = enumerate(re.split(r'\r\n|\r|\n', text), 1)
  return [(number, line.strip()) for number, line in lines if line.strip()]


class Problems:
  """Collects what is wrong with a list, so that one error tells the first of it."""

  def __init__(self, needed: str):
    self.needed, self.found = needed, []

  def add(self, line: int, why: str, text: str = '') -> None:
    """Adds what is wrong with a line, which is quoted."""
    self.found.append(f'line {line}: {shorten(text) + ": " if text else ""}{why}')

  def check(self, entries: Sequence[Entry]) -> None:
    """Raises ValueError if there are problems, or no entries."""
    if self.found:
      more = f'\n... and {len(self.found) - _SHOWN} more' if len(self.found) > _SHOWN else ''
      raise ValueError(
        f'{len(self.found)} bad lines; {self.needed}:\n' + '\n'.join(self.found[:_SHOWN]) + more
      )
    if not entries:
      raise ValueError(f'has no rows; {self.needed}')


# Readers


def read_kinetics(text: str) -> list[Entry]:
  """Entries of the CSV `label,youtube_id,time_start,time_end,split[,is_cc]`; label and split may be
  absent where there is a header. Raises ValueError."""
  lines = lines_of(text)
  problems = Problems('needed are label,youtube_id,time_start,time_end,split')
  entries: list[Entry] = []
  columns = ['label', 'youtube_id', 'time_start', 'time_end', 'split', 'is_cc']
  separator = max(',\t;', key=lines[0][1].count) if lines else ','
  for number, line in lines:
    cells = _cells(line, separator)
    if not entries and 'youtube_id' in [c.lower() for c in cells]:
      columns = [c.lower() for c in cells]
      continue
    value = dict(zip(columns, cells))
    name, label = value.get('youtube_id', ''), value.get('label', '')
    start, end = _number(value.get('time_start', '')), _number(value.get('time_end', ''))
    split = value.get('split', '').lower()
    if len(cells) > len(columns) or not re.fullmatch(r'[\w-]+', name):
      problems.add(number, 'has no youtube_id in its column', line)
      continue
    if start is None or end is None or not 0 <= start < end:
      problems.add(number, 'time_start and time_end must be seconds, the end after the start', line)
      continue
    stems = [f'{name}_{start:06.0f}_{end:06.0f}', f'{name}_{start:g}_{end:g}', name]
    labels = (label,) if label else ()
    split = SPLITS.get(split, split)
    entries.append(Entry(tuple(stems), labels, number, split, True, (start, end)))
  problems.check(entries)
  return entries


def _number(text: str) -> float | None:
  """A number of seconds, None if it is none."""
  return float(text) if re.fullmatch(r'\d{1,7}(\.\d*)?', text) else None


def read_ssv2(text: str) -> list[Entry]:
  """Entries of a JSON list of {id, template}: the class is the template without square brackets. A
  list without templates has no labels. Raises ValueError."""
  content = read_json(text)
  problems = Problems('needed is a JSON list of {"id": "78687", "template": "Holding [something]"}')
  entries: list[Entry] = []
  for number, item in enumerate(content if isinstance(content, list) else [], 1):
    name = str(item.get('id', '')) if isinstance(item, dict) else ''
    if not name or re.search(r'[/\\\0]', name):
      problems.add(number, 'has no id that is the name of a file', json.dumps(item))
      continue
    template = item.get('template')
    if template is None and 'label' in item:
      problems.add(number, 'has a label, but no template, which names the class', json.dumps(item))
      continue
    labels = (re.sub(r'[][]', '', str(template)).strip(),) if template else ()
    entries.append(Entry((name,), labels, number, by_stem=True))
  problems.check(entries)
  _check_some_labels(entries)
  return entries


def read_ssv2_labels(text: str) -> list[str]:
  """Class names of labels.json, {"Approaching something with your camera": "0", ...}, by number.
  Raises ValueError."""
  content = read_json(text)
  if not isinstance(content, dict) or not content:
    raise ValueError('must be a JSON object of class names with their numbers')
  numbers = {str(value): re.sub(r'[][]', '', name) for name, value in content.items()}
  if set(numbers) != {str(i) for i in range(len(content))}:
    raise ValueError(f'must number its {len(content)} classes from 0 to {len(content) - 1}')
  return [numbers[str(i)] for i in range(len(content))]


def read_json(text: str) -> object:
  """The content of JSON. Raises ValueError."""
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as e:
    raise ValueError(f'is no JSON ({shorten(str(e))}); download it again') from e


def read_ucf101(text: str) -> list[Entry]:
  """Entries of trainlist01.txt, `Class/v_Class_g01_c01.avi 1`, or of testlist01.txt, which has no
  numbers. The folder is the class; the number is not used. Raises ValueError."""
  problems = Problems('needed are lines such as Archery/v_Archery_g08_c01.avi 3')
  entries = []
  for number, line in lines_of(text):
    match = _UCF101.fullmatch(line.strip('"'))
    if match:
      entries.append(Entry((match['stem'],), (match['label'],), number, by_stem=True))
    else:
      problems.add(number, 'is no such line', line)
  problems.check(entries)
  return entries


def read_ucf101_classes(text: str) -> list[str]:
  """Class names of classInd.txt, `1 ApplyEyeMakeup`, in its order. Raises ValueError."""
  pairs = [line.split(None, 1) for _, line in lines_of(text)]
  if [pair[0] for pair in pairs] != [str(i) for i in range(1, len(pairs) + 1)]:
    raise ValueError('must number its classes 1, 2, 3, ..., one a line')
  return [pair[-1] for pair in pairs]


def read_hmdb51(text: str, label: str) -> list[Entry]:
  """Entries of `<class>_test_split1.txt`, lines `name.avi 1`: 1 is train, 2 test, 0 is left
  out. Raises ValueError."""
  problems = Problems('needed are lines such as name.avi 1, with 1 (train), 2 (test) or 0 (unused)')
  entries = []
  for number, line in lines_of(text):
    match = _HMDB51_LINE.fullmatch(line)
    if not match:
      problems.add(number, 'is no such line', line)
      continue
    split = {'1': 'train', '2': 'test', '0': ''}[match['part']]
    unused = '' if split else 'unused: the list has 0 for it, in neither train nor test'
    stem = os.path.splitext(match['name'])[0]
    entries.append(Entry((stem,), (label,), number, split, True, unused=unused))
  problems.check(entries)
  return entries


def read_path_label(text: str, multi_label: bool = False) -> list[Entry]:
  """Entries of `path label` lines, separated by spaces, tabs, commas or semicolons.

  The label is the last field, so a path may hold spaces. A header is recognized; it may name more
  columns, among them a split. Lists without any label are of videos without labels. multi_label:
  several fields after the path are labels; '|' separates several
  in one field too. Raises ValueError.
  """
  columns, lines = _table(text)
  problems = Problems('needed are lines of path and label')
  entries: list[Entry] = []
  for number, line, cells in lines:
    path, rest, split = cells[0], cells[1:], ''
    if columns:
      if len(cells) != len(columns):
        problems.add(number, f'{len(cells)} columns where the header has {len(columns)}', line)
        continue
      path = cells[_column(columns, _PATHS)]
      at = _column(columns, _LABELS)
      rest = [] if at < 0 else [cells[at]]
      split = cells[columns.index('split')].lower() if 'split' in columns else ''
    if len(rest) > 1 and not multi_label and not columns:
      problems.add(
        number,
        'has several fields after the path; pass --multi_label if all are labels, or '
        '--list_kind=rawframes if they are number of frames and label',
        line,
      )
      continue
    rest = [label.strip() for cell in rest for label in cell.split('|')]
    if not path or '\0' in path:
      problems.add(number, 'has no path', line)
    elif any(re.fullmatch(r'-\d+', label) for label in rest):
      problems.add(number, 'a number of a class must be 0 or more', line)
    elif '' in rest and len(rest) > 1 or len(set(rest)) < len(rest):
      problems.add(number, 'has an empty or repeated label', line)
    else:
      labels = tuple(label for label in rest if label)
      entries.append(Entry((path,), labels, number, SPLITS.get(split, split)))
  problems.check(entries)
  _check_some_labels(entries)
  return entries


def read_rawframes(text: str, multi_label: bool = False) -> list[Entry]:
  """Entries of `folder total_frames label` (or `folder offset total_frames label`): folders of
  images, or the videos beside them. Raises ValueError."""
  columns, lines = _table(text)
  problems = Problems('needed are lines of folder, number of frames and label')
  entries = []
  if columns and 'frame_id' in columns:
    raise ValueError(
      'lists single images, as SlowFast does; list their folders, a line each: folder, number of '
      'images, label'
    )
  for number, line, cells in lines:
    if len(cells) < 3 or not all(re.fullmatch(r'\d+', cell) for cell in cells[1:]):
      problems.add(number, 'is no such line', line)
      continue
    labels = tuple(dict.fromkeys(cells[2:] if multi_label else cells[-1:]))
    entries.append(Entry((cells[0].rstrip('/\\'),), labels, number))
  problems.check(entries)
  return entries


def _check_some_labels(entries: Sequence[Entry]) -> None:
  """Raises ValueError if some entries have a label and others none."""
  without = [e for e in entries if not e.labels]
  if without and len(without) < len(entries):
    raise ValueError(
      f'{len(without)} of {len(entries)} rows have no label, the first in line {without[0].line} '
      f'({shorten(without[0].names[0])}); give them one, or remove them'
    )


# Tables of path lists


def _cells(line: str, separator: str) -> list[str]:
  """Fields of a line, quotes removed; those separated by space are path, and one label or several
  numbers."""
  if separator != ' ':
    try:
      return [c.strip() for c in next(csv.reader([line], delimiter=separator))]
    except csv.Error:  # larger than the csv module takes
      return [c.strip() for c in line.split(separator)]
  quoted = re.fullmatch(r'"([^"]*)"\s+(.+)', line) or re.fullmatch(r"'([^']*)'\s+(.+)", line)
  match = quoted or _VIDEO_AND_REST.fullmatch(line)
  if ENDS_AS_VIDEO.fullmatch(line):
    return [line]
  if not match and not (match := re.fullmatch(r'(.*?\S)((?:\s+-?\d+)+)', line)):
    parts = line.rsplit(None, 1)
    return [part.strip('"') for part in parts]
  numbers = match[2].split()
  if all(re.fullmatch(r'-?\d+', n) for n in numbers):
    return [match[1], *numbers]
  return [match[1], match[2].strip('"\'')]


def _separator(lines: Sequence[tuple[int, str]]) -> str:
  """The separator with which most lines are as they should be: more than one field, one of them
  the name of a video, the last a number."""
  sample = [line for _, line in lines[:_SAMPLE]]

  def fits(separator: str) -> tuple[int, int, int]:
    rows = [_cells(line, separator) for line in sample]
    return (
      sum(len(row) > 1 for row in rows),
      sum(any(ENDS_AS_VIDEO.fullmatch(cell) for cell in row) for row in rows),
      sum(row[-1].isdigit() for row in rows),
    )

  return max('\t,; ', key=fits)


def _table(text: str) -> tuple[list[str], list[tuple[int, str, list[str]]]]:
  """(names of columns, none without a header; (number, line, fields) of the other lines)."""
  lines = lines_of(text)
  if not lines:
    return [], []
  separator = _separator(lines)
  rows = [(number, line, _cells(line, separator)) for number, line in lines]
  first = lines[0][1].lower()
  names = first.split() if separator == ' ' else [c.lower() for c in rows[0][2]]
  known = [_COLUMNS.get(name, '') for name in names]
  if 'path' in known and (len(known) == 1 or known.count('') < len(known) - 1):
    times = [name for name in names if re.search('start|end', name)]
    if times:
      raise ValueError(
        f'has segments (columns {shorten(", ".join(times))}); call its columns '
        'path,label,start_s,end_s, in seconds, and pass it as --manifest'
      )
    return names, rows[1:]
  below = [row[2] for row in rows[1 : _SAMPLE + 1]]
  numeric = below and all(row[-1].isdigit() for row in below) and not rows[0][2][-1].isdigit()
  named = below and all(ENDS_AS_VIDEO.fullmatch(row[0]) for row in below)
  plain = not ENDS_AS_VIDEO.fullmatch(rows[0][2][0]) and '/' not in rows[0][2][0]
  return [], rows[1:] if plain and (numeric or named) else rows


def _column(columns: Sequence[str], names: Sequence[str]) -> int:
  """Place of the column with the most telling name, -1 if there is none."""
  return next((columns.index(name) for name in names if name in columns), -1)


def recognize(name: str, text: str) -> str:
  """Kind of a list, of KINDS or CLASS_KINDS, by what it holds; of HMDB51's by its name too. Raises
  ValueError."""
  start = text.lstrip()[:1]
  if start and start in '[{':
    content = read_json(text)
    if isinstance(content, list) and all(isinstance(i, dict) and 'id' in i for i in content):
      return 'ssv2'
    if isinstance(content, dict) and all(str(v).isdigit() for v in content.values()):
      return 'ssv2_labels'
    raise ValueError(
      'is JSON, but not of Something-Something V2 or ActivityNet, the kinds that are read; write '
      'its videos as lines of path,label'
    )
  lines = [line for _, line in lines_of(text)[: _SAMPLE + 1]]
  if not lines:
    raise ValueError('is empty; name a list of videos')
  if re.search(r'(^|[\s,;"])youtube_id($|[\s,;"])', lines[0], re.I) or all(
    re.fullmatch(r'.+,"?[\w-]{11}"?,\d+(\.\d*)?,\d+(\.\d*)?,\w+(,\d)?', line) for line in lines
  ):
    return 'kinetics'
  if HMDB51_NAME.fullmatch(name) and all(_HMDB51_LINE.fullmatch(line) for line in lines):
    return 'hmdb51'
  matches = [_UCF101.fullmatch(line) for line in lines]
  if all(m and m['label'].lower() == m['name'].lower() for m in matches):
    return 'ucf101'
  pairs = [line.split() for line in lines]
  if all(len(p) == 2 and p[0] == str(i) for i, p in enumerate(pairs, 1)) and not any(
    p[1].isdigit() or ENDS_AS_VIDEO.fullmatch(p[1]) for p in pairs
  ):
    return 'ucf101_classes'
  columns, rows = _table('\n'.join(lines))
  counted = rows and all(
    len(cells) > 2
    and all(cell.isdigit() for cell in cells[1:])
    and not ENDS_AS_VIDEO.fullmatch(cells[0])
    for _, _, cells in rows
  )
  frames = not columns or 'frames' in [_COLUMNS.get(name) for name in columns]
  return 'rawframes' if 'frame_id' in columns or counted and frames else 'path_label'
