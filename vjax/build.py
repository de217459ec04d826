"""Config -> model, objective, optimizer and data. The only reader of configs: everything below takes plain arguments.

A config has these sections; a key that nothing takes is an error that says what there is.
  seed       every random choice derives from it
  model      name: file in models/; variant: entry of its VARIANTS; the rest goes to its Backbone
  head       name: file in heads/; the rest goes to its Head
  objective  name: file in objectives/; the rest goes to its objective
  data       see Data; clip: types.ClipSpec; augment: data.augment.Augment
  optim      rate at rate_batch videos a step, schedule, durations, and what optim.schedule and optim.make take
  train      see Training
  init       see Init; may be left out
  evals      {name: {name: file in evals/, ...}}, run at the end and every train.eval_epochs
"""

import difflib
import inspect
import logging
import math
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
from ml_collections import ConfigDict

from vjax import ckpt, inflate, optim, remote, rooms
from vjax.data import on_device
from vjax.data.augment import Augment
from vjax.layers import position, sts
from vjax.train_step import Update
from vjax.types import Batch, ClipSpec, DatasetSpec, VideoModel, at_least

_SECTIONS = ('seed', 'model', 'head', 'objective', 'data', 'clip', 'augment', 'optim', 'train', 'init', 'evals')
_NOT_SETTINGS = ('model', 'params', 'stats', 'rng', 'train', 'parent')  # what the trainer and Flax give


@dataclass(frozen=True)
class Data:
  """config.data. name: file in data/datasets/; split: trained on; batch: videos a step, over all devices; mean, std: of
  RGB in [0, 1]; folder: in place of the data set's own;
  per_class: train on so many videos of each class, or, below 1, on this share, chosen by seed."""

  name: str
  split: str
  batch: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  folder: str = ''
  per_class: float | None = None

  def __post_init__(self):
    at_least('data', 'batch', self.batch, 1)


@dataclass(frozen=True)
class Training:
  """config.train. dtype: of activations, parameters are float32; accumulate: microbatches a step; fsdp: devices that share
  one copy of the state; ema: weight of the old average of parameters, 0 = none; keep: newest checkpoints kept;
  eval_epochs: between evaluations, 0 = at the end only; skip_nonfinite: leave out a step whose loss or gradient is not
  finite, instead of stopping."""

  dtype: str
  log_steps: int
  save_steps: int
  eval_epochs: float = 0.0
  keep: int = 2
  accumulate: int = 1
  fsdp: int = 1
  remat: bool = False
  ema: float = 0.0
  skip_nonfinite: bool = False

  def __post_init__(self):
    for f in fields(self):
      if f.type is int:
        at_least('train', f.name, getattr(self, f.name), 1)
    if self.dtype not in ('float32', 'bfloat16', 'float16', 'float64'):
      raise ValueError(f'train.dtype is {self.dtype!r}; it must be float32, bfloat16, float16 or float64')
    if not 0 <= self.ema < 1:
      raise ValueError(f'train.ema is {self.ema}; it must be 0 (none) or the weight of the old average, below 1')
    if not 0 <= self.eval_epochs < math.inf:
      raise ValueError(f'train.eval_epochs is {self.eval_epochs}; it must be 0 (at the end only) or more')


@dataclass(frozen=True)
class Init:
  """config.init. path: workdir or converted checkpoint to start from, '' = none; skip: names that may differ (regular
  expressions); leak: start also from weights whose training saw test videos of this data set; inflate: how kernels of
  an image network become those of a video network, a mode of inflate.MODES or the factors of three frames, '' = not
  at all; rates: kernels of three frames become their middle slice times these, for networks with such kernels that were
  trained on images, () = not at all; keep_static: but for STS's static outputs, whose side slices images train too."""

  path: str = ''
  skip: tuple[str, ...] = ()
  leak: bool = False
  inflate: str | tuple[float, ...] = ''
  rates: tuple[float, ...] = ()
  keep_static: bool = True


@dataclass(frozen=True)
class Experiment:
  """All that train and evaluate need, free of configs."""

  seed: int
  model: VideoModel
  objective: Callable
  objective_changes: Callable[[float], dict[str, Any]]
  tx: optax.GradientTransformation
  schedule: optax.Schedule
  total_steps: int
  eval_steps: int
  clip: ClipSpec
  data: Data
  training: Training
  classes: tuple[str, ...]
  freeze: tuple[str, ...]
  init_path: str
  warm: dict[str, Any]
  evals: dict[str, dict[str, Any]]
  meta: dict[str, Any]
  train_batches: Callable[[int], Iterator[Batch]]
  eval_batches: Callable[[str, ClipSpec, int], Iterator[Batch]]

  def objective_at(self, step: int) -> tuple[Callable, Hashable]:
    """The objective of the update after `step`, and a key: the same where the function is the same."""
    changes = self.objective_changes(step / self.total_steps)
    return (partial(self.objective, **changes) if changes else self.objective), tuple(sorted(changes.items()))

  @property
  def update(self) -> Update:
    """Everything that one update needs beside state, batch and objective."""
    t = self.training
    return Update(
      model=self.model, tx=self.tx, schedule=self.schedule, clip=(self.clip.frames, self.clip.crop, self.clip.crop),
      pixels=self.pixels, freeze=self.freeze, accumulate=t.accumulate, ema=t.ema, skip_nonfinite=t.skip_nonfinite,
    )  # fmt: skip

  @property
  def clips_per_step(self) -> int:
    return self.data.batch * self.clip.repeats

  def pixels(self, batch: Batch) -> jax.Array:
    """Normalised clips (B, T, H, W, 3) float32 of a training batch."""
    video = batch['video']
    if 'window' in batch:
      video = on_device.crops(video, batch['window'], batch['mirror'], batch.get('colour'), self.clip.crop)
    return self.normalise(video)

  def normalise(self, video: jax.Array) -> jax.Array:
    """RGB in 0..255 (..., 3) -> float32, (x / 255 - mean) / std."""
    return (video.astype(jnp.float32) / 255 - jnp.asarray(self.data.mean)) / jnp.asarray(self.data.std)


def check_keys(function: Callable, section: dict[str, Any], where: str) -> list[str]:
  """Names that `function` takes. Raises ValueError, with the nearest name, for a key of `section` that it does not."""
  known = [name for name in inspect.signature(function).parameters if name not in _NOT_SETTINGS]
  for key in section:
    if key not in known:
      close = difflib.get_close_matches(key, known, n=1)
      hint = f'did you mean {close[0]!r}? ' if close else ''
      raise ValueError(f'config.{where} has the unknown key {key!r}: {hint}it takes {", ".join(sorted(known))}')
  return known


def unpack(function: Callable, section: dict[str, Any], where: str, **facts: Any) -> Any:
  """function(**section), with those of `facts` that it takes and the section leaves open.

  Raises ValueError for keys that it does not take, and for those it needs and lacks.
  """
  known = check_keys(function, section, where)
  given = {**{key: value for key, value in facts.items() if key in known}, **section}
  try:
    return function(**given)
  except TypeError as error:
    raise ValueError(f'config.{where}: {error}') from error


def _section(config: dict[str, Any], name: str) -> tuple[str, dict[str, Any]]:
  section = dict(config[name])
  if 'name' not in section:
    raise ValueError(f'config.{name} has no key name: it says which file of vjax/{name}s/ to use')
  return section.pop('name'), section


def plain(config: ConfigDict | dict[str, Any]) -> dict[str, Any]:
  """Nested dicts and tuples of a config. Raises ValueError for sections that do not exist or are missing."""
  config = config.to_dict() if isinstance(config, ConfigDict) else config
  frozen = lambda x: (
    {k: frozen(v) for k, v in x.items()} if isinstance(x, dict)
    else tuple(frozen(v) for v in x) if isinstance(x, (list, tuple)) else x
  )  # fmt: skip
  unknown = sorted(set(config) - set(_SECTIONS))
  missing = sorted(set(_SECTIONS) - {'init'} - set(config))
  if unknown or missing:
    raise ValueError(
      f'config has unknown sections {unknown} and lacks {missing}; the sections are {", ".join(_SECTIONS)}'
    )
  return frozen(config)


def model(config: dict[str, Any], num_classes: int) -> VideoModel:
  """The backbone and head of a plain config."""
  clip = unpack(ClipSpec, config['clip'], 'clip')
  training = unpack(Training, config['train'], 'train')
  name, section = _section(config, 'model')
  module = rooms.find('models', name)
  if 'variant' in section:
    variant = section.pop('variant')
    if variant not in module.VARIANTS:
      raise ValueError(f'config.model.variant is {variant!r}; {name} has {", ".join(module.VARIANTS)}')
    section = {**module.VARIANTS[variant], **section}
  facts = dict(frames=clip.frames, crop=clip.crop, num_classes=num_classes)
  facts |= dict(dtype=jnp.dtype(training.dtype), remat=training.remat)
  backbone = unpack(module.Backbone, section, 'model', **facts)
  if hasattr(backbone, 'frames') and backbone.frames != clip.frames:
    raise ValueError(
      f'config.clip.frames is {clip.frames}, but the model is made for {backbone.frames}: set config.model.frames too, or '
      f'choose a variant for {clip.frames} frames'
    )
  # A head may ask for facts of the clip, and for settings that the backbone shares with it (a decoder's patch).
  shared = {f.name: getattr(backbone, f.name) for f in fields(backbone) if f.name in ('patch', 'class_token')}
  name, section = _section(config, 'head')
  head = unpack(rooms.find('heads', name).Head, section, 'head', **{**facts, **shared})
  return VideoModel(backbone=backbone, head=head)


def optimizer(
  config: dict[str, Any], net: VideoModel, *, clips_per_epoch: int
) -> tuple[optax.GradientTransformation, optax.Schedule, int, tuple[str, ...]]:
  """(optimizer, schedule, total steps, frozen patterns) of config.optim; an empty one trains nothing. Epochs and examples
  count clips, repeats included; rates are for rate_batch videos a step and scaled linearly."""
  section = dict(config['optim'])
  if not section:
    return optax.set_to_zero(), optax.constant_schedule(0.0), 0, ()
  clip, batch = unpack(ClipSpec, config['clip'], 'clip'), config['data']['batch']
  take = lambda *names: {key: section.pop(key) for key in list(section) if key.startswith(names)}
  scale = partial(optim.scaled_rate, per_batch=take('rate_batch')['rate_batch'], batch=batch)
  rates = {key: scale(rate) for key, rate in take('rate', 'warmup_start', 'end').items()}
  durations, curve = take('total_', 'warmup_'), take('power', 'factor', 'halvings', 'curve_from_start')
  steps = partial(optim.to_steps, batch=batch * clip.repeats, clips=clips_per_epoch)
  for key, values in take('boundary_').items():
    curve['boundaries'] = tuple(steps('boundary', {key: value}) for value in values)
  total, peak = steps('total', durations), rates.pop('rate')
  schedule = optim.schedule(
    kind=section.pop('schedule'),
    peak=peak,
    total_steps=total,
    warmup_steps=steps('warmup', durations),
    **rates,
    **curve,
  )
  shapes = jax.eval_shape(partial(net.init, train=False), jax.random.key(0), _video(clip))['params']
  if 'layer_decay' in section:
    module = rooms.find('models', config['model']['name'])
    if not hasattr(module, 'layer_of'):
      raise ValueError(f'config.optim.layer_decay: {module.__name__} has no order of layers (layer_of), leave it out')
    depth = net.backbone.depth
    section['layer_decay'] = optim.layer_multipliers(
      shapes, partial(module.layer_of, depth=depth), depth, section['layer_decay']
    )
  make = partial(optim.make, shapes, schedule=schedule)
  return unpack(make, section, 'optim'), schedule, total, tuple(section['freeze']) if 'freeze' in section else ()


def objective(config: dict[str, Any]) -> tuple[Callable, Callable[[float], dict[str, Any]]]:
  """The function of config.objective, its settings filled in, and what of them changes with the progress of the training,
  0 to 1: the file's settings_at, where it has one."""
  name, section = _section(config, 'objective')
  module = rooms.find('objectives', name)
  check_keys(module.objective, section, 'objective')
  changes = partial(module.settings_at, **section) if hasattr(module, 'settings_at') else lambda progress: {}
  return partial(module.objective, **section), changes


def resize(
  net: VideoModel, clip: ClipSpec, mode: str | tuple, name: str, old: Any, shape: tuple[int, ...], source: dict
) -> Any:
  """`old` of a checkpoint with meta `source`, resized for this model: a position table to its grid, the kernel of an image
  network to its frames by config.init.inflate. None for anything else."""
  if mode and inflate.fits(old.shape, shape):
    return inflate.fit(name, old, shape, mode)
  last = name.split('/')[-1]
  if last.startswith('relative_'):
    return position.resize(name, old, shape)
  if not last.startswith('position'):
    return None
  of = lambda c: position.grid_of((c['frames'], c['crop'], c['crop']), net.backbone.patch)
  return position.resize(name, old, shape, old_grid=of(source['config']['clip']), new_grid=of(vars(clip)))


def warm(net: VideoModel, clip: ClipSpec, init: Init) -> dict[str, Any]:
  """Settings of ckpt.warm_start for this model."""
  adapt = None
  if init.rates:
    static = sts.static_outputs(net, _video(clip)) if init.keep_static else {}
    adapt = partial(inflate.reweight, rates=init.rates, static=static)
  rename = inflate.renames if init.inflate else None
  return dict(skip=init.skip, resize=partial(resize, net, clip, init.inflate), rename=rename, adapt=adapt)


def _video(clip: ClipSpec) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, clip.frames, clip.crop, clip.crop, 3), jnp.float32)


def dataset(config: dict[str, Any]) -> DatasetSpec:
  """Facts of the data set that config.data names; its folder may be another."""
  data = unpack(Data, config['data'], 'data')
  spec = rooms.find('data.datasets', data.name).SPEC
  spec = replace(spec, folder=data.folder) if data.folder else spec
  if not (spec.folder or spec.num_classes):
    raise ValueError(f'config.data.name is {data.name!r}, a folder of your own: name it in config.data.folder')
  return spec


def default_data_dir() -> str:
  """$VJAX_DATA, else 'data'."""
  return os.environ.get('VJAX_DATA') or 'data'


def render_built_in(config: ConfigDict, data_dir: str) -> None:
  """Renders the built-in data set where the config wants it and it is not there yet. In a pod the first host does."""
  folder = Path(data_dir, dataset(plain(config)).folder or config.data.name)
  if folder.name == 'motions' and not remote.is_remote(data_dir):
    if jax.process_index() == 0 and not (folder / 'manifest.json').exists():
      from data_prep import synthetic

      logging.info('rendering the built-in data set into %s (once; a few minutes)', folder)
      synthetic.prepare(str(folder), synthetic.TRAIN_CLIPS, synthetic.TEST_CLIPS, seed=0)
    if jax.process_count() > 1:
      from jax.experimental import multihost_utils

      multihost_utils.sync_global_devices('rendered')


def experiment(config: ConfigDict | dict[str, Any], data_dir: str) -> Experiment:
  """The experiment of a config on the data in `data_dir`. Raises an error naming the folder where data is missing."""
  from vjax.data import pipeline, sources

  config = plain(config)
  at_least('config', 'seed', config['seed'], 0)
  clip, data = unpack(ClipSpec, config['clip'], 'clip'), unpack(Data, config['data'], 'data')
  training = unpack(Training, config['train'], 'train')
  augment = unpack(Augment, config['augment'], 'augment')
  spec = dataset(config)
  source = sources.open_split(data_dir, spec, data.split, per_class=data.per_class, seed=config['seed'])
  hosts = dict(host=jax.process_index(), hosts=jax.process_count())
  net = model(config, len(source.classes))
  tx, schedule, total, freeze = optimizer(config, net, clips_per_epoch=source.num_clips)
  function, changes = objective(config)
  init = unpack(Init, config['init'], 'init') if 'init' in config else Init()
  trained_on = check_leaks(init, spec)
  epoch_steps = source.num_clips / (data.batch * clip.repeats)

  def train_batches(start_step: int) -> Iterator[Batch]:
    return pipeline.train_batches(
      source, spec, clip, augment, batch=data.batch, seed=config['seed'], start_step=start_step, **hosts
    )

  def eval_batches(split: str, views: ClipSpec, batch: int) -> Iterator[Batch]:
    test = sources.open_split(data_dir, spec, split)
    # Papers that ignore the aspect in training do in testing.
    size = augment.size if augment.crop == 'fixed' else None
    return pipeline.eval_batches(test, spec, views, batch=batch, size=size, **hosts)

  return Experiment(
    seed=config['seed'], model=net, objective=function, objective_changes=changes, tx=tx, schedule=schedule,
    total_steps=total,
    eval_steps=round(training.eval_epochs * epoch_steps), clip=clip, data=data, training=training,
    classes=tuple(source.classes), freeze=freeze, init_path=init.path,
    warm=warm(net, clip, init),
    evals=config['evals'], meta=describe(config, source.classes, trained_on), train_batches=train_batches,
    eval_batches=eval_batches,
  )  # fmt: skip


def check_leaks(init: Init, spec: DatasetSpec) -> list[str]:
  """Names of the data sets that the weights of config.init were trained on, those before their own init included. Raises
  ValueError where one has test videos of `spec` among its training videos."""
  meta = ckpt.read_meta(init.path) if init.path else {}
  names = list(meta['trained_on']) if 'trained_on' in meta else []
  if 'config' in meta and meta['config']['data']['name'] not in names and meta['config']['optim']:
    names.append(meta['config']['data']['name'])
  for name in names:
    known = name in rooms.names('data.datasets')
    if known and spec.name in rooms.find('data.datasets', name).SPEC.leaks and not init.leak:
      raise ValueError(
        f'config.init.path is {init.path!r}, trained on {name}, which has test videos of {spec.name} among its training '
        f'videos: no number on {spec.name} would mean anything. Start from other weights, or set config.init.leak=True '
        f'and never report it'
      )
  return names


def describe(config: dict[str, Any], classes: tuple[str, ...], before: list[str]) -> dict[str, Any]:
  """meta.json of a checkpoint: config, class names, versions, and the data sets it was trained on, `before` and now."""
  name = config['data']['name']
  trained_on = [*before, *([name] if config['optim'] and name not in before else [])]
  packages = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
  versions = {package: metadata.version(package) for package in packages}
  return {'config': config, 'classes': list(classes), 'trained_on': trained_on, 'versions': versions}
