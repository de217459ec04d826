"""From records to batches: parse, choose frames, decode only those, crop, batch (tf.data, uint8, on the host's CPU).

Order and every random choice are functions of (seed, epoch, place in the epoch): not of workers, hosts, timing or restarts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np

from vjax.data import augment as augments
from vjax.data import records, sample, sources, wire
from vjax.data.augment import Augment, Plan
from vjax.data.sources import Source
from vjax.types import ClipSpec, DatasetSpec


def train_batches(
  source: Source,
  spec: DatasetSpec,
  clip: ClipSpec,
  augment: Augment,
  *,
  batch: int,
  seed: int,
  start_step: int,
  host: int,
  hosts: int,
) -> Iterator[dict[str, np.ndarray]]:
  """Endless batches of this host's share of `batch` videos a step, from start_step on.

  video (b*repeats, T, H, W, 3) uint8, repeats of a video adjacent; label (b*repeats,) int32 or (b*repeats, K) float32;
  mask (b*repeats,) ones; video_id, epoch (b*repeats,) int32. With augment.canvas, video is (b*repeats, T, *canvas, 3)
  and window (b*repeats, 2), mirror (b*repeats,) and, if used, colour (b*repeats, 3) say what is left to do. Row r of step s
  is place s*batch + r of a walk through the epochs, each a permutation of all clips, so a batch may lie across two. Raises
  ValueError if hosts do not divide `batch`.
  """
  tf = _tensorflow()
  k, n, many = _share(batch, hosts), source.num_clips, spec.labels == 'many'
  place = lambda i: (i // k) * batch + host * k + i % k
  at = lambda p: _shuffled(tf, p % n, seed, p // n, n)
  draw = _train_reader(source, spec, clip, augment, seed)
  r, ops = clip.repeats, augment.randaug
  on_device = augment.canvas is not None
  cut = r == 1 and not ops and not source.images  # a lone window is cut while decoding
  outputs = [(tf.string, [None]), (tf.int32, [r, clip.frames]), (tf.int32, [4]), _label_type(tf, source, spec)]
  outputs += [(tf.int32, [r, 4]), (tf.bool, [r]), (tf.float32, [r, 3]), (tf.int32, [r, ops])]
  outputs += [(tf.float32, [r, ops]), (tf.int32, [r, 4]), (tf.int32, [r, 2])]  # a Plan

  def item(i):
    p = place(i)
    row = tf.gather(source.rows, at(p))
    jpegs, order, box, label, *plans = _call(tf, draw, [row, p // n], outputs)
    frames = _decode(tf, jpegs, box, source.images, [clip.crop, clip.crop] if cut and not on_device else None)
    plans = [Plan(*(a[j] for a in plans)) for j in range(r)]
    ordered = [_ordered(tf, frames, order[j]) for j in range(r)]
    common = {'label': label, 'video_id': row, 'epoch': p // n}
    if on_device:
      placed, windows = zip(
        *(augments.place(f, plan, augment, clip.crop, cut=cut) for f, plan in zip(ordered, plans))
      )
      todo = {'window': tf.stack(windows), 'mirror': tf.stack([q.mirror for q in plans])}
      todo |= {'colour': tf.stack([q.colour for q in plans])} if any(augment.colour) else {}
      return {'video': _stack(tf, placed), **todo, **common}
    clips = [augments.render(f, plan, augment, clip.crop, cut=cut) for f, plan in zip(ordered, plans)]
    return {'video': _stack(tf, clips), **common}

  data = tf.data.Dataset.range(start_step * k, np.iinfo(np.int64).max)
  row_of = lambda i: source.rows[int(at(tf.constant(place(i), tf.int64)))]
  for value in _readable(tf, _batched(tf, data, item, k), source, row_of, k, start_step):
    label, video_id, epoch = (np.repeat(value.pop(name), r, axis=0) for name in ('label', 'video_id', 'epoch'))
    yield {
      **{name: x.reshape(-1, *x.shape[2:]) for name, x in value.items()},
      'label': label.astype(np.float32 if many else np.int32),
      'mask': np.ones(len(label), np.float32),
      'video_id': video_id.astype(np.int32),
      'epoch': epoch.astype(np.int32),
    }


def eval_batches(
  source: Source,
  spec: DatasetSpec,
  clip: ClipSpec,
  *,
  batch: int,
  host: int,
  hosts: int,
  size: tuple[int, int] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
  """Every clip once, in record order: this host's share of `batch` videos a step, equally many steps on every host.

  video (b, V, T, H, W, 3) uint8, view v = crop * clips + clip; label, mask, video_id (b,). Rows that only fill the last
  batch have mask 0 and video_id -1. size: (height, width) to scale frames to, instead of clip.short_side.
  """
  tf = _tensorflow()
  k, n, many = _share(batch, hosts), source.num_clips, spec.labels == 'many'
  real = (n // batch) * k + min(max(n % batch - host * k, 0), k)  # places of this host that hold a clip
  place = lambda i: (i // k) * batch + host * k + i % k
  draw = _eval_reader(source, spec, clip, size)
  outputs = [(tf.string, [None]), (tf.int32, [clip.clips, clip.frames]), (tf.int32, [4])]
  outputs += [_label_type(tf, source, spec), (tf.int32, [2]), (tf.int32, [clip.crops, 2])]
  shape = [clip.crops * clip.clips, clip.frames, clip.crop, clip.crop, 3]

  def item(i):
    row = tf.gather(source.rows, place(i))
    jpegs, order, box, label, scaled, offsets = _call(tf, draw, [row], outputs)
    frames = _decode(tf, jpegs, box, source.images, scaled)
    views = []
    for y, x in map(tf.unstack, tf.unstack(offsets)):
      views.append(tf.gather(frames[:, y : y + clip.crop, x : x + clip.crop], order))
    return {'video': tf.ensure_shape(tf.concat(views, 0), shape), 'label': label, 'video_id': row}

  data = _batched(tf, tf.data.Dataset.range(real), item, k)
  batches = _readable(tf, data, source, lambda i: source.rows[place(i) % n], k, 0)
  nothing = {'video': np.zeros((0, *shape), np.uint8), 'video_id': np.zeros(0)}
  nothing['label'] = np.zeros((0, len(source.classes))[: 1 + many])
  for _ in range(-(-n // batch)):
    yield _padded(next(batches, nothing), k, np.float32 if many else np.int32)


def _padded(value: dict[str, np.ndarray], rows: int, label: type) -> dict[str, np.ndarray]:
  """The batch with zeros, mask 0 and video_id -1 up to `rows`."""
  missing = rows - len(value['video_id'])
  pad = lambda a, fill: np.concatenate([a, np.full((missing, *a.shape[1:]), fill, a.dtype)]) if missing else a
  return {
    'video': pad(value['video'], 0),
    'label': pad(value['label'], 0).astype(label),
    'video_id': pad(value['video_id'], -1).astype(np.int32),
    'mask': np.repeat(np.float32([1, 0]), [rows - missing, missing]),
  }


def _train_reader(source: Source, spec: DatasetSpec, clip: ClipSpec, augment: Augment, seed: int) -> Callable:
  """A function (record, epoch) -> JPEGs needed (U,), frame order (repeats, T) in them, box to decode, label, plans."""
  rule = sample.rule(clip.sampling).train

  def draw(row, epoch):
    payload, context, spans, rate = sources.read(source, row)
    orders, plans = [], []
    for repeat in range(clip.repeats):
      time = repeat if augment.repeat_window == 'new' else 0
      rng = np.random.default_rng([seed, int(epoch), int(row), time])
      orders.append(rule(rng, len(spans), clip, rate))
    jpegs, order = _needed(payload, spans, np.stack(orders))
    height, width = sources.size(source, row, jpegs)
    for repeat in range(clip.repeats):
      rng = np.random.default_rng([seed, int(epoch), int(row), repeat, 1])
      plans.append(augments.draw(rng, augment, clip, height, width, spec.flip))
    windows = np.stack([p.window for p in plans])
    box = np.int32([0, 0, height, width])
    if not augment.randaug and not source.images:  # what no window shows need not be decoded
      box[:2] = windows[:, :2].min(0)
      box[2:] = (windows[:, :2] + windows[:, 2:]).max(0) - box[:2]
    windows[:, :2] -= box[:2]
    plan = Plan(windows, *(np.stack(a) for a in list(zip(*plans))[1:]))
    return jpegs, order, box, _label(source, spec, row, context), *plan

  return draw


def _eval_reader(source: Source, spec: DatasetSpec, clip: ClipSpec, size: tuple[int, int] | None) -> Callable:
  """A function record -> JPEGs needed (U,), frame order (clips, T), box, label, scaled size, crop offsets (crops, 2)."""
  rule = sample.rule(clip.sampling).test

  def draw(row):
    payload, context, spans, rate = sources.read(source, row)
    orders = np.stack([rule(len(spans), clip, view, rate) for view in range(clip.clips)])
    jpegs, order = _needed(payload, spans, orders)
    height, width = sources.size(source, row, jpegs)
    scaled, offsets = augments.test_crops(clip, height, width, size)
    box = np.int32([0, 0, height, width])
    return jpegs, order, box, _label(source, spec, row, context), np.int32(scaled), np.int32(offsets)

  return draw


def _needed(payload, spans: list, orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The distinct frames among `orders`, encoded, and the orders as positions among them."""
  unique, order = np.unique(orders, return_inverse=True)
  jpegs = [spans[u] if isinstance(spans[u], bytes) else wire.frame(payload, spans[u]) for u in unique]
  return np.array(jpegs, dtype=object), order.reshape(orders.shape).astype(np.int32)


def _label(source: Source, spec: DatasetSpec, row: int, context: dict[str, list]) -> np.ndarray:
  if spec.labels == 'one':
    return np.float32(source.index.label[row])
  view = source.index.view
  hot = np.zeros(len(source.classes), np.float32)
  hot[records.label_views(context).get(view, [])] = 1
  return hot


def _tensorflow():
  import tensorflow as tf

  tf.config.set_visible_devices([], 'GPU')  # the accelerator is JAX's
  return tf


def _share(batch: int, hosts: int) -> int:
  if batch % hosts:
    raise ValueError(f'batch={batch} videos cannot be shared by {hosts} hosts: make it a multiple of {hosts}')
  return batch // hosts


def _shuffled(tf, place, seed: int, epoch, n: int):
  """Where the clip at `place` of an epoch stands among n clips; a permutation of each epoch's places."""
  key = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
  return tf.random.experimental.index_shuffle(place, key, tf.constant(n - 1, tf.int64))


def _label_type(tf, source: Source, spec: DatasetSpec):
  return tf.float32, [len(source.classes)] if spec.labels == 'many' else []


def _call(tf, function: Callable, inputs: list, outputs: list) -> list:
  """Tensors that a numpy function returns; outputs: the (type, shape) of each."""
  tensors = tf.numpy_function(function, inputs, [kind for kind, _ in outputs], stateful=False)
  return [tf.ensure_shape(t, shape) for t, (_, shape) in zip(tensors, outputs)]


def _decode(tf, jpegs, box, images: bool, size=None):
  """Frames (U, h, w, 3) uint8: the box of each, resized to `size` (height, width) if given. One after the other, since
  clips are made side by side, and each while it is in the cache."""

  def frame(data):
    if images:
      pixels = tf.io.decode_image(data, channels=3, expand_animations=False)
    else:
      pixels = tf.image.decode_and_crop_jpeg(data, box, channels=3)
    return pixels if size is None else augments.resize(pixels[None], size[0], size[1])[0]

  return tf.map_fn(frame, jpegs, parallel_iterations=1, fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8))


def _stack(tf, clips):
  return tf.stack(clips) if len(clips) > 1 else clips[0][None]


def _ordered(tf, frames, order):
  """Frames in the order given; a copy only if that is another than theirs."""
  count = tf.shape(frames)[0]
  as_is = tf.logical_and(tf.equal(count, tf.size(order)), tf.reduce_all(order[1:] > order[:-1]))
  return tf.cond(as_is, lambda: frames, lambda: tf.gather(frames, order))


def _batched(tf, places, item: Callable, rows: int):
  """Batches of item(place), ahead of their use, in a thread pool of their own so that JAX's threads are left alone."""
  options = tf.data.Options()
  options.deterministic = True
  options.threading.private_threadpool_size = max(2, os.cpu_count() or 1)
  options.threading.max_intra_op_parallelism = 1
  data = places.map(tf.autograph.experimental.do_not_convert(item), tf.data.AUTOTUNE, deterministic=True)
  return data.batch(rows).prefetch(2).with_options(options)


def _readable(tf, data, source: Source, row_of: Callable, rows: int, step: int) -> Iterator[dict[str, np.ndarray]]:
  """The data set's batches as numpy; a failure inside tf.data becomes a ValueError that names the record."""
  batches = data.as_numpy_iterator()
  while True:
    try:
      value = next(batches)
    except StopIteration:
      return
    except tf.errors.OpError as e:
      for i in range(step * rows, (step + 1) * rows):
        sources.check(source, row_of(i))
      raise ValueError(f'batch {step} of {source.name} failed, though its records decode: {e.message}') from e
    yield dict(value)
    step += 1


def test_views(frames: np.ndarray, rate: float, clip: ClipSpec, size: tuple[int, int] | None = None) -> np.ndarray:
  """Test views (V, T, crop, crop, 3) uint8 of a decoded video (N, H, W, 3), as eval_batches makes them from records.
  rate: frames per second, 0 = unknown."""
  rule = sample.rule(clip.sampling).test
  orders = [rule(len(frames), clip, view, rate) for view in range(clip.clips)]
  (height, width), offsets = augments.test_crops(clip, *frames.shape[1:3], size)
  _tensorflow()
  scaled = augments.resize(frames, height, width).numpy()
  return np.stack([scaled[o][:, y : y + clip.crop, x : x + clip.crop] for y, x in offsets for o in orders])
