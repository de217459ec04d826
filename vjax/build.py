"""Config -> model, objective, optimizer and data, by plain constructor calls; `config.py` is the
schema."""

import inspect
import logging
import operator
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vjax import checkpoint, cost, factory, inflate, optim, preprocess, registry, tree
from vjax.config import (
  CLIP_KEYS,
  SCHEMA,
  AugmentConfig,
  ClipConfig,
  Config,
  DataConfig,
  DatasetConfig,
  EvalConfig,
  InitConfig,
  TrainConfig,
  check_names,
  check_range,
  check_settings,
  parameters,
  parse,
)  # fmt: skip
from vjax.layers import position, sts
from vjax.train_step import Update
from vjax.types import Batch, DatasetSpec, Evaluation, Objective, VideoModel


@dataclass(frozen=True)
class Experiment:
  """A config made real on a data folder, by `experiment`: model, objective, optimizer, batches.

  Attributes:
    seed: of everything random.
    model: backbone and head.
    objective: with its settings.
    tx, schedule: optimizer and learning rate.
    total_steps, eval_steps: of the training, and between evaluations (0 = at the end only).
    clip, data, training, evals: sections of the config. clip is that of training.
    classes, labels: names, and 'single_label' or 'multi_label', of the dataset trained on.
    freeze: patterns of parameters that are not trained.
    init_path, warm: weights to start from, '' = none, and settings of checkpoint.warm_start.
    meta: content of meta.json.
    train_batches: function of the first step.
    eval_batches: function of (entry of evals, split, videos a batch).
    video_names: function of (entry of evals, split, record numbers) -> names.
  """

  seed: int
  model: VideoModel
  objective: Objective
  tx: optax.GradientTransformation
  schedule: optax.Schedule
  total_steps: int
  eval_steps: int
  clip: ClipConfig
  data: DataConfig
  training: TrainConfig
  classes: tuple[str, ...]
  labels: str
  freeze: tuple[str, ...]
  init_path: str
  warm: dict[str, Any]
  evals: dict[str, EvalConfig]
  meta: dict[str, Any]
  train_batches: Callable[[int], Iterator[Batch]]
  eval_batches: Callable[[EvalConfig, str, int], Iterator[Batch]]
  video_names: Callable[[EvalConfig, str, Any], list[str]]

  def objective_at(self, step: int) -> tuple[Callable, Hashable]:
    """Returns the objective of the update after `step`, and a key: the same where the function is
    the same."""
    changes = self.objective.changes(step / self.total_steps)
    function = partial(self.objective, **changes) if changes else self.objective
    return function, tuple(sorted(changes.items()))

  @property
  def update(self) -> Update:
    """Settings of one update, beside state, batch and objective."""
    t, clip, data = self.training, self.clip, self.data
    return Update(
      model=self.model,
      tx=self.tx,
      schedule=self.schedule,
      clip=(clip.num_frames, clip.crop_size, clip.crop_size),
      pixels=partial(preprocess.clips, crop_size=clip.crop_size, mean=data.mean, std=data.std),
      freeze=self.freeze,
      grad_accumulation=t.grad_accumulation,
      ema_decay=t.ema_decay,
      skip_nonfinite=t.skip_nonfinite,
    )

  @property
  def clips_per_step(self) -> int:
    """Clips of one update, over all devices."""
    return self.data.batch_size * self.clip.num_repeats


def make(function: Callable, settings: dict[str, Any], where: str, **facts: Any) -> Any:
  """function(**settings), with those of `facts` that it takes and the settings leave open.

  Raises ValueError for settings that it does not take, and for those it needs and lacks; whatever
  the call raises is passed on as it is.
  """
  known = inspect.signature(function).parameters
  check_names(list(parameters(function)), settings, where)
  check_settings(where, settings, function)
  given = {**{name: value for name, value in facts.items() if name in known}, **settings}
  lacking = [
    n
    for n, p in known.items()
    if p.default is p.empty and p.kind is not p.VAR_KEYWORD and n not in given
  ]
  if lacking:
    raise ValueError(f'config.{where} lacks {", ".join(lacking)}')
  return function(**given)


def model(config: Any, num_classes: int) -> VideoModel:
  """The backbone and head of a config."""
  config = parse(config)
  clip, room = config.clip, config.model
  family, row = factory.find_model(room.name)
  facts = dict(frames=clip.num_frames, crop=clip.crop_size, num_classes=num_classes)
  facts |= dict(dtype=jnp.dtype(config.train.dtype), remat=config.train.remat)
  known = {key: x for key, x in facts.items() if key in parameters(family.Backbone, ())}
  check_names(list(parameters(family.Backbone)), room.settings, 'model')
  check_settings('model', room.settings, family.Backbone)
  backbone = factory.backbone_of(family.Backbone, {**known, **row}, room.settings)
  if backbone.clip_frames() not in (None, clip.num_frames):
    raise ValueError(
      f'config.clip.num_frames is {clip.num_frames}, but the model is made for '
      f'{backbone.clip_frames()}: set config.model.frames too, or choose a model for '
      f'{clip.num_frames} frames'
    )
  # A head may ask for facts of the clip, and for settings that the backbone shares with it (a
  # decoder's patch).
  shared = {f.name: getattr(backbone, f.name) for f in fields(backbone) if f.name == 'patch'}
  head = make(
    registry.find('heads', config.head.name).Head,
    config.head.settings,
    'head',
    **{**family.HEAD, **facts, **shared},
  )
  return VideoModel(backbone=backbone, head=head)


def optimizer(
  config: Any, net: VideoModel, *, clips_per_epoch: int
) -> tuple[optax.GradientTransformation, optax.Schedule, int]:
  """(optimizer, schedule, total steps) of config.optim; an empty one trains nothing.

  Epochs and clips count repeats; learning rates are scaled from base_batch_size linearly.
  """
  config = parse(config)
  o, clip, batch = config.optim, config.clip, config.data.batch_size
  if o is None:
    return optax.set_to_zero(), optax.constant_schedule(0.0), 0
  scale = lambda rate: (
    None if rate is None else optim.scaled_rate(rate, per_batch=o.base_batch_size, batch=batch)
  )
  steps = partial(optim.to_steps, batch=batch * clip.num_repeats, clips=clips_per_epoch)
  bounds = [
    steps('boundary', {key: one})
    for key, values in o.duration('boundary').items()
    for one in values
  ]
  total = steps('total', o.duration('total'))
  schedule = optim.schedule(
    kind=o.schedule, peak=scale(o.learning_rate), total_steps=total,
    warmup_steps=steps('warmup', o.duration('warmup')),
    warmup_start_lr=scale(o.warmup_start_lr), end_lr=scale(o.end_lr), power=o.power,
    boundaries=tuple(bounds) or None,
    factor=o.factor, halvings=o.halvings, curve_from_start=o.curve_from_start,
  )  # fmt: skip
  shapes = jax.eval_shape(partial(net.init, train=False), jax.random.key(0), _video(clip))['params']
  tx = optim.make(
    shapes, name=o.name, schedule=schedule, weight_decay=o.weight_decay, decayed=o.decayed,
    decay_skip=o.decay_skip,
    b1=o.b1, b2=o.b2, eps=o.eps, momentum=o.momentum, nesterov=o.nesterov, clip_norm=o.clip_norm,
    layer_decay=_layer_multipliers(config, net, shapes), freeze=o.freeze,
  )  # fmt: skip
  return tx, schedule, total


def _layer_multipliers(config: Config, net: VideoModel, shapes: Any) -> dict[str, float] | None:
  decay, depth = config.optim.layer_decay, net.backbone.num_layers()
  if decay is None:
    return None
  if depth is None:
    raise ValueError(
      f'config.optim.layer_decay is {decay}, but {config.model.name} has no order of layers '
      '(layer_of): leave it out'
    )
  return optim.layer_multipliers(shapes, net.backbone.layer_of, depth, decay)


def objective(config: Any) -> Objective:
  """Returns the objective that config.objective names, with its settings."""
  room = parse(config).objective
  found = registry.find('objectives', room.name).OBJECTIVE
  check_names(list(parameters(found.loss)), room.settings, 'objective')
  check_settings('objective', room.settings, found.loss)
  for name, ends in found.ranges.items():
    if name in room.settings:
      check_range(f'config.objective.{name}', room.settings[name], *ends)
  return replace(found, settings=room.settings)


def resize(
  net: VideoModel,
  clip: ClipConfig,
  mode: str | tuple,
  name: str,
  old: Any,
  shape: tuple[int, ...],
  source: dict,
) -> Any:
  """`old` of a checkpoint with meta `source`, resized for this model: a position table to its grid,
  the kernel of an image network to its frames by config.init.inflate. None for anything else."""
  if mode and inflate.fits(old.shape, shape):
    return inflate.fit(name, old, shape, mode)
  last = name.split('/')[-1]
  if last.startswith('relative_'):
    return position.resize(name, old, shape)
  if not last.startswith('position'):
    return None
  of = lambda c: position.grid_of(
    (c['num_frames'], c['crop_size'], c['crop_size']), net.backbone.patch
  )
  return position.resize(
    name, old, shape, old_grid=of(source['config']['clip']), new_grid=of(vars(clip))
  )


def warm(net: VideoModel, clip: ClipConfig, init: InitConfig) -> dict[str, Any]:
  """Settings of checkpoint.warm_start for this model."""
  adapt = None
  if init.rates:
    static = sts.static_outputs(net, _video(clip)) if init.keep_static else {}
    adapt = partial(inflate.reweight, rates=init.rates, static=static)
  rename = inflate.renames if init.inflate else None
  return dict(
    skip=init.skip, resize=partial(resize, net, clip, init.inflate), rename=rename, adapt=adapt
  )


def _video(clip: ClipConfig) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, clip.num_frames, clip.crop_size, clip.crop_size, 3), jnp.float32)


def dataset(config: Any) -> DatasetSpec:
  """Returns the facts of the dataset that is trained on, its folder and label space included."""
  config = parse(config)
  return _spec(config, next(iter(config.datasets)))


def _spec(config: Config, alias: str) -> DatasetSpec:
  """Facts of a dataset by its alias in config.datasets, or by the name of its file."""
  if alias not in config.datasets:
    if alias not in registry.names('data.datasets'):
      raise ValueError(
        f'dataset {alias!r} is neither an alias in config.datasets ({", ".join(config.datasets)}) '
        f'nor in vjax/data/datasets ({", ".join(registry.names("data.datasets"))})'
      )
    return registry.find('data.datasets', alias).SPEC
  entry = config.datasets[alias]
  spec = registry.find('data.datasets', entry.name).SPEC
  given = {name: getattr(entry, name) for name in ('folder', 'label_space')}
  spec = replace(spec, **{name: value for name, value in given.items() if value})
  if not (spec.folder or spec.num_classes):
    raise ValueError(
      f'config.data.name is {entry.name!r}, a folder of your own: name it in config.data.folder'
    )
  return spec


def default_data_dir() -> str:
  """$VJAX_DATA, else 'data'."""
  return os.environ.get('VJAX_DATA') or 'data'


def check(config: Any) -> None:
  """Raises ValueError for what is wrong with a config whatever the data hold: before data are
  rendered or waited for. Nothing is computed."""
  config = parse(config)
  trained, spec = one_dataset(config), dataset(config)
  classes = spec.num_classes or 2
  _check_evals(config)
  net, chosen = model(config, classes), objective(config)
  _check_clips(config, net, trained.clip)
  optimizer(config, net, clips_per_epoch=10**6)  # epochs of some length
  if config.optim:
    _trace(chosen, net, trained.clip, classes, many=bool(chosen.settings.get('multi_label')))


def one_dataset(config: Config) -> DatasetConfig:
  """Returns the entry of config.datasets that is trained on. Raises ValueError for several."""
  if len(config.datasets) > 1:
    raise ValueError(
      f'config.datasets has {len(config.datasets)} entries ({", ".join(config.datasets)}), but '
      'training mixes no datasets yet: leave one, and evaluate on others by config.evals.X.dataset'
    )
  (trained,) = config.datasets.values()
  return trained


def experiment(config: Any, data_dir: str, *, classes: Sequence[str] = ()) -> Experiment:
  """Makes the experiment of a config on the data in `data_dir`.

  classes: names in the order of the outputs of a run that continues, or is evaluated. Data that
  have the same names in another order are renumbered.

  Raises an error, before hours are spent, that names the folder where data is missing, several
  datasets, labels that objective or evaluations need and lack, and clips that do not fit the model.
  """
  from vjax.data import pipeline
  from vjax.data.split import Split, open_split

  config = parse(config)
  trained = one_dataset(config)
  clip, data, spec = trained.clip, config.data, dataset(config)
  _check_evals(config)
  source = open_split(
    data_dir,
    spec,
    trained.split,
    per_class=trained.videos_per_class,
    seed=config.seed,
    classes=classes or _classes_of_init(config),
  )
  hosts = dict(host=jax.process_index(), hosts=jax.process_count())

  def open_test(entry: EvalConfig, split: str) -> tuple[DatasetSpec, Split]:
    test = _spec(config, entry.dataset) if entry.dataset else spec
    return test, open_split(data_dir, test, split, classes=source.classes)

  config = replace(config, evals=_with_splits(config, data_dir, trained.split))
  _check_labels(config, source, open_test)
  _check_overlaps(config, source, trained.split, open_test)
  videos = _check_weights(config, source, trained.split, open_test)
  net = model(config, len(source.classes))
  _check_clips(config, net, clip)
  tx, schedule, total = optimizer(config, net, clips_per_epoch=source.num_clips)
  profile = config.train.profile
  if profile and profile[0] > total:
    raise ValueError(f'config.train.profile is {profile}, but the training has {total} steps')
  trained_on = check_leaks(config.init, spec)
  epoch_steps = source.num_clips / (data.batch_size * clip.num_repeats)

  def train_batches(start_step: int) -> Iterator[Batch]:
    settings = dict(batch=data.batch_size, seed=config.seed, start_step=start_step)
    return pipeline.train_batches(source, spec, clip, trained.augment, **settings, **hosts)

  def eval_batches(entry: EvalConfig, split: str, batch: int) -> Iterator[Batch]:
    test_spec, test = open_test(entry, split)
    size = frame_size(trained.augment, entry)
    return pipeline.eval_batches(test, test_spec, entry.clip, batch=batch, size=size, **hosts)

  def video_names(entry: EvalConfig, split: str, ids: Any) -> list[str]:
    test = open_test(entry, split)[1]
    return [test.name_of(int(i)) for i in ids]

  return Experiment(
    seed=config.seed,
    model=net,
    objective=objective(config),
    tx=tx,
    schedule=schedule,
    total_steps=total,
    eval_steps=round(config.train.eval_epochs * epoch_steps),
    clip=clip,
    data=data,
    training=config.train,
    classes=tuple(source.classes),
    labels=source.labels,
    freeze=config.optim.freeze if config.optim else (),
    init_path=config.init.path,
    warm=warm(net, config.clip, config.init),
    evals=config.evals,
    meta={
      **describe(config, source.classes, trained_on, source.labels),
      'trained_videos': videos,
    },
    train_batches=train_batches,
    eval_batches=eval_batches,
    video_names=video_names,
  )


def frame_size(augment: AugmentConfig, entry: EvalConfig | None) -> tuple[int, int] | None:
  """Returns the (height, width) that test frames are scaled to whatever their aspect, None where
  they keep it. Papers that ignore the aspect in training do in testing; entry: None = training's
  clips."""
  fixed = augment.crop == 'fixed' and not (entry and entry.own_size)
  return augment.size if fixed else None


def _classes_of_init(config: Config) -> tuple[str, ...]:
  """Class names of the weights that the training starts from, where it takes their head too."""
  init = config.init
  if not init.path or tree.matches(init.skip, 'head/linear/kernel'):
    return ()
  return checkpoint.classes_of(checkpoint.read_meta(init.path))


def forward_macs(exp: Experiment) -> int:
  """Returns the multiply-adds of the objective's forward pass on one clip; nothing is computed."""
  many = exp.labels == 'multi_label'
  return _trace(exp.objective, exp.model, exp.clip, len(exp.classes), many=many)


def _trace(
  objective: Objective, net: VideoModel, clip: ClipConfig, classes: int, *, many: bool
) -> int:
  """Returns the multiply-adds of the objective's forward pass on one clip, from shapes alone."""
  shape = jax.ShapeDtypeStruct
  video = shape((1, clip.num_frames, clip.crop_size, clip.crop_size, 3), jnp.float32)
  batch = {name: shape((1,), jnp.int32) for name in ('label', 'valid', 'video_id')}
  if many:
    batch['label'] = shape((1, classes), jnp.float32)
  variables = dict(jax.eval_shape(partial(net.init, train=False), jax.random.key(0), video))
  params = variables.pop('params')

  def forward(params, stats, batch):
    return objective(net, params, stats, batch, jax.random.key(0), train=False)[0]

  return cost.count(forward, params, variables, {**batch, 'video': video})


def _check_clips(config: Config, net: VideoModel, clip: ClipConfig) -> None:
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


def _with_splits(config: Config, data_dir: str, trained: str) -> dict[str, EvalConfig]:
  """Returns config.evals with the splits that the data have: 'test' or 'validation' for 'val', say.

  What is trained on, by the run or by a probe, is never chosen so. trained: split of the run.
  """
  from vjax.data.index import UnknownSplitError
  from vjax.data.split import evaluation_split

  evals = {}
  for name, entry in config.evals.items():
    spec = _spec(config, entry.dataset) if entry.dataset else dataset(config)
    splits = dict(entry.splits)
    for key, split in entry.splits.items():
      if key == 'train_split':
        continue
      taken = [splits.get('train_split', ''), *([] if entry.dataset else [trained])]
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
          name, spec.folder or spec.name, split, splits[key], name, key,
        )  # fmt: skip
    evals[name] = replace(entry, splits=splits)
  return evals


def _check_overlaps(config: Config, source: Any, trained: str, open_test: Callable) -> None:
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
        for known, records in seen:
          if (known, records.index.folder) != (split, test.index.folder):
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


def _check_weights(config: Config, source: Any, trained: str, open_test: Callable) -> list[Any]:
  """Compares the videos of every evaluation with those that the weights of config.init were trained
  on, as far as their meta.json tells: a warning where some are among them.

  Evaluations of the very split that is trained on are left alone: their name says so.

  Returns:
    Sketches (see vjax.data.overlap) of what those weights, and those of this run, are trained on.

  Raises ValueError where all of them are, unless config.init.leak is set.
  """
  from vjax.data import overlap

  meta = checkpoint.read_meta(config.init.path) if config.init.path else {}
  before = list(meta.get('trained_videos', []))
  for name, entry in config.evals.items():
    for key, split in entry.splits.items() if before else ():
      test = open_test(entry, split)[1]
      if key == 'train_split' or (split, test.index.folder) == (trained, source.index.folder):
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
  now = [overlap.sketch(source)] if config.optim else []
  return [*(sketch for sketch in before if sketch not in now), *now]


def _check_labels(config: Config, source: Any, open_test: Callable) -> None:
  """Raises ValueError, before hours are spent, where objective or evaluations need labels that the
  data lacks.

  Args:
    config: whole.
    source: the training split.
    open_test: opens a split for an entry of config.evals; raises where it is missing.
  """
  many, where = source.labels == 'multi_label', source.index.folder
  if registry.find('objectives', config.objective.name).OBJECTIVE.needs_labels and config.optim:
    if not source.classes or not (source.index.label[source.rows] >= 0).any():
      raise ValueError(
        f'{where} has no labels: config.objective.name={config.objective.name} needs them; '
        'pre-train with mae instead'
      )
    if many and not config.objective.settings.get('multi_label', False):
      raise ValueError(
        f'{where}: clips have several labels by manifest.json, and a softmax over classes would '
        'train on no such thing: set --config.objective.multi_label=True'
      )
  for name, entry in config.evals.items():
    evaluation = registry.find('evals', entry.name).EVALUATION
    for split in entry.splits.values():
      found = open_test(entry, split)[1]
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


def _check_evals(config: Config) -> None:
  """Raises ValueError for clips and evaluations whose settings do not fit, whatever the data
  hold."""
  trained = one_dataset(config)
  augment, crop = trained.augment, trained.clip.crop_size
  most = {'fixed': min(augment.size), 'jitter': augment.short_side[0]}.get(augment.crop, crop)
  if crop > most:
    key = {'fixed': 'size', 'jitter': 'short_side'}[augment.crop]
    raise ValueError(
      f'config.clip.crop_size is {crop}, more than config.augment.{key}={getattr(augment, key)}, '
      'to which frames are scaled: make that larger, or the crop smaller'
    )
  _check_keep_best(config)
  for name, entry in config.evals.items():
    size = frame_size(trained.augment, entry)
    _check_settings(name, entry, registry.find('evals', entry.name).EVALUATION, size)


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
  if clip.num_crops not in (1, 3):
    raise ValueError(
      f'config.evals.{name}.num_crops is {clip.num_crops}; it must be 1 (center) or 3 (along the '
      'long side)'
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


def check_leaks(init: InitConfig, spec: DatasetSpec) -> list[str]:
  """Names of the datasets that the weights of config.init were trained on, those before their own
  init included. Raises ValueError where one has test videos of `spec` among its training videos."""
  meta = checkpoint.read_meta(init.path) if init.path else {}
  names = list(meta['trained_on']) if 'trained_on' in meta else []
  if 'config' in meta and meta['config']['data']['name'] not in names and meta['config']['optim']:
    names.append(meta['config']['data']['name'])
  for name in names:
    known = name in registry.names('data.datasets')
    if known and spec.name in registry.find('data.datasets', name).SPEC.leaks and not init.leak:
      raise ValueError(
        f'config.init.path is {init.path!r}, trained on {name}, which has test videos of '
        f'{spec.name} among its training videos: no number on {spec.name} would mean anything. '
        'Start from other weights, or set config.init.leak=True and never report it'
      )
  return names


def describe(
  config: Config, classes: tuple[str, ...], before: list[str], labels: str
) -> dict[str, Any]:
  """meta.json of a checkpoint: config, class names, versions, and the datasets it was trained on,
  `before` and now."""
  name = config.data.name
  trained_on = [*before, *([name] if config.optim and name not in before else [])]
  packages = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  versions = {package: metadata.version(package) for package in packages}
  return {
    'schema': SCHEMA, 'config': config.plain, 'classes': list(classes), 'trained_on': trained_on,
    'labels': labels, 'versions': versions,
  }  # fmt: skip
