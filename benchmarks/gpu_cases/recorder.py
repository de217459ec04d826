"""Results of a case, written line by line; timing of calls on the device."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import statistics
import time
from collections.abc import Callable
from typing import Any

Values = dict[str, Any]
KEYS = {'case', 'line', 'part', 'status', 'device', 'values'}  # of every result
OUT_OF_MEMORY = ('RESOURCE_EXHAUSTED', 'out of memory', 'Out of memory', 'OutOfMemoryError')


class Recorder:
  """Appends a JSON line for every result of a case to a file, at once.

  Args:
    path: of the file.
    case: name of the case.
    part: its part.
    device: kind of the device, for the record.
    known: {line: values} of results that are not to be measured again.
    full: whether settings are those of a GPU.
  """

  def __init__(
    self, path: str, case: str, part: int, device: str, known: dict[str, Values], full: bool
  ):
    self.path, self.case, self.part, self.device, self.known, self.full = (
      path,
      case,
      part,
      device,
      dict(known),
      full,
    )
    self.failed: list[str] = []  # lines

  def write(self, line: str, status: str, values: Values, seconds: float) -> None:
    """One line: flushed and on the disk when this returns."""
    row = {
      'case': self.case,
      'line': line,
      'part': self.part,
      'status': status,
      'device': self.device,
    }
    append(self.path, {**row, 'seconds': round(seconds, 2), 'values': values})

  def measure(self, line: str, function: Callable[[], Values]) -> bool:
    """Runs and records `function`, whose errors are results too. False where memory did not
    suffice."""
    if line in self.known:
      return self.known[line].get('error') != 'out of memory'
    start = time.perf_counter()
    try:
      values, status = function(), 'done'
    except Exception as error:
      text = f'{type(error).__name__}: {error}'
      if any(sign in text for sign in OUT_OF_MEMORY):
        values, status = {'error': 'out of memory'}, 'done'
      else:
        values, status = {'error': text[:600]}, 'failed'
      gc.collect()  # a traceback may hold arrays of the device
    self.write(line, status, values, time.perf_counter() - start)
    if status == 'done':
      self.known[line] = values
    else:
      self.failed.append(line)
    return values.get('error') != 'out of memory'


def end_with_parent() -> None:
  """Has this process killed when its parent dies, however that happens (Linux)."""
  ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def append(path: str, row: Values) -> None:
  """Appends a JSON line to a file and brings it to the disk. Cuts off what a killed process left of
  a line before."""
  with open(path, 'ab+') as file:
    if file.tell():
      file.seek(-1, os.SEEK_END)
      if file.read(1) != b'\n':
        file.write(b'\n')
    file.write(json.dumps(row).encode() + b'\n')
    file.flush()
    os.fsync(file.fileno())


def read(paths: list[str]) -> list[Values]:
  """The whole lines of result files. Raises ValueError for a file of something else, naming line
  and file."""
  rows = []
  for path in paths:
    with open(path, errors='replace') as file:
      for number, line in enumerate(file, start=1):
        try:
          row = json.loads(line)
        except ValueError:
          if line.startswith('{'):
            continue  # a line that a kill cut short
          row = None
        if not isinstance(row, dict) or not KEYS <= set(row):
          raise ValueError(
            f'{path}, line {number}, is no result of benchmarks.gpu: give results.jsonl of a run'
          )
        rows.append(row)
  return rows


def seconds_of(
  call: Callable[[], Any], wait: Callable[[Any], Any], *, at_least_s: float = 0.3
) -> float:
  """Seconds of a call in a row of them, after one that is not counted: the median of three rows.

  A device works on one call while the host prepares the next, as in training; only the end of a row
  is waited for.
  """
  wait(call())
  start = time.perf_counter()
  wait(call())
  once = time.perf_counter() - start
  count = max(1, min(200, round(at_least_s / max(once, 1e-6))))
  rows = []
  for _ in range(3):
    start = time.perf_counter()
    for _ in range(count):
      result = call()
    wait(result)
    rows.append((time.perf_counter() - start) / count)
  return statistics.median(rows)
