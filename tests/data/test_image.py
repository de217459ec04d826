"""Sizes of encoded images, and decoding at a fraction of the size."""

import cv2
import numpy as np
import pytest
import simplejpeg

from vjax.data import image


def test_image_size_of_png_and_rubbish():
  import tensorflow as tf

  assert image.image_size(tf.io.encode_png(np.zeros((5, 9, 3), np.uint8)).numpy()) == (5, 9)
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
