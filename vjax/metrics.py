"""Logging: means summed over an interval, written to stdout, TensorBoard and
metrics.jsonl."""

import contextlib
import dataclasses
import functools
import json
import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from vjax import files
from vjax.event_writer import EventWriter


def start_log(workdir: str) -> None:
  """Log lines from INFO on go to the terminal, in short, and to workdir/log.txt, with their times;
  those of the further hosts of a pod to log-1.txt, log-2.txt, ... Raises OSError where workdir
  cannot be written to."""
  # JAX says on every start that there is no TPU; the question which process this is starts it.
  logging.getLogger('jax._src.xla_bridge').setLevel(logging.ERROR)
  name = f'log-{jax.process_index()}.txt' if jax.process_index() else 'log.txt'
  with writing(workdir):
    folder = _local(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    _fetch(workdir, name)
    terminal, file = logging.StreamHandler(), logging.FileHandler(folder / name)
  file.handleError = lambda record: None  # of a full disk the terminal learns by what stops the run
  terminal.setFormatter(logging.Formatter('%(message)s'))
  file.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
  logging.basicConfig(level=logging.INFO, handlers=[terminal, file], force=True)
  for chatty, level in {
    'jax': logging.WARNING,
    'jax._src.xla_bridge': logging.ERROR,
    'absl': logging.CRITICAL,
    'orbax': logging.CRITICAL,
  }.items():
    logging.getLogger(chatty).setLevel(level)
  # Where a save fails, Orbax leaves one such error for every array, beside the one that it raises.
  sys.unraisablehook = lambda e: (
    str(e.exc_value) == 'Event loop is closed' or sys.__unraisablehook__(e)
  )


@functools.cache
def _local(workdir: str | os.PathLike) -> Path:
  """Folder in which files grow line by line: workdir, or a folder of this process where that is
  an object store, which only takes whole files."""
  return Path(tempfile.mkdtemp(prefix='vjax-')) if files.is_remote(workdir) else Path(workdir)


def _fetch(workdir: str | os.PathLike, name: str) -> None:
  """Brings a file of an earlier run from an object store."""
  if files.is_remote(workdir) and (files.path(workdir) / name).exists():
    (_local(workdir) / name).write_bytes((files.path(workdir) / name).read_bytes())


@contextlib.contextmanager
def writing(workdir: str | os.PathLike) -> Iterator[None]:
  """Turns any error inside into an OSError that names the folder: packages of object stores raise
  errors of their own."""
  try:
    yield
  except Exception as error:
    reason = (
      error.strerror if isinstance(error, OSError) and error.strerror else str(error).split('\n')[0]
    )
    raise OSError(
      f'cannot write to {workdir}: {reason}. Make room, or give a --workdir that can be written '
      'to; the same command continues from the last checkpoint'
    ) from error


class Interval:
  """Sums and counts of one logging interval, in float64 on the host; a checkpoint carries them, so
  that a resumed run logs what an unbroken one does."""

  def __init__(self, sums: dict[str, list[float]] | None = None):
    self.sums = {name: list(pair) for name, pair in (sums or {}).items()}

  def add(self, metrics: dict[str, Any]) -> dict[str, float]:
    """Adds one step's means (waits for them); returns that step's means."""
    means = {}
    for name, metric in jax.device_get(metrics).items():
      total, count = float(metric.total), float(metric.count)
      pair = self.sums.setdefault(name, [0.0, 0.0])
      pair[0] += total
      pair[1] += count
      means[name] = total / count if count else math.nan
    return means

  def means(self) -> dict[str, float]:
    return {
      name: total / count if count else math.nan for name, (total, count) in self.sums.items()
    }


@dataclasses.dataclass
class Totals:
  """Seconds, videos and clips of a run so far, kept in its checkpoints.

  Attributes:
    train_s: seconds of training.
    eval_s: seconds of evaluations.
    videos: trained on; a video counts in every step that has it.
    clips: trained on: videos times their repeats.
    estimated_steps: first steps of the run that were not counted, since the version of vjax that
      made them did not; they are taken to have had the batch of the run that resumed them.
  """

  train_s: float = 0.0
  eval_s: float = 0.0
  videos: float = 0.0
  clips: float = 0.0
  estimated_steps: float = 0.0

  @classmethod
  def resumed(cls, saved: dict[str, float], step: int, videos: int, clips: int) -> 'Totals':
    """Returns the totals of a checkpoint, by its entries `saved`.

    step: of the checkpoint. videos, clips: of one step from now on.
    """
    if 'videos' in saved:
      return cls(**saved)
    counts = {'videos': step * videos, 'clips': step * clips, 'estimated_steps': step}
    return cls(**{**saved, **counts})

  def count_step(self, videos: int, clips: int) -> None:
    """Adds the videos and clips of one step."""
    self.videos += videos
    self.clips += clips


class Log:
  """Writers of one run. On resume, lines of metrics.jsonl and points of TensorBoard that will be
  made again are dropped: those after `resume_step`, and the evaluations at it. Raises OSError where
  workdir cannot be written to."""

  def __init__(self, workdir: str | os.PathLike, *, resume_step: int = 0, total_steps: int = 0):
    self._lead = jax.process_index() == 0
    self._workdir, self._path = workdir, _local(workdir) / 'metrics.jsonl'
    self._bar = None
    self._begin = time.monotonic()
    self._first = resume_step
    self._total = total_steps
    if not self._lead:
      return
    with writing(workdir):
      self._path.parent.mkdir(parents=True, exist_ok=True)
      _fetch(workdir, self._path.name)
      self._writer = EventWriter(str(self._path.parent))
      if self._path.exists():
        self._cut(resume_step)
    if sys.stderr.isatty() and total_steps:
      self._bar = tqdm(total=total_steps, initial=resume_step, unit='step', dynamic_ncols=True)

  def _cut(self, last: int) -> None:
    kept, of_last = [], list[dict[str, Any]]()
    for line in self._path.read_text(errors='replace').splitlines():
      try:
        row = json.loads(line)
        again = row['step'] > last or row['step'] == last and row['split'] != 'train'
      except (ValueError, TypeError, LookupError):
        break  # the line that a kill or a full disk cut short is the last
      if not again:
        kept.append(line)
        of_last += [row] if row['step'] == last else []
    temporary = self._path.with_name('metrics.jsonl.partial')
    temporary.write_text(''.join(line + '\n' for line in kept))
    temporary.replace(self._path)
    self._writer.write_restart(last)  # TensorBoard forgets the step's points, also the training's
    for row in of_last:
      self._write_points(last, row.pop('split'), row)

  def _write_points(self, step: int, split: str, row: dict[str, Any]) -> None:
    points = {f'{split}/{name}': value for name, value in row.items() if name != 'step'}
    self._writer.write_scalars(
      step, {name: math.nan if value is None else value for name, value in points.items()}
    )

  def write(self, step: int, split: str, values: dict[str, float]) -> None:
    """One line in metrics.jsonl and in the log, and a point in TensorBoard; pictures (H, W, 3)
    uint8 there alone."""
    if not self._lead:
      return
    images = {
      f'{split}/{name}': value[None]
      for name, value in values.items()
      if isinstance(value, np.ndarray)
    }
    if images:
      with writing(self._workdir):
        self._writer.write_images(step, images)
        self._writer.flush()
    numbers = {name: float(value) for name, value in values.items() if np.isscalar(value)}
    if not numbers:
      return
    row = {
      name: value if math.isfinite(value) else None for name, value in numbers.items()
    }  # JSON has no NaN
    with writing(self._workdir):
      with open(self._path, 'a') as f:
        f.write(json.dumps({'step': step, 'split': split, **row}) + '\n')
      self._write_points(step, split, numbers)
      self._writer.flush()
    text = f'step {step} {split}: ' + ', '.join(
      f'{name} {value:.4g}' for name, value in numbers.items()
    )
    if split == 'train' and self._total:
      text += f', ETA {_clock(self.eta_s(step))}'
    if self._bar is not None:
      self._bar.write(text)
    else:
      logging.info(text)

  def progress(self, step: int) -> None:
    """Moves the bar of a terminal."""
    if self._bar is not None:
      self._bar.update(step - self._bar.n)

  def eta_s(self, step: int) -> float:
    """Seconds to the last step at the rate so far."""
    done = max(step - self._first, 1)
    return (time.monotonic() - self._begin) / done * (self._total - step)

  def sync(self) -> None:
    """Copies what was written to an object store; to be called when a checkpoint is written."""
    if files.is_remote(self._workdir):
      with writing(self._workdir):
        for file in self._path.parent.iterdir():
          (files.path(self._workdir) / file.name).write_bytes(file.read_bytes())

  def close(self) -> None:
    """Ends bar and writers."""
    if self._bar is not None:
      self._bar.close()
    if self._lead:
      with writing(self._workdir):
        self._writer.close()
    self.sync()


class Profiler:
  """JAX's profiler over some steps of a run.

  Args:
    steps: first and last that is recorded, () = none.
    workdir: the record goes to its folder `profile`.
  """

  def __init__(self, steps: tuple[int, ...], workdir: str | os.PathLike):
    self._steps, self._folder, self._on = steps, f'{workdir}/profile', False

  def before(self, step: int) -> None:
    """Starts or ends the record; to be called before every step, and with the next one's number
    after the last."""
    wanted = bool(self._steps) and self._steps[0] <= step <= self._steps[1]
    if wanted and not self._on:
      options = jax.profiler.ProfileOptions()
      options.python_tracer_level = 0  # calls of Python functions would hide the rest
      jax.profiler.start_trace(self._folder, profiler_options=options)
      logging.info('recording a profile of steps %d to %d', step, self._steps[1])
    if self._on and not wanted:
      self.close()
    self._on = wanted

  def close(self) -> None:
    """Ends a record that is under way."""
    if self._on:
      jax.profiler.stop_trace()
      logging.info('profile in %s: tensorboard --logdir=%s', self._folder, self._folder)
    self._on = False


def _clock(seconds: float) -> str:
  hours, rest = divmod(int(seconds), 3600)
  return f'{hours}:{rest // 60:02d}:{rest % 60:02d}'


def memory_gib() -> float:
  """Peak memory in GiB: of the first local accelerator, or of this process on a CPU."""
  stats = jax.local_devices()[0].memory_stats()
  if stats and 'peak_bytes_in_use' in stats:
    return stats['peak_bytes_in_use'] / 2**30
  import resource

  scale = 1 if sys.platform == 'darwin' else 2**10
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**30
