"""Parameters and multiply-adds of every published variant, and what must hold of the modules that mix frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax import zoo
from vjax.heads import linear
from vjax.layers import temporal
from vjax.models import blresnet, inception, resnet, slowfast, x3d
from vjax.types import VideoModel

QUICK = (
  'v2_s_16x4',
  'multitrain_half_b_16x4',
  'i3d_r18',
  's3d_tp_r18',
  'slow_r50',
  'ip_csn_r50',
  'r50_4x16',
  'xs',
  '50',
)


@pytest.mark.parametrize(
  'figure',
  [
    pytest.param(
      f, id=f'{f.model}-{f.variant}-{f.frames}x{f.crop}', marks=() if f.variant in QUICK else pytest.mark.slow
    )
    for f in zoo.FIGURES
  ],
)
def test_parameters_and_multiply_adds(figure):
  """As the authors' code has them, where that was counted."""
  parameters, gmacs = zoo.measure(zoo.network(*figure[:5]), figure.frames, figure.crop)
  assert figure.parameters is None or parameters == figure.parameters
  assert figure.gmacs is None or gmacs == pytest.approx(figure.gmacs, rel=2e-3)


def test_rows_and_their_errors():
  row = next(zoo.rows('x3d/xs'))
  assert row[:4] == ('x3d', 'xs', '4x160x160', '400') and row[4] == '3,794,322' and row[7] == '3.76 M, 0.60 G'
  with pytest.raises(ValueError, match='x3d has xs, s'):
    zoo.network('x3d', 'xxl', 8, 64, 400)


def model(module, variant, classes, **settings):
  return VideoModel(module.Backbone(**{**module.VARIANTS[variant], **settings}), linear.Head(classes))


TINY = dict(width=0.125)


def logits(net, video):
  return np.asarray(jax.jit(lambda rng, x: net.init_with_output(rng, x, train=False)[0])(jax.random.key(0), video))


@pytest.mark.parametrize(
  ('module', 'variant', 'blind'),
  [
    (resnet, 'tsn_r18', True),
    pytest.param(inception, 'tsn', True, marks=pytest.mark.slow),
    (resnet, 'tam_r18', False),
    (resnet, 'tsm_r18', False),
  ],
)
def test_what_sees_the_order_of_frames(module, variant, blind):
  settings = {'zero_last': False} if module is resnet else {}
  net = model(module, variant, 5, **TINY, **settings)
  video = jax.random.normal(jax.random.key(1), (2, 8, 32, 32, 3))
  forth, back = logits(net, video), logits(net, video[:, ::-1])
  change = np.abs(forth - back).max() / np.abs(forth).max()
  assert change < 1e-5 if blind else change > 1e-4


def test_shift_by_hand():
  """Eight channels of a clip that counts frames: one from the next frame, one from the one before, six as they are."""
  x = jnp.broadcast_to(jnp.arange(1.0, 5.0)[None, :, None, None, None], (1, 4, 1, 1, 8))
  y = np.asarray(temporal.shift(x))[0, :, 0, 0]
  assert y[:, 0].tolist() == [2, 3, 4, 0] and y[:, 1].tolist() == [0, 1, 2, 3]
  assert (y[:, 2:] == np.arange(1, 5)[:, None]).all()


def test_pooling_by_hand():
  x = jnp.arange(8.0)[None, :, None, None, None]
  assert temporal.pool_frames(x)[0, :, 0, 0, 0].tolist() == [1, 3, 5, 7]
  np.testing.assert_allclose(temporal.pool_frames(x, 'avg')[0, :, 0, 0, 0], [1 / 3, 2, 4, 6], rtol=1e-6)


@pytest.mark.parametrize('kind', ['softmax', 'dot'])
@pytest.mark.parametrize('pool', ['before', 'after', ''])
def test_non_local_blocks_start_as_the_identity(kind, pool):
  block = temporal.NonLocal(kind=kind, pool=pool)
  x = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 8))
  variables = block.init(jax.random.key(1), x, False)
  np.testing.assert_array_equal(block.apply(variables, x, False), x)


@pytest.mark.parametrize(('where', 'stages'), [
  ('all', [2, 2, 2, 2]), ('bottom', [2, 2, 0, 0]), ('top', [0, 0, 2, 2]), ('uniform', [1, 1, 1, 1]), ((0, 7), [1, 0, 0, 1]),
])  # fmt: skip
def test_where_frames_are_mixed(where, stages):
  net = resnet.Backbone(**{**resnet.VARIANTS['tam_r18'], 'where': where})
  assert [sum(stage) for stage in net.mixed()] == stages


def test_tsm_leaves_out_every_second_block_of_long_stages():
  assert [sum(stage) for stage in resnet.Backbone(**resnet.VARIANTS['tsm_r101']).mixed()] == [3, 4, 12, 3]


def test_identity_start_of_tam():
  x = jax.nn.relu(jax.random.normal(jax.random.key(0), (1, 5, 2, 2, 6)))
  for dense in (False, True):
    layer = temporal.TAM(start='identity', dense=dense)
    np.testing.assert_allclose(layer.apply(layer.init(jax.random.key(1), x), x), x, atol=1e-6)


@pytest.mark.parametrize('variant', ['i3d_r18', 's3d_r18'])
@pytest.mark.slow
def test_without_side_slices_a_network_averages_its_frames(variant):
  """With the middle slice alone, a network without stride in time sees each frame by itself."""
  net = model(resnet, variant, 5, width=0.125, time_strides=(1, 1, 1, 1), zero_last=False)
  video = jax.random.normal(jax.random.key(2), (1, 4, 32, 32, 3))
  variables = net.init(jax.random.key(0), video, train=False)

  def middle(path, x):
    if x.ndim == 5 and x.shape[0] > 1:
      return jnp.zeros_like(x).at[x.shape[0] // 2].set(x[x.shape[0] // 2])
    return x

  variables = jax.tree_util.tree_map_with_path(middle, variables)
  whole = net.apply(variables, video, train=False)
  frames = jnp.stack([net.apply(variables, video[:, t : t + 1], train=False) for t in range(4)])
  np.testing.assert_allclose(whole, frames.mean(0), atol=1e-5)


def test_slow_frames():
  assert slowfast.slow_indices(32, 4, 'linspace').tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
  assert slowfast.slow_indices(32, 8, 'stride').tolist() == [0, 8, 16, 24]
  with pytest.raises(ValueError, match='multiple'):
    slowfast.slow_indices(30, 4, 'stride')


def test_squeeze_widths():
  assert [x3d.rounded(w / 16) for w in (54, 108, 216, 432)] == [8, 8, 16, 32]
  assert x3d.widths(2.0) == [24, 48, 96, 192] and x3d.widths(2.9) == [32, 72, 136, 280]


def test_blresnet_takes_frames_in_pairs():
  net = model(blresnet, '50', 5, width=0.125)
  features = lambda rng, x: net.init_with_output(rng, x, train=False, method='features')[0]
  video = jax.ShapeDtypeStruct((1, 4, 64, 64, 3), jnp.float32)
  assert jax.eval_shape(features, jax.random.key(0), video).maps[0].shape == (1, 2, 2, 2, 256)
  with pytest.raises(ValueError, match='even number'):
    jax.eval_shape(features, jax.random.key(0), jax.ShapeDtypeStruct((1, 3, 64, 64, 3), jnp.float32))
  assert blresnet.nearest(jnp.arange(2.0).reshape(1, 1, 1, 2, 1), (1, 5)).ravel().tolist() == [0, 0, 0, 1, 1]
