"""Clips of a record: chooses frames, reads and decodes only these, crops them (uint8, on the host's
CPU). Needs neither JAX nor TensorFlow.

Every random choice is a function of (seed, epoch, record, repeat).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from vjax import files
from vjax.config import FULL_FRAME, AugmentConfig, ClipConfig, ViewsConfig
from vjax.data import augment as augments
from vjax.data import image, sampling
from vjax.data.split import Record, Split

Arrays = dict[str, tuple[type, tuple[int, ...]]]  # type and shape by name


class Frames:
  """The distinct frames of a record among the frame indices `orders` (clips, T), encoded."""

  def __init__(self, split: Split, row: int, record: Record, orders: np.ndarray):
    self.record, self._places = record, _places(orders)
    self._jpegs = record.frames(list(self._places))
    self._whole = lambda: split.frame_size(row, self._jpegs)
    self.size = split.frame_size(row, self._jpegs[:1])

  @property
  def pixels(self) -> int:
    """Number of pixels that are decoded."""
    return len(self._jpegs) * self.size[0] * self.size[1]

  def decoded(
    self, video: np.ndarray | None = None, divisor: int = 1
  ) -> Iterator[tuple[np.ndarray, list[tuple[int, int]]]]:
    """Yields pairs of a frame's pixels, at 1/divisor of its size, and its places [(clip, t), ...].

    The pixels are valid until the next step, which overwrites the same memory. If `video` has
    frames of their size, they are decoded into the first place in `video` instead.
    """
    shape = (*image.scaled_size(*self.size, divisor), 3)
    memory = np.empty(shape, np.uint8)
    direct = video is not None and video.shape[2:] == shape
    for places, jpeg in zip(self._places.values(), self._jpegs):
      pixels = image.decode(jpeg, video[places[0]] if direct else memory, divisor)
      if pixels.shape != shape:
        self._whole()  # its error names the sizes
      yield pixels, places


class OfOneSplit:
  """Base of makers of rows of one split: says where records are; see workers.Maker."""

  split: Split

  @property
  def folder(self) -> str:
    """Folder of the records."""
    return self.split.index.folder

  @property
  def rebuild(self) -> str:
    """Command that makes the index again."""
    return self.split.index.rebuild

  def where(self, row: int) -> str:
    """Returns words for the place of a record."""
    return self.split.index.where(row)

  def check(self, row: int) -> None:
    """Reads a record and decodes all its frames, see Split.check."""
    self.split.check(row)


@dataclass(frozen=True)
class TrainClips(OfOneSplit):
  """The training clips of a record, `num_repeats` of them.

  Attributes:
    split: records.
    flip: whether a mirrored clip keeps its label.
    clip: sampling.
    augment: augmentation.
    seed: of sampling and augmentation.
  """

  split: Split
  flip: bool
  clip: ClipConfig
  augment: AugmentConfig
  seed: int

  @property
  def arrays(self) -> Arrays:
    """The arrays of one record: video (repeats, T, h, w, 3), label, and what is left for the
    accelerator."""
    repeats = self.clip.num_repeats
    frame = self.augment.device_frame_size or (self.clip.crop_size, self.clip.crop_size)
    video = np.uint8, (repeats, self.clip.num_frames, *frame, 3)
    arrays: Arrays = {'video': video, 'label': _label_array(self.split)}
    for name, (kind, shape) in augments.device_fields(self.augment).items():
      arrays[name] = kind, (repeats, *shape)
    return arrays

  def read(self, row: int, epoch: int) -> Frames:
    """Returns the frames that the clips of an epoch need, encoded."""
    rule = sampling.rule(self.clip.sampling).train
    record = self.split.read(row)
    orders = []
    for repeat in range(self.clip.num_repeats):
      time = repeat if self.augment.repeat_window == 'new' else 0
      rng = np.random.default_rng([self.seed, epoch, row, time])
      orders.append(rule(rng, record.num_frames, self.clip, record.frame_rate))
    return Frames(self.split, row, record, np.stack(orders))

  def render(self, frames: Frames, row: int, epoch: int, out: dict[str, np.ndarray]) -> None:
    """Writes the clips of these frames to the arrays `out`."""
    augment, video = self.augment, out['video']
    plans = []
    for repeat in range(self.clip.num_repeats):
      rng = np.random.default_rng([self.seed, epoch, row, repeat, 1])
      plans.append(augments.draw(rng, augment, self.clip, *frames.size, self.flip))
    plans, divisor = augments.reduce(augment, plans, self.clip.crop_size, *frames.size)
    canvas, crop = augment.device_frame_size, self.clip.crop_size
    windows = np.zeros((len(plans), 4), np.int32)
    for pixels, places in frames.decoded(video if canvas else None, divisor):
      for repeat, t in places:
        if canvas:
          quality = augment.resize_quality
          windows[repeat] = augments.place(pixels, plans[repeat], crop, video[repeat, t], quality)
        else:
          augments.render(pixels, plans[repeat], augment, t, video[repeat, t])
    size = image.scaled_size(*frames.size, divisor)
    for name, values in augments.device_values(augment, plans, windows, size).items():
      out[name][...] = values
    _write_label(self.split, row, frames.record, out['label'])


@dataclass(frozen=True)
class JointClips:
  """The training clips of several datasets, whose records are numbered one dataset after another.

  Attributes:
    parts: clips of the datasets, of one shape.
  """

  parts: tuple[TrainClips, ...]

  @property
  def arrays(self) -> Arrays:
    """The arrays of one record, see TrainClips."""
    return self.parts[0].arrays

  @property
  def folder(self) -> str:
    """A folder of records on an object store where there is one."""
    folders = [part.folder for part in self.parts]
    return next(filter(files.is_remote, folders), folders[0])

  @property
  def rebuild(self) -> str:
    """Commands that make the indexes again, for errors."""
    return ', '.join(dict.fromkeys(part.rebuild for part in self.parts))

  @functools.cached_property
  def starts(self) -> np.ndarray:
    """Number of the first record of each dataset."""
    return np.cumsum([0, *(len(part.split.index) for part in self.parts[:-1])])

  def of(self, row: int) -> tuple[TrainClips, int]:
    """Returns the clips of the record's dataset, and its number there."""
    number = int(np.searchsorted(self.starts, row, side='right')) - 1
    return self.parts[number], row - int(self.starts[number])

  def where(self, row: int) -> str:
    """Returns words for the place of a record."""
    part, row = self.of(row)
    return part.where(row)

  def check(self, row: int) -> None:
    """Reads a record and decodes all its frames, see Split.check."""
    part, row = self.of(row)
    part.check(row)

  def read(self, row: int, epoch: int) -> Frames:
    """Returns the frames that the clips of an epoch need, encoded."""
    part, row = self.of(row)
    return part.read(row, epoch)

  def render(self, frames: Frames, row: int, epoch: int, out: dict[str, np.ndarray]) -> None:
    """Writes the clips of these frames to the arrays `out`."""
    part, row = self.of(row)
    part.render(frames, row, epoch, out)


@dataclass(frozen=True)
class EvalClips(OfOneSplit):
  """The test views of a record.

  Attributes:
    split: records.
    clip: views.
    size: (height, width) to scale frames to, None = by clip.short_side.
    full: whether the crop is the whole scaled frame; another scaled size is an error then.
  """

  split: Split
  clip: ViewsConfig
  size: tuple[int, int] | None = None
  full: bool = False

  @property
  def arrays(self) -> Arrays:
    """The arrays of one record: video (views, T, h, w, 3), view v = crop * clips + clip; label."""
    clip = self.clip
    shape = (clip.num_crops * clip.num_clips, clip.num_frames, *clip.crop, 3)
    return {'video': (np.uint8, shape), 'label': _label_array(self.split)}

  def read(self, row: int, epoch: int = 0) -> Frames:
    """Returns the frames that the views need, encoded."""
    record = self.split.read(row)
    return Frames(
      self.split, row, record, test_orders(record.num_frames, record.frame_rate, self.clip)
    )

  def render(self, frames: Frames, row: int, epoch: int, out: dict[str, np.ndarray]) -> None:
    """Writes the views of these frames to the arrays `out`."""
    if self.full and augments.test_size(self.clip, *frames.size, self.size) != self.clip.crop:
      raise ValueError(
        f'{self.split.index.where(row)}: crop_size={FULL_FRAME!r} needs videos of one shape, but '
        f'frames of {frames.size} do not scale to {self.clip.crop} (height, width) like those of '
        'the first video: give crop_size in pixels'
      )
    divisor = augments.test_divisor(self.clip, *frames.size, self.size)
    _views(frames.decoded(divisor=divisor), frames.size, self.clip, self.size, out['video'])
    _write_label(self.split, row, frames.record, out['label'])


def whole_frame(split: Split, clip: ViewsConfig, size: tuple[int, int] | None) -> ViewsConfig:
  """Returns the clip settings with the scaled frame of the first record as the crop."""
  row = int(split.rows[0])
  height, width = split.frame_size(row, [split.read(row).frame(0)])
  return replace(clip, crop_size=augments.test_size(clip, height, width, size))


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
  """Returns the test views (V, T, height, width, 3) uint8 of a video, as evaluations make them.

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
  pairs = zip(itertools.chain([first], frames), _places(orders).values(), strict=True)
  views = np.empty((clip.num_crops * clip.num_clips, clip.num_frames, *clip.crop, 3), np.uint8)
  _views(pairs, first.shape[:2], clip, size, views)
  return views


def _views(
  frames: Iterable,
  full: tuple[int, int],
  clip: ViewsConfig,
  size: tuple[int, int] | None,
  out: np.ndarray,
) -> None:
  """Writes the views (crops * clips, T, height, width, 3) of frames of the size `full` (height,
  width).

  frames: pairs of pixels, whole or reduced, and their places [(clip, t), ...] in the views.
  """
  scaled, offsets = augments.test_crops(clip, *full, size)
  height, width = clip.crop
  video = out.reshape(clip.num_crops, clip.num_clips, clip.num_frames, height, width, 3)
  for pixels, places in frames:
    pixels = augments.resize(pixels, *scaled, interpolation=clip.interpolation)
    for crop, (y, x) in enumerate(offsets):
      window = pixels[y : y + height, x : x + width]
      if augments.is_mirrored(clip, crop):
        window = window[:, ::-1]
      for view, t in places:
        video[crop, view, t] = window


def _places(orders: np.ndarray) -> dict[int, list[tuple[int, int]]]:
  """Returns {frame: its places [(clip, t), ...]} of frame indices (clips, T), in order."""
  found: dict[int, list[tuple[int, int]]] = {}
  for clip, frames in enumerate(orders.tolist()):
    for t, frame in enumerate(frames):
      found.setdefault(frame, []).append((clip, t))
  return dict(sorted(found.items()))


def _label_array(split: Split) -> tuple[type, tuple[int, ...]]:
  many = split.labels == 'multi_label'
  return (np.float32, (len(split.classes),)) if many else (np.int32, ())


def _write_label(split: Split, row: int, record: Record, out: np.ndarray) -> None:
  if split.labels == 'multi_label':
    out[...] = 0
    out[split.labels_of(record)] = 1
  else:
    out[...] = split.index.label[row]
