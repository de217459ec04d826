"""The fc-only probe: a minimum is a minimum, and the protocol keeps videos whole."""

import numpy as np
import pytest

from vjax.evals import probe


def blobs(seed, n=120, d=6, k=3, spread=1.0, views=2, scale=1.0):
  """Features (n, views, d) around one center a class, shared by all seeds, and labels."""
  centers = np.random.default_rng(7).normal(size=(k, d)) * 2
  r = np.random.default_rng(seed)
  y = r.integers(0, k, n)
  return (centers[y][:, None] + spread * r.normal(size=(n, views, d))) * scale, y


def batches(y, size=16, first_id=0):
  for start in range(0, len(y), size):
    rows = np.arange(start, min(start + size, len(y)))
    pad = size - len(rows)
    yield {
      'video': np.pad(rows, (0, pad)),
      'label': np.pad(y[rows], (0, pad), constant_values=-1),
      'valid': np.pad(np.ones(len(rows)), (0, pad)),
      'video_id': np.pad(rows + first_id, (0, pad), constant_values=-1),
    }


def loss(w, b, x, y, l2):
  logits = x @ w + b
  top = logits.max(1)
  return np.mean(
    top + np.log(np.exp(logits - top[:, None]).sum(1)) - logits[np.arange(len(y)), y]
  ) + l2 / 2 * np.sum(w**2)


def test_gradient_vanishes_at_the_minimum():
  x, y = blobs(0, views=1)
  x = x[:, 0]
  w, b, info = probe.fit(x, y, 3, 1e-2)
  assert info['converged'] and info['gradient_norm'] < 1e-7
  assert info['loss'] == pytest.approx(loss(w, b, x, y, 1e-2), rel=1e-12)
  p = np.exp(x @ w + b)
  residual = p / p.sum(1, keepdims=True) - np.eye(3)[y]
  np.testing.assert_allclose(x.T @ residual / len(x) + 1e-2 * w, 0, atol=1e-7)
  np.testing.assert_allclose(residual.mean(0), 0, atol=1e-7)  # the bias is free
  r = np.random.default_rng(1)
  for _ in range(20):  # convex: no neighbor is lower
    dw, db = 1e-2 * r.normal(size=w.shape), 1e-2 * r.normal(size=b.shape)
    assert loss(w + dw, b + db, x, y, 1e-2) > info['loss']


def test_weights_shrink_with_l2_and_the_bias_does_not():
  x, y = blobs(0, views=1)
  norms = [np.linalg.norm(probe.fit(x[:, 0], y, 3, l2)[0]) for l2 in (1e-4, 1e-2, 1.0, 100.0)]
  assert norms == sorted(norms, reverse=True) and norms[-1] < 0.1 < 1 < norms[0]
  w, b, _ = probe.fit(x[:, 0], y, 3, 1e6)
  p = np.exp(b) / np.exp(b).sum()
  np.testing.assert_allclose(
    p, np.bincount(y) / len(y), atol=1e-4
  )  # only class frequencies are left


def test_stopping_early_is_said():
  x, y = blobs(0, views=1)
  info = probe.fit(x[:, 0], y, 3, 1e-4, max_steps=2)[2]
  assert not info['converged'] and info['gradient_norm'] > 1e-7


def run(train, test, **settings):
  (x, y), (x_test, y_test) = train, test
  both = np.concatenate([x, x_test])
  return probe.run(
    lambda batch: both[np.maximum(batch['video_id'], 0)],
    train_batches=batches(y),
    test_batches=batches(y_test, first_id=len(y)),
    num_classes=int(max(y.max(), y_test.max())) + 1,
    seed=0,
    **settings,
  ).numbers


def test_separable_toy_is_solved():
  got = run(blobs(0, spread=0.1), blobs(1, spread=0.1, n=50))
  assert got['top1'] == got['train_top1'] == 1 and got['converged'] == 1 and got['count'] == 50
  assert 'top5' not in got


def test_features_without_the_label_stay_at_chance():
  noise = lambda seed: np.random.default_rng(seed).normal(size=(300, 2, 6))
  got = run((noise(0), blobs(0, n=300)[1]), (noise(1), blobs(1, n=300)[1]), grid=(1e-2, 1.0))
  assert got['top1'] < 0.45


def test_standardized_features_forget_their_scale():
  train, test = blobs(0, spread=3.0), blobs(1, spread=3.0, n=60)
  small = [(x * np.array([0.1, 1, 10, 3, 1, 1]) + 5, y) for x, y in (train, test)]
  want = run(train, test, grid=(1e-2,))
  assert run(*small, grid=(1e-2,)) == pytest.approx(want, rel=1e-3, abs=1e-7)
  raw = run(*small, grid=(1e-2,), standardize=False)
  assert raw['loss'] != pytest.approx(want['loss'], rel=1e-2)
  x = np.ones((4, 1, 2))
  x[:, 0, 1] = [1, 2, 3, 4]
  got = probe.standardized(x)[0]
  np.testing.assert_allclose(got[:, 0, 0], 0)
  np.testing.assert_allclose(got[:, 0, 1], (x[:, 0, 1] - 2.5) / np.sqrt(1.25))


def test_lambda_is_chosen_on_whole_held_out_videos():
  # Views of a video are equal and labels are noise: only a leak of views across the split could
  # reward a weak penalty.
  r = np.random.default_rng(0)
  x, y = r.normal(size=(60, 1, 80)).repeat(5, 1), r.integers(0, 2, 60)
  settings = dict(grid=(1e-6, 10.0), held_out=0.5)
  chosen = [probe.select(x, y, 2, seed=s, **settings) for s in range(4)]
  assert chosen == [probe.select(x, y, 2, seed=s, **settings) for s in range(4)]
  x, y = blobs(0, spread=4.0, n=200)
  best = probe.select(x, y, 3, grid=(1e-3, 1e4), held_out=0.3, seed=0)
  assert best == 1e-3
  assert run((x, y), blobs(1, spread=4.0), grid=(1e-3, 1e4), held_out=0.3)['lambda'] == 1e-3


def test_held_out_split_is_seeded_and_disjoint(monkeypatch):
  seen = []
  real = probe.fit
  monkeypatch.setattr(probe, 'fit', lambda x, y, *a, **k: seen.append(x) or real(x, y, *a, **k))
  x = np.arange(40.0).reshape(20, 2, 1)
  probe.select(x, np.arange(20) % 2, 2, grid=(1.0, 2.0), held_out=0.1, seed=3)
  kept = {int(v) // 2 for v in seen[0].ravel()}
  assert len(kept) == 18 and all(seen[0].shape == (36, 1) for _ in seen)
  np.testing.assert_array_equal(seen[0], seen[1])


def test_test_probabilities_are_averaged_over_views():
  x = np.array([[[10.0], [-1.0], [-1.0]]])
  got = probe.probabilities(x, np.array([[1.0, 0.0]]), np.zeros(2))
  want = 1 / (1 + np.exp(-x[0, :, 0]))
  np.testing.assert_allclose(got, [[want.mean(), 1 - want.mean()]], rtol=1e-6)


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: probe.fit(np.ones((2, 1)), np.array([0, 1]), 2, 0.0), 'l2 is 0.0'),
    (lambda: probe.fit(np.ones((2, 1)), np.array([0, 2]), 2, 1.0), 'labels run from 0 to 2'),
    (lambda: probe.select(*blobs(0, n=4), 3, grid=(1.0, 2.0), held_out=0.1, seed=0), 'both sides'),
    (lambda: run((blobs(0)[0] * np.nan, blobs(0)[1]), blobs(1)), 'need finite'),
    (
      lambda: run((blobs(0)[0][:, 0], blobs(0)[1]), (blobs(1)[0][:, 0], blobs(1)[1])),
      'views apart',
    ),
  ],
)
def test_errors(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_features_in_blocks_give_the_same_probe():
  """Seven rows of 120 x 2 at a time, the last block smaller: the same minimum, and scores."""
  x, y = blobs(0, scale=30.0)
  rows, labels = x.reshape(-1, 6) / 30, np.repeat(y, 2)
  whole, parts = (probe.fit(rows, labels, 3, 1e-2, block_size=n) for n in (0, 7))
  for a, b in zip(whole[:2], parts[:2]):
    np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
  assert parts[2]['loss'] == pytest.approx(whole[2]['loss'], rel=1e-12)
  assert parts[2]['converged']
  (one,), (other,) = probe.standardized(x), probe.standardized(x, block_size=50)
  assert other.dtype == np.float32 and one.dtype == np.float64
  np.testing.assert_allclose(other, one, atol=1e-5)
  test, labels = blobs(1, n=40, scale=30.0)
  features = {0: x, 1000: test}

  def run(**settings):
    of = lambda batch: features[1000 if batch['video_id'].max() >= 1000 else 0][batch['video']]
    return probe.run(
      of, train_batches=batches(y), test_batches=batches(labels, first_id=1000), num_classes=3,
      seed=0, grid=(1e-3, 1e-1), **settings,
    ).numbers  # fmt: skip

  reference, found = run(), run(block_size=32)
  assert found['top1'] == reference['top1'] and found['lambda'] == reference['lambda']
  assert found['train_top1'] == pytest.approx(reference['train_top1'])
  assert found['loss'] == pytest.approx(reference['loss'], rel=1e-4)
  with pytest.raises(ValueError, match='block_size is -1'):
    probe.check({'block_size': -1})
