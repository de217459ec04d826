"""Image stage of the image pre-training of video CNNs: a 3D network on images, clips of one frame.
Li, Wei, Kim, Khanna, Yuille, Xie: In Defense of Image Pre-Training for Spatiotemporal Recognition
(ECCV 2022), sections 3.2 and 4.1, tables 8 and 10, appendices B.1 and B.2.

Expected: top-1 on ImageNet's validation set: recipe=100 (table 10), CSN-50: 76.6 (conv=plain and
conv=no_split), 77.1 (sts), 76.8 (sts_1_2), 77.2 (sts_2_1). recipe=300, the released weights
(conv=plain): 79.9 (slowonly), 79.9 (slowfast_4x16), 79.1 (slowfast_8x8), 79.6 (r2plus1d),
78.8 (csn), 74.8 (x3d_s).
Command:  python -m vjax.main --config=configs/sts_image.py:model=csn,conv=sts,recipe=100
          python -m vjax.main --config=configs/sts_image.py:model=slowonly,recipe=300
          python -m vjax.main --config=configs/sts_image.py:model=csn,data=tfds:imagenet2012
          python -m vjax.main --config=configs/sts_image.py:model=csn,data=k400
          python -m vjax.main --config=configs/sts_image.py:model=csn,tiny
Hardware: in the paper 4 GPUs; 121 (X3D-S) to 237 GPU hours (SlowFast) for 300 epochs (table 3).

The run is the start of the video stage, configs/sts_video.py:init=WORKDIR. With data=k400, or
another set of videos, a random frame of a video is an image with the video's label, and the
training sees as many images as the epochs of ImageNet have (table 8). The moving average of the
parameters is off in the paper: --config.train.ema_decay=0.9999 turns it on.
"""

import math
from typing import Any

from ml_collections import ConfigDict

from configs import common
from vjax import registry
from vjax.config import complete

# Axis `model`. The names of weights are the same with STS convolutions and without.
MODELS = {
  'slowonly': 'sts_slow_r50',  # "ResNet50-3x1x1" of the paper's ablations
  'slowfast_4x16': 'sts_slowfast_r50_4x16',
  'slowfast_8x8': 'sts_slowfast_r50_8x8',
  'r2plus1d': 'sts_r2plus1d_r34',
  'csn': 'sts_ir_csn_r50',  # "ResNet50-3x3x3"
  'x3d_s': 'sts_x3d_s',
}
# Axis `conv`: settings of layers.settings.STS. The dilated ones are for kernels of 3x3x3.
CONVS = {
  'plain': dict(variant=''),
  'sts': dict(variant='sts'),
  'sts_1_2': dict(variant='sts', ratio=(1, 2)),
  'sts_2_1': dict(variant='sts', ratio=(2, 1)),
  'no_split': dict(variant='no_split'),
  'dilated_2': dict(variant='dilated', dilation=2),
  'dilated_3': dict(variant='dilated', dilation=3),
}
RECIPES = (100, 150, 300)  # epochs
IMAGES = 1_281_167  # of ImageNet's training set
GROUP = 256  # images of a GPU, which share BatchNorm statistics and the weights of mixing
TINY_CROP = 64  # a multiple of 32, which lines of STS convolutions end to end need


def get_config(arg: str | None = None) -> ConfigDict:
  """Returns the config.

  Axes: model = slowonly, slowfast_4x16, slowfast_8x8, r2plus1d, csn or x3d_s; conv = plain, sts,
  sts_1_2, sts_2_1 (static to dynamic outputs), no_split, dilated_2 or dilated_3; recipe = 100, 150
  or 300 epochs; data = imagenet, a dataset of videos, tfds:NAME, or a folder of your own under
  data_dir; tiny.
  """
  axes = common.parse_arg(arg, model='slowonly', conv='plain', recipe=100, data='imagenet')
  epochs = common.choose('recipe', axes.recipe, {count: count for count in RECIPES})
  config = ConfigDict()
  config.seed = 0
  # Residual branches do not start as zero.
  config.model = dict(
    **network(axes.model, axes.conv), zero_last=False, norm=dict(group_size=GROUP)
  )
  config.head = dict(name='linear')
  config.data = dict(name='imagenet', split='train', batch_size=1024, **common.IMAGENET_PIXELS)
  own = axes.data not in registry.names('data.datasets')
  config.data.update(dict(name='custom', folder=axes.data) if own else dict(name=axes.data))
  config.clip = dict(
    num_frames=1, frame_stride=1, crop_size=224, short_side=256, sampling='consecutive'
  )
  # RandAugment and mixing of the 100 and 150 epochs are named in the paper without their values:
  # these are those of the 300 epochs, as released.
  config.objective = dict(name='classify', mixup=0.1, cutmix=1.0, mix_switch=0.5, mix_group=GROUP)
  config.augment = dict(
    crop='resized', area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), flip=0.5, rand_augment=2,
    magnitude=7.0, magnitude_std=0.5, interpolation='bicubic',
  )  # fmt: skip
  config.train = dict(dtype='bfloat16', log_steps=50, save_steps=500)
  if epochs < 300:
    _sgd(config)
  else:
    _lamb(config, axes.model)
  config.optim.update(total_epochs=float(epochs), warmup_epochs=5.0)
  config.evals = {
    'test': _test(0.875),
    'test_95': _test(0.95),  # of released recipes, while they train
  }
  if axes.data != 'imagenet' and not own:  # videos: as many images as in the epochs of ImageNet
    config.optim.update(total_epochs=None, warmup_epochs=None)
    config.optim.update(total_clips=float(epochs * IMAGES), warmup_clips=5.0 * IMAGES)
  return complete(tiny(config, axes, own) if axes.tiny else config)


def network(model: str, conv: str) -> dict[str, Any]:
  """Returns name and convolutions of config.model. Raises ValueError naming the axes."""
  sts = common.choose('conv', conv, CONVS)
  if conv.startswith('dilated') and model not in ('csn', 'x3d_s'):
    raise ValueError(
      f'config argument conv={conv!r} is for kernels of 3x3x3, and model={model!r} has none: give '
      'model=csn or model=x3d_s'
    )
  return dict(name=common.choose('model', model, MODELS), sts=sts)


def test_side(crop: int, share: float) -> int:
  """Returns the short side of frames of which a crop is `share`, rounded down as timm does."""
  return math.floor(crop / share)


def _test(share: float) -> dict[str, Any]:
  return dict(
    name='views', split='val', num_clips=1, num_crops=1, batch_size=256, interpolation='bicubic',
    short_side=test_side(224, share),
  )  # fmt: skip


def _sgd(config: ConfigDict) -> None:
  """100 and 150 epochs (section 4.1). The value of label smoothing is not given."""
  config.objective.label_smoothing = 0.1
  config.optim = dict(
    name='sgd', base_batch_size=1024, learning_rate=0.4, warmup_start_lr=1e-6, momentum=0.9,
    nesterov=False, weight_decay=1e-4, schedule='cosine', end_lr=0.0, curve_from_start=True,
  )  # fmt: skip


def _lamb(config: ConfigDict, model: str) -> None:
  """300 epochs: the recipe A2 of Wightman et al. 2021, as released with the paper.

  DIFFERS(code): there, stochastic depth acts on projected shortcuts alone, by mistake, and the stem
  of R(2+1)D stays random. Images are 2048 a step in A2 (the paper's number of GPUs is unknown),
  which three copies do not divide: here 2304, at the learning rate for 2048.
  """
  config.objective.multi_label = True  # binary cross-entropy, mean over classes
  config.model.drop_path = 0.0 if model.startswith(('slowfast', 'x3d')) else 0.05
  config.data.batch_size = 3 * GROUP
  config.clip.update(num_repeats=3, repeat_distance=GROUP)
  config.optim = dict(
    name='lamb', base_batch_size=3 * GROUP, learning_rate=5e-3, warmup_start_lr=5e-6, b1=0.9,
    b2=0.999, eps=1e-6, weight_decay=0.02, clip_norm=1.0, schedule='cosine', end_lr=1e-6,
    curve_from_start=True, once_an_epoch=True,
  )  # fmt: skip


def tiny_network(model: str) -> dict[str, Any]:
  """Returns the settings of config.model that make a network small: one block a stage, an eighth of
  the width. The video stage has the same."""
  return dict(width=0.125, **(dict(deep=0.2) if model == 'x3d_s' else dict(depths=(1, 1, 1, 1))))


def tiny(config: ConfigDict, arg: Any, own_data: bool) -> ConfigDict:
  """Shrinks the recipe, for the appearance labels of domain B of the built-in data, which few steps
  can learn, or a folder of your own."""
  group, repeats = 16, config.clip.get('num_repeats', 1)
  config.model.update(**tiny_network(arg.model), norm=dict(group_size=group))
  own = dict(name='custom', folder=config.data.folder) if own_data else {}
  config.data = {
    **common.TINY_DATA, **common.IMAGENET_PIXELS, 'name': 'domain_b_appearance',
    'batch_size': 32 if repeats == 1 else group, **own,
  }  # fmt: skip
  config.objective.update(mixup=0.0, cutmix=0.0, mix_group=group)
  config.clip.update(crop_size=TINY_CROP, short_side=72)
  if repeats > 1:
    config.clip.repeat_distance = group
  # A random window that has most of the frame, and no heavier variation: few steps.
  config.augment.update(area=(0.8, 1.0), rand_augment=0)
  config.optim = {
    key: x for key, x in config.optim.items() if not key.startswith(('total_', 'warmup_'))
  }
  rate = dict(learning_rate=5e-3) if config.optim.name == 'lamb' else dict(learning_rate=0.05)
  config.optim.update(
    **rate, base_batch_size=config.data.batch_size, total_steps=600, warmup_steps=60,
    warmup_start_lr=1e-5,
  )  # fmt: skip
  config.train = dict(dtype='float32', log_steps=50, save_steps=200)
  split = 'val' if own_data else 'test'
  views = {**common.TINY_VIEWS, 'split': split, 'num_clips': 1, 'interpolation': 'bicubic'}
  config.evals = {'test': {**views, 'short_side': test_side(TINY_CROP, 0.875)}}
  return config
