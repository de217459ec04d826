from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax.layers import mask as masks

GRID = (8, 14, 14)
KEPT = {'random': 156, 'tube': 152, 'per_frame': 152}  # at 90 %; 75 %: frame 392, block 392


@partial(jax.jit, static_argnames=('grid', 'ratio', 'kind'))
def make(keys, grid, ratio, kind):
  return masks.make(keys, grid, ratio, kind)


def keys(n=8, seed=0):
  """Eight clips' keys unless a test says otherwise: what is compiled for eight serves many
  tests."""
  return jax.random.split(jax.random.key(seed), n)


@pytest.mark.parametrize(
  'ratio, wanted', [(0.5, 784), (0.75, 392), (0.9, 156), (0.95, 78), (0.98, 31), (0.0, 1568)]
)
def test_kept_of_1568(ratio, wanted):
  assert masks.kept(1568, ratio) == wanted


def test_kept_counts_in_python_floats():
  assert masks.kept(160, 0.9) == 15  # 160 * (1 - 0.9) = 15.999999999999996
  assert masks.kept(8, 0.75) == 2 and masks.kept(8, 0.9) == 1 and masks.kept(196, 0.9) == 19
  for wrong in (1.0, -0.1):
    with pytest.raises(ValueError, match='mask ratio'):
      masks.kept(8, wrong)


def test_from_noise():
  mask = masks.from_noise(jnp.array([[0.3, 0.1, 0.9, 0.2]]), 2)
  assert mask.keep.tolist() == [[1, 3]]
  assert mask.restore.tolist() == [[2, 0, 3, 1]]
  assert mask.removed.tolist() == [[1, 0, 1, 0]]


@pytest.mark.parametrize('grid', [GRID, (1, 14, 14), (4, 3, 5), (2, 1, 1)])
@pytest.mark.parametrize('kind', masks.KINDS)
def test_contract(kind, grid):
  tokens = int(np.prod(grid))
  mask = make(keys(), grid, 0.75, kind)
  keep, restore, removed = (np.asarray(x) for x in (mask.keep, mask.restore, mask.removed))
  assert 0 < keep.shape[1] <= tokens and restore.shape == removed.shape == (8, tokens)
  for b in range(8):
    assert sorted(restore[b]) == list(range(tokens))
    order = np.argsort(restore[b])  # (kept, removed) order
    np.testing.assert_array_equal(order[: keep.shape[1]], keep[b])
    np.testing.assert_array_equal(np.flatnonzero(removed[b] == 0), np.sort(keep[b]))


@pytest.mark.parametrize('kind, count', KEPT.items())
def test_counts_at_90_percent(kind, count):
  mask = make(keys(), GRID, 0.9, kind)
  assert mask.keep.shape == (8, count)
  assert (np.asarray(mask.removed[0]) != np.asarray(mask.removed[1])).any()


def test_tube_is_the_same_in_every_slot():
  removed = np.asarray(make(keys(), GRID, 0.9, 'tube').removed).reshape(8, *GRID)
  assert (removed == removed[:, :1]).all()


def test_frame_keeps_whole_slots():
  removed = np.asarray(make(keys(), GRID, 0.75, 'frame').removed).reshape(8, 8, 196)
  assert (removed == removed[:, :, :1]).all()
  assert ((removed[:, :, 0] == 0).sum(1) == 2).all()


def test_per_frame_counts_and_differs():
  removed = np.asarray(make(keys(), GRID, 0.9, 'per_frame').removed).reshape(8, 8, 196)
  assert ((removed == 0).sum(-1) == 19).all()
  assert (removed[:, 0] != removed[:, 1]).any()


def test_block_removes_cuboids_and_the_exact_number():
  mask = make(keys(), GRID, 0.75, 'block')
  removed = np.asarray(mask.removed).reshape(8, *GRID) > 0
  assert mask.keep.shape == (8, 392) and (removed.sum((1, 2, 3)) == 1176).all()
  # Neighbors are alike far more often than in random masks of that ratio (0.75^2 + 0.25^2 =
  # 0.625).
  alike = (removed[..., 1:] == removed[..., :-1]).mean((1, 2, 3))
  assert alike.min() > 0.75


def test_one_cuboid():
  cuboids = jax.jit(jax.vmap(lambda key: masks._cuboid(key, GRID)))(keys(50))
  for inside, fits in zip(*map(np.asarray, cuboids)):
    lengths = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    assert inside.sum() == np.prod([len(x) for x in lengths])
    assert all(np.ptp(x) + 1 == len(x) for x in lengths)
    assert bool(fits) <= (len(lengths[1]) < 14 and len(lengths[2]) < 14)


@pytest.mark.parametrize('kind', masks.KINDS)
def test_a_clips_mask_depends_on_its_key_alone(kind):
  some = make(keys(), GRID, 0.75, kind)
  one = make(keys()[2:3], GRID, 0.75, kind)
  np.testing.assert_array_equal(some.keep[2], one.keep[0])


def test_random_is_uniform():
  removed = np.asarray(make(keys(2000), (2, 2, 3), 0.75, 'random').removed)
  np.testing.assert_allclose(removed.mean(0), 0.75, atol=0.04)


def test_unknown_kind():
  with pytest.raises(ValueError, match='must be one of random, tube'):
    make(keys(), GRID, 0.9, 'cube')


def test_kinds_of_whole_slots_remove_other_shares_than_asked():
  grid = (2, 3, 3)
  assert masks.removed_share(grid, 0.25, 'frame') == masks.removed_share(grid, 0.9, 'frame') == 0.5
  assert masks.removed_share(grid, 0.5, 'random') == 0.5
