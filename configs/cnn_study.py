"""CNNs of the unified framework: TSN, TAM, TSM, I3D, S3D and non-local networks on ResNet,
InceptionV1 and bLResNet; SlowFast.  Chen, Panda, Ramakrishnan, Feris, Cohn, Oliva, Fan: Deep
analysis of CNN-based spatio-temporal representations for action recognition (CVPR 2021), tables 2
to 5, 12, D.2 and D.3.

Expected: protocol=mini on half of the classes, one clip of the center: 62.6 (I3D-R50), 65.4
(TAM-R50) and 33.9 (TSN-R50) of 8 frames on Mini-SSV2; all 288 scores are in
vjax/analysis/chen2021_grid.csv. protocol=full, several clips: 76.6 / 62.8 (I3D-R50), 76.2 / 63.8
(TAM-R50) and 76.4 / 60.1 (SlowFast-R50 8x8) on Kinetics / Something-Something V2.
protocol=slowfast_ssv2: 63.0. protocol=transfer: 97.1 (UCF101), 72.3 (HMDB51), 96.4 (Jester) and
65.9 (Mini-SSV2) from I3D-R50.
Command:  python -m vjax.main --config=configs/cnn_study.py:model=I3D-R50-f8,data=ssv2,init=IMAGES
          python -m vjax.main --config=configs/cnn_study.py:model=I3D-R50-f16,data=ssv2,init=F8
          python -m vjax.main --config=configs/cnn_study.py:protocol=full,model=TAM-R50,init=IMAGES
          python -m vjax.main --config=configs/cnn_study.py:protocol=slowfast_ssv2,init=SLOWFAST_8X8
          python -m vjax.main --config=configs/cnn_study.py:protocol=transfer,data=FOLDER,init=K400
          python -m vjax.main --config=configs/cnn_study.py:tiny
IMAGES is an ImageNet network, `python -m vjax.convert --source=torchvision --variant=tsn_r50`; F8
the workdir of the run with half as many frames, whose every weight is taken. `test=` chooses the
evaluation: the clips of the paper's tables (video), one clip of the center (clip), or 1 to 10 clips
(clips, figures 5, 8 and 9; `python -m vjax.analysis.clips` draws them).
Hardware: in the paper 6 GPUs (mini, transfer) and 128 (full).

`data=` takes a name of vjax/data/datasets or a folder of your own. The paper's halves of the
classes are data=mini_k400 and data=mini_ssv2, read from the records of the whole sets, and
data=mini_mit. The durations of Kinetics' mini set are longer: a folder that holds it needs
schedule=kinetics.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import common
from vjax import registry
from vjax.config import complete

INCEPTION_PIXELS = dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # Chen et al.'s, as released
MODULES = (
  'tsn', 'tam', 'tam_dense', 'tsm', 'nln', 'i3d', 'i3d_se', 's3d', 's3d_dw', 'slowfast',
)  # fmt: skip
# Axis `backbone`: the end of the model's name.
BACKBONES = {
  'inception_v1': 'inception', 'resnet18': 'r18', 'resnet34': 'r34', 'resnet50': 'r50',
  'resnet101': 'r101', 'resnet152': 'r152', 'blresnet50': 'blresnet_50',
  'blresnet101': 'blresnet_101', 'blresnet152': 'blresnet_152',
}  # fmt: skip
# SlowFast by its backbone and the frames of the fast pathway. With 101 layers, 16x8 of the paper
# has temporal kernels in the first six blocks of res4 alone.
SLOWFAST = {
  ('resnet50', 32): 'slowfast_r50_8x8',
  ('resnet50', 64): 'slowfast_r50_16x8',
  ('resnet101', 32): 'slowfast_r101_8x8',
  ('resnet101', 64): 'slowfast_r101_16x8_50_50',
}
FRAMES = (8, 16, 32, 64)  # of the progressive training: each starts from the one before
PROTOCOLS = ('mini', 'full', 'slowfast_ssv2', 'transfer')
SAMPLINGS = ('uniform', 'dense', 'segments')
TESTS = ('clip', 'video', 'clips')
MINIATURES = ('motions', 'motions_appearance', 'domain_b_appearance')
# Axis `schedule`: epochs of 8 frames, epochs of more, and where their learning rate drops (tables
# 12 and D.3).
SCHEDULES = {
  'kinetics': (100.0, 45.0, (15.0, 30.0, 40.0)),
  'other': (75.0, 35.0, (10.0, 20.0, 30.0)),
}
# With a schedule each.
DATA = {
  'k400': 'kinetics', 'mini_k400': 'kinetics', 'ssv2': 'other', 'mini_ssv2': 'other',
  'mini_mit': 'other',
}  # fmt: skip


class Name(NamedTuple):
  """A name of the paper, taken apart; '' or 0 = not said.

  Attributes:
    module: of MODULES.
    backbone: of BACKBONES.
    pool: whether frames are pooled through time.
    frames: given to the network.
    data: 'k400' or 'ssv2'.
  """

  module: str
  backbone: str
  pool: bool = False
  frames: int = 0
  data: str = ''


_NAME = re.compile(
  r'((?P<data>k400|ssv2)-)?'
  r'(?P<module>tsn|tam|tam-dense|conv|tsm|nln|i3d|s3d|s3d-dw|sf|slowfast)-'
  r'(?P<se>se-)?'
  r'(?P<backbone>(bl)?resnet|r|inception|inceptionv1|inception-v1|incv1)-?(?P<depth>\d+)?'
  r'(?P<pool>-tp|-ts(-max)?)?'
  r'(-(?P<slow>4x16|8x8|16x8))?'
  r'(-f?(?P<frames>\d+))?'
)
_BLVNET = re.compile(r'blvnet-tam-(?P<depth>\d+)(-a2-b4)?(-f(?P<pairs>\d+)x2)?')


def parse_name(text: str) -> Name:
  """Returns the parts of a model's name in the paper or in a released file.

  'I3D-R50-tp', 'i3d-resnet50-tp', 'TAM-InceptionV1-f16', 'K400-I3D-ResNet-50-f32', 'SF-R50-8x8',
  'I3D-SE-R50', 'Conv-R50' (table 5; the dense TAM), 'bLVNet-TAM-50-a2-b4-f8x2'. Case, spaces and
  underscores do not matter. Raises ValueError for another name.
  """
  low = re.sub(r'[\s_]+', '-', text.strip().lower()).replace('×', 'x')
  if found := _BLVNET.fullmatch(low):
    return Name('tam', f'blresnet{found["depth"]}', frames=2 * int(found['pairs'] or 0))
  found = _NAME.fullmatch(low)
  inception = found is not None and found['backbone'].startswith('inc')
  if found is None or inception == bool(found['depth']):
    raise ValueError(
      f'config argument model={text!r} is no name of the paper: write '
      'MODULE-BACKBONE[-tp][-fFRAMES] as in I3D-R50-tp-f8, TAM-InceptionV1, SF-R50-8x8, '
      'K400-I3D-ResNet-50-f32 or bLVNet-TAM-50-a2-b4-f8x2; or give the axes module and backbone'
    )
  module = {'sf': 'slowfast', 'conv': 'tam_dense'}.get(found['module'], found['module'])
  module = module.replace('-', '_') + ('_se' if found['se'] else '')
  kind = 'blresnet' if found['backbone'] == 'blresnet' else 'resnet'
  frames = int(found['frames'] or 0)
  if found['slow']:
    slow, stride = map(int, found['slow'].split('x'))
    frames = slow * stride // 2
  return Name(
    module,
    'inception_v1' if inception else f'{kind}{found["depth"]}',
    bool(found['pool']),
    frames,
    found['data'] or '',
  )


def model_name(module: str, backbone: str, pool: bool, frames: int) -> str:
  """Returns the name in `vjax.list_models()`. Raises ValueError naming the axes for a network that
  does not exist."""
  common.choose('module', module, {x: x for x in MODULES})
  end = common.choose('backbone', backbone, BACKBONES)
  if module == 'slowfast':
    name = '' if pool else SLOWFAST.get((backbone, frames), '')
  elif end.startswith('blresnet'):
    name = '' if pool or module not in ('tsn', 'tam') else end
  else:
    name = f'{module}{"_tp" if pool else ""}_{end}'
  if name not in registry.models():
    raise ValueError(
      f'config argument module={module!r}, backbone={backbone!r}, pool={pool}, frames={frames}: '
      'there is no such network; inception_v1 has no nln or i3d_se, resnet18 no nln, i3d_se and '
      'blresnet have no pool, blresnet has tsn and tam alone, and slowfast is on resnet50 or '
      'resnet101 with 32 or 64 frames'
    )
  return name


def get_config(arg: str | None = None) -> ConfigDict:
  """Returns the config.

  Axes: model = a name of the paper, such as I3D-R50-tp-f8, in place of module, backbone, pool and
  frames; module = tsn, tam, tam_dense, tsm, nln, i3d, i3d_se, s3d, s3d_dw or slowfast; backbone =
  inception_v1, resnet18 to resnet152, or blresnet50 to blresnet152; pool = frames are pooled
  through time; frames = 8, 16, 32 or 64; data = dataset, or a folder of yours under data_dir;
  protocol = mini (table D.3), full (table D.2), slowfast_ssv2 or transfer; sampling = uniform,
  dense or segments; schedule = kinetics or other, of the protocol mini; test = clip, video or
  clips; init = checkpoint to start from; tiny.
  """
  axes = common.parse_arg(
    arg, model='', module='', backbone='', pool=False, frames=0, data='', protocol='mini',
    sampling='', schedule='', test='', init='',
  )  # fmt: skip
  common.choose('protocol', axes.protocol, {x: x for x in PROTOCOLS})
  name = _name(axes)
  data = axes.data or name.data or ('ssv2' if axes.protocol == 'slowfast_ssv2' else 'k400')
  if axes.protocol == 'slowfast_ssv2' and (name.module, data) != ('slowfast', 'ssv2'):
    raise ValueError(
      f'config argument protocol=slowfast_ssv2 is for module=slowfast and data=ssv2, but they are '
      f'{name.module!r} and {data!r}: give protocol=full'
    )
  config = ConfigDict()
  config.seed = 0
  model = model_name(name.module, name.backbone, name.pool, name.frames)
  config.model = dict(name=model)
  config.head = _head(name)
  config.objective = dict(name='classify')
  config.data = dict(name=data, split='train', batch_size=1, **_pixels(name))
  own = data not in registry.names('data.datasets')
  if own:
    config.data.update(name='custom', folder=data)
  sampling = axes.sampling or _sampling(axes.protocol, data)
  common.choose('sampling', sampling, {x: x for x in SAMPLINGS})
  config.clip = dict(
    num_frames=name.frames,
    frame_stride=2 if sampling == 'dense' and axes.protocol != 'mini' else 1,
    crop_size=224, short_side=224, sampling=sampling,
  )  # fmt: skip
  config.train = dict(dtype='bfloat16', log_steps=50, save_steps=500)
  schedule = axes.schedule or DATA.get(data, 'other' if own else '')
  if not schedule and axes.protocol == 'mini':
    raise ValueError(
      f'config argument data={data!r}: the paper has no durations for it; give '
      'schedule=kinetics or schedule=other'
    )
  schedule = common.choose('schedule', schedule or 'other', SCHEDULES)
  recipe = {'mini': _mini, 'full': _full, 'slowfast_ssv2': _slowfast_ssv2, 'transfer': _transfer}
  recipe[axes.protocol](config, name, schedule)
  config.init = _init(axes, name)
  config.evals = _evals(axes, name, data, sampling)
  if axes.protocol == 'mini':
    # DIFFERS(paper): as in the authors' code, the best checkpoint of the validation set is kept;
    # the paper does not say which one counts.
    config.train.update(eval_epochs=1.0, keep_best=f'{next(iter(config.evals))}/top1')
  return complete(tiny(config, name, own, axes.sampling) if axes.tiny else config)


def _name(arg: Any) -> Name:
  """Returns the network that `model`, or the axes in place of it, name; open axes get the
  protocol's network."""
  given = [axis for axis in ('module', 'backbone', 'pool') if arg[axis]]
  if arg.model and given:
    raise ValueError(
      f'config argument model={arg.model!r} and {", ".join(given)}: give the name or the axes'
    )
  slowfast = arg.protocol == 'slowfast_ssv2'
  name = Name(
    arg.module or ('slowfast' if slowfast else 'i3d'), arg.backbone or 'resnet50', arg.pool
  )
  if arg.model:
    name = parse_name(arg.model)
  if arg.frames and name.frames not in (0, arg.frames):
    raise ValueError(
      f'config argument model={arg.model!r} has {name.frames} frames, but frames={arg.frames}: '
      'leave one out'
    )
  default = 64 if slowfast else 8 if arg.protocol == 'mini' and name.module != 'slowfast' else 32
  return name._replace(frames=arg.frames or name.frames or default)


def _sampling(protocol: str, data: str) -> str:
  if protocol == 'slowfast_ssv2':
    return 'segments'
  return 'uniform' if protocol == 'mini' or data in ('ssv2', 'mini_ssv2') else 'dense'


def _pixels(name: Name) -> dict[str, Any]:
  if name.module == 'slowfast':
    return common.KINETICS_PIXELS
  return INCEPTION_PIXELS if name.backbone == 'inception_v1' else common.IMAGENET_PIXELS


def _head(name: Name) -> dict[str, Any]:
  """Returns the classifier: of every frame by itself, averaged; of SlowFast, of the whole clip."""
  if name.module == 'slowfast':
    # Test crops of 256 px: probabilities of 7 x 7 windows of 8 x 8 maps are averaged (PySlowFast).
    return dict(name='linear', dropout=0.5, kernel_std=0.01, window=(0, 7, 7))
  if name.backbone.startswith('blresnet'):
    return dict(name='linear', dropout=0.5, window=(1, 0, 0), average='logits')
  # DIFFERS(code): 2D networks start their classifier uniform within 1 / sqrt(width), 3D ones as
  # N(0, 0.001^2); here both as the latter.
  return dict(name='linear', dropout=0.5, kernel_std=0.001, window=(1, 0, 0), average='logits')


def _sgd(config: ConfigDict, batch: int, group: int, **settings: Any) -> None:
  """Sets batch, BatchNorm's group (0 = the batch), and momentum SGD that decays every parameter, as
  the authors' code does."""
  config.data.batch_size = batch
  config.model.norm = dict(group_size=group)
  config.optim = {
    'name': 'sgd', 'base_batch_size': batch, 'momentum': 0.9, 'nesterov': False, 'decayed': 'all',
    'warmup_epochs': 0.0, **settings,
  }  # fmt: skip


def _mini(config: ConfigDict, name: Name, schedule: tuple[float, float, tuple[float, ...]]) -> None:
  """Table D.3, and table 12's first columns: cosine at 8 frames, steps for more."""
  short, long, drops = schedule
  config.augment = dict(crop='multiscale', flip=0.5)
  # DIFFERS(code): the learning rate of a cosine changes at every step, there once an epoch.
  if name.frames == FRAMES[0]:
    cosine = dict(schedule='cosine', end_lr=0.0, total_epochs=short)
    _sgd(config, 72, 12, learning_rate=0.01, weight_decay=5e-4, **cosine)
  else:
    steps = dict(schedule='step', factor=0.1, boundary_epochs=drops, total_epochs=long)
    _sgd(config, 36, 0, learning_rate=0.01, weight_decay=5e-4, **steps)


def _full(config: ConfigDict, name: Name, schedule: Any) -> None:
  """Table D.2, and table 12's column of the full sets: 196 epochs of 1024 videos a step."""
  config.augment = dict(crop='jitter', short_side=(256, 320), flip=0.5)
  _sgd(
    config, 1024, 8, learning_rate=1.6, warmup_start_lr=0.01, warmup_epochs=34.0, weight_decay=1e-4,
    schedule='cosine', end_lr=0.0, total_epochs=196.0,
  )  # fmt: skip
  if name.module == 'slowfast':
    # PySlowFast's: no decay of BatchNorm; its cosine counts from the first step.
    config.optim.update(nesterov=True, decayed='kernels', curve_from_start=True)


def _transfer(config: ConfigDict, name: Name, schedule: Any) -> None:
  """Table 12's column of table 4: 45 epochs from weights of Kinetics."""
  config.augment = dict(crop='multiscale', flip=0.5)
  cosine = dict(schedule='cosine', end_lr=0.0, total_epochs=45.0)
  _sgd(config, 48, 0, learning_rate=0.01, weight_decay=5e-4, **cosine)


def _slowfast_ssv2(config: ConfigDict, name: Name, schedule: Any) -> None:
  """PySlowFast's configs/SSv2/SLOWFAST_16x8_R50.yaml: 22 epochs from Kinetics' 8x8.

  DIFFERS(code): BatchNorm's statistics are not computed again before an evaluation.
  """
  config.augment = dict(crop='jitter', short_side=(256, 320), inverse=True, flip=0.0)
  _sgd(
    config, 16, 8, learning_rate=0.03, warmup_start_lr=1e-4, warmup_epochs=0.19, weight_decay=1e-6,
    schedule='step', factor=0.1, boundary_epochs=(14.0, 18.0), total_epochs=22.0,
  )  # fmt: skip
  config.optim.update(nesterov=True, decayed='kernels')


def _init(arg: Any, name: Name) -> dict[str, Any]:
  """Returns config.init: all weights of the run with half the frames, or an image network's, or a
  video network's without its classifier."""
  if not arg.init or (arg.protocol == 'mini' and name.frames > FRAMES[0]):
    return {'path': arg.init}
  init = common.warm_start(arg.init)
  if arg.protocol in ('mini', 'full') and name.module != 'slowfast':
    init['skip'] += new_parts(name.module, name.backbone)
    if name.module in ('i3d', 'i3d_se', 's3d', 's3d_dw'):
      # The kernel is repeated, not divided by the frames: never evaluate before training.
      init['inflate'] = 'repeat'
  return init


def new_parts(module: str, backbone: str) -> tuple[str, ...]:
  """Returns patterns of the parameters and statistics that an image network does not have."""
  inception, basic = backbone == 'inception_v1', backbone in ('resnet18', 'resnet34')
  block = r'backbone/res\d/block\d+'
  if module in ('tam', 'tam_dense'):
    if backbone.startswith('blresnet'):
      return (r'backbone/(.*/)?mix/kernel',)
    return (r'backbone/tam\w+/kernel' if inception else f'{block}/mix/kernel',)
  if module in ('s3d', 's3d_dw'):
    if inception:
      return (r'backbone/.*/(conv|norm)_t/.*',)
    # The norm between the halves of a convolution takes the image network's.
    return rf'{block}/conv\d/temporal/kernel', f'{block}/norm{"[12]" if basic else "2"}/.*'
  return {'nln': (r'backbone/res\d/nonlocal\d+/.*',), 'i3d_se': (f'{block}/se/.*',)}.get(module, ())


def _evals(arg: Any, name: Name, data: str, sampling: str) -> dict[str, dict[str, Any]]:
  """Returns config.evals. Logits are averaged over views, of SlowFast probabilities."""
  test = common.choose(
    'test', arg.test or ('clip' if arg.protocol in ('mini', 'slowfast_ssv2') else 'video'),
    {x: x for x in TESTS},
  )  # fmt: skip
  average = 'probabilities' if name.module == 'slowfast' else 'logits'
  one = dict(
    name='views', split='val', num_clips=1, num_crops=1, batch_size=16, average=average,
    crop_places='quarters',
  )  # fmt: skip
  whole = {'crop_size': 256, 'short_side': 256}
  if arg.protocol == 'slowfast_ssv2':
    one = {**one, **whole, 'crop_places': 'ends'}
  if test == 'clip':
    return {'clip': one}
  if arg.protocol == 'mini':
    wide, clips = one, 10
  else:  # 3 x 10 with dense clips, 3 x 2 with uniform ones
    wide, clips = {**one, **whole, 'num_crops': 3}, 10 if sampling == 'dense' else 2
  if test == 'video':
    return {'video': {**wide, 'num_clips': clips, 'save_predictions': True}}
  return {f'clips_{m}': {**wide, 'num_clips': m, 'save_predictions': True} for m in range(1, 11)}


def progressive(
  workdir: str, arg: str, init: str = '', name: str = ''
) -> Iterator[tuple[str, ConfigDict]]:
  """Yields (name, config) of 8, 16, 32 and 64 frames, each from the run before. A study's `runs`
  may yield from this.

  Args:
    workdir: of the study.
    arg: of `get_config`, without frames and init.
    init: an image network for the first.
    name: of the runs, without the frames; '' = by arg.
  """
  start, begin = init, name or re.sub('[^a-zA-Z0-9]+', '_', arg)
  for frames in FRAMES:
    run = f'{begin}_f{frames}'
    yield run, get_config(f'{arg},frames={frames}' + (f',init={start}' if start else ''))
    start = f'{workdir}/{run}'


def tiny(config: ConfigDict, name: Name, own_data: bool, sampling: str = '') -> ConfigDict:
  """Shrinks a recipe to an eighth of the width, on the built-in data or a folder of your own; its
  clips are uniform where the axis `sampling` is open."""
  frames, augment = config.clip.num_frames, dict(common.TINY_AUGMENT)
  config.model.update(width=0.125, norm=dict(group_size=16))
  data = dict(name='custom', folder=config.data.folder) if own_data else {}
  pixels = dict(mean=config.data.mean, std=config.data.std)
  config.data = {**common.TINY_DATA, **pixels, 'batch_size': 32, **data}
  config.clip = {**common.TINY_CLIP, 'num_frames': frames}
  if sampling:
    config.clip.sampling = sampling
  config.augment = augment
  if name.module == 'slowfast':  # its maps are smaller than a window
    config.head = {key: x for key, x in _head(name).items() if key != 'window'}
  durations = ('total_', 'warmup_', 'boundary_')
  config.optim = {key: x for key, x in config.optim.items() if not key.startswith(durations)}
  steps = dict(boundary_steps=(300, 500)) if config.optim.schedule == 'step' else {}
  config.optim.update(
    learning_rate=0.05, base_batch_size=32, total_steps=600, warmup_steps=60, warmup_start_lr=1e-3,
    **steps,
  )  # fmt: skip
  config.train = dict(dtype='float32', log_steps=50, save_steps=250)
  split = 'val' if own_data else 'test'
  config.evals = {
    key: {
      **common.TINY_VIEWS,
      'split': split,
      'num_clips': entry.num_clips,
      'average': entry.average,
    }
    for key, entry in config.evals.items()
  }
  return config


def miniature(arg: str, data: str, seed: int, steps: int) -> ConfigDict:
  """Returns a training of a minute on two cores, for studies in miniature: a ResNet of four blocks,
  8 to 64 channels wide, on crops of 40 px of a label space of the built-in data.

  Args:
    arg: of `get_config`; the network is a ResNet.
    data: a built-in dataset, 'motions' or 'domain_b_appearance'.
    seed: of everything random.
    steps: of 16 clips.
  """
  common.choose('data', data, {name: name for name in MINIATURES})
  config = get_config(f'tiny,backbone=resnet18,{arg}')
  config.seed = seed
  with config.unlocked():
    config.model.update(depths=(1, 1, 1, 1), norm=dict(group_size=0))
    config.head.update(dropout=0.0, kernel_std=0.01)
    config.data.update(name=data, batch_size=16)
    config.clip.update(crop_size=40, short_side=44)
    config.augment.size = (44, 44)
    # At 0.1 TAM learns sooner, but I3D nothing in 300 steps; with AdamW TAM is far behind.
    config.optim.update(
      learning_rate=0.05, base_batch_size=16, total_steps=steps, warmup_steps=steps // 10
    )
    config.train.save_steps = steps
  return config
