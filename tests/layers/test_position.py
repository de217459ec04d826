import jax.numpy as jnp
import numpy as np
import pytest

from vjax.layers import position


def test_patch_order():
  video = np.arange(2.0 * 4 * 6 * 9 * 3).reshape(2, 4, 6, 9, 3)
  tokens = position.patchify(
    jnp.asarray(video, jnp.float32), (2, 3, 4)
  )  # 9 columns: the last is left out
  assert tokens.shape == (2, 2 * 2 * 2, 2 * 3 * 4 * 3)
  t, h, w = 1, 0, 1
  wanted = video[
    1, 2 * t : 2 * t + 2, 3 * h : 3 * h + 3, 4 * w : 4 * w + 4
  ].ravel()  # frame, row, column, channel
  np.testing.assert_array_equal(tokens[1, (t * 2 + h) * 2 + w], wanted)
  back = position.unpatchify(tokens, (2, 2, 2), (2, 3, 4))
  np.testing.assert_array_equal(back, video[:, :, :, :8])


def test_grid_errors():
  assert position.grid_of((40, 312, 312), (2, 16, 16)) == (20, 19, 19)
  for shape in [(15, 224, 224), (16, 8, 224)]:
    with pytest.raises(ValueError, match='does not split'):
      position.grid_of(shape, (2, 16, 16))


def test_fixed_positions():
  table = position.sincos((2, 3, 4), 20)
  assert table.shape == (24, 20)
  np.testing.assert_array_equal(table[:, 18:], 0)
  t, h, w = 1, 2, 3
  token = table[(t * 3 + h) * 4 + w, :18].reshape(3, 2, 3)  # axis, sine or cosine, frequency
  rates = np.array([1, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)])
  for axis, place in enumerate((t, h, w)):
    np.testing.assert_allclose(
      token[axis], [np.sin(place * rates), np.cos(place * rates)], rtol=1e-6
    )
  assert len(np.unique(table, axis=0)) == 24
  larger = position.sincos((4, 3, 4), 20)  # more frames: the first keep their places
  np.testing.assert_array_equal(larger[:24], table)
  with pytest.raises(ValueError, match='width is 5'):
    position.sincos((2, 2, 2), 5)


def test_cubic_kernel_is_torchs():
  # Twice as large: the new point lies a quarter off, its four weights are those of a = -0.75.
  out = position.resize_spatial(np.eye(8)[None].repeat(8, 0).reshape(1, 64, 8), (8, 8), (8, 16))
  weights = out.reshape(8, 16, 8)[0, 9]
  np.testing.assert_allclose(
    weights[2:7], [0, -0.10546875, 0.87890625, 0.26171875, -0.03515625][0:5], atol=1e-12
  )


def test_no_antialias_and_border():
  # 4 -> 2: new points at 0.5 and 2.5, halfway between neighbors; the outermost taps are read at
  # the border.
  out = position.resize_spatial(np.eye(4)[None], (1, 4), (1, 2))[0]
  near, far = 0.59375, -0.09375
  np.testing.assert_allclose(
    out, [[near + far, near, far, 0], [0, far, near, near + far]], atol=1e-12
  )


@pytest.mark.parametrize('new', [(14, 14), (19, 19), (7, 20)])
def test_spatial_weights_sum_to_one(new):
  same = position.resize_spatial(np.ones((1, 196, 2)), (14, 14), new)
  assert same.shape == (1, new[0] * new[1], 2)
  np.testing.assert_allclose(same, 1, atol=1e-12)


def test_spatial_keeps_linear_ramps_inside():
  rows = np.arange(10.0)[:, None].repeat(10, 1).reshape(1, 100, 1)
  out = position.resize_spatial(rows, (10, 10), (20, 10)).reshape(20, 10)
  centers = (np.arange(20) + 0.5) / 2 - 0.5
  assert (
    np.abs(out[4:-4, 3] - centers[4:-4]).max() < 0.05
  )  # a = -0.75 is not exact on ramps, but near


def test_temporal():
  x = np.array([0.0, 1.0, 4.0, 9.0])[None, :, None]
  np.testing.assert_allclose(
    position.resize_temporal(x, 8).ravel(), [0, 0.25, 0.75, 1.75, 3.25, 5.25, 7.75, 9]
  )
  np.testing.assert_allclose(position.resize_temporal(x, 2).ravel(), [0.5, 6.5])


def test_joint_equals_its_parts():
  rng = np.random.default_rng(0)
  space, time, row = (
    rng.normal(size=(1, 6, 4)),
    rng.normal(size=(1, 3, 4)),
    rng.normal(size=(1, 1, 4)),
  )
  both = np.concatenate([row, (time[:, :, None] + space[:, None]).reshape(1, 18, 4)], 1)
  out = position.resize_joint(both, (3, 2, 3), (5, 4, 6))
  space, time = position.resize_spatial(space, (2, 3), (4, 6)), position.resize_temporal(time, 5)
  np.testing.assert_allclose(
    out[:, 1:], (time[:, :, None] + space[:, None]).reshape(1, 120, 4), atol=1e-12
  )
  np.testing.assert_array_equal(out[:, :1], row)
  np.testing.assert_allclose(position.resize_joint(both[:, 1:], (3, 2, 3), (5, 4, 6)), out[:, 1:])


def test_resize_by_name():
  x = np.random.default_rng(0).normal(size=(1, 196, 4)).astype(np.float32)
  assert position.resize('backbone/position_spatial', x, (1, 196, 4)) is x
  out = position.resize('backbone/position_spatial', x, (1, 361, 4))
  assert out.dtype == np.float32 and out.shape == (1, 361, 4)
  np.testing.assert_array_equal(out, position.resize_spatial(x, (14, 14), (19, 19)))
  assert position.resize('head/position_temporal', x[:, :8], (1, 20, 4)).shape == (1, 20, 4)
  oblong = position.resize(
    'position_spatial', x, (1, 14 * 20, 4), old_grid=(8, 14, 14), new_grid=(8, 14, 20)
  )
  assert oblong.shape == (1, 280, 4)
  joint = np.zeros((1, 1 + 8, 4))
  assert position.resize(
    'position', joint, (1, 19, 4), old_grid=(2, 2, 2), new_grid=(2, 3, 3)
  ).shape == (1, 19, 4)
  for name, old, shape, match in [
    ('position', joint, (1, 19, 4), 'grid'),
    ('position_spatial', x, (1, 280, 4), 'not those of a square crop: give old_grid'),
    ('position_spatial', x, (1, 361, 8), 'number of positions'),
    ('position_class', x, (1, 361, 4), 'no rule'),
  ]:
    with pytest.raises(ValueError, match=match):
      position.resize(name, old, shape)
