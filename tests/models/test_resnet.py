"""Video ResNets against the facts of Ghadiyaram et al. 2019 and VMZ: sizes, strides, padding,
evaluation at 128 px."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax import cost, factory, tree
from vjax.heads import linear
from vjax.kernels import conv
from vjax.kernels.conv import conv3d
from vjax.layers import resnet
from vjax.layers.conv import Conv3D
from vjax.types import Features, VideoModel

TINY = dict(width=0.125, depths=(1, 1, 1, 1))


def model_of(variant: str, classes: int = 400, **settings) -> VideoModel:
  return factory.create_model(variant, classes, **settings)


def shapes_of(model: VideoModel, video: jax.ShapeDtypeStruct):
  with conv.formulation('lax'):  # traces faster
    return jax.eval_shape(lambda rng, x: model.init(rng, x, train=False), jax.random.key(0), video)


def clip(frames: int, side: int, batch: int = 1) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((batch, frames, side, side, 3), jnp.float32)


def count(model: VideoModel, video: jax.ShapeDtypeStruct) -> int:
  return cost.count(lambda v, x: model.apply(v, x, train=False), shapes_of(model, video), video)


def initial(model: VideoModel, video):
  """Variables of random weights, with running statistics that are not the identity."""
  variables = jax.jit(lambda rng, x: model.init(rng, x, train=False))(jax.random.key(0), video)
  rng = np.random.default_rng(0)
  shake = lambda name, a: (
    a * rng.uniform(0.8, 1.2, a.shape).astype(np.float32) if 'batch_stats' in name else a
  )
  return tree.map_named(shake, jax.tree.map(np.asarray, variables))


@pytest.mark.parametrize(
  'variant, params, gmacs',
  # parameters with 400 classes; GMACs of 32 frames of 112 px (Ghadiyaram et al. 2019, table 2: 83,
  # 152, 176, 252)
  [
    ('r2plus1d_18', 33_370_839, 82.992),
    ('r2plus1d_34', 63_697_175, 152.356),
    pytest.param('r2plus1d_101', 86_050_785, 176.469, marks=pytest.mark.slow),
    pytest.param('r2plus1d_152', 118_226_785, 251.997, marks=pytest.mark.slow),
    ('r3d_18', 33_371_472, 81.393),
    ('r2d_18', 11_381_712, 1.725),  # of one frame
    ('tv_r2plus1d_18', 31_505_325, None),  # the other rule for middle widths
  ],
)
def test_parameters_and_multiply_accumulates(variant, params, gmacs):
  video = clip(1 if variant == 'r2d_18' else 32, 112)
  model = model_of(variant)
  variables = shapes_of(model, video)
  assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == params
  if gmacs:
    assert round(count(model, video) / 1e9, 3) == gmacs


@pytest.mark.slow
def test_other_tables():
  """8 frames, 128 px, pool1, other numbers of classes."""
  for variant, video, settings, gmacs in (
    ('r2plus1d_34', clip(8, 112), {}, 38.089),
    ('r2plus1d_34', clip(32, 128), {}, 198.995),  # the zoo's 199.0
    ('r2plus1d_34', clip(32, 112), {'pool1': True}, 39.855),
  ):
    assert count(model_of(variant, **settings), video) / 1e9 == pytest.approx(gmacs, abs=5e-4)
  for variant, classes, params in (
    ('r2plus1d_34', 359, 63_676_142),
    ('r2plus1d_152', 487, 118_405_048),
  ):
    variables = shapes_of(model_of(variant, classes), clip(8, 112))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == params


def test_fvcore_counts_of_torchvision():
  """Convolution and classifier of the golden files (16 frames of 112 px)."""
  for variant, counted in (
    ('tv_r3d_18', 40_696_348_672),
    ('tv_mc3_18', 43_342_430_208),
    ('tv_r2plus1d_18', 40_518_876_160),
  ):
    assert count(model_of(variant), clip(16, 112)) == counted + 512 * 400


@pytest.mark.parametrize(
  'variant, frames, side, shape',
  [
    ('r2plus1d_34', 8, 112, (1, 7, 7, 512)),
    ('r2plus1d_34', 32, 128, (4, 8, 8, 512)),
    ('r2plus1d_101', 32, 112, (4, 7, 7, 2048)),
    ('r3d_18', 32, 112, (4, 7, 7, 512)),
    ('r2d_18', 3, 112, (3, 7, 7, 512)),
    ('tv_mc3_18', 16, 112, (16, 7, 7, 512)),
  ],
)
def test_shapes(variant, frames, side, shape):
  model = model_of(variant)
  features = lambda v, x: model.apply(v, x, train=False, method='features')
  with conv.formulation('lax'):
    answer = jax.eval_shape(
      features, shapes_of(model, clip(frames, side)), clip(frames, side, batch=2)
    )
  assert answer.maps[0].shape == (2, *shape) and answer.pooled.shape == (2, shape[-1])


def test_middle_widths():
  widths = ((64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512))
  assert [resnet.middle_width(*pair) for pair in widths] == [144, 230, 288, 460, 576, 921, 1152]
  shapes = lambda variant: tree.flatten(shapes_of(model_of(variant), clip(8, 112)))
  name = 'params/backbone/res3/block0/conv2/spatial/kernel'
  assert shapes('r2plus1d_18')[name].shape == (1, 3, 3, 128, 288)
  assert shapes('tv_r2plus1d_18')[name].shape == (1, 3, 3, 128, 230)
  assert shapes('r2plus1d_18')['params/backbone/stem/conv1/kernel'].shape == (1, 7, 7, 3, 45)


def test_names():
  names = {
    name.removeprefix('params/backbone/')
    for name in tree.flatten(shapes_of(model_of('r3d_18'), clip(8, 112)))
  }
  block = {
    f'res3/block0/{part}' for part in ('conv1/kernel', 'norm1/scale', 'conv2/kernel', 'norm2/bias')
  }
  block |= {
    'res3/block0/shortcut/kernel',
    'res3/block0/shortcut_norm/scale',
    'stem/conv1/kernel',
    'stem/norm1/scale',
  }
  assert block <= names and 'params/head/linear/kernel' in names
  assert not any('res2/block0/shortcut' in name for name in names)


def test_same_padding_is_another_network():
  """Under stride 2 XLA pads even sizes by (0, 1), published models by (1, 1): same shape, a shifted
  window."""
  rng = np.random.default_rng(0)
  x, kernel = rng.standard_normal((2, 4, 8, 8, 4)), rng.standard_normal((3, 3, 3, 4, 4))
  ours = conv3d(jnp.float32(x), jnp.float32(kernel), (2, 2, 2), (1, 1, 1))
  dimensions = ('NDHWC', 'DHWIO', 'NDHWC')
  same = jax.lax.conv_general_dilated(
    jnp.float32(x), jnp.float32(kernel), (2, 2, 2), 'SAME', dimension_numbers=dimensions
  )
  assert same.shape == ours.shape and np.abs(same - ours).max() > 1
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (1, 1), (0, 0)))
  by_hand = np.einsum('bthwc,thwcd->bd', padded[:, 2:5, 4:7, 6:9], kernel)  # output (1, 2, 3)
  np.testing.assert_allclose(ours[:, 1, 2, 3], by_hand, rtol=1e-4)


@pytest.mark.slow
def test_fully_convolutional_evaluation():
  """At 112 px the plain network; at 128 px the mean of four 7x7 windows' probabilities, not the
  global mean."""
  backbone = factory.create_backbone('r2plus1d_18', **TINY)
  plain = VideoModel(backbone, linear.Head(12))
  whole = VideoModel(backbone, linear.Head(12, window=(1, 7, 7)))
  rng = np.random.default_rng(1)
  small, large = (
    jnp.asarray(rng.standard_normal((2, 8, side, side, 3)), jnp.float32) for side in (112, 128)
  )
  variables = initial(plain, small)
  apply = jax.jit(
    lambda v, x, wide: (whole if wide else plain).apply(v, x, train=False), static_argnums=2
  )
  np.testing.assert_allclose(
    jax.nn.softmax(apply(variables, small, True)),
    jax.nn.softmax(apply(variables, small, False)),
    atol=1e-6,
  )
  features = jax.jit(lambda v, x: plain.apply(v, x, train=False, method='features').maps[0])
  maps = np.asarray(features(variables, large))
  assert maps.shape[1:4] == (1, 8, 8)
  dense = variables['params']['head']['linear']
  windows = [maps[:, :, i : i + 7, j : j + 7].mean((1, 2, 3)) for i in range(2) for j in range(2)]
  wanted = np.mean([jax.nn.softmax(w @ dense['kernel'] + dense['bias']) for w in windows], 0)
  probabilities = jax.nn.softmax(apply(variables, large, True))
  np.testing.assert_allclose(probabilities, wanted, atol=1e-6)
  pooled = jax.nn.softmax(maps.mean((1, 2, 3)) @ dense['kernel'] + dense['bias'])
  assert np.abs(probabilities - pooled).sum() > 1e-3
  with pytest.raises(ValueError, match=r'smaller than window=\(1, 7, 7\)'):
    jax.eval_shape(lambda v: whole.apply(v, jnp.zeros((1, 8, 64, 64, 3)), train=False), variables)


def test_training_scores_of_a_window_are_the_mean_over_positions():
  head, rng = linear.Head(3, window=(1, 2, 2)), np.random.default_rng(0)
  maps = jnp.asarray(rng.standard_normal((2, 1, 3, 3, 4)), jnp.float32)
  features = Features(maps=(maps,), pooled=maps.mean((1, 2, 3)))
  variables = head.init(jax.random.key(0), features, train=False)
  positions = np.stack(
    [maps[:, 0, i : i + 2, j : j + 2].mean((1, 2)) for i in range(2) for j in range(2)]
  ).mean(0)
  wanted = positions @ variables['params']['linear']['kernel']
  np.testing.assert_allclose(head.apply(variables, features, train=True), wanted, atol=1e-6)


def test_initial_weights():
  """Convolutions N(0, 2 / fan_out), norms (1, 0), the classifier uniform within sqrt(3 / fan_in) or
  N(0, std^2)."""
  x = jnp.zeros((1, 1, 3, 3, 256))
  kernel = Conv3D(512, (1, 3, 3)).init(jax.random.key(0), x)['params']['kernel']
  assert np.std(kernel) == pytest.approx((2 / (512 * 9)) ** 0.5, rel=1e-2)
  limit = (3 / 512) ** 0.5
  features = Features(maps=(), pooled=jnp.zeros((1, 512)))
  plain, small = (
    linear.Head(400, kernel_std=std).init(jax.random.key(0), features, train=False)
    for std in (None, 2e-5)
  )
  dense = np.abs(plain['params']['linear']['kernel'])
  assert 0.99 * limit < dense.max() <= limit and (plain['params']['linear']['bias'] == 0).all()
  assert np.std(small['params']['linear']['kernel']) == pytest.approx(2e-5, rel=1e-2)


@pytest.mark.slow
def test_train_step_of_a_tiny_model_groups_remat_and_types():
  """Gradients do not depend on remat; every parameter gets one; bfloat16 stays inside."""
  video = jnp.asarray(np.random.default_rng(0).standard_normal((4, 2, 16, 16, 3)), jnp.float32)
  settings = dict(TINY, norm={'group_size': 2})
  model = model_of('r2plus1d_18', 5, **settings)
  variables = flax.core.unfreeze(initial(model, video))

  def gradient(model):
    def loss(params):
      scores, stats = model.apply(
        {'params': params, 'batch_stats': variables['batch_stats']},
        video,
        train=True,
        mutable=['batch_stats'],
      )
      return -jax.nn.log_softmax(scores)[:, 0].mean(), stats

    return jax.jit(jax.grad(loss, has_aux=True))(variables['params'])

  plain, stats = gradient(model)
  again, _ = gradient(model_of('r2plus1d_18', 5, remat=True, **settings))
  for name, leaf in tree.flatten(plain).items():
    assert np.abs(leaf).max() > 0, name
    np.testing.assert_allclose(leaf, tree.flatten(again)[name], atol=1e-5, err_msg=name)
  assert stats['batch_stats'].keys() == variables['batch_stats'].keys()
  half = model_of('r2plus1d_18', 5, dtype=jnp.bfloat16, **TINY)
  features = jax.eval_shape(lambda: half.apply(variables, video, train=False, method='features'))
  assert features.maps[0].dtype == jnp.bfloat16 and features.pooled.dtype == jnp.float32


def test_errors():
  with pytest.raises(ValueError, match='convs='):
    shapes_of(model_of('r3d_18', convs=('3d', 'csn', '3d', '3d', '3d')), clip(8, 32))
  with pytest.raises(ValueError, match="middle='both'"):
    shapes_of(model_of('r3d_18', middle='both'), clip(8, 32))
  with pytest.raises(ValueError, match='add the batch axis'):
    jax.eval_shape(
      lambda: model_of('r3d_18').init(jax.random.key(0), jnp.zeros((8, 32, 32, 3)), train=False)
    )


def test_sliding_window_over_two_pathways():
  """PySlowFast's test: at every place the means of both pathways, the probabilities averaged; and
  frames by themselves."""
  rng = np.random.default_rng(0)
  slow, fast = (
    jnp.asarray(rng.normal(size=(2, t, 3, 4, d)), jnp.float32) for t, d in ((2, 6), (8, 3))
  )
  head = linear.Head(5, window=(0, 2, 2))
  features = Features(maps=(slow, fast), pooled=None)
  variables = head.init(jax.random.key(0), features, train=False)
  dense = lambda x: (
    x @ variables['params']['linear']['kernel'] + variables['params']['linear']['bias']
  )
  places = [
    jnp.concatenate([x[:, :, i : i + 2, j : j + 2].mean((1, 2, 3)) for x in (slow, fast)], -1)
    for i in range(2) for j in range(3)
  ]  # fmt: skip
  expected = np.mean([jax.nn.softmax(dense(x)) for x in places], axis=0)
  np.testing.assert_allclose(
    jax.nn.softmax(head.apply(variables, features, train=False)), expected, rtol=1e-5
  )
  with pytest.raises(ValueError, match='positions must'):
    linear.Head(5, window=(1, 2, 2)).init(jax.random.key(0), features, train=False)
  by_frame = linear.Head(5, window=(1, 0, 0), average='logits')
  one = Features(maps=(slow,), pooled=None)
  variables = by_frame.init(jax.random.key(0), one, train=False)
  dense = lambda x: (
    x @ variables['params']['linear']['kernel'] + variables['params']['linear']['bias']
  )
  np.testing.assert_allclose(
    by_frame.apply(variables, one, train=False), dense(slow.mean((1, 2, 3))), rtol=1e-5, atol=1e-6
  )
