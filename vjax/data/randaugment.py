"""RandAugment with magnitudes that all grow ("increasing"), as timm's rand-m7-mstd0.5-inc1 (Cubuk et al. 2020; used by
Feichtenhofer et al. 2022, appendix A). What to do is drawn in numpy once per clip; frames are changed by TensorFlow ops.

Each operation is Pillow's, on uint8 RGB frames (T, H, W, 3), the same for all frames of the clip.
"""

from __future__ import annotations

import math

import numpy as np

NAMES = (
  'autocontrast',
  'equalize',
  'invert',
  'rotate',
  'posterize',
  'solarize',
  'solarize_add',
  'colour',
  'contrast',
  'brightness',
  'sharpness',
  'shear_x',
  'shear_y',
  'translate_x',
  'translate_y',
  'identity',
)
_FILL = 128.0


def draw(
  rng: np.random.Generator, ops: int, magnitude: float, std: float, prob: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
  """Operations (ops,) int32, positions in NAMES, and their arguments (ops,) float32. Each of `ops` draws, with
  replacement, is applied with probability `prob` (else it is 'identity') at a level N(magnitude, std) in [0, 10]."""
  chosen = rng.integers(0, len(NAMES) - 1, ops)
  chosen = np.where(rng.random(ops) < prob, chosen, NAMES.index('identity'))
  levels = np.clip(rng.normal(magnitude, std, ops), 0, 10)
  signs = rng.choice([-1.0, 1.0], ops)
  values = [argument(NAMES[op], level, sign) for op, level, sign in zip(chosen, levels, signs)]
  return chosen.astype(np.int32), np.array(values, np.float32)


def argument(name: str, level: float, sign: float) -> float:
  """What `apply` takes for an operation at a level of 0 to 10: degrees, bits, a threshold, a factor or a share."""
  m = level / 10
  if name == 'rotate':
    return sign * 30 * m
  if name == 'posterize':
    return 4 - int(4 * m)
  if name == 'solarize':
    return 256 - int(256 * m)
  if name == 'solarize_add':
    return int(110 * m)
  if name in ('colour', 'contrast', 'brightness', 'sharpness'):
    return 1 + sign * 0.9 * m
  if name in ('shear_x', 'shear_y'):
    return sign * 0.3 * m
  if name in ('translate_x', 'translate_y'):
    return sign * 0.45 * m
  return 0.0


def apply(frames, op, value):
  """Frames (T, H, W, 3) uint8 after operation NAMES[op] with its argument."""
  import tensorflow as tf

  functions = {
    'autocontrast': lambda: _autocontrast(frames),
    'equalize': lambda: _equalize(frames),
    'invert': lambda: 255 - frames,
    'rotate': lambda: _affine(frames, _rotation(frames, value)),
    'posterize': lambda: _posterize(frames, value),
    'solarize': lambda: _solarize(frames, value),
    'solarize_add': lambda: frames + tf.cast(frames < 128, tf.uint8) * tf.cast(value, tf.uint8),  # at most 237
    'colour': lambda: colour(frames, value),
    'contrast': lambda: contrast(frames, value),
    'brightness': lambda: brightness(frames, value),
    'sharpness': lambda: _sharpness(frames, value),
    # Pillow's matrices map pixel corners, TensorFlow's centres: hence the half pixels.
    'shear_x': lambda: _affine(frames, [1.0, value, value / 2, 0.0, 1.0, 0.0]),
    'shear_y': lambda: _affine(frames, [1.0, 0.0, 0.0, value, 1.0, value / 2]),
    'translate_x': lambda: _affine(frames, [1.0, 0.0, value * _size(frames, 2), 0.0, 1.0, 0.0]),
    'translate_y': lambda: _affine(frames, [1.0, 0.0, 0.0, 0.0, 1.0, value * _size(frames, 1)]),
    'identity': lambda: frames,
  }
  return tf.switch_case(op, [functions[name] for name in NAMES])


def colour(frames, factor):
  """Blend of grey frames (factor 0) and frames (1)."""
  return _blend(_grey(frames), frames, factor)


def contrast(frames, factor):
  """Blend of each frame's mean grey (factor 0) and frames (1)."""
  import tensorflow as tf

  flat = tf.reshape(
    frames, [tf.shape(frames)[0], -1]
  )  # (T, H*W*3): broadcast along rows is fast, along channels slow
  mean = tf.reduce_mean(tf.reshape(_grey(frames), tf.shape(flat)), axis=1, keepdims=True)
  return tf.reshape(_blend(tf.floor(mean + 0.5), flat, factor), tf.shape(frames))


def brightness(frames, factor):
  """Blend of black (factor 0) and frames (1)."""
  return _blend(0.0, frames, factor)


def _uint8(x):
  import tensorflow as tf

  return tf.cast(tf.clip_by_value(x, 0.0, 255.0), tf.uint8)


def _size(frames, axis: int):
  import tensorflow as tf

  return tf.cast(tf.shape(frames)[axis], tf.float32)


def _blend(other, frames, factor):
  import tensorflow as tf

  return _uint8(other + factor * (tf.cast(frames, tf.float32) - other))


def _grey(frames):
  """Luma, whole numbers as float32 in each of three channels (T, H, W, 3); Pillow's fixed point, which float32 holds."""
  import tensorflow as tf

  weights = tf.constant([[19595.0] * 3, [38470.0] * 3, [7471.0] * 3])
  luma = tf.matmul(tf.reshape(tf.cast(frames, tf.float32), [-1, 3]), weights)
  return tf.reshape(tf.floor((luma + 32768) / 65536), tf.shape(frames))


def _posterize(frames, bits):
  import tensorflow as tf

  keep = tf.bitwise.left_shift(255, 8 - tf.cast(bits, tf.int32))
  return tf.bitwise.bitwise_and(frames, tf.cast(keep & 255, tf.uint8))


def _solarize(frames, threshold):
  import tensorflow as tf

  below = tf.cast(threshold, tf.int32) - 1  # 256 does not fit a byte; a threshold of 0 inverts everything
  bright = tf.logical_or(frames > tf.cast(tf.maximum(below, 0), tf.uint8), below < 0)
  return tf.bitwise.bitwise_xor(frames, tf.cast(bright, tf.uint8) * 255)  # 255 - x is x with all bits turned


def _autocontrast(frames):
  import tensorflow as tf

  t, h, w = tf.unstack(tf.shape(frames)[:3])
  rows = tf.cast(tf.reshape(frames, [t, h, w * 3]), tf.float32)  # long rows: reductions over three channels are slow
  low = _by_channel(tf.reduce_min, rows, w)
  high = _by_channel(tf.reduce_max, rows, w)
  # Flat channels stay: subtract 0, times 1. The hair's breadth keeps exact quotients from being truncated below themselves.
  scale = tf.where(high > low, 255 / tf.maximum(high - low, 1), 1.0)
  low = tf.where(high > low, low, 0.0)
  return tf.reshape(_uint8((rows - low) * scale + 1e-3), [t, h, w, 3])


def _by_channel(reduce, rows, width):
  """reduce over the pixels of each channel of rows (T, H, W*3), repeated over a row (T, 1, W*3)."""
  import tensorflow as tf

  column = reduce(tf.reshape(reduce(rows, axis=1), [-1, width, 3]), axis=1)  # (T, 3)
  return tf.tile(column, [1, width])[:, None]


def _equalize(frames):
  import tensorflow as tf

  shape = tf.shape(frames)
  table = 256 * tf.reshape(tf.range(shape[0] * 3), [-1, 1, 1, 3])  # one histogram per frame and channel
  keys = tf.cast(frames, tf.int32) + table
  bins = 256 * 3 * shape[0]
  counts = tf.reshape(tf.math.bincount(tf.reshape(keys, [-1]), minlength=bins, maxlength=bins), [-1, 256])
  highest = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0), axis=1)
  step = (shape[1] * shape[2] - tf.gather(counts, highest, batch_dims=1)) // 255
  step = step[:, None]
  spread = (step // 2 + tf.cumsum(counts, axis=1, exclusive=True)) // tf.maximum(step, 1)
  lut = tf.where(step > 0, tf.minimum(spread, 255), tf.range(256))
  return tf.gather(tf.cast(tf.reshape(lut, [-1]), tf.uint8), keys)


def _sharpness(frames, factor):
  import tensorflow as tf

  x = tf.cast(frames, tf.float32)
  rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
  box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
  smooth = tf.floor((box + 4 * x[:, 1:-1, 1:-1]) / 13 + 0.5)
  inner = _blend(smooth, frames[:, 1:-1, 1:-1], factor)  # the rim has no neighbours and stays
  middle = tf.concat([frames[:, 1:-1, :1], inner, frames[:, 1:-1, -1:]], axis=2)
  return tf.concat([frames[:, :1], middle, frames[:, -1:]], axis=1)


def _rotation(frames, degrees):
  import tensorflow as tf

  angle = -degrees * (math.pi / 180)
  cos, sin = tf.cos(angle), tf.sin(angle)
  x, y = (_size(frames, 2) - 1) / 2, (_size(frames, 1) - 1) / 2
  return [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y]


def _affine(frames, matrix):
  """Output pixel (x, y) is input pixel matrix @ (x, y, 1), grey outside."""
  import tensorflow as tf

  return tf.raw_ops.ImageProjectiveTransformV3(
    images=frames,
    transforms=tf.stack([tf.cast(m, tf.float32) for m in [*matrix, 0.0, 0.0]])[None],
    output_shape=tf.shape(frames)[1:3],
    interpolation='BILINEAR',  # DIFFERS(code): theirs is bicubic, which this op lacks
    fill_mode='CONSTANT',
    fill_value=_FILL,
  )
