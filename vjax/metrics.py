"""What is logged and when: clu averages summed over an interval, written to stdout, TensorBoard and metrics.jsonl."""

import json
import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm


def start_log(workdir: str) -> None:
  """Log lines from INFO on go to the terminal, in short, and to workdir/log.txt, with their times."""
  Path(workdir).mkdir(parents=True, exist_ok=True)
  terminal, file = logging.StreamHandler(), logging.FileHandler(Path(workdir, 'log.txt'))
  terminal.setFormatter(logging.Formatter('%(message)s'))
  file.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
  logging.basicConfig(level=logging.INFO, handlers=[terminal, file], force=True)
  for chatty, level in {'jax': logging.WARNING, 'absl': logging.ERROR, 'orbax': logging.ERROR}.items():
    logging.getLogger(chatty).setLevel(level)


class Interval:
  """Sums and counts of one logging interval, in float64 on the host; a checkpoint carries them, so that a resumed run
  logs what an unbroken one does."""

  def __init__(self, sums: dict[str, list[float]] | None = None):
    self.sums = {name: list(pair) for name, pair in (sums or {}).items()}

  def add(self, metrics: dict[str, Any]) -> dict[str, float]:
    """Adds one step's clu averages (waits for them); returns that step's means."""
    means = {}
    for name, metric in jax.device_get(metrics).items():
      total, count = float(metric.total), float(metric.count)
      pair = self.sums.setdefault(name, [0.0, 0.0])
      pair[0] += total
      pair[1] += count
      means[name] = total / count if count else math.nan
    return means

  def means(self) -> dict[str, float]:
    return {name: total / count if count else math.nan for name, (total, count) in self.sums.items()}


class Log:
  """Writers of one run. On resume, lines of metrics.jsonl after `resume_step` are dropped: they will be made again."""

  def __init__(self, workdir: str | os.PathLike, *, resume_step: int = 0, total_steps: int = 0):
    self._lead = jax.process_index() == 0
    self._path = Path(workdir) / 'metrics.jsonl'
    self._bar = None
    self._begin = time.monotonic()
    self._first = resume_step
    self._total = total_steps
    if not self._lead:
      return
    from clu import metric_writers  # pulls in TensorFlow

    self._writer = metric_writers.SummaryWriter(str(workdir))
    if self._path.exists():
      self._cut(resume_step)
    if sys.stderr.isatty() and total_steps:
      self._bar = tqdm(total=total_steps, initial=resume_step, unit='step', dynamic_ncols=True)

  def _cut(self, last: int) -> None:
    kept = []
    for line in self._path.read_text().splitlines():
      try:
        row = json.loads(line)
      except json.JSONDecodeError:
        break  # the line that a kill cut short is the last
      if row['step'] <= last:
        kept.append(line)
    temporary = self._path.with_suffix('.partial')
    temporary.write_text(''.join(line + '\n' for line in kept))
    temporary.replace(self._path)

  def write(self, step: int, split: str, values: dict[str, float]) -> None:
    """One line in metrics.jsonl and in the log, and a point in TensorBoard."""
    if not self._lead:
      return
    numbers = {name: float(value) for name, value in values.items() if np.isscalar(value)}
    row = json.dumps({'step': step, 'split': split, **numbers})
    with open(self._path, 'a') as f:
      f.write(row + '\n')
    self._writer.write_scalars(step, {f'{split}/{name}': value for name, value in numbers.items()})
    self._writer.flush()
    text = f'step {step} {split}: ' + ', '.join(f'{name} {value:.4g}' for name, value in numbers.items())
    if split == 'train' and self._total:
      text += f', ETA {_clock(self.eta_s(step))}'
    if self._bar is not None:
      self._bar.write(text)
    else:
      logging.info(text)

  def images(self, step: int, name: str, image: np.ndarray) -> None:
    """One picture (H, W, 3), uint8, in TensorBoard."""
    if self._lead:
      self._writer.write_images(step, {name: image[None]})
      self._writer.flush()

  def progress(self, step: int) -> None:
    """Moves the bar of a terminal."""
    if self._bar is not None:
      self._bar.update(step - self._bar.n)

  def eta_s(self, step: int) -> float:
    """Seconds to the last step at the rate so far."""
    done = max(step - self._first, 1)
    return (time.monotonic() - self._begin) / done * (self._total - step)

  def close(self) -> None:
    """Ends bar and writers."""
    if self._bar is not None:
      self._bar.close()
    if self._lead:
      self._writer.close()


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
