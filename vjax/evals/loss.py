"""The objective's own metrics on a split: as in training, but without augmentation."""

from collections.abc import Callable, Iterable
from typing import Any

from vjax.metrics import Interval
from vjax.types import Batch, Evaluation, Report


def run(metrics: Callable[[Batch], dict[str, Any]], batches: Iterable[Batch]) -> Report:
  """Returns {metric: mean over real clips}.

  metrics(batch): returns `Mean`s over the first view of every video.
  """
  interval = Interval()
  for batch in batches:
    interval.add(metrics(batch))
  if not interval.sums:
    raise ValueError('there is no batch to evaluate: is the split empty?')
  return Report(interval.means())


EVALUATION = Evaluation(run, needs='metrics')
