"""Is pre-training worth its time?  Feichtenhofer et al. (NeurIPS 2022), figure 5.

Accuracy against the hours of all training: from scratch, and from an autoencoder, whose
pre-training counts. ViT-L on Kinetics-400, 800 epochs of pre-training; one clip of a video is
tested on the way. Expect the autoencoder to be above training from scratch soon after its
fine-tuning has begun. The paper prints no numbers of the curve, but those of its ends.

Evaluations do not count as time. Hours are of one machine: compare runs that had the same.
DIFFERS(paper): training from scratch has the recipe and the epochs of fine-tuning, since the paper
states no others.

Command:  python -m vjax.study configs/studies/mae_cost_curve.py
          python -m vjax.study configs/studies/mae_cost_curve.py --tiny
"""

from collections.abc import Iterator
from typing import Any

from configs.papers import FACTS
from configs.studies import _mae
from vjax import registry
from vjax.analysis import claims

MAE, CURVES = 'mae_k400_L_800', 'curves'
WHAT = {'curve_scratch': 'from scratch', 'curve_mae': 'from the autoencoder'}
PAPER = {'curve_scratch': FACTS['mae/scratch'], 'curve_mae': FACTS['mae/sparse']}


def runs(workdir: str, tiny: bool = False) -> Iterator[Any]:
  yield MAE, _mae.pretraining(tiny)
  changes = {'train.eval_epochs': 4.0, 'evals.test.num_clips': 1, 'evals.test.num_crops': 1}
  for name, start in {'curve_scratch': '', 'curve_mae': f'{workdir}/{MAE}'}.items():
    yield name, _mae.finetuning(tiny, start, changes=changes)
  yield CURVES, lambda _, data_dir: _curves(workdir), tuple(WHAT)


def _curves(workdir: str) -> dict[str, list[tuple[float, float]]]:
  """Returns (seconds, top-1) of each run, without its pre-training."""
  read = registry.find('analysis', 'curves').over_seconds
  return {name: read(f'{workdir}/{name}', 'test') for name in WHAT}


def table(results: _mae.Results) -> list[dict[str, Any]]:
  """Returns the last accuracy, and the hours until then."""
  short = lambda number: None if number is None else f'{number:.3g}'
  return [
    {
      'training': what,
      'top-1 %, one clip': _mae.percent(results, name),
      'pre-training, h': short(_mae.hours(results, MAE)) if name == 'curve_mae' else '0',
      'fine-tuning, h': short(_mae.hours(results, name)),
      'paper': PAPER[name],
    }
    for name, what in WHAT.items()
  ]


def figures(results: _mae.Results) -> dict[str, Any]:
  """Returns a line for each start, over the hours of all training."""
  before = {'curve_scratch': 0.0, 'curve_mae': _mae.hours(results, MAE)}
  if CURVES not in results or before['curve_mae'] is None:
    return {}
  lines = {
    what: [(before[name] + seconds / 3600, 100 * top1) for seconds, top1 in results[CURVES][name]]
    for name, what in WHAT.items()
  }
  return {'Accuracy over time': {'lines': lines, 'x': 'hours of training', 'y': 'top-1 %'}}


def outcome(results: _mae.Results) -> list[str]:
  """Returns whether pre-training pays at the end of both trainings."""
  last = [claims.by_seed(results, name, 'test') for name in ('curve_mae', 'curve_scratch')]
  return [claims.better('At the end, pre-trained is better than from scratch', *last)]
