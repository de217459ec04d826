"""Lists of videos -> rows: recognizes and reads each list, finds the files that it names, decides
splits and names numeric labels."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from data_prep import folders, frames, lists, published, windows
from data_prep.lists import Entry
from data_prep.rows import Row, relative_path, shorten, some, split_name
from data_prep.text import decode
from vjax.data.split_names import SPLITS

# Kinds of lists by the name that --list_kind takes, and kinds of lists of classes.
KINDS = lists.KINDS | published.KINDS
CLASS_KINDS = lists.CLASS_KINDS | published.CLASS_KINDS

_MOST_CLASSES = 100_000  # a larger numeric label is no index of a class
_FOLDER_LEVELS = 3  # below the root, in which folders of images are looked for
_SEGMENT_SLACK_S = 1.0  # a file this much longer than its segment is the whole video


@dataclass(frozen=True)
class Found:
  """Rows of all lists, and what is to be told about them.

  Attributes:
    rows: to write; files that are missing are among them and will be listed as failed.
    classes: names in order of index where the lists, or --classes, fix it; else None.
    space_classes: the same of further label spaces, where the lists have numbers there.
    skipped: (file, reason) of the entries that a list itself leaves out, or that have no window.
    root: folder from which the paths of the rows start.
    notes: lines for people.
    missing: those of the rows whose files are not there.
    names: first name in the list of each path.
  """

  rows: list[Row]
  root: str
  classes: list[str] | None
  skipped: list[tuple[str, str]]
  notes: list[str]
  space_classes: dict[str, list[str]] = field(default_factory=dict)
  missing: list[Row] = field(default_factory=list)
  names: dict[str, str] = field(default_factory=dict)


class _Index:
  """Videos in a folder by name without extension; looked for once, when first asked for."""

  def __init__(self, root: str, ignore: str):
    self.root, self.ignore = root, os.path.realpath(ignore) if ignore else ''
    self._found: dict[str, list[str]] | None = None

  def __call__(self, stem: str) -> list[str]:
    """Paths from the root of the videos of that name, sorted."""
    if self._found is None:
      self._found = {}
      for path in sorted(self._walk()):
        name = os.path.splitext(os.path.basename(path))[0]
        self._found.setdefault(name, []).append(path)
    return self._found.get(stem, [])

  def _walk(self) -> Iterator[str]:
    seen = set()
    for folder, inner, files in os.walk(self.root, followlinks=True):
      real = os.path.realpath(folder)
      if real in seen or real == self.ignore:
        inner.clear()
        continue
      seen.add(real)
      inner[:] = sorted(name for name in inner if not name.startswith('.'))
      at = os.path.relpath(folder, self.root).replace(os.sep, '/')
      for name in files:
        if not name.startswith('.') and name.lower().endswith(folders.EXTENSIONS):
          yield name if at == '.' else f'{at}/{name}'


class _Folders:
  """Folders by name, down to three levels below a root; looked for once, when first asked for.
  Their images are not listed."""

  def __init__(self, root: str, ignore: str):
    self.root, self.ignore = root, os.path.realpath(ignore) if ignore else ''
    self._found: dict[str, str] | None = None
    self._any: bool | None = None

  def __call__(self, name: str) -> str:
    """Path from the root of the folder of that name, '' if there is none."""
    return self._all().get(name, '')

  def any(self) -> bool:
    """Returns whether the root has folders of images, by the deepest folders."""
    if self._any is None:
      deepest = sorted(self._all().values(), key=lambda path: (-path.count('/'), path))[:100]
      self._any = any(frames.holds_images(os.path.join(self.root, path)) for path in deepest)
    return self._any

  def _all(self) -> dict[str, str]:
    if self._found is None:
      self._found, places = {}, ['']
      for depth in range(_FOLDER_LEVELS):
        places = [
          f'{place}/{name}'.lstrip('/')
          for place in places
          for name in self._inside(place, peek=depth > 0)
        ]
        for path in places:  # the one nearest to the root is taken
          self._found.setdefault(os.path.basename(path), path)
    return self._found

  def _inside(self, place: str, peek: bool = False) -> list[str]:
    """Names of the folders in a folder, sorted. peek: none, where it begins with files."""
    names = []
    with contextlib.suppress(OSError), os.scandir(os.path.join(self.root, place)) as entries:
      for number, entry in enumerate(entries):
        if peek and number > 16 and not names:
          break  # of images; in all folders there are millions
        if not entry.name.startswith('.') and entry.is_dir():
          if os.path.realpath(entry.path) != self.ignore:
            names.append(entry.name)
    return sorted(names)


class _Finder:
  """Finds the files of entries.

  Attributes:
    ambiguous: 'name: taken is path, not path' of names with several files.
    missing: (split, paths tried) of entries without a file.
    images: paths of folders that stand in the place of videos, and have no images.
    image_folders: number of folders of images that were found.
    prefix: of paths that begin elsewhere, in place of which the video folder is.
    cut, unknown: numbers of files that are whole originals, to be cut, and that do not say how long
      they are.
  """

  def __init__(self, root: str, ignore: str, allow_outside: bool, image_rate: float):
    self.root, self.allow_outside, self.image_rate = root, allow_outside, image_rate
    self.index, self.folders = _Index(root, ignore), _Folders(root, ignore)
    self.image_folders = 0
    self.ambiguous: list[str] = []
    self.missing: list[tuple[str, str]] = []
    self.images: list[str] = []
    self.cut = self.unknown = 0
    self.prefix = ''
    self._names: dict[str, dict[str, list[str]]] = {}

  def row(self, entry: Entry, rate: float = 0.0) -> Row:
    """The row of an entry. rate: images per second of the list's folders of images, 0 = unknown.
    Raises ValueError for a path that leaves the video folder."""
    labels = ({'': entry.labels} if entry.labels else {}) | dict(entry.spaces)
    path, name = self._of_stem(entry) if entry.by_stem else (self._of_path(entry), '')
    row = Row(path, entry.split, labels, entry.line)
    if os.path.isdir(os.path.join(self.root, path)) and frames.holds_images(
      os.path.join(self.root, path)
    ):
      self.image_folders += 1
      row = replace(row, image_rate=self.image_rate or entry.image_rate or rate)
    if not entry.segment:
      return row
    start, end = entry.segment
    if entry.always_cut:
      return replace(row, start_s=start, end_s=end)
    if len(entry.names) == 1 or name != entry.names[-1]:
      return row
    length = length_s(os.path.join(self.root, path))
    if length is None:
      self.unknown += 1
    elif length > end - start + _SEGMENT_SLACK_S:
      self.cut += 1
      return replace(row, start_s=start, end_s=end)
    return row

  def _of_stem(self, entry: Entry) -> tuple[str, str]:
    """(path of the file, name by which it was found); a file that is not there is the first one
    tried."""
    if entry.images:
      folder = self.folders(entry.names[0])
      if folder or self.folders.any():
        path = folder or entry.names[0]
        if not folder:
          self.missing.append((entry.split, path))
        return path, entry.names[0]
    for name in entry.names:
      found = self.index(name)
      if found:
        return self._best(name, found, entry), name
    path = f'{entry.names[0]}.mp4'
    self.missing.append((entry.split, path))
    return path, ''

  def _of_path(self, entry: Entry) -> str:
    root = self.root
    there = (name for name in entry.names[:-1] if os.path.exists(os.path.join(root, name)))
    path = next(there, entry.names[-1])
    if not os.path.exists(os.path.join(root, path)):
      path = path.replace('\\', '/')
    if path.startswith('/') and not os.path.exists(path):
      path = self._moved(path)
    path, problem = relative_path(path, root, self.allow_outside)
    if problem:
      raise ValueError(f'line {entry.line}: {shorten(path)!r} {problem}')
    full = os.path.join(root, path)
    if os.path.isfile(full):
      return path
    others = self._beside(path)
    if others:
      return self._best(path, others, entry)
    if os.path.isdir(full):
      if frames.holds_images(full):
        return path
      self.images.append(path)
    self.missing.append((entry.split, path))
    return path

  def _moved(self, path: str) -> str:
    """The path from the video folder of one that begins elsewhere, as in a list of another machine:
    without the parts that the first path has which is found so."""
    prefix = self.prefix
    if not prefix:
      parts = path.lstrip('/').split('/')
      for n in range(len(parts)):
        rest = '/'.join(parts[n:])
        if os.path.isfile(os.path.join(self.root, rest)) or self._beside(rest):
          self.prefix = prefix = path.removesuffix(rest)
          break
    return path.removeprefix(prefix).lstrip('/')

  def _beside(self, path: str) -> list[str]:
    """Paths of the videos with the folder and name of `path`, and another extension."""
    stem = os.path.splitext(path)[0] if lists.ENDS_AS_VIDEO.fullmatch(path) else path
    folder, name = os.path.split(stem)
    if folder not in self._names:
      self._names[folder] = {}
      with contextlib.suppress(OSError, ValueError):  # no such folder
        for other in sorted(os.listdir(os.path.join(self.root, folder))):
          self._names[folder].setdefault(os.path.splitext(other)[0], []).append(other)
    names = [n for n in self._names[folder].get(name, ()) if n.lower().endswith(folders.EXTENSIONS)]
    paths = [os.path.join(folder, other) for other in names]
    return [path for path in paths if os.path.isfile(os.path.join(self.root, path))]

  def _best(self, name: str, found: Sequence[str], entry: Entry) -> str:
    """The one of several files that lies in a folder of the entry's class or split, else the
    first by name; then it is told."""
    if len(found) == 1:
      return found[0]
    classes = {_plain(label) for label in entry.labels}

    def rank(path: str) -> tuple[bool, bool]:
      parts = path.split('/')[:-1]
      splits = {SPLITS.get(part.lower(), '') for part in parts}
      return not classes & {_plain(part) for part in parts}, entry.split not in splits

    order = sorted(found, key=lambda path: (*rank(path), path))
    if rank(order[0]) == rank(order[1]):
      self.ambiguous.append(f'{name}: taken is {order[0]}, not {order[1]}')
    return order[0]


def _plain(name: str) -> str:
  """A class name as folders may spell it."""
  return re.sub(r'[\W_]+', '', name.lower())


def length_s(path: str) -> float | None:
  """Seconds that a video lasts by its header, None where it does not say or is no video."""
  import av

  try:
    with av.open(path) as container:
      return container.duration / 1e6 if container.duration else None
  except (OSError, ValueError):  # FFmpeg's errors are of these kinds
    return None


def check_missing(missing: Sequence[tuple[str, str]], rows: Sequence[Row], root: str, flag: str,
                  hint: str = '') -> None:  # fmt: skip
  """Raises ValueError if more than half of a split's videos are not there.

  missing: (split, path) of those. flag: that names the video folder. hint: where they may be.
  """
  every = Counter(split for split, _ in {(row.split, row.path) for row in rows})
  gone = Counter(split for split, _ in {*missing})
  for split, count in every.items():
    if 2 * gone[split] > count:
      tried = [os.path.join(root, path) for at, path in missing if at == split][:3]
      raise ValueError(
        f'{gone[split]} of {count} videos of split {split!r} are not there; tried: '
        f'{", ".join(shorten(path) for path in tried)}. {hint or _set(flag)}'
        + ('; or pass --allow_missing to write the others' if gone[split] < count else '')
      )


def _set(flag: str) -> str:
  return f'Set {flag}=DIR to the folder from which they are to be looked for'


@dataclass
class _List:
  """One file of --list: its entries, or its class names, those of a label space."""

  path: str
  kind: str
  entries: list[Entry] = field(default_factory=list)
  classes: list[str] = field(default_factory=list)
  space: str = ''
  notes: list[str] = field(default_factory=list)


def read_lists(
  paths: Sequence[str],
  root: str = '',
  *,
  kind: str = '',
  splits: Sequence[str] = (),
  classes: Sequence[str] | None = None,
  multi_label: bool = False,
  allow_missing: bool = False,
  allow_outside: bool = False,
  ignore: str = '',
  image_rate: float = 0,
  window_s: float = 0,
) -> Found:
  """Reads lists and finds their videos.

  Args:
    paths: FILE, or SPLIT:FILE.
    root: folder of the videos; '' is that of the lists.
    kind: of all lists, of KINDS; '' to recognize each.
    splits: of the lists, one for each or one for all, where they do not say.
    classes: names in order of index, for lists with numbers; None if not known.
    multi_label: several fields after a path are labels.
    allow_missing: go on though more than half of the videos are not there.
    allow_outside: take files outside `root`.
    ignore: a folder in `root` that is not looked into.
    image_rate: images per second of folders of images, 0 = that of the kind of list, if it has one.
    window_s: cut segments into windows of so many seconds, see `windows.cut`; 0 = take them whole.

  Raises:
    ValueError: for a list that cannot be read as it is meant, with file, line and remedy.
  """
  if len(splits) > 1 and len(splits) != len(paths):
    raise ValueError(
      f'{len(splits)} --split for {len(paths)} --list: give one each, one for all, or '
      '--list SPLIT:FILE'
    )
  read: list[_List] = []
  for number, text in enumerate(paths):
    own, path = _own_split(text)
    own = own or (splits[number if len(splits) > 1 else 0] if splits else '')
    try:
      one = _read(path, kind, multi_label)
      _give_split(one, own, path, len(paths) == 1)
    except ValueError as e:
      raise ValueError(f'--list {path}: {e}') from e
    read.append(one)
  of_videos = [one for one in read if one.entries]
  if not of_videos:
    raise ValueError(
      f'--list {paths[0]} names classes and no videos; add a list of videos, or '
      'pass --list_kind=path_label if it is one'
    )
  _check_one_hmdb51(of_videos)
  root = root or _folder_of([one.path for one in of_videos])
  if not os.path.isdir(root):
    raise ValueError(f'--root: no folder {root}; it must hold the videos of the lists')
  finder = _Finder(root, ignore, allow_outside, image_rate)
  described = _describe(read)
  notes = [*described, *(note for one in read for note in one.notes)]
  spaces = _name_spaces(read, notes)
  classes, naming = _classes(read, classes, notes)
  rows, skipped, missing, names = [], [], [], {}
  for one in of_videos:
    for entry in one.entries:
      why, found, before = entry.unused, [], len(finder.missing)
      if not why:
        try:
          entry = replace(entry, labels=tuple(map(naming, entry.labels)))
          found = [finder.row(entry, published.IMAGE_RATES.get(one.kind, 0.0))]
        except ValueError as e:
          raise ValueError(f'--list {one.path}: {e}') from e
        names.setdefault(found[0].path, entry.names[0])
      if window_s and not why:
        found = windows.cut(found[0], window_s)
        why = '' if found else _no_window(entry)
      if why:
        skipped.append((f'{entry.names[0]} ({one.path}, line {entry.line})', why))
      rows += found
      missing += found if len(finder.missing) > before else []
  if not rows:
    raise ValueError(
      f'--list {of_videos[0].path}: every row is unused (the first: {skipped[0][1]}); name another '
      'list'
    )
  _check_images(finder, of_videos, rows, allow_missing)
  if not allow_missing:
    try:
      gone = [(row.split, row.path) for row in missing]
      check_missing(gone, rows, root, '--root', _hint(finder, of_videos))
    except ValueError as e:
      raise ValueError(f'{e}. Lists read: {some(described, 3)}') from e
  notes += _tell(finder, rows, missing, root)
  return Found(rows, root, classes, skipped, notes, spaces, missing, names)


def _no_window(entry: Entry) -> str:
  if not entry.segment:
    return 'unused: the list has no segment of it, to cut windows of'
  start, end = entry.segment
  if end - start >= windows.LEAST_S:
    return 'unused: the file is its segment already, no original to cut windows of'
  return f'unused: its segment of {end - start:.2g} s is shorter than {windows.LEAST_S:g} s'


def _own_split(text: str) -> tuple[str, str]:
  """(split, '' for none, and path) of 'SPLIT:FILE' or 'FILE'."""
  split, colon, path = text.partition(':')
  return ('', text) if not colon or os.path.exists(text) else (split, path)


def _folder_of(paths: Sequence[str]) -> str:
  found = sorted({os.path.dirname(os.path.abspath(path)) for path in paths})
  if len(found) > 1:
    raise ValueError(
      f'the lists are in different folders ({some(found)}): pass --root=DIR, where the videos are'
    )
  return found[0]


def _read(path: str, kind: str, multi_label: bool) -> _List:
  try:
    with open(path, 'rb') as file:
      data = file.read()
  except FileNotFoundError as e:
    raise ValueError(
      'there is no such file; name a list as --list FILE or --list SPLIT:FILE'
    ) from e
  except OSError as e:
    raise ValueError(f'cannot be read ({e.strerror}); it must be a file of text') from e
  text, note = decode(data)
  name = os.path.basename(path)
  known = kind or published.recognize(name, text) or lists.recognize(name, text)
  classes = kind in ('ucf101', *published.KINDS)
  if classes or kind == 'ssv2' and text.lstrip()[:1] == '{':
    with contextlib.suppress(ValueError):  # labels.json, classInd.txt, ... go with these kinds
      found = published.recognize(name, text) or lists.recognize(name, text)
      known = found if found in CLASS_KINDS else kind
  if multi_label and known == 'rawframes' and not kind:
    raise ValueError(
      'has several numbers after the first field, and with --multi_label it is not certain whether '
      'the first of them is the number of frames: pass --list_kind=rawframes if it is, or '
      '--list_kind=path_label if all are labels'
    )
  one = _List(path, known, notes=[f'careful: {path} {note}'] if note else [])
  try:
    _fill(one, name, text, multi_label)
  except ValueError as e:
    taken = (KINDS | CLASS_KINDS)[known]
    raise ValueError(str(e) if kind else f'taken for {taken} (else pass --list_kind): {e}') from e
  return one


_READERS: Mapping[str, Callable[[str], list[Entry]]] = {
  'kinetics': lists.read_kinetics,
  'ssv2': lists.read_ssv2,
  'ucf101': lists.read_ucf101,
}


def _fill(one: _List, name: str, text: str, multi_label: bool) -> None:
  """Reads the text of a list by the reader of its kind."""
  if one.kind in published.CLASS_READERS:
    one.classes = published.CLASS_READERS[one.kind](text)
    one.space = published.SPACES.get(one.kind, '')
  elif one.kind in published.READERS:
    one.entries = published.READERS[one.kind](text, name)
  elif one.kind == 'ssv2_labels':
    one.classes = lists.read_ssv2_labels(text)
  elif one.kind == 'ucf101_classes':
    one.classes = lists.read_ucf101_classes(text)
  elif one.kind == 'hmdb51':
    match = lists.HMDB51_NAME.fullmatch(name)
    if not match:
      raise ValueError('the name must be CLASS_test_split1.txt, for it says the class; rename it')
    one.entries = lists.read_hmdb51(text, match['label'])
  elif one.kind in ('path_label', 'rawframes'):
    reader = lists.read_path_label if one.kind == 'path_label' else lists.read_rawframes
    one.entries = reader(text, multi_label)
  else:
    one.entries = _READERS[one.kind](text)


def _give_split(one: _List, own: str, path: str, only: bool) -> None:
  """Gives every entry a split: the one asked for, the list's own, or that of the file's name."""
  said = {entry.split for entry in one.entries if not entry.unused}
  if not one.entries:
    return
  if own and len(said) > 1:
    raise ValueError(
      f'its rows are of several splits ({some(sorted(said))}); leave --split={own} out'
    )
  if not own and '' in said:
    words = re.split(r'[^a-z]+|list', os.path.basename(path).lower())
    named = {SPLITS[word] for word in words if word in SPLITS}
    if len(named) != 1 and not only:
      raise ValueError(f'says no split: write --list train:{path}')
    own = named.pop() if len(named) == 1 else 'train'
    if len(said) > 1:
      raise ValueError('some rows have a split and others none; fill the column')
  remedy = f'write --list train:{path}'
  names = {split: split_name(own or split, remedy) for split in said}
  one.entries = [
    entry if entry.unused else replace(entry, split=names[entry.split]) for entry in one.entries
  ]


def _check_one_hmdb51(read: Sequence[_List]) -> None:
  numbers = set()
  for one in read:
    match = (
      lists.HMDB51_NAME.fullmatch(os.path.basename(one.path)) if one.kind == 'hmdb51' else None
    )
    numbers |= {match['number']} if match else set()
  if len(numbers) > 1:
    raise ValueError(
      f'--list: files of HMDB51 splits {", ".join(sorted(numbers))}, in which the same videos are '
      'train and test; name those of one, e.g. --list DIR/*_test_split1.txt'
    )


def _describe(read: Sequence[_List]) -> list[str]:
  """A line on each kind of list: what it was taken for, rows and splits."""
  lines, groups = [], {}
  for one in read:
    splits = sorted({e.split for e in one.entries if e.split})
    key = (one.kind, *splits) if one.kind != 'hmdb51' else (one.kind,)
    groups.setdefault(key, []).append(one)
  for same in groups.values():
    kind = same[0].kind
    more = f' and {len(same) - 1} more' if len(same) > 1 else ''
    if kind in CLASS_KINDS:
      lines.append(f'{same[0].path}: {CLASS_KINDS[kind]}, {len(same[0].classes)} classes')
      continue
    splits = sorted({e.split for one in same for e in one.entries if e.split})
    rows = sum(len(one.entries) for one in same)
    lines.append(
      f'{same[0].path}{more}: {KINDS[kind]} (--list_kind={kind}), {rows} rows, '
      f'split {", ".join(splits)}'
    )
  return lines


def _classes(
  read: Sequence[_List], given: Sequence[str] | None, notes: list[str]
) -> tuple[list[str] | None, Callable[[str], str]]:
  """(class names in order, None if they are to be sorted; function from a label to its name).

  Labels that are numbers become names of `given` or, without it, names such as '0', at the same
  index. Raises ValueError for a number that no class has.
  """
  own = [one for one in read if one.classes and not one.space]
  if own and (given is not None or len(own) > 1):
    raise ValueError(
      f'{own[0].path} names the classes, and so does '
      f'{"--classes" if given is not None else own[1].path}; leave one out'
    )
  fixed = list(given) if given is not None else own[0].classes if own else None
  labels = {label for one in read for entry in one.entries for label in entry.labels}
  if not labels or not all(re.fullmatch('[0-9]{1,9}', label) for label in labels):
    return fixed, str
  if fixed is not None and labels <= set(fixed):
    return fixed, str
  numbers = {int(label) for label in labels}
  least, most = min(numbers), max(numbers)
  if most > _MOST_CLASSES:
    raise ValueError(f'--list: label {most} is no number of a class; the last field must be one')
  if fixed is None:
    notes.append(
      f"careful: labels are numbers, and classes are named after them, '0' to '{most}'; "
      '--classes=FILE names them, one a line, that of label 0 first'
    )
    return [str(i) for i in range(most + 1)], lambda label: str(int(label))
  if most < len(fixed):
    return fixed, lambda label: fixed[int(label)]
  if least > 0 and most == len(fixed):
    notes.append(f'labels go from {least} to {most}, for {most} classes: counted from 1')
    return fixed, lambda label: fixed[int(label) - 1]
  raise ValueError(
    f'--list: labels go from {least} to {most}, and there are {len(fixed)} class names; a class '
    'list must have one name a line, that of label 0 first'
  )


def _name_spaces(read: Sequence[_List], notes: list[str]) -> dict[str, list[str]]:
  """Class names of the further label spaces in order. Entries get these in place of numbers, and
  their main label, which is made of those numbers, gets them too.

  Without a list of classes these are called by their numbers. Raises ValueError for a number
  that no class has.
  """
  entries = [entry for one in read for entry in one.entries]
  names: dict[str, list[str]] = {}
  for space in sorted({space for entry in entries for space in entry.spaces}):
    most = max(int(n) for entry in entries for n in entry.spaces.get(space, ('0',)))
    own = [one for one in read if one.space == space and one.classes]
    if len(own) > 1:
      raise ValueError(f'{own[0].path} and {own[1].path} name the same classes; leave one out')
    names[space] = own[0].classes if own else [str(i) for i in range(most + 1)]
    if most >= len(names[space]):
      raise ValueError(
        f'--list {own[0].path}: it has {len(names[space])} classes, and a row has {space} {most}'
      )
    if not own:
      notes.append(
        f'careful: classes of label space {space} are called by their numbers; add the list of '
        'their names (EPIC_verb_classes.csv and the like) to --list'
      )
  for one in read if names else ():
    one.entries = [_named(entry, names) for entry in one.entries]
  return names


def _named(entry: Entry, names: Mapping[str, Sequence[str]]) -> Entry:
  spaces = {s: tuple(names[s][int(n)] for n in numbers) for s, numbers in entry.spaces.items()}
  main = ' '.join(name for of in spaces.values() for name in of)
  return replace(entry, spaces=spaces, labels=(main,) if spaces else entry.labels)


def _check_images(
  finder: _Finder, read: Sequence[_List], rows: Sequence[Row], allow_missing: bool
) -> None:
  """Raises ValueError for lists of folders of images whose videos are not there."""
  if 2 * len(finder.images) > len(rows) and not allow_missing or len(finder.images) == len(rows):
    raise ValueError(
      f'--list {read[0].path}: {len(finder.images)} of {len(rows)} rows name folders '
      f'({some([shorten(path) for path in finder.images], 3)}); {lists.NO_IMAGES}'
    )


def _hint(finder: _Finder, read: Sequence[_List]) -> str:
  """A remedy for missing videos: a folder of the root with the first, or what rawframes need."""
  if any(one.kind == 'rawframes' for one in read):
    return (
      'The list is one of rawframes (folder, number of frames, label; if the numbers are labels, '
      f'pass --list_kind=path_label --multi_label): {lists.NO_IMAGES}. Else set --root=DIR'
    )
  for _, path in finder.missing[:3]:
    stem = os.path.splitext(os.path.basename(path))[0]
    for found in finder.index(stem):
      folder = os.path.dirname(path)
      at = os.path.dirname(found)
      if at == folder or folder and not at.endswith(f'/{folder}'):
        continue
      at = at.removesuffix(folder).rstrip('/')
      return f'One of them is under another folder: try --root={os.path.join(finder.root, at)}'
  return ''


def _tell(finder: _Finder, rows: Sequence[Row], missing: Sequence[Row], root: str) -> list[str]:
  """Lines on what was found, and the number of videos of each split and class."""
  notes = []
  if missing:
    videos, gone = ({row.path for row in some} for some in (rows, missing))
    notes.append(
      f'careful: {len(gone)} of {len(videos)} videos are not in {root}; each will be in '
      'failed.csv, and each of their clips in missing.csv'
    )
    notes += windows.availability(rows, missing)
  if finder.prefix.strip('/'):
    notes.append(f'paths that begin with {finder.prefix} are looked for in {root}')
  if finder.ambiguous:
    notes.append(
      f'careful: {len(finder.ambiguous)} names have several files '
      f'({"; ".join(finder.ambiguous[:3])})'
    )
  if finder.image_folders:
    rates = sorted({row.image_rate for row in rows if row.image_rate is not None})
    said = 'not known' if rates == [0] else f'{rates[0]:g}' + (', ...' if rates[1:] else '')
    careful = '; pass --image_rate' if 0 in rates else ''
    notes.append(
      f'{finder.image_folders} videos are folders of images, images per second: {said}{careful}'
    )
  if finder.cut:
    notes.append(f'{finder.cut} files are longer than their segment, which is cut out of them')
  if finder.unknown:
    notes.append(f'careful: {finder.unknown} files do not say how long they are; taken whole')
  first: dict[tuple[str, str], Row] = {}
  repeats = [row for row in rows if first.setdefault((row.split, row.media_id), row) is not row]
  if repeats:
    notes.append(
      f'careful: {len(repeats)} rows repeat a video of their split, the first is '
      f'{shorten(repeats[0].path)}, line {repeats[0].line}; each will be in failed.csv'
    )
  return notes + count_classes(rows)


def count_classes(rows: Sequence[Row]) -> list[str]:
  """Lines on the number of videos of each split and class, the largest class first."""
  lines = []
  for split in sorted({row.split for row in rows}):
    counts = Counter(n for row in rows if row.split == split for n in row.labels.get('', ()))
    each = [f'{name}: {n}' for name, n in sorted(counts.items(), key=lambda c: (-c[1], c[0]))]
    videos = sum(row.split == split for row in rows)
    of = f' of {len(counts)} classes ({some(each, 20)})' if counts else ' without labels'
    lines.append(f'{split}: {videos} rows{of}')
  return lines
