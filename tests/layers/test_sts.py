"""STS convolution: the published layers' outputs, and what the paper says must hold."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden_files
from vjax import factory
from vjax.kernels import conv
from vjax.layers import sts
from vjax.layers.sts import STSConv

GOLDEN = golden_files.load('sts_layers')
CASES = {case['name']: case for case in GOLDEN['cases']}
STRIDES = {'stride122': (1, 2, 2), 'temporal_stride2': (2, 1, 1)}


def channels_last(x):
  return np.moveaxis(x, 1, -1)


def to_kernel(weight):
  return np.transpose(weight, (2, 3, 4, 1, 0))


def conv3d(x, kernel, *settings, **more):
  return jax.jit(lambda x, kernel: conv.conv3d(x, kernel, *settings, **more))(x, kernel)


@functools.partial(jax.jit, static_argnames='settings')
def compiled(x, kernel, settings):
  groups = x.shape[-1] // kernel.shape[3]
  layer = STSConv(kernel.shape[-1], kernel.shape[:3], groups=groups, **dict(settings))
  return layer.apply({'params': {'kernel': kernel}}, x)


def run(x, kernel, **settings):
  return compiled(jnp.asarray(x), jnp.asarray(kernel), tuple(settings.items()))


@pytest.mark.parametrize('name', sorted(CASES))
def test_equals_the_published_layer(name):
  case = CASES[name]
  strides = next((s for end, s in STRIDES.items() if name.endswith(end)), (1, 1, 1))
  kernel = to_kernel(golden_files.weight(case['weight_name'], case['weight_shape']))
  x = channels_last(golden_files.model_input(case['input_shape']))
  found = np.asarray(run(x, kernel, strides=strides))
  expected = channels_last(np.reshape(case['output'], case['output_shape']))
  np.testing.assert_allclose(found, expected, atol=10 * case['float64_max_abs_diff'])


@pytest.mark.parametrize('groups', [1, 8])
@pytest.mark.parametrize(('shape', 'stride'), [((3, 3, 3), 1), ((3, 3, 3), 2), ((3, 1, 1), 1)])
def test_without_side_slices_it_is_the_plain_convolution(shape, stride, groups):
  if shape == (3, 1, 1) and groups > 1:
    pytest.skip('there is none')
  kernel = golden_files.normal('k', (*shape, 8 // groups, 8))
  kernel[[0, 2]] = 0
  x = golden_files.normal('x', (2, 3, 6, 6, 8))
  if shape == (
    3,
    1,
    1,
  ):  # its slices are shared out in space: only the middle one stays where it is
    expected = conv3d(x, kernel, padding=(1, 0, 0))
  else:
    expected = conv3d(x, kernel, (1, stride, stride), (1, 1, 1), groups=groups)
  np.testing.assert_allclose(run(x, kernel, strides=(1, stride, stride)), expected, atol=1e-5)


def test_impulses():
  """Nine taps along the row and along the column of an impulse, first tap ahead."""
  for slice_, pick in ((0, lambda y: y[0, 0, 10, 6:15, 0]), (2, lambda y: y[0, 0, 6:15, 10, 0])):
    kernel = np.zeros((3, 3, 3, 1, 4), np.float32)
    kernel[slice_] = np.arange(1, 10).reshape(3, 3, 1, 1)
    x = np.zeros((1, 1, 20, 20, 4), np.float32)
    x[0, 0, 10, 10] = 1
    y = np.asarray(run(x, kernel))
    assert pick(y).tolist() == list(range(9, 0, -1)) and np.count_nonzero(y[..., 0]) == 9


def test_impulse_of_a_temporal_kernel_and_where_lines_end():
  kernel = np.broadcast_to(np.float32([1, 2, 3])[:, None, None, None, None], (3, 1, 1, 1, 4))
  x = np.zeros((1, 1, 5, 6, 1), np.float32)
  x[0, 0, 2, 3] = 1
  y = np.asarray(run(x, kernel))[0, 0]
  assert y[2, 2:5, 0].tolist() == [3, 2, 1] and y[1:4, 3, 1].tolist() == [3, 2, 1]
  x = np.roll(x, 2, axis=3)  # the last pixel of row 2
  assert np.asarray(run(x, kernel))[0, 0, 3, 0, 0] == 1
  assert np.asarray(run(x, kernel, lines='aligned'))[0, 0, 3, 0, 0] == 0


def test_gradients_on_a_single_frame():
  """On images static side slices learn, dynamic ones get nothing (sec. 3.2)."""
  kernel, x = golden_files.normal('k', (3, 3, 3, 1, 8)), golden_files.normal('x', (2, 1, 6, 6, 8))
  gradient = np.asarray(jax.jit(jax.grad(lambda k: jnp.sum(run(x, k) ** 2)))(jnp.asarray(kernel)))
  assert (np.abs(gradient[..., :4]).max((1, 2, 3, 4)) > 0).all()
  assert (gradient[[0, 2], ..., 4:] == 0).all() and (gradient[1, ..., 4:] != 0).any()


@pytest.mark.parametrize(
  ('ratio', 'static'), [((1, 1), 12), ((1, 2), 8), ((2, 1), 16), ((1, 6), 2)]
)
def test_ratio(ratio, static):
  """Static outputs mix no frames, dynamic ones do."""
  kernel = golden_files.normal('k', (3, 3, 3, 1, 24))
  x = np.zeros((1, 3, 4, 4, 24), np.float32)
  x[:, 1] = 1
  moved = np.abs(np.asarray(run(x, kernel, ratio=ratio))[0, 0]).max((0, 1)) > 0
  assert moved.tolist() == [False] * static + [True] * (24 - static)


def test_variants():
  kernel, x = golden_files.normal('k', (3, 3, 3, 8, 8)), golden_files.normal('x', (1, 3, 6, 6, 8))
  plain = conv3d(x, kernel, padding=(1, 1, 1))
  np.testing.assert_allclose(run(x, kernel, variant='plain'), plain, atol=1e-5)
  still = conv3d(x, kernel[1:2, ..., :4], padding=(0, 1, 1))
  wide = sum(
    conv3d(x, kernel[i : i + 1, ..., :4], padding=(0, 3, 3), dilation=(1, 3, 3)) for i in (0, 2)
  )
  found = run(x, kernel, variant='no_split'), run(x, kernel, variant='dilated', dilation=3)
  for y, static in zip(found, (still, still + wide)):
    np.testing.assert_allclose(y, np.concatenate([static, plain[..., 4:]], -1), atol=1e-4)


@pytest.mark.parametrize(
  ('shape', 'kernel', 'settings', 'words'),
  [
    ((1, 2, 6, 6, 8), (2, 1, 1, 8, 8), {}, 'odd k'),
    ((1, 2, 5, 6, 8), (3, 3, 3, 8, 8), {'strides': (1, 2, 2)}, "lines='aligned'"),
    ((1, 2, 6, 6, 8), (3, 1, 1, 8, 8), {'strides': (1, 2, 2)}, 'spatial stride 1'),
    ((1, 2, 6, 6, 8), (3, 3, 3, 8, 8), {'variant': 'twisted'}, 'no_split'),
    ((1, 2, 6, 6, 8), (3, 3, 3, 4, 8), {'ratio': (1, 2)}, 'inside a group'),
    ((1, 2, 6, 6, 8), (3, 3, 3, 8, 8), {'ratio': (1, 0)}, 'the second at least 1'),
  ],
)
def test_errors_name_the_remedy(shape, kernel, settings, words):
  with pytest.raises(ValueError, match=words):
    run(np.zeros(shape, np.float32), np.zeros(kernel, np.float32), **settings)


@pytest.mark.parametrize('features', [1, 2, 3])
def test_a_single_static_output_looks_along_columns(features):
  """Of tiny networks: one of two or three outputs is static, of one none."""
  kernel = np.broadcast_to(np.float32([1, 2, 3])[:, None, None, None, None], (3, 1, 1, 1, features))
  x = np.zeros((1, 1, 5, 6, 1), np.float32)
  x[0, 0, 2, 3] = 1
  y = np.asarray(run(x, kernel))[0, 0]
  assert y[1:4, 3, 0].tolist() == ([3, 2, 1] if features > 1 else [0, 2, 0])
  assert y[2, 2:5, -1].tolist() == [0, 2, 0]


def test_static_outputs_of_a_network():
  """SlowOnly's convolutions through time stand in res4 and res5."""
  net = factory.create_model('sts_slow_r50', 5, width=0.125, depths=(1, 1, 2, 1))
  found = sts.static_outputs(net, jax.ShapeDtypeStruct((1, 4, 32, 32, 3), jnp.float32))
  names = {'res4/block0': 16, 'res4/block1': 16, 'res5/block0': 32}
  assert found == {f'backbone/{block}/conv1/kernel': width for block, width in names.items()}
