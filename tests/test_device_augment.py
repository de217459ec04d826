"""RandAugment and erasing on the accelerator beside the host's, on padded frames."""

import cv2
import jax
import numpy as np
import pytest

from tests.data.test_augment import picture
from vjax import device_augment, sharding
from vjax.config import RAND_AUGMENT
from vjax.data import augment as augments
from vjax.data import randaugment

CANVAS = (40, 48)
MOVES = ('rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y')


@pytest.fixture(scope='module')
def augment():
  """rand_augment of four clips of two operations on four devices, compiled once for all tests."""
  mesh = sharding.mesh(2, jax.devices()[:4])
  return jax.jit(sharding.by_rows(mesh, device_augment.rand_augment))


def padded(frames, seed=1):
  """The frames in the upper left of a canvas of noise, which no operation may use."""
  out = np.random.default_rng(seed).integers(0, 256, (len(frames), *CANVAS, 3)).astype(np.uint8)
  out[:, : frames.shape[1], : frames.shape[2]] = frames
  return out


def noise(height, width):
  return np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize('name', RAND_AUGMENT)
def test_operations_are_the_hosts(augment, name):
  """The largest difference and the share of pixels that differ: 0 for all operations but moves; of
  moves 1 level, of less than a thousandth of the pixels."""
  ops = np.int32([[RAND_AUGMENT.index(name), RAND_AUGMENT.index('identity')]] * 4)
  for size in ((32, 40), (37, 48), CANVAS):
    flat = np.full((2, *size, 3), 77, np.uint8)
    clips = noise(*size), picture(*size), picture(*size) // 2 + 40, flat
    video, sizes = np.stack([padded(frames) for frames in clips]), np.int32([size] * 4)
    for level, sign in ((0.0, 1.0), (3.3, 1.0), (7.2, -1.0), (10.0, 1.0)):
      value = np.float32(randaugment.argument(name, level, sign))
      values = np.array([[value, 0]] * 4, np.float32)
      found = np.asarray(augment(video, sizes, ops, values))[:, :, : size[0], : size[1]]
      for clip, frames in zip(found, clips):
        expected = np.stack([randaugment.apply(x, name, float(value)) for x in frames])
        difference = np.abs(clip.astype(int) - expected)
        if name not in MOVES:
          assert not difference.any(), (size, level)
        elif cv2.__version__ < '5':  # which rounds coordinates to 1/32 px
          assert difference.max() <= 8, (size, level)
        else:
          assert difference.max() <= 1 and (difference > 0).mean() < 1e-3, (size, level)


def test_every_clip_has_its_own_operations_in_their_order(augment):
  sizes = np.int32([(32, 40), CANVAS, (32, 40), (20, 48)])
  names = (('invert', 'posterize'), ('posterize', 'invert'), ('identity', 'equalize'))
  names = (*names, ('contrast', 'autocontrast'))
  values = np.float32([(0, 2), (2, 0), (0, 0), (0.3, 0)])
  ops = np.int32([[RAND_AUGMENT.index(name) for name in pair] for pair in names])
  frames = [picture(*size, seed=i) for i, size in enumerate(sizes)]
  video = np.stack([padded(x) for x in frames])
  found = np.asarray(augment(video, sizes, ops, values))
  for clip, size, pixels, pair, value in zip(found, sizes, frames, names, values):
    for t, frame in enumerate(pixels):
      for name, argument in zip(pair, value):
        frame = randaugment.apply(frame, name, float(argument))
      np.testing.assert_array_equal(clip[t, : size[0], : size[1]], frame)


def test_erased_boxes_have_the_hosts_distribution():
  video = np.full((3, 2, 48, 48, 3), 7.5, np.float32)
  boxes = np.int32([(2, 3, 40, 44), (0, 0, 0, 0), (1, 0, 9, 48)])
  seeds = np.int32([(5, 6), (5, 6), (2**31 - 1, 0)])
  erase = jax.jit(device_augment.erase)
  found = np.asarray(erase(video, boxes, seeds))
  assert (found[1] == 7.5).all()
  for clip, (y, x, h, w) in zip(found, boxes):
    inside = np.zeros((48, 48), bool)
    inside[y : y + h, x : x + w] = True
    assert (clip[:, ~inside] == 7.5).all() and not (clip[:, inside] == 7.5).any()
  box = found[0, :, 2:42, 3:47]
  host = np.stack([augments._noise(np.int32([5, 6]), t, 40, 44) for t in range(2)])
  assert (box == box.astype(np.uint8)).all() and (box[0] != box[1]).mean() > 0.9
  levels = np.arange(256)
  shares = [(x.reshape(-1, 1) <= levels).mean(0) for x in (box, host)]
  assert np.abs(shares[0] - shares[1]).max() < 1.95 * np.sqrt(2 / box.size)  # Kolmogorov, 1/1000
  np.testing.assert_array_equal(found[0], erase(video[:1], boxes[:1], seeds[:1])[0])
  other = np.asarray(erase(video, boxes, seeds + np.int32([0, 1])))
  assert (other[0] != found[0])[:, 2:42, 3:47].mean() > 0.9
