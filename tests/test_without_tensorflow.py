"""Commands on video records that import no TensorFlow, as processes of their own."""

import subprocess
import sys

import pytest

from tests.faults import commands

# Runs vjax.main on the command line that follows, then looks at what was imported.
RUN = """
import sys
from absl import app
from vjax import main
try:
  app.run(main.main, flags_parser=main.parse_flags)
except SystemExit as end:
  assert not end.code, end.code
found = {'tensorflow', 'tensorflow_datasets', 'clu.metric_writers'} & set(sys.modules)
print(f'imported: {sorted(found)}')
"""
# Constant batches in place of those that are read.
WITHOUT_INPUT = """
import numpy as np
from vjax.data import pipeline

def train_batches(split, spec, clip, augment, *, batch, **settings):
  rows, (height, width) = batch * clip.num_repeats, augment.device_frame_size or [clip.crop_size] * 2
  value = {'video': np.zeros((rows, clip.num_frames, height, width, 3), np.uint8)}
  value |= {name: np.zeros(rows, np.int32) for name in ('label', 'video_id', 'epoch')}
  value |= {'valid': np.ones(rows, np.float32), 'mirror': np.zeros(rows, bool)}
  value |= {'window': np.tile(np.int32([0, 0, height, width]), (rows, 1))}
  while True:
    yield value if augment.device_frame_size else {
      k: v for k, v in value.items() if k not in ('mirror', 'window')
    }

def eval_batches(split, spec, clip, *, batch, **settings):
  shape = (batch, clip.num_crops * clip.num_clips, clip.num_frames, *clip.crop, 3)
  value = {'video': np.zeros(shape, np.uint8), 'valid': np.ones(batch, np.float32)}
  yield value | {'label': np.zeros(batch, np.int32), 'video_id': np.arange(batch, dtype=np.int32)}

pipeline.train_batches, pipeline.eval_batches = train_batches, eval_batches
"""


def imported(code: str, data_dir, workdir, mode: str) -> str:
  """What a command imported of TensorFlow: a run of two steps, or an evaluation of it."""
  flags = [
    '--config=tests/faults/tiny.py:classify',
    f'--workdir={workdir}',
    f'--data_dir={data_dir}',
    f'--mode={mode}',
    '--config.optim.total_steps=2',
  ]
  done = subprocess.run(
    [sys.executable, '-c', code, *flags],
    cwd=commands.ROOT,
    env=commands.environment(),
    capture_output=True,
    text=True,
    check=False,
  )
  assert not done.returncode, done.stderr[-3000:]
  return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_run_imports_no_tensorflow_but_for_its_input(data_dir, tmp_path):
  """Checkpoints, TensorBoard's events, opened splits, evaluations and results; only the batches are
  made here."""
  for mode in ('train', 'evaluate'):
    assert imported(WITHOUT_INPUT + RUN, data_dir, tmp_path / 'run', mode) == 'imported: []'
  assert list((tmp_path / 'run').glob('events.out.tfevents.*')), 'no events'
  assert (tmp_path / 'run' / 'result.json').exists()


@pytest.mark.slow
def test_a_run_on_video_records_imports_no_tensorflow(data_dir, tmp_path):
  """Training and evaluation with the batches that are read."""
  for mode in ('train', 'evaluate'):
    assert imported(RUN, data_dir, tmp_path / 'run', mode) == 'imported: []'
