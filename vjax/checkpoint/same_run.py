"""Comparison of a config with that of the run in a workdir: which settings may change when the run
continues or is evaluated, and which may not."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from vjax import config as configs
from vjax import files
from vjax.checkpoint.integrity import complete_steps
from vjax.checkpoint.meta import Meta, read_json, read_meta

_ABSENT = 'open'
# What a network was trained on: with another value, its weights mean something else.
_FIXED = (
  'model.', 'data.mean', 'data.std', 'clip.num_frames', 'clip.frame_stride', 'clip.crop_size',
  'clip.sampling',
)  # fmt: skip
_FREE = ('model.drop_path', 'model.remat', 'model.norm.group_size', 'model.norm.decay')
# Of an entry of config.datasets, what else a run that continues must keep: with another one, the
# batches that it has seen are of other clips. A folder may be moved.
_FIXED_OF_DATASET = (
  'data.name', 'data.split', 'data.label_space', 'data.videos_per_class', 'data.share',
)  # fmt: skip
# Settings without which the numbers of an evaluation are the same.
_NOT_EVALUATED = (
  'optim.', 'init.', 'objective.mix', 'objective.cutmix', 'objective.label_smoothing',
  'data.batch_size', 'data.videos_per_class', 'data.subset_seed', 'data.workers', 'data.share',
  'train.log_steps',
  'train.save_steps', 'train.eval_epochs', 'train.keep', 'train.grad_accumulation', 'train.fsdp',
  'train.remat', 'train.skip_nonfinite', 'train.profile', 'train.ema_decay', 'clip.num_repeats',
  'clip.repeat_distance', 'train.precise_bn', 'head.dropout',
  *_FREE,
)  # fmt: skip
_TYPED = {
  'data': configs.DataConfig, 'clip': configs.ClipConfig, 'augment': configs.AugmentConfig,
  'optim': configs.OptimConfig, 'train': configs.TrainConfig, 'init': configs.InitConfig,
}  # fmt: skip


def run_in(workdir: str) -> Meta | None:
  """Returns meta.json of the run in a workdir, None where no step of one is saved there."""
  folder = files.path(workdir)
  if not (folder / 'meta.json').exists() or not complete_steps(folder / 'checkpoints'):
    return None
  return read_meta(workdir)


def classes_of(meta: Mapping[str, Any] | None) -> tuple[str, ...]:
  """Returns the class names of a checkpoint in the order of its labels, () where it has none."""
  return tuple(meta['classes']) if meta is not None and 'classes' in meta else ()


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
  """Returns {key: (value before, value now)} of two plain configs. A key that one of them leaves
  out has its default there, that of a dataset in config.datasets the value of data, clip or
  augment, or is 'open'."""
  old, new = _flat(before), _flat(now)
  found = {}
  for key in sorted(old.keys() | new.keys()):
    values = tuple(side.get(key, _default(key, side)) for side in (old, new))
    if values[0] != values[1]:
      found[key] = values
  return found


def check_continues(
  meta: Mapping[str, Any], now: Mapping[str, Any], workdir: str, *, labeled: bool = True
) -> None:
  """Logs one line for every setting that changes as a run continues.

  Args:
    meta: of the run in workdir.
    now: the meta.json that the run would have.
    workdir: of the run.
    labeled: the outputs of the network are classes.

  Raises:
    ValueError: for another model, other pixels or clips, of one dataset or of all, another share of
      a dataset or other videos of it, or other classes.
  """
  changed = _checked(meta, now, workdir, 'continues', labeled)
  changed.pop('data.workers', None)  # batches do not depend on it
  for key, (old, new) in changed.items():
    logging.warning('config.%s was %s in this run, and is %s from now on', key, old, new)


def check_evaluated(
  meta: Mapping[str, Any], now: Mapping[str, Any], workdir: str, *, labeled: bool = True
) -> dict[str, tuple[Any, Any]]:
  """Returns the settings of an evaluation that differ from the run's own, each logged as one line.

  Arguments and errors are those of `check_continues`.
  """
  changed = {
    key: values
    for key, values in _checked(meta, now, workdir, 'is evaluated', labeled).items()
    if not _as_if_alone(key).startswith(_NOT_EVALUATED)
    and not (
      _as_if_alone(key).startswith('augment.')
      and _as_if_alone(key) not in ('augment.crop', 'augment.size')
    )
    and key.rpartition('.')[2] not in ('batch_size', 'save_predictions')
  }
  for key, (old, new) in changed.items():
    logging.warning('config.%s was %s in this run, and is %s in this evaluation', key, old, new)
  return changed


def other_result(workdir: str, changed: Mapping[str, tuple[Any, Any]]) -> str:
  """Returns the name of the file for results of an evaluation with other settings than the run's
  own: result.json for none, else the first of result-2.json, ... that is free or has the same
  settings."""
  if not changed:
    return 'result.json'
  wanted = settings_of(changed)
  for number in range(2, 1000):
    file = files.path(workdir) / f'result-{number}.json'
    if (read_json(file, 'remove it') or {'settings': wanted}).get('settings') == wanted:
      return file.name
  raise ValueError(f'{workdir} has 998 results of other settings: remove some')


def settings_of(changed: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
  """Returns {key: value} of the changed settings, as JSON gives them back."""
  return {key: new for key, (_, new) in changed.items()}


def check_classes(
  ours: Sequence[str],
  theirs: Sequence[str],
  where: str,
  whose: str,
  remedy: str = 'prepare the data with the same class names, or train anew in another --workdir',
) -> None:
  """Raises ValueError, with the difference, where two lists of class names are not the same.

  Args:
    ours: names in the order of the outputs.
    theirs: of the data.
    where: the data.
    whose: words for the owner of `ours`.
    remedy: what to do.
  """
  if tuple(ours) == tuple(theirs):
    return
  here = sorted(set(theirs) - set(ours))
  gone = sorted(set(ours) - set(theirs))
  what = (
    f'only there: {_some(gone)}; only here: {_some(here)}'
    if here or gone
    else 'the same names in another order'
  )
  raise ValueError(
    f'{where} has other classes than {whose}: {what}. Labels would mean something else: {remedy}'
  )


def _checked(
  meta: Mapping[str, Any], now: Mapping[str, Any], workdir: str, what: str, labeled: bool
) -> dict[str, tuple[Any, Any]]:
  if labeled:
    check_classes(classes_of(meta), classes_of(now), 'the data', f'the run in {workdir}')
  changed = differences(meta['config'], now['config'])
  continues = what == 'continues'
  fixed = [key for key in changed if _is_fixed(key, continues)]
  if continues and any(key.endswith('videos_per_class') for key in _flat(now['config'])):
    fixed += [key for key in changed if key == 'data.subset_seed']  # it chooses these videos
  if fixed:
    lines = [f'config.{k} was {changed[k][0]}, is {changed[k][1]}' for k in fixed]
    remedy = (
      "leave it as it was, or set the evaluation's own (config.evals.NAME.crop_size, num_frames, "
      '...)'
      if not continues
      else 'leave it as it was, or use another --workdir'
    )
    raise ValueError(f'{workdir} holds a run that {what}: {"; ".join(lines)}: {remedy}')
  return changed


def _is_fixed(key: str, continues: bool) -> bool:
  """Returns whether a setting must stay as it was in a run that continues, or is evaluated."""
  alone = _as_if_alone(key)
  of_dataset = key != alone and continues and alone in _FIXED_OF_DATASET
  return of_dataset or alone.startswith(_FIXED) and not alone.startswith(_FREE)


def _flat(config: Mapping[str, Any], above: str = '') -> dict[str, Any]:
  """{'optim.learning_rate': ...} of nested dicts; tuples become lists, as in JSON."""
  found: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, Mapping):
      found |= _flat(value, f'{above}{key}.')
    elif value is not None:
      found[f'{above}{key}'] = json.loads(json.dumps(value))
  return found


def _as_if_alone(key: str) -> str:
  """'datasets.dogs.augment.flip' -> 'augment.flip', 'datasets.dogs.share' -> 'data.share'; other
  keys as they are."""
  section, _, rest = key.partition('.')
  if section != 'datasets':
    return key
  own = rest.partition('.')[2]
  return own if own.startswith(('clip.', 'augment.')) else f'data.{own}'


def _default(key: str, config: Mapping[str, Any]) -> Any:
  """The default of a key of a typed section, or what a dataset takes from the sections of the flat
  config; else 'open'."""
  if key != (alone := _as_if_alone(key)):
    return config.get(alone, _default(alone, config))
  section, _, name = key.partition('.')
  for field in fields(_TYPED[section]) if section in _TYPED else ():
    if field.name == name and field.default is not MISSING and field.default is not None:
      return json.loads(json.dumps(field.default))
  return _ABSENT


def _some(names: Sequence[str]) -> str:
  return ', '.join([*names[:5], *(['...'] if len(names) > 5 else [])]) or 'none'
