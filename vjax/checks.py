"""Checks of a config against its model and its data, before hours are spent."""

import logging
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjax import checkpoint, registry, tree
from vjax.config import (
  CLIP_KEYS,
  CROP_COUNTS,
  ClipConfig,
  Config,
  EvalConfig,
  InitConfig,
  check_mixture,
  check_names,
  check_settings,
  parameters,
)
from vjax.data.specs import DatasetSpec, dataset, frame_size, is_joint, one_dataset, spec_of
from vjax.types import Evaluation, Objective, VideoModel


def check_clips(config: Config, net: VideoModel, clip: ClipConfig) -> None:
  """Raises ValueError for clips of training or evaluations that the model cannot take. The model is
  made for config.clip; nothing is computed."""
  shape = lambda c, crop: (c.num_frames, *crop)
  made_for = shape(config.clip, (config.clip.crop_size,) * 2)
  wanted = {'datasets': shape(clip, (clip.crop_size,) * 2)}
  for name, entry in config.evals.items():
    if not isinstance(entry.clip.crop_size, str):
      wanted[f'evals.{name}'] = shape(entry.clip, entry.clip.crop)
  trace = lambda size: jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
  variables = None
  for where, size in wanted.items():
    if size == made_for:
      continue
    if variables is None:
      init = partial(net.init, train=False)
      variables = jax.eval_shape(init, jax.random.key(0), trace(made_for))
    try:
      features = partial(net.apply, train=False, method='features')
      jax.eval_shape(features, variables, trace(size))
    except Exception as error:  # flax and jax raise many kinds for shapes that do not fit
      raise ValueError(
        f'config.{where}: the model is made for clips of {made_for} (frames, height, width) and '
        f'cannot take {size}: {str(error).splitlines()[0]}. Set crop_size and num_frames of this '
        'entry alone, or those of config.clip and of the model with them'
      ) from error


def shares(config: Config) -> list[float] | None:
  """Returns the shares of the datasets in a batch, None where none are fixed."""
  given = [entry.share for entry in config.datasets.values() if entry.share is not None]
  return given or None


def check_joint(config: Config) -> None:
  """Raises ValueError for a network with a classifier for each dataset whose other settings do not
  fit."""
  joint = is_joint(config)
  if joint != (config.objective.name == 'joint') and config.optim:
    raise ValueError(
      f'config.head.name is {config.head.name!r} and config.objective.name '
      f"{config.objective.name!r}: 'joint' goes with 'joint'; set both, or neither"
    )
  if not joint:
    return
  check_mixture(config.datasets)
  if config.train.grad_accumulation > 1:
    raise ValueError(
      f'config.train.grad_accumulation is {config.train.grad_accumulation}: statistics of the '
      'joint objective are over all clips of a step; set it to 1, and use more devices, '
      'config.train.remat=True, or a smaller config.data.batch_size'
    )
  for name, entry in config.evals.items():
    needs = registry.find('evals', entry.name).EVALUATION.needs
    known = ', '.join(config.datasets)
    if not entry.dataset:
      raise ValueError(
        f'config.evals.{name} names no dataset: set --config.evals.{name}.dataset to one of {known}'
      )
    if 'logits' in needs and entry.dataset not in config.datasets:
      raise ValueError(
        f'config.evals.{name}.dataset is {entry.dataset!r}, for which the network has no '
        f"classifier: it has those of {known}; evaluate other datasets by name='probe'"
      )
    if needs in ('metrics', 'reconstructions'):
      raise ValueError(
        f'config.evals.{name}.name is {entry.name!r}; a network of several datasets is evaluated '
        "by 'views', 'projected' or 'probe'"
      )
    if needs == 'projected_logits':
      _check_projected(config, name)
    _check_leak_within(config, name, entry)
  _check_groups(config)


def _check_groups(config: Config) -> None:
  """Raises ValueError where a dataset has no video of a batch by its share, or clips of several
  datasets would share statistics of BatchNorm. Clips of a batch are in the order of the datasets
  where there are shares, and in any order where there are none."""
  from vjax.data.pipeline import batch_counts

  group = (config.model.settings.get('norm') or {}).get('group_size', 0)
  given, clip = shares(config), config.clip
  if given is None:
    if group and len(config.datasets) > 1:
      raise ValueError(
        f'config.model.norm.group_size is {group}, but a batch mixes datasets at random: the clips '
        'that share statistics would be of several; set --config.datasets.NAME.share of each '
        'dataset, or group_size=0 for statistics of the whole batch'
      )
    return
  counts = batch_counts(config.data.batch_size, list(config.datasets), given)
  for alias, count in zip(config.datasets, counts):
    clips = count * clip.num_repeats
    if group and clips % group:
      raise ValueError(
        f'config.datasets.{alias} has {clips} clips of a batch, no multiple of '
        f'config.model.norm.group_size={group}: statistics would mix datasets; choose shares and '
        'batch_size so that it is'
      )
    if group and count % clip.repeat_distance:
      raise ValueError(
        f'config.datasets.{alias} has {count} videos of a batch, no multiple of '
        f'config.clip.repeat_distance={clip.repeat_distance}: clips of two datasets would '
        'alternate, and share statistics of BatchNorm; choose a divisor of it'
      )


def _check_projected(config: Config, name: str) -> None:
  """Raises ValueError for an evaluation of projected logits that training does not know."""
  without = {
    'head.projections': config.head.settings.get('projections', True) is False,
    'objective.projection': config.objective.settings.get('projection', 'add') == 'none',
  }
  for key, there_are_none in without.items():
    if there_are_none:
      value = 'none' if key.startswith('objective') else False
      raise ValueError(
        f'config.evals.{name} adds projected logits, but config.{key} is {value!r}, so that no '
        "projection is trained: leave it out, or evaluate by name='views'"
      )


def _check_leak_within(config: Config, name: str, entry: EvalConfig) -> None:
  """Raises ValueError where a dataset that is trained on has test videos of the one that is
  evaluated among its training videos."""
  if config.init.leak or not config.optim:
    return
  test = spec_of(config, entry.dataset)
  for alias, trained in config.datasets.items():
    leaks = registry.find('data.datasets', trained.name).SPEC.leaks
    if {test.name, test.classes_of} & {*leaks}:
      raise ValueError(
        f'config.evals.{name} is of {test.name}, and config.datasets.{alias} ({trained.name}) has '
        f'test videos of {test.name} among its training videos: no number of this evaluation would '
        'mean anything. Leave either out, or set config.init.leak=True and never report it'
      )


def with_splits(config: Config, data_dir: str) -> dict[str, EvalConfig]:
  """Returns config.evals with the splits that the data have: 'test' or 'validation' for 'val', say.

  What is trained on, by the run or by a probe, is never chosen so.
  """
  from vjax.data.index import UnknownSplitError
  from vjax.data.split import evaluation_split

  evals = {}
  for name, entry in config.evals.items():
    spec = spec_of(config, entry.dataset) if entry.dataset else dataset(config)
    splits = dict(entry.splits)
    for key, split in entry.splits.items():
      if key == 'train_split':
        continue
      own = config.datasets.get(entry.dataset or next(iter(config.datasets)))
      taken = [splits.get('train_split', ''), *([own.split] if own else [])]
      try:
        splits[key] = evaluation_split(data_dir, spec, split, taken)
      except UnknownSplitError as error:
        raise ValueError(
          f'config.evals.{name}.{key}: {error}: set --config.evals.{name}.{key}=SPLIT'
        ) from error
      if splits[key] != split:
        logging.info(
          'config.evals.%s: %s has no split %r, so that its %r is evaluated (--config.evals.%s.%s '
          'names another)',
          name, spec.records, split, splits[key], name, key,
        )  # fmt: skip
    evals[name] = replace(entry, splits=splits)
  return evals


def check_overlaps(config: Config, source: Any, trained: str, open_test: Callable) -> None:
  """Compares the videos of every evaluation with those that are trained on, by the run or by a
  probe: a warning where some are among them.

  Evaluations of the very split that is trained on are left alone: their name says so.

  Raises ValueError where all of them are, unless config.init.leak is set.
  """
  for name, entry in config.evals.items():
    seen = [(trained, source)] if config.optim else []
    if 'train_split' in entry.splits:
      split = entry.splits['train_split']
      seen.append((split, open_test(entry, split)[1]))
    for key, split in entry.splits.items():
      if key != 'train_split':
        test = open_test(entry, split)[1]
        own = config.datasets.get(entry.dataset)
        for known, records in seen:
          same = (known, records.index.folder) == (split, test.index.folder)
          # Of several datasets, another one may be trained on the split that this one keeps apart.
          if not same or (records is source and own is not None and own.split != split):
            where = f'config.evals.{name}.{key}={split}'
            _check_overlap(where, test, known, records, config.init.leak)


def _check_overlap(where: str, test: Any, known: str, records: Any, leak: bool) -> None:
  """Warns of videos of a test split that are among `records`, which are trained on. Raises
  ValueError where all of them are and `leak` does not allow that."""
  from vjax.data import overlap

  rows = overlap.shared_rows(records, test)
  if not len(rows):
    return
  examples = ', '.join(test.name_of(int(row)) for row in rows[:3])
  text = (
    f'{where}: {len(rows)} of {test.num_clips} videos of {test.index.folder} are among those '
    f'trained on (split {known} of {records.index.folder}), by name or frames: {examples}'
    f'{", ..." if len(rows) > 3 else ""}'
  )
  if len(rows) == test.num_clips and not leak:
    raise ValueError(
      f'{text}. No number on them would mean anything: evaluate other videos (python -m '
      'data_prep.write --holdout=0.1 sets some of a folder apart), or set '
      '--config.init.leak=True and never report it'
    )
  logging.warning('%s', text)


def check_weights(config: Config, sources: Mapping[str, Any], open_test: Callable) -> list[Any]:
  """Compares the videos of every evaluation with those that the weights of config.init were trained
  on, as far as their meta.json tells: a warning where some are among them.

  Evaluations of the very split that is trained on are left alone: their name says so.

  Returns:
    Sketches (see vjax.data.overlap) of what those weights, and those of this run, are trained on.

  Raises ValueError where all of them are, unless config.init.leak is set.
  """
  from vjax.data import overlap

  meta = meta_of_init(config.init)
  before = list(meta.get('trained_videos', []))
  trained = {(config.datasets[a].split, s.index.folder) for a, s in sources.items()}
  for name, entry in config.evals.items():
    for key, split in entry.splits.items() if before else ():
      test = open_test(entry, split)[1]
      if key == 'train_split' or (split, test.index.folder) in trained:
        continue
      for sketch in before:
        rows, told = overlap.sketched_rows(sketch, test)
        if not len(rows):
          continue
        sample = '' if told == test.num_clips else f' (in a sample of {told})'
        text = (
          f'config.evals.{name}.{key}={split}: {len(rows)} videos of {test.num_clips}{sample} of '
          f'{test.index.folder} are among those that config.init.path={config.init.path!r} was '
          f'trained on ({sketch["folder"]}): {test.name_of(int(rows[0]))}, ...'
        )
        if len(rows) == told == test.num_clips and not config.init.leak:
          raise ValueError(
            f'{text} No number on them would mean anything: start from other weights, or set '
            '--config.init.leak=True and never report it'
          )
        logging.warning('%s', text)
  now: list[Any] = []
  for sketch in map(overlap.sketch, sources.values()) if config.optim else ():
    now += [sketch] if sketch not in now else []
  return [*(sketch for sketch in before if sketch not in now), *now]


def check_labels(config: Config, sources: Mapping[str, Any], open_test: Callable) -> None:
  """Raises ValueError, before hours are spent, where objective or evaluations need labels that the
  data lacks.

  Args:
    config: whole.
    sources: the training split of each dataset.
    open_test: opens a split for an entry of config.evals; raises where it is missing.
  """
  for source in sources.values():
    _check_trained(config, source)
  for name, entry in config.evals.items():
    evaluation = registry.find('evals', entry.name).EVALUATION
    source = sources.get(entry.dataset, next(iter(sources.values())))
    for split in entry.splits.values():
      found = open_test(entry, split)[1]
      _check_evaluated(config, name, split, evaluation, found, source)


def _check_trained(config: Config, source: Any) -> None:
  """Raises ValueError where the objective needs labels that a training split lacks."""
  many, where = source.labels == 'multi_label', source.index.folder
  if registry.find('objectives', config.objective.name).OBJECTIVE.needs_labels and config.optim:
    if not source.classes or not (source.index.label[source.rows] >= 0).any():
      raise ValueError(
        f'{where} has no labels: config.objective.name={config.objective.name} needs them; '
        'pre-train with mae instead'
      )
    if many and is_joint(config):
      raise ValueError(
        f'{where}: clips have several labels by manifest.json; joint training needs one label each'
      )
    if many and not config.objective.settings.get('multi_label', False):
      raise ValueError(
        f'{where}: clips have several labels by manifest.json, and a softmax over classes would '
        'train on no such thing: set --config.objective.multi_label=True'
      )


def _check_evaluated(
  config: Config, name: str, split: str, evaluation: Evaluation, found: Any, source: Any
) -> None:
  """Raises ValueError where an evaluation needs labels that its split lacks, or has other classes
  than `source`, which is trained on."""
  entry = config.evals[name]
  here = found.index.folder
  _warn_of_missing_classes(name, split, found)
  if config.train.keep_best.startswith(f'{name}/'):
    _check_keep_best(config, found.labels)
  several = entry.settings.get('multi_label')
  if several is not None and several != (found.labels == 'multi_label'):
    raise ValueError(
      f'config.evals.{name}.multi_label is {several}, but the clips of {here} have '
      f'{"several labels" if found.labels == "multi_label" else "one label each"} by its '
      'manifest: leave it open'
    )
  if evaluation.needs_classes and tuple(found.classes) != tuple(source.classes):
    raise ValueError(
      f'config.evals.{name}: its classes ({len(found.classes)}: {_some(found.classes)}) are '
      f'others than those trained ({len(source.classes)}: {_some(source.classes)}): evaluate '
      f"this dataset by an entry with name='probe'"
    )
  alone = entry.settings.get('save_predictions', False)
  if evaluation.needs_labels and not (found.index.label[found.rows] >= 0).any() and not alone:
    remedy = (
      f'set --config.evals.{name}.save_predictions=True to keep predictions alone'
      if 'save_predictions' in parameters(evaluation.run)
      else 'leave it out, or give the clips labels'
    )
    raise ValueError(
      f'config.evals.{name} needs labels, and split {split!r} of {here} has none: {remedy}'
    )


def _warn_of_missing_classes(name: str, split: str, found: Any) -> None:
  labels = found.index.label[found.rows]
  present = len(np.unique(labels[labels >= 0]))
  if found.labels == 'single_label' and 0 < present < len(found.classes):
    logging.warning(
      'config.evals.%s: split %r has clips of %d of %d classes (%d clips): its numbers say nothing '
      'of the others',
      name, split, present, len(found.classes), len(labels),
    )  # fmt: skip


def _some(names: tuple[str, ...]) -> str:
  return ', '.join([*names[:3], *(['...'] if len(names) > 3 else [])])


def check_evals(config: Config) -> None:
  """Raises ValueError for clips and evaluations whose settings do not fit, whatever the data
  hold."""
  trained = one_dataset(config)
  for alias, one in config.datasets.items():
    augment, crop = one.augment, one.clip.crop_size
    most = {'fixed': min(augment.size), 'jitter': augment.short_side[0]}.get(augment.crop, crop)
    if crop > most:
      where = '' if augment == config.augment else f'datasets.{alias}.'
      key = {'fixed': 'size', 'jitter': 'short_side'}[augment.crop]
      raise ValueError(
        f'config.clip.crop_size is {crop}, more than config.{where}augment.{key}='
        f'{getattr(augment, key)}, to which frames are scaled: make that larger, or the crop '
        'smaller'
      )
  _check_repeats(config)
  _check_keep_best(config)
  for name, entry in config.evals.items():
    size = frame_size(config.datasets.get(entry.dataset, trained).augment, entry)
    _check_settings(name, entry, registry.find('evals', entry.name).EVALUATION, size)
    if entry.clip.num_crops == 10:
      spec = spec_of(config, entry.dataset or next(iter(config.datasets)))
      if not spec.flip:
        raise ValueError(
          f'config.evals.{name}.num_crops is 10, of which five are mirror images, but labels of '
          f'{spec.name} change when a video is mirrored: set --config.evals.{name}.num_crops=5'
        )


def check_reconstructions(config: Config, objective: Objective) -> None:
  """Raises ValueError, before hours are spent, where an evaluation needs reconstructions of an
  objective that has none."""
  for name, entry in config.evals.items():
    needs = registry.find('evals', entry.name).EVALUATION.needs
    if needs == 'reconstructions' and objective.reconstruct is None:
      settings = config.objective.settings
      more = f' with predict={settings["predict"]!r}' if 'predict' in settings else ''
      raise ValueError(
        f'config.evals.{name} shows reconstructions, but config.objective.name='
        f'{config.objective.name!r}{more} rebuilds no pixels: leave this evaluation out of the '
        'config, or train a masked autoencoder (mae) of pixels'
      )


def _check_repeats(config: Config) -> None:
  """Raises ValueError where repeats of a video are spread over the batch, but share statistics or
  may be mixed with each other."""
  clip, objective = one_dataset(config).clip, config.objective.settings
  distance = clip.repeat_distance
  if distance == 1:
    return
  mixing = objective.get('mixup') or objective.get('cutmix')
  groups = {'model.norm.group_size': config.model.settings.get('norm', {}).get('group_size')}
  groups |= {'objective.mix_group': objective.get('mix_group')} if mixing else {}
  for key, size in groups.items():
    if size and distance % size:
      raise ValueError(
        f'config.clip.repeat_distance is {distance}, which config.{key}={size} does not divide: '
        'some repeats of a video would be in one group; choose a multiple of it'
      )
  if mixing and not groups['objective.mix_group'] and distance % 2:
    raise ValueError(
      f'config.clip.repeat_distance is {distance}: a clip is mixed with the one at the mirrored '
      'place of the batch, which may be its repeat where the distance is odd; choose an even one'
    )


def _check_keep_best(config: Config, labels: str = '') -> None:
  """Raises ValueError where config.train.keep_best names no number of an evaluation, or nothing is
  evaluated before the last step. labels: kind of labels that the data have, '' = unknown."""
  best = config.train.keep_best
  if not best:
    return
  name, _, metric = best.rpartition('/')
  if name not in config.evals:
    raise ValueError(
      f'config.train.keep_best is {best!r}; it must be EVALUATION/METRIC, the evaluation one of '
      f'config.evals: {", ".join(config.evals) or "there is none"}'
    )
  evaluation = registry.find('evals', config.evals[name].name).EVALUATION
  one, several = evaluation.metrics, evaluation.multi_label_metrics
  known = {'single_label': one, 'multi_label': several or one}.get(labels, one + several)
  known = tuple(number for number in dict.fromkeys(known) if number != 'count')
  if known and metric not in known:
    raise ValueError(
      f'config.train.keep_best is {best!r}; config.evals.{name} reports {", ".join(known)}'
    )
  if not config.train.eval_epochs:
    raise ValueError(
      f'config.train.keep_best is {best!r}, but train.eval_epochs is 0 (evaluated at the end '
      'only): '
      'set --config.train.eval_epochs=1, say, or the best checkpoint is the last'
    )


def _check_settings(
  name: str, entry: EvalConfig, evaluation: Evaluation, size: tuple[int, int] | None
) -> None:
  """Raises ValueError for settings that the evaluation does not take. size: see `frame_size`."""
  from vjax.data import sampling

  known = [key.replace('batches', 'split') for key in parameters(evaluation.run)][1:]
  given = {**entry.splits, **entry.settings}
  check_names([*known, *CLIP_KEYS, 'dataset', 'batch_size'], given, f'evals.{name}')
  check_settings(f'evals.{name}', entry.settings, evaluation.run)
  lacking = [key for key in known if key.endswith('split') and key not in given]
  if lacking:
    raise ValueError(f'config.evals.{name} lacks {", ".join(lacking)}')
  clip = entry.clip
  if clip.num_crops not in CROP_COUNTS:
    choices = ', '.join(f'{count} ({what})' for count, what in CROP_COUNTS.items())
    raise ValueError(
      f'config.evals.{name}.num_crops is {clip.num_crops}; it must be one of {choices}'
    )
  if size and not isinstance(clip.crop_size, str) and any(map(operator.gt, clip.crop, size)):
    raise ValueError(
      f'config.evals.{name}: crop_size {clip.crop_size} is more than config.augment.size={size}, '
      f'to which frames are scaled: set --config.evals.{name}.short_side={max(clip.crop)} or more'
    )
  if not size and not isinstance(clip.crop_size, str) and max(clip.crop) > clip.short_side:
    raise ValueError(
      f'config.evals.{name}: crop_size {clip.crop_size} is more than short_side {clip.short_side}, '
      f'to which frames are scaled: set --config.evals.{name}.short_side={max(clip.crop)} or more'
    )
  try:
    sampling.rule(clip.sampling)
    if evaluation.check:
      evaluation.check(entry.settings)
  except ValueError as error:
    raise ValueError(f'config.evals.{name}: {error}') from error


def check_init_classes(config: Config, sources: Mapping[str, Any]) -> None:
  """Compares class names of the data with those of the weights at the start, where their classifier
  is taken too: as many classes would fit whatever they are. Spelling (case, underscores) does not
  count; weights whose classes are called by their numbers are taken with a warning.

  Args:
    config: whole.
    sources: the training split of each dataset, labels in the order of the weights' classes where
      the names are the same.

  Raises:
    ValueError: with the difference and the patterns of config.init.skip that leave the classifier
      out.
  """
  meta, joint = meta_of_init(config.init), is_joint(config)
  kind = meta['config'].get('head', {}).get('name') if 'config' in meta else None
  needs = registry.find('objectives', config.objective.name).OBJECTIVE.needs_labels
  if not (needs and config.optim) or kind != config.head.name:
    return  # of another head no parameter fits
  known: dict[str, list[str]] = {}
  for name in checkpoint.classes_of(meta):
    alias, _, own = name.partition('/') if joint else (next(iter(sources)), '', name)
    known.setdefault(alias, []).append(own)
  for alias in known.keys() & sources.keys():
    layers = _class_layers(config, alias, list(known))
    if all(tree.matches(config.init.skip, f'head/{layer}/kernel') for layer in layers):
      continue
    pattern = f'head/(classifiers|projections)/(.*/)?{alias}/.*' if joint else 'head/.*'
    skip = tuple(dict.fromkeys((*config.init.skip, pattern)))
    where = f'config.datasets.{alias} ' if joint else ''
    _compare_classes(
      known[alias],
      sources[alias],
      f'{where}({sources[alias].index.folder})' if joint else sources[alias].index.folder,
      f'the weights of config.init.path={config.init.path!r}',
      f'leave their classifier out by --config.init.skip="{skip}", or prepare the data with their '
      'class names',
    )


def _class_layers(config: Config, alias: str, others: list[str]) -> list[str]:
  """Names of the layers of the head that have a place for each class of a dataset, of those that
  weights with the datasets `others` have too; [] for a head that is not known to have one."""
  settings, name = config.head.settings, config.head.name
  if not is_joint(config):
    return [{'linear': 'linear', 'mlp': 'fc2'}[name]] if name in ('linear', 'mlp') else []
  last = 'fc2' if settings.get('hidden', 1) else 'linear'
  pairs = [(alias, o) for o in others if o in config.datasets and o != alias]
  pairs = pairs if settings.get('projections', True) else []
  return [f'classifiers/{alias}/{last}', *(f'projections/{a}/{b}' for a, b in pairs),
          *(f'projections/{b}/{a}' for a, b in pairs)]  # fmt: skip


def _compare_classes(known: list[str], source: Any, where: str, whose: str, remedy: str) -> None:
  """Raises ValueError where as many classes are others than those known, see
  `check_init_classes`."""
  from vjax.data import labels

  here = list(source.classes)
  numbers = [str(i) for i in range(len(known))]
  if len(here) != len(known) or here == known:
    return  # another number is told with the shapes that do not fit
  if known == numbers:
    logging.warning(
      '%s calls its classes by their numbers: its classifier is taken for the classes of %s, %s, '
      'in this order',
      whose, where, _some(tuple(here)),
    )  # fmt: skip
    return
  try:
    if labels.find_names(known, here) == list(range(len(here))):
      return
  except ValueError:
    pass
  checkpoint.check_classes(known, here, where, whose, remedy)


def meta_of_init(init: InitConfig) -> Mapping[str, Any]:
  """Returns meta.json of the weights that the training starts from, {} where it starts from none.
  An error of reading names config.init.path."""
  if not init.path:
    return {}
  try:
    return checkpoint.read_meta(init.path)
  except FileNotFoundError as error:
    raise FileNotFoundError(f'config.init.path is {init.path!r}: {error}') from error
  except ValueError as error:
    raise ValueError(f'config.init.path is {init.path!r}: {error}') from error


def check_leaks(init: InitConfig, spec: DatasetSpec) -> list[str]:
  """Names of the datasets that the weights of config.init were trained on, those before their own
  init included. Raises ValueError where one has test videos of `spec` among its training videos."""
  meta = meta_of_init(init)
  names = list(meta['trained_on']) if 'trained_on' in meta else []
  if 'config' in meta and meta['config']['data']['name'] not in names and meta['config']['optim']:
    names.append(meta['config']['data']['name'])
  for name in names:
    known = name in registry.names('data.datasets')
    leaks = registry.find('data.datasets', name).SPEC.leaks if known else ()
    if {spec.name, spec.classes_of} & {*leaks} and not init.leak:
      raise ValueError(
        f'config.init.path is {init.path!r}, trained on {name}, which has test videos of '
        f'{spec.name} among its training videos: no number on {spec.name} would mean anything. '
        'Start from other weights, or set config.init.leak=True and never report it'
      )
  return names
