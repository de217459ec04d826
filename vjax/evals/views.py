"""Multi-view classification: every video counts once, its views are averaged."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy import special, stats

from vjax.types import Batch, Evaluation, Predictions, Report

AVERAGES = ('probabilities', 'logits')


def run(
  predict: Callable[[Batch], Any],
  batches: Iterable[Batch],
  *,
  num_classes: int,
  average: str = 'probabilities',
  multi_label: bool = False,
  save_predictions: bool = False,
) -> Report:
  """Evaluates a classifier on every video of a split, once.

  Args:
    predict: returns logits (b, V, K) for the V views of this host's videos of a batch.
    batches: of the split.
    num_classes: K.
    average: averages 'probabilities' (Ghadiyaram et al. 2019; Feichtenhofer et al. 2022) or
      'logits' (Chen et al. 2021) over views.
    multi_label: labels are multi-hot (b, K): a sigmoid for every class, else a softmax.
    save_predictions: keep the logits of all views. Videos with hidden labels (-1) are then allowed.

  Returns:
    The numbers of `scores`; videos with hidden labels are left out.

  Raises:
    ValueError: for logits that are not finite, labels outside of the classes, repeated videos.
  """
  if save_predictions:
    logits, labels, ids = collect(lambda batch: _logits(predict, batch), batches)
    found = Predictions(ids, labels, logits)
    numbers = scores_of(found, num_classes=num_classes, average=average, multi_label=multi_label)
    return Report(numbers, predictions=found)
  probabilities, labels, _ = predictions(predict, batches, average=average, multi_label=multi_label)
  return Report(scores(probabilities, labels, num_classes=num_classes, multi_label=multi_label))


def check(settings: Mapping[str, Any]) -> None:
  """Raises ValueError for an unknown way to average."""
  average = settings.get('average', AVERAGES[0])
  if average not in AVERAGES:
    raise ValueError(f'average is {average!r}; it must be one of {", ".join(AVERAGES)}')


def scores_of(
  found: Predictions, *, num_classes: int, average: str = 'probabilities', multi_label: bool = False
) -> dict[str, float]:
  """Returns the numbers of `scores` for the videos with known labels, and the count of videos with
  hidden labels, if any."""
  known = found.label >= 0 if found.label.ndim == 1 else np.ones(len(found.label), bool)
  hidden = {'hidden': float((~known).sum())} if not known.all() else {}
  if not known.any():
    return {'count': 0.0, **hidden}
  probabilities = averaged(found.logits[known], average, multi_label)
  return {
    **scores(probabilities, found.label[known], num_classes=num_classes, multi_label=multi_label),
    **hidden,
  }


def averaged(
  logits: Float[np.ndarray, 'n v k'], average: str, multi_label: bool = False
) -> Float[np.ndarray, 'n k']:
  """Returns probabilities (N, K) in float32 from logits of V views, see `run`."""
  check({'average': average})
  squash = special.expit if multi_label else partial(special.softmax, axis=-1)
  logits = np.asarray(logits, np.float64)
  mean = squash(logits).mean(1) if average == 'probabilities' else squash(logits.mean(1))
  return mean.astype(np.float32)


def predictions(
  predict: Callable[[Batch], Any],
  batches: Iterable[Batch],
  *,
  average: str = 'probabilities',
  multi_label: bool = False,
) -> tuple[Float[np.ndarray, 'n k'], Int[np.ndarray, 'n ...'], Int[np.ndarray, ' n']]:
  """Returns probabilities (N, K) in float32, labels (N,) or (N, K), and ids (N,), of the real
  videos of all hosts, by rising id. The arguments are those of `run`."""
  check({'average': average})
  one = lambda batch: averaged(_logits(predict, batch), average, multi_label)
  return collect(one, batches)


def _logits(predict: Callable[[Batch], Any], batch: Batch) -> Float[np.ndarray, 'b v k']:
  """Returns the logits of a batch. Raises ValueError where those of a real video are not finite."""
  logits = np.asarray(predict(batch))
  if logits.ndim != 3:
    raise ValueError(f'predict answers shape {logits.shape}; it must give (b, V, K), views apart')
  _check_rows(logits, batch)
  real = np.asarray(batch['valid']) > 0
  if not np.isfinite(logits[real]).all():
    bad = np.asarray(batch['video_id'])[real][~np.isfinite(logits[real]).all((1, 2))]
    raise ValueError(
      f'logits of videos {bad[:5].tolist()} are not finite: the training has diverged, or these '
      'videos are broken. Evaluate an earlier checkpoint (move the newest folder in '
      'WORKDIR/checkpoints elsewhere), or prepare these videos again; numbers are those of records '
      'of the split'
    )
  return logits


def collect(
  function: Callable[[Batch], Any], batches: Iterable[Batch]
) -> tuple[Float[np.ndarray, 'n ...'], Int[np.ndarray, 'n ...'], Int[np.ndarray, ' n']]:
  """Returns rows of function(batch) (N, ...) in float32, labels and ids, of the real videos of all
  hosts, by rising id.

  A batch has label (b,) or (b, K), valid (b,) 1 = real, and video_id (b,). Hosts must yield equally
  many rows, padding included. Raises ValueError where there is no video, or where one comes twice.
  """
  rows: list[tuple[np.ndarray, ...]] = []
  for batch in batches:
    values = np.asarray(function(batch), np.float32)
    _check_rows(values, batch)
    rows.append((values, *(np.asarray(batch[name]) for name in ('label', 'video_id', 'valid'))))
  if not rows:
    raise ValueError('there is no batch to evaluate: is the split empty?')
  values, labels, ids, valid = (np.concatenate(parts) for parts in zip(*rows))
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    values, labels, ids, valid = multihost_utils.process_allgather(
      (values, labels, ids, valid), tiled=True
    )
  real = np.flatnonzero(valid > 0)
  real = real[np.argsort(ids[real], kind='stable')]
  ids = ids[real]
  if not len(ids):
    raise ValueError(f'all {len(valid)} rows are padding: is the split empty?')
  twice = np.unique(ids[1:][ids[1:] == ids[:-1]])
  if len(twice):
    raise ValueError(
      f'{len(twice)} videos come more than once, e.g. video_id {twice[:5].tolist()}: each must '
      'count once'
    )
  return values[real], labels[real], ids


def scores(
  probabilities: Float[np.ndarray, 'n k'],
  labels: Int[np.ndarray, 'n ...'],
  *,
  num_classes: int,
  multi_label: bool = False,
) -> dict[str, float]:
  """Returns the numbers of an evaluation. All but loss and count are in [0, 1].

  One label a video: top1, top5 (absent below 5 classes), loss (mean of -log p(label)) and
  mean_class_accuracy (top-1 per class, mean over the classes that occur). Of equal probabilities
  the lower class ranks first, so that constant probabilities score as chance. Several labels: map,
  auc, and loss (binary cross-entropy, mean over classes).
  """
  wanted = (len(probabilities), num_classes) if multi_label else (len(probabilities),)
  if probabilities.shape[1:] != (num_classes,) or labels.shape != wanted:
    raise ValueError(
      f'probabilities are {probabilities.shape} and labels {labels.shape} for {num_classes} '
      f'classes and multi_label={multi_label}: need (N, {num_classes}) and {wanted}'
    )
  smallest = np.finfo(np.float32).tiny
  log = lambda p: np.log(np.maximum(p.astype(np.float64), smallest))
  count = float(len(labels))
  if multi_label:
    losses = -np.where(labels > 0, log(probabilities), log(1 - probabilities.astype(np.float64)))
    return {
      'map': mean_average_precision(probabilities, labels),
      'auc': mean_auc(probabilities, labels),
      'loss': float(losses.mean()),
      'count': count,
    }
  rank = _rank(probabilities, labels)
  table = confusion(probabilities, labels)
  videos = table.sum(1)
  return {
    'top1': float((rank < 1).mean()),
    **({'top5': float((rank < 5).mean())} if num_classes >= 5 else {}),
    'loss': float(-log(probabilities[np.arange(len(labels)), labels]).mean()),
    'mean_class_accuracy': float((np.diag(table)[videos > 0] / videos[videos > 0]).mean()),
    'count': count,
  }


def confusion(
  probabilities: Float[np.ndarray, 'n k'], labels: Int[np.ndarray, ' n']
) -> Int[np.ndarray, 'k k']:
  """Returns the number of videos by true class (rows) and predicted class (columns)."""
  classes = probabilities.shape[1]
  check_labels(labels, classes)
  return np.bincount(labels * classes + probabilities.argmax(1), minlength=classes**2).reshape(
    classes, classes
  )


def mean_average_precision(
  probabilities: Float[np.ndarray, 'n k'], labels: Int[np.ndarray, 'n k']
) -> float:
  """Returns the mean average precision over the classes with a positive.

  Average precision is step-wise: the sum over thresholds of precision times the gain in recall,
  without interpolation. Raises ValueError where no class has a positive.
  """
  precisions = [
    _average_precision(p, y > 0) for p, y in zip(probabilities.T, labels.T) if (y > 0).any()
  ]
  if not precisions:
    raise ValueError(
      f'none of {labels.shape[1]} classes has a positive among {len(labels)} videos: map is '
      'undefined'
    )
  return float(np.mean(precisions))


def mean_auc(probabilities: Float[np.ndarray, 'n k'], labels: Int[np.ndarray, 'n k']) -> float:
  """Returns the mean area under the ROC curve, over classes with positives and negatives; NaN
  without any.

  The area is the probability that a positive ranks above a negative, ties counting half.
  """
  areas = []
  for score, positive in zip(probabilities.T, labels.T > 0):
    p = int(positive.sum())
    if 0 < p < len(positive):
      above = stats.rankdata(score)[positive].sum() - p * (p + 1) / 2
      areas.append(above / (p * (len(positive) - p)))
  return float(np.mean(areas)) if areas else float('nan')


def per_class(
  probabilities: Float[np.ndarray, 'n k'], labels: Int[np.ndarray, ' n']
) -> list[dict[str, float]]:
  """Returns the videos, recall (top-1) and precision of every class; NaN where there are no videos
  to count."""
  table = confusion(probabilities, labels)
  right, true, said = np.diag(table), table.sum(1), table.sum(0)
  share = lambda a, b: float(a / b) if b else float('nan')
  return [
    {'videos': int(t), 'recall': share(r, t), 'precision': share(r, s)}
    for r, t, s in zip(right, true, said)
  ]


def worst(
  probabilities: Float[np.ndarray, 'n k'], labels: Int[np.ndarray, ' n'], count: int
) -> Int[np.ndarray, ' m']:
  """Returns the rows of at most `count` wrong videos, by rising probability of the true class."""
  own = probabilities[np.arange(len(labels)), labels]
  wrong = np.flatnonzero(probabilities.argmax(1) != labels)
  return wrong[np.argsort(own[wrong], kind='stable')][:count]


def _average_precision(score, positive) -> float:
  order = np.argsort(-score, kind='stable')
  last = np.append(
    np.flatnonzero(np.diff(score[order])), len(score) - 1
  )  # equal scores share a threshold
  found = np.cumsum(positive[order])[last]
  return float(np.sum(found / (last + 1) * np.diff(found, prepend=0)) / positive.sum())


def _rank(probabilities, labels):
  """Returns the number of classes that rank before the true one (N,)."""
  check_labels(labels, probabilities.shape[1])
  own = probabilities[np.arange(len(labels)), labels][:, None]
  earlier = np.arange(probabilities.shape[1]) < labels[:, None]
  return ((probabilities > own) | ((probabilities == own) & earlier)).sum(1)


def check_labels(labels: Int[np.ndarray, ' n'], classes: int) -> None:
  """Raises ValueError unless all labels are in [0, classes)."""
  if labels.min() < 0 or labels.max() >= classes:
    raise ValueError(
      f'labels run from {labels.min()} to {labels.max()}, but there are {classes} classes'
    )


def _check_rows(values, batch) -> None:
  if len(values) != len(batch['valid']):
    raise ValueError(
      f'{len(values)} answers for {len(batch["valid"])} videos: give one row a video, padding '
      'included'
    )


METRICS = ('top1', 'top5', 'loss', 'mean_class_accuracy', 'count')
EVALUATION = Evaluation(
  run,
  needs='logits',
  needs_labels=True,
  needs_classes=True,
  check=check,
  metrics=METRICS,
  multi_label_metrics=('map', 'auc', 'loss', 'count'),
)
