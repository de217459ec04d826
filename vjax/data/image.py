"""Encoded images: reads their size from the header, and decodes pixels, also at a fraction of the
size."""

from __future__ import annotations

import struct

import cv2
import numpy as np

DIVISORS = (1, 2, 4, 8)  # of the size, that JPEG decoding has
_PNG = b'\x89PNG\r\n\x1a\n'
# Flaws of a JPEG after which all of its pixels are there nevertheless, by libjpeg's words.
_HARMLESS = ('Corrupt JPEG data', 'Invalid SOS parameters')


def image_size(image: bytes) -> tuple[int, int]:
  """Returns the (height, width) that the header of a JPEG or PNG states. Raises ValueError for
  other bytes."""
  if image[:8] == _PNG and len(image) >= 24:
    width, height = struct.unpack('>II', image[16:24])
    return height, width
  i = 2
  while image[:2] == b'\xff\xd8' and i + 9 <= len(image) and image[i] == 0xFF:
    marker = image[i + 1]
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      return struct.unpack('>HH', image[i + 5 : i + 9])
    i += 1 if marker == 0xFF else 2 + struct.unpack('>H', image[i + 2 : i + 4])[0]
  raise ValueError(f'{len(image)} bytes that are neither a JPEG nor a PNG')


def scaled_size(height: int, width: int, divisor: int) -> tuple[int, int]:
  """Returns the (height, width) of an image decoded at 1/divisor of its size, rounded up as libjpeg
  rounds."""
  return -(-height // divisor), -(-width // divisor)


def decode(image: bytes, into: np.ndarray | None = None, divisor: int = 1) -> np.ndarray:
  """Returns the pixels (h, w, 3) uint8 of a JPEG or PNG, of the `scaled_size` by `divisor`.

  A pixel stands for divisor x divisor pixels of the image. Of a plain JPEG only the low frequencies
  of each block of 8 x 8 pixels are transformed, which is quicker than decoding it whole. Other
  images are decoded whole and averaged. A JPEG with a flaw that leaves it whole is decoded as
  TensorFlow does, which decoded such images before.

  Args:
    image: bytes of a JPEG or PNG.
    into: if the image is a plain JPEG and this has its size, the pixels are written here.
    divisor: 1, 2, 4 or 8.

  Raises:
    ValueError: for an image that cannot be decoded whole, or another divisor.
  """
  import simplejpeg

  if divisor not in DIVISORS:
    raise ValueError(f'divisor={divisor}; JPEGs are decoded at 1/1, 1/2, 1/4 or 1/8 of their size')
  if image[:8] == _PNG:
    return _averaged(_decode_png(image), divisor)
  if image[:2] != b'\xff\xd8':
    raise ValueError(f'{len(image)} bytes that are neither a JPEG nor a PNG')
  try:
    if divisor == 1:
      return simplejpeg.decode_jpeg(image, 'RGB', buffer=into)
    height, width = scaled_size(*image_size(image), divisor)
    return simplejpeg.decode_jpeg(
      image, 'RGB', min_height=height, min_width=width, min_factor=divisor, buffer=into
    )
  except ValueError as e:
    if not str(e).startswith(_HARMLESS):
      raise
  return _averaged(simplejpeg.decode_jpeg(image, 'RGB', fastdct=True, strict=False), divisor)


def _decode_png(image: bytes) -> np.ndarray:
  """Returns the pixels of a PNG: without its transparency, and of 16 bits the higher 8."""
  flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
  pixels = cv2.imdecode(np.frombuffer(image, np.uint8), flags)
  if pixels is None:
    raise ValueError(f'a PNG of {len(image)} bytes that is damaged or cut short')
  return pixels


def _averaged(pixels: np.ndarray, divisor: int) -> np.ndarray:
  """Returns the means of squares of divisor x divisor pixels; the last row and column are repeated
  where a square is not full."""
  if divisor == 1:
    return pixels
  height, width = scaled_size(pixels.shape[0], pixels.shape[1], divisor)
  below, right = height * divisor - pixels.shape[0], width * divisor - pixels.shape[1]
  full = cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REPLICATE)
  return cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA)
