"""`python -m benchmarks.gpu` on a CPU: order, continuation, failures, the report, and the table it
writes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu_report
from benchmarks.gpu_cases import CASES, PARTS, recorder
from vjax.kernels import table

ROOT = Path(__file__).parent.parent
FORBIDDEN = ('tensorflow', 'tensorflow_datasets', 'clu', 'ml_collections', 'torch')


def command(folder, *flags) -> list[str]:
  return [sys.executable, '-m', 'benchmarks.gpu', '--device=cpu', f'--out={folder / "out"}', *flags]


def environment(folder) -> dict[str, str]:
  """Of a machine where TensorFlow, clu, ml_collections and PyTorch cannot be imported."""
  (folder / 'site').mkdir(exist_ok=True)
  for name in FORBIDDEN:
    (folder / 'site' / f'{name}.py').write_text(f"raise ImportError('{name} is forbidden here')\n")
  flags = os.environ['XLA_FLAGS'] + ' --xla_force_host_platform_device_count=1'
  return {**os.environ, 'PYTHONPATH': str(folder / 'site'), 'XLA_FLAGS': flags}


def rows(folder) -> list[dict]:
  return recorder.read([str(folder / 'out' / 'results.jsonl')])


def row(line, part, device='NVIDIA H100', case='kernels/x', status='done', **values) -> dict:
  return dict(
    case=case, line=line, part=part, device=device, status=status, seconds=1, values=values
  )


def choice(operation, fastest, case='kernels/x', **settings) -> dict:
  values = {
    'operation': operation,
    'dtype': 'bfloat16',
    'fastest': fastest,
    'table': 'lax',
    'shapes': 1,
  }
  return row(
    'choice', 5, case=case, **{**values, 'ratios': {fastest: 1.0, 'other': 2.0}, **settings}
  )


def test_cases_have_unique_names_and_stand_in_the_order_of_their_parts():
  names, parts = [case.name for case in CASES], [case.part for case in CASES]
  assert len(set(names)) == len(names) and parts == sorted(parts) and set(parts) == set(PARTS)
  assert {case.part for case in CASES if case.small is not None} == set(PARTS)


@pytest.mark.slow
def test_runs_without_tensorflow_and_continues_without_repeating(tmp_path):
  def run(*flags):
    settings = dict(cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True)
    return subprocess.run(command(tmp_path, '--budget=200', *flags), check=False, **settings)

  first = run('--only=kernels/*')
  assert first.returncode == 0, first.stderr + first.stdout
  found = rows(tmp_path)
  assert {r['case'] for r in found} >= {
    'machine',
    'kernels/batch_norm/bfloat16',
    'kernels/temporal/bfloat16',
  }
  assert all(r['status'] == 'done' for r in found), found
  assert {r['part'] for r in found} == {1, 5}
  assert all(
    r['values']['ms'] > 0
    for r in found
    if r['line'].endswith(('written', 'derived', 'lax', 'flattened'))
  )
  # A line goes missing, as when a run was killed: it alone is measured again. A case without its
  # package says so.
  kept = [
    r
    for r in found
    if not (r['case'].startswith('kernels/batch') and r['line'].endswith('derived'))
  ]
  kept = [r for r in kept if not (r['case'].startswith('kernels/batch') and r['line'] == 'end')]
  path = tmp_path / 'out' / 'results.jsonl'
  path.write_text('\n'.join(json.dumps(r) for r in kept) + '\n{"case": "cut sho')
  second = run('--only=[kp]e*')
  assert 'skipped: torch' in second.stdout
  again = rows(tmp_path)[len(kept) :]
  lines = [(r['case'], r['line'].split(': ')[-1]) for r in again if r['status'] == 'done']
  # The choice is made anew, from the new time.
  assert lines == [('kernels/batch_norm/bfloat16', line) for line in ('derived', 'choice', 'end')]
  text = (tmp_path / 'out' / 'results.md').read_text()
  assert (
    '| batch_norm, bfloat16 | `' in text and '| peers/r2plus1d_18 | end | skipped | torch |' in text
  )


@pytest.mark.slow
def test_every_part_ends_on_a_cpu_and_a_stop_leaves_what_was_found(tmp_path):
  env = environment(tmp_path)
  some = '--only=right/*,headline/*,peers/r2plus1d_18,size/*'  # kernels: the test before
  process = subprocess.Popen(command(tmp_path, '--budget=400', some), cwd=ROOT, env=env)
  until = time.monotonic() + 300
  path = tmp_path / 'out' / 'results.jsonl'
  while time.monotonic() < until and not (path.exists() and len(rows(tmp_path)) >= 4):
    time.sleep(0.5)
  process.send_signal(signal.SIGTERM)
  assert process.wait(60) == 143
  kept = rows(tmp_path)
  assert len(kept) >= 4 and (tmp_path / 'out' / 'results.md').exists()
  subprocess.run(command(tmp_path, '--budget=400', some), cwd=ROOT, env=env, check=True)
  found = rows(tmp_path)
  measured = [(r['case'], r['line']) for r in found if r['status'] == 'done']
  assert found[: len(kept)] == kept and len(set(measured)) == len(measured)
  assert {r['part'] for r in found if r['status'] == 'done'} == {1, 2, 3, 6}  # 4 needs PyTorch
  undone = [r for r in found[len(kept) :] if r['status'] != 'done']
  assert all(r['values']['error'] == 'torch' for r in undone), undone
  assert {r['status'] for r in kept} <= {'done', 'killed'}
  assert all(r['values']['right'] for r in found if 'right' in r['values'])
  assert all(
    r['values']['resumed_is_identical'] for r in found if 'resumed_is_identical' in r['values']
  )


def test_a_line_that_fails_is_recorded_and_the_next_goes_on(tmp_path):
  path = str(tmp_path / 'results.jsonl')
  record = recorder.Recorder(path, 'a case', 5, 'cpu', {'known': {'ms': 1}}, False)

  def fails(text):
    raise ValueError(text)

  assert record.measure('first', lambda: fails('no such kernel'))
  assert not record.measure('second', lambda: fails('RESOURCE_EXHAUSTED: 80 GiB'))
  assert record.measure('third', lambda: {'ms': 2.0}) and record.measure(
    'known', lambda: fails('never called')
  )
  found = {r['line']: (r['status'], r['values']) for r in recorder.read([path])}
  assert found['first'] == ('failed', {'error': 'ValueError: no such kernel'})
  assert found['second'] == ('done', {'error': 'out of memory'})
  assert found['third'] == ('done', {'ms': 2.0}) and 'known' not in found
  assert record.failed == ['first']


def test_what_is_no_result_is_refused(tmp_path):
  (tmp_path / 'README.md').write_text('# Not a result\n')
  with pytest.raises(ValueError, match='README.md, line 1, is no result of benchmarks.gpu'):
    recorder.read([str(tmp_path / 'README.md')])


def test_a_lack_of_memory_is_reported_and_breaks_no_table():
  lines = [
    ('bandwidth', 1, 'machine'),
    ('bfloat16', 2, 'right/fixture/vit'),
    ('step/vjax', 4, 'peers/vit_b'),
  ]
  text = gpu_report.markdown(
    [row(line, part, case=case, error='out of memory') for line, part, case in lines]
  )
  assert all(f'| {case} | {line} | done | out of memory |' in text for line, _, case in lines)


def test_a_choice_is_made_again_when_more_was_measured(tmp_path):
  kernels = pytest.importorskip('benchmarks.gpu_cases.kernels')
  path = str(tmp_path / 'results.jsonl')
  record = recorder.Recorder(path, 'kernels/full', 5, 'gpu', {'a: lax': {'ms': 2.0}}, True)
  kernels._choose(record, 'full', 'bfloat16')
  record.known['a: taps'] = {'ms': 1.0}
  kernels._choose(record, 'full', 'bfloat16')
  kernels._choose(record, 'full', 'bfloat16')
  assert [r['values']['fastest'] for r in recorder.read([path])] == ['lax', 'taps']


def test_report_compares_with_the_bars():
  text = gpu_report.markdown([
    row('product/bfloat16', 1, case='machine', side=8192, ms=1.4, tflop_per_s=800.0),
    *(
      row('batch=64', 3, case=f'headline/{name}', clips_per_s=speed, tflop_per_s=rate, ms=9.0,
      peak_gib=60.0, compile_s=40.0)
      for name, speed, rate in (('mae_l_90', 1000.0, 420.0), ('mae_l_dense', 300.0, 450.0))
    ),
    row('step/vjax', 4, case='peers/vit_b', ms=10.0),
    row('step/pytorch', 4, case='peers/vit_b', ms=16.0),
    row('step/compiled', 4, case='peers/vit_b', ms=12.5),
    row('end', 4, case='peers/mvit_s', status='killed', error='after 480 s'),
  ])  # fmt: skip
  assert '0.53 of the matrix product at its best batch (bar 0.5: met)' in text
  assert '3.3 times faster than dense, each at its best batch (bar 4.0: MISSED)' in text
  assert '| vit_b | step | 10.00 | 16.00 |  | 12.50 | 0.80 | met |' in text
  assert '| peers/mvit_s | end | killed | after 480 s |' in text


def test_apply_writes_the_row_of_gpus(tmp_path):
  copy = tmp_path / 'table.py'
  copy.write_text(Path(table.__file__).read_text())
  heads = [
    choice('attention', n, f'kernels/attention/{w}')
    for w, n in ((64, 'cudnn'), (96, 'cudnn'), (128, 'xla'))
  ]
  found = [
    choice('depthwise', 'lax'),
    choice('linear', 'plain'),
    choice('full', 'taps', dtype='float32'),
    *heads,
  ]
  assert gpu_report.apply(found, copy).splitlines() == [
    'depthwise: shifted -> lax', 'linear: rows -> plain', 'CUDNN_WIDTH: 128 -> 96',
  ]  # fmt: skip
  written = {}
  exec(copy.read_text(), written)
  assert written['TABLE']['gpu'] == {**table.TABLE['gpu'], 'depthwise': 'lax', 'linear': 'plain'}
  assert written['TABLE']['cpu'] == table.TABLE['cpu'] and written['CUDNN_WIDTH'] == 96
  assert gpu_report.apply(found, copy) == 'nothing to change'


def test_apply_refuses_two_kinds_of_gpu(tmp_path):
  found = [choice('linear', 'plain'), {**choice('linear', 'rows'), 'device': 'NVIDIA H200'}]
  with pytest.raises(ValueError, match="'NVIDIA H100', 'NVIDIA H200'.*one kind of GPU"):
    gpu_report.apply(found, tmp_path / 'table.py')
