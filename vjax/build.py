"""Config -> model, objective, optimizer and data, by plain constructor calls; `config.py` is the
schema."""

import inspect
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vjax import (
  budget,
  checkpoint,
  checks,
  cost,
  factory,
  files,
  inflate,
  optim,
  preprocess,
  registry,
  tree,
)
from vjax.config import (
  SCHEMA,
  ClipConfig,
  Config,
  DataConfig,
  EvalConfig,
  InitConfig,
  TrainConfig,
  check_names,
  check_range,
  check_settings,
  parameters,
  parse,
)  # fmt: skip
from vjax.data.specs import (
  DatasetSpec,
  classes_by_dataset,
  dataset,
  frame_size,
  is_joint,
  one_dataset,
  spec_of,
)
from vjax.heads import joint as joint_head
from vjax.layers import position, sts
from vjax.train_step import Update
from vjax.types import Batch, Objective, VideoModel


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
    classes, labels: names, and 'single_label' or 'multi_label', of the dataset trained on; names
      are 'ALIAS/CLASS' where the network has a classifier for each of several.
    joint: whether it has.
    clips_per_epoch, frames_per_epoch: videos of the training split, and frames of all of them.
    stages: budgets of the trainings that the weights at the start went through (vjax/budget.py).
    freeze: patterns of parameters that are not trained.
    init_path, warm: weights to start from, '' = none, and settings of checkpoint.warm_start.
    meta: content of meta.json.
    train_batches: function of the first step.
    eval_batches: function of (entry of evals, split, videos a batch).
    video_names: function of (entry of evals, split, record numbers) -> names.
    eval_classes: function of an entry of evals -> class names of its dataset.
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
  joint: bool
  clips_per_epoch: int
  frames_per_epoch: int
  stages: tuple[dict[str, float] | None, ...]
  freeze: tuple[str, ...]
  init_path: str
  warm: dict[str, Any]
  evals: dict[str, EvalConfig]
  meta: dict[str, Any]
  train_batches: Callable[[int], Iterator[Batch]]
  eval_batches: Callable[[EvalConfig, str, int], Iterator[Batch]]
  video_names: Callable[[EvalConfig, str, Any], list[str]]
  eval_classes: Callable[[EvalConfig], tuple[str, ...]]

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


def outputs(config: Any, classes: Sequence[str]) -> int | dict[str, int]:
  """Returns the number of classes, or that of each dataset of a network with a classifier for
  each, of names as in meta.json."""
  config = parse(config)
  if not is_joint(config):
    return len(classes)
  return {alias: len(names) for alias, names in classes_by_dataset(config, classes).items()}


def known_outputs(config: Any) -> int | dict[str, int]:
  """Returns the number of classes by the facts of a dataset, or that of each, see `outputs`; 2
  where only the data say."""
  config = parse(config)
  known = {alias: spec_of(config, alias).num_classes or 2 for alias in config.datasets}
  return known if is_joint(config) else next(iter(known.values()))


def model(config: Any, num_classes: int | Mapping[str, int]) -> VideoModel:
  """The backbone and head of a config. num_classes: see `outputs`."""
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
  told = objective(config)
  if told.head_settings and 'patch' in shared:
    shared |= told.head_settings(shared['patch'], **told.settings)
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
    warmup_factor=o.warmup_factor,
    epoch_steps=clips_per_epoch / (batch * clip.num_repeats) if o.once_an_epoch else None,
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
  if found.can_reconstruct and not found.can_reconstruct(**room.settings):
    found = replace(found, reconstruct=None)
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


def warm(net: VideoModel, clip: ClipConfig, init: InitConfig, name: str = '') -> dict[str, Any]:
  """Settings of checkpoint.warm_start for this model, called `name` in the config."""
  adapt = None
  if init.rates:
    static = sts.static_outputs(net, _video(clip)) if init.keep_static else {}
    adapt = partial(inflate.reweight, rates=init.rates, static=static)
  if init.time_slice is not None:
    adapt = partial(inflate.in_the_middle, index=init.time_slice)
  rename = inflate.renames if init.inflate else None
  align = joint_head.align if isinstance(net.head, joint_head.Head) and not init.inflate else None
  return dict(
    skip=init.skip,
    resize=partial(resize, net, clip, init.inflate),
    rename=rename,
    align=align,
    adapt=adapt,
    model=name,
  )


def _video(clip: ClipConfig) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, clip.num_frames, clip.crop_size, clip.crop_size, 3), jnp.float32)


def default_data_dir() -> str:
  """$VJAX_DATA, else 'data'."""
  return os.environ.get('VJAX_DATA') or 'data'


def check(config: Any) -> None:
  """Raises ValueError for what is wrong with a config whatever the data hold: before data are
  rendered or waited for. Nothing is computed."""
  config = parse(config)
  trained = one_dataset(config)
  checks.check_evals(config)
  checks.check_joint(config)
  net, chosen = model(config, known_outputs(config)), objective(config)
  checks.check_clips(config, net, trained.clip)
  optimizer(config, net, clips_per_epoch=10**6)  # epochs of some length
  if config.optim:
    many = bool(chosen.settings.get('multi_label'))
    objective_macs(chosen, net, trained.clip, dataset(config).num_classes or 2, many=many)


def experiment(config: Any, data_dir: str, *, classes: Sequence[str] = ()) -> Experiment:
  """Makes the experiment of a config on the data in `data_dir`.

  classes: names in the order of the outputs of a run that continues, or is evaluated. Data that
  have the same names in another order are renumbered.

  Raises an error, before hours are spent, that names the folder where data is missing, several
  datasets, labels that objective or evaluations need and lack, and clips that do not fit the model.
  """
  from vjax.data import pipeline
  from vjax.data.split import Split, evaluation_split, open_split

  config = parse(config)
  trained = one_dataset(config)
  clip, data = trained.clip, config.data
  checks.check_evals(config)
  checks.check_joint(config)
  joint, first = is_joint(config), next(iter(config.datasets))
  specs = {alias: spec_of(config, alias) for alias in config.datasets}
  sources = _training_splits(config, data_dir, specs, classes)
  hosts = dict(host=jax.process_index(), hosts=jax.process_count())

  @cache  # the checks below ask for the same splits
  def open_named(alias: str, split: str) -> tuple[DatasetSpec, Split]:
    test = spec_of(config, alias or first)
    taken = (config.datasets[alias or first].split,) if (alias or first) in sources else ()
    name = split if split in taken else evaluation_split(data_dir, test, split, taken)
    known = sources.get(alias or first, sources[first]).classes
    return test, open_split(data_dir, test, name, classes=known)

  def open_test(entry: EvalConfig, split: str) -> tuple[DatasetSpec, Split]:
    return open_named(entry.dataset, split)

  config = replace(config, evals=checks.with_splits(config, data_dir))
  checks.check_labels(config, sources, open_test)
  for alias, source in sources.items():
    checks.check_overlaps(config, source, config.datasets[alias].split, open_test)
  videos = checks.check_weights(config, sources, open_test)
  checks.check_init_classes(config, sources)
  names = _class_names(config, sources)
  net = model(config, outputs(config, names))
  checks.check_clips(config, net, clip)
  trained_for = objective(config)
  checks.check_reconstructions(config, trained_for)
  num_clips = sum(source.num_clips for source in sources.values())
  tx, schedule, total = optimizer(config, net, clips_per_epoch=num_clips)
  profile = config.train.profile
  if profile and profile[0] > total:
    raise ValueError(f'config.train.profile is {profile}, but the training has {total} steps')
  for spec in specs.values():
    trained_on = checks.check_leaks(config.init, spec)
  epoch_steps = num_clips / (data.batch_size * clip.num_repeats)

  def train_batches(start_step: int) -> Iterator[Batch]:
    settings = dict(batch=data.batch_size, seed=config.seed, start_step=start_step)
    settings |= dict(workers=data.workers)
    if not joint:
      source, spec = sources[first], specs[first]
      return pipeline.train_batches(source, spec, clip, trained.augment, **settings, **hosts)
    parts = {
      alias: (sources[alias], specs[alias], entry.clip, entry.augment)
      for alias, entry in config.datasets.items()
    }
    return pipeline.joint_batches(parts, checks.shares(config), **settings, **hosts)

  def eval_batches(entry: EvalConfig, split: str, batch: int) -> Iterator[Batch]:
    test_spec, test = open_test(entry, split)
    size = frame_size(config.datasets.get(entry.dataset, trained).augment, entry)
    make = partial(pipeline.eval_batches, size=size, workers=data.workers)
    return make(test, test_spec, entry.clip, batch=batch, **hosts)

  def video_names(entry: EvalConfig, split: str, ids: Any) -> list[str]:
    test = open_test(entry, split)[1]
    return [test.name_of(int(i)) for i in ids]

  def eval_classes(entry: EvalConfig) -> tuple[str, ...]:
    return tuple(open_test(entry, next(iter(entry.splits.values())))[1].classes)

  return Experiment(
    seed=config.seed,
    model=net,
    objective=trained_for,
    tx=tx,
    schedule=schedule,
    total_steps=total,
    eval_steps=round(config.train.eval_epochs * epoch_steps),
    clip=clip,
    data=data,
    training=config.train,
    classes=names,
    labels=sources[first].labels,
    joint=joint,
    clips_per_epoch=num_clips,
    frames_per_epoch=sum(
      int(source.index.frames[source.rows].sum(dtype=np.int64)) for source in sources.values()
    ),
    stages=_stages(config.init.path),
    freeze=config.optim.freeze if config.optim else (),
    init_path=config.init.path,
    warm=warm(net, config.clip, config.init, config.model.name),
    evals=config.evals,
    meta={
      **describe(config, names, trained_on, sources[first].labels),
      'trained_videos': videos,
    },
    train_batches=train_batches,
    eval_batches=eval_batches,
    video_names=video_names,
    eval_classes=eval_classes,
  )


def _stages(path: str) -> tuple[dict[str, float] | None, ...]:
  """Returns the budgets of the trainings that led to the weights in `path`, () for none. The best
  checkpoint of a run stands in a folder within that of the run, and counts as the whole run."""
  if not path:
    return ()
  folder = files.path(path)
  result = checkpoint.read_json(folder / 'result.json', 'remove it, and evaluate that run again')
  if result is None and folder.name == 'best':
    result = checkpoint.read_json(folder.parent / 'result.json', 'remove it, and evaluate again')
  return tuple(budget.stages_of(result))


def _training_splits(
  config: Config, data_dir: str, specs: Mapping[str, DatasetSpec], classes: Sequence[str]
) -> dict[str, Any]:
  """Returns the opened training split of each dataset, its labels in the order of `classes`, or of
  the classes of the weights at the start."""
  from vjax.data.split import open_split

  wanted = classes or _classes_of_init(config)
  if is_joint(config):
    by_dataset = classes_by_dataset(config, wanted)
  else:
    by_dataset = {next(iter(config.datasets)): wanted}
  return {
    alias: open_split(
      data_dir,
      specs[alias],
      entry.split,
      per_class=entry.videos_per_class,
      seed=config.data.subset_seed,
      classes=by_dataset[alias],
    )
    for alias, entry in config.datasets.items()
  }


def _class_names(config: Config, sources: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the class names of the network's outputs; 'ALIAS/CLASS' of a classifier for each
  dataset."""
  if is_joint(config):
    return tuple(f'{alias}/{name}' for alias, s in sources.items() for name in s.classes)
  return tuple(next(iter(sources.values())).classes)


def _classes_of_init(config: Config) -> tuple[str, ...]:
  """Class names of the weights that the training starts from, where it takes their head too."""
  init = config.init
  if not init.path or tree.matches(init.skip, 'head/linear/kernel'):
    return ()
  classes = checkpoint.classes_of(checks.meta_of_init(init))
  if is_joint(config):  # a dataset that is left out, or was alone, orders nothing
    classes = tuple(name for name in classes if name.partition('/')[0] in config.datasets)
  return classes


def forward_macs(exp: Experiment) -> int:
  """Returns the multiply-adds of the objective's forward pass on one clip; nothing is computed."""
  many = exp.labels == 'multi_label'
  return objective_macs(exp.objective, exp.model, exp.clip, len(exp.classes), many=many)


def objective_macs(
  objective: Objective, net: VideoModel, clip: ClipConfig, classes: int, *, many: bool = False
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


def describe(
  config: Config, classes: tuple[str, ...], before: list[str], labels: str
) -> dict[str, Any]:
  """meta.json of a checkpoint: config, class names, versions, and the datasets it was trained on,
  `before` and now."""
  now = [entry.name for entry in config.datasets.values()] if config.optim else []
  trained_on = list(dict.fromkeys([*before, *now]))
  packages = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  versions = {package: metadata.version(package) for package in packages}
  return {
    'schema': SCHEMA, 'config': config.plain, 'classes': list(classes), 'trained_on': trained_on,
    'labels': labels, 'versions': versions,
  }  # fmt: skip
