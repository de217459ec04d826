"""Encoded images: sizes, pixels as TensorFlow decodes them, and decoding at a fraction of the size."""

import io
import subprocess
import sys

import cv2
import numpy as np
import pytest
import simplejpeg

from tests.faults.commands import ROOT
from vjax.data import image

RNG = np.random.default_rng(0)
# Smooth, with noise: every coefficient of a block counts.
PIXELS = np.uint8(np.linspace(30, 200, 64)[:, None] + RNG.uniform(0, 50, (48, 64, 3)))
JPEG = simplejpeg.encode_jpeg(PIXELS, 90, 'RGB', '420')


def png(pixels: np.ndarray, mode: str = '', **settings) -> bytes:
  from PIL import Image

  stream = io.BytesIO()
  picture = Image.fromarray(pixels)
  (picture.convert(mode) if mode else picture).save(stream, 'PNG', **settings)
  return stream.getvalue()


def deep_png() -> bytes:
  """16 bits a color."""
  import cv2

  return cv2.imencode('.png', PIXELS.astype(np.uint16) * 257 + 60)[1].tobytes()


def by_tensorflow(data: bytes) -> np.ndarray | None:
  """Pixels, None where TensorFlow refuses them."""
  import tensorflow as tf

  try:
    return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
  except tf.errors.OpError:
    return None


def by_vjax(data: bytes) -> np.ndarray | None:
  try:
    return image.decode(data)
  except ValueError:
    return None


def test_image_size_of_png_and_rubbish():
  assert image.image_size(png(np.zeros((5, 9, 3), np.uint8))) == (5, 9)
  with pytest.raises(ValueError, match='neither a JPEG nor a PNG'):
    image.image_size(b'GIF89a' + bytes(30))


def texture(height: int, width: int) -> np.ndarray:
  coarse = np.random.default_rng(0).uniform(0, 255, (height // 6, width // 6, 3))
  return cv2.resize(coarse, (width, height)).astype(np.uint8)


def means(pixels: np.ndarray, n: int) -> np.ndarray:
  """Means of n x n pixels, the last row and column repeated."""
  pad = [(0, -s % n) for s in pixels.shape[:2]]
  full = np.pad(pixels.astype(float), [*pad, (0, 0)], mode='edge')
  height, width = full.shape[0] // n, full.shape[1] // n
  return full.reshape(height, n, width, n, 3).mean((1, 3))


@pytest.mark.parametrize('divisor', [2, 4, 8])
@pytest.mark.parametrize('subsampling', ['420', '444'])
def test_reduced_jpegs_are_means_of_squares(divisor, subsampling):
  pixels = texture(150, 211)
  jpeg = simplejpeg.encode_jpeg(pixels, 95, 'RGB', subsampling)
  shape = (*image.scaled_size(150, 211, divisor), 3)
  into = np.zeros(shape, np.uint8)
  found = image.decode(jpeg, into, divisor)
  assert found.shape == shape and np.shares_memory(found, into)
  error = np.abs(found - means(pixels, divisor))
  shifted = np.abs(found[:, 1:] - means(pixels, divisor)[:, :-1])
  assert error.mean() < 2.5
  assert 3 * error.mean() < shifted.mean()  # the right place


def test_reduced_pngs_have_the_shape_of_jpegs():
  import tensorflow as tf

  for size in [(21, 35), (16, 16), (9, 50)]:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    png = tf.io.encode_png(pixels).numpy()
    jpeg = simplejpeg.encode_jpeg(pixels, 90, 'RGB', '420')
    for divisor in image.DIVISORS:
      found = image.decode(png, divisor=divisor)
      assert found.shape == image.decode(jpeg, divisor=divisor).shape
      assert np.abs(found - means(pixels, divisor)).max() <= 0.5
  with pytest.raises(ValueError, match='divisor=3; JPEGs are decoded at'):
    image.decode(jpeg, divisor=3)


def test_broken_images_are_refused_at_every_size():
  jpeg = simplejpeg.encode_jpeg(texture(60, 60), 90, 'RGB', '420')
  for divisor in image.DIVISORS:
    with pytest.raises(ValueError):
      image.decode(jpeg[: len(jpeg) // 2], divisor=divisor)


@pytest.mark.parametrize(
  'data',
  [
    pytest.param(png(PIXELS), id='color'),
    pytest.param(png(PIXELS[..., 0]), id='gray'),
    pytest.param(png(np.concatenate([PIXELS, PIXELS[..., :1]], -1)), id='transparent'),
    pytest.param(png(PIXELS, 'LA'), id='gray, transparent'),
    pytest.param(png(PIXELS, 'P'), id='palette'),
    pytest.param(png(PIXELS, 'P', transparency=3), id='palette, transparent'),
    pytest.param(png(PIXELS, '1'), id='1 bit'),
    pytest.param(deep_png(), id='16 bits'),
  ],
)
def test_pngs_are_decoded_as_by_tensorflow(data):
  np.testing.assert_array_equal(image.decode(data), by_tensorflow(data))
  for end in (30, len(data) // 2, len(data) - 20):
    assert by_tensorflow(data[:end]) is None
    with pytest.raises(ValueError, match='damaged or cut short'):
      image.decode(data[:end])


def test_flawed_jpegs_are_decoded_or_refused_as_by_tensorflow():
  """Images whole in spite of a flaw have the pixels that they had; those cut short are refused."""
  start = JPEG.index(b'\xff\xda') + 14  # behind the headers, where nothing but pixels is
  outcomes = set()
  for place in range(start, len(JPEG) - 2, 97):
    for bit in (1, 0x40):
      data = bytearray(JPEG)
      data[place] ^= bit
      data = bytes(data)
      ours, theirs = by_vjax(data), by_tensorflow(data)
      try:
        simplejpeg.decode_jpeg(data)  # without a flaw that libjpeg sees
      except ValueError:
        outcomes.add(ours is None)
        np.testing.assert_array_equal(ours, theirs)
  assert False in outcomes
  for cut in (1, 2, 10, len(JPEG) // 2, len(JPEG) - 10):
    assert by_vjax(JPEG[:-cut]) is None and by_tensorflow(JPEG[:-cut]) is None
  np.testing.assert_array_equal(
    by_vjax(JPEG[:-2] + b'junk' + JPEG[-2:]), by_tensorflow(JPEG[:-2] + b'junk' + JPEG[-2:])
  )


def test_pngs_and_flawed_jpegs_need_no_tensorflow(tmp_path):
  files = {'png': png(PIXELS), 'flawed': JPEG[:-2] + b'junk' + JPEG[-2:], 'cut': JPEG[:-20]}
  for name, data in files.items():
    (tmp_path / name).write_bytes(data)
  code = (
    'import pathlib, sys\n'
    'from vjax.data import image\n'
    "png, flawed, cut = (pathlib.Path(sys.argv[1], n).read_bytes() for n in ('png', 'flawed', 'cut'))\n"
    'assert image.decode(png).shape == image.decode(flawed).shape == (48, 64, 3)\n'
    'try: image.decode(cut)\n'
    "except ValueError as e: assert 'Premature end of JPEG file' in str(e)\n"
    "else: raise AssertionError('not refused')\n"
    "assert 'tensorflow' not in sys.modules\n"
  )
  subprocess.run([sys.executable, '-c', code, str(tmp_path)], cwd=ROOT, check=True)
