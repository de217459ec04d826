"""Pixels of a clip: draws the augmentation once per clip, and makes a crop of each frame (OpenCV,
uint8).

A training crop is one window of the decoded frame, resized once. Frames are processed one by one,
while in the CPU's cache.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from vjax.config import CROP_COUNTS, AugmentConfig, ClipConfig, ViewsConfig
from vjax.data import image, randaugment

cv2.setNumThreads(1)  # the pipeline's threads run clips in parallel
_MEAN, _STD = 0.45 * 255, 0.225 * 255  # the normalization in which erased pixels are N(0, 1)


class Plan(NamedTuple):
  """Augmentation drawn for one clip.

  Attributes:
    window: (y, x, height, width) of the crop in the frame.
    mirror: whether the clip is mirrored.
    color: factors of brightness, contrast and saturation.
    ops, values: RandAugment's operations and their arguments.
    erased: (y, x, height, width) of the erased box in the crop.
    noise: seed of the erased pixels.
  """

  window: np.ndarray
  mirror: np.ndarray
  color: np.ndarray
  ops: np.ndarray
  values: np.ndarray
  erased: np.ndarray
  noise: np.ndarray


def draw(
  rng: np.random.Generator,
  augment: AugmentConfig,
  clip: ClipConfig,
  height: int,
  width: int,
  flip: bool,
) -> Plan:
  """Returns the plan for one clip of frames of height x width pixels. flip: whether the dataset may
  be mirrored."""
  window = _WINDOWS[augment.crop](rng, augment, clip.crop_size, height, width)
  mirror = rng.random() < augment.flip and flip
  color = [rng.uniform(max(0, 1 - s), 1 + s) for s in augment.color_jitter]
  ops, values = randaugment.draw(
    rng, augment.rand_augment, augment.magnitude, augment.magnitude_std
  )
  return Plan(
    window=np.array(window, np.int32),
    mirror=np.array(mirror),
    color=np.array(color, np.float32),
    ops=ops,
    values=values,
    erased=np.array(_erased(rng, augment, clip.crop_size), np.int32),
    noise=rng.integers(0, 2**31, 2).astype(np.int32),
  )


def _resized(rng, augment: AugmentConfig, crop: int, height: int, width: int):
  for _ in range(10):
    area = rng.uniform(*augment.area) * height * width
    aspect = math.exp(rng.uniform(*np.log(augment.aspect)))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      return rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w
  # No draw fits: the largest central window of an allowed aspect.
  aspect = min(max(width / height, augment.aspect[0]), augment.aspect[1])
  w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
  return (height - h) // 2, (width - w) // 2, h, w


def _jitter(rng, augment: AugmentConfig, crop: int, height: int, width: int):
  low, high = augment.short_side
  side = (
    round(1 / rng.uniform(1 / high, 1 / low)) if augment.inverse else rng.integers(low, high + 1)
  )
  return _scaled_crop(rng, crop, height, width, *_scaled(height, width, side))


def _fixed(rng, augment: AugmentConfig, crop: int, height: int, width: int):
  return _scaled_crop(rng, crop, height, width, *augment.size)


def _scaled_crop(rng, crop: int, height: int, width: int, scaled_height: int, scaled_width: int):
  """Returns the window of the frame that a random crop of the scaled frame covers; every offset is
  equally likely.

  DIFFERS(code): the window is rounded to whole pixels of the frame (less than half a pixel), so
  that it is cut before it is scaled.
  """
  if min(scaled_height, scaled_width) < crop:
    raise ValueError(
      f'crop={crop} px does not fit frames scaled to {scaled_height}x{scaled_width}; scale them '
      'larger'
    )
  y, x = rng.integers(0, scaled_height - crop + 1), rng.integers(0, scaled_width - crop + 1)
  top, bottom = (round(v * height / scaled_height) for v in (y, y + crop))
  left, right = (round(v * width / scaled_width) for v in (x, x + crop))
  return top, left, max(bottom - top, 1), max(right - left, 1)


def _multiscale(rng, augment: AugmentConfig, crop: int, height: int, width: int):
  sizes = [int(min(height, width) * s) for s in (1, 0.875, 0.75, 0.66)]
  sizes = [crop if abs(s - crop) < 3 else s for s in sizes]
  pairs = [(h, w) for i, h in enumerate(sizes) for j, w in enumerate(sizes) if abs(i - j) <= 1]
  h, w = pairs[rng.integers(len(pairs))]
  h, w = min(h, height), min(w, width)
  row, column = _ANCHORS[rng.integers(len(_ANCHORS))]
  return row * ((height - h) // 4), column * ((width - w) // 4), h, w


# Rows and columns of a quarter grid: corners, center, edge middles, inner quarters.
_ANCHORS = [(r, c) for r in (0, 2, 4) for c in (0, 2, 4)] + [(r, c) for r in (1, 3) for c in (1, 3)]
_WINDOWS = {'resized': _resized, 'jitter': _jitter, 'fixed': _fixed, 'multiscale': _multiscale}


def _erased(rng, augment: AugmentConfig, crop: int):
  if rng.random() < augment.random_erasing:
    for _ in range(10):
      area = rng.uniform(*augment.erase_area) * crop * crop
      aspect = math.exp(rng.uniform(*np.log(augment.erase_aspect)))
      h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
      if h < crop and w < crop:
        return rng.integers(0, crop - h + 1), rng.integers(0, crop - w + 1), h, w
  return 0, 0, 0, 0


def reduce(
  augment: AugmentConfig, plans: list[Plan], crop: int, height: int, width: int
) -> tuple[list[Plan], int]:
  """Returns the plans for frames decoded at 1/divisor of height x width pixels, and the divisor.

  With augment.decode 'reduced' that is the largest divisor with which every window still has
  crop - 1 pixels or more a side. A side of one pixel more or less than the crop becomes the crop,
  so that its pixels are copied: 4:3 frames of 256 x 340 px, scaled to 128 x 171 px, are halves,
  and such frames of 128 x 170 px are not scaled.
  Other sides are never enlarged. Edges are a pixel of the reduced frame off at most.

  DIFFERS(paper): pixels of a window are means of divisor x divisor pixels before they are resized,
  where the papers' code resizes without antialiasing.
  """
  if augment.decode == 'full':
    return plans, 1
  least = min(int(plan.window[2:].min()) for plan in plans)
  divisor = max(d for d in image.DIVISORS if d == 1 or least >= d * (crop - 1))
  size = image.scaled_size(height, width, divisor)
  reduced = lambda plan: plan._replace(window=_reduced(plan.window, divisor, crop, size))
  return [reduced(plan) for plan in plans], divisor


def _reduced(window: np.ndarray, divisor: int, crop: int, size: tuple[int, int]) -> np.ndarray:
  """Returns the window (y, x, height, width) in a frame of `size` (height, width), 1/divisor of the
  whole."""
  starts, sides = [], []
  for start, side, most in zip(window[:2].tolist(), window[2:].tolist(), size):
    first, last = ((edge + divisor // 2) // divisor for edge in (start, start + side))
    n = last - first
    if abs(side - divisor * crop) <= divisor and most >= crop:
      n = crop
      first = min(max(round((start + side / 2) / divisor - crop / 2), 0), most - crop)
    starts.append(first)
    sides.append(n)
  return np.array([*starts, *sides], np.int32)


def render(frame: np.ndarray, plan: Plan, augment: AugmentConfig, t: int, out: np.ndarray) -> None:
  """Writes frame (H, W, 3) uint8, the clip's frame t, to out (crop, crop, 3) by the clip's plan.
  The order is RandAugment, window and resize, color, flip, erase."""
  frame = _augmented(frame, plan)
  y, x, h, w = plan.window
  mirror = augment.flip and plan.mirror
  window, into = frame[y : y + h, x : x + w], None if mirror else out
  how = dict(quality=augment.resize_quality, interpolation=augment.interpolation)
  crop = resize(window, *out.shape[:2], out=into, **how)
  if any(augment.color_jitter):
    brightness, contrast, saturation = plan.color.tolist()
    crop = randaugment.contrast(randaugment.brightness(crop, brightness), contrast)
    crop = randaugment.color(crop, saturation)
  if mirror:
    crop = cv2.flip(crop, 1, dst=out)
  if crop is not out:
    out[...] = crop
  if plan.erased[2]:
    y, x, h, w = plan.erased
    out[y : y + h, x : x + w] = _noise(plan.noise, t, h, w)


def device_fields(augment: AugmentConfig) -> dict[str, tuple[type, tuple[int, ...]]]:
  """Returns type and shape, of one clip, of what is left for the accelerator beside the frames; see
  types.Batch."""
  if not augment.device_frame_size:
    return {}
  fields = {'window': (np.int32, (4,)), 'mirror': (np.bool_, ())}
  if any(augment.color_jitter):
    fields['color'] = (np.float32, (3,))
  if augment.rand_augment:
    n = augment.rand_augment
    fields |= {
      'frame_size': (np.int32, (2,)),
      'ops': (np.int32, (n,)),
      'values': (np.float32, (n,)),
    }
  if augment.random_erasing:
    fields |= {'erased': (np.int32, (4,)), 'noise': (np.int32, (2,))}
  return fields


def device_values(
  augment: AugmentConfig, plans: list[Plan], windows: np.ndarray, size: tuple[int, int]
) -> dict[str, np.ndarray]:
  """Returns the arrays of `device_fields`, stacked over clips.

  Args:
    augment: augmentation.
    plans: of the clips.
    windows: (clips, 4) that `place` returned.
    size: (height, width) of the decoded frames.
  """
  if not augment.device_frame_size:
    return {}
  values = {name: np.stack(x) for name, x in zip(Plan._fields, zip(*plans))}
  values |= {'window': windows, 'frame_size': np.tile(np.array(size, np.int32), (len(plans), 1))}
  if not _fits(size, augment.device_frame_size):  # `place` did the operations
    values['ops'] = np.full_like(values['ops'], randaugment.NAMES.index('identity'))
    values['frame_size'] = windows[:, 2:]
  return {name: values[name] for name in device_fields(augment)}


def _fits(size: tuple[int, ...], canvas: tuple[int, ...]) -> bool:
  return size[0] <= canvas[0] and size[1] <= canvas[1]


def place(
  frame: np.ndarray, plan: Plan, crop: int, out: np.ndarray, quality: str = 'exact'
) -> tuple[int, int, int, int]:
  """Writes a frame to the canvas `out`, and returns the window (y, x, height, width) from which
  preprocess.crops makes the crop.

  A frame of the canvas' size is written as it is. Of other frames, the window's pixels are written
  to the upper left, or the resized crop where the window does not fit. With RandAugment, whose
  operations need whole frames, those that fit are written whole; for others they are done here.
  quality: augment.resize_quality.
  """
  if frame.shape == out.shape:
    if not np.may_share_memory(frame, out):  # else the frame was decoded into the canvas
      out[...] = frame
    return tuple(plan.window)
  if len(plan.ops) and _fits(frame.shape, out.shape):
    _fill(frame, out)
    return tuple(plan.window)
  y, x, h, w = plan.window
  frame = _augmented(frame, plan)
  pixels = frame[y : y + h, x : x + w]
  if h > out.shape[0] or w > out.shape[1]:
    pixels = resize(pixels, crop, crop, quality=quality)
  _fill(pixels, out)
  return 0, 0, pixels.shape[0], pixels.shape[1]


def _fill(pixels: np.ndarray, out: np.ndarray) -> None:
  """Writes the pixels to the upper left of `out`, and 0 elsewhere."""
  height, width = pixels.shape[:2]
  out[:height, :width], out[:height, width:], out[height:] = pixels, 0, 0


def _augmented(frame: np.ndarray, plan: Plan) -> np.ndarray:
  """Returns the frame after RandAugment's operations."""
  for op, value in zip(plan.ops, plan.values):
    frame = randaugment.apply(frame, randaugment.NAMES[op], float(value))
  return frame


def _noise(seed: np.ndarray, t: int, height: int, width: int) -> np.ndarray:
  """Returns new pixels of an erased box.

  DIFFERS(code): clipped to what a uint8 pixel can show, N(0, 1) after normalization by .45 and .225
  elsewhere.
  """
  noise = np.random.default_rng([*seed.tolist(), t]).standard_normal((height, width, 3), np.float32)
  return np.clip(noise * _STD + _MEAN, 0, 255).astype(np.uint8)


def resize(
  frame: np.ndarray,
  height: int,
  width: int,
  out: np.ndarray | None = None,
  *,
  quality: str = 'exact',
  interpolation: str = 'bilinear',
) -> np.ndarray:
  """Returns the frame (height, width, 3) uint8: bilinear between pixel centers, without
  antialiasing, as in the papers' code.

  Args:
    frame: (H, W, 3) uint8.
    height: of the result.
    width: of the result.
    out: if given, the result may be written here.
    quality: of 'bilinear'. 'exact': good to half a level and 1/16. DIFFERS(code): 'fast' rounds
      intermediate numbers, mostly down, and is one level off in one pixel of seven (in black and
      white noise two levels in few).
    interpolation: 'bilinear'; or 'bicubic', with antialiasing, which is Pillow's.
  """
  if interpolation == 'bicubic':
    from PIL import Image

    pixels = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(pixels)
  method = cv2.INTER_LINEAR if quality == 'fast' else cv2.INTER_LINEAR_EXACT
  return cv2.resize(frame, (width, height), dst=out, interpolation=method)


def _scaled(height: int, width: int, side: int) -> tuple[int, int]:
  """Returns the size with the short side `side` and the same aspect; the long side is rounded
  down."""
  if height < width:
    return side, side * width // height
  return side * height // width, side


def test_size(
  clip: ViewsConfig, height: int, width: int, size: tuple[int, int] | None
) -> tuple[int, int]:
  """Returns the size (height, width) that test frames are scaled to: `size`, or short side
  clip.short_side."""
  return size or _scaled(height, width, clip.short_side)


def test_divisor(clip: ViewsConfig, height: int, width: int, size: tuple[int, int] | None) -> int:
  """Returns the divisor at which test frames of height x width pixels are decoded: with clip.decode
  'reduced' the largest with which no side must be enlarged by more than one pixel, else 1."""
  if clip.decode == 'full':
    return 1
  scaled = test_size(clip, height, width, size)
  fits = lambda d: all(n >= s - 1 for n, s in zip(image.scaled_size(height, width, d), scaled))
  return max(d for d in image.DIVISORS if d == 1 or fits(d))


def test_crops(
  clip: ViewsConfig, height: int, width: int, size: tuple[int, int] | None
) -> tuple[tuple[int, int], list[tuple[int, int]]]:
  """Returns the size (height, width) to scale test frames to, and the offsets (y, x) of
  clip.num_crops crops of clip.crop_size in it.

  The short side is clip.short_side. There is one crop in the center, or three along the long side,
  or five, in the corners and the center. Ten are these five, each followed by its mirror image (see
  `is_mirrored`). With clip.crop_places 'ends' the offsets of L pixels are 0, ceil((L - crop) / 2)
  and L - crop (Feichtenhofer et al. 2019). With 'quarters' they are 0, 2q and 4q for
  q = (L - crop) // 4, the center last, and a single center is round((L - crop) / 2) (Chen et al.
  2021, as released). With `size`, frames take that size whatever their aspect, and the center is
  rounded down (Ghadiyaram et al. 2019). Raises ValueError for other counts and crops that do not
  fit.
  """
  h, w = test_size(clip, height, width, size)
  rows, columns = clip.crop
  free = h - rows, w - columns
  if min(free) < 0:
    raise ValueError(
      f'crop_size={clip.crop_size} px does not fit test frames scaled to {h}x{w} px: set '
      'short_side >= crop_size'
    )
  if clip.num_crops not in CROP_COUNTS:
    raise ValueError(
      f'num_crops={clip.num_crops}; tests take {", ".join(map(str, CROP_COUNTS))} crops'
    )
  quarters = clip.crop_places == 'quarters'
  last, middle = free, round if quarters else math.floor if size else math.ceil
  center = middle(free[0] / 2), middle(free[1] / 2)
  if quarters and clip.num_crops > 1:
    y, x = free[0] // 4, free[1] // 4
    center, last = (2 * y, 2 * x), (4 * y, 4 * x)
  if clip.num_crops == 1:
    return (h, w), [center]
  if clip.num_crops == 3:
    first, final = (0, center[1]), (last[0], center[1])
    if w >= h:
      first, final = (center[0], 0), (center[0], last[1])
    return (h, w), [first, final, center] if quarters else [first, center, final]
  five = [(0, 0), (0, last[1]), (last[0], 0), last, center]
  return (h, w), five if clip.num_crops == 5 else [place for place in five for _ in range(2)]


def is_mirrored(clip: ViewsConfig, crop: int) -> bool:
  """Returns whether crop number `crop` of a test view is a mirror image: every second of ten."""
  return clip.num_crops == 10 and crop % 2 == 1
