"""Killed, terminated or interrupted at any instant, the same command ends where the unbroken run
does, bit for bit."""

import dataclasses
import os
import pathlib
import random
import signal
import time

import pytest

from tests.experiments import shrunk
from tests.faults import commands
from tests.test_train import arrays, lines, result, same, timeless
from vjax import build, train

FLAGS = [
  '--config.optim.total_steps=24',
  '--config.optim.warmup_steps=2',
  '--config.train.log_steps=3',
]
FLAGS += [
  '--config.train.save_steps=1',
  '--config.train.eval_epochs=1.2',
]  # saves all the time; evaluates every 9 steps


@pytest.fixture(scope='module')
def unbroken(data_dir, tmp_path_factory) -> pathlib.Path:
  workdir = tmp_path_factory.mktemp('unbroken') / 'run'
  commands.ended(commands.train('mae', workdir, data_dir, *FLAGS))
  return workdir


WORKERS = '--config.data.workers=2'


def begun(workdir, data_dir):
  """A training command, with input workers, that has saved at least one step more than there was
  before."""
  before = max(commands.saved_steps(workdir), default=0)
  run = commands.train('mae', workdir, data_dir, *FLAGS, WORKERS)
  commands.wait_for(lambda: max(commands.saved_steps(workdir), default=0) > before, run, 'a save')
  return run


def orphans() -> list[str]:
  """Input workers whose training process is gone."""
  found = []
  for stat in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      parent = int(stat.read_text().rpartition(')')[2].split()[1])
      command = (stat.parent / 'cmdline').read_bytes()
    except OSError:  # it ended meanwhile
      continue
    if parent == 1 and b'vjax.data.workers' in command:
      found.append(stat.parent.name)
  return found


def agree(a, b, step: int = 24) -> None:
  assert same(arrays(a, step), arrays(b, step))
  assert lines(a) == lines(b)
  assert result(a) == result(b)
  assert commands.temporaries(b) == []
  assert commands.saved_steps(a) == commands.saved_steps(b) == [22, 23, 24]


@pytest.mark.slow
def test_killed_again_and_again(unbroken, data_dir, tmp_path):
  """Five kills: one anywhere from the first line of code on, one soon after a save, three once the
  folder of a save is there, most of which leave it half written."""
  rng, workdir, inside = random.Random(0), tmp_path / 'run', 0
  for instant in ('anywhere', 'inside', 'after', 'inside', 'inside'):
    if instant == 'anywhere':
      run = commands.train('mae', workdir, data_dir, *FLAGS)
      time.sleep(rng.uniform(1, 9))
    else:
      run = begun(workdir, data_dir)
      if instant == 'after':
        time.sleep(rng.uniform(0, 0.5))
      else:
        commands.wait_for(lambda: commands.temporaries(workdir), run, 'a save under way')
    run.kill()
    commands.ended(run, -signal.SIGKILL)
    inside += instant == 'inside' and bool(commands.temporaries(workdir))
    deadline = time.monotonic() + 10
    while orphans() and time.monotonic() < deadline:
      time.sleep(0.05)
    assert not orphans()
  assert inside >= 1
  commands.ended(commands.train('mae', workdir, data_dir, *FLAGS))
  agree(unbroken, workdir)


@pytest.mark.slow
def test_signals_during_saves(unbroken, data_dir, tmp_path):
  """SIGTERM saves and ends with 75 however often it comes; Ctrl-C ends with 130, in one line, as
  soon as a save under way is over; both in a row do no harm."""
  rng, workdir = random.Random(1), tmp_path / 'run'

  def send(run, *signals) -> None:
    for number in signals:
      if run.poll() is None:
        run.send_signal(number)
        time.sleep(rng.uniform(0, 0.1))
    run.wait(timeout=commands.PATIENCE_S)

  run = begun(workdir, data_dir)
  send(run, *[signal.SIGTERM] * 4)
  output = commands.ended(run, train.STOPPED)
  assert 'stopped by SIGTERM after step' in output and 'Traceback' not in output
  stopped = int(output.split('stopped by SIGTERM after step ')[1].split(';')[0])
  assert max(commands.saved_steps(workdir)) == stopped and commands.temporaries(workdir) == []

  run = begun(workdir, data_dir)
  seen = max(commands.saved_steps(workdir))
  send(run, signal.SIGINT)
  output = commands.ended(run, 130)
  assert (
    max(commands.saved_steps(workdir)) <= seen + 2
  )  # the save under way, and at most the one asked for meanwhile
  assert 'interrupted; the same command continues' in output and 'Traceback' not in output

  run = begun(workdir, data_dir)
  send(run, signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT)
  assert run.returncode in (train.STOPPED, 130, -signal.SIGINT), run.communicate()[0]
  run.communicate()
  commands.ended(commands.train('mae', workdir, data_dir, *FLAGS))
  agree(unbroken, workdir)


@pytest.fixture(scope='module')
def evaluating(data_dir, tmp_path_factory):
  """An experiment that evaluates in the middle, at step 4 of 8, and the workdir of its unbroken
  run."""
  config = shrunk(
    'mae_finetune_k400',
    **{'train.eval_epochs': 4 * 8 / 60, 'train.save_steps': 3, 'optim.total_steps': 8},
  )
  config['evals'] = {name: {**config['evals']['test'], 'batch_size': 16} for name in ('a', 'b')}
  exp = build.experiment(config, str(data_dir))
  assert exp.eval_steps == 4
  workdir = tmp_path_factory.mktemp('evaluating')
  train.run(exp, str(workdir))
  return exp, workdir


@pytest.mark.slow
@pytest.mark.parametrize(
  ('how', 'batch'),
  [('terminated', 4), ('interrupted', 0), ('terminated', 10), ('interrupted', 6)],
  ids=[
    'terminated in the second',
    'interrupted',
    'terminated in the final, second',
    'interrupted in the final',
  ],
)
def test_stopped_within_an_evaluation(how, batch, evaluating, tmp_path):
  """It is left at once, its step is saved, and it is made again: no line is missing and none comes
  twice."""
  exp, unbroken = evaluating
  seen = 0

  def batches(*args):
    nonlocal seen
    for value in exp.eval_batches(*args):
      if seen == batch and how == 'interrupted':
        raise KeyboardInterrupt
      if seen == batch:
        os.kill(os.getpid(), signal.SIGTERM)
      seen += 1
      yield value

  with pytest.raises(SystemExit if how == 'terminated' else KeyboardInterrupt) as stopped:
    train.run(dataclasses.replace(exp, eval_batches=batches), str(tmp_path))
  assert how == 'interrupted' or stopped.value.code == train.STOPPED
  assert seen <= batch + 1 and max(commands.saved_steps(tmp_path)) == (4 if batch < 6 else 8)
  assert signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.SIG_IGN)
  train.run(exp, str(tmp_path))
  assert lines(tmp_path) == lines(unbroken) and commands.temporaries(tmp_path) == []
  assert [(r['step'], r['split']) for r in lines(tmp_path) if r['split'] != 'train'] == [
    (4, 'a'), (4, 'b'), (8, 'a'), (8, 'b')
  ]  # fmt: skip


@pytest.mark.slow
def test_a_finished_run_started_again_changes_nothing(evaluating, tmp_path):
  exp, unbroken = evaluating
  first = train.run(exp, str(tmp_path))
  assert timeless(train.run(exp, str(tmp_path))) == timeless(first)
  assert lines(tmp_path) == lines(unbroken) and same(arrays(tmp_path, 8), arrays(unbroken, 8))


def shards(folder) -> dict[str, bytes]:
  """Returns the files of a dataset by name: all but the videos from which it was made."""
  return {
    str(p.relative_to(folder)): p.read_bytes()
    for p in sorted(pathlib.Path(folder).glob('*'))
    if p.is_file()
  }


def agree_but_for_the_name(one, two) -> None:
  """Two datasets are the same byte for byte, their manifests too but for what they are called."""
  a, b = shards(one), shards(two)
  assert a.keys() == b.keys() and 'manifest.json' in a
  a['manifest.json'] = a['manifest.json'].replace(
    f'"name": "{one.name}"'.encode(), f'"name": "{two.name}"'.encode()
  )
  assert [name for name in a if a[name] != b[name]] == []


@pytest.mark.slow
def test_rendering_killed_again_and_again(tmp_path):
  """Three kills of `data_prep.synthetic`; what it leaves is continued and taken away."""
  command = ['-m', 'data_prep.synthetic', '--train=60', '--test=20', '--processes=2']
  commands.ended(commands.start(*command, f'--out={tmp_path}/a'))
  rng, videos = random.Random(3), tmp_path / 'b' / 'videos'
  there = lambda: len(list(videos.rglob('[0-9]*.mp4')))
  for aim in (10, 45, 80):  # the last one while records are written
    run = commands.start(*command, f'--out={tmp_path}/b')
    commands.wait_for(lambda aim=aim: there() >= aim, run, f'video {aim}')
    time.sleep(rng.uniform(0, 0.2))
    run.kill()
    run.communicate()
  commands.ended(commands.start(*command, f'--out={tmp_path}/b'))
  agree_but_for_the_name(tmp_path / 'a', tmp_path / 'b')
  assert commands.temporaries(tmp_path / 'b') == []


@pytest.mark.slow
def test_writing_killed_again_and_again(data_dir, tmp_path):
  """Four kills of `data_prep.write`, two workers and six shards, the first before any is there."""
  videos = data_dir / 'motions'
  command = [
    '-m',
    'data_prep.write',
    f'--manifest=train:{videos}/train.csv',
    f'--videos={videos}',
    '--shards=6',
  ]
  command += ['--processes=2']
  commands.ended(commands.start(*command, f'--out={tmp_path}/a'))
  rng, there = random.Random(2), lambda: len(list((tmp_path / 'b').glob('*.tfrecord')))
  for aim in (0, 1, 2, 4):  # shards that are there when it is killed
    run = commands.start(*command, f'--out={tmp_path}/b')
    commands.wait_for(
      lambda aim=aim: (tmp_path / 'b').exists() and there() >= aim, run, f'shard {aim}'
    )
    time.sleep(rng.uniform(0, 0.1))
    run.kill()
    run.communicate()
  commands.ended(commands.start(*command, f'--out={tmp_path}/b'))
  agree_but_for_the_name(tmp_path / 'a', tmp_path / 'b')
  assert commands.temporaries(tmp_path / 'b') == []
