"""Config -> model, objective, optimizer and data, by plain constructor calls; `config.py` is the
schema."""

import inspect
import logging
import os
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vjax import ckpt, factory, inflate, optim, registry, remote
from vjax.config import (
  SCHEMA,
  ClipConfig,
  Config,
  DataConfig,
  EvalConfig,
  InitConfig,
  TrainConfig,
  ViewsConfig,
  check_names,
  parameters,
  parse,
)  # fmt: skip
from vjax.data import on_device
from vjax.layers import position, sts
from vjax.train_step import Update
from vjax.types import Batch, DatasetSpec, VideoModel


@dataclass(frozen=True)
class Experiment:
  """All that train and evaluate need."""

  seed: int
  model: VideoModel
  objective: Callable
  objective_changes: Callable[[float], dict[str, Any]]
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
  eval_batches: Callable[[str, ViewsConfig, int], Iterator[Batch]]

  def objective_at(self, step: int) -> tuple[Callable, Hashable]:
    """The objective of the update after `step`, and a key: the same where the function is the
    same."""
    changes = self.objective_changes(step / self.total_steps)
    return (partial(self.objective, **changes) if changes else self.objective), tuple(
      sorted(changes.items())
    )

  @property
  def update(self) -> Update:
    """Everything that one update needs beside state, batch and objective."""
    t, clip = self.training, self.clip
    return Update(
      model=self.model, tx=self.tx, schedule=self.schedule,
      clip=(clip.num_frames, clip.crop_size, clip.crop_size),
      pixels=self.pixels, freeze=self.freeze, grad_accumulation=t.grad_accumulation,
      ema_decay=t.ema_decay,
      skip_nonfinite=t.skip_nonfinite,
    )  # fmt: skip

  @property
  def clips_per_step(self) -> int:
    return self.data.batch_size * self.clip.num_repeats

  def pixels(self, batch: Batch) -> jax.Array:
    """Normalized clips (B, T, H, W, 3) float32 of a training batch."""
    video = batch['video']
    if 'window' in batch:
      size = self.clip.crop_size
      video = on_device.crops(video, batch['window'], batch['mirror'], batch.get('color'), size)
    return self.normalize(video)

  def normalize(self, video: jax.Array) -> jax.Array:
    """RGB in 0..255 (..., 3) -> float32, (x / 255 - mean) / std."""
    return (video.astype(jnp.float32) / 255 - jnp.asarray(self.data.mean)) / jnp.asarray(
      self.data.std
    )


def make(function: Callable, settings: dict[str, Any], where: str, **facts: Any) -> Any:
  """function(**settings), with those of `facts` that it takes and the settings leave open.

  Raises ValueError for settings that it does not take, and for those it needs and lacks; whatever
  the call raises is passed on as it is.
  """
  known = inspect.signature(function).parameters
  check_names(list(parameters(function)), settings, where)
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
  backbone = factory.backbone_of(family.Backbone, {**known, **row}, room.settings)
  if hasattr(backbone, 'frames') and backbone.frames != clip.num_frames:
    raise ValueError(
      f'config.clip.num_frames is {clip.num_frames}, but the model is made for {backbone.frames}: '
      'set config.model.frames '
      f'too, or choose a model for {clip.num_frames} frames'
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
  if config.optim.layer_decay is None:
    return None
  module, _ = factory.find_model(config.model.name)
  if not hasattr(module, 'layer_of'):
    raise ValueError(
      f'config.optim.layer_decay: {module.__name__} has no order of layers (layer_of), leave it out'
    )
  depth = net.backbone.depth
  return optim.layer_multipliers(
    shapes, partial(module.layer_of, depth=depth), depth, config.optim.layer_decay
  )


def objective(config: Any) -> tuple[Callable, Callable[[float], dict[str, Any]]]:
  """The function of config.objective, its settings filled in, and what of them changes with the
  progress of the training, 0 to 1: the file's settings_at, where it has one."""
  room = parse(config).objective
  module = registry.find('objectives', room.name)
  check_names(list(parameters(module.objective)), room.settings, 'objective')
  changes = lambda progress: {}
  if hasattr(module, 'settings_at'):
    changes = partial(module.settings_at, **room.settings)
  return partial(module.objective, **room.settings), changes


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
  """Settings of ckpt.warm_start for this model."""
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
  """Facts of the dataset that config.data names; its folder may be another."""
  data = parse(config).data
  spec = registry.find('data.datasets', data.name).SPEC
  spec = replace(spec, folder=data.folder) if data.folder else spec
  if not (spec.folder or spec.num_classes):
    raise ValueError(
      f'config.data.name is {data.name!r}, a folder of your own: name it in config.data.folder'
    )
  return spec


def default_data_dir() -> str:
  """$VJAX_DATA, else 'data'."""
  return os.environ.get('VJAX_DATA') or 'data'


def render_built_in(config: Any, data_dir: str) -> None:
  """Renders the built-in dataset where the config wants it and it is not there yet. In a pod the
  first host does."""
  config = parse(config)
  folder = Path(data_dir, dataset(config).folder or config.data.name)
  if folder.name == 'motions' and not remote.is_remote(data_dir):
    if jax.process_index() == 0 and not (folder / 'manifest.json').exists():
      from data_prep import synthetic

      logging.info('rendering the built-in data set into %s (once; a few minutes)', folder)
      synthetic.prepare(str(folder), synthetic.TRAIN_CLIPS, synthetic.TEST_CLIPS, seed=0)
    if jax.process_count() > 1:
      from jax.experimental import multihost_utils

      multihost_utils.sync_global_devices('rendered')


def experiment(config: Any, data_dir: str) -> Experiment:
  """The experiment of a config on the data in `data_dir`. Raises an error naming the folder where
  data is missing."""
  from vjax.data import pipeline, sources

  config = parse(config)
  clip, data, augment = config.clip, config.data, config.augment
  spec = dataset(config)
  source = sources.open_split(
    data_dir, spec, data.split, per_class=data.videos_per_class, seed=config.seed
  )
  hosts = dict(host=jax.process_index(), hosts=jax.process_count())
  _check_labels(config, source, lambda split: sources.open_split(data_dir, spec, split))
  net = model(config, len(source.classes))
  tx, schedule, total = optimizer(config, net, clips_per_epoch=source.num_clips)
  function, changes = objective(config)
  trained_on = check_leaks(config.init, spec)
  epoch_steps = source.num_clips / (data.batch_size * clip.num_repeats)

  def train_batches(start_step: int) -> Iterator[Batch]:
    settings = dict(batch=data.batch_size, seed=config.seed, start_step=start_step)
    return pipeline.train_batches(source, spec, clip, augment, **settings, **hosts)

  def eval_batches(split: str, views: ViewsConfig, batch: int) -> Iterator[Batch]:
    test = sources.open_split(data_dir, spec, split)
    # Papers that ignore the aspect in training do in testing.
    size = augment.size if augment.crop == 'fixed' else None
    return pipeline.eval_batches(test, spec, views, batch=batch, size=size, **hosts)

  return Experiment(
    seed=config.seed, model=net, objective=function, objective_changes=changes, tx=tx,
    schedule=schedule,
    total_steps=total, eval_steps=round(config.train.eval_epochs * epoch_steps), clip=clip,
    data=data,
    training=config.train, classes=tuple(source.classes),
    freeze=config.optim.freeze if config.optim else (),
    init_path=config.init.path, warm=warm(net, clip, config.init), evals=config.evals,
    labels=source.labels, meta=describe(config, source.classes, trained_on),
    train_batches=train_batches,
    eval_batches=eval_batches,
  )  # fmt: skip


def _check_labels(config: Config, source: Any, open_split: Callable[[str], Any]) -> None:
  """Raises ValueError, before hours are spent, where objective or evaluations need labels that the
  data lacks.

  Args:
    config: whole.
    source: the training split.
    open_split: opens another split by name; raises where it is missing.
  """
  many, where = source.labels == 'multi_label', source.index.folder
  if config.objective.name == 'classify' and config.optim:
    if not source.classes:
      raise ValueError(
        f'{where} has no labels: config.objective.name=classify needs them; pre-train with mae '
        'instead'
      )
    if many and not config.objective.settings.get('multi_label', False):
      raise ValueError(
        f'{where}: clips have several labels by manifest.json, and a softmax over classes would '
        'train on no such thing: '
        f'set --config.objective.multi_label=True'
      )
  for name, entry in config.evals.items():
    needs = registry.find('evals', entry.name).NEEDS_LABELS
    for split in entry.splits.values():
      found = open_split(split)
      if needs and not (found.index.label[found.rows] >= 0).any():
        raise ValueError(
          f'config.evals.{name} needs labels, and split {split!r} of {where} has none: leave it '
          'out, or give the clips '
          f'labels'
        )


def check_leaks(init: InitConfig, spec: DatasetSpec) -> list[str]:
  """Names of the datasets that the weights of config.init were trained on, those before their own
  init included. Raises ValueError where one has test videos of `spec` among its training videos."""
  meta = ckpt.read_meta(init.path) if init.path else {}
  names = list(meta['trained_on']) if 'trained_on' in meta else []
  if 'config' in meta and meta['config']['data']['name'] not in names and meta['config']['optim']:
    names.append(meta['config']['data']['name'])
  for name in names:
    known = name in registry.names('data.datasets')
    if known and spec.name in registry.find('data.datasets', name).SPEC.leaks and not init.leak:
      raise ValueError(
        f'config.init.path is {init.path!r}, trained on {name}, which has test videos of '
        f'{spec.name} among its training '
        f'videos: no number on {spec.name} would mean anything. Start from other weights, or set '
        'config.init.leak=True '
        f'and never report it'
      )
  return names


def describe(config: Config, classes: tuple[str, ...], before: list[str]) -> dict[str, Any]:
  """meta.json of a checkpoint: config, class names, versions, and the datasets it was trained on,
  `before` and now."""
  name = config.data.name
  trained_on = [*before, *([name] if config.optim and name not in before else [])]
  packages = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  versions = {package: metadata.version(package) for package in packages}
  return {
    'schema': SCHEMA, 'config': config.plain, 'classes': list(classes), 'trained_on': trained_on,
    'versions': versions,
  }  # fmt: skip
