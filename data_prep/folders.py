"""Videos of a folder: which of its sub-folders are classes, which are splits, and what in it is no
video. Whatever lies in the folder is returned, as a video or with the reason why not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from vjax.data import video_file
from vjax.data.split_names import SPLITS

EXTENSIONS = video_file.VIDEO_EXTENSIONS + video_file.IMAGE_EXTENSIONS

_SHOWN = 10  # names quoted in one message
# What lies beside videos and is none; of others it is looked at what they hold.
_NO_VIDEOS = {
  **dict.fromkeys(
    '.txt .csv .tsv .json .jsonl .xml .yaml .yml .md .rst .html .htm .log .ini .cfg .py .ipynb .sh '
    '.m .srt .vtt .ass .sub .nfo .url .lnk .pdf .doc .docx .xls .xlsx .ds_store .db'.split(),
    'a document, not a video',
  ),
  **dict.fromkeys(
    '.npy .npz .mat .pkl .pickle .pt .pth .h5 .hdf5 .tfrecord .index .frames .parquet'.split(),
    'data, not a video',
  ),
  **dict.fromkeys('.mp3 .wav .aac .flac .m4a .opus .wma .aiff'.split(), 'sound, not a video'),
  **dict.fromkeys(
    '.zip .tar .gz .tgz .bz2 .xz .zst .7z .rar'.split(), 'an archive; unpack it to read its videos'
  ),
  **dict.fromkeys(
    '.part .crdownload .tmp .ytdl .aria2 .download'.split(), 'a download that is not finished'
  ),
}
_OUTSIDE = 'in no class folder; move it into one'


@dataclass(frozen=True)
class Folder:
  """Contents of a folder of videos.

  Attributes:
    videos: (path, split, class), by folder and name.
    skipped: (path, reason) of everything else in it; a path that ends with '/' is a folder.
    notes: lines for people: how sub-folders were understood where that is not obvious.
  """

  videos: list[tuple[str, str, str]]
  skipped: list[tuple[str, str]]
  notes: list[str]


def scan_folder(
  folder: str, split: str = 'train', *, allow_empty_classes: bool = False, ignore: str = ''
) -> Folder:
  """Finds the videos of DIR/<class>/, DIR/<split>/<class>/ or DIR/<class>/<split>/.

  Sub-folders of classes belong to them, however deep. Splits are called train, val and test, or
  training, validation, dev, eval, Test and the like (`split_names`). Beside them there may be
  folders without a video.

  Args:
    folder: DIR.
    split: of videos that are not in folders of splits.
    allow_empty_classes: leave out class folders without a video.
    ignore: a folder in it that is not looked into: that of the dataset to be written.

  Raises:
    ValueError: if there is no such folder, class or video, a class has no video, or it cannot be
      told which folders are splits.
  """
  if not os.path.isdir(folder):
    raise ValueError(
      f'--folder: no folder {folder}; it must hold one sub-folder of videos per class'
    )
  scan = _Scan(folder, ignore)
  names = _subfolders(folder, scan)
  if not names:
    raise ValueError(
      f'no class folders in {folder}: move the videos to {folder}/<class>/, or list them in '
      '--manifest'
    )
  found = {name: scan.below(name) for name in names}
  files = [path for paths in found.values() for path in paths]
  if not files:
    raise ValueError(
      f'no videos under {folder}/<class>/{_examples(scan.skipped)}: move the videos to '
      f'{folder}/<class>/, or list them with their labels in a --manifest. Extensions looked for: '
      f'{" ".join(EXTENSIONS)}, and what opens as a video'
    )
  scan.skipped += [(f'{name}/', 'a folder without a video') for name in names if not found[name]]
  notes: list[str] = []
  places = _in_splits(folder, found, scan, notes) or _in_classes(folder, found, split, notes)
  empty = [name for name in places.classes if not places.classes[name]]
  if empty and not allow_empty_classes:
    inside = [entry for entry in scan.skipped if entry[0].startswith(tuple(f'{n}/' for n in empty))]
    inside = [entry for entry in inside if not entry[0].endswith('/')]
    raise ValueError(
      f'no video in {len(empty)} of {len(places.classes)} class folders of {folder}: '
      f'{_some(empty)}{_examples(inside)}; move what is no class elsewhere, or pass '
      '--allow_empty_classes to leave it out'
    )
  if empty:
    notes.append(f'left out, as there is no video in them: {_some(empty)}')
  return Folder(places.videos, sorted(scan.skipped), notes)


@dataclass(frozen=True)
class _Places:
  """videos: (path, split, label). classes: videos by class folder, to tell empty ones."""

  videos: list[tuple[str, str, str]]
  classes: dict[str, list[str]] = field(default_factory=dict)


def _in_splits(
  folder: str, found: dict[str, list[str]], scan: _Scan, notes: list[str]
) -> _Places | None:
  """Videos of DIR/<split>/<class>/, None if the folder is not of that kind. Raises ValueError if
  that cannot be told."""
  named = {name: SPLITS[name.lower()] for name in found if name.lower() in SPLITS}
  holding = {name: at for name, at in named.items() if found[name]}
  loose = [name for name in holding if not _subnames(found[name])]
  others = [name for name in found if name not in named and found[name]]
  if not holding or loose or others:
    shared = set.intersection(*(_subnames(found[name]) for name in holding)) if holding else set()
    if len(holding) > 1 and others and not loose and shared:
      raise ValueError(
        f'{folder} holds the splits {_some(list(holding))} and, beside them, videos in '
        f'{_some(others)}: move these elsewhere (or call a split train, val or test), or list '
        'the videos in --manifest'
      )
    if holding:
      why = (
        f'the videos of {loose[0]} are not in class folders' if loose else
        f'{others[0]} beside it holds videos too'
      )  # fmt: skip
      what = ('classes', 'splits') if len(holding) > 1 else ('a class', 'a split')
      notes.append(
        f'careful: {_some(list(holding))} taken for {what[0]}, not for {what[1]}, because {why}'
      )
    return None
  twice = [name for name in holding if list(holding.values()).count(holding[name]) > 1]
  if twice:
    raise ValueError(
      f'{folder} has {len(twice)} folders for split {holding[twice[0]]!r}: {_some(twice)}; join '
      'them, or move one elsewhere'
    )
  for name in found:
    if not found[name]:
      notes.append(f'left out: {name}, which holds no video')
  renamed = [f'{name} as {at}' for name, at in holding.items() if name != at]
  if renamed:
    notes.append(f'splits: {_some(renamed)}')
  videos, classes = [], {}
  for name, at in holding.items():
    for path in found[name]:
      _, label, *rest = path.split('/')
      if rest:
        videos.append((path, at, label))
        classes.setdefault(label, []).append(path)
      else:
        scan.skipped.append((path, _OUTSIDE))
    for label in scan.folders(name):
      classes.setdefault(label, [])
  return _Places(videos, classes)


def _in_classes(folder: str, found: dict[str, list[str]], split: str, notes: list[str]) -> _Places:
  """Videos of DIR/<class>/, or of DIR/<class>/<split>/."""
  below = {name: _subnames(paths) for name, paths in found.items()}
  inner = set().union(*below.values())
  flat = any(path.count('/') == 1 for paths in found.values() for path in paths)
  holding = [name for name in found if found[name]]
  # An empty folder that is named like a split is no class.
  classes = {name: paths for name, paths in found.items() if paths or name.lower() not in SPLITS}
  notes += [f'left out: {name}, which holds no video' for name in found if name not in classes]
  if not flat and len({SPLITS.get(name.lower()) for name in inner} - {None}) > 1:
    if len(holding) == 1:
      raise ValueError(
        f'the splits {_some(sorted(inner))} are in {os.path.join(folder, holding[0])}: pass that '
        'folder as --folder'
      )
    if all(name.lower() in SPLITS for name in inner):
      notes.append(f'splits: the folders {_some(sorted(inner))} in those of the classes')
      return _Places(
        [
          (path, SPLITS[path.split('/')[1].lower()], name)
          for name, paths in found.items()
          for path in paths
        ],
        classes,
      )
    odd = sorted(name for name in inner if name.lower() in SPLITS)
    notes.append(f'careful: {_some(odd)} in class folders taken for parts of the classes')
  if len(holding) == 1 and not flat:
    name = holding[0]
    notes.append(
      f'careful: one class only, {name}; its sub-folders ({_some(sorted(below[name]))}) were taken '
      f'for parts of it. If they are the classes, pass --folder={os.path.join(folder, name)}'
    )
  return _Places([(path, split, name) for name in holding for path in found[name]], classes)


def _subnames(paths: Sequence[str]) -> set[str]:
  """Names of the folders in a folder that hold videos."""
  return {path.split('/')[1] for path in paths if path.count('/') > 1}


class _Scan:
  """Looks through a folder, and remembers what it skips.

  Attributes:
    skipped: (path, reason).
  """

  def __init__(self, root: str, ignore: str):
    self.root, self.ignore = root, os.path.realpath(ignore) if ignore else ''
    self.skipped: list[tuple[str, str]] = []

  def below(self, place: str, above: tuple[str, ...] = ()) -> list[str]:
    """Paths of the videos in a folder and in those in it, in order of name. above: folders in which
    it is, links resolved."""
    above = (*(above or (os.path.realpath(self.root),)), os.path.realpath(self.full(place)))
    paths = []
    for name in sorted(os.listdir(self.full(place))):
      path = f'{place}/{name}'
      if os.path.isdir(self.full(path)):
        paths += self._inside(path, name, above)
      elif why := self.why_skipped(path):
        self.skipped.append((path, why))
      else:
        paths.append(path)
    return paths

  def _inside(self, path: str, name: str, above: tuple[str, ...]) -> list[str]:
    real = os.path.realpath(self.full(path))
    if self.hidden(path):
      return []
    if real in above:
      self.skipped.append((f'{path}/', 'a symbolic link back to a folder above it'))
      return []
    if not os.listdir(self.full(path)):
      if name.lower().endswith(EXTENSIONS):
        return [path]  # named like a video: fails as one
      self.skipped.append((f'{path}/', 'an empty folder'))
      return []
    return self.below(path, above)

  def hidden(self, path: str) -> bool:
    """Returns whether a folder is to be left alone, as a hidden one or that of the dataset."""
    if self.ignore and os.path.realpath(self.full(path)) == self.ignore:
      return True
    hidden = os.path.basename(path).startswith('.') or os.path.basename(path) == '__MACOSX'
    if hidden:
      self.skipped.append((f'{path}/', 'a hidden folder'))
    return hidden

  def why_skipped(self, path: str) -> str:
    """Returns why a file is no row, '' if it is one: if its name or what it holds is a video's."""
    name = os.path.basename(path).lower()
    if name.startswith('.'):
      return 'a hidden file'
    if name.endswith(EXTENSIONS):
      return ''
    why = _NO_VIDEOS.get(os.path.splitext(name)[1], '')
    return why or video_file.why_unreadable(self.full(path))

  def folders(self, place: str) -> list[str]:
    """Names of the folders in a folder that are not hidden."""
    names = sorted(os.listdir(self.full(place)))
    return [n for n in names if n[0] != '.' and os.path.isdir(self.full(f'{place}/{n}'))]

  def full(self, path: str) -> str:
    """Path on this machine of one in the folder."""
    return os.path.join(self.root, path)


def _subfolders(folder: str, scan: _Scan) -> list[str]:
  """Names of the folders in it; what else is there is skipped. Raises ValueError for symbolic links
  that lead nowhere or back up: a class would be lost, or read twice."""
  names = []
  for entry in sorted(os.scandir(folder), key=lambda e: e.name):
    if not os.path.isdir(entry.path) and (
      entry.name.startswith('.') or entry.name.lower().endswith(EXTENSIONS)
    ):
      scan.skipped.append((entry.name, scan.why_skipped(entry.name) or _OUTSIDE))
      continue
    if entry.is_symlink():
      if not os.path.exists(entry.path):
        raise ValueError(
          f'{entry.path} is a symbolic link that leads nowhere, or to itself: mend or remove it'
        )
      target = os.path.realpath(entry.path)
      if os.path.commonpath([target, os.path.realpath(folder)]) == target:
        raise ValueError(
          f'{entry.path} is a symbolic link back to {target}, a folder above it: remove it'
        )
    if os.path.isdir(entry.path):
      names += [] if scan.hidden(entry.name) else [entry.name]
    else:
      scan.skipped.append((entry.name, scan.why_skipped(entry.name) or _OUTSIDE))
  return names


def _examples(skipped: Sequence[tuple[str, str]]) -> str:
  """' (skipped: a/b.txt: a document, not a video; ...)', '' for none."""
  shown = '; '.join(f'{path}: {why}' for path, why in skipped[:3])
  more = f'; and {len(skipped) - 3} more' if len(skipped) > 3 else ''
  return f' (skipped: {shown}{more})' if shown else ''


def _some(names: Sequence[str]) -> str:
  more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
  return ', '.join(names[:_SHOWN]) + more
