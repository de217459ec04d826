"""Contributions of space and time to accuracy, and the effect of temporal pooling (Chen et al.,
CVPR 2021, sec. 5, figure 6 and table 7):  python -m vjax.analysis.cnn [--runs=FOLDER] [--out=DIR]

Without --runs the 288 scores that the authors released are analyzed (chen2021_grid.csv), else the
finished runs in a folder. --out gets the figures: contributions.png, pooling.png, grid.png
and table2.png.
"""

import argparse
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vjax import checkpoint, figures, files

BASELINE = 'tsn'
GRID, TABLE2 = 'chen2021_grid.csv', 'chen2021_table2.csv'


class Key(NamedTuple):
  """One training: dataset, module, backbone, whether frames are pooled through time, frames."""

  dataset: str
  module: str
  backbone: str
  pool: bool
  frames: int


def read_csv(name: str) -> list[dict[str, str]]:
  """Returns the rows of a CSV file beside this one; lines that begin with # are its source."""
  lines = Path(__file__).with_name(name).read_text().splitlines()
  return list(csv.DictReader(line for line in lines if not line.startswith('#')))


def released(column: str = 'top1') -> dict[Key, float]:
  """Returns a column of the 288 released trainings: 'top1' (%) or 'gmacs'."""
  return {
    Key(r['dataset'], r['module'], r['backbone'], r['temporal_pooling'] == '1', int(r['frames'])):
    float(r[column])
    for r in read_csv(GRID)
  }  # fmt: skip


def of_runs(folder: str) -> dict[Key, float]:
  """Returns the top-1 (%) of the finished runs in a folder, of their first evaluation that has one.

  Runs of other networks than the unified framework's are left out. Raises ValueError for two runs
  of the same network, dataset and number of frames, and where there is no run.
  """
  found: dict[Key, float] = {}
  for path in sorted(Path(folder).glob('*/result.json')):
    meta = checkpoint.read_meta(str(path.parent))
    result = checkpoint.read_json(path, 'remove it, and evaluate again') or {}
    config = meta['config']
    name = re.fullmatch(r'(\w+?)(_tp)?_(inception|r\d+)', config['model']['name'])
    scores = [x['top1'] for x in result.values() if isinstance(x, dict) and 'top1' in x]
    if not (name and scores):
      continue
    data = config['data'].get('folder') or config['data']['name']
    depth = name[3].replace('inception', 'inception_v1').replace('r', 'resnet', name[3][0] == 'r')
    key = Key(data, name[1], depth, bool(name[2]), config['clip']['num_frames'])
    if key in found:
      raise ValueError(f'{folder} has two runs of {key}: give a folder with one of each')
    found[key] = 100 * scores[0]
  if not found:
    raise ValueError(f'{folder} has no finished run of the unified framework: run them first')
  return found


def spatial_contribution(score: float, baseline: float) -> float:
  """Returns Phi = S_TSN / max(S, S_TSN), in (0, 1]: the share of a score that the network without
  temporal module reaches. Scores are in percent; both without temporal pooling."""
  return baseline / max(score, baseline)


def temporal_improvement(score: float, baseline: float) -> float:
  """Returns Psi = (S - S_TSN) / (100 - S_TSN): the share of what TSN gets wrong that is gained;
  negative where the score is below TSN's. Scores are in percent; TSN without temporal pooling."""
  return (score - baseline) / (100 - baseline)


def contributions(scores: Mapping[Key, float], dataset: str, module: str) -> dict[str, float]:
  """Returns {phi, psi, psi_tp}, means over the backbones and numbers of frames that have both the
  module's score and TSN's. psi_tp: with temporal pooling, TSN's still without. NaN where there are
  none.

  DIFFERS(paper): table 7 has I3D and S3D swapped in phi and psi.
  """
  base = {
    (k.backbone, k.frames): s
    for k, s in scores.items()
    if (k.dataset, k.module, k.pool) == (dataset, BASELINE, False)
  }

  def mean(function, pool):
    values = [
      function(s, base[k.backbone, k.frames])
      for k, s in scores.items()
      if (k.dataset, k.module, k.pool) == (dataset, module, pool) and (k.backbone, k.frames) in base
    ]
    return float(np.mean(values)) if values else float('nan')

  return {
    'phi': mean(spatial_contribution, False),
    'psi': mean(temporal_improvement, False),
    'psi_tp': mean(temporal_improvement, True),
  }


def pooling_effect(scores: Mapping[Key, float]) -> dict[Key, float]:
  """Returns, by training without temporal pooling, what pooling adds to its top-1 (figure 6)."""
  pooled = {key._replace(pool=False): s for key, s in scores.items() if key.pool}
  return {key: pooled[key] - s for key, s in scores.items() if not key.pool and key in pooled}


def _unique(values: Any) -> list[Any]:
  return list(dict.fromkeys(values))


def tables(scores: Mapping[Key, float]) -> str:
  """Returns both tables as text: contributions; the mean effect of pooling by module and frames."""
  datasets, modules = (_unique(k[i] for k in scores) for i in (0, 1))
  lines = ['| dataset | module | Phi | Psi | Psi, pooling |', '| --- | --- | --- | --- | --- |']
  for dataset in datasets:
    for module in modules:
      row = contributions(scores, dataset, module)
      cells = ' | '.join(f'{x:.3f}' for x in row.values())
      lines.append(f'| {dataset} | {module} | {cells} |')
  effect = pooling_effect(scores)
  frames = sorted({k.frames for k in effect})
  if effect:
    lines += ['', 'Temporal pooling: added top-1 (%), mean over backbones', '']
    lines += ['| dataset | module | ' + ' | '.join(f'{f} frames' for f in frames) + ' |']
    lines += ['|' + ' --- |' * (2 + len(frames))]
  for dataset, module in _unique((k.dataset, k.module) for k in effect):
    cells = []
    for f in frames:
      of = [x for k, x in effect.items() if k[:2] == (dataset, module) and k.frames == f]
      cells.append(f'{np.mean(of):.1f}' if of else '-')
    lines.append(f'| {dataset} | {module} | {" | ".join(cells)} |')
  return '\n'.join(lines)


def draw_contributions(scores: Mapping[Key, float]) -> Any:
  """Returns the figure of table 7: Phi and Psi of each module, one panel a dataset."""
  modules = _unique(k.module for k in scores if k.module != BASELINE)
  panels = {
    dataset: {m: list(contributions(scores, dataset, m).values()) for m in modules}
    for dataset in _unique(k.dataset for k in scores)
  }
  return figures.bars(panels, ('Phi', 'Psi', 'Psi, pooling'))


def draw_pooling(scores: Mapping[Key, float]) -> Any:
  """Returns figure 6: what temporal pooling adds to the top-1 (%) of each module, mean over
  backbones, one panel a dataset, one group a number of frames."""
  effect = pooling_effect(scores)
  frames = sorted({k.frames for k in effect})

  def mean(dataset, module, count):
    of = [x for k, x in effect.items() if (*k[:2], k.frames) == (dataset, module, count)]
    return float(np.mean(of)) if of else float('nan')

  panels = {
    dataset: {
      module: [mean(dataset, module, count) for count in frames]
      for module in _unique(k.module for k in effect)
    }
    for dataset in _unique(k.dataset for k in effect)
  }
  return figures.bars(panels, [f'{count} frames' for count in frames])


def draw_table2() -> Any:
  """Returns figure 1, of the values of table 2: top-1 over GMACs of a clip, one panel a dataset."""
  paper: dict[str, dict[str, list[tuple[float, float]]]] = {}
  for row in read_csv(TABLE2):
    for dataset in ('kinetics', 'ssv2', 'mit'):
      if row[dataset] and row['gmacs']:
        label = row['model'] + ('' if row['source'] == 'own' else ' (quoted)')
        paper.setdefault(dataset, {})[label] = [(float(row['gmacs']), float(row[dataset]))]
  return figures.scatter(paper, 'GMACs of a clip', 'top-1 %')


def draw(scores: Mapping[Key, float], gmacs: Mapping[Key, float]) -> dict[str, Any]:
  """Returns {file name: figure}: contributions, the effect of pooling, accuracy over GMACs of the
  trainings that have a cost, and figure 1's from table 2."""
  found = {'contributions.png': draw_contributions(scores)}
  if pooling_effect(scores):
    found['pooling.png'] = draw_pooling(scores)
  points: dict[str, dict[str, list[tuple[float, float]]]] = {}
  for key in sorted(k for k in scores if k in gmacs):
    label = f'{key.module}{" tp" if key.pool else ""}'
    line = points.setdefault(key.dataset, {}).setdefault(label, [])
    if line and key.frames == min(k.frames for k in scores):
      line.append((float('nan'), float('nan')))  # another backbone
    line.append((gmacs[key], scores[key]))
  if points:
    found['grid.png'] = figures.scatter(points, 'GMACs of a clip', 'top-1 %')
  found['table2.png'] = draw_table2()
  return found


def main(argv: Sequence[str] | None = None) -> int:
  """Prints the tables and writes the figures; 1 where there is nothing to analyze."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--runs', default='', help="folder of finished runs; '' = released scores")
  parser.add_argument('--out', default='', help='folder for the figures')
  parser.add_argument('--overwrite', action='store_true', help='replace figures in --out')
  args = parser.parse_args(argv)
  try:
    scores = of_runs(args.runs) if args.runs else released()
    print(tables(scores))
    if args.out:
      drawn = draw(scores, {} if args.runs else released('gmacs'))
      paths = {str(Path(args.out, name)): figure for name, figure in drawn.items()}
      files.check_new('--out', paths, overwrite=args.overwrite)
      for path, figure in paths.items():
        files.write_bytes(path, figures.png(figure))
  except (ValueError, OSError) as error:
    print(error, file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
