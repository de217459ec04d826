"""Input pipeline, from records to batches: chooses frames, reads and decodes only these, crops,
makes batches (tf.data, uint8, on the host's CPU).

Order and every random choice are functions of (seed, epoch, place in the epoch), and do not depend
on workers, hosts, timing or restarts.
"""

from __future__ import annotations

import atexit
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from vjax.config import FULL_FRAME, AugmentConfig, ClipConfig, ViewsConfig
from vjax.data import augment as augments
from vjax.data import image, sampling
from vjax.data.split import Record, Split
from vjax.types import DatasetSpec


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
) -> Iterator[Any]:
  """Yields batches without end: this host's share of `batch` videos a step, from start_step on.

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

  Yields:
    video (b*repeats, T, H, W, 3) uint8, repeats of a video adjacent; label (b*repeats,) int32 or
      (b*repeats, K) float32; valid (b*repeats,) ones; video_id, epoch (b*repeats,) int32. With
      augment.device_frame_size (h, w), video is (b*repeats, T, h, w, 3); window (b*repeats, 4),
      mirror (b*repeats,) and, if used, color, frame_size, ops, values, erased and noise are the
      augmentation that is left for the accelerator, see types.Batch.

  Raises:
    ValueError: if hosts do not divide `batch`.
  """
  tf = _tensorflow()
  k, n, many = _share(batch, hosts), split.num_clips, split.labels == 'multi_label'
  place = lambda i: (i // k) * batch + host * k + i % k
  at = lambda p: _shuffled(tf, p % n, seed, p // n, n)
  r, canvas = clip.num_repeats, augment.device_frame_size
  frame = list(canvas or (clip.crop_size, clip.crop_size))
  outputs = {'video': (tf.uint8, [r, clip.num_frames, *frame, 3]), 'label': _label_type(tf, split)}
  for name, (kind, shape) in augments.device_fields(augment).items():
    outputs[name] = (tf.as_dtype(kind), [r, *shape])
  make = _train_maker(split, spec, clip, augment, seed)

  def item(i):
    p = place(i)
    row = tf.gather(split.rows, at(p))
    return {**_call(tf, make, [row, p // n], outputs), 'video_id': row, 'epoch': p // n}

  data = tf.data.Dataset.range(start_step * k, np.iinfo(np.int64).max)
  row_of = lambda i: split.rows[int(at(tf.constant(place(i), tf.int64)))]
  for value in _readable(tf, _batched(tf, data, item, k), split, row_of, k, start_step):
    label, video_id, epoch = (
      np.repeat(value.pop(name), r, axis=0) for name in ('label', 'video_id', 'epoch')
    )
    yield {
      **{name: x.reshape(-1, *x.shape[2:]) for name, x in value.items()},
      'label': label.astype(np.float32 if many else np.int32),
      'valid': np.ones(len(label), np.float32),
      'video_id': video_id.astype(np.int32),
      'epoch': epoch.astype(np.int32),
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
) -> Iterator[Any]:
  """Yields every clip once, in record order: this host's share of `batch` videos a step, equally
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

  Yields:
    video (b, V, T, H, W, 3) uint8, view v = crop * clips + clip; label, valid, video_id (b,).
  """
  tf = _tensorflow()
  k, n, many = _share(batch, hosts), split.num_clips, split.labels == 'multi_label'
  real = (n // batch) * k + min(
    max(n % batch - host * k, 0), k
  )  # places of this host that hold a clip
  place = lambda i: (i // k) * batch + host * k + i % k
  full = clip.crop_size == FULL_FRAME
  clip = _whole(split, clip, size) if full else clip
  shape = [clip.num_crops * clip.num_clips, clip.num_frames, *clip.crop, 3]
  outputs = {'video': (tf.uint8, shape), 'label': _label_type(tf, split)}
  make = _eval_maker(split, spec, clip, size, full)

  def item(i):
    row = tf.gather(split.rows, place(i))
    return {**_call(tf, make, [row], outputs), 'video_id': row}

  data = _batched(tf, tf.data.Dataset.range(real), item, k)
  batches = _readable(tf, data, split, lambda i: split.rows[place(i) % n], k, 0)
  nothing = {'video': np.zeros((0, *shape), np.uint8), 'video_id': np.zeros(0)}
  nothing['label'] = np.zeros((0, len(split.classes))[: 1 + many])
  for _ in range(-(-n // batch)):
    yield _padded(next(batches, nothing), k, np.float32 if many else np.int32)


def _whole(split: Split, clip: ViewsConfig, size: tuple[int, int] | None) -> ViewsConfig:
  """Returns the clip settings with the scaled frame of the first record as the crop."""
  row = int(split.rows[0])
  height, width = split.frame_size(row, [split.read(row).frame(0)])
  return replace(clip, crop_size=augments.test_size(clip, height, width, size))


def _padded(value: dict[str, np.ndarray], rows: int, label: type) -> dict[str, np.ndarray]:
  """Returns the batch padded to `rows`: zeros, with valid 0 and video_id -1."""
  missing = rows - len(value['video_id'])
  pad = lambda a, fill: (
    np.concatenate([a, np.full((missing, *a.shape[1:]), fill, a.dtype)]) if missing else a
  )
  return {
    'video': pad(value['video'], 0),
    'label': pad(value['label'], 0).astype(label),
    'video_id': pad(value['video_id'], -1).astype(np.int32),
    'valid': np.repeat(np.array([1, 0], np.float32), [rows - missing, missing]),
  }


def _train_maker(
  split: Split, spec: DatasetSpec, clip: ClipConfig, augment: AugmentConfig, seed: int
) -> Callable:
  """Returns a function (record, epoch) -> video (repeats, T, h, w, 3) and label. With a canvas the
  function returns the values of augment.device_fields too."""
  rule = sampling.rule(clip.sampling).train
  height, width = augment.device_frame_size or (clip.crop_size, clip.crop_size)

  def make(row, epoch):
    record = split.read(row)
    rate = record.frame_rate
    orders, plans = [], []
    for repeat in range(clip.num_repeats):
      time = repeat if augment.repeat_window == 'new' else 0
      rng = np.random.default_rng([seed, int(epoch), int(row), time])
      orders.append(rule(rng, record.num_frames, clip, rate))
    frames = _Frames(split, row, record, np.stack(orders))
    for repeat in range(clip.num_repeats):
      rng = np.random.default_rng([seed, int(epoch), int(row), repeat, 1])
      plans.append(augments.draw(rng, augment, clip, *frames.size, spec.flip))
    video = _aligned((clip.num_repeats, clip.num_frames, height, width, 3))
    windows = np.zeros((clip.num_repeats, 4), np.int32)
    for pixels, places in frames.decoded(video if augment.device_frame_size else None):
      for repeat, t in places:
        if augment.device_frame_size:
          windows[repeat] = augments.place(pixels, plans[repeat], clip.crop_size, video[repeat, t])
        else:
          augments.render(pixels, plans[repeat], augment, t, video[repeat, t])
    todo = augments.device_values(augment, plans, windows, frames.size)
    return video, _label(split, row, record), *todo.values()

  return make


def _eval_maker(
  split: Split, spec: DatasetSpec, clip: ViewsConfig, size: tuple[int, int] | None, full: bool
) -> Callable:
  """Returns a function record -> views (crops * clips, T, height, width, 3) and label.

  full: raises ValueError for a record whose scaled frames are of another size than the crop.
  """
  rule = sampling.rule(clip.sampling).test

  def make(row):
    record = split.read(row)
    rate = record.frame_rate
    orders = np.stack([rule(record.num_frames, clip, view, rate) for view in range(clip.num_clips)])
    frames = _Frames(split, row, record, orders)
    if full and augments.test_size(clip, *frames.size, size) != clip.crop:
      raise ValueError(
        f'{split.index.where(row)}: crop_size={FULL_FRAME!r} needs videos of one shape, but '
        f'frames of {frames.size} do not scale to {clip.crop} (height, width) like those of the '
        'first video: give crop_size in pixels'
      )
    return _views(frames.decoded(), frames.size, clip, size), _label(split, row, record)

  return make


def _views(
  frames: Iterable, full: tuple[int, int], clip: ViewsConfig, size: tuple[int, int] | None
) -> np.ndarray:
  """Returns views (crops * clips, T, height, width, 3) of frames of the size `full` (height,
  width).

  frames: pairs of pixels and their places [(clip, t), ...] in the views.
  """
  scaled, offsets = augments.test_crops(clip, *full, size)
  height, width = clip.crop
  video = _aligned((clip.num_crops, clip.num_clips, clip.num_frames, height, width, 3))
  for pixels, places in frames:
    pixels = augments.resize(pixels, *scaled)
    for crop, (y, x) in enumerate(offsets):
      for view, t in places:
        video[crop, view, t] = pixels[y : y + height, x : x + width]
  return video.reshape(-1, *video.shape[2:])


class _Frames:
  """The distinct frames of a record among the frame indices `orders` (clips, T)."""

  def __init__(self, split: Split, row: int, record: Record, orders: np.ndarray):
    self._orders, self._needed = orders, np.unique(orders)
    self._jpegs = [record.frame(int(t)) for t in self._needed]
    self._whole = lambda: split.frame_size(row, self._jpegs)
    self.size = split.frame_size(row, self._jpegs[:1])

  def decoded(
    self, video: np.ndarray | None = None
  ) -> Iterator[tuple[np.ndarray, list[tuple[int, int]]]]:
    """Yields pairs of a frame's pixels and its places [(clip, t), ...].

    The pixels are valid until the next step, which overwrites the same memory. If `video` has
    frames of their size, they are decoded into the first place in `video` instead.
    """
    shape = (*self.size, 3)
    memory = np.empty(shape, np.uint8)
    direct = video is not None and video.shape[2:] == shape
    for t, jpeg in zip(self._needed, self._jpegs):
      places = list(zip(*np.nonzero(self._orders == t)))
      pixels = image.decode(jpeg, video[places[0]] if direct else memory)
      if pixels.shape != shape:
        self._whole()  # its error names the sizes
      yield pixels, places


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
  """Returns an array of uint8 that TensorFlow uses without a copy, since it begins at a multiple of
  64 bytes."""
  count = math.prod(shape)
  memory = np.empty(count + 64, np.uint8)
  start = -memory.ctypes.data % 64
  return memory[start : start + count].reshape(shape)


def _label(split: Split, row: int, record: Record) -> np.ndarray:
  if split.labels == 'single_label':
    return np.float32(split.index.label[row])
  hot = np.zeros(len(split.classes), np.float32)
  hot[split.labels_of(record)] = 1
  return hot


def _tensorflow():
  import tensorflow as tf

  tf.config.set_visible_devices([], 'GPU')  # the accelerator is JAX's
  return tf


def _share(batch: int, hosts: int) -> int:
  if batch % hosts:
    raise ValueError(
      f'batch={batch} videos cannot be shared by {hosts} hosts: make it a multiple of {hosts}'
    )
  return batch // hosts


def _shuffled(tf, place, seed: int, epoch, n: int):
  """Returns the number, among n clips, of the clip at `place` of an epoch. Each epoch is a
  permutation."""
  key = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
  return tf.random.experimental.index_shuffle(place, key, tf.constant(n - 1, tf.int64))


def _label_type(tf, split: Split):
  return tf.float32, [len(split.classes)] if split.labels == 'multi_label' else []


def _call(tf, function: Callable, inputs: list, outputs: dict) -> dict:
  """Returns tensors by name from a numpy function, which returns these in this order. outputs: name
  -> (type, shape)."""
  tensors = tf.numpy_function(
    function, inputs, [kind for kind, _ in outputs.values()], stateful=False
  )
  return {
    name: tf.ensure_shape(t, shape) for t, (name, (_, shape)) in zip(tensors, outputs.items())
  }


def _batched(tf, places, item: Callable, rows: int):
  """Returns the dataset of batches of item(place), computed ahead in a thread pool of its own,
  apart from JAX's threads."""
  options = tf.data.Options()
  options.deterministic = True
  options.threading.private_threadpool_size = max(2, os.cpu_count() or 1)
  options.threading.max_intra_op_parallelism = 1
  data = places.map(
    tf.autograph.experimental.do_not_convert(item), tf.data.AUTOTUNE, deterministic=True
  )
  return data.batch(rows).prefetch(2).with_options(options)


def _readable(
  tf, data, split: Split, row_of: Callable, rows: int, step: int
) -> Iterator[dict[str, np.ndarray]]:
  """Yields the dataset's batches as numpy arrays. A failure inside tf.data becomes a ValueError
  that names the record."""
  alive = [data.as_numpy_iterator()]
  # An iterator that still exists when Python shuts down would deadlock with its threads.
  atexit.register(alive.clear)
  try:
    while alive:
      try:
        value = next(alive[0])
      except StopIteration:
        return
      except tf.errors.OpError as e:
        for i in range(step * rows, (step + 1) * rows):
          split.check(row_of(i))
        raise ValueError(
          f'batch {step} of {split.name} failed, though its records decode: {e.message}'
        ) from e
      yield dict(value)
      step += 1
  finally:
    atexit.unregister(alive.clear)
    alive.clear()


def test_orders(count: int, rate: float, clip: ViewsConfig) -> np.ndarray:
  """Returns the frame indices (num_clips, T) of the test clips of a video of `count` frames. rate:
  frames per second, 0 = unknown."""
  rule = sampling.rule(clip.sampling).test
  return np.stack([rule(count, clip, view, rate) for view in range(clip.num_clips)])


def test_views(
  frames: Iterable[np.ndarray],
  orders: np.ndarray,
  clip: ViewsConfig,
  size: tuple[int, int] | None = None,
) -> np.ndarray:
  """Returns test views (V, T, height, width, 3) uint8 of a video, as eval_batches makes them.

  Args:
    frames: (H, W, 3) uint8, those of np.unique(orders) in this order; none is kept.
    orders: of `test_orders`.
    clip: views.
    size: (height, width) to scale frames to, None = by clip.short_side.
  """
  frames = iter(frames)
  first = next(frames)
  if clip.crop_size == FULL_FRAME:
    clip = replace(clip, crop_size=augments.test_size(clip, *first.shape[:2], size))
  places = (list(zip(*np.nonzero(orders == t))) for t in np.unique(orders))
  pairs = zip(itertools.chain([first], frames), places, strict=True)
  return _views(pairs, first.shape[:2], clip, size)
