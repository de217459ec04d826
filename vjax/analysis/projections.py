"""Related classes of several datasets, by the projections that joint training learned between their
label spaces:  python -m vjax.analysis.projections WORKDIR [--count=5] [--absolute] [--out=DIR]

For every ordered pair of datasets, the largest weights of the matrix that projects the logits of
the first to the classes of the second: 'left -> rotation, 0.31' says that evidence for left counts
as evidence for rotation. --out gets projections.csv and projections.png, one panel a pair.

Liang et al. (NeurIPS 2022), MultiTrain, print the first five class pairs of all twelve ordered
pairs of {Kinetics-400, Moments in Time, Something-Something V2, ActivityNet}, of the network of
312 px, such as 'bending metal -> bending' (Kinetics-400 to Moments in Time). They do not say
whether the sign counts; here it does, unless --absolute is given. A class may come several times,
as in the paper. Most pairs of the paper are not related by meaning: the table describes a network,
and proves nothing.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from vjax import checkpoint, figures, files, study_report
from vjax.config import parse, plain
from vjax.data.specs import classes_by_dataset, is_joint

COUNT = 5  # pairs that the paper prints
FILES = ('projections.csv', 'projections.png')


class Pair(NamedTuple):
  """A class of one dataset, one of another, and the weight of the first one's logit in the second
  one's."""

  source: str
  target: str
  weight: float


Pairs = Mapping[tuple[str, str], Sequence[Pair]]  # of the datasets (source, target)


def top_pairs(
  weights: Float[np.ndarray, 's t'],
  sources: Sequence[str],
  targets: Sequence[str],
  *,
  count: int = COUNT,
  absolute: bool = False,
) -> list[Pair]:
  """Returns the pairs of the largest weights of one projection, the largest first.

  Args:
    weights: from the logits of S classes to T classes.
    sources, targets: names of the classes.
    count: of the pairs; fewer where there are no more.
    absolute: order by the size of a weight whatever its sign.
  """
  key = np.abs(weights) if absolute else weights
  order = np.argsort(-key, axis=None, kind='stable')[:count]
  places = [divmod(int(place), weights.shape[1]) for place in order]
  return [Pair(sources[i], targets[j], float(weights[i, j])) for i, j in places]


def of_checkpoint(workdir: str, *, count: int = COUNT, absolute: bool = False) -> Pairs:
  """Returns the pairs of all ordered pairs of datasets of a run's newest checkpoint, see
  `top_pairs`. Raises ValueError where the run has no projections, or did not train them."""
  variables, meta = checkpoint.load_params(workdir)
  config = parse(plain(meta['config']))
  if not is_joint(config):
    raise ValueError(
      f'{workdir} was trained on one dataset, without projections: give a run of '
      'configs/multitrain.py'
    )
  kernels = variables['params']['head'].get('projections', {})
  if not kernels or config.objective.settings.get('projection', 'add') == 'none':
    key = 'objective.projection is none' if kernels else 'head has no projections'
    raise ValueError(
      f'{workdir}: config.{key}, so that nothing was learned about pairs of classes: give a run '
      "with config.objective.projection='add' or 'separate' of at least two datasets"
    )
  names = classes_by_dataset(config, meta['classes'])
  return {
    (source, target): top_pairs(
      np.asarray(kernels[target][source]['kernel'], np.float32),
      names[source],
      names[target],
      count=count,
      absolute=absolute,
    )
    for source in names
    for target in names
    if source != target
  }


def rows(pairs: Pairs) -> list[dict[str, Any]]:
  """Returns the pairs as rows of a table."""
  return [
    {'from': source, 'to': target, 'class': p.source, 'related class': p.target, 'weight': p.weight}
    for (source, target), found in pairs.items()
    for p in found
  ]


def draw(pairs: Pairs) -> Any:
  """Returns a figure with one panel for each ordered pair of datasets, one line of panels for each
  source."""
  panels = {
    f'{source} -> {target}': {f'{p.source} -> {p.target}': p.weight for p in found}
    for (source, target), found in pairs.items()
  }
  return figures.ranked(panels, columns=len({target for _, target in pairs}) - 1, xlabel='weight')


def main(argv: Sequence[str] | None = None) -> int:
  """Prints the table and writes the files; 1 where there are no projections."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split(':')[0])
  parser.add_argument('workdir', help='of a run of several datasets')
  parser.add_argument('--count', type=int, default=COUNT, help='class pairs of each direction')
  parser.add_argument('--absolute', action='store_true', help='negative weights count as positive')
  parser.add_argument('--out', default='', help=f'folder for {" and ".join(FILES)}')
  parser.add_argument('--overwrite', action='store_true', help='replace files in --out')
  args = parser.parse_args(argv)
  if args.count < 1:
    parser.error(f'--count is {args.count}; it must be 1 or more')
  paths = [Path(args.out, name) for name in FILES]
  try:
    if args.out:
      files.check_new('--out', paths, overwrite=args.overwrite)
    pairs = of_checkpoint(args.workdir, count=args.count, absolute=args.absolute)
    found = rows(pairs)
    print(study_report.markdown([{**row, 'weight': f'{row["weight"]:.3g}'} for row in found]))
    if args.out:
      files.write_bytes(paths[0], study_report.as_csv(found).encode())
      files.write_bytes(paths[1], figures.png(draw(pairs)))
  except (ValueError, OSError) as error:
    print(error, file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
