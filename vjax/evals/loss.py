"""The objective's own numbers on a split, as in training but without augmentation."""

from collections.abc import Callable, Iterable
from typing import Any

from vjax.metrics import Interval
from vjax.types import Batch

READS = 'objective'
NEEDS_LABELS = False


def evaluate(
  objective: Callable[[Batch], dict[str, Any]], batches: Iterable[Batch]
) -> dict[str, float]:
  """{metric: mean over real clips}. objective(batch): means over the first view of every video."""
  interval = Interval()
  for batch in batches:
    interval.add(objective(batch))
  if not interval.sums:
    raise ValueError('there is no batch to evaluate: is the split empty?')
  return interval.means()
