"""Input pipeline, from records to batches: order, hosts, batches. Clips are made by `clips.py`, in
the processes of `workers.py`.

Order and every random choice are functions of (seed, epoch, place in the epoch), and do not depend
on workers, hosts, timing or restarts.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vjax.config import FULL_FRAME, AugmentConfig, ClipConfig, ViewsConfig
from vjax.data import workers as workers_lib
from vjax.data.clips import EvalClips, TrainClips, whole_frame
from vjax.data.order import shuffled
from vjax.data.specs import DatasetSpec
from vjax.data.split import Split

_PIXELS_PER_S = 1.5e8  # that a core decodes and crops, for the default number of workers
_SHORT_S = 0.05  # a batch made in less is not worth a process


def train_batches(
  split: Split,
  spec: DatasetSpec,
  clip: ClipConfig,
  augment: AugmentConfig,
  *,
  batch: int,
  seed: int,
  start_step: int,
  host: int,
  hosts: int,
  workers: int | None = None,
) -> Iterator[Any]:
  """Returns batches without end: this host's share of `batch` videos a step, from start_step on.

  Row r of step s is place s*batch + r in a sequence of epochs. Each epoch is a permutation of all
  clips, so a batch may span two epochs.

  Args:
    split: records.
    spec: facts of the dataset.
    clip: sampling of clips.
    augment: augmentation.
    batch: videos a step, of all hosts.
    seed: of order and augmentation.
    start_step: first step.
    host: number of this host.
    hosts: number of hosts.
    workers: processes that make clips, 0 = this one, None = by cores and recipe.

  Returns:
    Iterator of batches: video (b*repeats, T, H, W, 3) uint8, repeats of a video
      clip.repeat_distance places apart; label (b*repeats,) int32 or (b*repeats, K) float32; valid
      (b*repeats,) ones; video_id, epoch (b*repeats,) int32. With augment.device_frame_size (h, w),
      video is (b*repeats, T, h, w, 3); window, mirror and, if used, color, frame_size, ops, values,
      erased and noise are the augmentation that is left for the accelerator, see types.Batch.

  Raises:
    ValueError: if hosts do not divide `batch`, or repeat_distance a host's share; from the
      iterator, where a record cannot be read.
  """
  rows, n = _share(batch, hosts), split.num_clips
  if rows % clip.repeat_distance:
    raise ValueError(
      f'config.clip.repeat_distance is {clip.repeat_distance}, which does not divide the {rows} '
      'videos a step that a host has: choose a divisor, or another config.data.batch_size'
    )
  maker = TrainClips(split, spec.flip, clip, augment, seed)

  def tasks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for step in itertools.count(start_step):
      place = step * batch + host * rows + np.arange(rows)
      epoch = place // n
      yield split.rows[shuffled(place % n, seed, epoch, n)], epoch

  count = _workers(maker, rows) if workers is None else workers
  logging.info(
    'input: %d worker processes on this host (config.data.workers is %s), %d usable cores',
    count, 'open' if workers is None else workers, workers_lib.usable_cores(),
  )  # fmt: skip
  made = workers_lib.batches(maker, tasks(), rows=rows, workers=count)
  return _repeated(made, tasks(), clip.num_repeats, clip.repeat_distance)


def _repeated(made: Iterator, tasks: Iterator, repeats: int, distance: int) -> Iterator[Any]:
  """Yields training batches: the repeats of a video become clips of their own, `distance` places
  apart."""

  def clips(x: np.ndarray) -> np.ndarray:  # (videos, repeats, ...)
    if distance > 1:  # (blocks, repeats, videos of a block, ...)
      x = x.reshape(-1, distance, *x.shape[1:]).swapaxes(1, 2)
      return x.reshape(-1, *x.shape[3:])
    return x.reshape(-1, *x.shape[2:])

  each = lambda x: clips(np.repeat(x[:, None], repeats, axis=1))
  for value, (records, epochs) in zip(made, tasks):
    label = each(value.pop('label'))
    yield {
      **{name: clips(x) for name, x in value.items()},
      'label': label,
      'valid': np.ones(len(label), np.float32),
      'video_id': each(records.astype(np.int32)),
      'epoch': each(epochs.astype(np.int32)),
    }


def eval_batches(
  split: Split,
  spec: DatasetSpec,
  clip: ViewsConfig,
  *,
  batch: int,
  host: int,
  hosts: int,
  size: tuple[int, int] | None = None,
  workers: int | None = None,
) -> Iterator[Any]:
  """Returns every clip once, in record order: this host's share of `batch` videos a step, equally
  many steps on every host.

  Rows that only fill the last batch have valid 0 and video_id -1.

  Args:
    split: records.
    spec: facts of the dataset.
    clip: views.
    batch: videos a step, of all hosts.
    host: number of this host.
    hosts: number of hosts.
    size: (height, width) to scale frames to, instead of clip.short_side.
    workers: processes that make views, 0 = this one, None = by cores and recipe.

  Returns:
    Iterator of batches: video (b, V, T, H, W, 3) uint8, view v = crop * clips + clip; label, valid,
      video_id (b,).
  """
  rows, n = _share(batch, hosts), split.num_clips
  full = clip.crop_size == FULL_FRAME
  maker = EvalClips(split, whole_frame(split, clip, size) if full else clip, size, full)
  places = [
    np.arange(start, min(start + rows, n)) for start in range(host * rows, n + batch - 1, batch)
  ][: -(-n // batch)]
  tasks = ((split.rows[p], np.zeros(len(p), np.int64)) for p in places if len(p))
  rows_used = min(rows, n)
  count = _workers(maker, rows_used) if workers is None else workers
  made = workers_lib.batches(maker, tasks, rows=rows_used, workers=count)
  nothing = {name: np.zeros((0, *shape), kind) for name, (kind, shape) in maker.arrays.items()}
  return (_padded(next(made) if len(p) else dict(nothing), split.rows[p], rows) for p in places)


def _padded(value: dict[str, np.ndarray], records: np.ndarray, rows: int) -> dict[str, np.ndarray]:
  """Returns the batch padded to `rows`: zeros, with valid 0 and video_id -1."""
  missing = rows - len(records)
  pad = lambda a, fill: (
    np.concatenate([a, np.full((missing, *a.shape[1:]), fill, a.dtype)]) if missing else a
  )
  return {
    'video': pad(value['video'], 0),
    'label': pad(value['label'], 0),
    'video_id': pad(records.astype(np.int32), -1),
    'valid': np.repeat(np.array([1, 0], np.float32), [rows - missing, missing]),
  }


def as_tf_dataset(make: Callable[[], Iterator[Any]]) -> Any:
  """Returns the batches of an iterator as a tf.data.Dataset, bit for bit, to compose with DMVR,
  Scenic and other code of TensorFlow.

  make: returns the iterator, such as `lambda: train_batches(...)`; called once here for the shapes,
  and once for every pass over the dataset.
  """
  import tensorflow as tf

  first = next(make())
  signature = {
    name: tf.TensorSpec(array.shape, tf.as_dtype(array.dtype)) for name, array in first.items()
  }
  return tf.data.Dataset.from_generator(make, output_signature=signature)


def _workers(maker: TrainClips | EvalClips, rows: int) -> int:
  """Returns the number of workers for batches of so many records: one for every core but that of
  this process, none where a batch is made in no time."""
  try:
    frames = maker.read(int(maker.split.rows[0]), 0)
  except (ValueError, OSError):  # the batch with this record reports it
    return max(1, min(workers_lib.usable_cores() - 1, rows))
  if rows * frames.pixels / _PIXELS_PER_S < _SHORT_S:
    return 0
  return max(1, min(workers_lib.usable_cores() - 1, rows))


def _share(batch: int, hosts: int) -> int:
  if batch % hosts:
    raise ValueError(
      f'{batch} videos a batch cannot be shared by {hosts} hosts: make config.data.batch_size, or '
      f'config.evals.NAME.batch_size, a multiple of {hosts}'
    )
  return batch // hosts
