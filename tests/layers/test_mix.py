"""MixUp and CutMix: what is blended with what, by which weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vjax.layers import mix

B, T, H, W, K = 8, 2, 12, 16, 5
KEYS = jax.random.split(jax.random.key(0), B)
# Clip i is the constant i and its target row is one-hot at i: what comes out tells where it came
# from.
VIDEO = jnp.broadcast_to(jnp.arange(float(B))[:, None, None, None, None], (B, T, H, W, 3))
TARGETS = jnp.eye(B)
MIX = jax.jit(
  mix.mix, static_argnames=('mixup', 'cutmix', 'switch', 'group')
)  # compiles once a setting


def run(keys=KEYS, video=VIDEO, targets=TARGETS, *, mixup=0.0, cutmix=0.0, switch=0.5, group=0):
  mixed = MIX(video, targets, keys, mixup=mixup, cutmix=cutmix, switch=switch, group=group)
  return [np.asarray(x) for x in mixed]


def partner(group):
  return np.arange(B).reshape(-1, group)[:, ::-1].ravel()


def test_soft_targets():
  got = mix.soft_targets(jnp.array([2, 0]), 4, 0.1)
  np.testing.assert_allclose(
    got, [[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]], rtol=1e-6
  )
  np.testing.assert_array_equal(mix.soft_targets(jnp.array([1]), 3, 0.0), [[0, 1, 0]])


@pytest.mark.parametrize('group', [0, 2, 4, 8])
def test_mixup_blends_mirrored_partners_with_one_weight_a_group(group):
  video, targets = run(mixup=0.8, group=group)
  size = group or B
  own = targets[np.arange(B), np.arange(B)]
  np.testing.assert_allclose(
    targets, own[:, None] * np.eye(B) + (1 - own)[:, None] * np.eye(B)[partner(size)], atol=1e-6
  )
  np.testing.assert_allclose(own.reshape(-1, size), own[::size, None].repeat(size, 1), atol=1e-6)
  want = own * np.arange(B) + (1 - own) * partner(size)
  np.testing.assert_allclose(
    video, np.broadcast_to(want[:, None, None, None, None], video.shape), atol=1e-5
  )
  assert len(set(own[::size].tolist())) == B // size  # groups draw apart


def test_cutmix_weight_is_the_area_left_and_the_box_is_one_rectangle_on_all_frames():
  clipped = 0
  for seed in range(20):
    video, targets = run(jax.random.split(jax.random.key(seed), B), cutmix=1.0, group=4)
    for i in range(B):
      other = partner(4)[i]
      inside = video[i] == other
      assert np.all(inside | (video[i] == i))
      box = inside[0, :, :, 0]
      assert np.array_equal(inside, np.broadcast_to(box[None, :, :, None], inside.shape))
      rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
      assert box.sum() == len(rows) * len(columns)
      if len(rows):
        assert np.all(np.diff(rows) == 1) and np.all(np.diff(columns) == 1)
        clipped += rows[0] == 0 or columns[0] == 0 or rows[-1] == H - 1 or columns[-1] == W - 1
      np.testing.assert_allclose(targets[i, i], 1 - box.mean(), atol=1e-6)
      np.testing.assert_allclose(targets[i, other], box.mean(), atol=1e-6)
  assert clipped > 0


def test_switch_chooses_per_group():
  kinds = {0.0: set(), 0.5: set(), 1.0: set()}
  for switch, found in kinds.items():
    for seed in range(6):
      video, _ = run(
        jax.random.split(jax.random.key(seed), B), mixup=0.8, cutmix=1.0, switch=switch, group=4
      )
      found |= {bool(np.all(video[i] == np.round(video[i]))) for i in range(0, B, 4)}
  assert kinds == {0.0: {False}, 0.5: {False, True}, 1.0: {True}}


def test_targets_sum_to_one_and_trees_are_mixed_alike():
  label = jnp.arange(B) % K
  targets = {'a': mix.soft_targets(label, K, 0.1), 'weight': jnp.ones(B)}
  _, got = MIX(VIDEO, targets, KEYS, mixup=0.8, cutmix=1.0, switch=0.5, group=4)
  np.testing.assert_allclose(got['a'].sum(-1), 1, atol=1e-6)
  np.testing.assert_allclose(got['weight'], 1, atol=1e-6)


def test_beta_distribution():
  draw = jax.jit(lambda keys: mix.draw(keys, 1, 1, mixup=0.8, cutmix=0.0, switch=0.5, group=1))
  pixels, weights = draw(jax.random.split(jax.random.key(1), 2000))
  assert abs(float(weights.mean()) - 0.5) < 0.02
  assert abs(float(weights.var()) - 1 / (4 * (2 * 0.8 + 1))) < 0.01  # variance of Beta(a, a)
  np.testing.assert_array_equal(pixels[:, 0, 0], weights)


def test_only_the_key_of_the_first_clip_of_a_group_matters():
  first = run(mixup=0.8, cutmix=1.0, group=4)
  other = KEYS.at[jnp.array([1, 2, 3, 5, 6, 7])].set(jax.random.key(9))
  for a, b in zip(first, run(other, mixup=0.8, cutmix=1.0, group=4)):
    np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_accumulation_and_devices_change_nothing():
  whole = run(mixup=0.8, cutmix=1.0, group=4)
  parts = [
    run(KEYS[i : i + 4], VIDEO[i : i + 4], TARGETS[i : i + 4], mixup=0.8, cutmix=1.0, group=4)
    for i in (0, 4)
  ]
  mesh = jax.make_mesh((8,), ('rows',), axis_types=(jax.sharding.AxisType.Auto,))
  rows = NamedSharding(mesh, PartitionSpec('rows'))
  split = run(*jax.device_put((KEYS, VIDEO, TARGETS), rows), mixup=0.8, cutmix=1.0, group=4)
  for i in range(2):
    np.testing.assert_allclose(whole[i], np.concatenate([p[i] for p in parts]), atol=1e-6)
    np.testing.assert_allclose(whole[i], split[i], atol=1e-6)


def test_off_is_identity_and_groups_must_divide():
  video, targets = run()
  np.testing.assert_array_equal(video, VIDEO)
  np.testing.assert_array_equal(targets, TARGETS)
  with pytest.raises(ValueError, match='mix_group is 3'):
    run(mixup=0.8, group=3)
