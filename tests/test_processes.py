"""Two processes of four devices are one process of eight: losses, evaluations, checkpoints,
signals, errors."""

import json
import os
import pathlib
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from tests.faults import commands, tiny
from tests.test_train import lines, same
from vjax import build, checkpoint, sharding, train, train_step
from vjax.config import plain

FLAGS = (
  '--config.data.batch_size=16',
  '--config.optim.base_batch_size=16',
  '--config.train.eval_epochs=0.8',
)
CLOSE = dict(rtol=2e-4, atol=2e-5)
WIDTH = 128  # from which on parameters are split


def reference(config: str, data_dir, workdir, **updates) -> pathlib.Path:
  """The same run by one process of eight devices, this one."""
  settings = plain(tiny.get_config(config))
  settings['data'] |= {'batch_size': 16}
  settings['optim'] |= {'base_batch_size': 16}
  settings['train'] |= {'eval_epochs': 0.8}
  for place, value in updates.items():
    section, key = place.split('.')
    settings[section] |= {key: value}
  train.run(build.experiment(settings, str(data_dir)), str(workdir))
  return workdir


def arrays(workdir, step: int) -> dict[str, np.ndarray]:
  """Everything in a checkpoint, by name, whoever has written it."""
  import orbax.checkpoint as ocp

  found = {}
  with ocp.StandardCheckpointer() as checkpointer:
    for item in ('model', 'optimizer'):
      folder = pathlib.Path(workdir).absolute() / 'checkpoints' / str(step) / item
      shapes = checkpointer.metadata(folder).item_metadata.tree
      zeros = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), shapes, is_leaf=lambda x: hasattr(x, 'shape')
      )
      leaves = jax.tree_util.tree_flatten_with_path(checkpointer.restore(folder, zeros))[0]
      found |= {f'{item}{jax.tree_util.keystr(path)}': np.asarray(x) for path, x in leaves}
  return found


def ended(pair, status: int = 0) -> list[str]:
  try:
    return [commands.ended(run, status) for run in pair]
  finally:
    for run in pair:
      run.kill()


def agree(a, b, step: int = 6) -> None:
  """Lines of metrics.jsonl, result.json and checkpoints, up to rounding."""
  ours, theirs = lines(a), lines(b)
  assert [(r['step'], r['split']) for r in ours] == [(r['step'], r['split']) for r in theirs]
  for x, y in zip(ours, theirs):
    assert x.keys() == y.keys()
    for name in x.keys() - {'split'}:
      np.testing.assert_allclose(
        y[name], x[name], **CLOSE, err_msg=f'{x["split"]} {x["step"]}: {name}'
      )
  ours, theirs = (json.loads((w / 'result.json').read_text()) for w in (a, b))
  assert ours.keys() == theirs.keys() and ours['step'] == theirs['step'] == step
  ours, theirs = arrays(a, step), arrays(b, step)
  assert ours.keys() == theirs.keys()
  for name in ours:
    np.testing.assert_allclose(theirs[name], ours[name], rtol=2e-2, atol=1e-3, err_msg=name)


def summed(workdir) -> None:
  """The hosts' checksums are those that one process finds."""
  sums = json.loads((workdir / 'checkpoints' / '6' / 'checksums' / 'metadata').read_text())
  params = checkpoint.load_params(workdir)[0]['params']  # which checks them
  assert {f'params/{name}' for name in checkpoint.checksums(params)} <= sums[
    'model'
  ].keys() and sums['optimizer']


@pytest.fixture(scope='module')
def pair(data_dir, tmp_path_factory):
  """(workdir, flags, outputs) of two processes whose run ended, warm started from another run, with
  an average of parameters, gradient accumulation, and the state split over the devices of both."""
  root = tmp_path_factory.mktemp('pair')
  config = plain(tiny.get_config('mae'))
  config['model'] |= {'width': WIDTH}
  exp = build.experiment(config, str(data_dir))
  state = train_step.init_state(exp.update, sharding.mesh(), jax.random.key(0))[0]()
  checkpoint.save_params(root / 'mae', {'params': state.params, **state.stats}, exp.meta)
  flags = (
    *FLAGS,
    f'--config.init.path={root}/mae',
    "--config.init.skip=('head/.*',)",
    '--config.train.save_steps=3',
    '--config.train.grad_accumulation=2',
    '--config.train.fsdp=8',
    f'--config.model.width={WIDTH}',
  )
  runs = commands.train_on(2, 'classify', root / 'two', data_dir, *flags, devices=4)
  return root / 'two', flags, ended(runs)


@pytest.mark.slow
def test_two_processes_equal_one(pair, data_dir, tmp_path):
  """Also: each of 36 test clips counts once though hosts have 20 and 16 of them, in the middle and
  at the end; and everything is written once."""
  two, _, outputs = pair
  one = reference(
    'classify',
    data_dir,
    tmp_path / 'one',
    **{
      'init.path': f'{two.parent}/mae',
      'init.skip': ('head/.*',),
      'train.save_steps': 3,
      'train.grad_accumulation': 2,
      'model.width': WIDTH,
    },
  )
  agree(one, two)
  assert [r['count'] for r in lines(two) if r['split'] == 'test'] == [36.0, 36.0]
  written = sorted(p.name.split('.')[0] for p in two.iterdir())
  assert written == ['checkpoints', 'events', 'log', 'log-1', 'meta', 'metrics', 'result']
  assert not any('Traceback' in text for text in outputs)
  assert commands.temporaries(two) == []
  summed(two)


@pytest.mark.slow
def test_one_process_evaluates_what_two_have_written(pair, data_dir, tmp_path):
  """The state was split over both: fsdp=8 crosses the border between them."""
  workdir = tmp_path / 'two'
  shutil.copytree(pair[0], workdir)
  result = json.loads((workdir / 'result.json').read_text())
  (workdir / 'result.json').unlink()
  flags = (*pair[1], '--config.train.fsdp=1', '--mode=evaluate')  # the last of one flag counts
  commands.ended(commands.train('classify', workdir, data_dir, *flags))
  again = json.loads((workdir / 'result.json').read_text())
  assert again.keys() == result.keys() - {'training'}  # the file that said so is gone
  for name in again.keys() - {'step'}:
    for number in again[name]:
      np.testing.assert_allclose(again[name][number], result[name][number], **CLOSE)


@pytest.mark.slow
def test_checkpoints_travel_between_process_counts(data_dir, tmp_path):
  """SIGTERM to one of two processes stops both with 75 and saved state; one process continues, is
  stopped, and two end it: the same numbers as an unbroken run. Of joint training, whose informative
  loss and dataset weights depend on the clips of all processes."""
  more = (*FLAGS, '--config.optim.total_steps=24', '--config.train.save_steps=4')
  workdir = tmp_path / 'run'

  def stopped(runs, signalled: int) -> int:
    before = max(commands.saved_steps(workdir), default=0)
    commands.wait_for(
      lambda: max(commands.saved_steps(workdir), default=0) > before, runs[0], 'a save'
    )
    runs[signalled].send_signal(signal.SIGTERM)
    began = time.monotonic()
    outputs = ended(runs, train.STOPPED)
    assert time.monotonic() - began < 120
    steps = {int(text.split('stopped by SIGTERM after step ')[1].split(';')[0]) for text in outputs}
    assert steps == {max(commands.saved_steps(workdir))} and commands.temporaries(workdir) == []
    return steps.pop()

  first = stopped(commands.train_on(2, 'joint', workdir, data_dir, *more, devices=4), signalled=1)
  second = stopped([commands.train('joint', workdir, data_dir, *more, devices=8)], signalled=0)
  assert first < second < 24
  ended(commands.train_on(2, 'joint', workdir, data_dir, *more, devices=4))
  one = reference(
    'joint', data_dir, tmp_path / 'one', **{'optim.total_steps': 24, 'train.save_steps': 4}
  )
  ours, theirs = lines(one), lines(workdir)
  assert [(r['step'], r['split']) for r in ours] == [(r['step'], r['split']) for r in theirs]
  for x, y in list(zip(ours, theirs))[:12]:  # later, rounding has grown
    for name in x.keys() & {'loss', 'motion_loss', 'covariance', 'motion_sigma'}:
      np.testing.assert_allclose(y[name], x[name], rtol=1e-3, err_msg=name)
  assert {'covariance', 'motion_sigma'} < ours[0].keys()
  assert len(arrays(workdir, 24)) == len(arrays(one, 24))


@pytest.mark.slow
def test_two_processes_resume_bit_identically(pair, data_dir, tmp_path):
  """Killed both, in the middle of a logging interval."""
  unbroken, flags, _ = pair
  workdir = tmp_path / 'b'
  runs = commands.train_on(2, 'classify', workdir, data_dir, *flags, devices=4)
  commands.wait_for(lambda: bool(commands.saved_steps(workdir)), runs[0], 'a save')
  for run in runs:
    run.kill()
  ended(runs, -signal.SIGKILL)
  ended(commands.train_on(2, 'classify', workdir, data_dir, *flags, devices=4))
  assert same(arrays(unbroken, 6), arrays(workdir, 6))
  assert lines(unbroken) == lines(workdir)


@pytest.mark.slow
def test_an_error_on_one_host_ends_it_at_once_in_words(data_dir, tmp_path):
  """The process without data does not wait for the other, which learns of it from the coordinator
  in a minute or two."""
  folders = (data_dir, tmp_path / 'nothing')
  pair = commands.train_on(2, 'classify', tmp_path / 'two', folders, *FLAGS, devices=4)
  try:
    output = commands.ended(pair[1], 1, timeout_s=90)
  finally:
    for run in pair:
      run.kill()
  assert 'nothing/motions' in output and 'Traceback' not in output


def test_slurms_variables_are_enough(data_dir, tmp_path):
  """`--coordinator=auto` under what `srun` sets, two tasks on one node: they know of each other, for
  the second one's log has its number; then there is nothing to evaluate."""
  node = dict(
    SLURM_JOB_ID=str(os.getpid()),
    SLURM_STEP_NODELIST='localhost',
    SLURM_STEP_NUM_NODES='1',
    SLURM_NTASKS='2',
  )
  runs = [
    commands.train(
      'classify', tmp_path / 'two', data_dir, *FLAGS, '--coordinator=auto', '--mode=evaluate',
      devices=4, variables={**node, 'SLURM_PROCID': str(i), 'SLURM_LOCALID': str(i)},
    )
    for i in (0, 1)
  ]  # fmt: skip
  # Who is first to say so ends; the other says so too, or that the first has gone.
  outputs = [run.communicate(timeout=commands.PATIENCE_S)[0] for run in runs]
  assert all(run.returncode for run in runs)
  assert any('no meta.json in' in text for text in outputs), outputs
  assert (tmp_path / 'two' / 'log-1.txt').exists()
