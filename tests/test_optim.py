"""Schedules against the papers' figures, optimizers against their equations by hand."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vjax import optim, tree

PARAMS = {
  'backbone': {'conv': {'kernel': jnp.array([[1.0, -2.0]])},
  'norm': {'scale': jnp.array([3.0]), 'bias': jnp.array([4.0])}},
  # a bias of two axes, as attention's
  'head': {'kernel': jnp.array([[5.0]]), 'bias': jnp.array([[6.0]])},
}  # fmt: skip
GRADS = jax.tree.map(lambda x: 0.1 * x + 0.5, PARAMS)
SGD = dict(
  name='sgd', momentum=0.9, nesterov=False, weight_decay=0.01, schedule=optax.constant_schedule(0.5)
)
ADAMW = dict(
  name='adamw', b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.05, schedule=optax.constant_schedule(0.01)
)


def run(tx, steps=1, params=PARAMS, grads=GRADS):
  state = tx.init(params)
  for _ in range(steps):
    updates, state = jax.jit(tx.update)(grads, state, params)
    params = optax.apply_updates(params, updates)
  return {name: np.asarray(x) for name, x in tree.flatten(params).items()}, state


def close(got, want, **tolerance):
  assert got.keys() == want.keys()
  for name in want:
    np.testing.assert_allclose(got[name], want[name], rtol=1e-5, err_msg=name, **tolerance)


# Durations


@pytest.mark.parametrize(
  'clips, epochs, batch, steps',  # Ghadiyaram et al. 2019, tables 8, 14 and 17
  [
    (246_000, 58, 1024, 13_934),
    (246_000, 58, 384, 37_156),
    (28_000, 27, 1024, 738),
    (86_000, 16, 384, 3_583),
  ],
)
def test_epochs_to_steps(clips, epochs, batch, steps):
  assert (
    optim.to_steps('total', {'total_epochs': epochs, 'warmup_steps': 1}, batch=batch, clips=clips)
    == steps
  )


def test_examples_and_steps_and_effective_epochs():
  assert optim.to_steps('total', {'total_clips': 490e6}, batch=768, clips=1) == 638_021
  assert optim.to_steps('total', {'total_clips': 490e6}, batch=2048, clips=1) == 239_258
  assert optim.to_steps('warmup', {'warmup_steps': 7}, batch=768, clips=1) == 7
  # 800 effective epochs of 4 repeats are 200 passes of 468 steps (Feichtenhofer et al. 2022, table
  # 5a)
  assert optim.to_steps('total', {'total_epochs': 800}, batch=512 * 4, clips=468 * 512) == 93_600


@pytest.mark.parametrize(
  'settings',
  [{}, {'total_steps': 1, 'total_epochs': 1}, {'total_steps': -1}, {'total_epochs': float('inf')}],
)
def test_durations_that_say_nothing_are_errors(settings):
  with pytest.raises(ValueError, match=r'config\.optim.*total'):
    optim.to_steps('total', settings, batch=8, clips=8)


def test_scaled_rate():
  assert optim.scaled_rate(1.6e-3, 512, 64) == pytest.approx(2e-4)
  with pytest.raises(ValueError, match=r'config\.optim\.base_batch_size is 0'):
    optim.scaled_rate(1.0, 0, 8)


# Schedules


def rates(steps, **settings):
  rate = jax.jit(optim.schedule(**settings))
  return np.array([rate(step) for step in steps])


def test_cosine_of_mae_pretraining():
  total, warm = 93_600, 14_040
  got = rates(
    [0, 1, warm // 2, warm, (warm + total) // 2, total, total + 5],
    kind='cosine', peak=1.6e-3, total_steps=total, warmup_steps=warm, end_lr=0.0,
  )  # fmt: skip
  np.testing.assert_allclose(
    got, [0, 1.6e-3 / warm, 8e-4, 1.6e-3, 8e-4, 0, 0], rtol=1e-5, atol=1e-10
  )


def test_cosine_of_joint_training():
  # 50 epochs, 10 of warm-up, 2e-4 from and to 2e-6
  got = rates(
    np.array([0, 5, 10, 20, 30, 40, 50]) * 100,
    kind='cosine', peak=2e-4, total_steps=5000, warmup_steps=1000, warmup_start_lr=2e-6,
    end_lr=2e-6,
  )  # fmt: skip
  np.testing.assert_allclose(
    got, [2e-6, 1.01e-4, 2e-4, 1.71004e-4, 1.01e-4, 3.09964e-5, 2e-6], rtol=1e-5
  )


def test_cosine_of_the_cnn_study():
  # 196 epochs, 34 of warm-up, 0.01 to 1.6 (Chen et al. 2021); the SlowFast code starts the curve at
  # step 0
  settings = dict(
    kind='cosine', peak=1.6, total_steps=1960, warmup_steps=340, warmup_start_lr=0.01, end_lr=0.0
  )
  np.testing.assert_allclose(
    rates([0, 170, 340, 1150, 1960], **settings), [0.01, 0.805, 1.6, 0.8, 0], atol=1e-6
  )
  np.testing.assert_allclose(
    rates([0, 340], **settings, curve_from_start=True), [0.01, 1.484], rtol=1e-3
  )


def test_cosine_without_warmup():
  got = rates(
    [0, 1, 25, 49, 50], kind='cosine', peak=1.0, total_steps=50, warmup_steps=0, end_lr=0.0
  )
  np.testing.assert_allclose(got, [1, 0.99901, 0.5, 0.00099, 0], atol=1e-5)


def test_halving_of_weakly_supervised_pretraining():
  batch, stage = (
    768,
    35e6,
  )  # 490M videos in 14 stages, warm-up over 6.4M (Ghadiyaram et al. 2019, sec. 3)
  settings = dict(
    kind='halving',
    peak=0.192,
    total_steps=638_021,
    warmup_steps=8_333,
    warmup_start_lr=0.0015,
    halvings=13,
  )
  for k in range(1, 14):
    edge = int(k * stage / batch)
    np.testing.assert_allclose(
      rates([edge - 1, edge + 1], **settings), [0.192 / 2 ** (k - 1), 0.192 / 2**k], rtol=1e-6
    )
  got = rates([0, 8_333, 638_020], **settings)
  np.testing.assert_allclose(got, [0.0015, 0.192, 0.192 / 8192], rtol=1e-6)
  every = jax.vmap(optim.schedule(**settings))(jnp.arange(8_333, 638_021))
  assert len(np.unique(every)) == 14 and np.count_nonzero(np.diff(every)) == 13


def test_steps_of_finetuning():
  # 58 = 16 (warm-up) + 16 + 16 + 10 epochs (Ghadiyaram et al. 2019, table 8); an edge after the end
  # has no effect
  got = rates(
    np.array([0, 16, 31, 32, 47, 48, 57]),
    kind='step', peak=3e-5 * 64, total_steps=58, warmup_steps=16, warmup_start_lr=3e-5,
    boundaries=[32, 48, 99], factor=0.1,
  )  # fmt: skip
  np.testing.assert_allclose(got, np.array([1, 64, 64, 6.4, 6.4, 0.64, 0.64]) * 3e-5, rtol=1e-6)


def test_polynomial_and_constant():
  got = rates(
    [0, 50, 100],
    kind='polynomial',
    peak=1.0,
    total_steps=100,
    warmup_steps=0,
    end_lr=0.2,
    power=2.0,
  )
  np.testing.assert_allclose(got, [1, 0.4, 0.2], rtol=1e-6)
  got = rates([0, 5, 10, 99], kind='constant', peak=2.0, total_steps=100, warmup_steps=10)
  np.testing.assert_allclose(got, [0, 1, 2, 2], rtol=1e-6)


@pytest.mark.parametrize(
  'settings, message',
  [
    (dict(kind='cosine'), r"config\.optim\.schedule='cosine' needs end_lr"),
    (dict(kind='cosine', end_lr=0.0, factor=0.1), 'cannot use factor'),
    (dict(kind='step', factor=0.1), r'needs boundary_steps \(or boundary_epochs'),
    (dict(kind='cosin', end_lr=0.0), r"config\.optim\.schedule is 'cosin'; .*one of cosine"),
    (
      dict(kind='constant', warmup_steps=11),
      'the warm-up has 11 steps and .* training 10; .*shorten',
    ),
  ],
)
def test_schedule_errors(settings, message):
  with pytest.raises(ValueError, match=message):
    optim.schedule(**{'peak': 1.0, 'total_steps': 10, 'warmup_steps': 0, **settings})


# Optimizers


@pytest.mark.parametrize('nesterov', [False, True])
def test_sgd_by_hand(nesterov):
  """L2 joins the gradient before momentum: buf = 0.9 buf + g + wd p."""
  got, _ = run(optim.make(PARAMS, **{**SGD, 'nesterov': nesterov}), steps=2)
  want = {}
  for name, p in tree.flatten(PARAMS).items():
    p, buffer, gradient = (
      np.asarray(p, np.float64),
      0.0,
      np.asarray(tree.flatten(GRADS)[name], np.float64),
    )
    decay = 0.01 if name.endswith('kernel') else 0.0
    for _ in range(2):
      g = gradient + decay * p
      buffer = 0.9 * buffer + g
      p = p - 0.5 * (g + 0.9 * buffer if nesterov else buffer)
    want[name] = p
  close(got, want)


@pytest.mark.parametrize(
  'settings, want',
  [
    (dict(decayed='kernels'), {'backbone/conv/kernel', 'head/kernel'}),
    (
      dict(decayed='kernels_and_scales'),
      {'backbone/conv/kernel', 'head/kernel', 'backbone/norm/scale'},
    ),
    (dict(decayed='all'), set(tree.flatten(PARAMS))),
    (
      dict(decayed='all', decay_skip=('.*/norm/.*', 'head/bias')),
      {'backbone/conv/kernel', 'head/kernel'},
    ),
  ],
)
def test_what_is_decayed(settings, want):
  zero = jax.tree.map(jnp.zeros_like, PARAMS)
  got, _ = run(optim.make(PARAMS, **SGD, **settings), grads=zero)
  before = tree.flatten(PARAMS)
  assert {name for name in got if not np.array_equal(got[name], before[name])} == want
  close(got, {name: x * (1 - 0.5 * 0.01) if name in want else x for name, x in before.items()})


def adam(g, steps, b2, eps):
  """Bias-corrected Adam directions for a constant gradient, which are g / (|g| + eps) at every
  step."""
  return [g / (np.abs(g) + eps)] * steps


def test_adamw_and_layer_decay_by_hand():
  """The multiplier acts on the whole update: p - m lr (adam + wd p)."""
  multipliers = {name: 0.5 if name.startswith('backbone') else 1.0 for name in tree.flatten(PARAMS)}
  got, _ = run(optim.make(PARAMS, **ADAMW, layer_decay=multipliers), steps=3)
  want = {}
  for name, p in tree.flatten(PARAMS).items():
    p, g = np.asarray(p, np.float64), np.asarray(tree.flatten(GRADS)[name], np.float64)
    decay = 0.05 if name.endswith('kernel') else 0.0
    for direction in adam(g, 3, 0.95, 1e-8):
      p = p - multipliers[name] * 0.01 * (direction + decay * p)
    want[name] = p
  close(got, want)


def test_lamb_by_hand():
  """Trust ratio |p| / |adam + wd p| on what is decayed; plain Adam on vectors and biases."""
  settings = dict(name='lamb', b1=0.9, b2=0.999, eps=1e-6, weight_decay=0.02)
  got, _ = run(optim.make(PARAMS, schedule=optax.constant_schedule(5e-3), **settings))
  want = {}
  for name, p in tree.flatten(PARAMS).items():
    p, g = np.asarray(p, np.float64), np.asarray(tree.flatten(GRADS)[name], np.float64)
    update = adam(g, 1, 0.999, 1e-6)[0]
    if name.endswith('kernel'):
      update = update + 0.02 * p
      update = update * np.linalg.norm(p) / np.linalg.norm(update)
    want[name] = p - 5e-3 * update
  close(got, want)


def test_frozen_parameters_stay_have_no_state_and_are_not_clipped_with():
  tx = optim.make(PARAMS, **{**SGD, 'weight_decay': 0.0}, freeze=('backbone/.*',), clip_norm=0.1)
  got, state = run(tx)
  before, grads = tree.flatten(PARAMS), tree.flatten(GRADS)
  norm = np.sqrt(sum(np.sum(np.square(grads[name])) for name in ('head/kernel', 'head/bias')))
  head = {
    name: before[name] - 0.5 * grads[name] * 0.1 / norm for name in ('head/kernel', 'head/bias')
  }
  close(got, {**before, **head})
  assert sorted(x.shape for x in jax.tree.leaves(state)) == [
    (),
    (1, 1),
    (1, 1),
  ]  # step, and the head's momentum
  assert tree.flatten(optim.frozen(PARAMS, ('backbone/.*',))) == {
    n: n.startswith('backbone') for n in before
  }


@pytest.mark.parametrize(
  'settings', [SGD, ADAMW, {**ADAMW, 'name': 'lamb'}], ids=lambda s: s['name']
)
def test_all_options_together(settings):
  """Masks, multipliers, clipping and freezing live with each other, and shapes are enough to build
  an optimizer."""
  shapes = jax.eval_shape(lambda: PARAMS)
  multipliers = optim.layer_multipliers(
    shapes, lambda name: 1 if name.startswith('head') else 0, 0, 0.5
  )
  tx = optim.make(
    shapes,
    **settings,
    clip_norm=1.0,
    layer_decay=tree.unflatten(multipliers),
    freeze=('backbone/norm/.*',),
  )
  got, _ = run(tx, steps=2)
  moved = {name for name, x in tree.flatten(PARAMS).items() if not np.array_equal(got[name], x)}
  assert moved == {'backbone/conv/kernel', 'head/kernel', 'head/bias'}


def test_clipping_leaves_small_gradients_alone():
  plain, _ = run(optim.make(PARAMS, **SGD))
  close(run(optim.make(PARAMS, **SGD, clip_norm=1e3))[0], plain)
  norm = optax.global_norm(GRADS)
  half = jax.tree.map(lambda g: g / 2, GRADS)
  close(
    run(optim.make(PARAMS, **SGD, clip_norm=float(norm / 2)))[0],
    run(optim.make(PARAMS, **SGD), grads=half)[0],
  )


@pytest.mark.parametrize(
  'depth, decay, first',
  [(12, 0.65, 3.697e-3), (24, 0.75, 7.525e-4), (32, 0.80, 6.338e-4), (32, 0.85, 4.686e-3)],
)
def test_layer_multipliers_of_mae_finetuning(depth, decay, first):
  params = {'patch': 0, **{f'block{i}': 0 for i in range(depth)}, 'head': 0}
  layer_of = lambda name: (
    {'patch': 0, 'head': depth + 1}.get(name) or int((re.findall(r'\d+', name) or [-1])[0]) + 1
  )
  got = optim.layer_multipliers(params, layer_of, depth, decay)
  assert got['patch'] == pytest.approx(first, rel=2e-4)
  assert got[f'block{depth - 1}'] == pytest.approx(decay) and got['head'] == 1
  with pytest.raises(ValueError, match=f'has layers 0 to {depth + 1}'):
    optim.layer_multipliers(params, lambda name: depth + 2, depth, decay)


@pytest.mark.parametrize(
  'settings, message',
  [
    (
      dict(freeze=('backbone/cnv/.*',)),
      r'config\.optim\.freeze has .*close names: backbone/conv/kernel',
    ),
    (dict(decay_skip=('norm',)), r'config\.optim\.decay_skip has .*whole names'),
    (dict(freeze=('.*',)), 'nothing would be trained'),
    (dict(b1=0.9), r"config\.optim\.name='sgd' cannot use b1"),
    (dict(momentum=None), 'needs momentum'),
    (dict(name='adam'), 'one of sgd, adamw, lamb'),
    (dict(decayed='none'), r"config\.optim\.decayed is 'none'; .*one of kernels"),
    (dict(layer_decay={'head/kernel': 1.0, 'tail': 1.0}), "unknown \\['tail'\\]"),
  ],
)
def test_optimizer_errors(settings, message):
  with pytest.raises(ValueError, match=message):
    optim.make(PARAMS, **{**SGD, **settings})


def test_ema():
  got = optim.ema_update({'a': jnp.array([1.0])}, {'a': jnp.array([2.0])}, 0.9)
  np.testing.assert_allclose(got['a'], [1.1], rtol=1e-6)


def test_learning_rate_once_an_epoch_with_a_factor_of_warm_up():
  """MMCV's cosine by epochs, as Li et al. 2022 fine-tune: 50 epochs, of 7.5 steps here, warm-up of
  5 epochs from a tenth; factors of epochs 1, 25 and 49 by hand."""
  rate = optim.schedule(
    kind='cosine', peak=0.02, total_steps=375, warmup_steps=38, end_lr=0.0, curve_from_start=True,
    warmup_factor=0.1, epoch_steps=7.5,
  )  # fmt: skip
  assert float(rate(0)) == pytest.approx(0.002)
  assert float(rate(7)) == pytest.approx(0.02 * (1 - 31 / 38 * 0.9))  # epoch 0 has steps 0 to 7
  first = (1 + math.cos(math.pi * 8 / 375)) / 2  # the curve is read where the epoch begins
  assert float(rate(8)) == pytest.approx(0.02 * first * (1 - 30 / 38 * 0.9))
  by_epoch = optim.schedule(
    kind='cosine', peak=1.0, total_steps=500, warmup_steps=0, end_lr=0.0, curve_from_start=True,
    epoch_steps=10.0,
  )  # fmt: skip
  factors = [float(by_epoch(10 * e + k)) for e in (0, 1, 25, 49) for k in (0, 9)]
  want = [f for f in (1, 0.99901, 0.5, 0.00099) for _ in range(2)]
  assert factors == pytest.approx(want, abs=5e-6)
  with pytest.raises(ValueError, match=r'warmup_factor is 0.1 and warmup_start_lr is 0.5'):
    optim.schedule(
      kind='constant', peak=1.0, total_steps=5, warmup_steps=1, warmup_factor=0.1,
      warmup_start_lr=0.5,
    )  # fmt: skip


def test_warm_up_by_epochs_as_timm_has_it():
  """From 5e-6 by equal steps to 5e-3 after 5 epochs, the cosine counting from epoch 0."""
  rate = optim.schedule(
    kind='cosine', peak=5e-3, total_steps=3000, warmup_steps=50, warmup_start_lr=5e-6, end_lr=1e-6,
    curve_from_start=True, epoch_steps=10.0,
  )  # fmt: skip
  at = lambda epoch: 1e-6 + (5e-3 - 1e-6) * (1 + math.cos(math.pi * epoch / 300)) / 2
  # DIFFERS(code): there the warm-up rises to 5e-3, here to the curve's 4.9966e-3.
  assert float(rate(25)) == pytest.approx(5e-6 + (at(5) - 5e-6) * 2 / 5, rel=1e-5)
  assert float(rate(59)) == pytest.approx(at(5), rel=1e-6)
  assert float(rate(2999)) == pytest.approx(at(299), rel=1e-4)
