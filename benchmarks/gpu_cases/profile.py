"""Time of a call by kernel."""

from __future__ import annotations

import collections
import glob
import gzip
import json
import re
import tempfile
from collections.abc import Callable
from typing import Any

import jax


def kernels(call: Callable[[], Any], most: int = 12) -> dict[str, Any]:
  """{'busy_ms', 'kernels': [[name, ms, share of the busy time, count], ...]} of one call, the
  costliest first.

  Names lose their numbers, so that kernels of equal layers are added up. On a CPU these are XLA's
  operations. Where the profiler does not work, {'error'}: a result too, since trying again would
  compile everything again.
  """
  try:
    return _kernels(call, most)
  except Exception as error:
    return {'error': f'{type(error).__name__}: {error}'[:300]}


def _kernels(call: Callable[[], Any], most: int) -> dict[str, Any]:
  jax.block_until_ready(call())
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      jax.block_until_ready(call())
    files = glob.glob(f'{folder}/**/*.trace.json.gz', recursive=True)
    if not files:
      raise OSError('the profiler wrote no trace')
    with gzip.open(files[0]) as file:
      events = json.load(file)['traceEvents']
  names = {
    (e['pid'], e.get('tid')): e['args']['name']
    for e in events
    if e.get('ph') == 'M' and 'name' in e['args']
  }
  device = {pid for (pid, _), name in names.items() if name.startswith('/device:GPU')}
  total, count = collections.Counter(), collections.Counter()
  for event in events:
    if event.get('ph') != 'X' or (device and not _is_stream(event, names, device)):
      continue
    if not device and 'hlo_op' not in event.get('args', {}):
      continue
    name = re.sub(r'[._]?\d+', '', event['name'])[:80]
    total[name] += event['dur'] / 1e3
    count[name] += 1
  busy = sum(total.values())
  if not busy:
    raise OSError(f'no kernels in the trace, whose rows are {sorted(set(names.values()))[:20]}')
  rows = [
    [name, round(ms, 3), round(ms / busy, 3), count[name]] for name, ms in total.most_common(most)
  ]
  return {'busy_ms': busy, 'kernels': rows}


def _is_stream(event: dict, names: dict, device: set) -> bool:
  return event['pid'] in device and 'Stream' in names.get((event['pid'], event.get('tid')), '')
