"""Tells what vjax does on a GPU: one command, most important results first, nothing lost when time
ends.

  python -m benchmarks.gpu --budget=480 --out=gpu_results [--skip-done FILE ...] [--wheels=FOLDER] [--only=GLOBS]
  python -m benchmarks.gpu --device=cpu --budget=240 --out=FOLDER     the same code, small
  python -m benchmarks.gpu --list                                     cases, with seconds on a GPU
  python -m benchmarks.gpu --report FILE ...                          writes benchmarks/RESULTS-GPU.md
  python -m benchmarks.gpu --apply FILE ...                           writes the row of GPUs in vjax/kernels/table.py

Needs one NVIDIA GPU and jax with CUDA, flax, optax, orbax-checkpoint, jaxtyping and safetensors;
PyTorch and PyTorchVideo for the comparisons. A case whose packages are missing is skipped and says
so. FOLDER of --wheels holds wheels of what is not installed there; `python -m
benchmarks.collect_wheels` fills one.

Every result is one line in OUT/results.jsonl, on the disk before the next begins. A case runs in a
process of its own and is killed after twice its estimate, so that neither a lack of memory nor a
long compilation ends the run. A case is started if its estimate fits into what is left of the
budget. The same OUT, or --skip-done with the files of earlier runs, continues: results of the same
kind of device that are there are not repeated; failed, killed and skipped ones are tried again. At
the end, on SIGTERM and on Ctrl-C OUT/results.md shows all that is known; OUT/log.txt has the output
of what failed.
"""

from __future__ import annotations

import argparse
import atexit
import fnmatch
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import gpu_report
from benchmarks.gpu_cases import BY_NAME, CASES, Case
from benchmarks.gpu_cases.recorder import append, end_with_parent, read

ROOT = Path(__file__).parents[1]
PATIENCE = 2.0  # times the estimate, after which a case is killed
TOGETHER = 4  # cases that measure no time run side by side
DEVICE = 'device: '  # first words of a process


@dataclass
class Run:
  """One run of the command: where it writes, until when, on what.

  Attributes:
    out: folder of results.jsonl.
    deadline: by time.monotonic().
    device: 'auto', 'cpu' or 'gpu'.
    paths: result files of earlier runs.
    env: of the processes.
    full: whether cases have their full size; None until the device is known.
    kind: of the device.
    children: processes at work.
    stopped: a signal has ended the run.
  """

  out: Path
  deadline: float
  device: str
  paths: list[str]
  env: dict[str, str]
  full: bool | None = None
  kind: str = ''
  children: set[subprocess.Popen] = field(default_factory=set)
  stopped: bool = False

  @property
  def results(self) -> str:
    return str(self.out / 'results.jsonl')

  def left_s(self) -> float:
    return self.deadline - time.monotonic()

  def rows(self) -> list[dict[str, Any]]:
    """All results so far, those of earlier runs first."""
    return read([*self.paths, *([self.results] if Path(self.results).exists() else [])])

  def is_done(self, case: Case) -> bool:
    """True if the case came to its end on this kind of device, without a failed line."""
    return 'end' in finished(self.rows(), case, self.kind)


def finished(rows: list[dict[str, Any]], case: Case, kind: str) -> dict[str, Any]:
  """{line: values} of a case's results on a kind of device."""
  return {
    r['line']: r['values']
    for r in rows
    if (r['case'], r['status'], r['device']) == (case.name, 'done', kind)
  }


def estimate_s(case: Case, full: bool) -> float:
  return case.estimate_s if full else case.small_s


def run_case(run: Run, case: Case) -> str:
  """Runs a case in a process of its own; what it left unrecorded of its end is recorded here. The
  process's output."""
  if run.stopped:
    return ''
  if case.part == 1:
    full, limit = run.device != 'cpu', 150.0  # a first start of CUDA may take long
  else:
    full, limit = bool(run.full), PATIENCE * estimate_s(case, bool(run.full))
  limit = max(1.0, min(limit, run.left_s()))
  order = {
    'case': case.name,
    'results': run.results,
    'device': run.device,
    'paths': run.paths,
    'full': full,
  }
  command = [sys.executable, '-m', 'benchmarks.gpu', '--child', json.dumps(order)]
  flags = f'{run.env.get("XLA_FLAGS", "")} {case.env.get("XLA_FLAGS", "")}'.strip()
  env = {**run.env, **case.env, 'XLA_FLAGS': flags}
  start = time.monotonic()
  with tempfile.TemporaryFile('w+', errors='replace') as file:
    child = subprocess.Popen(
      command, cwd=ROOT, env=env, stdout=file, stderr=file, start_new_session=True
    )
    run.children.add(child)
    try:
      child.wait(limit)
      status = {0: '', 3: 'skipped'}.get(child.returncode, 'failed')
    except subprocess.TimeoutExpired:
      status = 'killed'
    finally:
      _kill(child)
      run.children.discard(child)
    file.seek(0)
    log = file.read()
  seconds, status = time.monotonic() - start, 'killed' if run.stopped else status
  if status:
    why = {'killed': f'after {seconds:.0f} s', 'skipped': log.strip().split(': ')[-1]}.get(
      status, log[-600:]
    )
    row = {
      'case': case.name,
      'line': 'end',
      'part': case.part,
      'status': status,
      'device': run.kind,
    }
    append(run.results, {**row, 'seconds': round(seconds, 1), 'values': {'error': why}})
    if status != 'skipped':  # one file for all: a machine may send few back
      with open(run.out / 'log.txt', 'a') as file:
        file.write(f'\n=== {case.name}: {status} after {seconds:.0f} s\n{log}')
  shown = log.strip() if status == 'skipped' else status or 'done'
  print(f'{case.name:34} {seconds:6.1f} s  {shown}, {max(0, run.left_s()):.0f} s left', flush=True)
  return log


def _kill(child: subprocess.Popen) -> None:
  """Ends a process and all that it started."""
  try:
    os.killpg(child.pid, signal.SIGKILL)
  except ProcessLookupError:
    pass
  child.wait()


def child(order: dict[str, Any]) -> int:
  """Runs one case in this process; the exit status: 0 done, 3 skipped, 1 where a line failed."""
  end_with_parent()
  case = BY_NAME[order['case']]
  missing = [name for name in case.needs if not _imports(name)]
  if missing:
    print(f'skipped: {", ".join(missing)}')
    return 3
  import jax

  from benchmarks.gpu_cases.recorder import Recorder

  device, full = jax.devices()[0], order['full']
  if full and jax.default_backend() != 'gpu':
    if order['device'] == 'gpu':
      raise SystemExit(
        f'--device=gpu, but JAX sees {jax.default_backend()} alone: install jax with CUDA'
      )
    full = False
  kind = device.device_kind if jax.default_backend() != 'cpu' else 'cpu'
  print(f'{DEVICE}{kind}', flush=True)
  paths = [*order['paths'], *([order['results']] if Path(order['results']).exists() else [])]
  record = Recorder(
    order['results'], case.name, case.part, kind, finished(read(paths), case, kind), full
  )
  settings = case.settings if full else {**case.settings, **(case.small or {})}
  file, function = case.function.split('.')
  module = importlib.import_module(f'benchmarks.gpu_cases.{file}')
  start = time.perf_counter()
  getattr(module, function)(record, **settings)
  if record.failed:
    print('failed: ' + ', '.join(record.failed))
    return 1
  if 'end' not in record.known:
    record.write('end', 'done', {}, time.perf_counter() - start)
  return 0


def _imports(name: str) -> bool:
  """True if a package can be imported."""
  try:
    importlib.import_module(name)
  except ImportError:
    return False
  return True


def unpack_wheels(folder: str, site: Path) -> None:
  """Unpacks wheels, which are zip files laid out as an installation, of what is not installed here.

  Raises ValueError where there are none.
  """
  wheels = sorted(Path(folder).glob('*.whl'))
  if not wheels:
    raise ValueError(
      f'--wheels={folder} holds no *.whl: fill it with python -m benchmarks.collect_wheels '
      f'--out={folder}'
    )
  here = {
    re.sub(r'[-_.]+', '_', d.metadata['Name'] or '').lower()
    for d in importlib.metadata.distributions()
  }
  for wheel in wheels:
    if wheel.name.split('-')[0].lower() not in here:
      with zipfile.ZipFile(wheel) as file:
        file.extractall(site)


def environment(args: argparse.Namespace) -> dict[str, str]:
  """Environment of the processes: memory is taken as needed, since PyTorch needs some too."""
  env = {
    **os.environ,
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
    'PYTHONUNBUFFERED': '1',
    'TF_CPP_MIN_LOG_LEVEL': '2',
  }
  if args.device == 'cpu':
    env |= {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': ''}
  path = [str(ROOT)]
  if args.wheels:
    site = Path(tempfile.mkdtemp(prefix='vjax-wheels-'))
    atexit.register(shutil.rmtree, site, ignore_errors=True)
    unpack_wheels(args.wheels, site)
    path.append(str(site))
  return {
    **env,
    'PYTHONPATH': os.pathsep.join([*path, *filter(None, [os.environ.get('PYTHONPATH')])]),
  }


def chosen(globs: str) -> list[str]:
  """Returns the names of the cases that match one of the globs, which commas separate."""
  return [name for name in BY_NAME if any(fnmatch.fnmatch(name, g) for g in globs.split(','))]


def measure(args: argparse.Namespace) -> Run:
  """Runs the cases that fit into the budget, in order."""
  out = Path(args.out)
  out.mkdir(parents=True, exist_ok=True)
  read(args.skip_done)  # a wrong file is an error now, not later
  run = Run(out, time.monotonic() + args.budget, args.device, args.skip_done, environment(args))

  def stop(number: int, _: Any) -> None:
    run.stopped = True
    for process in list(run.children):
      _kill(process)
    sys.exit(128 + number)

  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, stop)
  try:
    log = run_case(run, CASES[0])
    kinds = [line.removeprefix(DEVICE) for line in log.splitlines() if line.startswith(DEVICE)]
    if not kinds:
      raise SystemExit(f'error: JAX did not start: {log[-800:]}')
    run.kind, run.full = kinds[0], kinds[0] != 'cpu'
    if args.device == 'gpu' and not run.full:
      raise SystemExit('error: --device=gpu, but JAX sees no GPU: install jax with CUDA')
    wanted = set(chosen(args.only))
    cases = [case for case in CASES[1:] if case.name in wanted]
    cases = [
      case for case in cases if (run.full or case.small is not None) and not run.is_done(case)
    ]
    rows = run.rows()  # what failed before comes after what was never tried
    failed = {row['case'] for row in rows if row['line'] == 'end' and row['status'] == 'failed'}
    cases.sort(key=lambda case: case.name in failed)
    many = max(1, min(TOGETHER, (os.cpu_count() or 1) // 4))
    with ThreadPoolExecutor(many) as pool:
      beside = [case for case in cases if not case.timed]
      list(pool.map(lambda case: _if_it_fits(run, case), beside))
    for case in cases:
      if case.timed:
        _if_it_fits(run, case)
  finally:
    for process in list(run.children):
      _kill(process)
    if Path(run.results).exists():
      text = gpu_report.markdown(read([*run.paths, run.results]))
      (out / 'results.md').write_text(text)
      print(f'{out / "results.md"} and {run.results} are written')
  return run


def _if_it_fits(run: Run, case: Case) -> None:
  needed = estimate_s(case, bool(run.full))
  if needed <= run.left_s():
    run_case(run, case)
  else:
    print(
      f'{case.name:34} left for another run: about {needed:.0f} s, {max(0, run.left_s()):.0f} s '
      'left',
      flush=True,
    )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--budget', type=float, default=480, help='seconds, compilation included')
  parser.add_argument('--out', default='gpu_results', help='folder of the results')
  parser.add_argument('--device', choices=('auto', 'cpu', 'gpu'), default='auto')
  parser.add_argument(
    '--skip-done', nargs='+', default=[], metavar='FILE', help='results of earlier runs'
  )
  parser.add_argument('--wheels', help='folder of wheels of packages that are not installed')
  parser.add_argument(
    '--only',
    default='*',
    metavar='GLOBS',
    help="cases, e.g. 'kernels/*,size/vit_l'; the machine is always measured",
  )
  parser.add_argument('--list', action='store_true', help='print the cases and end')
  parser.add_argument(
    '--report', nargs='+', metavar='FILE', help='write benchmarks/RESULTS-GPU.md and end'
  )
  parser.add_argument(
    '--apply',
    nargs='+',
    metavar='FILE',
    help='write the row of GPUs in vjax/kernels/table.py and end',
  )
  parser.add_argument('--child', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.child:
    sys.exit(child(json.loads(args.child)))
  if args.list:
    for case in CASES:
      print(f'{case.part}  {case.name:34} {case.estimate_s:5.0f} s')
    return
  try:
    if args.report:
      (ROOT / 'benchmarks' / 'RESULTS-GPU.md').write_text(
        gpu_report.document(read(args.report), args.report)
      )
    elif args.apply:
      print(gpu_report.apply(read(args.apply), ROOT / 'vjax' / 'kernels' / 'table.py'))
    else:
      if not chosen(args.only):
        raise ValueError(f'--only={args.only} matches no case: see --list')
      measure(args)
  except (OSError, ValueError) as error:
    raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
  main()
