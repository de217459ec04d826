"""Histograms of oriented gradients, by hand-worked numbers."""

import jax
import jax.numpy as jnp
import numpy as np

from vjax.targets import hog

histograms = jax.jit(hog.histograms, static_argnums=1)


def ramp(right: float, down: float) -> np.ndarray:
  """A frame (1, 24, 24, 3) whose channels have slopes 1, 2 and -1 times the given ones."""
  rows, columns = np.mgrid[:24, :24]
  return ((right * columns + down * rows)[..., None] * [1.0, 2.0, -1.0])[None].astype(np.float32)


def test_a_ramp_has_one_orientation():
  """arctan(down / right) in bins of 20 degrees; opposite slopes are the same; all magnitudes have
  unit norm."""
  for (right, down), place in {(1, 0): 0, (1, 1): 2, (0, 1): 4, (-1, 1): 6, (-2, 0.1): 8}.items():
    found = histograms(ramp(right, down), (8, 8))
    assert found.shape == (1, 3, 3, 3, hog.BINS)
    want = np.eye(hog.BINS)[place]
    inner = found[0, 1, 1]  # borders are reflected: these cells have other gradients
    np.testing.assert_allclose(inner, np.broadcast_to(want, (3, 9)), atol=1e-6)


def test_a_cell_worked_by_hand():
  """Pixels are a sum of columns 0 1 4 and rows 0 0 3. Of the borders, which are reflected, one
  direction is left: twice 16 to the right and twice 12 downwards; the middle has both, 20 at 37
  degrees."""
  image = jnp.array([0.0, 1, 4])[None, :] + jnp.array([0.0, 0, 3])[:, None]
  found = histograms(image[None, ..., None], (3, 3)).ravel()
  np.testing.assert_allclose(found, np.array([32, 20, 0, 0, 24, 0, 0, 0, 0]) / 2000**0.5, rtol=1e-5)
  assert not histograms(jnp.ones((1, 3, 3, 1)), (3, 3)).any(), 'a flat cell is 0'


def test_tokens_are_cells_of_the_first_frame_of_each_patch():
  frame = ramp(1, 0)[:, :16, :16]
  video = np.stack([frame, ramp(0, 1)[:, :16, :16]] * 2, axis=1)  # (1, 4, 16, 16, 3)
  patch = (2, 16, 16)
  of_tokens = jax.jit(hog.of_tokens, static_argnums=(1, 2))
  wanted = of_tokens(video, patch, 'stride')
  assert wanted.shape == (1, 2, hog.values(patch)) == (1, 2, 2 * 2 * 3 * 9)
  by_cell = histograms(frame, (8, 8)).reshape(-1)
  np.testing.assert_allclose(wanted[0, 0], by_cell, atol=1e-6)
  small = of_tokens(video, (2, 4, 4), 'stride')  # patches below a cell are one cell
  assert small.shape == (1, 32, 27)
  error = jax.jit(lambda *x: hog.error(*x, patch, target='stride'))(wanted, video)
  np.testing.assert_allclose(error, 0, atol=1e-12)
