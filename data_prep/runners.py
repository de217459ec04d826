"""Runs work in many processes, with progress: a spawn pool on this machine, or Apache Beam on any
cluster."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

_PRINT_S = 30  # seconds between lines where there is no terminal
_COUNTER = None  # in a worker: the pool's count of finished rows


class Progress:
  """Shows progress towards `total` with rate and time left: a bar on a terminal, occasional lines
  in a log file."""

  def __init__(self, what: str, total: int, unit: str, start: int = 0):
    from tqdm import tqdm

    self.what, self.total, self.unit, self.start, self.count = what, total, unit, start, start
    self.began = self.printed = time.monotonic()
    terminal = sys.stderr.isatty()
    self.bar = tqdm(total=total, initial=start, desc=what, unit=unit, disable=not terminal)
    self.lines = not terminal

  def to(self, count: int) -> None:
    """Sets the count."""
    self.bar.update(count - self.count)
    self.count = count
    if self.lines and time.monotonic() > self.printed + _PRINT_S:
      self.printed = time.monotonic()
      left = (self.total - count) / self.rate if self.rate else 0
      print(
        f'{self.what}: {count}/{self.total} {self.unit}, {self.rate:.1f}/s, {left:.0f} s left',
        flush=True,
      )

  @property
  def rate(self) -> float:
    """Units per second, without those of an earlier run."""
    return (self.count - self.start) / max(time.monotonic() - self.began, 1e-9)

  def close(self) -> None:
    """Ends the bar; a log file gets a last line."""
    self.bar.close()
    if self.lines:
      seconds = time.monotonic() - self.began
      print(f'{self.what}: {self.count}/{self.total} {self.unit} in {seconds:.0f} s', flush=True)


def cores() -> int:
  """Returns the number of CPU cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def run_pool(
  function: Callable, items: Sequence[Any], processes: int, progress: Progress
) -> list[Any]:
  """Returns [function(item, tick) for item in items], computed by `processes` spawned workers (0 =
  one a core; 1 = in this process).

  `tick` advances `progress`. function and items must be picklable. The first exception stops the
  work. Workers end when this process does, however it ends. Raises RuntimeError if a worker dies,
  e.g. out of memory.
  """
  processes = min(processes or cores(), len(items))
  if processes <= 1:
    return [function(item, lambda: progress.to(progress.count + 1)) for item in items]
  from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
  from concurrent.futures.process import BrokenProcessPool

  spawn = multiprocessing.get_context('spawn')
  counter, start = spawn.Value('q', 0), progress.count
  with ProcessPoolExecutor(processes, spawn, _enter_worker, (counter,)) as pool:
    futures = [pool.submit(_call, function, item) for item in items]
    try:
      waiting = set(futures)
      while waiting:
        done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
        for future in done:
          future.result()  # raises the worker's exception
        progress.to(start + counter.value)
      return [f.result() for f in futures]
    except BrokenProcessPool as e:
      raise RuntimeError(
        'a worker process died: out of memory, killed, or a file that crashes the decoder. Run '
        'the same command again to continue, with --processes=1 if it happens again'
      ) from e
    finally:
      pool.shutdown(wait=False, cancel_futures=True)


def _enter_worker(counter) -> None:
  global _COUNTER  # noqa: PLW0603 - a pool's initializer has no other way to leave something for its tasks
  _COUNTER = counter
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)


def _call(function: Callable, item: Any) -> Any:
  return function(item, _tick)


def _tick() -> None:
  with _COUNTER.get_lock():
    _COUNTER.value += 1


def run_beam(function: Callable, items: Sequence[Any], runner: str, options: Sequence[str]) -> None:
  """Applies function(item) to every item on a Beam runner; `options` are flags of the runner,
  passed on as they are.

  Results are not collected: `function` writes its results to a file system that all workers share.
  """
  import apache_beam as beam
  from apache_beam.options.pipeline_options import PipelineOptions

  with beam.Pipeline(runner=runner, options=PipelineOptions(list(options))) as pipeline:
    _ = pipeline | beam.Create(items) | beam.Reshuffle() | beam.Map(function)
