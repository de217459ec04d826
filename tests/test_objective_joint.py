"""The objective of several datasets against numbers of the released code and worked by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vjax.heads import joint as joint_head
from vjax.heads import linear
from vjax.layers import mix
from vjax.objectives import joint
from vjax.types import Backbone, Features, VideoModel

CLASSES = {'a': 5, 'b': 4, 'c': 3}
OWNERS, LABELS = 'abac', (1, 2, 4, 0)


def case():
  """Logits, projected logits, targets and masks of four clips and three datasets."""
  b = np.arange(4)[:, None]
  logits = {
    'a': np.sin(0.5 * b + 0.9 * np.arange(5)),
    'b': np.cos(0.5 * b + 0.9 * np.arange(4)),
    'c': np.sin(0.3 * b - 0.7 * np.arange(3)),
  }
  projected = {name: {} for name in CLASSES}
  pairs = (('b', 'a'), ('c', 'a'), ('a', 'b'), ('c', 'b'), ('a', 'c'), ('b', 'c'))
  for n, (source, target) in enumerate(pairs):
    o, i = np.arange(CLASSES[target])[:, None], np.arange(CLASSES[source])
    projected[target][source] = logits[source] @ (0.3 * np.cos(o + 2 * i + n)).T
  masks = {name: np.array([owner == name for owner in OWNERS], float) for name in CLASSES}
  targets = {name: np.eye(k)[[label % k for label in LABELS]] for name, k in CLASSES.items()}
  return jax.tree.map(jnp.asarray, (logits, projected, targets, masks))


def total(projection, reduction='batch', **options):
  logits, projected, targets, masks = case()
  losses = joint.class_losses(logits, projected, targets, masks, projection=projection)
  counts = {name: mask.sum() for name, mask in masks.items()}
  return float(joint.total_of_classes(losses, counts, reduction=reduction, **options))


def test_informative_loss():
  i, j = np.arange(8)[:, None], np.arange(6)
  with jax.enable_x64(True):
    x, valid = jnp.asarray(np.sin(0.7 * i + 1.3 * j + 0.05 * i * j**2)), jnp.ones(8)
    variance, covariance = joint.informative(x, valid)
    assert variance == pytest.approx(0.256278, abs=1e-6)
    assert covariance == pytest.approx(0.244909, abs=1e-6)
    assert 25 * variance + covariance == pytest.approx(6.651847, abs=1e-5)
    printed, _ = joint.informative(x, valid, divisor='features')
    spread = np.asarray(x).var(0, ddof=1) * 7 / 5
    assert printed == pytest.approx(np.maximum(0, 1 - np.sqrt(spread + 1e-4)).mean(), abs=1e-9)
    padded = jnp.concatenate([x, 99 * jnp.ones((2, 6))])
    found = joint.informative(padded, jnp.array([1.0] * 8 + [0.0] * 2))
    np.testing.assert_allclose(found, (variance, covariance), rtol=1e-9)


def test_collapsed_features_have_a_finite_gradient():
  function = lambda x: sum(joint.informative(x, jnp.ones(4)))
  value, gradient = jax.value_and_grad(function)(jnp.ones((4, 3)))
  assert value == pytest.approx(1 - np.sqrt(1e-4), abs=1e-6)
  assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize(
  'projection, expected', [('none', 1.761707), ('separate', 3.172883), ('add', 1.661930)]
)
def test_projections(projection, expected):
  assert total(projection) == pytest.approx(expected, abs=1e-5)


def test_reductions_and_learned_weights():
  logits, projected, targets, masks = case()
  losses = joint.class_losses(logits, projected, targets, masks, projection='add')
  means = {name: float(losses[name].sum() / masks[name].sum()) for name in CLASSES}
  np.testing.assert_allclose(list(means.values()), (2.014380, 1.972696, 0.646262), atol=1e-5)
  assert total('add', 'dataset') == pytest.approx(sum(means.values()), abs=1e-5)
  log_variances = jnp.log(jnp.array([0.5, 1.0, 2.0]))
  found = total('add', 'dataset', log_variances=log_variances)
  assert found == pytest.approx(3.162294, abs=1e-5)
  weighed = total('none', 'dataset', weights={'a': 2.0})
  assert weighed > total('none', 'dataset')


def test_a_learned_variance_moves_to_its_loss_and_stays_without_clips():
  losses = {'a': jnp.array([3.0, 1.0, 0.0]), 'b': jnp.zeros(3)}
  counts = {'a': jnp.array(2.0), 'b': jnp.array(0.0)}
  function = lambda s: joint.total_of_classes(losses, counts, reduction='dataset', log_variances=s)
  tx, s = optax.sgd(0.5), jnp.array([0.0, 0.3])
  state = tx.init(s)
  for _ in range(100):
    change, state = tx.update(jax.grad(function)(s), state)
    s = optax.apply_updates(s, change)
  np.testing.assert_allclose(jnp.exp(s), (2.0, np.exp(0.3)), rtol=1e-4)


@pytest.mark.parametrize(
  'partner, expected', [('b', (0.68714, 0.67357, 0.65486)), ('a', (0.95714, 0.94357, 0.92486))]
)
def test_mass_of_mixed_targets_as_in_the_released_code(partner, expected):
  """Shares of .7, smoothing .1 shared by 700 classes."""
  off = 0.1 / 700
  for count, mass in zip((400, 305, 174), expected):
    own = {'a': jnp.array([1.0, float(partner == 'a')])}
    targets = {'a': jax.nn.one_hot(jnp.array([3, 5]), count) * 0.9 + off}
    mixed, masks = joint.mixed(targets, own, jnp.array([0.7]), {'a': off})
    assert mixed['a'][0].sum() == pytest.approx(mass, abs=1e-5)
    np.testing.assert_array_equal(masks['a'], own['a'])


def test_a_partner_of_another_dataset_keeps_its_label():
  own = {'a': jnp.array([1.0, 0.0]), 'b': jnp.array([0.0, 1.0])}
  targets = {name: jax.nn.one_hot(jnp.array([2, 1]), 4) for name in own}
  mixed, masks = joint.mixed(targets, own, jnp.array([0.7]), None)
  np.testing.assert_allclose(mixed['a'], [[0, 0, 0.7, 0], [0, 0, 0.3, 0]], rtol=1e-6)
  np.testing.assert_allclose(mixed['b'], [[0, 0.3, 0, 0], [0, 0.7, 0, 0]], rtol=1e-6)
  np.testing.assert_allclose(masks['a'] + masks['b'], 1, rtol=1e-6)


class Pixels(Backbone):
  """Features that are a projection of the mean pixels of a clip's rows."""

  @nn.compact
  def __call__(self, video, *, train):
    return Features(maps=None, pooled=nn.Dense(16)(video.mean((1, 2)).reshape(len(video), -1)))


@pytest.fixture(scope='module')
def network():
  model = VideoModel(Pixels(), joint_head.Head(CLASSES, hidden=6, expander=12, dropout=0.0))
  video = jax.random.normal(jax.random.key(0), (4, 2, 8, 8, 3))
  params = jax.jit(lambda: model.init(jax.random.key(1), video, train=False))()['params']
  batch = {
    'video': video, 'valid': jnp.ones(4), 'rng': jax.random.split(jax.random.key(2), 4),
    'label': jnp.array(LABELS), 'dataset': jnp.array(['abc'.index(x) for x in OWNERS]),
  }  # fmt: skip
  return model, params, batch


def gradient(network, **settings):
  model, params, batch = network
  settings = dict(variance_weight=0.0, covariance_weight=0.0, **settings)
  function = lambda p: joint.loss(model, p, {}, batch, jax.random.key(3), train=True, **settings)
  (value, (metrics, _)), grads = jax.jit(jax.value_and_grad(function, has_aux=True))(params)
  return value, metrics, grads['head']


def test_loss_of_a_network(network):
  model, params, batch = network
  logits = model.apply({'params': params}, batch['video'], train=False).logits
  rows = [
    optax.softmax_cross_entropy_with_integer_labels(logits[name][i], label)
    for i, (name, label) in enumerate(zip(OWNERS, LABELS))
  ]
  value, metrics, _ = gradient(network, projection='none')
  assert value == pytest.approx(float(np.mean(rows)), rel=1e-5)
  assert metrics['a_loss'].compute() == pytest.approx(float(rows[0] + rows[2]) / 2, rel=1e-5)
  assert {f'{n}_{x}' for n in CLASSES for x in ('top1', 'loss')} < set(metrics)
  assert int(metrics['b_top1'].count) == 1


def test_projections_carry_gradients_to_other_classifiers(network):
  model, params, batch = network
  only = (model, params, {**batch, 'dataset': jnp.zeros(4, jnp.int32)})
  norm = lambda tree: float(optax.global_norm(tree))
  _, _, none = gradient(only, projection='none')
  assert (
    norm(none['classifiers']['b'])
    == norm(none['projections'])
    == 0
    < norm(none['classifiers']['a'])
  )
  for projection in ('add', 'separate'):
    _, _, found = gradient(only, projection=projection)
    assert norm(found['classifiers']['b']) > 0 and norm(found['projections']['a']) > 0
    assert norm(found['projections']['b']) == 0
    assert norm(found['log_variances']) == 0
  _, _, learned = gradient(only, learned_weights=True, reduction='dataset')
  np.testing.assert_array_equal(learned['log_variances'] != 0, [True, False, False])


def test_head_serves_one_dataset(network):
  model, params, batch = network
  everything = model.apply({'params': params}, batch['video'], train=False)
  for projected in (False, True):
    served = model.clone(head=model.head.serving('b', projected=projected))
    got = served.apply({'params': params}, batch['video'], train=False)
    expected = everything.logits['b']
    if projected:
      expected = expected + sum(everything.projected['b'].values())
    np.testing.assert_allclose(got, expected, rtol=1e-6)
  assert set(served.init(jax.random.key(0), batch['video'], train=False)['params']['head']) == {
    'classifiers', 'projections'
  }  # fmt: skip
  with pytest.raises(ValueError, match="dataset 'd' has no classifier; there are those of a, b, c"):
    model.head.serving('d')


def test_heads_start_as_the_paper_says(network):
  head = network[1]['head']
  sizes = {
    f'{t}/{s}': head['projections'][t][s]['kernel'].shape for t in 'abc' for s in 'abc' if s != t
  }
  assert sizes['a/b'] == (4, 5) and sizes['c/a'] == (5, 3) and len(sizes) == 6
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  total_classes = sum(CLASSES.values())
  assert count(head['projections']) == total_classes**2 - sum(k**2 for k in CLASSES.values())
  assert head['expander']['fc1']['kernel'].shape == (16, 12)


def test_logits_are_dropped_where_asked():
  features = Features(maps=None, pooled=jnp.ones((64, 4)))
  head = joint_head.Head({'a': 8, 'b': 3}, hidden=0, expander=0, dropout=0.5, logit_dropout=True)
  variables = head.init(jax.random.key(0), features, train=False)
  out = head.apply(variables, features, train=True, rngs={'dropout': jax.random.key(1)})
  assert 0.3 < float((out.logits['a'] == 0).mean()) < 0.7
  assert out.embedding.shape == (64, 4)


@pytest.mark.parametrize('settings, words', [
  ({'projection': 'sum'}, "config.objective.projection is 'sum'; it must be one of add"),
  ({'reduction': 'mean'}, "config.objective.reduction is 'mean'"),
  ({'learned_weights': True}, "set reduction='dataset'"),
  ({'weights': (1.0, 2.0)}, r'weights has 2 numbers for 3 datasets \(a, b, c\)'),
])  # fmt: skip
def test_wrong_settings(network, settings, words):
  with pytest.raises(ValueError, match=words):
    gradient(network, **settings)


def test_another_head_is_refused(network):
  _, params, batch = network
  model = VideoModel(Pixels(), linear.Head(3))
  with pytest.raises(ValueError, match="config.head.name is 'linear'; .* needs the head 'joint'"):
    joint.loss(model, params, {}, batch, jax.random.key(0), train=True)


def test_mixing_pairs_clips_of_different_datasets(network):
  model, params, batch = network
  value, metrics, _ = gradient(network, projection='none', mixup=0.8)
  _, shares = mix.draw(batch['rng'], 8, 8, mixup=0.8, cutmix=0.0, switch=0.5, group=0)
  assert float(metrics['c_loss'].count) == pytest.approx(1.0, rel=1e-5)
  assert float(metrics['a_loss'].count) == pytest.approx(2.0, rel=1e-5)
  own = {n: jnp.array([float(o == n) for o in OWNERS]) for n in CLASSES}
  assert float(mix.blend(own['c'], shares)[0]) == pytest.approx(1 - float(shares[0]), rel=1e-5)
  assert np.isfinite(value)
