"""Does one network on several datasets beat one network for each, and what do the informative loss
and the projections between classes give?  Liang et al. (NeurIPS 2022), MultiTrain, tables 1 to 3.

Separate networks, all datasets in one network with a classifier each (vanilla), with the
informative loss and projections (MultiTrain), and MultiTrain without parts of it. All but the
network of Kinetics start from it. Expect MultiTrain to win by 1.9 to 5.9 points over separate
networks and by 1 to 8 over vanilla, and to fail without informative loss where projections are
added to the logits.

In miniature: the domains A to D of the built-in data, four styles with six motions each, every
motion in two of them; 720 training clips each; three seeds. All start from one network of the
motions of the built-in data, and see as many clips of a domain. The width of layers of the head is
not cut down as far as the backbone: their weights are small at the start, and with few of them the
backbone hardly sees the classes beside the informative loss.

Command:  python -m vjax.study configs/studies/multitrain.py
          python -m vjax.study configs/studies/multitrain.py --tiny
Hardware: in the paper 128 GPUs, two to four days for a joint network.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import common, multitrain, mvit_k400
from configs.papers import FACTS
from vjax.analysis import claims, training_cost
from vjax.config import complete

# Rows of the tables: axes of configs/multitrain.py, and what the paper's figures are called.
JOINT = {
  'multitrain': ('', 'joint'),
  'vanilla': ('ablation=vanilla', 'vanilla'),
  'vanilla_200': ('ablation=vanilla,epochs=200', 'vanilla_200_epochs'),
  'no_informative': ('ablation=no_informative', 'no_informative'),
  'no_informative_no_add': ('ablation=no_informative_no_add', 'no_informative_no_add'),
  'no_projection': ('ablation=no_projection', 'no_projection'),
  'no_activitynet': ('drop=activitynet', 'no_activitynet'),
  'multitrain_312': ('crop=312', 'joint_312'),
  'k700_multitrain': ('sets=k700', 'joint_with_k700'),
  'k700_multitrain_312': ('sets=k700,crop=312', 'joint_with_k700_312'),
  'released': ('recipe=released,drop=activitynet', 'released'),
}
DATASETS = ('k400', 'k700', 'mit', 'ssv2', 'activitynet')
SEPARATE = ('separate_k400', 'separate_mit', 'separate_ssv2', 'separate_activitynet')
# Of the miniature.
DOMAINS = ('a', 'b', 'c', 'd')
SEEDS = (0, 1, 2)
TINY = ('multitrain', 'vanilla', 'no_informative')
START_STEPS, STEPS = 600, 300
BATCH, CROP, HIDDEN = 32, 32, 512


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  """Yields the network of Kinetics, the other separate ones, and the joint ones; in miniature the
  start, and the others with three seeds."""
  if tiny:
    yield 'start', _miniature('only=mit', {'motions': 'motions'}, START_STEPS, 0)
    init, sets = f'init={workdir}/start', {domain: f'domain_{domain}' for domain in DOMAINS}
    for seed in SEEDS:
      for domain, name in sets.items():
        config = _miniature(f'only=mit,{init}', {domain: name}, STEPS // len(sets), seed)
        yield f'separate_{domain}_seed{seed}', config
      for row in TINY:
        arg = ','.join(filter(None, (JOINT[row][0], init)))
        yield f'{row}_seed{seed}', _miniature(arg, sets, STEPS, seed)
    return
  yield 'separate_k400', mvit_k400.get_config('variant=multitrain_b_32x3')
  init = f'init={workdir}/separate_k400'
  for name in DATASETS[1:]:
    sets = ',sets=k700' if name == 'k700' else ''
    yield f'separate_{name}', multitrain.get_config(f'only={name},{init}{sets}')
  for row, (arg, _) in JOINT.items():
    yield row, multitrain.get_config(','.join(filter(None, (arg, init))))


def _miniature(arg: str, datasets: Mapping[str, str], steps: int, seed: int) -> ConfigDict:
  """Returns a training of a small network.

  Args:
    arg: of `multitrain.get_config`.
    datasets: names by alias, in place of the paper's.
    steps: of all datasets together.
    seed: of everything random.
  """
  config = ConfigDict(multitrain.get_config(f'{arg},tiny').to_dict())
  config.seed = seed
  config.datasets = {alias: dict(name=name) for alias, name in datasets.items()}
  config.data.batch_size = BATCH
  config.clip.update(crop_size=CROP, short_side=CROP * 9 // 8)
  config.augment.size = (CROP * 9 // 8,) * 2
  config.model.crop = CROP
  config.optim.update(total_steps=steps, warmup_steps=steps // 10)
  config.train.save_steps = steps
  views = dict(common.TINY_VIEWS, short_side=CROP * 9 // 8)
  config.evals = {alias: dict(views, dataset=alias) for alias in datasets}
  if config.head.name == 'joint':
    config.head.update(hidden=HIDDEN, expander=HIDDEN)
    if config.objective.projection == 'add':
      config.evals.update({
        f'{alias}_projected': dict(views, name='projected', dataset=alias) for alias in datasets
      })  # fmt: skip
  return complete(config)


def table(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
  """Returns top-1 on each dataset, of the classifier alone, as it is used, and what the networks
  cost; in miniature also top-1 with projections, of which the paper has none."""
  tiny = any('_seed' in name for name in results)
  tables = {'Top-1': _accuracy(results, tiny)}
  if tiny:
    tables['Top-1 with projections'] = _projected(results)
  return {**tables, 'Cost of training': training_cost.rows(results, _ways(tiny))}


def _ways(tiny: bool) -> dict[str, tuple[str, ...]]:
  """Returns the trainings that make networks of all datasets, separate and joint."""
  if tiny:
    separate = tuple(f'separate_{domain}_seed0' for domain in DOMAINS)
    return {'separate': separate, **{row: (f'{row}_seed0',) for row in TINY}}
  return {
    'separate': SEPARATE,
    **{row: ('separate_k400', row) for row in ('multitrain', 'vanilla', 'vanilla_200')},
  }


def _accuracy(results: Mapping[str, Any], tiny: bool) -> list[dict[str, Any]]:
  """Returns a row for separate networks and for each joint one."""
  datasets = DOMAINS if tiny else DATASETS
  found = []
  for row in ('separate', *(TINY if tiny else JOINT)):
    line: dict[str, Any] = {'network': row.replace('_', ' ')}
    values = {}
    for data in datasets:
      run = f'separate_{data}' if row == 'separate' else row
      # A separate network of the config of Kinetics names its evaluation `test`.
      values[data] = _top1(results, run, data) or _top1(results, run, 'test')
      line[data] = values[data]
      if not tiny:
        what = 'separate' if row == 'separate' else JOINT[row][1]
        line[f'paper: {data}'] = FACTS.get(f'multitrain/{what}_{data}')
    if tiny:
      line['mean'] = [sum(four) / len(four) for four in zip(*values.values())]
    found.append(line)
  return found


def _projected(results: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns the top-1 of the classifiers with the others' projections added, as in training."""
  return [
    {
      'network': row.replace('_', ' '),
      **{data: _top1(results, row, f'{data}_projected') for data in DOMAINS},
    }
    for row in TINY
    if row != 'vanilla'
  ]


def _top1(results: Mapping[str, Any], run: str, part: str) -> list[float]:
  """Returns the top-1 (%) of a run, or of its seeds."""
  return [*claims.by_seed(results, run, part).values()]


def outcome(results: Mapping[str, Any]) -> list[str]:
  """Returns whether joint training helps, and its parts, in the mean over datasets."""
  tiny = any('_seed' in name for name in results)
  datasets = DOMAINS if tiny else ('k400', 'mit', 'ssv2', 'activitynet')

  def mean(row: str) -> dict[int, float]:
    names = {d: f'separate_{d}' if row == 'separate' else row for d in datasets}
    # A separate network of the config of Kinetics names its evaluation `test`.
    found = [
      claims.by_seed(results, names[d], d) or claims.by_seed(results, names[d], 'test')
      for d in datasets
    ]
    shared = set.intersection(*map(set, found))
    return {seed: sum(one[seed] for one in found) / len(found) for seed in shared}

  these = mean('multitrain')
  return [
    claims.better(f'MultiTrain is better than {row.replace("_", " ")}', these, mean(row))
    for row in ('separate', 'vanilla', 'no_informative')
  ]
