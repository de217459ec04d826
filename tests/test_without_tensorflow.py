"""A training and an evaluation on video records, as processes of their own, import no TensorFlow."""

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


def imported(data_dir, workdir, mode: str) -> str:
  """Returns what a command imported of TensorFlow: a run of two steps, or an evaluation of it."""
  flags = [
    '--config=tests/faults/tiny.py:classify',
    f'--workdir={workdir}',
    f'--data_dir={data_dir}',
    f'--mode={mode}',
    '--config.optim.total_steps=2',
  ]
  done = subprocess.run(
    [sys.executable, '-c', RUN, *flags],
    cwd=commands.ROOT,
    env=commands.environment(),
    capture_output=True,
    text=True,
    check=False,
  )
  assert not done.returncode, done.stderr[-3000:]
  return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_run_on_video_records_imports_no_tensorflow(data_dir, tmp_path):
  """Training and evaluation with input, checkpoints, TensorBoard's events and results."""
  for mode in ('train', 'evaluate'):
    assert imported(data_dir, tmp_path / 'run', mode) == 'imported: []'
  assert list((tmp_path / 'run').glob('events.out.tfevents.*')), 'no events'
  assert (tmp_path / 'run' / 'result.json').exists()
