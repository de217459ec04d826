"""Videos of one dataset through the classifiers of the others, of a network of several datasets:
python -m vjax.analysis.cross_confusion WORKDIR [--split=val] [--data_dir=data] [--out=DIR]

For every ordered pair (dataset, head), how often a video of each class of the dataset is taken for
each class of the head's dataset: whether classifiers agree where classes mean the same. Beside
vjax/analysis/projections.py, which reads what was learned, this counts what is answered. The
newest checkpoint is evaluated as its config.evals do, in their views; a dataset without an
evaluation 'views' is left out. --out gets cross_confusion.csv, of the most frequent pairs, and
cross_confusion.png, a heat map of each (dataset, head).

(Liang et al., NeurIPS 2022, have no such table.)
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from vjax import build, evaluate, figures, files, study_report
from vjax.evals import views

FILES = ('cross_confusion.csv', 'cross_confusion.png')

Counts = Mapping[tuple[str, str], Int[np.ndarray, 'k l']]  # by (dataset, head)
Classes = Mapping[str, Sequence[str]]  # by dataset


def counts(evaluator: evaluate.Evaluator, split: str = '') -> Counts:
  """Returns how often videos of each class of one dataset (K) are taken for each class of another
  one (L), by that one's classifier; videos with hidden labels are left out.

  Args:
    evaluator: of a network of several datasets.
    split: of every dataset; '' = those of config.evals.

  Raises ValueError for a network of one dataset, and where no dataset is evaluated by 'views'.
  """
  model, exp = evaluator.model, evaluator.exp
  if not exp.joint:
    raise ValueError(
      'the run was trained on one dataset, and has one classifier: give a run of '
      'configs/multitrain.py'
    )
  sizes, found = model.model.head.num_classes, {}
  entries = {e.dataset: e for e in reversed(exp.evals.values()) if e.name == 'views'}
  for dataset in (name for name in sizes if name in entries):
    entry = entries[dataset]
    others = [name for name in sizes if name != dataset]
    average = entry.settings.get('average', views.AVERAGES[0])

    def guesses(batch: Any, others: Sequence[str] = others, average: str = average) -> np.ndarray:
      logits = (model.serving(name).logits(batch['video']) for name in others)
      return np.stack([views.averaged(x, average).argmax(-1) for x in logits], axis=-1)

    batches = evaluator.batches_of(entry, split or entry.splits['split'])
    answers, labels, _ = views.collect(guesses, batches)
    known = labels >= 0
    for name, column in zip(others, answers.T.astype(int)):
      table = np.zeros((sizes[dataset], sizes[name]), int)
      np.add.at(table, (labels[known], column[known]), 1)
      found[dataset, name] = table
  if not found:
    raise ValueError(
      "none of config.evals has the name 'views' and one of several datasets: there is nothing to "
      'compare; evaluate a dataset by its own classifier'
    )
  return found


def rows(found: Counts, classes: Classes, count: int = 10) -> list[dict[str, Any]]:
  """Returns the most frequent `count` pairs of classes of each (dataset, head), with the share of
  the videos of the class."""
  table = []
  for (dataset, head), numbers in found.items():
    order = np.argsort(-numbers, axis=None, kind='stable')[:count]
    for i, j in (divmod(int(place), numbers.shape[1]) for place in order):
      if numbers[i, j]:
        table.append(
          {
            'dataset': dataset,
            'head': head,
            'class': classes[dataset][i],
            'taken for': classes[head][j],
            'videos': int(numbers[i, j]),
            '% of the class': float(100 * numbers[i, j] / numbers[i].sum()),
          }
        )
  return table


def draw(found: Counts, classes: Classes) -> Any:
  """Returns a figure with a heat map of each (dataset, head), in shares of each true class."""
  panels = {}
  for (dataset, head), numbers in found.items():
    shares = numbers / np.maximum(numbers.sum(1, keepdims=True), 1)
    panels[f'{dataset} through {head}'] = shares, classes[dataset], classes[head]
  return figures.heat_maps(panels, 'predicted', 'true')


def main(argv: Sequence[str] | None = None) -> int:
  """Prints the table and writes the files; 1 where the run cannot be evaluated so."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split(':')[0])
  parser.add_argument('workdir', help='of a run of several datasets')
  parser.add_argument('--split', default='', help='of every dataset; default as config.evals say')
  parser.add_argument('--data_dir', default='', help='default $VJAX_DATA, else data')
  parser.add_argument('--count', type=int, default=10, help='pairs of classes of each direction')
  parser.add_argument('--out', default='', help=f'folder for {" and ".join(FILES)}')
  parser.add_argument('--overwrite', action='store_true', help='replace files in --out')
  args = parser.parse_args(argv)
  if args.count < 1:
    parser.error(f'--count is {args.count}; it must be 1 or more')
  paths = [Path(args.out, name) for name in FILES]
  try:
    if args.out:
      files.check_new('--out', paths, overwrite=args.overwrite)
    evaluator = evaluate.load(args.workdir, args.data_dir or build.default_data_dir())
    found = counts(evaluator, args.split)
    model = evaluator.model
    classes = {name: model.serving(name).classes for name in model.model.head.num_classes}
    table = rows(found, classes, args.count)
    print(study_report.markdown(table))
    if args.out:
      files.write_bytes(paths[0], study_report.as_csv(table).encode())
      files.write_bytes(paths[1], figures.png(draw(found, classes)))
  except (ValueError, OSError) as error:
    print(error, file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
