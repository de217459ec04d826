"""Encoded images: reads their size from the header, and decodes pixels."""

from __future__ import annotations

import struct

import numpy as np


def image_size(image: bytes) -> tuple[int, int]:
  """Returns the (height, width) that the header of a JPEG or PNG states. Raises ValueError for
  other bytes."""
  if image[:8] == b'\x89PNG\r\n\x1a\n' and len(image) >= 24:
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
  """Returns the pixels (H, W, 3) uint8 of an encoded image.

  If the image is a plain JPEG of the size of `into`, its pixels are written there. Raises
  ValueError for an image that cannot be decoded whole.
  """
  import simplejpeg

  try:
    return simplejpeg.decode_jpeg(image, 'RGB', buffer=into)
  except ValueError:  # not a JPEG, or one with a flaw: TensorFlow decides if it is harmless
    import tensorflow as tf
  try:
    return tf.io.decode_image(image, channels=3, expand_animations=False).numpy()
  except tf.errors.OpError as e:
    raise ValueError(e.message.split('\n')[0]) from None
