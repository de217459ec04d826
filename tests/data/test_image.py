"""Sizes of encoded images."""

import numpy as np
import pytest

from vjax.data import image


def test_image_size_of_png_and_rubbish():
  import tensorflow as tf

  assert image.image_size(tf.io.encode_png(np.zeros((5, 9, 3), np.uint8)).numpy()) == (5, 9)
  with pytest.raises(ValueError, match='neither a JPEG nor a PNG'):
    image.image_size(b'GIF89a' + bytes(30))
