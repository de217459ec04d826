"""Trouble that is the machine's or the caller's, not a video's: the run ends in one message and
continues."""

import contextlib
import errno
import itertools
import json
import os
import resource
import shutil

import pytest

from data_prep import shards, synthetic, write
from tests.data_prep.films import write_video
from tests.data_prep.test_write import digests, failures
from vjax.data.video_file import VideoError


def eight(tmp_path, name='in'):
  """A class folder of eight videos."""
  (tmp_path / name / 'a').mkdir(parents=True)
  for i in range(8):
    write_video(tmp_path / name / 'a' / f'{i}.mp4', frames=3)
  return tmp_path / name


def at_row(number, act, monkeypatch):
  """`act(row, root)` comes before clip `number` of a run is encoded."""
  real, seen = shards.encode_clip, itertools.count(1)

  def encode_clip(row, root, *args):
    if next(seen) == number:
      act(row, root)
    return real(row, root, *args)

  monkeypatch.setattr(shards, 'encode_clip', encode_clip)


def fail(error):
  raise error


TROUBLE = {
  'folder gone': (
    lambda row, root: os.rename(root, f'{root}-gone'),
    '/in: the video folder is gone',
  ),
  'disk gone': (
    lambda row, root: (os.rename(root, f'{root}-gone'), os.mkdir(root)),
    r'\d.mp4: No such file or directory. A video that was there when',
  ),
  'cut off': (
    lambda row, root: os.truncate(os.path.join(root, row.path), 9),
    r'the file had \d+ bytes and has another size',
  ),
  'memory': (
    lambda row, root: fail(MemoryError()),
    r'no memory left for .*\.mp4; try fewer --processes: ',
  ),
}


@pytest.mark.parametrize('what', TROUBLE)
def test_trouble_of_the_machine_is_no_failure_of_a_video(what, tmp_path, monkeypatch):
  """Videos that vanish in the middle would leave a 'complete' dataset of the few before: the run
  ends with an error, and once they are back the same command gives what an undisturbed run does."""
  act, words = TROUBLE[what]
  videos = eight(tmp_path)
  shutil.copytree(videos, tmp_path / 'copy')
  flags = [f'--folder={videos}', '--processes=1', '--shards=2']
  write.main([*flags, f'--out={tmp_path / "whole" / "set"}'])
  at_row(6, act, monkeypatch)
  with pytest.raises(SystemExit, match=rf'(?s)error: .*{words}.*the same command continues'):
    write.main([*flags, f'--out={tmp_path / "set"}'])
  monkeypatch.undo()
  assert (
    not (tmp_path / 'set' / 'manifest.json').exists()
    and not (tmp_path / 'set' / 'failed.csv').exists()
  )
  first = {p.name: p.stat().st_mtime_ns for p in (tmp_path / 'set').glob('*.tfrecord')}
  assert list(first) == ['train-00000-of-00002.tfrecord']
  shutil.rmtree(videos, ignore_errors=True)
  shutil.copytree(tmp_path / 'copy', videos)
  write.main([*flags, f'--out={tmp_path / "set"}'])
  assert digests(tmp_path / 'set') == digests(tmp_path / 'whole' / 'set')
  assert (tmp_path / 'set' / 'train-00000-of-00002.tfrecord').stat().st_mtime_ns == next(
    iter(first.values())
  )


def test_a_disk_that_fails_under_a_video_is_no_truncated_video(tmp_path, monkeypatch):
  """The decoder breaks off, and so does reading the file again."""
  videos = eight(tmp_path)
  bad = lambda row, root: fail(
    VideoError('truncated: 2 of 3 frames decodable (Input/output error)')
  )
  at_row(6, bad, monkeypatch)
  real = open

  def failing(path, *args, **kwargs):
    if str(path).endswith('.mp4'):
      raise OSError(errno.EIO, os.strerror(errno.EIO), path)
    return real(path, *args, **kwargs)

  monkeypatch.setattr(shards, 'open', failing, raising=False)
  with pytest.raises(
    SystemExit, match=r'error: .*\.mp4: Input/output error. A video that was there .* continues'
  ):
    write.main([f'--folder={videos}', '--processes=1', '--shards=2', f'--out={tmp_path / "set"}'])


def test_videos_missing_from_the_beginning_are_listed(tmp_path):
  write_video(tmp_path / 'a.mp4', frames=3)
  (tmp_path / 'train.csv').write_text('a.mp4,run\ngone.mp4,run\n')
  write.main([f'--manifest={tmp_path / "train.csv"}', f'--out={tmp_path / "out"}', '--processes=1'])
  assert failures(tmp_path / 'out') == {('gone.mp4', 2): 'missing: no such file'}


@pytest.mark.parametrize(
  'text', ['{}', '', '{"file": "train-000', '[]', '[' * 100_000, '{"bytes": 3}']
)
def test_a_damaged_description_of_a_shard_has_it_written_again(text, tmp_path, monkeypatch):
  flags = [f'--folder={eight(tmp_path)}', '--processes=1', '--shards=2']
  write.main([*flags, f'--out={tmp_path / "whole" / "set"}'])
  at_row(6, lambda row, root: fail(KeyboardInterrupt()), monkeypatch)
  with pytest.raises(KeyboardInterrupt):
    write.main([*flags, f'--out={tmp_path / "set"}'])
  monkeypatch.undo()
  (tmp_path / 'set' / 'train-00000-of-00002.tfrecord.done.json').write_text(text)
  write.main([*flags, f'--out={tmp_path / "set"}'])
  assert digests(tmp_path / 'set') == digests(tmp_path / 'whole' / 'set')


@pytest.mark.parametrize(
  'flag, words',
  [
    ('--short_side=-5', 'pixels'),
    ('--quality=0', 'from 1 to 100'),
    ('--quality=101', 'from 1 to 100'),
    ('--frame_rate=-5', 'frames per second'),
    ('--frame_rate=inf', 'frames per second'),
    ('--frame_rate=nan', 'frames per second'),
    ('--max_duration_s=nan', 'seconds above 0'),
    ('--max_duration_s=-1', 'seconds above 0'),
    ('--max_duration_s=0', 'seconds above 0'),
    ('--shards=-3', '1 or more'),
  ],
)
def test_flags_out_of_range(tmp_path, flag, words):
  """Refused by name before anything is written."""
  (tmp_path / 'in' / 'a').mkdir(parents=True)
  write_video(tmp_path / 'in' / 'a' / '0.mp4', frames=3)
  with pytest.raises(SystemExit, match=f'error: {flag} must be .*{words}'):
    write.main([f'--folder={tmp_path / "in"}', f'--out={tmp_path / "out"}', '--processes=1', flag])
  assert not (tmp_path / 'out').exists()


@contextlib.contextmanager
def small_files(most: int):
  """No file may grow beyond so many bytes, as on a disk that is full."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_in_one_message_and_is_continued(tmp_path):
  flags = [f'--folder={eight(tmp_path)}', '--processes=1', '--shards=2']
  write.main([*flags, f'--out={tmp_path / "whole" / "set"}'])
  with small_files(4096), pytest.raises(SystemExit) as stopped:
    write.main([*flags, f'--out={tmp_path / "set"}'])
  assert str(stopped.value).startswith(
    f'error: writing --out={tmp_path / "set"} stopped: File too large'
  )
  assert str(stopped.value).endswith(
    'nothing is lost, the same command continues once that is mended'
  )
  write.main([*flags, f'--out={tmp_path / "set"}'])
  assert digests(tmp_path / 'set') == digests(tmp_path / 'whole' / 'set')


def test_an_out_that_cannot_be_made(tmp_path):
  (tmp_path / 'file').write_text('')
  out = tmp_path / 'file' / 'set'
  words = f'error: writing --out={out} stopped: Not a directory .*{out}.*; nothing is lost, the same command continues'
  with pytest.raises(SystemExit, match=words):
    write.main([f'--folder={eight(tmp_path)}', '--processes=1', f'--out={out}'])
  with pytest.raises(SystemExit, match=words):
    synthetic.main([f'--out={out}', '--train=24', '--test=12', '--processes=1'])


def test_a_full_disk_while_videos_are_rendered(tmp_path):
  command = [f'--out={tmp_path / "set"}', '--train=12', '--test=12', '--processes=1']
  with (
    small_files(2048),
    pytest.raises(SystemExit, match=r'error: writing --out=.*set stopped: File too large'),
  ):
    synthetic.main(command)
  synthetic.main(command)
  assert json.loads((tmp_path / 'set' / 'manifest.json').read_text())['failed'] == 0
