"""RandAugment and random erasing on the accelerator, for frames that the host sends whole.

Every function here is what `data/augment.py` and `data/randaugment.py` do on the host with OpenCV:
levels stay whole numbers between operations, and statistics are those of a frame's real pixels. On
the CPU of the tests no level differs by more than one from those of OpenCV 5, and only after moves
(`tests/test_device_augment.py`); OpenCV 4 rounds coordinates of moves to 1/32 px: up to 7 levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from vjax.config import RAND_AUGMENT

if TYPE_CHECKING:  # benchmarks/randaugment.py --device runs where jaxtyping is not installed
  from jaxtyping import Array, Float, Int, UInt8

FILL = 128  # level of pixels that a rotation, shear or translation brings in
_MEAN, _STD = 0.45 * 255, 0.225 * 255  # the normalization in which erased pixels are N(0, 1)
_CUBIC = -0.75  # OpenCV's constant of bicubic interpolation
_MOVES = ('rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y')


def rand_augment(
  video: UInt8[Array, 'b t h w 3'],
  frame_size: Int[Array, 'b 2'],
  ops: Int[Array, 'b n'],
  values: Float[Array, 'b n'],
) -> UInt8[Array, 'b t h w 3']:
  """Returns the clips after their operations, one after another.

  One clip follows the other, so that only the operation that a clip drew is computed; on several
  devices each must be given its own clips (`sharding.by_rows`).

  Args:
    video: frames, their real pixels in the upper left.
    frame_size: (height, width) of the real pixels. What stands outside is not defined afterwards.
    ops: positions in RAND_AUGMENT.
    values: their arguments, see `data/randaugment.py::argument`.
  """

  def augment(clip):
    frames, size, ops, values = clip
    step = lambda i, x: apply(x, size, ops[i], values[i])
    return jax.lax.fori_loop(0, ops.shape[0], step, frames)

  return jax.lax.map(augment, (video, frame_size, ops, values))


def apply(
  frames: UInt8[Array, 't h w 3'],
  size: Int[Array, ' 2'],
  op: Int[Array, ''],
  value: Float[Array, ''],
) -> UInt8[Array, 't h w 3']:
  """Returns the frames, whose real pixels are those of `size`, after one operation."""
  # Flat arrays have one memory layout only: in no branch a copy is made for the sake of another.
  flat = lambda function: lambda x, *args: function(x.reshape(frames.shape), *args).ravel()
  branches, branch = [flat(function) for function in _FUNCTIONS], jnp.asarray(_BRANCHES)[op]
  return jax.lax.switch(branch, branches, frames.ravel(), size, op, value).reshape(frames.shape)


def erase(
  video: Float[Array, 'b t size size 3'], box: Int[Array, 'b 4'], seed: Int[Array, 'b 2']
) -> Float[Array, 'b t size size 3']:
  """Returns crops in 0..255 with new pixels in each clip's `box` (y, x, height, width); a box of
  height 0 erases nothing.

  DIFFERS(code): N(0, 1) after normalization by .45 and .225, clipped to what a uint8 pixel can
  show, as on the host, but of JAX's generator: the same `seed` gives other pixels there.
  """

  def fill(clip, box, seed):
    y, x, h, w = box
    rows, columns = jnp.arange(clip.shape[1]), jnp.arange(clip.shape[2])
    inside = ((rows >= y) & (rows < y + h))[:, None] & ((columns >= x) & (columns < x + w))
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(seed[0]), seed[1]), clip.shape)
    noise = jnp.floor(jnp.clip(noise * _STD + _MEAN, 0, 255))
    return jnp.where(inside[..., None], noise.astype(clip.dtype), clip)

  def one(clip):
    return jax.lax.cond(clip[1][2] > 0, fill, lambda clip, *_: clip, *clip)

  return jax.lax.map(one, (video, box, seed))


def _real(frames, size):
  """Returns true (h, w, 1) where pixels are real."""
  rows, columns = jnp.arange(frames.shape[1]), jnp.arange(frames.shape[2])
  return ((rows < size[0])[:, None] & (columns < size[1]))[..., None]


def _times(levels, factor):
  """Returns floor(levels * factor) of whole levels, exactly: in float32 some products would be
  rounded up to a whole number."""
  coarse = jnp.floor(factor * 4096)
  fine = jnp.floor(levels * (factor * 4096 - coarse)).astype(jnp.int32)
  return (levels * coarse.astype(jnp.int32) + fine) >> 12


def _uint8(levels):
  return jnp.clip(levels, 0, 255).astype(jnp.uint8)


def _blend(other, frames, factor):
  """Blend, rounded down; 1e-3 protects exact integers."""
  mixed = factor * frames.astype(jnp.float32) + (1 - factor) * other.astype(jnp.float32)
  return _uint8(jnp.rint(mixed - 0.5 + 1e-3))


def _gray(frames):
  """Returns luma (t, h, w, 1), rounded."""
  r, g, b = (frames[..., c : c + 1].astype(jnp.float32) for c in range(3))
  return jnp.rint(0.299 * r + 0.587 * g + 0.114 * b).astype(jnp.int32)


def _identity(frames, size, op, value):
  return frames


def _invert(frames, size, op, value):
  return 255 - frames


def _posterize(frames, size, op, bits):
  return frames & (255 << 8 - bits.astype(jnp.int32)).astype(jnp.uint8)


def _solarize(frames, size, op, threshold):
  return jnp.where(frames < threshold, frames, 255 - frames)


def _solarize_add(frames, size, op, value):
  levels = frames.astype(jnp.int32)
  return _uint8(jnp.where(levels < 128, levels + value.astype(jnp.int32), levels))


def _brightness(frames, size, op, factor):
  return _uint8(_times(frames.astype(jnp.int32), factor))


def _contrast(frames, size, op, factor):
  count = size[0] * size[1]
  total = jnp.where(_real(frames, size), _gray(frames), 0).sum((1, 2, 3), keepdims=True)
  mean = (2 * total + count) // (2 * count)
  return _uint8(mean + _times(frames.astype(jnp.int32) - mean, factor))


def _color(frames, size, op, factor):
  return _blend(_gray(frames), frames, factor)


def _autocontrast(frames, size, op, value):
  real = _real(frames, size)
  low = jnp.where(real, frames, 255).min((1, 2), keepdims=True).astype(jnp.float32)
  high = jnp.where(real, frames, 0).max((1, 2), keepdims=True).astype(jnp.float32)
  spread = jnp.maximum(high - low, 1)
  # 1e-3 protects exact quotients from being cut off below themselves.
  wide = _uint8((frames.astype(jnp.float32) - low) * (255 / spread) + 1e-3)
  return jnp.where(high > low, wide, frames)  # a flat channel stays


def _equalize(frames, size, op, value):
  counts = _histogram(frames, _real(frames, size))
  last = 255 - jnp.argmax(counts[..., ::-1] > 0, -1, keepdims=True)
  step = (counts.sum(-1, keepdims=True) - jnp.take_along_axis(counts, last, -1)) // 255
  table = (step // 2 + jnp.cumsum(counts, -1) - counts) // jnp.maximum(step, 1)
  table = _uint8(jnp.where(step > 0, table, jnp.arange(256)))
  return table.ravel()[_bins(frames)]


def _histogram(frames, real):
  """Returns counts (t, 3, 256) of the levels of each frame and channel."""
  counts = jnp.zeros(frames.shape[0] * 3 * 256, jnp.int32)
  ones = jnp.broadcast_to(real, frames.shape).astype(jnp.int32)
  return counts.at[_bins(frames).ravel()].add(ones.ravel()).reshape(-1, 3, 256)


def _bins(frames):
  """Returns each pixel's place in a flattened table (t, 3, 256)."""
  t, c = jnp.arange(frames.shape[0])[:, None, None, None], jnp.arange(3)
  return (t * 3 + c) * 256 + frames


def _sharpness(frames, size, op, factor):
  levels = frames.astype(jnp.int32)
  wide = jnp.pad(levels, ((0, 0), (1, 1), (1, 1), (0, 0)))
  h, w = levels.shape[1:3]
  total = sum(wide[:, y : y + h, x : x + w] for y in range(3) for x in range(3)) + 4 * levels
  sharp = _blend((2 * total + 13) // 26, frames, factor)
  rows, columns = jnp.arange(h), jnp.arange(w)
  inner = ((rows > 0) & (rows < size[0] - 1))[:, None] & (columns > 0) & (columns < size[1] - 1)
  return jnp.where(inner[..., None], sharp, frames)  # the rim is unchanged


def _move(frames, size, op, value):
  """Rotates, shears or translates: output pixel (x, y) is input pixel matrix @ (x, y, 1)."""
  h, w = size.astype(jnp.float32)
  angle = -value * (jnp.pi / 180)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  y, x = (h - 1) / 2, (w - 1) / 2
  one, none = jnp.ones_like(value), jnp.zeros_like(value)
  matrices = {
    'rotate': [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y],
    'shear_x': [one, value, value / 2, none, one, none],
    'shear_y': [one, none, none, value, one, value / 2],
    'translate_x': [one, none, value * w, none, one, none],
    'translate_y': [one, none, none, none, one, value * h],
  }
  which = jnp.asarray([_MOVES.index(name) if name in _MOVES else 0 for name in RAND_AUGMENT])[op]
  return _warp(frames, size, jnp.stack([jnp.stack(matrices[name]) for name in _MOVES])[which])


def _warp(frames, size, matrix):
  """Returns frames moved by `matrix` (6,), bicubic, FILL outside of the real pixels."""
  t, h, w, _ = frames.shape
  y, x = jnp.arange(h, dtype=jnp.float32)[:, None], jnp.arange(w, dtype=jnp.float32)
  at_x = matrix[0] * x + matrix[1] * y + matrix[2]
  at_y = matrix[3] * x + matrix[4] * y + matrix[5]
  left, top = jnp.floor(at_x), jnp.floor(at_y)
  across, down = _cubic(at_x - left), _cubic(at_y - top)
  left, top = left.astype(jnp.int32), top.astype(jnp.int32)
  pixels = frames.reshape(t, h * w, 3)
  total = jnp.zeros(frames.shape, jnp.float32)
  for i in range(4):
    for j in range(4):
      row, column = top + (i - 1), left + (j - 1)
      inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
      place = jnp.where(inside, row * w + column, 0)
      tap = jnp.where(inside[..., None], pixels[:, place], jnp.uint8(FILL)).astype(jnp.float32)
      total += tap * (down[i] * across[j])[..., None]
  return _uint8(jnp.rint(total))


def _cubic(x):
  """Returns the weights of four neighbors, the second of which lies `x` in [0, 1) before."""
  a = _CUBIC
  first = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
  second = ((a + 2) * x - (a + 3)) * x * x + 1
  third = ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1
  return first, second, third, 1 - first - second - third


_OPERATIONS = {
  'autocontrast': _autocontrast,
  'equalize': _equalize,
  'invert': _invert,
  'rotate': _move,
  'posterize': _posterize,
  'solarize': _solarize,
  'solarize_add': _solarize_add,
  'color': _color,
  'contrast': _contrast,
  'brightness': _brightness,
  'sharpness': _sharpness,
  'shear_x': _move,
  'shear_y': _move,
  'translate_x': _move,
  'translate_y': _move,
  'identity': _identity,
}
_FUNCTIONS = tuple(dict.fromkeys(_OPERATIONS.values()))
_BRANCHES = tuple(_FUNCTIONS.index(_OPERATIONS[name]) for name in RAND_AUGMENT)
