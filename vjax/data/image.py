"""Encoded images: reads their size from the header, and decodes pixels."""

from __future__ import annotations

import struct

import numpy as np

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


def decode(image: bytes, into: np.ndarray | None = None) -> np.ndarray:
  """Returns the pixels (H, W, 3) uint8 of a JPEG or PNG.

  If the image is a plain JPEG of the size of `into`, its pixels are written there. A JPEG with a
  flaw that leaves it whole is decoded as TensorFlow does, which decoded such images before. Raises
  ValueError for an image that cannot be decoded whole.
  """
  import simplejpeg

  if image[:8] == _PNG:
    return _decode_png(image)
  if image[:2] != b'\xff\xd8':
    raise ValueError(f'{len(image)} bytes that are neither a JPEG nor a PNG')
  try:
    return simplejpeg.decode_jpeg(image, 'RGB', buffer=into)
  except ValueError as e:
    if not str(e).startswith(_HARMLESS):
      raise
  return simplejpeg.decode_jpeg(image, 'RGB', fastdct=True, strict=False)


def _decode_png(image: bytes) -> np.ndarray:
  """Returns the pixels of a PNG: without its transparency, and of 16 bits the higher 8."""
  import cv2

  flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
  pixels = cv2.imdecode(np.frombuffer(image, np.uint8), flags)
  if pixels is None:
    raise ValueError(f'a PNG of {len(image)} bytes that is damaged or cut short')
  return pixels
