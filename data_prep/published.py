"""Readers of the lists of published datasets as these publish them: Something-Something V1, Jester,
Moments in Time, ActivityNet, EPIC-Kitchens and Sports-1M. Each is a function from the text of a
list and the name of its file to entries; Kinetics and others are in `data_prep.lists`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from data_prep.lists import Entry, Problems, lines_of, read_json

# Kinds of lists that name videos, by the name that --list_kind takes.
KINDS = {
  'ssv1': 'Something-Something V1 CSV',
  'jester': 'Jester CSV',
  'moments': 'Moments in Time CSV',
  'activitynet': 'ActivityNet JSON',
  'epic': 'EPIC-Kitchens CSV',
  'sports1m': 'Sports-1M partition',
}
# Kinds of lists that name classes, in order of their index.
CLASS_KINDS = {
  '20bn_labels': "labels of Something-Something V1 or Jester, those lists' labels.csv",
  'moments_categories': 'moments_categories.txt',
  'epic_verbs': 'verb classes of EPIC-Kitchens',
  'epic_nouns': 'noun classes of EPIC-Kitchens',
}
# Label spaces of which they are the classes, where it is not the main one.
SPACES = {'epic_verbs': 'verb', 'epic_nouns': 'noun'}
# Images per second in the folders of images that a dataset consists of.
IMAGE_RATES = {'ssv1': 12.0, 'jester': 12.0}

_20BN = re.compile(r'(?P<id>\d+)\s*(;\s*(?P<label>.*?)\s*)?')
_MOMENT = re.compile(r'(?P<path>(?P<folder>[^,/]+)/[^,/]+),(?P<label>[^,]+),\d+,\d+')
_SPORTS = re.compile(r'\S+youtube\.com/watch\?v=(?P<id>[\w-]{11})\s+(?P<labels>\d+(,\d+)*)')
_SUBSETS = {'training': 'train', 'validation': 'val', 'testing': 'test'}
_TIME = re.compile(r'(\d+):(\d{2}):(\d{2}(?:\.\d*)?)')


def read_20bn(text: str, name: str = '') -> list[Entry]:
  """Entries of lines `100218;Falling like a feather or paper`, or of a test list of ids alone. The
  videos are folders of images. Raises ValueError."""
  problems = Problems('needed are lines of id;label, or of ids alone')
  entries: list[Entry] = []
  for number, line in lines_of(text):
    match = _20BN.fullmatch(line)
    if not match:
      problems.add(number, 'is no such line', line)
      continue
    labels = (match['label'],) if match['label'] else ()
    entries.append(Entry((match['id'],), labels, number, by_stem=True, images=True))
  without = [entry for entry in entries if not entry.labels]
  if len(without) not in (0, len(entries)):
    problems.add(without[0].line, 'has no label, and other lines have one')
  problems.check(entries)
  return entries


def read_20bn_labels(text: str) -> list[str]:
  """Class names of a labels.csv, one a line. Raises ValueError."""
  names = [line for _, line in lines_of(text)]
  if len({*names}) < len(names):
    raise ValueError('must have every class once, one a line')
  return names


def read_moments(text: str, name: str = '') -> list[Entry]:
  """Entries of trainingSet.csv or validationSet.csv, `class/file.mp4,class,3,0`: the last two are
  how many people agreed and disagreed. The files are in the folders training and validation of the
  dataset, or in those of the classes. Raises ValueError."""
  problems = Problems('needed are lines of class/file.mp4,class,agreed,disagreed')
  entries: list[Entry] = []
  split = next((s for s in ('training', 'validation') if s[:5] in name.lower()), '')
  for number, line in lines_of(text):
    match = _MOMENT.fullmatch(line.replace('"', ''))
    if not match:
      problems.add(number, 'is no such line', line)
      continue
    paths = ((f'{split}/{match["path"]}',) if split else ()) + (match['path'],)
    entries.append(Entry(paths, (match['label'],), number, _SUBSETS.get(split, '')))
  problems.check(entries)
  return entries


def read_moments_categories(text: str) -> list[str]:
  """Class names of moments_categories.txt, `clapping,0`, by number. Raises ValueError."""
  pairs = [line.rsplit(',', 1) for _, line in lines_of(text)]
  names = {pair[-1].strip(): pair[0].strip() for pair in pairs}
  if set(names) != {str(i) for i in range(len(pairs))}:
    raise ValueError(f'must number its {len(pairs)} classes from 0 to {len(pairs) - 1}')
  return [names[str(i)] for i in range(len(pairs))]


def read_activitynet(text: str, name: str = '') -> list[Entry]:
  """Entries of activity_net.v1-3.min.json: one for every segment of a video, which is cut out of
  v_<id>.mp4 (or <id>.mp4), and one for every whole video of the test set, without a label. A
  segment ends with its video at the latest. Raises ValueError."""
  content = read_json(text)
  database = content.get('database') if isinstance(content, dict) else None
  problems = Problems(
    'needed is JSON with "database": {ID: {"subset": "training", "duration": 82.7, '
    '"annotations": [{"segment": [6.4, 17.1], "label": "Drinking coffee"}]}}'
  )
  entries: list[Entry] = []
  for number, (video, item) in enumerate(database.items() if isinstance(database, dict) else (), 1):
    subset = str(item.get('subset', '')) if isinstance(item, dict) else ''
    if subset not in _SUBSETS or not re.fullmatch(r'[\w-]+', video):
      problems.add(number, f'has no subset, one of {", ".join(_SUBSETS)}, or no id', video)
      continue
    names, split = (f'v_{video}', video), _SUBSETS[subset]
    if not item.get('annotations'):
      why = '' if split == 'test' else 'unused: the list has no annotation of it'
      entries.append(Entry(names, (), number, split, by_stem=True, unused=why))
    for part in item.get('annotations') or ():
      try:
        start, end = map(float, part['segment'])
        start, end = max(0.0, start), min(end, float(item.get('duration', end)))
        label = str(part['label'])
      except (TypeError, KeyError, ValueError):
        problems.add(number, 'has an annotation without segment and label', video)
        continue
      why = '' if start < end else 'unused: its segment ends before it starts'
      segment = (start, end)
      entries.append(Entry(names, (label,), number, split, True, segment, why, always_cut=True))
  problems.check(entries)
  return entries


def read_epic(text: str, name: str = '') -> list[Entry]:
  """Entries of the action segments of EPIC-Kitchens-55 and -100, by their header.

  The main label is the action, as numbers of verb and noun ('3 12'); `verb` and `noun` are further
  label spaces. A segment is cut out of the video P01_01.MP4, or is a part of the folder P01_01 of
  images; their rate is that of frames to seconds in the row. Raises ValueError.
  """
  problems = Problems('needed are video_id, start_timestamp, stop_timestamp and classes of verbs')
  entries: list[Entry] = []
  for number, row in _records(text):
    start, end = (_seconds(row.get(f'{key}_timestamp') or '') for key in ('start', 'stop'))
    video, last = row.get('video_id') or '', row.get('stop_frame') or ''
    classes = [row.get(f'{key}_class') or '' for key in ('verb', 'noun')]
    if not re.fullmatch(r'P\d+_\d+', video) or start is None or end is None or not start < end:
      problems.add(number, 'has no video_id, or no start and stop as 00:00:01.089', str(row))
      continue
    if not all(re.fullmatch(r'\d+', c) for c in classes) and any(classes):
      problems.add(number, 'has no numbers of verb_class and noun_class', str(row))
      continue
    spaces = dict(zip(('verb', 'noun'), ((c,) for c in classes))) if any(classes) else {}
    rate = round(int(last) / end, 4) if last.isdigit() else 0.0
    labels = (' '.join(classes),) if spaces else ()
    entry = Entry((video,), labels, number, '', True, (start, end), always_cut=True, images=True)
    entries.append(replace(entry, spaces=spaces, image_rate=rate))
  problems.check(entries)
  return entries


def read_epic_classes(text: str) -> list[str]:
  """Class names of EPIC_verb_classes.csv (verb_id,class_key,verbs) or EPIC_100_verb_classes.csv
  (id,key,instances,category), or the same of nouns, by number. Raises ValueError."""
  key = lambda row: row.get('class_key') or row.get('key') or ''
  number = lambda row: row.get('verb_id') or row.get('noun_id') or row.get('id') or ''
  names = {number(row): key(row) for _, row in _records(text)}
  if set(names) != {str(i) for i in range(len(names))} or len({*names.values()}) < len(names):
    raise ValueError(f'must number its {len(names)} classes from 0 to {len(names) - 1}, each once')
  return [names[str(i)] for i in range(len(names))]


def read_sports1m(text: str, name: str = '') -> list[Entry]:
  """Entries of train_partition.txt or test_partition.txt, lines of a YouTube address and numbers of
  classes with commas between them. Files are called <id>.mp4 or the like. Raises ValueError."""
  problems = Problems('needed are lines of http://www.youtube.com/watch?v=ID 12,34')
  entries: list[Entry] = []
  for number, line in lines_of(text):
    match = _SPORTS.fullmatch(line)
    if not match:
      problems.add(number, 'is no such line', line)
      continue
    labels = tuple(dict.fromkeys(match['labels'].split(',')))
    entries.append(Entry((match['id'],), labels, number, by_stem=True))
  problems.check(entries)
  return entries


READERS: Mapping[str, Callable[[str, str], list[Entry]]] = {
  'ssv1': read_20bn,
  'jester': read_20bn,
  'moments': read_moments,
  'activitynet': read_activitynet,
  'epic': read_epic,
  'sports1m': read_sports1m,
}
CLASS_READERS: Mapping[str, Callable[[str], list[str]]] = {
  '20bn_labels': read_20bn_labels,
  'moments_categories': read_moments_categories,
  'epic_verbs': read_epic_classes,
  'epic_nouns': read_epic_classes,
}


def recognize(name: str, text: str) -> str:
  """Kind of a list, of KINDS or CLASS_KINDS, by what it holds and its name; '' for none."""
  lines, name = [line for _, line in lines_of(text)], name.lower()
  if not lines:
    return ''
  if lines[0][0] == '{' and re.search(r'"database"\s*:\s*\{\s*"', text):
    return 'activitynet'
  columns = [cell.strip(' "').lower() for cell in lines[0].split(',')]
  if {'video_id', 'start_timestamp', 'stop_timestamp'} <= {*columns}:
    return 'epic'
  if columns[:2] in (['verb_id', 'class_key'], ['noun_id', 'class_key'], ['id', 'key']):
    return 'epic_nouns' if 'noun' in name else 'epic_verbs'
  of_20bn = re.search('something|jester', name)
  if of_20bn and re.search(r'labels\.csv$', name):
    return '20bn_labels'
  matches = [_20BN.fullmatch(line) for line in lines]
  if all(matches) and (of_20bn or not any((m['label'] or '0').isdigit() for m in matches if m)):
    return 'jester' if 'jester' in name else 'ssv1'
  moments = [_MOMENT.fullmatch(line.replace('"', '')) for line in lines]
  if all(m and m['folder'] == m['label'] for m in moments):
    return 'moments'
  if 'categor' in name and all(re.fullmatch(r'[^,]+,\s*\d+', line) for line in lines):
    return 'moments_categories'
  return 'sports1m' if all(_SPORTS.fullmatch(line) for line in lines) else ''


def _records(text: str) -> Sequence[tuple[int, dict[str, str]]]:
  """(number of its last line, cells by lower-case column) of the rows of a CSV with a header.
  Raises ValueError."""
  table = csv.reader(io.StringIO(text, newline=''))
  try:
    columns = [cell.strip().lower() for cell in next(table, [])]
    rows = [(table.line_num, row) for row in table if any(cell.strip() for cell in row)]
  except csv.Error as e:
    raise ValueError(f'is no CSV ({e}); download it again') from e
  return [(number, dict(zip(columns, map(str.strip, row)))) for number, row in rows]


def _seconds(text: str) -> float | None:
  """Seconds of 'hours:minutes:seconds', None if it is not such a time."""
  match = _TIME.fullmatch(text)
  return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None
