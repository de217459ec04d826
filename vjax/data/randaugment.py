"""RandAugment with magnitudes that all grow ("increasing"), as timm's rand-m7-mstd0.5-inc1 (Cubuk
et al. 2020; used by Feichtenhofer et al. 2022, appendix A). The operations are drawn once per clip,
the same for all its frames.

Each operation is Pillow's, on a uint8 RGB frame (H, W, 3): most are a table of 256 values. Pillow
itself takes 2 to 5 times as long for most (`python -m benchmarks.randaugment`).
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from vjax.config import RAND_AUGMENT as NAMES

_FILL = (128, 128, 128)
_LEVELS = np.arange(256)
_LUMA = np.float32([[0.299, 0.587, 0.114]])
_SMOOTH = np.float32([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13


def draw(
  rng: np.random.Generator, ops: int, magnitude: float, std: float, prob: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
  """Returns operations (ops,) int32, positions in NAMES, and their arguments (ops,) float32.

  Each of `ops` draws, with replacement, is applied with probability `prob` (else it is 'identity')
  at a level N(magnitude, std) in [0, 10].
  """
  if not ops:  # the draws of no operations take nothing from `rng`
    return np.zeros(0, np.int32), np.zeros(0, np.float32)
  chosen = rng.integers(0, len(NAMES) - 1, ops)
  chosen = np.where(rng.random(ops) < prob, chosen, NAMES.index('identity'))
  levels = np.clip(rng.normal(magnitude, std, ops), 0, 10)
  signs = rng.choice([-1.0, 1.0], ops)
  values = [argument(NAMES[op], level, sign) for op, level, sign in zip(chosen, levels, signs)]
  return chosen.astype(np.int32), np.array(values, np.float32)


def argument(name: str, level: float, sign: float) -> float:
  """Returns the argument of `apply` for an operation at a level of 0 to 10: degrees, bits, a
  threshold, a factor or a share."""
  m = level / 10
  if name == 'rotate':
    return sign * 30 * m
  if name == 'posterize':
    return 4 - int(4 * m)
  if name == 'solarize':
    return 256 - int(256 * m)
  if name == 'solarize_add':
    return int(110 * m)
  if name in ('color', 'contrast', 'brightness', 'sharpness'):
    return 1 + sign * 0.9 * m
  if name in ('shear_x', 'shear_y'):
    return sign * 0.3 * m
  if name in ('translate_x', 'translate_y'):
    return sign * 0.45 * m
  return 0.0


def apply(frame: np.ndarray, name: str, value: float) -> np.ndarray:
  """Returns the frame (H, W, 3) uint8 after the operation with its argument."""
  return _OPERATIONS[name](frame, value)


def color(frame: np.ndarray, factor: float) -> np.ndarray:
  """Blends the gray frame (factor 0) and the frame (1)."""
  return _blend(cv2.cvtColor(_grey(frame), cv2.COLOR_GRAY2RGB), frame, factor)


def contrast(frame: np.ndarray, factor: float) -> np.ndarray:
  """Blends the frame's mean gray (factor 0) and the frame (1)."""
  mean = math.floor(_grey(frame).mean() + 0.5)
  return _table(frame, mean + factor * (_LEVELS - mean))


def brightness(frame: np.ndarray, factor: float) -> np.ndarray:
  """Blends black (factor 0) and the frame (1)."""
  return _table(frame, factor * _LEVELS)


def _table(frame: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Returns the frame with level i replaced by values[i], (256,) or for each channel (256, 3),
  truncated to whole levels."""
  table = np.clip(values, 0, 255).astype(np.uint8)
  return cv2.LUT(frame, table if table.ndim == 1 else table[None])


def _blend(other: np.ndarray, frame: np.ndarray, factor: float) -> np.ndarray:
  """Blend, rounded down as Pillow does; 1e-3 protects exact integers."""
  return cv2.addWeighted(frame, factor, other, 1 - factor, -0.5 + 1e-3)


def _grey(frame: np.ndarray) -> np.ndarray:
  """Returns luma (H, W) uint8, rounded."""
  return cv2.transform(frame, _LUMA)


def _solarize(frame: np.ndarray, threshold: float) -> np.ndarray:
  return _table(frame, np.where(_LEVELS < threshold, _LEVELS, 255 - _LEVELS))


def _solarize_add(frame: np.ndarray, value: float) -> np.ndarray:
  return _table(frame, np.where(_LEVELS < 128, _LEVELS + int(value), _LEVELS))


def _posterize(frame: np.ndarray, bits: float) -> np.ndarray:
  return _table(frame, _LEVELS & (255 << 8 - int(bits)))


def _autocontrast(frame: np.ndarray, _: float) -> np.ndarray:
  values = np.tile(_LEVELS[:, None].astype(float), 3)
  for c, channel in enumerate(cv2.split(frame)):
    low, high = float(channel.min()), float(channel.max())
    if high > low:  # a flat channel stays
      # 1e-3 protects exact quotients from being cut off below themselves.
      values[:, c] = (_LEVELS - low) * (255 / (high - low)) + 1e-3
  return _table(frame, values)


def _equalize(frame: np.ndarray, _: float) -> np.ndarray:
  values = np.tile(_LEVELS[:, None], 3)
  for c in range(3):
    counts = np.bincount(frame[..., c].ravel(), minlength=256)
    step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
    if step:
      values[:, c] = (step // 2 + np.cumsum(counts) - counts) // step
  return _table(frame, values)


def _sharpness(frame: np.ndarray, factor: float) -> np.ndarray:
  smooth = cv2.filter2D(frame, -1, _SMOOTH)
  sharp = _blend(smooth, frame, factor)
  for rim in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):  # unchanged: not all neighbors exist
    sharp[rim] = frame[rim]
  return sharp


def _rotate(frame: np.ndarray, degrees: float) -> np.ndarray:
  angle = -math.radians(degrees)
  cos, sin = math.cos(angle), math.sin(angle)
  y, x = (frame.shape[0] - 1) / 2, (frame.shape[1] - 1) / 2
  return _affine(frame, [[cos, sin, x - cos * x - sin * y], [-sin, cos, y + sin * x - cos * y]])


def _affine(frame: np.ndarray, matrix: list[list[float]]) -> np.ndarray:
  """Returns the frame whose output pixel (x, y) is input pixel matrix @ (x, y, 1), gray outside.

  Bicubic, as the reference. DIFFERS(code): with OpenCV's constant -0.75 where Pillow's is -1.
  """
  flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
  size = frame.shape[1], frame.shape[0]
  return cv2.warpAffine(
    frame, np.float64(matrix), size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=_FILL
  )


# Pillow's matrices map pixel corners, OpenCV's centers: hence the half pixels of the shears.
_OPERATIONS = {
  'autocontrast': _autocontrast,
  'equalize': _equalize,
  'invert': lambda frame, _: 255 - frame,
  'rotate': _rotate,
  'posterize': _posterize,
  'solarize': _solarize,
  'solarize_add': _solarize_add,
  'color': color,
  'contrast': contrast,
  'brightness': brightness,
  'sharpness': _sharpness,
  'shear_x': lambda frame, v: _affine(frame, [[1, v, v / 2], [0, 1, 0]]),
  'shear_y': lambda frame, v: _affine(frame, [[1, 0, 0], [v, 1, v / 2]]),
  'translate_x': lambda frame, v: _affine(frame, [[1, 0, v * frame.shape[1]], [0, 1, 0]]),
  'translate_y': lambda frame, v: _affine(frame, [[1, 0, 0], [0, 1, v * frame.shape[0]]]),
  'identity': lambda frame, _: frame,
}
