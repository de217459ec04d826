"""Does one network on several datasets beat one network for each, and what do the informative loss
and the projections between classes give?  Liang et al. (NeurIPS 2022), MultiTrain, tables 1 to 3.

Separate networks, all datasets in one network with a classifier each (vanilla), with the
informative loss and projections (MultiTrain), and MultiTrain without parts of it. All but the
network of Kinetics start from it. Expect MultiTrain to win by 1.9 to 5.9 points over separate
networks and by 1 to 8 over vanilla, and to fail without informative loss where projections are
added to the logits.

In miniature: the domains A to D of the built-in data, four styles with six motions each, every
motion in two of them; 720 training clips each; from scratch, three seeds. All networks see as many
clips of a domain.

Command:  python -m vjax.study configs/studies/multitrain.py
          python -m vjax.study configs/studies/multitrain.py --tiny
Hardware: in the paper 128 GPUs, two to four days for a joint network.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import common, multitrain, mvit_k400
from configs.papers import FACTS
from vjax.analysis import training_cost
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
STEPS, BATCH, CROP = 400, 32, 32


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  """Yields the network of Kinetics, the other separate ones, and the joint ones; in miniature each
  with three seeds."""
  if tiny:
    for seed in SEEDS:
      for domain in DOMAINS:
        yield f'separate_{domain}_seed{seed}', _miniature('only=mit', (domain,), seed)
      for row in TINY:
        yield f'{row}_seed{seed}', _miniature(JOINT[row][0], DOMAINS, seed)
    return
  yield 'separate_k400', mvit_k400.get_config('variant=multitrain_b_32x3')
  init = f'init={workdir}/separate_k400'
  for name in DATASETS[1:]:
    sets = ',sets=k700' if name == 'k700' else ''
    yield f'separate_{name}', multitrain.get_config(f'only={name},{init}{sets}')
  for row, (arg, _) in JOINT.items():
    yield row, multitrain.get_config(','.join(filter(None, (arg, init))))


def _miniature(arg: str, domains: tuple[str, ...], seed: int) -> ConfigDict:
  """Returns a training of the network with axes `arg` on some domains."""
  config = multitrain.get_config(','.join(filter(None, (arg, 'tiny'))))
  config = ConfigDict(config.to_dict())
  config.seed = seed
  joint = len(domains) > 1
  config.datasets = {domain: dict(name=f'domain_{domain}') for domain in domains}
  size = dict(crop_size=CROP, short_side=CROP * 9 // 8)
  config.clip.update(size)
  config.augment.size = (CROP * 9 // 8,) * 2
  config.model.crop = CROP
  config.data.batch_size = BATCH
  steps = STEPS if joint else STEPS // len(DOMAINS)
  config.optim.update(total_steps=steps, warmup_steps=steps // 10)
  config.train.save_steps = steps
  views = dict(common.TINY_VIEWS, short_side=size['short_side'])
  config.evals = {domain: dict(views, dataset=domain) for domain in domains}
  if joint and config.objective.projection == 'add':
    config.evals.update({
      f'{domain}_projected': dict(views, name='projected', dataset=domain) for domain in domains
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
    {'network': row, **{data: _top1(results, row, f'{data}_projected') for data in DOMAINS}}
    for row in TINY
    if row != 'vanilla'
  ]


def _top1(results: Mapping[str, Any], run: str, part: str) -> list[float]:
  """Returns the top-1 (%) of a run, or of its seeds."""
  names = [run, *(f'{run}_seed{seed}' for seed in SEEDS)]
  return [100 * results[name][part]['top1'] for name in names if part in results.get(name, {})]
