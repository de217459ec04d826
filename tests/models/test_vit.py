"""Vision transformer: sizes of the paper, parameter names, masking, and what its options change."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax import tree
from vjax.heads import mae as mae_head
from vjax.layers import attention
from vjax.layers import mask as masks
from vjax.models import vit
from vjax.types import VideoModel

TINY = {'width': 16, 'depth': 2, 'heads': 2, 'frames': 4, 'crop': 24, 'patch': (2, 8, 8)}


def shapes(model, video=(1, 16, 224, 224, 3)) -> dict:
  variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(video), train=False))
  return {name: leaf.shape for name, leaf in tree.flatten(variables['params']).items()}


def count(model, video=(1, 16, 224, 224, 3)) -> int:
  return sum(int(np.prod(shape)) for shape in shapes(model, video).values())


def apply(model, variables, video, *, train=False, mask=None, seed=0):
  rngs = {'dropout': jax.random.key(seed)} if train else None
  return jax.jit(lambda v, x, m: model.apply(v, x, train=train, token_mask=m, rngs=rngs))(
    variables, video, mask
  )


def filled(model, video) -> dict:
  """Random variables, without the seconds that compiling their initializers takes; biases 0 and
  scales 1."""
  rng = np.random.default_rng(0)

  def fill(name, shape):
    if name.endswith(('scale', 'bias')):
      return jnp.full(shape, float(name.endswith('scale')))
    return jnp.asarray(
      rng.normal(size=shape) / np.sqrt(shape[0] if len(shape) == 2 else 20), jnp.float32
    )

  return {
    'params': tree.unflatten(
      {name: fill(name, shape) for name, shape in shapes(model, video.shape).items()}
    )
  }


@pytest.fixture(scope='module')
def video():
  return jax.random.normal(jax.random.key(1), (3, 4, 24, 24, 3))


@pytest.fixture(scope='module')
def variables(video):
  return filled(vit.Backbone(**TINY), video)


@pytest.mark.parametrize(
  'name, encoder, repo, released',
  [
    ('vit_base', 86_394_624, 99_898_880, 100_596_736),
    ('vit_large', 304_096_256, 317_731_584, 318_429_440),
    ('vit_huge', 631_911_680, 645_678_080, 646_375_936),
  ],
)
def test_parameter_counts(name, encoder, repo, released):
  assert count(vit.Backbone(**vit.MODELS[name])) == encoder
  shallow = vit.Backbone(
    **vit.MODELS[name] | {'depth': 1}
  )  # the decoder does not know the encoder's depth
  assert count(VideoModel(shallow, mae_head.Head(preset='repo'))) - count(shallow) == repo - encoder
  assert (
    count(VideoModel(shallow, mae_head.Head(preset='released'))) - count(shallow)
    == released - encoder
  )


@pytest.mark.parametrize(
  'width, depth, decoder, total',
  [(32, 2, (16, 1, 2), 45_968), (64, 2, (32, 1, 4), 148_064), (96, 4, (64, 2, 4), 606_880)],
)
def test_small_parameter_counts(width, depth, decoder, total):
  backbone = vit.Backbone(width, depth, 4, frames=8, crop=32, patch=(2, 8, 8))
  head = mae_head.Head(*decoder, preset='repo', patch=(2, 8, 8))
  assert count(VideoModel(backbone, head), (1, 8, 32, 32, 3)) == total


def test_parameter_names(video):
  got = shapes(vit.Backbone(**{**TINY, 'depth': 1}), video.shape)
  assert got == {
    'patch/kernel': (2, 8, 8, 3, 16),
    'patch/bias': (16,),
    'class_token': (1, 1, 16),
    'position_spatial': (1, 9, 16),
    'position_temporal': (1, 2, 16),
    'position_class': (1, 1, 16),
    **{f'block0/{norm}/{leaf}': (16,) for norm in ('norm1', 'norm2') for leaf in ('scale', 'bias')},
    **{f'block0/attn/{part}/kernel': (16, 16) for part in ('q', 'k', 'v', 'proj')},
    **{f'block0/attn/{part}/bias': (16,) for part in ('q', 'k', 'v', 'proj')},
    'block0/mlp/fc1/kernel': (16, 64),
    'block0/mlp/fc1/bias': (64,),
    'block0/mlp/fc2/kernel': (64, 16),
    'block0/mlp/fc2/bias': (16,),
    'norm/scale': (16,),
    'norm/bias': (16,),
  }
  joint = shapes(vit.Backbone(**TINY, positions='joint'), video.shape)
  bare = shapes(vit.Backbone(**TINY, positions='joint', class_token=False), video.shape)
  assert (
    joint['position'] == (1, 19, 16)
    and bare['position'] == (1, 18, 16)
    and 'class_token' not in bare
  )


def test_layer_groups():
  depth = 2
  for name, group in {
    'backbone/patch/kernel': 0,
    'backbone/position_temporal': 0,
    'position': 0,
    'backbone/class_token': 0,
    'backbone/block0/mlp/fc1/bias': 1,
    'block1/norm1/scale': 2,
    'backbone/norm/scale': 3,
    'head/linear/kernel': 3,
    'head/block0/norm1/scale': 3,
  }.items():
    assert vit.layer_of(name, depth) == group, name
  for name in ('backbone/block2/norm1/scale', 'backbone/stem/kernel'):
    with pytest.raises(ValueError, match='no layer'):
      vit.layer_of(name, depth)
  # Rate multipliers of the first group, decay ** (depth + 1): ViT-B .65, ViT-L .75, ViT-H .80.
  for decay, depth, wanted in [(0.65, 12, 3.697e-3), (0.75, 24, 7.525e-4), (0.80, 32, 6.338e-4)]:
    assert decay ** (depth + 1 - vit.layer_of('patch/bias', depth)) == pytest.approx(
      wanted, rel=1e-3
    )


def test_outputs(video, variables):
  model = vit.Backbone(**TINY)
  features = apply(model, variables, video)
  assert features.grid == (2, 3, 3) and features.token_mask is None
  assert features.maps[0].shape == (3, 2, 3, 3, 16) and features.tokens.shape == (3, 19, 16)
  np.testing.assert_array_equal(features.maps[0].reshape(3, 18, 16), features.tokens[:, 1:])
  by_class = apply(vit.Backbone(**TINY, pool='class'), variables, video)
  np.testing.assert_array_equal(by_class.pooled, features.tokens[:, 0])
  alone = apply(model, variables, video[1:2])
  np.testing.assert_allclose(alone.pooled[0], features.pooled[1], atol=1e-5)


def test_mean_comes_before_the_norm(video, variables):
  features = apply(vit.Backbone(**TINY), variables, video)
  # With scale 1 and bias 0, as at the start, the norm leaves every pooled vector with mean 0 and
  # deviation 1.
  np.testing.assert_allclose(features.pooled.mean(-1), 0, atol=1e-5)
  np.testing.assert_allclose(features.pooled.std(-1), 1, atol=1e-3)
  assert np.abs(features.maps[0].mean((1, 2, 3)).std(-1) - 1).min() > 1e-2


def test_masked_encoder_sees_kept_tokens_only(video, variables):
  model = vit.Backbone(**TINY)
  mask = masks.make(jax.random.split(jax.random.key(2), 3), (2, 3, 3), 0.75, 'random')
  features = apply(model, variables, video, mask=mask)
  assert features.tokens.shape == (3, 1 + 4, 16) and features.maps is None
  removed = np.asarray(mask.removed).reshape(3, 2, 1, 3, 1, 3, 1, 1)
  noise = jax.random.normal(jax.random.key(3), video.shape).reshape(3, 2, 2, 3, 8, 3, 8, 3)
  other = video + (noise * removed).reshape(video.shape)
  np.testing.assert_array_equal(apply(model, variables, other, mask=mask).tokens, features.tokens)


def test_full_mask_is_no_mask(video, variables):
  model = vit.Backbone(**TINY)
  order = jnp.tile(jnp.arange(18), (3, 1))
  everything = masks.from_noise(order, 18)
  with_mask = apply(model, variables, video, mask=everything).tokens
  np.testing.assert_allclose(with_mask, apply(model, variables, video).tokens, atol=1e-6)


def test_mask_tokens_in_the_encoder(video):
  model = vit.Backbone(**TINY, keep_mask_tokens=True)
  variables = filled(model, video)
  mask = masks.make(jax.random.split(jax.random.key(2), 3), (2, 3, 3), 0.75, 'random')
  features = apply(model, variables, video, mask=mask)
  assert features.tokens.shape == (3, 19, 16)
  np.testing.assert_array_equal(features.token_mask.keep[0], np.arange(18))
  np.testing.assert_array_equal(features.token_mask.removed, mask.removed)
  pixels = jax.grad(lambda x: jnp.square(apply(model, variables, x, mask=mask).tokens).sum())(video)
  used = np.abs(pixels.reshape(3, 2, 2, 3, 8, 3, 8, 3)).sum((2, 4, 6, 7)).reshape(3, 18) > 0
  np.testing.assert_array_equal(used, mask.removed == 0)


def test_remat_and_precision(video, variables):
  def gradients(**settings):
    model = vit.Backbone(**TINY | {'depth': 1} | settings)
    f = lambda v: jnp.square(model.apply(v, video, train=False).pooled[:, 0]).sum()
    return jax.jit(jax.grad(f))(variables)

  plain, again = gradients(), gradients(remat=True)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, again)
  half = apply(vit.Backbone(**TINY, dtype=jnp.bfloat16), variables, video)
  full = apply(vit.Backbone(**TINY), variables, video)
  assert half.tokens.dtype == jnp.bfloat16 and half.pooled.dtype == jnp.float32
  assert 0 < np.abs(half.pooled - full.pooled).max() < 0.1


def test_drop_path_acts_in_training_only(video, variables):
  model = vit.Backbone(**TINY, drop_path=0.5)
  run = lambda train, seed: apply(model, variables, video, train=train, seed=seed).pooled
  np.testing.assert_array_equal(run(False, 0), apply(vit.Backbone(**TINY), variables, video).pooled)
  assert np.abs(run(True, 0) - run(True, 1)).max() > 1e-3


@pytest.mark.slow
def test_initial_values():
  model = vit.Backbone(768, 1, 2, frames=4, crop=64)
  video = jnp.zeros((1, 4, 64, 64, 3))
  params = tree.flatten(model.init(jax.random.key(0), video, train=False)['params'])
  assert np.abs(params['patch/kernel']).max() == pytest.approx((6 / (1536 + 768)) ** 0.5, rel=1e-3)
  assert np.abs(params['patch/bias']).max() <= 1536**-0.5
  assert np.std(params['position_spatial']) == pytest.approx(0.02, rel=0.05)
  assert np.abs(params['position_spatial']).max() > 0.05  # not cut at two deviations
  released = vit.Backbone(768, 1, 2, frames=4, crop=64, init_style='released')
  params = tree.flatten(released.init(jax.random.key(0), video, train=False)['params'])
  assert np.std(params['block0/attn/q/kernel']) == pytest.approx(0.02, rel=0.01)
  for name in ('block0/attn/q/bias', 'block0/mlp/fc2/bias', 'block0/norm1/bias'):
    np.testing.assert_array_equal(params[name], np.float32(0.02))
  np.testing.assert_array_equal(params['norm/bias'], 0)


def test_grid():
  model = vit.Backbone(**vit.MODELS['vit_large'], frames=40, crop=312)
  assert model.grid((40, 312, 312)) == (20, 19, 19)  # the last 8 pixels are left out
  assert vit.Backbone(**TINY | {'crop': (24, 40)}).grid((4, 24, 40)) == (2, 3, 5)
  with pytest.raises(ValueError, match='set frames and crop'):
    model.grid((16, 312, 312))
  with pytest.raises(ValueError, match='multiple of 2'):
    model.grid((15, 312, 312))
  for wrong in (
    {'pool': 'max'},
    {'pool': 'class', 'class_token': False},
    {'positions': 'sine'},
    {'heads': 3},
  ):
    with pytest.raises(ValueError):
      shapes(vit.Backbone(**TINY | wrong), (1, 4, 24, 24, 3))


def test_relative_positions_of_the_specification():
  """Attention of width 8, two heads, grid (2, 3, 3) and a class token, with and without tables."""

  def sines(name, shape, amplitude=0.5):
    wave = np.sin(0.37 * np.arange(np.prod(shape)) + sum(name.encode()) % 97).reshape(shape)
    return amplitude * wave

  dense = lambda name: {
    'kernel': sines(f'{name}.weight', (8, 8)).T,
    'bias': sines(f'{name}.bias', (8,)),
  }
  params = {name: dense(name) for name in ('q', 'k', 'v', 'proj')}
  tables = {
    f'relative_{axis}': sines(f'rel_pos_{axis}', (rows, 4))
    for axis, rows in {'t': 3, 'h': 5, 'w': 5}.items()
  }
  plain = {
    1: [0.231751, -0.582586, 0.826303, -0.432770],
    18: [0.024813, -0.424229, 0.721734, -0.385429],
  }
  shifted = {
    1: [0.180122, -0.528619, 0.771772, -0.379469],
    18: [0.044300, -0.431580, 0.716707, -0.368189],
  }
  with jax.enable_x64(True):
    x = jnp.sin(0.7 * jnp.arange(152.0, dtype=jnp.float64)).reshape(1, 19, 8)
    for grid, more, wanted in ((None, {}, plain), ((2, 3, 3), tables, shifted)):
      layer = attention.Attention(2, dtype=jnp.float64, relative=grid)
      y = layer.apply({'params': jax.tree.map(jnp.asarray, params | more)}, x)[0]
      np.testing.assert_allclose(y[0, :4], [0.037752, -0.435394, 0.730759, -0.392016], atol=1e-5)
      for token, values in wanted.items():
        np.testing.assert_allclose(y[token, :4], values, atol=1e-5)


@pytest.mark.slow
def test_a_network_with_new_relative_positions_is_what_it_was():
  make = lambda **more: vit.Backbone(
    width=32, depth=2, heads=2, frames=4, crop=32, patch=(2, 8, 8), **more
  )
  video = jax.random.normal(jax.random.key(0), (2, 4, 32, 32, 3))
  variables = jax.jit(
    partial(make(relative=True).init, train=False),
    compiler_options={'xla_backend_optimization_level': 1},
  )(jax.random.key(1), video)
  tables = {name for name in tree.flatten(variables) if 'relative' in name}
  assert len(tables) == 6
  rest = tree.unflatten(
    {name: x for name, x in tree.flatten(variables).items() if name not in tables}
  )
  seen = [
    make(relative=r).apply(v, video, train=False).pooled
    for r, v in ((True, variables), (False, rest))
  ]
  np.testing.assert_allclose(*seen, atol=1e-5)
  mask = masks.make(jax.random.split(jax.random.key(0), 2), (2, 4, 4), 0.5, 'random')
  with pytest.raises(ValueError, match='relative=True needs all tokens'):
    make(relative=True).apply(variables, video, train=True, token_mask=mask)
