"""MViT's options beyond the published networks: read from the tensors, set by overrides, and what
they compute."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden_files
from vjax import tree
from vjax.convert import _mvit, _table
from vjax.heads import linear
from vjax.layers import attention
from vjax.models import mvit
from vjax.types import VideoModel

TINY = dict(flavor='v2', depths=(1, 1), frames=4, width=8, key_stride=2)
CROP = 16


def weights(**settings) -> dict[str, np.ndarray]:
  """PySlowFast's tensors of a tiny network with these settings."""
  net = VideoModel(mvit.Backbone(**{**TINY, 'crop': CROP, **settings}), linear.Head(3))
  video = jnp.zeros((1, net.backbone.frames, net.backbone.crop, net.backbone.crop, 3))
  shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), video)
  names = _table.backward(
    {name: np.zeros(x.shape) for name, x in tree.flatten(shapes).items()}, _mvit.table()
  )
  return {name: golden_files.weight(name, x.shape) for name, x in _table.join_qkv(names).items()}


def load(tensors, row=TINY, **overrides):
  """(the network, its parameters) of tensors."""
  net, tensors = _mvit.backbone(tensors, row, overrides)
  model = VideoModel(net, linear.Head(3))
  video = jnp.zeros((1, net.frames, net.crop, net.crop, 3))
  shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), video)
  shapes = {name: x.shape for name, x in tree.flatten(shapes).items()}
  return net, tree.unflatten(_table.forward(tensors, _mvit.table(), shapes))['params']['backbone']


OPTIONS = [
  dict(positions='joint', relative=''),
  dict(positions='joint', relative='', class_token=False),
  dict(positions='joint', relative='thw'),
  dict(positions='separable', relative='thw'),
  dict(positions='separable', relative=''),
  dict(relative='hw'),
  dict(relative='t', positions='separable', class_token=False),
  dict(class_token=False),
  dict(kernel=None),
  dict(kernel=(1, 3, 3)),
  dict(widen='mlp'),
]


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_the_tensors_tell(options):
  net, params = load(weights(**options))
  wanted = mvit.Backbone(**{**TINY, 'crop': CROP, **options})
  assert net.resolve_flavor() == wanted.resolve_flavor() and net.layers() == wanted.layers()
  assert (net.class_token, net.kernel, net.crop) == (wanted.class_token, wanted.kernel, CROP)
  assert ('position' in params) == (wanted.resolve_flavor().positions == 'joint')


def test_what_they_do_not_tell_must_be_said():
  tensors = weights(pool_all=False, add_query=False)
  with pytest.raises(
    ValueError,
    match='blocks that lose resolution only, unlike the model.*--set add_query=True or --set',
  ):
    load(tensors)
  assert not load(tensors, add_query=False)[0].resolve_flavor().add_query
  assert load(tensors, add_query=True)[0].resolve_flavor().add_query
  assert not load(weights(), add_query=False)[0].resolve_flavor().add_query
  with pytest.raises(
    ValueError, match=r"override add_qury=True is unknown: did you mean 'add_query'.*class_token"
  ):
    load(weights(), add_qury=True)
  with pytest.raises(
    ValueError,
    match=r"'pos_embed' has 32 places.*square crop: give the number of frames.*--set frames=",
  ):
    load(weights(positions='joint', relative='', class_token=False), frames=6)
  oblong = weights(positions='separable', relative='')
  oblong['pos_embed_spatial'] = oblong['pos_embed_spatial'][:, 1:]
  with pytest.raises(
    ValueError, match=r"'pos_embed_spatial' has .* square crop: choose weights of"
  ):
    load(oblong)
  for wrong in (dict(positions='sine'), dict(relative='xyz'), dict(widen='head')):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is '"):
      mvit.Backbone(**{**TINY, **wrong}).resolve_flavor()


def test_other_clips_and_new_tables():
  net, params = load(weights(positions='joint', relative=''), crop=24)
  assert net.crop == 24 and params['position'].shape == (1, 1 + 2 * 36, 8)
  net, params = load(weights(positions='separable', relative=''), relative='thw')
  assert net.relative == 'thw' and (params['block0']['attn']['relative_h'] == 0).all()
  net, params = load(weights(), frames=8, crop=32)
  assert params['block1']['attn']['relative_t'].shape == (7, 8) and params['block0']['attn'][
    'relative_w'
  ].shape == (
    15,
    8,
  )


def run(params, **settings):
  net = mvit.Backbone(**{**TINY, 'crop': CROP, 'depths': (1,), **settings})
  video = np.random.default_rng(0).standard_normal((1, 4, CROP, CROP, 3)).astype(np.float32)
  return jax.jit(partial(net.apply, train=False))({'params': params}, video).pooled


def test_a_joint_table_of_sums_is_the_separable_ones():
  params = load(weights(depths=(1,), positions='separable', relative=''), dict(TINY, depths=(1,)))[
    1
  ]
  space, time, first = (params[f'position_{part}'] for part in ('spatial', 'temporal', 'class'))
  both = (time[:, :, None] + space[:, None]).reshape(1, -1, 8)
  others = {name: x for name, x in params.items() if not name.startswith('position_')}
  joint = {**others, 'position': np.concatenate([first, both], axis=1)}
  wanted = run(params, positions='separable', relative='')
  np.testing.assert_allclose(run(joint, positions='joint', relative=''), wanted, atol=1e-5)
  # Relative tables of zeros, in time alone, change nothing.
  attn = {**joint['block0']['attn'], 'relative_t': np.zeros((3, 8), np.float32)}
  tabled = {**joint, 'block0': {**joint['block0'], 'attn': attn}}
  np.testing.assert_allclose(run(tabled, positions='joint', relative='t'), wanted, atol=1e-5)


def test_attention_with_tables_of_space_and_without_pooled_queries():
  """softmax(q k / sqrt(d) + q R) v in NumPy, of one head on a grid (2, 3, 3) with a class token."""
  layer = mvit.Layer(4, 4, 1, (1, 1, 1), (1, 1, 1), (2, 3, 3), 0.0)
  net = mvit.Backbone(**{**TINY, 'relative': 'hw', 'pool_all': False, 'add_query': False})
  start = attention.Init()
  module = mvit.Attention(layer, net.resolve_flavor(), None, start, start)
  rng = np.random.default_rng(0)
  dense = {
    name: {'kernel': rng.standard_normal((4, 4)), 'bias': rng.standard_normal(4)}
    for name in ('q', 'k', 'v', 'proj')
  }
  tables = {f'relative_{axis}': rng.standard_normal((5, 4)) for axis in 'hw'}
  x = rng.standard_normal((1, 19, 4))
  params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), {**dense, **tables})
  found, grid = module.apply({'params': params}, jnp.asarray(x, jnp.float32), (2, 3, 3))
  q, k, v = (x[0] @ dense[name]['kernel'] + dense[name]['bias'] for name in 'qkv')
  logits = q @ k.T / 2
  for n, (_, h, w) in enumerate(np.ndindex(2, 3, 3)):
    for m, (_, y, z) in enumerate(np.ndindex(2, 3, 3)):
      logits[n + 1, m + 1] += q[n + 1] @ (
        tables['relative_h'][h - y + 2] + tables['relative_w'][w - z + 2]
      )
  weigh = np.exp(logits - logits.max(1, keepdims=True))
  wanted = (weigh / weigh.sum(1, keepdims=True)) @ v @ dense['proj']['kernel'] + dense['proj'][
    'bias'
  ]
  assert grid == (2, 3, 3)
  np.testing.assert_allclose(found[0], wanted, atol=1e-4)
  net = mvit.Backbone(**{**TINY, 'relative': 'hw', 'pool_all': False, 'add_query': True})
  more = mvit.Attention(layer, net.resolve_flavor(), None, start, start).apply(
    {'params': params}, jnp.asarray(x, jnp.float32), (2, 3, 3)
  )
  query = (
    np.concatenate([np.zeros((1, 4)), q[1:]]) @ dense['proj']['kernel']
  )  # not to the class token
  np.testing.assert_allclose(more[0][0] - found[0], query, atol=1e-4)


def test_image_weights_are_inflated():
  """Kernels through time sum to the images' in the patches, are repeats in poolings; the tables of
  time start at 0."""
  image = weights()
  kernel = image['patch_embed.proj.weight'][:, :, 0]
  image['patch_embed.proj.weight'] = kernel
  for name in [n for n in image if n.endswith('rel_pos_t')]:
    del image[name]
  for name in [n for n in image if '.pool_' in n]:
    image[name] = image[name][:, :, 0]
  net, params = load(image, frames=8)
  assert (
    net.frames == 8
    and net.crop == CROP
    and net.kernel == (3, 3, 3)
    and net.resolve_flavor().relative == 'thw'
  )
  np.testing.assert_allclose(
    params['patch']['kernel'].sum(0), kernel.transpose(2, 3, 1, 0), atol=1e-6
  )
  pool = params['block0']['attn']['pool_k']['kernel']
  assert pool.shape == (3, 3, 3, 1, 8) and (pool[0] == pool[2]).all()
  assert (
    params['block0']['attn']['relative_t'].shape == (7, 8)
    and (params['block0']['attn']['relative_t'] == 0).all()
  )


@pytest.mark.parametrize('name', ['mvit_v1_b_32x3', 'mvit_v2_b_32x3', 'mvit_v2_l_40x3'])
def test_published_models_in_small(name):
  """Poolings by stride + 1, and the strides of B and L, at an eighth of the width: shapes of what
  comes out."""
  settings = {
    **mvit.MODELS[name],
    'depths': (1, 1, 1, 1),
    'width': 8,
    'heads': 1,
    'frames': 2,
    'crop': 32,
  }
  net = mvit.Backbone(**settings)
  video = jnp.zeros((1, 2, 32, 32, 3))
  features, variables = jax.eval_shape(
    lambda x: net.init_with_output(jax.random.key(0), x, train=False), video
  )
  assert features.pooled.shape == (1, 64) and features.maps[0].shape == (1, 1, 1, 1, 64)
  pools = {
    name: x.shape[:3] for name, x in tree.flatten(variables).items() if 'pool_k/kernel' in name
  }
  if settings.get('kernel', (3, 3, 3)) is None:
    assert sorted(pools.values()) == [
      (1, 3, 3),
      (1, 5, 5),
      (1, 9, 9),
    ]  # none in the last stage, whose keys keep stride 1
  else:
    assert set(pools.values()) == {(3, 3, 3)} and len(pools) == 4
