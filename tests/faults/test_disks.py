"""Full and read-only disks, vanished data, jumping clocks: one message, exit status 1, and the last
checkpoint is good."""

import ast
import contextlib
import dataclasses
import errno
import functools
import itertools
import os
import pathlib
import resource
import shutil
import subprocess
import time

import jax
import numpy as np
import pytest

from tests.experiments import shrunk
from tests.faults import commands
from tests.test_train import arrays, lines, same
from vjax import build, event_writer, guards, metrics, sharding, train, train_step
from vjax.data import tfrecord

FLAGS = ('--config.optim.total_steps=12', '--config.train.save_steps=2')


@contextlib.contextmanager
def mounted(folder: pathlib.Path, size: str):
  """A file system of so many bytes at `folder`; skips the test where this user may not mount."""
  folder.mkdir()
  done = subprocess.run(
    ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(folder)],
    check=False,
    capture_output=True,
    text=True,
  )
  if done.returncode:
    pytest.skip(f'this user may not mount a file system: {done.stderr.strip()}')
  try:
    yield folder
  finally:
    subprocess.run(['umount', '-l', str(folder)], check=True)


def message(output: str) -> str:
  """The one message a command ended with: nothing after it but the hint, no traceback (but of what
  Orbax leaves running when a save fails), no logging error."""
  assert output.count('Traceback') == output.count('RuntimeError: Event loop is closed'), output[
    -3000:
  ]
  assert 'Logging error' not in output, output[-3000:]
  *_, text, hint = output.strip().splitlines()
  assert hint == '(--verbosity=1 shows where in the code)', output[-3000:]
  return text


@pytest.fixture(scope='module')
def experiment(data_dir):
  config = shrunk('mae_finetune_k400', **{'train.save_steps': 1, 'optim.total_steps': 8})
  config['evals'] = {}
  return build.experiment(config, str(data_dir))


@pytest.fixture(scope='module')
def unbroken(experiment, tmp_path_factory) -> pathlib.Path:
  workdir = tmp_path_factory.mktemp('unbroken')
  train.run(experiment, str(workdir))
  return workdir


@pytest.fixture(scope='module')
def whole(data_dir, tmp_path_factory) -> pathlib.Path:
  """The workdir of a command that ran without trouble."""
  workdir = tmp_path_factory.mktemp('whole') / 'run'
  commands.ended(commands.train('mae', workdir, data_dir, *FLAGS, '--config.train.keep=100'))
  return workdir


@pytest.mark.slow
def test_a_full_disk_stops_the_run_in_words(whole, data_dir, tmp_path):
  """The file system fills up while checkpoints are written; with more room the run continues bit
  for bit."""
  size = sum(p.stat().st_size for p in whole.rglob('*') if p.is_file())
  with mounted(tmp_path / 'small', str(size // 2)) as small:
    command = lambda: commands.train(
      'mae', small / 'run', data_dir, *FLAGS, '--config.train.keep=100'
    )
    text = message(commands.ended(command(), 1))
    saved = commands.saved_steps(small / 'run')
    assert saved and 'No space left' in text, text
    assert (
      f'the last good checkpoint is that of step {saved[-1]}' in text
      or 'the last checkpoint' in text
    )
    text = message(commands.ended(command(), 1))  # still full
    assert commands.saved_steps(small / 'run')[: len(saved)] == saved
    subprocess.run(['mount', '-o', f'remount,size={size * 4}', str(small)], check=True)
    commands.ended(command())
    assert same(arrays(whole, 12), arrays(small / 'run', 12))
    assert lines(whole) == lines(small / 'run') and commands.temporaries(small / 'run') == []
    subprocess.run(['mount', '-o', 'remount,ro', str(small)], check=True)
    for mode in ('train', 'evaluate'):
      run = commands.train('mae', small / 'run', data_dir, *FLAGS, f'--mode={mode}')
      assert 'Read-only file system' in message(commands.ended(run, 1))


@pytest.mark.slow
def test_files_that_may_not_grow_stop_the_run_in_words(whole, data_dir, tmp_path):
  """The same without mounting: from its second start on, the process may write no file beyond a few
  kilobytes."""
  flags = (*FLAGS, '--config.train.keep=100')
  shutil.copytree(whole, tmp_path / 'run')
  for step in (10, 12):
    shutil.rmtree(tmp_path / 'run' / 'checkpoints' / str(step))
  limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
  text = message(
    commands.ended(commands.train('mae', tmp_path / 'run', data_dir, *flags, preexec_fn=limit), 1)
  )
  assert 'File too large' in text or 'EFBIG' in text, text
  assert (
    'the last good checkpoint is that of step 8' in text
    and commands.saved_steps(tmp_path / 'run')[-1] == 8
  )
  commands.ended(commands.train('mae', tmp_path / 'run', data_dir, *flags))
  assert same(arrays(whole, 12), arrays(tmp_path / 'run', 12))
  assert lines(whole) == lines(tmp_path / 'run') and commands.temporaries(tmp_path / 'run') == []


@pytest.mark.slow
def test_a_workdir_that_cannot_be_made(data_dir, tmp_path):
  (tmp_path / 'file').write_text('')
  text = message(commands.ended(commands.train('mae', tmp_path / 'file' / 'run', data_dir), 1))
  assert f'cannot write to {tmp_path}/file/run: Not a directory' in text


def failing(name: str, when, error: OSError, monkeypatch):
  """The function `name` of os raises `error` once `when(path)` says so."""
  real = getattr(os, name)

  def fake(path, *args, **kwargs):
    if when(str(path)):
      raise error
    return real(path, *args, **kwargs)

  monkeypatch.setattr(os, name, fake)


@pytest.mark.slow
@pytest.mark.parametrize('what', ['metrics', 'events', 'result'])
def test_a_full_disk_under_every_writer(what, experiment, unbroken, tmp_path, monkeypatch):
  """No space for metrics.jsonl, TensorBoard's events, result.json: words, and the next start
  continues."""
  full, calls = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), itertools.count()
  if what == 'events':
    from tensorboard.compat.proto.event_pb2 import Event

    real = event_writer._EventFile.write

    def fake(self, record):
      if Event.FromString(record[12:-4]).step > 4:
        raise full
      real(self, record)

    monkeypatch.setattr(event_writer._EventFile, 'write', fake)
  elif what == 'metrics':
    real = metrics.json.dumps
    monkeypatch.setattr(
      metrics,
      'json',
      type(
        'Json', (), {'dumps': lambda x: real(x) if next(calls) < 2 else (_ for _ in ()).throw(full)}
      ),
    )
  else:
    real = os.fsync
    monkeypatch.setattr(
      # The first two are those of the lock and of meta.json.
      os,
      'fsync',
      lambda f: real(f) if next(calls) < 2 else (_ for _ in ()).throw(full),
    )
  with pytest.raises(OSError, match=f'cannot write to {tmp_path}: No space left on device'):
    train.run(experiment, str(tmp_path))
  monkeypatch.undo()
  saved = commands.saved_steps(tmp_path)
  assert saved and saved[-1] >= 4
  train.run(experiment, str(tmp_path))
  assert same(arrays(tmp_path, 8), arrays(unbroken, 8)) and lines(tmp_path) == lines(unbroken)
  assert commands.temporaries(tmp_path) == []


@pytest.mark.slow
def test_an_error_of_a_background_save_stops_the_run(experiment, unbroken, tmp_path, monkeypatch):
  """Orbax commits in a thread of its own; when that fails at step 4, the run stops before it has
  gone much further."""
  from orbax.checkpoint._src.path import atomicity

  steps, count = [], metrics.Totals.count_step
  finalize = atomicity.AtomicRenameTemporaryPath.finalize

  async def fail(self, *args, **kwargs):
    if '4' == str(self.get_final().name):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.get()))
    return await finalize(self, *args, **kwargs)

  def batches(start):
    for value in experiment.train_batches(start):
      time.sleep(0.3)
      yield value

  monkeypatch.setattr(
    metrics.Totals, 'count_step', lambda self, *a: steps.append(1) or count(self, *a)
  )
  monkeypatch.setattr(atomicity.AtomicRenameTemporaryPath, 'finalize', fail)
  wanted = 'checkpoint of step 4 could not be written to .*No space left.*last good checkpoint is that of step 3'
  with pytest.raises(OSError, match=wanted):
    train.run(dataclasses.replace(experiment, train_batches=batches), str(tmp_path))
  assert 4 <= len(steps) <= 6 and commands.saved_steps(tmp_path) == [1, 2, 3]
  monkeypatch.undo()
  train.run(experiment, str(tmp_path))
  assert same(arrays(tmp_path, 8), arrays(unbroken, 8)) and lines(tmp_path) == lines(unbroken)
  assert commands.temporaries(tmp_path) == []


@pytest.mark.slow
def test_data_that_vanish_in_the_middle(unbroken, data_dir, tmp_path):
  """The folder is gone after a few steps, and no file of it stays open: the message names it and
  the last good checkpoint, and the run continues when it is back."""
  shutil.copytree(data_dir, tmp_path / 'data')
  config = shrunk('mae_finetune_k400', **{'train.save_steps': 1, 'optim.total_steps': 8})
  config['evals'] = {}
  exp = build.experiment(config, str(tmp_path / 'data'))

  def batches(start):
    source = exp.train_batches(start)
    for i in itertools.count():
      if i == 2:
        os.rename(tmp_path / 'data', tmp_path / 'elsewhere')
        tfrecord.forget()
      yield next(source)

  with pytest.raises(OSError) as stopped:
    train.run(dataclasses.replace(exp, train_batches=batches), str(tmp_path / 'run'))
  words = str(stopped.value)
  assert str(tmp_path / 'data') in words and 'No such file' in words, words
  done = commands.saved_steps(tmp_path / 'run')[-1]
  assert words.endswith(f'the last good checkpoint is that of step {done}') and 2 <= done < 8
  os.rename(tmp_path / 'elsewhere', tmp_path / 'data')
  train.run(exp, str(tmp_path / 'run'))
  assert same(arrays(tmp_path / 'run', 8), arrays(unbroken, 8)) and lines(
    tmp_path / 'run'
  ) == lines(unbroken)


@pytest.mark.slow
def test_nothing_depends_on_the_time_of_day(experiment, unbroken, tmp_path, monkeypatch):
  """Between any two steps, saves under way, the clock is set by an hour, to and fro: same numbers,
  same checkpoints."""
  real, offset = time.time, [0]

  def batches(start):
    for i, value in enumerate(experiment.train_batches(start)):
      offset[0] = (3600, 0, -3600, 0)[i % 4]
      yield value

  monkeypatch.setattr(time, 'time', lambda: real() + offset[0])
  train.run(dataclasses.replace(experiment, train_batches=batches), str(tmp_path))
  monkeypatch.undo()
  assert same(arrays(tmp_path, 8), arrays(unbroken, 8)) and lines(tmp_path) == lines(unbroken)
  assert commands.saved_steps(tmp_path) == commands.saved_steps(unbroken)


def test_no_code_reads_the_time_of_day():
  """Durations come from time.monotonic; the time of day stands in log lines, TensorBoard's events
  and the expiry of accounts alone."""
  asks = {
    'time.time',
    'time.time_ns',
    'datetime.now',
    'datetime.utcnow',
    'datetime.today',
    'time.localtime',
  }
  for folder in ('vjax', 'data_prep'):
    for path in sorted((commands.ROOT / folder).rglob('*.py')):
      for node in ast.walk(ast.parse(path.read_text())):
        if path.name in ('event_writer.py', 's3.py'):
          continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
          assert ast.unparse(node.func).removeprefix('datetime.') not in asks, (
            f'{path}:{node.lineno}'
          )


def broken(experiment, steps: dict[int, str], **training):
  """The experiment with a loss that is not finite (or whose gradient alone is not) at these
  steps."""
  inner = experiment.objective
  loss = lambda model, params, stats, batch, rng, *, train, **settings: _spoil(
    inner.loss(model, params, stats, batch, rng, train=train, **settings), params, batch
  )

  def batches(start):
    for i, value in enumerate(experiment.train_batches(start), start + 1):
      kind = {'loss': 1, 'gradient': 2}.get(steps.get(i), 0)
      first = (
        np.arange(len(value['valid'])) == 0
      )  # in one row of the batch: on one device, in one microbatch
      yield {**value, 'spoilt': np.int32(kind * first)}

  settings = dataclasses.replace(experiment.training, **training)
  return dataclasses.replace(
    experiment,
    objective=dataclasses.replace(inner, loss=loss),
    train_batches=batches,
    training=settings,
  )


def _spoil(answer, params, batch):
  import jax.numpy as jnp

  loss, (averages, stats) = answer
  kind = jnp.max(batch.get('spoilt', 0))
  bad = jnp.where(kind == 1, jnp.nan, 0.0)
  first = jax.tree.leaves(params)[0].ravel()[0]
  # sqrt has an infinite slope at 0: a finite loss with a gradient that is not.
  slope = jnp.sqrt(jnp.abs(jnp.where(kind == 2, first - jax.lax.stop_gradient(first), 1.0)))
  averages = {**averages, 'loss': averages['loss'].replace(total=averages['loss'].total + bad)}
  return loss + bad + slope - jax.lax.stop_gradient(slope), (averages, stats)


def numbers(exp, mesh, steps: int):
  """[(state, metrics)] of so many steps."""
  state, found = train_step.init_state(exp.update, mesh, jax.random.key(0))[0](), []
  step, batches = (
    train_step.compiled_step(exp.update, mesh, state, exp.objective_at(0)[0]),
    exp.train_batches(0),
  )
  for _ in range(steps):
    state, metrics = step(state, sharding.to_global(mesh, next(batches)), jax.random.key(1))
    found.append(
      (jax.device_get(state), {name: float(m.compute()) for name, m in metrics.items() if m.count})
    )
  return found


@pytest.mark.parametrize(
  'layout',
  [
    'eight devices, fsdp',
    *(pytest.param(x, marks=pytest.mark.slow) for x in ('one device', 'accumulated')),
  ],
)
def test_a_bad_step_is_skipped_whole(layout, experiment):
  """Parameters, optimizer state, statistics and average stay as they were, wherever in the batch
  the bad clip was."""
  mesh = sharding.mesh(4) if 'eight' in layout else sharding.mesh(1, jax.devices()[:1])
  more = dict(
    skip_nonfinite=True, ema_decay=0.9, grad_accumulation=2 if layout == 'accumulated' else 1
  )
  found = numbers(broken(experiment, {2: 'loss', 4: 'gradient'}, **more), mesh, 5)
  assert [int(state.step) for state, _ in found] == [1, 2, 3, 4, 5]
  assert [metrics['skipped'] for _, metrics in found] == [0, 1, 0, 1, 0]
  assert found[1][1].keys() == found[3][1].keys() == {'skipped'}
  for part in ('params', 'stats', 'opt_state', 'ema'):
    leaves = [jax.tree.leaves(getattr(state, part)) for state, _ in found]
    equal = [all(np.array_equal(x, y) for x, y in zip(a, b)) for a, b in zip(leaves, leaves[1:])]
    assert equal == ([True, False] * 2 if leaves[0] else [True] * 4), part
    assert all(np.isfinite(x).all() for x in leaves[-1])


def test_the_switch_costs_nothing_when_off(experiment):
  mesh = sharding.mesh(1, jax.devices()[:1])
  batch = sharding.to_global(mesh, next(experiment.train_batches(0)))

  def traced(skip: bool) -> str:
    settings = dataclasses.replace(experiment.training, skip_nonfinite=skip)
    exp = dataclasses.replace(experiment, training=settings)
    _, shapes = train_step.init_state(exp.update, mesh, jax.random.key(0))
    step = functools.partial(
      train_step.train_step, update=exp.update, mesh=mesh, objective=exp.objective
    )
    return str(jax.make_jaxpr(step)(shapes, batch, jax.random.key(1)))

  assert 'is_finite' in traced(True) and 'is_finite' not in traced(False)


@pytest.mark.slow
def test_skipped_steps_are_counted_and_too_many_stop(experiment, tmp_path, monkeypatch, caplog):
  """Logged with step and clips; metrics hold the others' means and the number skipped; after
  several in a row it ends."""
  exp = broken(experiment, {2: 'loss', 3: 'gradient', 5: 'loss'}, skip_nonfinite=True, log_steps=4)
  train.run(exp, str(tmp_path / 'a'))
  rows = [r for r in lines(tmp_path / 'a') if r['split'] == 'train']
  assert [r['skipped'] for r in rows] == [2.0, 1.0] and all(
    np.isfinite(list(r.values())[2:]).all() for r in rows
  )
  assert 'step 3 was skipped: loss or gradient is not finite, on clips [' in caplog.text
  monkeypatch.setattr(guards, 'MAX_SKIPPED', 3)
  exp = broken(experiment, dict.fromkeys(range(4, 9), 'loss'), skip_nonfinite=True)
  with pytest.raises(
    FloatingPointError, match=r'3 steps in a row were skipped, the last being step 6, on clips \['
  ):
    train.run(exp, str(tmp_path / 'b'))
  assert commands.saved_steps(tmp_path / 'b')[-1] in (5, 6)


@pytest.mark.parametrize(
  'kind', [pytest.param(x, marks=pytest.mark.slow) for x in ('loss', 'gradient')]
)
def test_without_the_switch_the_last_good_checkpoint_is_good(kind, experiment, tmp_path):
  """A gradient that is not finite ruins the state of its own step: neither is saved, and the one
  before is named."""
  name = {'loss': 'loss', 'gradient': 'gradient_norm'}[kind]
  wanted = (
    rf'{name} is (nan|inf) at step 4, on clips \[.*; the last good checkpoint is that of step 3'
  )
  with pytest.raises(FloatingPointError, match=wanted):
    train.run(broken(experiment, {4: kind}), str(tmp_path))
  assert commands.saved_steps(tmp_path)[-1] == 3
  assert all(np.isfinite(x).all() for x in arrays(tmp_path, 3).values())
  train.run(experiment, str(tmp_path))


@pytest.mark.slow
def test_nothing_saved_yet_is_said(experiment, tmp_path):
  with pytest.raises(FloatingPointError, match='at step 1, on clips .*there is no checkpoint yet'):
    train.run(broken(experiment, {1: 'loss'}), str(tmp_path))
