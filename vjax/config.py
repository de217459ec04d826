"""The config, typed: a frozen dataclass for every section, and `parse`, which reads a config once.

Settings of rooms (models, heads, objectives, evaluations) are arguments of what the room's file
holds; the config keeps them as `Room`. A model is called by its name in `vjax.list_models()`.
`complete` adds the keys that a config leaves open, so that every one can be set on the command
line.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from vjax import old_models, registry

T = TypeVar('T')
FULL_FRAME = 'full'  # a crop_size of evaluations
DECODES = ('full', 'reduced')
RESIZE_QUALITIES = ('exact', 'fast')
CROP_PLACES = ('ends', 'quarters')
INTERPOLATIONS = ('bilinear', 'bicubic')
CROP_COUNTS = {
  1: 'center',
  3: 'along the long side',
  5: 'corners and center',
  10: 'these and their mirror images',
}
SCHEMA = 4  # of config in meta.json; a file without a number has that of the first edition, 1
# Operations of RandAugment; a batch's `ops` are positions in it.
RAND_AUGMENT = (
  'autocontrast',
  'equalize',
  'invert',
  'rotate',
  'posterize',
  'solarize',
  'solarize_add',
  'color',
  'contrast',
  'brightness',
  'sharpness',
  'shear_x',
  'shear_y',
  'translate_x',
  'translate_y',
  'identity',
)
DTYPES = ('float32', 'bfloat16', 'float16', 'float64')
_FACTS = (
  'model',
  'params',
  'stats',
  'rng',
  'train',
  'parent',
  'dtype',
  'num_classes',
  'dataset',  # these two are of a head that serves one dataset
  'projected',
)  # given by the trainer or by Flax

# First edition's names of keys, by section. `translate` renames those of old runs; elsewhere they
# are errors.
RENAMED = {
  'model': {'flavour': 'flavor', **old_models.KEYS},
  'objective': {'normalise': 'normalize', 'many': 'multi_label'},
  'data': {'batch': 'batch_size', 'per_class': 'videos_per_class'},
  'clip': {
    'frames': 'num_frames',
    'stride': 'frame_stride',
    'crop': 'crop_size',
    'repeats': 'num_repeats',
  },
  'augment': {
    'colour': 'color_jitter',
    'erase': 'random_erasing',
    'randaug': 'rand_augment',
    'canvas': 'device_frame_size',
  },
  'optim': {
    'rate': 'learning_rate',
    'rate_batch': 'base_batch_size',
    'warmup_start': 'warmup_start_lr',
    'end': 'end_lr',
    'total_examples': 'total_clips',
    'warmup_examples': 'warmup_clips',
    'boundary_examples': 'boundary_clips',
  },
  'train': {'accumulate': 'grad_accumulation', 'ema': 'ema_decay'},
  'init': {},
  'evals': {
    'clips': 'num_clips',
    'crops': 'num_crops',
    'batch': 'batch_size',
    'frames': 'num_frames',
    'stride': 'frame_stride',
    'crop': 'crop_size',
    'many': 'multi_label',
    'standardise': 'standardize',
  },
}
# (section, key, first edition's value): today's
_VALUES = {('init', 'inflate', 'centre'): 'center'}
# Keys of an evaluation that say its clip.
CLIP_KEYS = (
  'num_frames', 'frame_stride', 'sampling', 'crop_size', 'short_side', 'num_clips', 'num_crops',
  'crop_places', 'decode', 'interpolation',
)  # fmt: skip


# Other frameworks' names of keys; an unknown key of these is told ours.
_ALIASES = {
  'lr': 'learning_rate', 'base_lr': 'learning_rate', 'max_lr': 'learning_rate',
  'wd': 'weight_decay', 'bs': 'batch_size', 'epochs': 'total_epochs', 'max_epoch': 'total_epochs',
  'num_epochs': 'total_epochs', 'steps': 'total_steps', 'num_steps': 'total_steps',
  'warmup': 'warmup_epochs', 'min_lr': 'end_lr', 'warmup_lr': 'warmup_start_lr',
  'optimizer': 'name', 'lr_policy': 'schedule', 'betas': 'b1', 'grad_clip': 'clip_norm',
  'max_grad_norm': 'clip_norm', 'hflip': 'flip', 'sampling_rate': 'frame_stride',
  'frame_interval': 'frame_stride', 'clip_len': 'num_frames', 'size': 'crop_size',
  'image_size': 'crop_size', 'input_size': 'crop_size', 'accum_iter': 'grad_accumulation',
  'accum_steps': 'grad_accumulation', 'precision': 'dtype', 'checkpoint': 'path',
  'pretrained': 'path', 'smoothing': 'label_smoothing', 'mixup_alpha': 'mixup',
  'cutmix_alpha': 'cutmix', 'num_ensemble_views': 'num_clips', 'num_spatial_crops': 'num_crops',
  'patch_size': 'patch', 'patch_kernel': 'patch', 'drop_path_rate': 'drop_path',
  'droppath_rate': 'drop_path', 'dropout_rate': 'dropout', 'drop_rate': 'dropout',
  'drop': 'dropout',
}  # fmt: skip
_ANY = math.inf
# (least, most) of numbers, ends included, and of every number of a tuple.
_RANGES = {
  'data': {'mean': (0, 1), 'std': (1e-6, 1), 'videos_per_class': (1e-9, _ANY)},
  'augment': {
    'area': (1e-6, 1), 'aspect': (1e-6, _ANY), 'short_side': (1, _ANY), 'size': (1, _ANY),
    'flip': (0, 1), 'color_jitter': (0, 1), 'rand_augment': (0, _ANY), 'magnitude': (0, 10),
    'magnitude_std': (0, _ANY), 'random_erasing': (0, 1), 'erase_area': (1e-6, 1),
    'erase_aspect': (1e-6, _ANY), 'device_frame_size': (1, _ANY),
  },
  'optim': {
    'learning_rate': (0, _ANY), 'base_batch_size': (1, _ANY), 'weight_decay': (0, _ANY),
    'warmup_start_lr': (0, _ANY), 'warmup_factor': (0, 1),
    'end_lr': (0, _ANY), 'power': (1e-6, _ANY),
    'factor': (1e-9, _ANY), 'halvings': (0, _ANY), 'momentum': (0, 1), 'b1': (0, 1), 'b2': (0, 1),
    'eps': (0, _ANY), 'clip_norm': (0, _ANY), 'layer_decay': (1e-6, 1),
    'boundary_steps': (0, _ANY), 'boundary_epochs': (0, _ANY), 'boundary_clips': (0, _ANY),
  },
}  # fmt: skip
# Tuples that go from a number to one that is not below it.
_FROM_TO = ('area', 'aspect', 'short_side', 'erase_area', 'erase_aspect')


def check_range(where: str, value: Any, least: float, most: float) -> None:
  """Raises ValueError unless a number, or every number of a tuple, is from `least` to `most`."""
  for number in value if isinstance(value, tuple | list) else (value,):
    if not (least <= number <= most and math.isfinite(number)):
      small = 'above 0' if 0 < least < 1e-3 else f'{least} or more'
      most_text = '' if most == _ANY else f', and at most {most}'
      raise ValueError(f'{where} is {value!r}; it must be {small}{most_text}')


def check_whole(section: str, name: str, value: Any, least: int) -> None:
  """Raises ValueError unless a setting is a whole number, `least` or more."""
  if not isinstance(value, int) or isinstance(value, bool) or value < least:
    where = f'{section}.{name}' if section else name
    raise ValueError(f'{where} is {value!r}; it must be a whole number, {least} or more')


@dataclass(frozen=True)
class Room:
  """A file of a room (vjax/models, heads, objectives, evals) and the settings that it takes.

  Attributes:
    name: of the file; of a model, that of its row.
    settings: arguments; those left open are absent.
  """

  name: str
  settings: dict[str, Any]


@dataclass(frozen=True)
class DataConfig:
  """The dataset that is trained on.

  Attributes:
    name: file in vjax/data/datasets.
    split: trained on.
    batch_size: videos a step, over all devices; clips are that times clip.num_repeats.
    mean: of RGB in [0, 1], subtracted from pixels.
    std: of RGB in [0, 1], pixels are divided by.
    folder: under --data_dir, in place of the dataset's own.
    videos_per_class: train on so many videos of each class, or, below 1, on this share, chosen by
      subset_seed.
    subset_seed: of that choice. It does not follow the run's seed, so that runs of several seeds
      differ in initialization and order alone; give each its own seed here for videos of its own.
    workers: processes of each host that read and decode videos; 0 = none beside the training's own.
      By default one for every core but one, and none where that would not pay. Batches do not
      depend on it.
  """

  name: str
  split: str
  batch_size: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  folder: str = ''
  videos_per_class: float | None = None
  subset_seed: int = 0
  workers: int | None = None

  def __post_init__(self):
    check_whole('data', 'batch_size', self.batch_size, 1)
    check_whole('data', 'subset_seed', self.subset_seed, 0)
    if self.workers is not None:
      check_whole('data', 'workers', self.workers, 0)


def _check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
  if value not in choices:
    raise ValueError(f'{key} is {value!r}; it must be one of {", ".join(choices)}')


@dataclass(frozen=True)
class ClipConfig:
  """Frames and pixels of a clip.

  Attributes:
    num_frames: of a clip.
    frame_stride: distance of its frames in the source, in frames.
    crop_size: rows and columns of a clip, in pixels.
    short_side: pixels that the short side is scaled to before a test crop.
    sampling: rule of vjax/data/sampling.py by which frames are chosen.
    num_repeats: clips drawn from each decoded video of a training step (repeated augmentation).
    repeat_distance: places in the batch between the repeats of a video. 1: side by side. d: each d
      videos of a batch form a block of d first clips, then d second ones, and so on, so that
      repeats share neither statistics nor a mixed pair where model.norm.group_size and
      objective.mix_group are divisors of d.
  """

  num_frames: int
  frame_stride: int
  crop_size: int
  short_side: int
  sampling: str = 'dense'
  num_repeats: int = 1
  repeat_distance: int = 1

  def __post_init__(self):
    whole = ('num_frames', 'frame_stride', 'crop_size', 'short_side')
    for name in (*whole, 'num_repeats', 'repeat_distance'):
      check_whole('clip', name, getattr(self, name), 1)
    if self.repeat_distance > 1 and self.num_repeats == 1:
      raise ValueError(
        f'clip.repeat_distance is {self.repeat_distance}, but clip.num_repeats is 1: set it to 1'
      )


@dataclass(frozen=True)
class ViewsConfig(ClipConfig):
  """Clips of a test video.

  Attributes:
    crop_size: side of the square crop; (height, width); or FULL_FRAME.
    num_clips: views in time.
    num_crops: views in space: 1 (center), 3 (along the long side), 5 (corners and center) or 10
      (these and their mirror images).
    crop_places: 'ends': outer crops touch the edges, the center is rounded up (PySlowFast).
      'quarters': crops stand on a grid of whole quarters of what a crop leaves free, so that outer
      crops may end up to three pixels inside (Chen et al. 2021, as released).
    decode: 'full', or 'reduced': stored frames are decoded at 1/2, 1/4 or 1/8 of their size where
      they are scaled to that or less. Quicker; pixels differ a little. Frames of a video file that
      is predicted are not stored, and decoded whole.
    interpolation: of frames that are scaled, see AugmentConfig.
  """

  crop_size: int | tuple[int, int] | str
  num_clips: int = 1
  num_crops: int = 1
  crop_places: str = 'ends'
  decode: str = 'full'
  interpolation: str = 'bilinear'

  def __post_init__(self):
    _check_choice('decode', self.decode, DECODES)
    _check_choice('crop_places', self.crop_places, CROP_PLACES)
    _check_choice('interpolation', self.interpolation, INTERPOLATIONS)
    if isinstance(self.crop_size, str):
      if self.crop_size != FULL_FRAME:
        raise ValueError(
          f'crop_size is {self.crop_size!r}; it must be pixels, (height, width), or {FULL_FRAME!r}'
        )
      if self.num_crops != 1:
        raise ValueError(f'num_crops is {self.num_crops}: a full frame is one crop, set it to 1')
    whole = ('num_frames', 'frame_stride', 'short_side', 'num_clips', 'num_crops')
    values = {name: getattr(self, name) for name in whole}
    if not isinstance(self.crop_size, str):
      values |= {f'crop_size[{i}]': side for i, side in enumerate(self.crop)}
    for name, value in values.items():
      check_whole('', name, value, 1)

  @property
  def crop(self) -> tuple[int, int]:
    """(height, width) in pixels of a crop. Not known for full frames."""
    size = self.crop_size
    return (size, size) if isinstance(size, int) else tuple(size)


@dataclass(frozen=True)
class AugmentConfig:
  """Variation of training clips, the same for all frames of a clip.

  Attributes:
    crop: 'resized': random window of `area` and `aspect`, resized (Szegedy et al. 2015). 'jitter':
      short side scaled to a whole number in `short_side`, then a random crop. 'fixed': frame
      resized to `size` whatever its aspect, then a random crop. 'multiscale': windows of 1, .875,
      .75, .66 of the short side at 13 places (Wang et al. 2016).
    area: of the window as a share of the frame, from and to.
    aspect: of the window, width over height, drawn log-uniformly, from and to.
    short_side: in pixels, from and to.
    inverse: 'jitter' draws uniformly in the inverse of the short side.
    size: (height, width) in pixels.
    flip: probability of mirroring; datasets whose labels it would change are never mirrored.
    color_jitter: largest relative change of brightness, contrast and saturation.
    rand_augment: RandAugment's operations a clip, 0 = none.
    magnitude: of RandAugment, of 10.
    magnitude_std: standard deviation of the magnitude.
    random_erasing: probability of filling one box with noise.
    erase_area: of the box as a share of the crop, from and to.
    erase_aspect: of the box, from and to.
    repeat_window: the repeats of one video are 'new' times or the 'same' frames.
    device_frame_size: None: the host sends crops. (height, width): the host sends frames padded to
      this size, and the accelerator crops, resizes, mirrors, colors, erases (vjax/preprocess.py)
      and applies RandAugment (vjax/device_augment.py). Windows of other sizes are resized on the
      host first, after RandAugment.
    decode: 'full', or 'reduced': stored frames are decoded at 1/2, 1/4 or 1/8 of their size where
      all windows of a video are at least so many times the crop. Quicker for small crops
      (docs/scaling.md); pixels differ a little, places by half a pixel. A window of one pixel
      more or less than the crop is taken as the crop. device_frame_size is then best the size of
      reduced frames. Of an evaluation: its own key `decode`.
    resize_quality: of the bilinear resizing of crops on the host. 'exact': rounded to the nearest
      level. 'fast': OpenCV's INTER_LINEAR, in less than half of the time; one pixel in seven is one
      level of 255 off, mostly darker (docs/scaling.md). Test views, and crops that are resized on
      the accelerator, do not depend on it.
    interpolation: 'bilinear', between pixel centers, without antialiasing, as code for videos has
      it; or 'bicubic', with antialiasing, as code for images has it (Pillow's, of timm): on the
      host, and slower. Of an evaluation: its own key `interpolation`.
  """

  crop: str = 'resized'
  area: tuple[float, float] = (0.5, 1.0)
  aspect: tuple[float, float] = (3 / 4, 4 / 3)
  short_side: tuple[int, int] = (256, 320)
  inverse: bool = False
  size: tuple[int, int] = (128, 171)
  flip: float = 0.5
  color_jitter: tuple[float, float, float] = (0.0, 0.0, 0.0)
  rand_augment: int = 0
  magnitude: float = 7.0
  magnitude_std: float = 0.5
  random_erasing: float = 0.0
  erase_area: tuple[float, float] = (0.02, 1 / 3)
  erase_aspect: tuple[float, float] = (0.3, 1 / 0.3)
  repeat_window: str = 'new'
  device_frame_size: tuple[int, int] | None = None
  decode: str = 'full'
  resize_quality: str = 'exact'
  interpolation: str = 'bilinear'

  def __post_init__(self):
    _check_choice('augment.decode', self.decode, DECODES)
    _check_choice('augment.resize_quality', self.resize_quality, RESIZE_QUALITIES)
    _check_choice('augment.interpolation', self.interpolation, INTERPOLATIONS)
    _check_choice('augment.crop', self.crop, ('resized', 'jitter', 'fixed', 'multiscale'))
    _check_choice('augment.repeat_window', self.repeat_window, ('new', 'same'))
    if self.interpolation != 'bilinear' and self.device_frame_size:
      raise ValueError(
        f'augment.interpolation is {self.interpolation!r}, but augment.device_frame_size leaves '
        'resizing to the accelerator, which is bilinear: set device_frame_size to None'
      )


@dataclass(frozen=True)
class OptimConfig:
  """Optimizer, schedule and durations. Exactly one unit is given for each duration.

  Attributes:
    name: 'sgd', 'adamw' or 'lamb'.
    learning_rate: peak, for base_batch_size videos a step; scaled in proportion to data.batch_size.
    base_batch_size: videos a step that learning rates are stated for.
    schedule: 'cosine', 'polynomial', 'step', 'halving' or 'constant', see vjax/optim.py.
    weight_decay: L2 in 'sgd', decoupled elsewhere.
    total_steps, total_epochs, total_clips: of the training; epochs and clips count repeats.
    warmup_steps, warmup_epochs, warmup_clips: linear warm-up.
    boundary_steps, boundary_epochs, boundary_clips: where schedule 'step' multiplies the rate by
      `factor`.
    warmup_start_lr: learning rate that warm-up starts from, for base_batch_size.
    warmup_factor: in place of warmup_start_lr: the schedule goes on during warm-up, times a factor
      that rises from this to 1 (MMCV). None = not so.
    end_lr: learning rate at the end of 'cosine' and 'polynomial', for base_batch_size.
    power: of 'polynomial'.
    factor: of 'step'.
    halvings: of 'halving'.
    curve_from_start: the curve counts from step 0, so that warm-up ends below its peak.
    once_an_epoch: the learning rate changes at the first step of every epoch alone; the factor of
      warmup_factor still at every step.
    momentum, nesterov: of 'sgd'.
    b1, b2, eps: of 'adamw' and 'lamb'.
    clip_norm: largest norm of all gradients, 0 = no clipping.
    decayed: 'kernels', 'kernels_and_scales' or 'all'.
    decay_skip: patterns of parameters that are not decayed.
    layer_decay: factor of the learning rate from layer to layer, downwards.
    freeze: patterns of parameters that are not trained.
  """

  name: str
  learning_rate: float
  base_batch_size: int
  schedule: str
  weight_decay: float
  total_steps: int | None = None
  total_epochs: float | None = None
  total_clips: float | None = None
  warmup_steps: int | None = None
  warmup_epochs: float | None = None
  warmup_clips: float | None = None
  boundary_steps: tuple[int, ...] | None = None
  boundary_epochs: tuple[float, ...] | None = None
  boundary_clips: tuple[float, ...] | None = None
  warmup_start_lr: float = 0.0
  warmup_factor: float | None = None
  end_lr: float | None = None
  power: float | None = None
  factor: float | None = None
  halvings: int | None = None
  curve_from_start: bool = False
  once_an_epoch: bool = False
  momentum: float | None = None
  nesterov: bool | None = None
  b1: float | None = None
  b2: float | None = None
  eps: float | None = None
  clip_norm: float = 0.0
  decayed: str = 'kernels'
  decay_skip: tuple[str, ...] = ()
  layer_decay: float | None = None
  freeze: tuple[str, ...] = ()

  def duration(self, name: str) -> dict[str, float]:
    """{'<name>_steps': ...} of the units that are given."""
    given = {
      f'{name}_{unit}': getattr(self, f'{name}_{unit}') for unit in ('steps', 'epochs', 'clips')
    }
    return {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True)
class TrainConfig:
  """The training loop.

  Attributes:
    dtype: of activations; parameters are float32.
    log_steps: between lines of the log.
    save_steps: between checkpoints.
    eval_epochs: between evaluations, 0 = at the end only.
    keep: newest checkpoints that are kept.
    keep_best: 'EVALUATION/METRIC', such as 'test/top1': the checkpoint where it is best is kept in
      workdir/best, beside the newest ones; '' = none. A loss is best where it is lowest.
    grad_accumulation: microbatches a step.
    fsdp: devices that share one copy of parameters and optimizer state.
    remat: compute the activations inside a block again in the backward pass.
    ema_decay: weight of the old moving average of parameters, 0 = none is kept.
    precise_bn: training batches over which the statistics of batch normalization are averaged
      before an evaluation and before a checkpoint is saved, with the parameters as they are then;
      0 = the running averages. (Wu & Johnson 2021.)
    skip_nonfinite: leave out a step whose loss or gradient is not finite, instead of stopping.
    profile: first and last step that JAX's profiler records into workdir/profile, () = none. Each
      process records the steps that it makes; TensorBoard's profile plugin shows them.
  """

  dtype: str
  log_steps: int
  save_steps: int
  eval_epochs: float = 0.0
  keep: int = 2
  keep_best: str = ''
  grad_accumulation: int = 1
  fsdp: int = 1
  remat: bool = False
  ema_decay: float = 0.0
  precise_bn: int = 0
  skip_nonfinite: bool = False
  profile: tuple[int, ...] = ()

  def __post_init__(self):
    for name in ('log_steps', 'save_steps', 'keep', 'grad_accumulation', 'fsdp'):
      check_whole('train', name, getattr(self, name), 1)
    check_whole('train', 'precise_bn', self.precise_bn, 0)
    if self.dtype not in DTYPES:
      raise ValueError(f'train.dtype is {self.dtype!r}; it must be one of {", ".join(DTYPES)}')
    if self.profile and not (len(self.profile) == 2 and 1 <= self.profile[0] <= self.profile[1]):
      raise ValueError(
        f'train.profile is {self.profile}; it must be (first step, last step), counted from 1'
      )
    if not 0 <= self.ema_decay < 1:
      raise ValueError(
        f'train.ema_decay is {self.ema_decay}; it must be 0 (none) or more, and below 1'
      )
    if not 0 <= self.eval_epochs < math.inf:
      raise ValueError(
        f'train.eval_epochs is {self.eval_epochs}; it must be 0 (at the end only) or more'
      )


@dataclass(frozen=True)
class InitConfig:
  """Weights that the training starts from.

  Attributes:
    path: workdir or converted checkpoint, '' = from scratch.
    skip: patterns of names that may differ. A network of several datasets (the head joint) that
      starts from one of others needs none: by alias it takes the classifiers and projections of
      those that both have, and the log says what is initialized and what is left out.
    leak: start also from weights whose training saw test videos of this dataset, and evaluate also
      where all videos are among those trained on.
    inflate: how kernels of an image network become those of a video network: a mode of
      vjax/inflate.py, the factors of three frames, or '' = not at all.
    rates: loaded kernels of three frames become their middle slice times these, () = not at all.
    keep_static: `rates` leave out STS's static outputs, whose side slices images train too.
    time_slice: 0, 1 or 2: loaded kernels through time become this slice (before, at and after the
      middle) in their middle and zero elsewhere, so that the network is that slice's network of
      images. None = not so. (Li et al. 2022, table 1.)
  """

  path: str = ''
  skip: tuple[str, ...] = ()
  leak: bool = False
  inflate: str | tuple[float, ...] = ''
  rates: tuple[float, ...] = ()
  keep_static: bool = True
  time_slice: int | None = None

  def __post_init__(self):
    if self.time_slice is not None and (self.time_slice not in (0, 1, 2) or self.rates):
      raise ValueError(
        f'config.init.time_slice is {self.time_slice}, with rates={self.rates}; it must be 0, 1 or '
        '2, without rates'
      )
    if not self.path and (self.inflate or self.rates or self.skip or self.time_slice is not None):
      values = {n: getattr(self, n) for n in ('inflate', 'rates', 'skip', 'time_slice')}
      given = {n: value for n, value in values.items() if value not in ('', (), None)}
      raise ValueError(
        f'config.init has {given}, but config.init.path is empty: name the weights to start from'
      )


@dataclass(frozen=True)
class DatasetConfig:
  """One of the datasets that are trained on.

  Attributes:
    name: file in vjax/data/datasets.
    split: trained on.
    folder: under --data_dir, in place of the dataset's own.
    label_space: which labels, where records carry several, '' = the dataset's own choice.
    videos_per_class: see DataConfig.
    share: of the videos of a batch, relative to the other datasets' shares; None, for all of them
      = no fixed shares: batches are of all datasets' videos, shuffled.
    clip: frames and pixels of its clips.
    augment: variation of its clips.
  """

  name: str
  split: str
  folder: str
  label_space: str
  videos_per_class: float | None
  share: float | None
  clip: ClipConfig
  augment: AugmentConfig


@dataclass(frozen=True)
class EvalConfig:
  """One evaluation.

  Attributes:
    name: file in vjax/evals.
    dataset: alias in config.datasets, or file in vjax/data/datasets; '' = the one trained on.
    clip: frames, pixels and views. In the config its keys stand beside `name`, and each defaults to
      that of the dataset's clip, or of config.clip: num_frames, frame_stride, sampling, crop_size,
      short_side; its own are num_clips, num_crops, crop_places, decode. crop_size may be 'full':
      the whole frame, scaled to short_side.
    batch_size: videos a batch, over all devices.
    own_size: the entry gives short_side: frames keep their aspect even where training's do not.
    splits: {argument: split} of the data that it is given ('split', 'train_split', ...).
    settings: arguments of its `run`.
  """

  name: str
  dataset: str
  clip: ViewsConfig
  batch_size: int
  own_size: bool
  splits: dict[str, str]
  settings: dict[str, Any]


@dataclass(frozen=True)
class Config:
  """A whole config.

  Attributes:
    seed: of everything random.
    model, head, objective: rooms.
    data, clip, augment: of the dataset, and defaults of `datasets` and `evals`.
    optim: None = nothing is trained.
    train, init: sections.
    datasets: by alias, in alphabetical order; where the config lists none, the one that `data`
      names.
    evals: by name of the result.
    plain: nested dicts of what was given, as meta.json keeps it.
  """

  seed: int
  model: Room
  head: Room
  objective: Room
  data: DataConfig
  clip: ClipConfig
  augment: AugmentConfig
  optim: OptimConfig | None
  train: TrainConfig
  init: InitConfig
  datasets: dict[str, DatasetConfig]
  evals: dict[str, EvalConfig]
  plain: dict[str, Any]


_SECTIONS = tuple(f.name for f in fields(Config) if f.name != 'plain')
_TYPED = {
  'data': DataConfig,
  'clip': ClipConfig,
  'augment': AugmentConfig,
  'optim': OptimConfig,
  'train': TrainConfig,
  'init': InitConfig,
}
_ROOMS = {
  'model': 'Backbone',
  'head': 'Head',
}  # section: name of what takes its settings


def plain(config: Any) -> dict[str, Any]:
  """Nested dicts and tuples of a ConfigDict or dict, without the keys that are left open (None).

  Raises ValueError for sections that do not exist or are missing.
  """
  if isinstance(config, Config):
    return config.plain
  config = config.to_dict() if hasattr(config, 'to_dict') else config
  unknown = sorted(set(config) - set(_SECTIONS))
  missing = sorted(n for n in _SECTIONS if config.get(n) is None and n not in ('init', 'datasets'))
  if unknown or missing:
    raise ValueError(
      f'config has unknown sections {unknown} and lacks {missing}; the sections are '
      f'{", ".join(_SECTIONS)}'
    )
  for name, section in config.items():
    if name != 'seed' and section is not None:
      _check_mapping(name, section)
  for name in ('datasets', 'evals'):
    for alias, entry in (config.get(name) or {}).items():
      _check_mapping(f'{name}.{alias}', entry)
      for part in ('clip', 'augment'):
        if name == 'datasets' and part in entry:
          _check_mapping(f'{name}.{alias}.{part}', entry[part])
  return _frozen(config)


def _check_mapping(where: str, section: Any) -> None:
  if not isinstance(section, Mapping):
    raise ValueError(f'config.{where} is {section!r}; it must be a dict of keys')


def _frozen(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {k: _frozen(v) for k, v in value.items() if v is not None}
  return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


def parse(config: Any) -> Config:
  """The typed config of a ConfigDict or of nested dicts.

  Raises ValueError that names the key for one that is unknown, renamed, missing, or of a wrong
  type.
  """
  if isinstance(config, Config):
    return config
  given = plain(config)
  check_whole('config', 'seed', given['seed'], 0)
  sections: dict[str, Any] = {
    name: _section(kind, given.get(name, {}), name)
    for name, kind in _TYPED.items()
    if name != 'optim'
  }
  sections['optim'] = _section(OptimConfig, given['optim'], 'optim') if given['optim'] else None
  old_models.refuse_variant(given['model'])
  for name in (*_ROOMS, 'objective'):
    sections[name] = _room(given[name], name)
  datasets = _datasets(given, sections)
  evals = {
    name: _evaluation(section, name, _clip_of(section, datasets, sections['clip']))
    for name, section in given['evals'].items()
  }
  return Config(seed=given['seed'], datasets=datasets, evals=evals, plain=given, **sections)


def _datasets(given: dict[str, Any], sections: dict[str, Any]) -> dict[str, DatasetConfig]:
  """The entries of config.datasets over the defaults of data, clip and augment."""
  data, found = sections['data'], {}
  keys = [f.name for f in fields(DatasetConfig)]
  hints = typing.get_type_hints(DatasetConfig)
  for alias, entry in sorted((given.get('datasets') or {data.name: {}}).items()):
    where = f'datasets.{alias}'
    check_names(keys, entry, where)
    settings: dict[str, Any] = {
      'name': data.name, 'split': data.split, 'folder': data.folder, 'label_space': '',
      'videos_per_class': data.videos_per_class, 'share': None, **entry,
    }  # fmt: skip
    for name, kind in (('clip', ClipConfig), ('augment', AugmentConfig)):
      merged = {**vars(sections[name]), **entry.get(name, {})}
      settings[name] = _section(kind, merged, f'{where}.{name}')
    for name, value in settings.items():
      if name not in ('clip', 'augment'):
        check_type(f'config.{where}.{name}', value, hints[name])
    if settings['share'] is not None and settings['share'] <= 0:
      raise ValueError(f'config.{where}.share is {settings["share"]}; it must be above 0')
    if given.get('datasets') and not re.fullmatch(r'[\w-]+', alias):
      raise ValueError(
        f'config.datasets has the alias {alias!r}; it must be of letters, digits, _ and -'
      )
    found[alias] = DatasetConfig(**settings)
  return found


def check_mixture(datasets: Mapping[str, DatasetConfig]) -> None:
  """Raises ValueError for datasets whose clips cannot be in one batch."""
  shared = len({d.share is None for d in datasets.values()}) == 1
  if not shared:
    without = ', '.join(alias for alias, d in datasets.items() if d.share is None)
    raise ValueError(
      f'config.datasets: {without} has no share, others have: give all of them one, or none'
    )
  keys = ('num_frames', 'crop_size', 'num_repeats', 'repeat_distance')
  for key in keys:
    values = {alias: getattr(d.clip, key) for alias, d in datasets.items()}
    if len(set(values.values())) > 1:
      raise ValueError(
        f'config.datasets.ALIAS.clip.{key} is {values}; clips of one batch have one shape: set '
        'the same for all'
      )
  for key in ('device_frame_size', 'rand_augment', 'color_jitter', 'random_erasing'):
    values = {alias: getattr(d.augment, key) for alias, d in datasets.items()}
    on_device = any(d.augment.device_frame_size for d in datasets.values())
    if on_device and len(set(values.values())) > 1:
      raise ValueError(
        f'config.datasets.ALIAS.augment.{key} is {values}; where the accelerator augments '
        '(device_frame_size), it must be the same for all'
      )


def _section(kind: Callable[..., T], section: Mapping[str, Any], where: str) -> T:
  """kind(**section), its names and types checked."""
  known = {f.name: f for f in fields(kind)}
  check_names(list(known), section, where)
  lacking = [f.name for f in known.values() if f.default is MISSING and f.name not in section]
  if lacking:
    raise ValueError(f'config.{where} lacks {", ".join(lacking)}')
  hints = typing.get_type_hints(kind)
  for name, value in section.items():
    check_type(f'config.{where}.{name}', value, hints[name])
    if value is not None:
      _check_numbers(where, name, value)
  try:
    return kind(**section)
  except ValueError as error:  # names the key, not where the section stands in the config
    text = str(error)
    if text.startswith('config.'):
      raise
    inside = f'{where}.' if text.startswith(f'{where}.') else f'{where}: '
    raise ValueError(f'config.{inside}{text.removeprefix(inside)}') from error


def _check_numbers(where: str, name: str, value: Any) -> None:
  """Raises ValueError for a number outside its range, and for a tuple of a wrong order."""
  section, key = where.split('.')[-1], f'config.{where}.{name}'
  if section not in _RANGES or name not in _RANGES[section]:
    return
  check_range(key, value, *_RANGES[section][name])
  if name in _FROM_TO and value[0] > value[1]:
    raise ValueError(f'{key} is {value!r}, from and to; the first must not be above the second')


def _room(section: Mapping[str, Any], where: str) -> Room:
  if 'name' not in section:
    source = 'model of vjax.list_models()' if where == 'model' else f'file of vjax/{where}s/'
    raise ValueError(f'config.{where} has no key name: it says which {source} to use')
  own = ()  # keys that this model has, whatever older models called so
  if where == 'model' and section['name'] in registry.models():
    own = parameters(room_file(where, section['name']).Backbone)
  check_names(None, {key: x for key, x in section.items() if key not in own}, where)
  # A section of the model whose keys are all left open is {}.
  settings = {key: x for key, x in section.items() if key != 'name' and x != {}}
  return Room(section['name'], settings)


def _evaluation(section: Mapping[str, Any], name: str, clip: ClipConfig) -> EvalConfig:
  where, settings = f'evals.{name}', dict(_room(section, f'evals.{name}').settings)
  lacking = [key for key in ('num_clips', 'num_crops', 'batch_size') if key not in settings]
  if lacking:
    raise ValueError(f'config.{where} lacks {", ".join(lacking)}')
  batch_size, dataset = settings.pop('batch_size'), settings.pop('dataset', '')
  check_whole(f'config.{where}', 'batch_size', batch_size, 1)
  check_type(f'config.{where}.dataset', dataset, str)
  own = {key: settings.pop(key) for key in CLIP_KEYS if key in settings}
  views = _section(ViewsConfig, {**vars(clip), **own}, where)
  splits = {key: settings.pop(key) for key in list(settings) if key.endswith('split')}
  own_size = 'short_side' in own
  return EvalConfig(section['name'], dataset, views, batch_size, own_size, splits, settings)


def _clip_of(
  section: Mapping[str, Any], datasets: Mapping[str, DatasetConfig], default: ClipConfig
) -> ClipConfig:
  """Clips of the dataset that an evaluation names, which its own keys replace."""
  alias = section.get('dataset') or ''
  return datasets[alias].clip if alias in datasets else default


def renamed(path: Sequence[str]) -> str | None:
  """Today's name of a key that the first edition called otherwise: ('optim', 'rate') ->
  'learning_rate'; else None."""
  section, depth = path[0], 3 if path[0] == 'evals' else 2
  if section == 'datasets':
    section, depth = path[2] if len(path) == 4 else 'data', max(len(path), 3)
  return RENAMED.get(section, {}).get(path[-1]) if len(path) == depth else None


def check_names(known: Sequence[str] | None, section: Mapping[str, Any], where: str) -> None:
  """Raises ValueError for a key of the first edition, with its new name, and for an unknown one,
  with the nearest.

  known: names that there are; None = not known here, so that old names alone are errors.
  """
  for key in section:
    now = renamed((*where.split('.'), key))
    if now and key not in (known or ()):
      raise ValueError(f'config.{where}.{key} is called config.{where}.{now} now: rename it')
    if known is not None and key not in known:
      close = nearest(key, known)
      hint = f'did you mean {close!r}? ' if close else ''
      raise ValueError(
        f'config.{where} has the unknown key {key!r}: {hint}it takes {", ".join(sorted(known))}'
      )


def nearest(key: str, known: Sequence[str]) -> str | None:
  """The name that is most like `key`, as a whole or in one of its words: 'bach' -> 'batch_size';
  None where none is."""
  if _ALIASES.get(key) in known:
    return _ALIASES[key]
  whole = difflib.get_close_matches(key, known, n=1)
  words = {word: name for name in known for word in name.split('_')}
  part = difflib.get_close_matches(key, list(words), n=1)
  return whole[0] if whole else words[part[0]] if part else None


def check_flag(path: Sequence[str]) -> None:
  """Raises ValueError for `--config.<path>` of a key that no config has: renamed, or unknown in its
  section."""
  if now := renamed(path):
    old = '.'.join(path)
    raise ValueError(f'config.{old} is called config.{".".join((*path[:-1], now))} now')
  if tuple(path) == ('model', 'variant'):
    raise ValueError('config.model.variant: a model has one name now, give it as config.model.name')
  if len(path) == 2 and path[0] in _TYPED:
    check_names([f.name for f in fields(_TYPED[path[0]])], {path[1]: None}, path[0])


def check_type(where: str, value: Any, hint: Any) -> None:
  """Raises ValueError where a value is not of the type that a field is annotated with; a whole
  number is a float too."""
  if not _fits(value, hint):
    raise ValueError(f'{where} is {value!r}; it must be {_words(hint)}')


def check_settings(where: str, settings: Mapping[str, Any], function: Callable) -> None:
  """Raises ValueError for a setting that `function`, or the class, annotates with another type.
  Annotations beside numbers, strings, truth values and tuples and unions of them are not checked.
  """
  annotated = function.func if isinstance(function, functools.partial) else function
  hints = typing.get_type_hints(annotated.__init__ if inspect.isclass(annotated) else annotated)
  for name, value in settings.items():
    if name in hints and value is not None and _is_plain(hints[name]):
      check_type(f'config.{where}.{name}', value, hints[name])


def _is_plain(hint: Any) -> bool:
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType, tuple):
    return all(_is_plain(h) for h in arguments if h not in (types.NoneType, Ellipsis))
  return hint in (int, float, bool, str)


def _fits(value: Any, hint: Any) -> bool:
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return any(_fits(value, h) for h in arguments)
  if hint is float:
    return isinstance(value, int | float) and not isinstance(value, bool)
  if hint is int:
    return isinstance(value, int) and not isinstance(value, bool)
  if origin is tuple:
    if not isinstance(value, tuple):
      return False
    each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
    return len(each) == len(value) and all(map(_fits, value, each))
  return isinstance(value, hint)


def _words(hint: Any) -> str:
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return ' or '.join(_words(h) for h in arguments if h is not type(None))
  if origin is tuple:
    count = 'a tuple' if arguments[-1] is Ellipsis else f'a tuple of {len(arguments)}'
    return f'{count}, each {_words(arguments[0])}'
  return {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'a string'}[hint]


def parameters(function: Callable, facts: Sequence[str] = _FACTS) -> dict[str, inspect.Parameter]:
  """Arguments of a room's function or class that a config may set."""
  return {
    name: p for name, p in inspect.signature(function).parameters.items() if name not in facts
  }


def complete(config: Any) -> Any:
  """Adds every key that a ConfigDict leaves open, and locks it.

  A key whose default is a value gets it; one whose default is the model's row, or none, an empty
  typed placeholder.
  """
  for name, kind in _TYPED.items():
    if name == 'init' and name not in config:
      config[name] = {}
    if name in config and (name != 'optim' or len(config[name])):
      hints = typing.get_type_hints(kind)
      for field in fields(kind):
        if field.name not in config[name] and field.default is not MISSING:
          config[name][field.name] = (
            _open(hints[field.name]) if field.default is None else field.default
          )
  for section, what in _ROOMS.items():
    _complete_room(config[section], getattr(room_file(section, config[section].name), what))
  _complete_room(
    config.objective, registry.find('objectives', config.objective.name).OBJECTIVE.loss
  )
  if 'datasets' not in config:
    config.datasets = {}
  for section in config.datasets.values():
    _complete_section(section, DatasetConfig)
    for name, kind in (('clip', ClipConfig), ('augment', AugmentConfig)):
      if name not in section:
        section[name] = {}
      _complete_section(section[name], kind)
  views = {name: typing.get_type_hints(ViewsConfig)[name] for name in CLIP_KEYS}
  for section in config.evals.values():
    for name, hint in {**views, 'dataset': str}.items():
      if name not in section:
        section[name] = _open(hint)
    run = registry.find('evals', section.name).EVALUATION.run
    _complete_room(section, run, skip=('batches', 'split'))
  return config.lock()


def _complete_section(section: Any, kind: type) -> None:
  """Adds a typed placeholder for every field that is open, but for sections within."""
  for name, hint in typing.get_type_hints(kind).items():
    if name not in section and hint not in (ClipConfig, AugmentConfig):
      section[name] = _open(hint)


def room_file(section: str, name: str) -> types.ModuleType:
  """The file that a section's name stands for; of a model, that of its family."""
  if section == 'model':
    return registry.find_model(name)[0]
  return registry.find(f'{section}s', name)


def _complete_room(section: Any, function: Callable, skip: Sequence[str] = ()) -> None:
  hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
  for name, parameter in parameters(function).items():
    keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY or inspect.isclass(function)
    if (
      name not in section
      and keyword
      and not name.endswith(tuple(skip))
      and name not in ('name', 'remat')
    ):
      section[name] = _open(hints.get(name, Any))
    elif name in section and dataclasses.is_dataclass(hints.get(name)):
      section[name] = {**_open(hints[name]), **section[name]}


def _open(hint: Any) -> Any:
  """A placeholder of the type that an annotation names; of any type where it names several."""
  from ml_collections import config_dict

  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    rest = [h for h in arguments if h is not type(None)]
    return _open(rest[0]) if len(rest) == 1 else config_dict.placeholder(object)
  if dataclasses.is_dataclass(hint):
    return {f: _open(h) for f, h in typing.get_type_hints(hint).items()}
  if origin is not None and issubclass(origin, Sequence):
    return config_dict.placeholder(tuple)
  return config_dict.placeholder(hint if hint in (bool, int, float, str) else object)


def translate(config: Mapping[str, Any], schema: int) -> dict[str, Any]:
  """Returns a plain config of an older schema under today's names, with what was the default then.
  Up to schema 3 the run's seed chose the videos of `videos_per_class`."""
  result = _renamed(config) if schema < 3 else dict(config)
  data = result.get('data')
  if schema < 4 and isinstance(data, Mapping) and data.get('subset_seed') is None:
    entries = (data, *(result.get('datasets') or {}).values())
    if any(isinstance(entry, Mapping) and entry.get('videos_per_class') for entry in entries):
      result['data'] = {**data, 'subset_seed': result.get('seed', 0)}
  return result


def _renamed(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a plain config of schema 1 or 2 under today's names."""

  def rename(section: Mapping[str, Any], where: str) -> dict[str, Any]:
    names = RENAMED.get(where, {})
    if where == 'model':  # its sections are those of one of our models only
      names = {key: now for key, now in names.items() if key not in old_models.KEYS}
    return {
      names.get(k, k): _VALUES.get((where, k, v) if isinstance(v, str) else None, v)
      for k, v in section.items()
    }

  result = {
    name: rename(s, name) if isinstance(s, Mapping) and name != 'evals' else s
    for name, s in config.items()
  }
  if 'evals' in result:
    result['evals'] = {name: rename(section, 'evals') for name, section in result['evals'].items()}
  if 'model' in result:
    result['model'] = old_models.translate(result['model'], result.get('clip', {}))
  return result
