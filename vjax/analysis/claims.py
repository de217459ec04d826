"""Sentences on what a study shows, for the outcome of its file: whether one way is better than
another, and whether rows of a table come in the paper's order."""

import itertools
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Seeds = Mapping[Any, float]


def by_seed(
  results: Mapping[str, Any], run: str, part: str, metric: str = 'top1'
) -> dict[int, float]:
  """Returns an evaluation's metric in percent, by seed: of the runs RUN_seed0 or RUN_0 and so on;
  a run of this very name counts as seed 0."""
  found = {}
  for name, result in results.items():
    seed = re.fullmatch(re.escape(run) + r'(?:_(?:seed)?(\d\d?))?', name)
    if seed and part in result:
      found[int(seed[1] or 0)] = 100 * result[part][metric]
  return found


def better(claim: str, these: Seeds, those: Seeds) -> str:
  """Returns whether it shows that these numbers are above those, in points.

  It shows where these are above those with every seed, and by more in the mean than the standard
  deviation over seeds; the opposite shows where they are below in the same way.

  Args:
    claim: what is said to be so, such as 'images first is better than from scratch'.
    these: numbers by seed.
    those: the same; seeds that are in one of both are left out.
  """
  both = [(these[seed], those[seed]) for seed in these if seed in those]
  points = [a - b for a, b in both if math.isfinite(a - b)]
  if not points:
    return f'{claim}: not told, no runs of both'
  mean = statistics.fmean(points)
  if len(points) == 1:
    return f'{claim}: one seed, {mean:+.1f} points'
  spread = statistics.stdev(points)
  if abs(mean) <= spread:
    verdict = 'does not show, within the spread of seeds'
  elif min(points) > 0:
    verdict = 'shows'
  elif max(points) < 0:
    verdict = 'the opposite shows'
  else:
    verdict = 'does not show with every seed'
  return f'{claim}: {verdict}, {mean:+.1f} ± {spread:.1f} points ({len(points)} seeds)'


def ordered(claim: str, rows: Sequence[Mapping[str, Any]], seen: str, paper: str = 'paper') -> str:
  """Returns how many pairs of rows of a table are in the order of the paper.

  Args:
    claim: what is ordered, such as 'kinds of masks by top-1'.
    rows: of the table.
    seen: column of what was seen: numbers, or numbers over seeds.
    paper: column of the paper's figures, of which the first number counts.
  """
  known = [(_number(row.get(seen)), _number(row.get(paper))) for row in rows]
  both = [(ours, theirs) for ours, theirs in known if ours is not None and theirs is not None]
  pairs = [(a, b) for a, b in itertools.combinations(both, 2) if a[1] != b[1]]
  if not pairs:
    return f'{claim}: not told, fewer than two rows have results and other figures in the paper'
  same = sum((a[0] - b[0]) * (a[1] - b[1]) > 0 for a, b in pairs)
  return f"{claim}: {same} of {len(pairs)} pairs of rows are in the paper's order"


def _number(value: Any) -> float | None:
  """Returns the mean of numbers over seeds, a number, or the first one of a text."""
  if isinstance(value, list | tuple):
    value = statistics.fmean(value) if value else None
  if value is None or isinstance(value, int | float):
    return value if value is None or math.isfinite(value) else None
  found = re.search(r'-?\d+(\.\d+)?', str(value))
  return float(found[0]) if found else None
