"""Curves of finished trainings: numbers of evaluations on the way, against the seconds of training
(metrics.jsonl)."""

import json
from typing import Any

import numpy as np

from vjax import files


def over_seconds(workdir: str, evaluation: str, metric: str = 'top1') -> list[tuple[float, float]]:
  """Returns (seconds of training until then, value) of each time that a run was evaluated.

  Seconds are those of the training rows, which do not count evaluations, read off between two rows.
  Raises ValueError for a run that was not evaluated so.
  """
  file = files.path(workdir) / 'metrics.jsonl'
  rows = [json.loads(line) for line in file.read_text().splitlines()]
  return points(rows, evaluation, metric, where=str(file))


def points(
  rows: list[dict[str, Any]], evaluation: str, metric: str, *, where: str = 'rows'
) -> list[tuple[float, float]]:
  """Returns the points of `over_seconds` of the rows of a metrics.jsonl."""
  # The last row of a step counts: a run that was stopped has steps twice.
  seconds = {r['step']: r['seconds'] for r in rows if r['split'] == 'train' and 'seconds' in r}
  values = {r['step']: r[metric] for r in rows if r['split'] == evaluation and metric in r}
  if not seconds or not values:
    raise ValueError(
      f'{where} has no seconds of training, or no {metric} of an evaluation {evaluation!r}: '
      'set config.train.eval_epochs, and name an entry of config.evals'
    )
  steps = [0, *sorted(seconds)]
  times = [0.0, *(seconds[step] for step in sorted(seconds))]
  return [(float(np.interp(step, steps, times)), values[step]) for step in sorted(values)]
