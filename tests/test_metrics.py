"""Totals of a run, counted step by step; what TensorBoard shows of a run that continues."""

import json
import math

from vjax.metrics import Log, Totals


def test_totals_count_the_batch_that_each_step_had():
  first = Totals(train_s=2.0)
  for _ in range(3):
    first.count_step(8, 16)
  resumed = Totals.resumed(vars(first), 3, videos=4, clips=8)
  resumed.count_step(4, 8)
  assert (resumed.videos, resumed.clips, resumed.train_s) == (28, 56, 2.0)
  assert resumed.estimated_steps == 0


def test_totals_of_older_checkpoints_are_estimated_and_say_so():
  resumed = Totals.resumed({'train_s': 2.0}, 3, videos=4, clips=8)
  assert (resumed.videos, resumed.clips, resumed.estimated_steps) == (12, 24, 3)
  assert Totals.resumed(vars(resumed), 3, videos=9, clips=9) == resumed  # the mark stays


def shown(folder):
  """Returns (step, value) by name, as TensorBoard itself reads a folder."""
  from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
  from tensorboard.util.tensor_util import make_ndarray

  found = EventAccumulator(str(folder)).Reload()
  return {
    name: [(e.step, make_ndarray(e.tensor_proto).item()) for e in found.Tensors(name)]
    for name in found.PluginTagToContent('scalars')
  }


def test_tensorboard_shows_every_step_of_a_resumed_run_once(tmp_path):
  """Killed after step 6, with the checkpoint and the evaluation of step 4: both are made again."""
  first = Log(tmp_path)
  for step in (2, 4, 6):
    first.write(step, 'train', {'loss': float(step), 'rate': math.nan if step == 4 else 1.0})
    first.write(step, 'test', {'top1': float(step)})
  first.close()
  resumed = Log(tmp_path, resume_step=4)
  assert len(list(tmp_path.glob('events.*'))) == 2
  resumed.write(4, 'test', {'top1': 40.0})
  resumed.write(6, 'train', {'loss': 60.0, 'rate': 1.0})
  resumed.close()
  found = shown(tmp_path)
  assert found['train/loss'] == [(2, 2.0), (4, 4.0), (6, 60.0)]
  assert found['test/top1'] == [(2, 2.0), (4, 40.0)]
  assert [step for step, _ in found['train/rate']] == [2, 4, 6]
  assert math.isnan(found['train/rate'][1][1]) and set(found) == {
    'train/loss', 'train/rate', 'test/top1'
  }  # fmt: skip
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert [(row['step'], row['split']) for row in map(json.loads, lines)] == [
    (2, 'train'), (2, 'test'), (4, 'train'), (4, 'test'), (6, 'train'),
  ]  # fmt: skip


def test_a_run_that_starts_over_shows_nothing_of_the_first_try(tmp_path):
  for loss in (1.0, 2.0):  # killed before the first checkpoint
    log = Log(tmp_path)
    log.write(1, 'train', {'loss': loss})
    log.close()
  assert shown(tmp_path) == {'train/loss': [(1, 2.0)]}
