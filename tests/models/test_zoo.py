"""Parameters and multiply-adds of every published variant, and what must hold of the modules that
mix frames."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import variables_of
from vjax import cost, factory, tree, zoo
from vjax.kernels import conv
from vjax.kernels.pool import max_pool
from vjax.layers import temporal
from vjax.layers.conv import Conv3D
from vjax.layers.norm import BatchNorm
from vjax.layers.resnet import block_config
from vjax.layers.settings import STS, TemporalModule
from vjax.models import blresnet, inception, slowfast, x3d

QUICK = (
  'mvit_v2_s_16x4',
  'mvit_multitrain_half_b_16x4',
  'i3d_r18',
  's3d_tp_r18',
  'ip_csn_r50',
  'x3d_xs',
  'blresnet_50',
  'sts_slow_r50',
  'sts_slowfast_r50_4x16',
  'sts_r2plus1d_r34',
  'sts_ir_csn_r50',
  'sts_x3d_s',
)


@pytest.mark.parametrize(
  'figure',
  [
    pytest.param(
      f,
      id=f'{f.model}-{f.frames}x{f.crop}',
      marks=() if f.model in QUICK else pytest.mark.slow,
    )
    for f in zoo.FIGURES
  ],
)
def test_parameters_and_multiply_adds(figure):
  """As the authors' code has them, where that was counted."""
  clip = dict(frames=figure.frames, crop=figure.crop)
  net = factory.create_model(figure.model, figure.classes, **clip)
  parameters, gmacs, mmcv = zoo.measure(net, **clip)
  assert figure.parameters is None or parameters == figure.parameters
  assert figure.gmacs is None or gmacs == pytest.approx(figure.gmacs, rel=2e-3)
  if figure.mmcv:  # to the digit that the paper prints
    assert mmcv == pytest.approx(figure.mmcv, abs=0.01)
    printed = figure.paper.split(', ')
    assert (f'{parameters / 1e6:.1f} M', f'{mmcv:.1f} G') == tuple(printed)


def test_mmcv_counts_by_hand():
  """A clip of 2 x 8 x 8 x 3: convolution to 4 channels at stride 2, norm, ReLU, max pool, mean."""

  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = Conv3D(4, (1, 3, 3), strides=(1, 2, 2), padding=(0, 1, 1))(x)
      x = nn.relu(BatchNorm()(x, train=False))
      return nn.Dense(5)(nn.sigmoid(max_pool(x, (1, 2, 2), (1, 2, 2))).mean((1, 2, 3)))

  call = lambda x: Net().init_with_output(jax.random.key(0), x)[0]
  macs, mmcv = cost.counts(call, jax.ShapeDtypeStruct((1, 2, 8, 8, 3), jnp.float32))
  maps = 2 * 4 * 4 * 4  # elements after the convolution
  assert macs == maps * 27 + 4 * 5 == cost.count(call, jnp.zeros((1, 2, 8, 8, 3)))
  assert mmcv == macs + 2 * maps + maps + maps + maps // 4


def test_a_row_of_the_table():
  row = next(zoo.rows('x3d_xs'))
  assert row[:4] == ('x3d_xs', '4x160x160', '400', '3,794,322')
  assert row[6] == '3.76 M, 0.60 G'


TINY = dict(width=0.125)
SHALLOW = dict(zero_last=False, depths=(1, 1, 1, 1))


def logits(net, *videos):
  """Of each video, by the same random parameters."""
  variables = variables_of(net, videos[0])
  run = jax.jit(lambda x: net.apply(variables, x, train=False))  # compiled once
  return [np.asarray(run(video)) for video in videos]


@pytest.mark.parametrize(
  ('name', 'settings', 'blind'),
  [
    ('tsn_r18', SHALLOW, True),  # TSN on Inception: ibm_tsn_inception holds its every number
    ('tam_r18', SHALLOW, False),
    ('tsm_r18', SHALLOW, False),
    pytest.param('tsm_inception', {}, False, marks=pytest.mark.slow),
  ],
)
def test_what_sees_the_order_of_frames(name, settings, blind):
  net = factory.create_model(name, 5, **TINY, **settings)
  video = jax.random.normal(jax.random.key(1), (2, 8, 32, 32, 3))
  mixed = video[:, np.random.default_rng(0).permutation(8)]
  forth, *others = logits(net, video, video[:, ::-1], mixed)
  for other in others:
    change = np.abs(forth - other).max() / np.abs(forth).max()
    assert change < 1e-5 if blind else change > 1e-4


def test_shift_by_hand():
  """Eight channels of a clip that counts frames: one from the next frame, one from the one before,
  six as they are."""
  x = jnp.broadcast_to(jnp.arange(1.0, 5.0)[None, :, None, None, None], (1, 4, 1, 1, 8))
  y = np.asarray(temporal.shift(x))[0, :, 0, 0]
  assert y[:, 0].tolist() == [2, 3, 4, 0] and y[:, 1].tolist() == [0, 1, 2, 3]
  assert (y[:, 2:] == np.arange(1, 5)[:, None]).all()


def test_pooling_by_hand():
  x = jnp.arange(8.0)[None, :, None, None, None]
  assert temporal.pool_frames(x)[0, :, 0, 0, 0].tolist() == [1, 3, 5, 7]
  np.testing.assert_allclose(
    temporal.pool_frames(x, 'avg')[0, :, 0, 0, 0], [1 / 3, 2, 4, 6], rtol=1e-6
  )


@pytest.mark.parametrize('kind', ['softmax', 'dot'])
@pytest.mark.parametrize('pool', ['before', 'after', ''])
def test_non_local_blocks_start_as_the_identity(kind, pool):
  block = temporal.NonLocal(kind=kind, pool=pool)
  x = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 8))
  variables = block.init(jax.random.key(1), x, False)
  np.testing.assert_array_equal(block.apply(variables, x, False), x)


@pytest.mark.parametrize(('where', 'stages'), [
  ('all', [2, 2, 2, 2]), ('bottom', [2, 2, 0, 0]), ('top', [0, 0, 2, 2]),
  ('uniform', [1, 1, 1, 1]), ((0, 7), [1, 0, 0, 1]),
])  # fmt: skip
def test_where_frames_are_mixed(where, stages):
  net = factory.create_backbone('tam_r18', temporal={'where': where})
  assert [sum(stage) for stage in net.mixed()] == stages


@pytest.mark.parametrize(('variant', 'settings', 'shifts'), [
  ('tsm_r50', {}, [3, 4, 6, 3]), ('tsm_r101', {}, [2, 2, 12, 2]), ('tsm_r152', {}, [2, 4, 18, 2]),
  ('tsm_r101', {'temporal': {'whole_block': True}}, [3, 4, 23, 3]), ('tam_r101', {}, [3, 4, 23, 3]),
])  # fmt: skip
def test_tsm_leaves_out_every_second_block_of_deep_networks(variant, settings, shifts):
  """Of all stages, once res4 has 23 blocks; the first of each shifts."""
  mixed = factory.create_backbone(variant, **settings).mixed()
  assert [sum(stage) for stage in mixed] == shifts and all(stage[0] for stage in mixed)


def shapes(name, frames=8, **settings):
  """Maps and parameters of a backbone on a clip of 32 px."""
  net = factory.create_backbone(name, **settings)
  video = jax.ShapeDtypeStruct((1, frames, 32, 32, 3), jnp.float32)
  with conv.formulation('lax'):  # traces faster
    features, variables = jax.eval_shape(
      lambda rng, x: net.init_with_output(rng, x, train=False),
      jax.random.key(0),
      video,
    )
  return features.maps, tree.flatten(variables['params'])


@pytest.mark.parametrize(('name', 'frames', 'settings', 'words'), [
  ('tam_r18', 8, {'temporal': {'where': (0, 8)}}, 'no block 8, give numbers from 0 to 7'),
  ('nln_r34', 8, {'depths': (2, 2, 2, 2)}, 'res3 has no block 3'),
  ('tsn_tp_r18', 12, {}, 'multiple of 8'),
  ('c2d_r50', 1, {}, 'leaves none'),
  ('tsn_tp_inception', 12, {}, 'multiple of 8'),
  ('s3d_inception', 1, {}, 'give 2 or more'),
  ('s3d_tp_inception', 4, {}, 'give 5 or more'),
  ('i3d_inception', 8, {'pool_time': 'avg'}, "give pool='avg'"),
  ('i3d_inception', 8, {'temporal': {'kind': 'tsm'}}, "kind='2d'"),
  ('tsn_inception', 8, {'pool': 'mean'}, "('max', 'avg')"),
  ('slowfast_nln_r50_8x8', 8, {'non_local': {'blocks': ((), (), (6,), ())}}, 'res4 has no block 6'),
  ('slowfast_r50_8x8', 8, {'long': (7, 0)}, '0 to 6'),
  ('slowfast_r50_8x8', 6, {}, 'multiple'),
])  # fmt: skip
def test_refusals(name, frames, settings, words):
  with pytest.raises(ValueError, match=re.escape(words)):
    shapes(name, frames, **settings)


def test_average_pools_by_hand():
  """Of ones, with zeros beyond the clip counted: the share of a window that lies inside."""
  ones = jnp.ones((1, 4, 4, 4, 1))
  pool = lambda number, **settings: np.asarray(
    inception.Backbone(pool='avg', **settings)._pool(ones, number)
  )[0, ..., 0]
  np.testing.assert_allclose(
    pool(1, kind='i3d'), np.broadcast_to(np.float32([[4, 6], [6, 9]]) / 9, (4, 2, 2)), rtol=1e-6
  )
  corners = np.float32([8, 12, 12, 8]) / 27
  np.testing.assert_allclose(pool(2, kind='s3d')[:, 0, 0], corners, rtol=1e-6)
  np.testing.assert_allclose(
    pool(3, kind='i3d', pool_time='max')[:, 0, 0], corners[[0, 2]], rtol=1e-6
  )
  np.testing.assert_allclose(pool(4, kind='s3d'), np.ones((3, 2, 2)), rtol=1e-6)
  assert pool(4, kind='s3d', pool_time='max').shape == (2, 2, 2)
  largest = inception.Backbone(kind='i3d')._pool(ones, 2)
  assert largest.shape == (1, 4, 2, 2, 1) and (largest == 1).all()


def test_tsm_on_inception_adds_no_parameters():
  maps, names = shapes('tsm_tp_inception')
  assert maps[0].shape == (1, 1, 1, 1, 1024) and names == shapes('tsn_tp_inception')[1]


def silenced(variables, part):
  """The same variables, what `part` of the parameters makes being zero."""
  return tree.map_named(
    lambda name, x: 0 * x if name.startswith(f'params/{part}') else x, variables
  )


def test_big_branch_sees_the_second_frame_of_each_pair():
  """With the little branch silenced the first frame of a pair changes nothing, with the big one the
  second."""
  net = blresnet.Backbone(
    depths=(2, 2, 2, 1), temporal=TemporalModule(), zero_last=False, width=0.125
  )
  config = block_config(net, mix_shortcut='projection', pooled_shortcut=True)
  stage = blresnet.BigLittle(2, 16, 1, 2, 4, lambda name: lambda x: x, config, False)
  pair = jax.random.normal(jax.random.key(0), (2, 8, 8, 8))
  clips = jnp.stack([pair, pair.at[0].add(1), pair.at[1].add(1)])
  rng = np.random.default_rng(0)
  empty = jax.eval_shape(lambda x: stage.init(jax.random.key(1), x, False), clips)
  variables = tree.map_named(lambda name, x: jnp.asarray(rng.random(x.shape), jnp.float32), empty)
  run = jax.jit(lambda v: stage.apply(v, clips, False))
  for part, changes in {'widen': [False, True], 'big': [True, False]}.items():
    y = run(silenced(variables, part))
    assert [bool(jnp.abs(y[i] - y[0]).max() > 1e-4) for i in (1, 2)] == changes


@pytest.mark.slow
def test_big_branch_of_the_stem_sees_the_second_frame_of_each_pair():
  net = blresnet.Backbone(
    depths=(2, 2, 2, 1), temporal=TemporalModule(), zero_last=False, width=0.125
  )
  clip = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
  clips = jnp.stack([clip, clip.at[::2].add(1), clip.at[1::2].add(1)])
  variables = variables_of(net, clips)
  run = jax.jit(lambda v: net.apply(v, clips, train=False).pooled)
  for part, changes in {'little2_norm': [False, True], 'big_norm': [True, False]}.items():
    y = run(silenced(variables, part))
    assert [bool(jnp.abs(y[i] - y[0]).max() > 1e-5) for i in (1, 2)] == changes


def test_blocks_of_res4_that_look_through_time():
  """ "50_101": six of the slow pathway's, all of the fast one's."""
  net = factory.create_backbone('slowfast_r101_8x8_50_101')
  assert [sum(frames == 3 for frames in net._through(pathway, 2)) for pathway in (0, 1)] == [6, 1]
  assert len(net._through(0, 2)) == 23 and net._through(1, 2) == (3,) and net._through(0, 3) == (3,)


def test_non_local_blocks_of_slowfast():
  """On the slow pathway alone: three projections to half the channels and one back, with biases,
  and a norm."""
  small = dict(width=0.125, depths=(1, 4, 6, 1))
  maps, names = shapes('slowfast_nln_r50_4x16', **small)
  _, plain = shapes('slowfast_r50_4x16', **small)
  added = {name: x.size for name, x in names.items() if name not in plain}
  block = lambda c: 3 * (c * c // 2 + c // 2) + c // 2 * c + c + 2 * c
  assert sum(added.values()) == 2 * block(64) + 3 * block(128)
  assert {name.rsplit('/', 2)[0] for name in added} == {
    'slow_res3/nonlocal1', 'slow_res3/nonlocal3', 'slow_res4/nonlocal1', 'slow_res4/nonlocal3',
    'slow_res4/nonlocal5',
  }  # fmt: skip
  assert [m.shape[1] for m in maps] == [1, 8]


def test_slowfast_sees_pictures():
  """A clip of one frame goes to both pathways."""
  maps, _ = shapes('slowfast_r50_4x16', 1)
  assert [m.shape for m in maps] == [(1, 1, 1, 1, 2048), (1, 1, 1, 1, 256)]


def test_keys_and_values_pooled_in_time_too():
  """AVA's (2, 2, 2): of 4 x 4 x 4 positions 8 remain, each the largest of its box, so that scores
  have eight columns."""
  block = temporal.NonLocal(kind='dot', size=(2, 2, 2))
  x = jnp.arange(64.0).reshape(1, 4, 4, 4, 1) * jnp.float32([1, -1])
  kernel = lambda *rows: {
    'kernel': jnp.float32(rows)[None, None, None],
    'bias': jnp.zeros(len(rows[0])),
  }
  params = {
    'theta': kernel([0.0], [0.0]),
    'phi': kernel([1.0], [0.0]),
    'g': kernel([1.0], [0.0]),
    'out': kernel([1.0, 0.0]),
  }
  params['theta']['bias'] = jnp.ones(1)
  params['norm'] = {'scale': jnp.ones(2), 'bias': jnp.zeros(2)}
  stats = {'norm': {'mean': jnp.zeros(2), 'var': jnp.ones(2) - 1e-5}}
  y = block.apply({'params': params, 'batch_stats': stats}, x, False)
  largest = np.arange(64).reshape(2, 2, 2, 2, 2, 2).max((1, 3, 5)).ravel()
  np.testing.assert_allclose(
    y - x, np.broadcast_to([(largest**2).mean(), 0], y.shape), rtol=1e-5, atol=1e-3
  )
  with pytest.raises(ValueError, match='cannot be pooled'):
    block.apply({'params': params, 'batch_stats': stats}, x[:, :1], False)


def test_dilation_of_static_slices_reaches_x3d():
  net = x3d.Backbone(sts=STS('dilated', dilation=3))
  assert block_config(net, net.sts).sts == {
    'variant': 'dilated',
    'ratio': (1, 1),
    'lines': 'flat',
    'dilation': 3,
  }


def test_identity_start_of_tam():
  x = jax.nn.relu(jax.random.normal(jax.random.key(0), (1, 5, 2, 2, 6)))
  for dense in (False, True):
    layer = temporal.TAM(start='identity', dense=dense)
    np.testing.assert_allclose(layer.apply(layer.init(jax.random.key(1), x), x), x, atol=1e-6)


@pytest.mark.parametrize('variant', ['i3d_r18', 's3d_r18'])
@pytest.mark.slow
def test_without_side_slices_a_network_averages_its_frames(variant):
  """With the middle slice alone, a network without stride in time sees each frame by itself."""
  settings = dict(width=0.125, depths=(1, 1, 1, 1), time_strides=(1, 1, 1, 1), zero_last=False)
  net = factory.create_model(variant, 5, **settings)
  video = jax.random.normal(jax.random.key(2), (1, 4, 32, 32, 3))
  variables = variables_of(net, video)

  def middle(path, x):
    if x.ndim == 5 and x.shape[0] > 1:
      return jnp.zeros_like(x).at[x.shape[0] // 2].set(x[x.shape[0] // 2])
    return x

  variables = jax.tree_util.tree_map_with_path(middle, variables)
  run = jax.jit(lambda x: net.apply(variables, x, train=False))
  whole, frames = run(video), run(video.reshape(4, 1, 32, 32, 3))
  np.testing.assert_allclose(whole[0], frames.mean(0), atol=1e-5)


def test_slow_frames():
  assert slowfast.slow_indices(32, 4, 'linspace').tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
  assert slowfast.slow_indices(32, 8, 'stride').tolist() == [0, 8, 16, 24]
  with pytest.raises(ValueError, match='multiple'):
    slowfast.slow_indices(30, 4, 'stride')


def test_squeeze_widths():
  assert [x3d.rounded(w / 16) for w in (54, 108, 216, 432)] == [8, 8, 16, 32]
  assert x3d.widths(2.0) == [24, 48, 96, 192] and x3d.widths(2.9) == [32, 72, 136, 280]


def test_blresnet_takes_frames_in_pairs():
  net = factory.create_model('blresnet_50', 5, width=0.125)
  features = lambda rng, x: net.init_with_output(rng, x, train=False, method='features')[0]
  video = jax.ShapeDtypeStruct((1, 4, 64, 64, 3), jnp.float32)
  assert jax.eval_shape(features, jax.random.key(0), video).maps[0].shape == (1, 2, 2, 2, 256)
  with pytest.raises(ValueError, match='even number'):
    jax.eval_shape(
      features, jax.random.key(0), jax.ShapeDtypeStruct((1, 3, 64, 64, 3), jnp.float32)
    )
  assert blresnet.nearest(jnp.arange(2.0).reshape(1, 1, 1, 2, 1), (1, 5)).ravel().tolist() == [
    0,
    0,
    0,
    1,
    1,
  ]
