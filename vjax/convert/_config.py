"""Configs of converted checkpoints: the config of a run that only predicts, in the form
that `build` reads.

What neither the weights nor their source tell is None: using it is an error that names the flag of
`vjax.convert`.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vjax import old_models, registry
from vjax.data.class_list import read_classes
from vjax.models import mvit
from vjax.types import VideoModel

Pixels = tuple[tuple[float, ...], tuple[float, ...]]
KINETICS = ((0.45,) * 3, (0.225,) * 3)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
VMZ = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
HALF = ((0.5,) * 3, (0.5,) * 3)
UNKNOWN = (None, None)
STRIDE = 32  # of the maps that are pooled, in px
CLIP = (
  'num_frames',
  'frame_stride',
  'crop_size',
  'short_side',
  'sampling',
)  # of config.clip; flags of `vjax.convert`
SQUEEZED = {
  'crop': 'fixed',
  'size': (128, 171),
  'flip': 0.0,
}  # frames of 128x171 px whatever their aspect
RESIZED = {'crop': 'resized', 'flip': 0.0}


@dataclass(frozen=True)
class Preprocessing:
  """Preprocessing of videos by a source's test code.

  Attributes:
    source: of weights.
    models: name of a model, or file of vjax/models; '' = all models of the source.
    pixels: mean and deviation of RGB in [0, 1]; UNKNOWN where files of one model differ.
    clip: known keys of config.clip.
    augment: config.augment, whose 'fixed' size tests use too.
    average: of views, 'probabilities' or 'logits'.
    window: side of the windows, in positions of the maps, whose means the classifier is given one
      by one where a test crop has room for several; 0 = it is given the mean of the whole map.
    of_windows: average over the windows, 'probabilities' or 'logits'.
    classes: number of classes of the weights that the row is for, None = any.
  """

  source: str
  models: str
  pixels: Pixels | tuple[None, None]
  clip: dict[str, Any] = field(default_factory=dict)
  augment: dict[str, Any] = field(default_factory=lambda: dict(RESIZED))
  average: str = 'probabilities'
  window: int = 0
  of_windows: str = 'probabilities'
  classes: int | None = None

  def head(self, crop: int | None) -> dict[str, Any]:
    """Settings of heads.linear.Head for test crops of `crop` px, None = not known."""
    if not self.window or crop is None or -(-crop // STRIDE) <= self.window:
      return {}
    return {'window': (0, self.window, self.window), 'average': self.of_windows}


_LINSPACE = {'sampling': 'linspace'}
_VMZ_CLIP = {'frame_stride': 1, 'crop_size': 112, 'short_side': 128, 'sampling': 'consecutive'}
_VMZ_CSN = {'frame_stride': 2, 'crop_size': 224, 'short_side': 256, 'sampling': 'consecutive'}
_IBM_K400 = {
  'num_frames': 32,
  'frame_stride': 2,
  'crop_size': 256,
  'short_side': 256,
  'sampling': 'dense',
}
_IBM = {'sampling': 'uniform'}
_SIDES = {'crop_size': 224, 'short_side': 256}
TABLE = (  # the first row that fits is taken
  Preprocessing('slowfast', 'mvit_v2_l_40x3', IMAGENET, _LINSPACE),
  # PySlowFast's and PyTorchVideo's heads pool as many positions as the training crop has. In
  # PySlowFast (models/head_helper.py) their softmax is averaged; in PyTorchVideo (models/head.py,
  # models/hub/) that of CSN, R(2+1)D and X3D, and of the others the scores.
  Preprocessing('slowfast', 'slow', KINETICS, _LINSPACE, window=7),
  Preprocessing('slowfast', 'slowfast', KINETICS, _LINSPACE, window=7),
  Preprocessing('slowfast', 'x3d_xs', KINETICS, _LINSPACE, window=5),
  Preprocessing('slowfast', 'x3d_s', KINETICS, _LINSPACE, window=5),
  Preprocessing('slowfast', 'x3d_m', KINETICS, _LINSPACE, window=7),
  Preprocessing('slowfast', 'x3d_l', KINETICS, _LINSPACE, window=10),
  Preprocessing('slowfast', 'x3d_xl', KINETICS, _LINSPACE, window=10),
  Preprocessing('slowfast', '', KINETICS, _LINSPACE),
  Preprocessing('pytorchvideo', 'slow', KINETICS, _LINSPACE, window=7, of_windows='logits'),
  Preprocessing('pytorchvideo', 'slowfast', KINETICS, _LINSPACE, window=7, of_windows='logits'),
  Preprocessing('pytorchvideo', 'csn', KINETICS, _LINSPACE, window=7),
  Preprocessing('pytorchvideo', 'r2plus1d', KINETICS, _LINSPACE, window=7),
  Preprocessing('pytorchvideo', 'ptv_x3d_xs', KINETICS, _LINSPACE, window=5),
  Preprocessing('pytorchvideo', 'ptv_x3d_s', KINETICS, _LINSPACE, window=5),
  Preprocessing('pytorchvideo', 'ptv_x3d_m', KINETICS, _LINSPACE, window=7),
  Preprocessing('pytorchvideo', 'ptv_x3d_l', KINETICS, _LINSPACE, window=10),
  Preprocessing('pytorchvideo', 'ptv_x3d_xl', KINETICS, _LINSPACE, window=10),
  Preprocessing('pytorchvideo', '', KINETICS, _LINSPACE),
  Preprocessing('multitrain', '', KINETICS, _LINSPACE),
  Preprocessing('mae_st', '', KINETICS, {**_LINSPACE, 'frame_stride': 4}),
  Preprocessing('mae_image', '', IMAGENET),
  Preprocessing('vmz', 'csn', VMZ, _VMZ_CSN),
  Preprocessing('vmz', '', VMZ, _VMZ_CLIP, SQUEEZED),
  # Their test code takes clips at 15 frames a second, every second frame of most videos.
  Preprocessing(
    'torchvision', 'r2plus1d', VMZ,
    {'num_frames': 16, 'frame_stride': 2, 'crop_size': 112, 'short_side': 128}, SQUEEZED,
  ),
  Preprocessing('torchvision', 'inception', HALF, _SIDES),
  Preprocessing('torchvision', '', IMAGENET, _SIDES),
  Preprocessing('ibm', 'inception', HALF, _IBM_K400, average='logits', classes=400),
  Preprocessing('ibm', 'inception', HALF, _IBM, average='logits'),
  Preprocessing('ibm', '', IMAGENET, _IBM_K400, average='logits', classes=400),
  Preprocessing('ibm', '', IMAGENET, _IBM, average='logits'),
  # Files from IG-65M have ImageNet's pixels, those from Sports-1M and from scratch VMZ's.
  Preprocessing('mmaction', 'vmz_ir_csn_r152', UNKNOWN),
  Preprocessing('mmaction', 'vmz_ip_csn_r152', UNKNOWN),
  Preprocessing('mmaction', 'x3d', KINETICS),
  Preprocessing('mmaction', '', IMAGENET),
  Preprocessing('sts', '', IMAGENET),
)  # fmt: skip


# Clips of the published tests on Kinetics-400, of the tables in PySlowFast's MODEL_ZOO.md and
# PyTorchVideo's model zoo; SlowFast's are those of its fast pathway. A key that differs between
# files of one model is left out: slow_r50 was published as 4x16 and 8x8, PySlowFast's
# slowfast_r50_8x8 with crops of 256 and, from multigrid training, 224.
_SIDE_182 = {'crop_size': 182, 'short_side': 182}
_SIDE_256 = {'crop_size': 256, 'short_side': 256}
_SIDE_356 = {'crop_size': 356, 'short_side': 356}
_8X8 = {'num_frames': 8, 'frame_stride': 8, **_SIDE_256}
_32X2 = {'num_frames': 32, 'frame_stride': 2}
PUBLISHED = {
  ('slowfast', 'c2d_r50'): _8X8,
  ('slowfast', 'c2d_nln_r50'): _8X8,
  ('slowfast', 'c2d_nopool_r50'): _8X8,
  ('slowfast', 'i3d_3x1x1_r50'): _8X8,
  ('slowfast', 'i3d_nln_r50'): _8X8,
  ('slowfast', 'slow_r50'): _SIDE_256,
  ('slowfast', 'slowfast_r50_4x16'): {**_32X2, **_SIDE_256},
  ('slowfast', 'slowfast_r50_8x8'): _32X2,
  ('slowfast', 'x3d_xs'): {'num_frames': 4, 'frame_stride': 12, **_SIDE_182},
  ('slowfast', 'x3d_s'): {'num_frames': 13, 'frame_stride': 6, **_SIDE_182},
  ('slowfast', 'x3d_m'): {'num_frames': 16, 'frame_stride': 5, **_SIDE_256},
  ('slowfast', 'x3d_l'): {'num_frames': 16, 'frame_stride': 5, **_SIDE_356},
  ('pytorchvideo', 'c2d_r50'): _8X8,
  ('pytorchvideo', 'i3d_3x1x1_r50'): _8X8,
  ('pytorchvideo', 'slow_r50'): _SIDE_256,
  ('pytorchvideo', 'ir_csn_r101'): {**_32X2, **_SIDE_256},
  ('pytorchvideo', 'ptv_r2plus1d_r50'): {'num_frames': 16, 'frame_stride': 4, **_SIDE_256},
  ('pytorchvideo', 'slowfast_r50_4x16'): {**_32X2, **_SIDE_256},
  ('pytorchvideo', 'slowfast_r50_8x8'): {**_32X2, **_SIDE_256},
  ('pytorchvideo', 'slowfast_r101_8x8'): {**_32X2, **_SIDE_256},
  ('pytorchvideo', 'slowfast_r101_16x8_50_50'): {
    'num_frames': 64, 'frame_stride': 2, **_SIDE_256,
  },
  ('pytorchvideo', 'ptv_x3d_xs'): {'num_frames': 4, 'frame_stride': 12, **_SIDE_182},
  ('pytorchvideo', 'ptv_x3d_s'): {'num_frames': 13, 'frame_stride': 6, **_SIDE_182},
  ('pytorchvideo', 'ptv_x3d_m'): {'num_frames': 16, 'frame_stride': 5, **_SIDE_256},
  ('pytorchvideo', 'ptv_x3d_l'): {'num_frames': 16, 'frame_stride': 5, **_SIDE_356},
}  # fmt: skip
PUBLISHED_CLASSES = 400


def preprocessing(source: str, name: str, classes: int) -> Preprocessing:
  """The row of TABLE for weights of a source; one that knows nothing where there is none."""
  family = registry.find_model(name)[0].__name__.rsplit('.', 1)[-1]
  for row in TABLE:
    if row.source == source and row.models in ('', name, family) and row.classes in (None, classes):
      return row
  return Preprocessing(source, name, UNKNOWN)


def config(
  source: str,
  name: str,
  model: VideoModel,
  shape: tuple[int, int, int],
  told: Mapping[str, Any],
  *,
  headless: bool = False,
) -> dict[str, Any]:
  """The config. shape: of the clips that a transformer's positions are for; a CNN takes any. told:
  what the user says of CLIP, mean and std, None where nothing. headless: there is no classifier to
  evaluate. Raises ValueError for positions of a crop that is not square."""
  known = preprocessing(source, name, count(model))
  clip = _clip(known, name, model, shape) | {
    key: told[key] for key in CLIP if told.get(key) is not None
  }
  mean, std = (told.get(name) or pixels for name, pixels in zip(('mean', 'std'), known.pixels))
  head = type(model.head).__module__.rsplit('.', 1)[-1]
  objective = {'name': 'classify'}
  if head == 'mae':
    released = model.head.preset == 'released'
    objective = {'name': 'mae', 'target': 'stride' if released else 'linspace'}
  views = {
    'name': 'views',
    'split': 'val',
    'num_clips': 1,
    'num_crops': 1,
    'batch_size': 1,
    'average': known.average,
  }
  _, row = registry.find_model(name)
  settings = _changed(model.head, {}, 'num_classes')
  several = joint_counts(model)
  if head == 'linear' and not headless:
    settings |= known.head(clip['crop_size'])
  if several and headless:
    raise ValueError(
      '--headless leaves out what --set dataset=all keeps: give --set dataset='
      f'{next(iter(several))}, say'
    )
  if several:
    objective = {'name': 'joint'}
  evals = {alias: {**views, 'dataset': alias} for alias in several} or {'test': views}
  return {
    'seed': 0,
    'model': {'name': name, **_changed(model.backbone, row)},
    'head': {'name': head, **settings},
    'objective': objective,
    'data': {'name': '', 'split': 'val', 'batch_size': 1, 'mean': mean, 'std': std},
    'clip': clip,
    'augment': dict(known.augment),
    'optim': {},
    'train': {'dtype': 'float32', 'log_steps': 1, 'save_steps': 1},
    'evals': evals if objective['name'] != 'mae' and not headless else {},
    **({'datasets': {alias: {} for alias in several}} if several else {}),
  }


def _clip(
  known: Preprocessing, name: str, model: VideoModel, shape: tuple[int, int, int]
) -> dict[str, Any]:
  """The known keys of config.clip; positions of a transformer say for what clips they are."""
  clip = {**dict.fromkeys(CLIP), **known.clip}
  if count(model) == PUBLISHED_CLASSES:
    clip |= PUBLISHED.get((known.source, name), {})
  if model.backbone.clip_frames() is not None:
    frames, *crop = shape
    if crop[0] != crop[1]:
      raise ValueError(
        f'the positions are for clips of {crop[0]}x{crop[1]} px; need a square: --set '
        f'crop={min(crop)}'
      )
    clip |= {'num_frames': frames, 'crop_size': crop[0], 'short_side': crop[0] * 8 // 7}
    if name in mvit.FRAME_STRIDES:
      clip['frame_stride'] = mvit.FRAME_STRIDES[name]
  return clip


def _changed(module: Any, row: Mapping[str, Any], *left_out: str) -> dict[str, Any]:
  """Settings of a backbone or head other than those of its row and the defaults."""
  left_out = (*left_out, 'parent', 'name', 'dtype', 'remat')
  fields = [f for f in dataclasses.fields(module) if f.name not in left_out]
  has = {**{f.name: f.default for f in fields}, **row}
  found = old_models.changes({f.name: getattr(module, f.name) for f in fields}, has)
  return json.loads(json.dumps(found))  # TypeError for what no config can hold


def classes(path: str, count: int) -> list[str]:
  """Names, one a line of the file, or with '' numbers. Raises ValueError where there are not
  `count`."""
  if not path:
    return [str(i) for i in range(count)]
  names = read_classes(path)
  if len(names) != count:
    raise ValueError(
      f'--classes={path} has {len(names)} names; the weights have {count} classes: need one name '
      'a line for each, in the order of the weights'
    )
  return names


def joint_classes(path: str, counts: Mapping[str, int]) -> list[str]:
  """Names 'ALIAS/CLASS' of the classes of several datasets, like `classes`. Raises ValueError also
  for names that do not begin with the datasets in their order."""
  aliases = [alias for alias, number in counts.items() for _ in range(number)]
  if not path:
    return [f'{alias}/{i}' for alias, number in counts.items() for i in range(number)]
  names = classes(path, len(aliases))
  for alias, name in zip(aliases, names):
    if not name.startswith(f'{alias}/'):
      order = ', '.join(f'{number} of {alias}' for alias, number in counts.items())
      raise ValueError(
        f'--classes={path}: class {name!r} should be of dataset {alias}: write DATASET/CLASS on '
        f'each line, {order}, in this order'
      )
  return names


def joint_counts(model: VideoModel) -> dict[str, int]:
  """Classes of each dataset of a head of several, {} of any other."""
  found = getattr(model.head, 'num_classes', None)
  return dict(found) if isinstance(found, Mapping) else {}


def count(model: VideoModel) -> int:
  """Classes of a head, of all datasets; 1 of a decoder, which has none."""
  several = joint_counts(model)
  if several:
    return sum(several.values())
  return model.head.num_classes if hasattr(model.head, 'num_classes') else 1
