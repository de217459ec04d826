"""MViT: small networks of the specification in float64, tables of relative positions, grids, and
where it starts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import variables_of
from vjax import tree
from vjax.convert import _mvit, _table
from vjax.heads import linear
from vjax.layers import relative
from vjax.models import mvit
from vjax.types import VideoModel

TINY = dict(frames=8, width=8, heads=1, depths=(1, 2, 1), key_stride=4)


def sines(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """The tensor that the specification gives a reference's name, rounded to float32 as its module
  holds it: these networks norm small variances, so that the rounding shows in the fifth digit."""
  return _sines(name, shape).astype(np.float32).astype(np.float64)


def _sines(name: str, shape: tuple[int, ...]) -> np.ndarray:
  wave = np.sin(0.37 * np.arange(np.prod(shape)) + 0.11 * (sum(map(ord, name)) % 97)).reshape(shape)
  if name.endswith('.bias'):
    return 0.05 * wave
  if len(shape) == 1:
    return 1 + 0.1 * wave
  if name.startswith(('pos_embed', 'cls_token')) or 'rel_pos' in name:
    return 0.1 * wave
  return wave / (np.prod(shape) / shape[0]) ** 0.5


def filled(net: VideoModel, crop: int, widen: str):
  """The variables of the network, and the clip."""
  video = (
    np.sin(0.013 * np.arange(3 * 8 * crop * crop))
    .reshape(1, 3, 8, crop, crop)
    .transpose(0, 2, 3, 4, 1)
  )
  shapes = jax.eval_shape(
    lambda x: net.init(jax.random.key(0), x, train=False), jnp.zeros(video.shape)
  )
  rows = _mvit.table(widen)
  zeros = {name: np.zeros(x.shape) for name, x in tree.flatten(shapes).items()}
  names = _table.join_qkv(_table.backward(zeros, rows))
  tensors = _table.split_qkv({name: sines(name, x.shape) for name, x in names.items()})
  found = {}
  for name, array in tensors.items():
    matched, here = _table.rename(name, rows)
    assert matched, name
    found[here] = _table._transpose(here, array, {5: (2, 3, 4, 1, 0), 2: (1, 0)})
  assert set(found) == set(zeros) and all(found[name].shape == x.shape for name, x in zeros.items())
  return tree.unflatten(found), jnp.asarray(video)


CASES = {  # flavor, class token, crop -> parameters, logits or the first pooled features
  ('multitrain', False, 32): (None, [0.275081, -0.515720, 0.159334, -0.267776]),
  ('multitrain', False, 52): (None, [-0.215772, -0.648419, -0.005182, -0.184356]),
  ('multitrain_half', False, 32): (None, [0.281365, -0.391486, 0.028524, -0.354054]),
  ('v2', True, 32): (26_213, [0.237808, 1.355765, 1.789800, 1.327447, 0.207790]),
  ('v2', True, 52): (26_565, [1.687650, 3.007375, 2.809412, 1.200339, -1.001871]),
  ('v2', False, 32): (26_205, [0.479558, 1.196755, 1.310302, 0.769520, -0.146912]),
  ('v1', True, 32): (28_773, [0.113421, 1.130842, 1.577886, 1.235521, 0.282257]),
  ('v1', True, 52): (29_613, [0.934042, 1.822425, 1.791306, 0.863039, -0.488090]),
}


QUICK = (('v1', True, 32), ('multitrain_half', False, 32))


@pytest.mark.parametrize(
  ('flavor', 'class_token', 'crop'),
  [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow) for case in CASES],
)
def test_golden_values(flavor, class_token, crop):
  parameters, exact = CASES[flavor, class_token, crop]
  with jax.enable_x64(True):
    backbone = mvit.Backbone(
      flavor=flavor, class_token=class_token, crop=crop, dtype=jnp.float64, **TINY
    )
    net = VideoModel(backbone, linear.Head(5))
    variables, video = filled(net, crop, 'proj_max_pool' if flavor.startswith('multi') else 'proj')
    if parameters is None:
      seen = jax.jit(lambda v, x: net.apply(v, x, train=False, method='features').pooled)(
        variables, video
      )[0, :4]
    else:
      assert sum(x.size for x in jax.tree.leaves(variables)) == parameters
      seen = jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, video)[0]
  np.testing.assert_allclose(seen, exact, atol=5e-6)


def test_rows_of_distances():
  """Truncated in float32: elsewhere than exact arithmetic where one length is no multiple of the
  other."""
  assert relative.index(4, 2).tolist() == [[2, 0], [3, 1], [4, 2], [5, 3]]
  exact = lambda q, k: [[int(i * max(k / q, 1) * 1e9 - j * max(q / k,
  1) * 1e9 + (k - 1) * max(q / k, 1) * 1e9 + 1) // 10**9
                         for j in range(k)] for i in range(q)]  # fmt: skip
  assert (relative.index(56, 7) == np.array(exact(56, 7))).all()
  assert (relative.index(78, 10) != np.array(exact(78, 10))).sum() == 103
  assert (relative.index(39, 10) != np.array(exact(39, 10))).sum() == 38


def test_longer_queries_and_keys_give_the_added_scores():
  rng, to, of = np.random.default_rng(0), (2, 4, 3), (2, 2, 3)
  query, key = rng.standard_normal((2, 25, 2, 5)), rng.standard_normal((2, 13, 2, 5))
  tables = [rng.standard_normal((n, 5)) for n in relative.rows(to, of)]
  with jax.enable_x64(True):
    found = relative.scores(jnp.asarray(query), [jnp.asarray(t) for t in tables], (to, of))
    seen = np.einsum(
      'bnhd,bmhd->bhnm', *relative.extended(jnp.asarray(query / 2), jnp.asarray(key), found, of)
    )
    summed = np.einsum('bnhd,bmhd->bhnm', query / 2, key) + relative.added(found, 1)
  wanted = 0.5 * np.einsum('bnhd,bmhd->bhnm', query, key)
  for n, (t, h, w) in enumerate(np.ndindex(to)):
    for m, (u, y, x) in enumerate(np.ndindex(of)):
      row = tables[0][t - u + 1] + tables[1][int(h - 2 * y + 2)] + tables[2][w - x + 2]
      wanted[:, :, n + 1, m + 1] += np.einsum('bhd,d->bh', query[:, n + 1], row)
  np.testing.assert_allclose(seen, wanted, atol=1e-12)
  np.testing.assert_allclose(summed, wanted, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize('crop', [224, 312])
def test_grids_of_the_published_b(crop):
  """Of the first stage 8, of the pooling blocks 4, 2, 1: at 312 px stride 2 makes 39, 20, 10 of
  78."""
  net = mvit.Backbone(**{**mvit.MODELS['mvit_v2_b_32x3'], 'crop': crop})
  layers = net.layers()
  assert [layer.key[1] for layer in layers] == [8] * 2 + [4] * 3 + [2] * 16 + [1] * 3
  assert [i for i, layer in enumerate(layers) if layer.query[1] == 2] == [2, 5, 21]
  assert [layer.heads for layer in layers] == [1] * 2 + [2] * 3 + [4] * 16 + [8] * 3
  shape = jax.eval_shape(
    lambda x: net.init_with_output(jax.random.key(0), x, train=False)[0],
    jax.ShapeDtypeStruct((1, 32, crop, crop, 3), jnp.float32),
  )
  assert shape.grid == (16, *[7 if crop == 224 else 10] * 2) and shape.maps[0].shape == (
    1,
    *shape.grid,
    768,
  )


def test_relative_positions_take_other_clips_and_separable_ones_say_no():
  small = dict(TINY, crop=32)
  video = jax.random.normal(jax.random.key(0), (1, 8, 46, 32, 3))
  net = mvit.Backbone(flavor='v2', **small)
  variables = jax.eval_shape(
    partial(net.init, train=False), jax.random.key(1), jnp.zeros((1, 8, 32, 32, 3))
  )
  features = jax.eval_shape(partial(net.apply, train=False), variables, video)
  assert features.pooled.shape == (1, 32) and features.maps[0].shape == (1, 4, 3, 2, 32)
  with pytest.raises(ValueError, match=r'position tables are for \(4, 8, 8\)'):
    mvit.Backbone(flavor='multitrain', class_token=False, **small).init(
      jax.random.key(1), video, train=False
    )
  with pytest.raises(ValueError, match='must be one of v1, v2'):
    mvit.Backbone(flavor='v3', **small).init(jax.random.key(1), video, train=False)


@pytest.mark.slow
def test_remat_and_drop_path():
  """Rematerialized, the gradients are the same; with all but certain dropping, blocks pass skips
  alone. Flavors share both: they are wrapped around a block, whatever is in it."""
  flavor = 'v2'
  video = jax.random.normal(jax.random.key(0), (2, 4, 32, 32, 3))
  small = {**TINY, 'depths': (1, 1), 'frames': 4}
  make = lambda **kw: mvit.Backbone(
    flavor=flavor, crop=32, class_token=flavor != 'multitrain', **small, **kw
  )
  variables = variables_of(make(), video)

  def value_and_gradient(**settings):
    apply = partial(make(**settings).apply, train=True, rngs={'dropout': jax.random.key(2)})
    return jax.jit(jax.value_and_grad(lambda v: (apply(v, video).pooled ** 3).sum()))(variables)

  plain, again, dropped = (
    value_and_gradient(),
    value_and_gradient(remat=True),
    value_and_gradient(drop_path=0.9),
  )
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), plain, again)
  assert abs(plain[0] - dropped[0]) > 1e-3


@pytest.mark.slow
def test_starts_of_the_two_codes():
  video = jnp.zeros((1, 8, 32, 32, 3))

  def of(flavor, **settings):
    net = mvit.Backbone(flavor=flavor, crop=32, **{**TINY, 'depths': (1, 1)}, **settings)
    return tree.flatten(jax.jit(partial(net.init, train=False))(jax.random.key(0), video))

  official, multitrain = of('v2'), of('multitrain', class_token=False)
  name = 'params/block1/attn/{}'
  assert (official[name.format('q/bias')] == np.float32(0.02)).all() and (
    multitrain[name.format('q/bias')] == 0
  ).all()
  kernel = official[name.format('pool_k/kernel')], multitrain[name.format('pool_k/kernel')]
  assert abs(kernel[0].std() - 0.02) < 0.004 and 0.1 < np.abs(kernel[1]).max() < 0.1925
  assert np.abs(multitrain['params/patch/kernel']).max() < 0.0477
  assert mvit.MODELS['mvit_v2_l_40x3']['crop'] == 312


@pytest.mark.slow
def test_half_precision_stays_close():
  video = jax.random.normal(jax.random.key(0), (2, 8, 32, 32, 3))
  make = lambda dtype: mvit.Backbone(flavor='v2', crop=32, dtype=dtype, **TINY)
  variables = variables_of(make(jnp.float32), video)
  whole, half = (
    jax.jit(partial(make(t).apply, train=False))(variables, video).pooled
    for t in (jnp.float32, jnp.bfloat16)
  )
  assert half.dtype == jnp.float32 and np.abs(whole - half).max() < 0.1 * np.abs(whole).max()
