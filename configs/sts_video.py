"""Video stage of the image pre-training of video CNNs: fine-tuning from the image stage
(configs/sts_image.py), or training from scratch.  Li, Wei, Kim, Khanna, Yuille, Xie: In Defense of
Image Pre-Training for Spatiotemporal Recognition (ECCV 2022), tables 3, 4, 6 to 10, appendix B.

Expected: top-1 from scratch / from 300 epochs of images with STS, 50 epochs, X3D-S 100.
Kinetics-400 (table 3): slowonly 74.9 / 75.6, slowfast_4x16 75.6 / 76.2, slowfast_8x8 76.9 / 77.2,
r2plus1d 68.7 / 76.2, csn 73.6 / 76.7, x3d_s 73.2 / 73.5. Something-Something V2 (table 4), from
scratch / from images / the same with STS: slowonly 58.4 / 61.6 / 62.7, slowfast_4x16 49.9 / 55.8 /
57.2, r2plus1d 59.1 / 62.3 / 63.0, csn 57.5 / 60.4 / 61.4, x3d_s 51.9 / 57.0 / 58.3. Ablations
(tables 6 to 10) and both tables are studies: configs/studies/sts_ablations.py, sts_system.py.
Command:  python -m vjax.main --config=configs/sts_video.py:model=csn,conv=sts,init=IMAGES
          python -m vjax.main --config=configs/sts_video.py:model=csn,data=ssv2,init=IMAGES
          python -m vjax.main --config=configs/sts_video.py:model=csn,init=IMAGES,rule=inflation
          python -m vjax.main --config=configs/sts_video.py:model=slowfast_8x8,branch=slow,init=SLOW
          python -m vjax.main --config=configs/sts_video.py:model=r2plus1d
          python -m vjax.main --config=configs/sts_video.py:model=csn,tiny
Hardware: in the paper 4 GPUs; 76 (SlowOnly) to 216 GPU hours (CSN of 32 frames) for 50 epochs, with
images 258 to 401, from scratch 389 to 1106 (table 3).

IMAGES is a run of configs/sts_image.py with the same model, or released weights of images
(`python -m vjax.convert --source=sts`); SLOW is one of model=slowonly. conv may be another than
there. rule= says what becomes of kernels through time; the released config of SlowOnly on
Something-Something V2 has rule=rates_9_3_9. result.json has the images seen and the device hours of
both stages.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import common, sts_image
from vjax import registry
from vjax.config import complete

# Axis `rule`: init.rates of kernels of three frames, and whether STS's static outputs keep their
# side slices, which images train too. None: everything as the image stage left it.
RULES = {
  # The middle slice alone: every frame is answered like an image.
  'center': dict(rates=(0.0, 1.0, 0.0), keep_static=False),
  'sts': dict(rates=(0.0, 1.0, 0.0), keep_static=True),
  'inflation': dict(rates=(1 / 3, 1 / 3, 1 / 3), keep_static=False),
  'rates_3_3_9': dict(rates=(1 / 3, 1 / 3, 1 / 9), keep_static=False),
  'rates_9_3_9': dict(rates=(1 / 9, 1 / 3, 1 / 9), keep_static=False),
  # As released: side slices are random, but for the weight decay of the image stage, which shrinks
  # them to nothing in 100 epochs, not in short runs.
  'random': dict(),
}


class Recipe(NamedTuple):
  """Facts of a network's fine-tuning on Kinetics-400.

  Attributes:
    frames, stride: of a clip.
    learning_rate, batch: of a step.
    group: clips of a GPU, which share BatchNorm statistics.
    epochs: from images.
    crop, test: pixels of training and test crops.
    precise_bn: batches.
  """

  frames: int
  stride: int
  learning_rate: float
  batch: int
  group: int = 16
  epochs: float = 50.0
  crop: int = 224
  test: int = 256
  precise_bn: int = 200


# "per-GPU batch" of the released configs, times 4 GPUs, or 8 of SlowOnly.
KINETICS = {
  'slowonly': Recipe(8, 8, 0.02, 128),
  'slowfast_4x16': Recipe(32, 2, 0.01, 64),
  'slowfast_8x8': Recipe(32, 2, 0.01, 64),
  'r2plus1d': Recipe(8, 8, 0.01, 64),
  'csn': Recipe(32, 2, 0.01, 64, precise_bn=0),
  'x3d_s': Recipe(13, 6, 0.02, 128, group=32, epochs=100.0, crop=160, test=192),
}


def get_config(arg: str | None = None) -> ConfigDict:
  """Returns the config.

  Axes: model and conv as in configs/sts_image.py; data = k400, ssv2, or a folder of your own under
  data_dir, with Kinetics' recipe; frames = of a clip, 8, 16 or 32 (table 7), 0 = the recipe's;
  epochs = of the training, 0 = the recipe's; init = workdir of the image stage, or converted
  weights; rule = center, sts, inflation, rates_3_3_9, rates_9_3_9 or random: kernels through time
  at the start; branch = both, or slow: of SlowFast, what the image stage trained; tiny.
  """
  axes = common.parse_arg(
    arg, model='slowonly', conv='sts', data='k400', frames=0, epochs=0.0, init='', rule='center',
    branch='both',
  )  # fmt: skip
  recipe = common.choose('model', axes.model, KINETICS)
  ssv2, own = axes.data == 'ssv2', axes.data not in registry.names('data.datasets')
  config = ConfigDict()
  config.seed = 0
  group = 8 if ssv2 else recipe.group
  config.model = dict(**sts_image.network(axes.model, axes.conv), norm=dict(group_size=group))
  config.head = dict(name='linear', dropout=0.5, kernel_std=0.01)
  config.objective = dict(name='classify')
  batch, rate = (64, 0.1) if ssv2 else (recipe.batch, recipe.learning_rate)
  config.data = dict(name=axes.data, split='train', batch_size=batch, **common.IMAGENET_PIXELS)
  if own:
    config.data.update(name='custom', folder=axes.data)
  config.clip = _clip(axes, recipe, ssv2)
  config.augment = dict(
    crop='resized', area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), flip=0.0 if ssv2 else 0.5
  )
  epochs = 50.0 if ssv2 else recipe.epochs
  if not axes.init:  # from scratch: Kinetics' X3D and SlowFast of table 3 are published checkpoints
    epochs = 256.0 if axes.model == 'x3d_s' and not ssv2 else 100.0
  # The learning rate from scratch is not given: that of fine-tuning.
  config.optim = dict(
    name='sgd', base_batch_size=batch, learning_rate=rate, momentum=0.9, nesterov=False,
    weight_decay=1e-4, decayed='kernels' if axes.model == 'x3d_s' else 'all', clip_norm=40.0,
    schedule='cosine', end_lr=0.0, curve_from_start=True, once_an_epoch=True, warmup_factor=0.1,
    warmup_epochs=5.0, total_epochs=axes.epochs or epochs,
  )  # fmt: skip
  config.train = dict(
    dtype='bfloat16', log_steps=50, save_steps=1000, precise_bn=0 if ssv2 else recipe.precise_bn
  )
  config.init = start(axes)
  config.evals = {'test': _test(recipe, ssv2)}
  return complete(tiny(config, axes, own) if axes.tiny else config)


def _clip(arg: Any, recipe: Recipe, ssv2: bool) -> dict[str, Any]:
  frames = arg.frames or recipe.frames
  stride = recipe.stride * recipe.frames // frames  # the clip is as long in time
  if ssv2:
    frames = arg.frames or (32 if arg.model.startswith('slowfast') else 8)
    stride = 1
  common.choose('frames', frames, {count: count for count in (8, recipe.frames, 16, 32)})
  size = dict(crop_size=224 if ssv2 else recipe.crop, short_side=256)
  return dict(num_frames=frames, frame_stride=stride, sampling='tsn' if ssv2 else 'parts', **size)


def _test(recipe: Recipe, ssv2: bool) -> dict[str, Any]:
  size = 256 if ssv2 else recipe.test
  return dict(
    name='views', split='val', num_clips=1 if ssv2 else 10, num_crops=3, batch_size=16,
    crop_size=size, short_side=size, average='probabilities',
  )  # fmt: skip


def start(arg: Any) -> dict[str, Any]:
  """Returns config.init: everything of the image network but its classifier; of SlowFast with
  branch=slow a SlowOnly network for the slow pathway, whose inputs from the fast one start at zero.

  Raises ValueError for axes that do not go together.
  """
  rule = common.choose('rule', arg.rule, RULES)
  common.choose('branch', arg.branch, {'both': 0, 'slow': 0})
  alone = arg.branch == 'slow'
  if alone and not arg.model.startswith('slowfast'):
    raise ValueError(
      f'config argument branch=slow is for SlowFast, and model is {arg.model!r}: leave it out'
    )
  if not arg.init:
    if alone or arg.rule != 'center':
      raise ValueError(
        f'config argument rule={arg.rule!r}, branch={arg.branch!r}: they say how weights of images '
        'start a video network; name these by init=WORKDIR'
      )
    return {'path': ''}
  # X3D's layer before the classifier is kept; its bias in released image networks is left out by
  # the converter.
  skip = ('head/linear/.*',)
  if alone:
    skip = ('head/.*', r'backbone/fast_.*', r'backbone/lateral\d/.*')
  return {'path': arg.init, 'skip': skip, **rule, **({'inflate': 'center'} if alone else {})}


def tiny(config: ConfigDict, arg: Any, own_data: bool) -> ConfigDict:
  """Shrinks the recipe, for the motions of the built-in data or a folder of your own."""
  crop, frames = sts_image.TINY_CROP, arg.frames or 8
  config.model.update(**sts_image.tiny_network(arg.model), norm=dict(group_size=16))
  own = dict(name='custom', folder=config.data.folder) if own_data else {}
  config.data = {**common.TINY_DATA, **common.IMAGENET_PIXELS, 'batch_size': 32, **own}
  size = dict(crop_size=crop, short_side=crop * 9 // 8)
  config.clip = {**common.TINY_CLIP, **size, 'num_frames': frames}
  config.augment = {**common.TINY_AUGMENT, 'size': (crop * 9 // 8,) * 2}
  config.optim = {
    key: x for key, x in config.optim.items() if not key.startswith(('total_', 'warmup_epochs'))
  }
  config.optim.update(learning_rate=0.05, base_batch_size=32, total_steps=600, warmup_steps=60)
  precise = 20 if config.train.precise_bn else 0
  config.train = dict(dtype='float32', log_steps=50, save_steps=200, precise_bn=precise)
  config.evals = {'test': {**common.TINY_VIEWS, 'split': 'val' if own_data else 'test'}}
  return config
