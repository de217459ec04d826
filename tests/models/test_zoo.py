"""Parameters and multiply-adds of every published variant, and what must hold of the modules that mix frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax import macs
from vjax.heads import linear
from vjax.layers import temporal
from vjax.models import inception, resnet, slowfast, x3d
from vjax.types import VideoModel


def model(module, variant, classes, hidden=0, **settings):
  return VideoModel(module.Backbone(**{**module.VARIANTS[variant], **settings}), linear.Head(classes, hidden=hidden))


def clip(frames, crop):
  return jax.ShapeDtypeStruct((1, frames, crop, crop, 3), jnp.float32)


def shapes(net, video):
  return jax.eval_shape(lambda rng, x: net.init(rng, x, train=False), jax.random.key(0), video)


def parameters(net, video) -> int:
  return sum(x.size for x in jax.tree.leaves(shapes(net, video)['params']))


def giga_macs(net, video) -> float:
  variables = shapes(net, video)
  return macs.count(lambda v, x: net.apply(v, x, train=False), variables, video) / 1e9


# Chen et al. 2021, table 10 and the authors' log: 8 frames of 224 px, 87 classes; GMACs without and with pooling in time.
FRAMEWORK = {
  'inception': {
    'tsn': (5_689_079, 11.98, 6.52), 'tam': (5_706_503, 12.05, 6.57), 'i3d': (12_376_439, 33.81, 21.41),
    's3d': (7_992_503, 19.78, 12.26), 'tam_dense': (17_206_775, 32.18, None),
  },
  'r18': {
    'tsn': (11_221_143, 14.51, 7.52), 'tam': (11_225_559, 14.53, 7.54), 'i3d': (33_210_903, 43.22, 22.47),
    's3d': (15_425_559, 21.33, 12.13),
  },
  'r50': {
    'tsn': (23_686_295, 32.70, 14.14), 'tam': (23_725_655, 32.83, 14.21), 'i3d': (46_339_607, 64.18, 29.46),
    's3d': (27_485_079, 39.52, 19.67), 'tam_dense': (71_474_327, 106.99, None), 'tsm': (23_686_295, 32.70, 14.14),
    'nln': (31_044_759, 54.9, None),
  },
  'r101': {
    'tsn': (42_678_423, 62.40, 21.56), 'tam': (42_770_007, 62.61, 21.66), 'i3d': (85_385_751, 125.32, 44.75),
    's3d': (49_828_247, 74.46, 28.41),
  },
}  # fmt: skip


def quick(chosen, *values):
  """A case, slow unless chosen: tracing a deep network takes seconds."""
  return pytest.param(*values, marks=() if chosen else pytest.mark.slow)


@pytest.mark.parametrize(
  ('backbone', 'kind'), [quick(b == 'r18' and k != 'tsn', b, k) for b, kinds in FRAMEWORK.items() for k in kinds]
)
def test_framework(backbone, kind):
  count, off, on = FRAMEWORK[backbone][kind]
  module, name = (inception, '{}') if backbone == 'inception' else (resnet, '{}_' + backbone)
  net = model(module, name.format(kind), 87)
  assert parameters(net, clip(8, 224)) == count
  assert giga_macs(net, clip(8, 224)) == pytest.approx(off, rel=2e-3)
  if on:
    pooled = model(module, name.format(f'{kind}_tp'), 87)
    assert parameters(pooled, clip(8, 224)) == count
    assert giga_macs(pooled, clip(8, 224)) == pytest.approx(on, rel=2e-3)


# module, variant, frames, crop, parameters at 400 classes, GMACs: Feichtenhofer et al. 2019; Feichtenhofer 2020; Tran et al.
# 2019, PySlowFast's and PyTorchVideo's files.
ZOO = [
  (resnet, 'c2d_r50', 8, 256, 24_327_632, 25.46),
  (resnet, 'c2d_nopool_r50', 8, 256, 24_327_632, 42.71),
  (resnet, 'i3d_3x1x1_r50', 8, 256, 28_043_472, 37.11),
  (resnet, 'i3d_nln_r50', 8, 256, 35_401_936, 48.9),
  (resnet, 'slow_r50', 8, 256, 32_454_096, 54.52),
  (resnet, 'ir_csn_r50', 32, 224, 13_131_152, 42.31),
  (resnet, 'ip_csn_r50', 32, 224, 14_396_176, 47.65),
  (resnet, 'ir_csn_r101', 32, 256, 22_213_776, 73.76),
  (resnet, 'ip_csn_r101', 32, 256, 24_601_616, 83.02),
  (resnet, 'ir_csn_r152', 32, 224, 29_703_568, 74.05),
  (resnet, 'ip_csn_r152', 32, 224, 33_016_592, 83.29),
  (slowfast, 'r50_4x16', 32, 256, 34_480_216, 36.10),
  (slowfast, 'r50_8x8', 32, 256, 34_566_488, 65.71),
  (slowfast, 'r50_16x8', 64, 256, 34_566_488, 131.42),
  (slowfast, 'r101_8x8', 32, 256, 62_826_968, 125.91),
  (slowfast, 'r101_8x8_50_50', 32, 256, 53_774_808, 106.51),
  (slowfast, 'r101_16x8_50_50', 64, 256, 53_774_808, 213.02),
  (x3d, 'xs', 4, 160, 3_794_322, 0.605),
  (x3d, 's', 13, 160, 3_794_322, 1.963),
  (x3d, 'm', 16, 224, 3_794_322, 4.733),
  (x3d, 'l', 16, 312, 6_153_432, 18.37),
  (x3d, 'xl', 16, 312, 11_095_904, 35.84),
]  # fmt: skip


@pytest.mark.parametrize(
  ('module', 'variant', 'frames', 'crop', 'count', 'cost'),
  [quick(z[1] in ('slow_r50', 'ip_csn_r50', 'r50_4x16', 'xs'), *z) for z in ZOO],
)
def test_zoo(module, variant, frames, crop, count, cost):
  net = model(module, variant, 400, hidden=x3d.HIDDEN if module is x3d else 0)
  assert parameters(net, clip(frames, crop)) == count
  assert giga_macs(net, clip(frames, crop)) == pytest.approx(cost, rel=2e-3)


TINY = dict(width=0.125)


def logits(net, video):
  variables = net.init(jax.random.key(0), video, train=False)
  return np.asarray(net.apply(variables, video, train=False))


@pytest.mark.parametrize(
  ('module', 'variant', 'blind'),
  [(resnet, 'tsn_r18', True), (inception, 'tsn', True), (resnet, 'tam_r18', False), (resnet, 'tsm_r18', False)],
)
def test_what_sees_the_order_of_frames(module, variant, blind):
  settings = {'zero_last': False} if module is resnet else {}
  net = model(module, variant, 5, **TINY, **settings)
  video = jax.random.normal(jax.random.key(1), (2, 8, 32, 32, 3))
  change = np.abs(logits(net, video) - logits(net, video[:, ::-1])).max()
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
    layer = temporal.TAM(init='identity', dense=dense)
    np.testing.assert_allclose(layer.apply(layer.init(jax.random.key(1), x), x), x, atol=1e-6)


@pytest.mark.parametrize('variant', ['i3d_r18', 's3d_r18'])
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
