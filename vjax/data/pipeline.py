"""Input pipeline, from records to batches: order, hosts, batches. Clips are made by `clips.py`, in
the processes of `workers.py`.

Order and every random choice are functions of (seed, epoch, place in the epoch), and do not depend
on workers, hosts, timing or restarts.
"""

from __future__ import annotations

import itertools
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vjax.config import FULL_FRAME, AugmentConfig, ClipConfig, ViewsConfig
from vjax.data import workers as workers_lib
from vjax.data.clips import EvalClips, JointClips, TrainClips, whole_frame
from vjax.data.order import shuffled
from vjax.data.specs import DatasetSpec
from vjax.data.split import Split

Tasks = Iterator[tuple[np.ndarray, np.ndarray]]  # (records, epochs) of this host's rows of a batch

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
  _check_distance(clip, rows)
  maker = TrainClips(split, spec.flip, clip, augment, seed)

  def tasks() -> Tasks:
    for step in itertools.count(start_step):
      place = step * batch + host * rows + np.arange(rows)
      epoch = place // n
      yield split.rows[shuffled(place % n, seed, epoch, n)], epoch

  return _repeated(_made(maker, tasks, rows, workers), tasks(), clip)


def joint_batches(
  datasets: Mapping[str, tuple[Split, DatasetSpec, ClipConfig, AugmentConfig]],
  shares: Sequence[float] | None = None,
  *,
  batch: int,
  seed: int,
  start_step: int,
  host: int,
  hosts: int,
  workers: int | None = None,
) -> Iterator[Any]:
  """Returns batches of several datasets without end, see train_batches.

  Without shares, an epoch is a permutation of the clips of all datasets. With shares, every batch
  has the same number of videos of each dataset, in the order of the datasets, and each dataset has
  epochs of its own.

  Args:
    datasets: (records, facts, sampling, augmentation) by alias. A dataset's clips depend on its
      alias, not on the others.
    shares: of a batch, relative to each other.
    batch, seed, start_step, host, hosts, workers: see train_batches.

  Returns:
    Iterator of batches, see train_batches; with dataset (b*repeats,) int32, its number; label of
      that dataset; video_id counts the records of one dataset after another; epoch of that dataset
      where there are shares.

  Raises:
    ValueError: where a dataset has no video in a batch by its share; see train_batches.
  """
  rows, seeds = _share(batch, hosts), [_seed_of(seed, alias) for alias in datasets]
  maker = JointClips(
    tuple(
      TrainClips(split, spec.flip, clip, augment, own)
      for (split, spec, clip, augment), own in zip(datasets.values(), seeds)
    )
  )
  used = [part.split.rows + start for part, start in zip(maker.parts, maker.starts)]
  counts = batch_counts(batch, list(datasets), shares) if shares else None

  def tasks() -> Tasks:
    everything = np.concatenate(used)
    for step in itertools.count(start_step):
      if counts is None:
        place = step * batch + host * rows + np.arange(rows)
        epoch = place // len(everything)
        order = shuffled(place % len(everything), seed, epoch, len(everything))
        yield everything[order], epoch
        continue
      records, epochs = [], []
      for mine, count, own in zip(used, counts, seeds):
        place = step * count + np.arange(count)
        epoch = place // len(mine)
        records.append(mine[shuffled(place % len(mine), own, epoch, len(mine))])
        epochs.append(epoch)
      here = slice(host * rows, (host + 1) * rows)
      yield np.concatenate(records)[here], np.concatenate(epochs)[here]

  clip = maker.parts[0].clip
  _check_distance(clip, rows)
  made = _repeated(_made(maker, tasks, rows, workers), tasks(), clip)
  number = lambda ids: np.searchsorted(maker.starts, ids, side='right').astype(np.int32) - 1
  return ({**batch, 'dataset': number(batch['video_id'])} for batch in made)


def _seed_of(seed: int, alias: str) -> int:
  """Returns the seed of a dataset among several: records of two datasets with one number draw
  differently."""
  return int(np.random.SeedSequence([seed, zlib.crc32(alias.encode())]).generate_state(1)[0])


def batch_counts(batch: int, names: Sequence[str], shares: Sequence[float]) -> list[int]:
  """Returns how many of `batch` videos each dataset has: the whole numbers nearest to the shares,
  the rest to the largest remainders."""
  exact = np.array(shares, np.float64) / sum(shares) * batch
  counts = np.floor(exact).astype(int)
  rest = np.argsort(counts - exact, kind='stable')[: batch - counts.sum()]
  counts[rest] += 1
  if not counts.all():
    none = names[int(np.argmin(counts))]
    raise ValueError(
      f'config.datasets.{none}.share leaves it no video of a batch of {batch}: make '
      'config.data.batch_size larger, or its share'
    )
  return counts.tolist()


def _made(
  maker: TrainClips | JointClips, tasks: Callable[[], Tasks], rows: int, workers: int | None
) -> Iterator[Any]:
  """Returns the rows of batches that workers make, None = by cores and recipe."""
  count = _workers(maker, int(next(tasks())[0][0]), rows) if workers is None else workers
  logging.info(
    'input: %d worker processes on this host (config.data.workers is %s), %d usable cores',
    count, 'open' if workers is None else workers, workers_lib.usable_cores(),
  )  # fmt: skip
  return workers_lib.batches(maker, tasks(), rows=rows, workers=count)


def _check_distance(clip: ClipConfig, rows: int) -> None:
  """Raises ValueError where repeats cannot be so far apart among a host's videos."""
  if rows % clip.repeat_distance:
    raise ValueError(
      f'config.clip.repeat_distance is {clip.repeat_distance}, which does not divide the {rows} '
      'videos a step that a host has: choose a divisor, or another config.data.batch_size'
    )


def _repeated(made: Iterator, tasks: Tasks, clip: ClipConfig) -> Iterator[Any]:
  """Yields training batches: the repeats of a video become clips of their own,
  clip.repeat_distance places apart."""
  repeats, distance = clip.num_repeats, clip.repeat_distance

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
  first = int(split.rows[0])
  count = _workers(maker, first, rows_used) if workers is None else workers
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


def _workers(maker: TrainClips | JointClips | EvalClips, first: int, rows: int) -> int:
  """Returns the number of workers for batches of so many records like the `first`: one for every
  core but that of this process, none where a batch is made in no time."""
  try:
    frames = maker.read(first, 0)
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
