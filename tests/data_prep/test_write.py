"""Videos to a dataset folder, whole: records, manifest, failures, restarts, runners."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import simplejpeg

from data_prep import write
from tests.data_prep.films import cut, pictures, write_sound, write_video
from vjax.data import sequence_example
from vjax.data.index import open_index, read_record


def digests(folder):
  """File name -> hash of all that a dataset folder holds."""
  return {
    p.name: hashlib.sha256(p.read_bytes()).hexdigest()
    for p in sorted(folder.iterdir())
    if p.is_file()
  }


def read_records(folder, split='train'):
  """[(context, frames as arrays)] by the reader that training uses."""
  index = open_index(str(folder), split)
  out = []
  for i in range(len(index)):
    payload = read_record(index, i)
    context, spans = sequence_example.decode(payload)
    out.append(
      (context, [simplejpeg.decode_jpeg(sequence_example.frame(payload, s)) for s in spans])
    )
  return out


def failures(folder):
  with open(folder / 'failed.csv', newline='') as file:
    return {(path, int(row)): reason for path, _, row, reason in list(csv.reader(file))[1:]}


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  """A folder of two classes, with every kind of trouble in it."""
  root = tmp_path_factory.mktemp('videos')
  (root / 'run').mkdir()
  (root / 'walk').mkdir()
  for i in range(5):
    write_video(root / 'run' / f'{i}.mp4', frames=8 + i)
    write_video(root / 'walk' / f'{i}.mkv', frames=8 + i)
  write_video(root / 'walk' / 'odd.mp4', height=51, width=75)
  write_video(root / 'walk' / 'turned.mp4', rotation=90)
  whole = write_video(root / 'whole.mp4', movflags='faststart')
  cut(root / 'run' / 'cut.mp4', whole, 0.6)
  (root / 'run' / 'empty.mp4').write_bytes(b'')
  (root / 'run' / 'noise.mp4').write_bytes(np.random.default_rng(0).bytes(4000))
  write_sound(root / 'walk' / 'sound.mp4')
  return root


def test_folder(videos, tmp_path, capsys):
  out = tmp_path / 'mine'
  write.main(
    [f'--folder={videos}', f'--out={out}', '--short_side=32', '--shards=3', '--processes=2']
  )
  manifest = json.loads((out / 'manifest.json').read_text())
  split = manifest['splits']['train']
  assert (manifest['format'], manifest['name'], manifest['labels']) == ('vjax-1', 'mine', 'one')
  assert manifest['classes'] == ['run', 'walk'] and split['clips_per_class'] == [5, 7]
  assert split['clips'] == 12 and split['frames'] == 2 * sum(range(8, 13)) + 24 + 24
  assert split['duration_s'] == pytest.approx(split['frames'] / 12, abs=0.01)
  assert manifest['failed'] == 4 and manifest['settings']['short_side_px'] == 32
  reasons = {path: reason.split(':')[0] for (path, _), reason in failures(out).items()}
  assert reasons == {
    'run/cut.mp4': 'truncated',
    'run/empty.mp4': 'empty',
    'run/noise.mp4': 'unreadable',
    'walk/sound.mp4': 'no video',
  }
  for shard in split['shards']:
    assert (out / shard['file']).stat().st_size == shard['bytes']
  assert sum(s['clips'] for s in split['shards']) == 12 and len(split['shards']) == 3
  shards = {f'train-{i:05}-of-00003.tfrecord' for i in range(3)}
  assert set(os.listdir(out)) == shards | {
    'manifest.json',
    'failed.csv',
    'skipped.csv',
    'train.index.npz',
    'train.frames',
  }
  assert (out / 'skipped.csv').read_text().splitlines() == [
    'path,reason',
    'whole.mp4,in no class folder; move it into one',
  ]
  said = capsys.readouterr().out
  assert 'train: 12 clips' in said and '1 truncated' in said and 'failed.csv' in said
  assert 'skipped: 1 files' in said and 'skipped.csv' in said


def test_records(videos, tmp_path):
  out = tmp_path / 'mine'
  write.main([f'--folder={videos}', f'--out={out}', '--short_side=0', '--processes=1'])
  clips = {
    context['video/filename'][0].decode(): (context, frames)
    for context, frames in read_records(out)
  }
  context, frames = clips['run/4.mp4']
  assert set(context) == {
    *(
      'clip/label/index',
      'clip/label/text',
      'clip/media_id',
      'clip/start/timestamp',
      'clip/end/timestamp',
    ),
    *('image/height', 'image/width', 'image/frame_rate', 'video/filename'),
  }
  assert context['clip/label/index'] == [0] and context['clip/label/text'] == [b'run']
  assert context['clip/start/timestamp'] == [0] and context['clip/end/timestamp'] == [1_000_000]
  assert context['image/frame_rate'] == [12.0] and context['clip/media_id'] == [b'run/4.mp4']
  assert len(frames) == 12 and frames[0].shape == (48, 64, 3)
  assert np.abs(frames[3][:8, :8].astype(int) - pictures(12)[3, :8, :8]).max() < 16
  context, frames = clips['walk/turned.mp4']
  assert (context['image/height'], context['image/width']) == ([64], [48]) and frames[0].shape == (
    64,
    48,
    3,
  )
  assert clips['walk/odd.mp4'][1][0].shape == (51, 75, 3)
  assert context['clip/label/index'] == [1]


def test_tensorflow_parses_the_records(videos, tmp_path):
  import tensorflow as tf

  write.main([f'--folder={videos}', f'--out={tmp_path / "a"}', '--processes=1'])
  for record in tf.data.TFRecordDataset(str(tmp_path / 'a' / 'train-00000-of-00001.tfrecord')):
    example = tf.train.SequenceExample.FromString(record.numpy())
    frames = example.feature_lists.feature_list['image/encoded'].feature
    height = example.context.feature['image/height'].int64_list.value[0]
    assert tf.io.decode_jpeg(frames[0].bytes_list.value[0]).shape[0] == height
    assert example.SerializeToString(deterministic=True) == record.numpy()


def test_manifests_views_and_bad_rows(videos, tmp_path):
  train, test, classes = tmp_path / 'train.csv', tmp_path / 'test.csv', tmp_path / 'classes.txt'
  train.write_text(
    'path,label,label:look,start_s,end_s\nrun/0.mp4,run,red,,\nrun/1.mp4,run,,,\nrun/1.mp4,walk,red,,\n'
    'run/1.mp4,run|walk,blue,0.25,0.5\nrun/2.mp4,fly,red,,\nrun/gone.mp4,run,red,,\nrun/3.mp4,run,,7,8\n'
  )
  test.write_text('path,label\nwalk/0.mkv,walk\nrun/0.mp4,run\n')
  classes.write_text('walk\nrun\nsit\n')
  out = tmp_path / 'mine'
  write.main(
    [
      f'--manifest=train:{train}',
      f'--manifest={test}',
      f'--videos={videos}',
      f'--out={out}',
      f'--classes={classes}',
    ]
    + ['--short_side=24', '--processes=1']
  )
  manifest = json.loads((out / 'manifest.json').read_text())
  assert manifest['classes'] == ['walk', 'run', 'sit'] and manifest['views'] == {
    'look': ['blue', 'red']
  }
  assert manifest['labels'] == 'many'
  assert manifest['splits']['train']['clips_per_class'] == [1, 3, 0]
  assert manifest['splits']['train']['views'] == {'look': [1, 1]}
  assert {key: reason.split(':')[0] for key, reason in failures(out).items()} == {
    ('run/1.mp4', 4): 'duplicate',
    ('run/2.mp4', 6): 'unknown label',
    ('run/gone.mp4', 7): 'missing',
    ('run/3.mp4', 8): 'segment',
  }
  clips = {
    context['clip/media_id'][0].decode(): (context, frames) for context, frames in read_records(out)
  }
  context, frames = clips['run/1.mp4@0.25-0.5']
  assert len(frames) == 3 and context['clip/start/timestamp'] == [250_000]
  assert context['clip/label/index'] == [1, 0] and context['clip/label/look/index'] == [0]
  assert 'clip/label/look/index' not in clips['run/1.mp4'][0]
  view = open_index(str(out), 'train', label_space='look')
  assert sorted(view.label.tolist()) == [-1, 0, 1] and view.classes == ('blue', 'red')
  assert len(open_index(str(out), 'test')) == 2 and manifest['in_several_splits'] == 1


def test_images_are_clips_of_one_frame(tmp_path):
  from PIL import Image

  (tmp_path / 'in' / 'a').mkdir(parents=True)
  Image.fromarray(pictures(1)[0]).save(tmp_path / 'in' / 'a' / 'x.png')
  write.main([f'--folder={tmp_path / "in"}', f'--out={tmp_path / "out"}', '--short_side=24'])
  [(context, frames)] = read_records(tmp_path / 'out')
  assert len(frames) == 1 and frames[0].shape == (24, 32, 3)
  assert context['image/frame_rate'] == [0.0] and context['clip/end/timestamp'] == [0]


def test_two_runs_agree_and_a_third_does_nothing(videos, tmp_path):
  flags = [f'--folder={videos}', '--short_side=24', '--shards=3']
  write.main([*flags, f'--out={tmp_path / "a" / "set"}', '--processes=1'])
  write.main([*flags, f'--out={tmp_path / "b" / "set"}', '--processes=2'])
  assert digests(tmp_path / 'a' / 'set') == digests(tmp_path / 'b' / 'set')
  before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'a' / 'set').iterdir()}
  write.main([*flags, f'--out={tmp_path / "a" / "set"}'])
  assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / 'a' / 'set').iterdir()}
  with pytest.raises(SystemExit, match='short_side_px 24 -> 48'):
    write.main(
      [f'--folder={videos}', '--short_side=48', '--shards=3', f'--out={tmp_path / "a" / "set"}']
    )


def test_beam_writes_the_same_bytes(videos, tmp_path):
  flags = [f'--folder={videos}', '--short_side=24', '--shards=3']
  write.main([*flags, f'--out={tmp_path / "a" / "set"}', '--processes=1'])
  beam = ['--runner=DirectRunner', '--direct_num_workers=1']
  write.main([*flags, f'--out={tmp_path / "b" / "set"}', *beam])
  assert digests(tmp_path / 'a' / 'set') == digests(tmp_path / 'b' / 'set')


@pytest.mark.parametrize('processes', [1, 2])
def test_killed_run_continues(tmp_path, processes):
  big = write_video(tmp_path / 'big.mp4', frames=32, height=240, width=320)
  (tmp_path / 'in' / 'a').mkdir(parents=True)
  for i in range(12):
    os.link(big, tmp_path / 'in' / 'a' / f'{i}.mp4')
  out = tmp_path / 'killed' / 'set'
  flags = [f'--folder={tmp_path / "in"}', '--short_side=300', '--shards=6']
  command = [
    sys.executable,
    '-m',
    'data_prep.write',
    *flags,
    f'--out={out}',
    f'--processes={processes}',
  ]
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
  try:
    while not list(out.glob('*.done.json')):
      assert process.poll() is None, 'the run ended before it could be killed'
      time.sleep(0.005)
  finally:
    process.send_signal(signal.SIGKILL)
    process.wait()
  time.sleep(0.2 * processes)  # workers notice
  shards = {p.name.removesuffix('.done.json') for p in out.glob('*.done.json')}
  assert 0 < len(shards) < 6 and not (out / 'manifest.json').exists()
  (out / 'train-00003-of-00006.tfrecord.tmp-0123').write_bytes(
    b'half'
  )  # in case the kill fell between two shards
  before = {name: (out / name).stat().st_mtime_ns for name in shards}
  write.main([*flags, f'--out={out}', '--processes=1'])
  assert {name: (out / name).stat().st_mtime_ns for name in shards} == before
  write.main([*flags, f'--out={tmp_path / "whole" / "set"}', '--processes=1'])
  assert digests(out) == digests(tmp_path / 'whole' / 'set')


def test_a_repaired_video_is_written_by_the_next_run(tmp_path):
  (tmp_path / 'in' / 'a').mkdir(parents=True)
  (tmp_path / 'in' / 'a' / 'x.mp4').write_bytes(b'')
  flags = [f'--folder={tmp_path / "in"}', f'--out={tmp_path / "out"}', '--processes=1']
  with pytest.raises(
    SystemExit, match="no video of split 'train' could be read: 1 empty; see .*failed.csv"
  ):
    write.main(flags)
  write_video(tmp_path / 'in' / 'a' / 'x.mp4')
  write.main(flags)
  assert len(read_records(tmp_path / 'out')) == 1


def test_the_reasons_of_an_empty_split_are_its_own(tmp_path):
  for name in ('train/run/a', 'train/run/b', 'val/run/c'):
    (tmp_path / 'in' / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / 'in' / f'{name}.mp4').write_bytes(b'')
  write_video(tmp_path / 'in' / 'train' / 'run' / 'd.mp4', frames=2)
  with pytest.raises(SystemExit, match="no video of split 'val' could be read: 1 empty; see"):
    write.main([f'--folder={tmp_path / "in"}', f'--out={tmp_path / "out"}', '--processes=1'])


def test_a_class_that_yields_nothing_is_an_error_unless_asked_for(tmp_path, capsys):
  for name in ('run', 'sit', 'walk'):
    (tmp_path / 'in' / name).mkdir(parents=True)
    write_video(tmp_path / 'in' / name / 'a.mp4', frames=2)
  (tmp_path / 'in' / 'sit' / 'a.mp4').write_bytes(b'')
  flags = [f'--folder={tmp_path / "in"}', f'--out={tmp_path / "out"}', '--processes=1']
  words = r'no video of 1 of 3 classes could be read \(sit\): 1 empty; see .*--allow_empty_classes'
  with pytest.raises(SystemExit, match=words):
    write.main(flags)
  assert not (tmp_path / 'out' / 'manifest.json').exists()
  shard = next((tmp_path / 'out').glob('*.tfrecord'))
  before = shard.stat().st_mtime_ns
  write.main([*flags, '--allow_empty_classes'])
  assert shard.stat().st_mtime_ns == before  # what was written is kept
  assert 'careful: train has no clip of 1 of 3 classes (sit)' in capsys.readouterr().out


def test_holdout_of_few_videos(tmp_path, capsys):
  video = write_video(tmp_path / 'a.mp4', frames=2)
  for name in ('run/1', 'run/2', 'run/3', 'walk/1', 'walk/2', 'sit/1'):
    (tmp_path / 'in' / name).parent.mkdir(parents=True, exist_ok=True)
    os.link(video, tmp_path / 'in' / f'{name}.mp4')
  flags = [f'--folder={tmp_path / "in"}', f'--out={tmp_path / "out"}', '--processes=1']
  write.main([*flags, '--holdout=0.1'])
  said = capsys.readouterr().out
  assert 'held out for val: 2 of 6 videos (run 1 of 3, sit 0 of 1, walk 1 of 2)' in said
  assert 'careful: 1 of 3 classes have no video in val (sit)' in said
  splits = json.loads((tmp_path / 'out' / 'manifest.json').read_text())['splits']
  assert splits['val']['clips_per_class'] == [1, 0, 1]
  assert splits['train']['clips_per_class'] == [2, 1, 1]


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--folder=gone'], 'no folder gone'),
    (['--manifest=gone.csv'], 'no manifest gone.csv'),
    (['--manifest=gone.csv', '--videos=nowhere'], 'no folder nowhere'),
    (['--folder=.', '--split=a', '--split=b'], 'one --split, not 2'),
  ],
)
def test_wrong_flags(tmp_path, monkeypatch, flags, words):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit, match=words):
    write.main([*flags, '--out=out'])
  assert not (tmp_path / 'out').exists()


def test_flags_that_nobody_knows(capsys):
  with pytest.raises(SystemExit):
    write.main(['--folder=x', '--out=y', '--shortside=3'])
  assert 'unknown flags: --shortside=3' in capsys.readouterr().err


@pytest.mark.parametrize(
  'flag, words',
  [
    (
      '--multi_label',
      '--multi_label is of --list FILE, which is not given: leave --multi_label out',
    ),
    ('--processes=-1', '--processes=-1 must be 1 or more; 0 takes one a core'),
  ],
)
def test_flags_that_would_do_nothing(flag, words, capsys):
  with pytest.raises(SystemExit):
    write.main(['--folder=x', '--out=y', flag])
  assert words in capsys.readouterr().err


def test_records_of_others_are_left_alone(videos, tmp_path):
  (tmp_path / 'train-00000-of-00001.tfrecord').write_bytes(b'precious')
  for _ in range(2):
    with pytest.raises(SystemExit, match='records of another origin'):
      write.main([f'--folder={videos}', f'--out={tmp_path}'])
  assert (tmp_path / 'train-00000-of-00001.tfrecord').read_bytes() == b'precious'


@pytest.mark.parametrize('form, name', [('dmvr', 'train-{}'), ('scenic', 'train.tfrecord-{}')])
def test_shards_named_as_others_name_them(tmp_path, form, name):
  """The names that DMVR and Scenic look for; the same command finds them finished."""
  (tmp_path / 'videos' / 'walk').mkdir(parents=True)
  for i in range(2):
    write_video(tmp_path / 'videos' / 'walk' / f'{i}.mp4', frames=3)
  command = [f'--folder={tmp_path / "videos"}', f'--out={tmp_path / "out"}', '--processes=1']
  command += ['--shards=2', f'--shard_names={form}']
  for _ in range(2):
    write.main(command)
    found = sorted(p.name for p in (tmp_path / 'out').glob('*-of-*'))
    assert found == [name.format(f'{i:05}-of-00002') for i in range(2)]
  assert len(open_index(str(tmp_path / 'out'), 'train')) == 2
