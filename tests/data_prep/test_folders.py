"""Folders of videos: what becomes a clip of which class and split, and what is left out and why."""

import os

import pytest

from data_prep.folders import scan_folder
from data_prep.rows import read_folder
from tests.data_prep.films import write_sound, write_video
from vjax.data.split_names import HELD_OUT, SPLITS


def folder(tmp_path, *files):
  """Empty files; one that ends with '/' is a folder."""
  for file in files:
    if file.endswith('/'):
      (tmp_path / file).mkdir(parents=True)
    else:
      (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
      (tmp_path / file).write_bytes(b'')
  return str(tmp_path)


def scanned(tmp_path, *files, **kwargs):
  return scan_folder(folder(tmp_path, *files), **kwargs)


def test_folders_below_a_class_belong_to_it(tmp_path):
  found = scanned(tmp_path, 'run/b.mp4', 'run/s1/a.mp4', 'run/s1/t/a.mp4', 'walk/s2/a.mp4')
  assert found.videos == [
    ('run/b.mp4', 'train', 'run'),
    ('run/s1/a.mp4', 'train', 'run'),
    ('run/s1/t/a.mp4', 'train', 'run'),
    ('walk/s2/a.mp4', 'train', 'walk'),
  ]
  assert found.skipped == [] and found.notes == []
  assert [row.line for row in read_folder(str(tmp_path))] == [1, 2, 3, 4]


def test_other_names_of_videos(tmp_path):
  names = ('a.MTS', 'b.vob', 'c.gif', 'd.asf', 'e.m2ts', 'f.divx', 'g.3g2', 'h.TIFF', 'i.f4v')
  assert len(scanned(tmp_path, *(f'a/{name}' for name in names)).videos) == len(names)


def test_everything_is_a_video_or_skipped_with_a_reason(tmp_path):
  write_video(tmp_path / 'a.mp4', frames=2)
  write_sound(tmp_path / 'sound.mp4')
  for name in ('film', 'film.dat', 'v.2024.05'):
    (tmp_path / 'run').mkdir(exist_ok=True)
    os.link(tmp_path / 'a.mp4', tmp_path / 'run' / name)
  os.rename(tmp_path / 'sound.mp4', tmp_path / 'run' / 'sound.bin')
  (tmp_path / 'run' / 'LICENSE').write_text('free\n')
  (tmp_path / 'run' / 'noise.bin').write_bytes(bytes(range(256)) * 20)
  os.mkfifo(tmp_path / 'run' / 'pipe')
  (tmp_path / 'run' / 'gone').symlink_to('nowhere')
  (tmp_path / 'run' / 'loop').symlink_to('..')
  found = scanned(
    tmp_path, '.git/config', 'labels.csv', '.DS_Store', 'run/.DS_Store', 'run/notes.txt', 'run/x/',
    'run/.hidden/b.mp4', '__MACOSX/run/._a.mp4', 'run/a.mp4.part', 'run/more.zip',
  )  # fmt: skip
  assert [path for path, *_ in found.videos] == ['run/film', 'run/film.dat', 'run/v.2024.05']
  assert dict(found.skipped) == {
    '.DS_Store': 'a hidden file',
    '.git/': 'a hidden folder',
    '__MACOSX/': 'a hidden folder',
    'a.mp4': 'in no class folder; move it into one',
    'labels.csv': 'a document, not a video',
    'run/.DS_Store': 'a hidden file',
    'run/.hidden/': 'a hidden folder',
    'run/LICENSE': 'unreadable: a text file',
    'run/a.mp4.part': 'a download that is not finished',
    'run/gone': 'missing: a symbolic link that leads nowhere, or to itself',
    'run/loop/': 'a symbolic link back to a folder above it',
    'run/more.zip': 'an archive; unpack it to read its videos',
    'run/noise.bin': dict(found.skipped)['run/noise.bin'],
    'run/notes.txt': 'a document, not a video',
    'run/pipe': 'missing: a pipe or device, not a file',
    'run/sound.bin': 'no video: the file has sound only',
    'run/x/': 'an empty folder',
  }
  assert dict(found.skipped)['run/noise.bin'].startswith(('unreadable: ', 'no video: '))


def test_the_dataset_itself_is_not_looked_into(tmp_path):
  files = ('a/x.mp4', 'out/train-00000-of-00001.tfrecord', 'a/out/b.mp4')
  found = scanned(tmp_path, *files, ignore=str(tmp_path / 'out'))
  assert [path for path, *_ in found.videos] == ['a/out/b.mp4', 'a/x.mp4']
  assert found.skipped == []


@pytest.mark.parametrize(
  'names', [('train', 'val'), ('Train', 'Val'), ('training', 'validation'), ('TRAIN', 'valid')]
)
@pytest.mark.parametrize('beside', [(), ('annotations/a.json',), ('test/',), ('README',)])
def test_splits(tmp_path, names, beside):
  train, val = names
  files = (f'{train}/run/a.mp4', f'{val}/run/s/b.mp4', f'{train}/walk/c.mp4')
  found = scanned(tmp_path, *files, *beside)
  assert sorted(found.videos, key=lambda video: video[0][-5:]) == [
    (f'{train}/run/a.mp4', 'train', 'run'),
    (f'{val}/run/s/b.mp4', 'val', 'run'),
    (f'{train}/walk/c.mp4', 'train', 'walk'),
  ]
  said = '\n'.join(found.notes)
  if beside and '/' in beside[0]:
    left_out = beside[0].split('/')[0]
    assert f'left out: {left_out}, which holds no video' in said
    assert (f'{left_out}/', 'a folder without a video') in found.skipped
  assert ('splits: ' in said) == (train != 'train')


def test_dev_and_eval_are_splits_that_a_run_is_evaluated_on(tmp_path):
  files = ('train/run/a.mp4', 'dev/run/b.mp4', 'eval/run/c.mp4')
  found = scanned(tmp_path, *files)
  assert [split for _, split, _ in sorted(found.videos, key=lambda v: v[0][-5:])] == [
    'train',
    'val',
    'test',
  ]
  assert 'splits: dev as val, eval as test' in found.notes
  assert set(HELD_OUT) == {n for n, at in SPLITS.items() if at in ('val', 'test')}


def test_test_and_testing_are_one_split(tmp_path):
  with pytest.raises(ValueError, match="2 folders for split 'test': test, testing; join them"):
    scanned(tmp_path, 'test/run/a.mp4', 'testing/run/b.mp4')


def test_splits_in_class_folders(tmp_path):
  found = scanned(tmp_path, 'run/Train/a.mp4', 'run/Test/b.mp4', 'walk/Train/c.mp4')
  assert found.videos == [
    ('run/Test/b.mp4', 'test', 'run'),
    ('run/Train/a.mp4', 'train', 'run'),
    ('walk/Train/c.mp4', 'train', 'walk'),
  ]
  assert found.notes == ['splits: the folders Test, Train in those of the classes']


def test_one_folder_too_high(tmp_path):
  found = scanned(tmp_path / 'a', 'videos/run/a.mp4', 'videos/walk/b.mp4')
  assert {label for *_, label in found.videos} == {'videos'}
  [note] = found.notes
  assert 'one class only, videos; its sub-folders (run, walk)' in note
  assert note.endswith(f'pass --folder={tmp_path / "a" / "videos"}')
  with pytest.raises(ValueError, match=r'the splits train, val are in .*/set: pass that folder'):
    scanned(tmp_path / 'b', 'set/train/run/a.mp4', 'set/val/run/b.mp4')


@pytest.mark.parametrize(
  'files, why',
  [
    (('train/a.mp4', 'bus/b.mp4'), 'the videos of train are not in class folders'),
    (('train/s/a.mp4', 'bus/s/b.mp4'), 'bus beside it holds videos too'),
  ],
)
def test_classes_that_are_named_like_splits_are_said(tmp_path, files, why):
  found = scanned(tmp_path, *files)
  assert {(split, label) for _, split, label in found.videos} == {
    ('train', n) for n in ('train', 'bus')
  }
  assert found.notes == [f'careful: train taken for a class, not for a split, because {why}']


def test_splits_beside_other_videos_are_refused(tmp_path):
  with pytest.raises(ValueError, match='the splits train, val and, beside them, videos in more'):
    scanned(tmp_path, 'train/run/a.mp4', 'val/run/b.mp4', 'more/run/c.mp4')


def test_videos_of_a_split_in_no_class_are_skipped(tmp_path):
  found = scanned(tmp_path, 'train/run/a.mp4', 'train/intro.mp4', 'val/run/b.mp4')
  assert len(found.videos) == 2
  assert found.skipped == [('train/intro.mp4', 'in no class folder; move it into one')]


@pytest.mark.parametrize(
  'files, empty',
  [
    (('run/a.mp4', 'sit/', 'walk/notes.txt'), 'sit, walk'),
    (('train/run/a.mp4', 'train/sit/', 'val/run/b.mp4'), 'sit'),
  ],
)
def test_classes_without_a_video_are_refused_unless_asked_for(tmp_path, files, empty):
  with pytest.raises(ValueError, match=rf'class folders of .*: {empty}.*--allow_empty_classes'):
    scanned(tmp_path, *files)
  found = scan_folder(str(tmp_path), allow_empty_classes=True)
  assert {label for *_, label in found.videos} == {'run'}
  assert f'left out, as there is no video in them: {empty}' in found.notes


def test_an_empty_folder_named_like_a_split_is_no_class(tmp_path):
  found = scanned(tmp_path, 'run/a.mp4', 'test/')
  assert found.notes == ['left out: test, which holds no video']
  assert found.skipped == [('test/', 'a folder without a video')]
