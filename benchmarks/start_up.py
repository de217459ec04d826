"""Seconds from the start of `python -m vjax.main` to its first training step, and where they go.

  python -m benchmarks.start_up [--config=configs/mae_k400.py:tiny] [--data_dir=data] [--repeats=2]

Measured from outside: the command runs in a child process, whose log says when step 1 is done. The
built-in data are rendered before, if they are not there. `total` comes from runs without any
instrument, the parts from one more run in which Python reports its imports and JAX its
compilations, which takes a little longer:
  imports        Python's own account of every module, wherever it is imported
  compilation    XLA's, of all functions up to step 1; tracing is not in it
  first batch    what the loop waited for data before step 1
  building, tracing, step 1   the rest
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

STEPS = 2
IMPORT = re.compile(r'import time:\s+(\d+) \|')
COMPILED = re.compile(r'Finished XLA compilation of (.+) in ([\d.e+-]+) sec')
FIRST = re.compile(r'step 1 train: ')


def start(config: str, data_dir: str, instruments: bool) -> dict[str, float]:
  """{'total': seconds} of one run up to step 1; with instruments also the parts. Raises
  RuntimeError, with the end of the log, where the command fails."""
  with tempfile.TemporaryDirectory() as workdir:
    command = [
      sys.executable,
      *(['-X', 'importtime'] if instruments else []),
      '-m',
      'vjax.main',
      f'--config={config}',
    ]
    command += [
      f'--workdir={workdir}',
      f'--data_dir={data_dir}',
      f'--config.optim.total_steps={STEPS}',
    ]
    command += ['--config.optim.warmup_steps=1', '--config.train.log_steps=1']
    env = {**os.environ, **({'JAX_LOG_COMPILES': '1'} if instruments else {})}
    began = time.perf_counter()
    child = subprocess.Popen(
      command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env
    )
    found, lines, imported, compiled = {}, [], 0, {}
    for line in child.stderr:
      lines.append(line)
      if FIRST.search(line):
        found['total'] = time.perf_counter() - began
        break
      if match := IMPORT.match(line):
        imported += int(match[1])
      if match := COMPILED.search(line):
        compiled[match[1]] = compiled.get(match[1], 0) + float(match[2])
    child.terminate()
    child.communicate()
    if 'total' not in found:
      raise RuntimeError(f'{" ".join(command)} did not reach step 1:\n{"".join(lines[-20:])}')
    if instruments:
      first = json.loads(pathlib.Path(workdir, 'metrics.jsonl').read_text().splitlines()[0])
      batch = first['data_wait'] * _clips(config) / first['clips_per_s']
      found |= {
        'imports': imported / 1e6,
        'compilation': sum(compiled.values()),
        'first batch': batch,
      }
      found['building, tracing, step 1'] = found['total'] - sum(
        found[part] for part in list(found)[1:]
      )
      slowest = sorted(compiled.items(), key=lambda item: -item[1])[:3]
      print(
        'slowest to compile: ' + ', '.join(f'{name} {seconds:.1f} s' for name, seconds in slowest)
      )
    return found


def _clips(config: str) -> int:
  """Clips a step."""
  chosen = _config(config)
  return chosen.data.batch_size * chosen.clip.num_repeats


def _config(config: str):
  import importlib

  path, _, argument = config.partition(':')
  return importlib.import_module(path.removesuffix('.py').replace('/', '.')).get_config(argument)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', default='configs/mae_k400.py:tiny')
  parser.add_argument('--data_dir', default=os.environ.get('VJAX_DATA') or 'data')
  parser.add_argument('--repeats', type=int, default=2, help='runs without instruments')
  args = parser.parse_args()
  from vjax import built_in_data

  built_in_data.render_if_missing(_config(args.config), args.data_dir)
  totals = [
    start(args.config, args.data_dir, instruments=False)['total'] for _ in range(args.repeats)
  ]
  print(f'{args.config}, {os.cpu_count()} cores, Python {sys.version.split()[0]}')
  print(
    f'total {statistics.median(totals):.1f} s (least {min(totals):.1f} s) of {len(totals)} runs'
  )
  found = start(args.config, args.data_dir, instruments=True)
  for part, seconds in found.items():
    print(
      f'  {part:26}{seconds:7.1f} s {seconds / found["total"]:5.0%}'
      + (' with instruments' if part == 'total' else '')
    )


if __name__ == '__main__':
  main()
