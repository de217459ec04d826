"""Cost of one way of training against another, such as one network for several datasets against a
network for each: chip-days and clips a second that the runs of a study measured.

In the paper joint training took 128 GPUs two to four days; its supplement compares pre-training
on images with training from scratch in this way, +34% and +92% of the time (Liang et al., NeurIPS
2022).

In the `table` of a study, beside its other tables:

  ways = {'separate': ('k400', 'mit', 'ssv2', 'activitynet'), 'joint': ('k400', 'joint')}
  return {'Accuracy': ..., 'Cost of training': training_cost.rows(results, ways)}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vjax import budget


def clips_per_s(training: Mapping[str, Any]) -> float:
  """Returns the clips a second of all chips of a run, of its section `training` of result.json.
  Evaluations do not count; waiting for data does."""
  return training['clips_seen'] / training['train_s']


def chips(training: Mapping[str, Any]) -> float:
  """Returns how many chips a run had. Runs that were continued on other ones: the mean over its
  time of training."""
  return training['device_hours'] * 3600 / training['train_s']


def chip_days(training: Mapping[str, Any], clips: float = 0) -> float:
  """Returns the chip-days of a run; of as many `clips` as given, at the speed of the run."""
  seen = clips or training['clips_seen']
  return budget.hours(seen, clips_per_s(training), 1) * chips(training) / 24


def rows(
  results: Mapping[str, Any],
  ways: Mapping[str, Sequence[str]],
  *,
  clips: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
  """Returns a row for each training, and for each way the sum over its trainings, in chip-days and
  in % of the first way.

  Args:
    results: of the runs of a study, by name.
    ways: names of the trainings of each way, such as {'separate': ('k400', 'ssv2'), 'joint':
      ('k400', 'joint')}: the run that joint training starts from counts as one of its own.
    clips: of a training at full size, by name of the run: adds what that takes at the speed of the
      run. A run without clips leaves the sum open.

  Clips seen and chip-days are text of three digits, for those of a miniature are few. Cells of runs
  that are not finished, and of sums over such, are None.
  """
  table: list[dict[str, Any]] = []
  first: dict[str, float | None] = {}
  for way, names in ways.items():
    found = [_row(results.get(name), name, clips) for name in names]
    total: dict[str, Any] = {'training': 'all'}
    for key in (key for key in found[0] if key.startswith('chip-days')):
      values = [row[key] for row in found]
      value = None if None in values else sum(values)
      base = first.setdefault(key, value)
      total |= {key: value, f'{key}, %': 100 * value / base if value and base else None}
      for row in (*found, total):
        row[key] = None if row[key] is None else f'{row[key]:.3g}'
    table += [{'way': way, **row} for row in (*found, total)]
  return table


def _row(result: Any, name: str, clips: Mapping[str, float] | None) -> dict[str, Any]:
  """Returns the row of one training. result: of the run, None = it is not finished."""
  keys = ['clips seen, M', 'clips/s', 'chips', 'chip-days']
  keys += [] if clips is None else ['chip-days at full size']
  row: dict[str, Any] = {'training': name, **dict.fromkeys(keys)}
  if result:
    one = result['training']
    seen = f'{one["clips_seen"] / 1e6:.3g}'
    row |= dict(zip(keys, (seen, clips_per_s(one), chips(one), chip_days(one))))
    if clips and name in clips:
      row[keys[-1]] = chip_days(one, clips[name])
  return row
