"""Multi-view evaluation: every video once, whatever the batches."""

import numpy as np
import pytest

from vjax.evals import views

N, V, K = 23, 3, 7
R = np.random.default_rng(0)
LOGITS = R.normal(size=(N, V, K)) * 3
LABELS = R.integers(0, K, N)


def batches(size, labels=LABELS, ids=None, order=None):
  """Batches of `size`, the last one padded; the video is its place."""
  ids = np.arange(N) * 10 if ids is None else ids
  order = np.arange(N) if order is None else order
  for start in range(0, N, size):
    rows = order[start : start + size]
    pad = size - len(rows)
    yield {
      'video': np.pad(rows, (0, pad)),
      'label': np.concatenate([labels[rows], np.zeros((pad, *labels.shape[1:]), labels.dtype)]),
      'valid': np.pad(np.ones(len(rows), np.float32), (0, pad)),
      'video_id': np.pad(ids[rows], (0, pad), constant_values=-1),
    }


def predict(batch):
  return LOGITS[batch['video']]


def softmax(x):
  return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


@pytest.mark.parametrize('average', ['probabilities', 'logits'])
def test_scores_by_hand(average):
  got = views.run(predict, batches(5), average=average, num_classes=K).numbers
  p = softmax(LOGITS).mean(1) if average == 'probabilities' else softmax(LOGITS.mean(1))
  best = np.argsort(-p, 1)
  assert got['count'] == N
  assert got['top1'] == pytest.approx(np.mean(best[:, 0] == LABELS))
  assert got['top5'] == pytest.approx(np.mean((best[:, :5] == LABELS[:, None]).any(1)))
  assert got['loss'] == pytest.approx(-np.log(p[np.arange(N), LABELS]).mean(), rel=1e-5)
  per_class = [np.mean(best[LABELS == k, 0] == k) for k in range(K) if (LABELS == k).any()]
  assert got['mean_class_accuracy'] == pytest.approx(np.mean(per_class))


def test_averaging_probabilities_differs_from_averaging_logits():
  logits = np.array(
    [[[8.0, 0.0], [0.0, 1.0], [0.0, 1.0]]]
  )  # one sure view against two doubtful ones
  batch = [{'label': np.array([0]), 'valid': np.ones(1), 'video_id': np.array([3])}]
  p = views.predictions(lambda _: logits, batch, average='probabilities')[0]
  q = views.predictions(lambda _: logits, batch, average='logits')[0]
  np.testing.assert_allclose(p, softmax(logits).mean(1), rtol=1e-6)
  np.testing.assert_allclose(q, softmax(logits.mean(1)), rtol=1e-6)
  assert p[0, 0] < 0.6 < 0.8 < q[0, 0]


def test_neither_batch_size_nor_order_matters():
  want = views.predictions(predict, batches(N))
  for size in (1, 4, 5, 64):
    for got in (
      views.predictions(predict, batches(size)),
      views.predictions(predict, batches(size, order=R.permutation(N))),
    ):
      for a, b in zip(got, want):
        np.testing.assert_array_equal(a, b)
  np.testing.assert_array_equal(want[2], np.arange(N) * 10)


def test_padding_may_hold_anything():
  noisy = lambda batch: np.where((batch['valid'] > 0)[:, None, None], predict(batch), np.nan)
  assert views.run(noisy, batches(5), num_classes=K) == views.run(
    predict, batches(5), num_classes=K
  )


def test_identical_views_are_one_view():
  many = views.run(lambda b: predict(b)[:, :1].repeat(4, 1), batches(6), num_classes=K)
  one = views.run(lambda b: predict(b)[:, :1], batches(6), num_classes=K)
  assert many.numbers == pytest.approx(one.numbers, rel=1e-6)


def test_a_constant_answer_scores_as_chance():
  labels = np.arange(21) % K
  got = views.scores(np.full((21, K), 1 / K, np.float32), labels, num_classes=K)
  assert got['top1'] == pytest.approx(1 / 7) and got['top5'] == pytest.approx(5 / 7)
  assert 'top5' not in views.scores(np.full((4, 4), 0.25, np.float32), np.arange(4), num_classes=4)


def test_confusion():
  p = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
  np.testing.assert_array_equal(
    views.confusion(p, np.array([0, 0, 1, 2])), [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
  )


def test_mean_average_precision_by_hand():
  p = np.array([[0.9, 0.5, 0.1], [0.8, 0.5, 0.2], [0.7, 0.1, 0.3], [0.6, 0.0, 0.4]], np.float32)
  y = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]])
  # class 0: 1/2 (1/1 + 2/3); class 1: tied with a negative, 1/2; class 2 has no positive
  assert views.mean_average_precision(p, y) == pytest.approx((5 / 6 + 1 / 2) / 2)
  assert views.mean_average_precision(y.astype(np.float32), y) == 1
  with pytest.raises(ValueError, match='none of 3 classes'):
    views.mean_average_precision(p, np.zeros_like(y))


def test_mean_auc_by_hand():
  p = np.array([[0.9, 0.5], [0.8, 0.5], [0.7, 0.1], [0.6, 0.0]], np.float32)
  y = np.array([[1, 1], [0, 0], [1, 0], [0, 0]])
  # class 0: three of four pairs in order; class 1: one tie of three
  assert views.mean_auc(p, y) == pytest.approx((3 / 4 + 2.5 / 3) / 2)
  assert np.isnan(views.mean_auc(p, np.zeros_like(y)))


def test_saved_predictions_give_the_same_numbers_and_hide_hidden_labels():
  want = views.run(predict, batches(5), num_classes=K).numbers
  report = views.run(predict, batches(5), num_classes=K, save_predictions=True)
  assert report.numbers == pytest.approx(want, rel=1e-5)
  assert report.predictions.logits.shape == (N, V, K)
  half = np.where(np.arange(N) < 12, LABELS, -1)
  found = views.run(predict, batches(5, half), num_classes=K, save_predictions=True)
  assert found.numbers['count'] == 12 and found.numbers['hidden'] == N - 12
  none = views.run(predict, batches(5, 0 * half - 1), num_classes=K, save_predictions=True)
  assert none.numbers == {'count': 0.0, 'hidden': float(N)}


def test_worst_mistakes_and_the_table_of_classes():
  p = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]], np.float32)
  y = np.array([0, 0, 0, 1])
  np.testing.assert_array_equal(views.worst(p, y, 5), [1, 2])
  assert views.per_class(p, y)[0] == {'videos': 3, 'recall': pytest.approx(1 / 3), 'precision': 1}


def test_many_labels():
  labels = (R.random((N, K)) < 0.3).astype(np.int32)
  got = views.run(predict, batches(4, labels), num_classes=K, multi_label=True).numbers
  p = (1 / (1 + np.exp(-LOGITS))).mean(1)
  assert got['loss'] == pytest.approx(-np.where(labels, np.log(p), np.log(1 - p)).mean(), rel=1e-5)
  assert got['map'] == pytest.approx(views.mean_average_precision(p.astype(np.float32), labels))
  assert set(got) == {'map', 'auc', 'loss', 'count'}


@pytest.mark.parametrize(
  'call, message',
  [
    (
      lambda: views.run(predict, batches(5, ids=np.arange(N) // 2), num_classes=K),
      'come more than once',
    ),
    (lambda: views.run(predict, [], num_classes=K), 'no batch'),
    (
      lambda: views.run(predict, [{**next(batches(4)), 'valid': np.zeros(4)}], num_classes=K),
      'padding',
    ),
    (lambda: views.run(predict, batches(5), num_classes=K + 1), 'for 8 classes'),
    (lambda: views.run(predict, batches(5, LABELS - 1), num_classes=K), 'labels run from -1'),
    (
      lambda: views.run(predict, batches(5), num_classes=K, average='mean'),
      'one of probabilities',
    ),
    (lambda: views.run(lambda b: predict(b)[:, 0], batches(5), num_classes=K), 'views apart'),
    (
      lambda: views.run(lambda b: predict(b)[1:], batches(5), num_classes=K),
      'one row a video',
    ),
    (
      lambda: views.run(lambda b: predict(b) * np.nan, batches(5), num_classes=K),
      'videos .0, 10.* not finite: .*earlier checkpoint',
    ),
  ],
)
def test_errors(call, message):
  with pytest.raises(ValueError, match=message):
    call()
