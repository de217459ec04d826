"""Runs that the studies of masked autoencoders share, at full size and in miniature.

At full size the same name is the same run in every one of them: with one --workdir=runs/mae for
all, a pre-training is made once. (table.md and report.html are those of the last study then.)
"""

from collections.abc import Mapping
from functools import reduce
from operator import getitem
from typing import Any

from ml_collections import ConfigDict

from configs import mae_finetune_k400, mae_finetune_ssv2, mae_k400

STEPS = 2000  # of the miniature's pre-training, which stand for EPOCHS
EPOCHS = 800.0
FEW, FEW_STEPS = 25.0, 400  # the miniature fine-tunes from so many videos a class, so many steps
Results = Mapping[str, Mapping[str, Any]]


def pretraining(
  tiny: bool,
  changes: Mapping[str, Any] | None = None,
  *,
  variant: str = 'L',
  epochs: float = EPOCHS,
  data: str = '',
  steps: int = STEPS,
) -> ConfigDict:
  """Returns mae_k400 with `changes`, {'section.key': value}.

  The miniature is of the built-in data; `steps` are its steps in place of EPOCHS, other epochs
  have as many more or less.
  """
  axes = [f'variant={variant}', f'epochs={epochs:g}', *([f'data={data}'] if data else [])]
  config = mae_k400.get_config(','.join([*axes, *['tiny'] * tiny]))
  if tiny:
    count = round(steps * epochs / EPOCHS)
    config.optim.update(total_steps=count, warmup_steps=count // 10)
  return changed(config, changes or {})


def finetuning(
  tiny: bool,
  start: str = '',
  axes: str = '',
  *,
  variant: str = 'L',
  ssv2: bool = False,
  changes: Mapping[str, Any] | None = None,
) -> ConfigDict:
  """Returns mae_finetune_k400 or _ssv2 from the weights in `start`, '' = from scratch.

  axes: further ones of the config. The miniature has few labels, where pre-training helps most.
  """
  module = mae_finetune_ssv2 if ssv2 else mae_finetune_k400
  words = [f'variant={variant}', f'init={start}' if start else '', axes, 'tiny' if tiny else '']
  config = module.get_config(','.join(filter(None, words)))
  if tiny:
    config.data.videos_per_class = FEW
    config.optim.update(total_steps=FEW_STEPS, warmup_steps=FEW_STEPS // 10)
  return changed(config, changes or {})


def changed(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
  """Sets {'section.key': value}. What cannot be shown as pixels is not shown."""
  with config.unlocked():
    for place, value in changes.items():
      *sections, key = place.split('.')
      inside: Any = reduce(getitem, sections, config)
      inside[key] = value
    if config.objective.get('predict', 'pixels') != 'pixels':
      config.evals = {name: e for name, e in config.evals.items() if e.name != 'reconstruction'}
  return config


def percent(results: Results, run: str, part: str = 'test', metric: str = 'top1') -> float | None:
  """Returns a number of a run in percent, None where run or evaluation are missing."""
  found = results[run].get(part) if run in results else None
  return 100 * found[metric] if found else None


def cost(results: Results, run: str, key: str) -> float | None:
  """Returns what a run's result says of its training, see vjax.train."""
  return results[run]['training'][key] if run in results else None


def hours(results: Results, *runs: str) -> float | None:
  """Returns the hours of some trainings together, None where one is missing."""
  seconds = [cost(results, run, 'train_s') for run in runs]
  return None if None in seconds else sum(filter(None, seconds)) / 3600
