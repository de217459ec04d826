"""Does one network for several datasets cost less than a network for each?  Liang et al. (NeurIPS
2022), MultiTrain.

MViTv2-B 32x3 on each of four datasets, and on all of them from the weights of Kinetics-400. Each
training is cut short, for its clips a second; chip-days at full size follow from the passes over
the videos of the paper (joint) and of the released configs (separate; those of Moments in Time and
ActivityNet are for 16 frames). The paper has no such table: joint training took 128 GPUs two to
four days there.

Expect equal clips a second, for what joint training adds is computed in no time, so that joint
training costs as much as its clips: 61% of separate training, that of Kinetics-400 included in
both. In miniature two label spaces of the built-in data, each training as long: joint training
costs half.

Command:  python -m vjax.study configs/studies/multitrain_cost.py
          python -m vjax.study configs/studies/multitrain_cost.py --tiny
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import multitrain, mvit_k400
from vjax.analysis import training_cost

STEPS, TINY_STEPS = 500, 100
PASSES = {'k400': 200, 'mit': 150, 'ssv2': 40, 'activitynet': 150}
JOINT, JOINT_PASSES = 'joint', 50
TINY_SETS = {'motion': 'motions', 'appearance': 'motions_appearance'}


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  for name in TINY_SETS if tiny else PASSES:
    yield name, _short(_separate(name, tiny), tiny)
  arg = 'tiny' if tiny else f'init={workdir}/k400'
  yield JOINT, _short(multitrain.get_config(arg), tiny)


def _separate(name: str, tiny: bool) -> ConfigDict:
  config = mvit_k400.get_config(f'variant=multitrain_b_32x3{",tiny" if tiny else ""}')
  entry = dict(name=TINY_SETS[name]) if tiny else multitrain.DATASETS[name][0]
  config.data.name = entry['name']
  config.clip.update(entry.get('clip', {}))
  config.augment.update(entry.get('augment', {}))
  return config


def _short(config: ConfigDict, tiny: bool) -> ConfigDict:
  steps = TINY_STEPS if tiny else STEPS
  with config.unlocked():
    if not tiny:
      del config.optim.total_epochs, config.optim.warmup_epochs
    config.optim.update(total_steps=steps, warmup_steps=steps // 10)
    config.train.log_steps = steps // 10
    config.evals = {}
  return config


def full_size() -> dict[str, float]:
  """Returns the clips of each whole training."""
  videos = multitrain.VIDEOS
  clips = {name: passes * videos[name] for name, passes in PASSES.items()}
  clips[JOINT] = JOINT_PASSES * sum(videos[name] for name in PASSES)
  return {name: float(count * multitrain.REPEATS) for name, count in clips.items()}


def table(results: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns chip-days of each training and way, as measured and, of the paper's datasets, at full
  size."""
  if any(name in results for name in TINY_SETS):
    return training_cost.rows(results, {'separate': tuple(TINY_SETS), 'joint': (JOINT,)})
  ways = {'separate': tuple(PASSES), 'joint': ('k400', JOINT)}
  return training_cost.rows(results, ways, clips=full_size())


def outcome(results: Mapping[str, Any]) -> list[str]:
  """Returns the cost of joint training beside that of separate training: at full size, or of the
  miniature's trainings."""
  rows = [row for row in table(results) if row['way'] == 'joint']
  full = any('chip-days at full size, %' in row for row in rows)
  column = 'chip-days at full size, %' if full else 'chip-days, %'
  share = next((row[column] for row in rows if row.get(column) is not None), None)
  if share is None:
    return ['Joint training costs less: not told, runs are missing']
  of = 'the passes of the paper and of the released configs' if full else 'as many steps each'
  return [f'Joint training takes {share:.0f} % of the chip-days of separate training, for {of}']
