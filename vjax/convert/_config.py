"""What a converted checkpoint needs to be used: the config of a run that only predicts, in the form that `build` reads.

What neither the weights nor their source tell is None: using it is an error that names the flag of `vjax.convert`.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from vjax.types import VideoModel

_KINETICS = ((0.45,) * 3, (0.225,) * 3)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_VMZ = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
PIXELS = {  # mean and deviation of RGB in [0, 1] that the sources' training subtracts and divides by
  'slowfast': _KINETICS, 'pytorchvideo': _KINETICS, 'multitrain': _KINETICS, 'mae_st': _KINETICS,
  'vmz': _VMZ, 'torchvision': _VMZ, 'ibm': _IMAGENET, 'mmaction': _IMAGENET, 'sts': _IMAGENET, 'mae_image': _IMAGENET,
}  # fmt: skip
SAMPLING = {  # a rule of data/sample.py
  'slowfast': 'linspace', 'pytorchvideo': 'linspace', 'multitrain': 'linspace', 'mae_st': 'linspace',
  'vmz': 'consecutive', 'ibm': 'uniform',
}  # fmt: skip
CLIP = (
  'num_frames',
  'frame_stride',
  'crop_size',
  'short_side',
  'sampling',
)  # keys of config.clip, flags of `vjax.convert`


def config(
  source: str, variant: str, model: VideoModel, shape: tuple[int, int, int], told: Mapping[str, Any]
) -> dict[str, Any]:
  """The config. shape: of the clips that a transformer's positions are for; a CNN takes any. told: what the user says
  of CLIP, mean and std, None where nothing. Raises ValueError for positions of a crop that is not square."""
  clip = _clip(source, variant, model, shape) | {key: told[key] for key in CLIP if told.get(key) is not None}
  mean, std = _IMAGENET if 'mvit_v2_l' in variant else PIXELS.get(source, (None, None))
  mean, std = told.get('mean') or mean, told.get('std') or std
  if source == 'vmz':
    augment = {'crop': 'fixed', 'size': (128, 171), 'flip': 0.0}
  else:
    augment = {'crop': 'resized', 'flip': 0.0}
  name, settings = _part(model.head, ('num_classes',))
  objective = {'name': 'classify'}
  if name == 'mae':
    released = model.head.preset == 'released'
    objective = {'name': 'mae', 'target': 'stride' if released else 'linspace'}
  views = {
    'name': 'views',
    'split': 'val',
    'num_clips': 1,
    'num_crops': 1,
    'batch_size': 1,
    'average': 'probabilities',
  }
  backbone, fields = _part(model.backbone, ())
  return {
    'seed': 0,
    'model': {'name': backbone, **fields},
    'head': {'name': name, **settings},
    'objective': objective,
    'data': {'name': '', 'split': 'val', 'batch_size': 1, 'mean': mean, 'std': std},
    'clip': clip,
    'augment': augment,
    'optim': {},
    'train': {'dtype': 'float32', 'log_steps': 1, 'save_steps': 1},
    'evals': {'test': views} if objective['name'] == 'classify' else {},
  }


def _clip(source: str, variant: str, model: VideoModel, shape: tuple[int, int, int]) -> dict[str, Any]:
  """What is known of config.clip."""
  clip = {**dict.fromkeys(CLIP), 'sampling': SAMPLING.get(source)}
  if hasattr(model.backbone, 'frames'):
    frames, *crop = shape
    if crop[0] != crop[1]:
      raise ValueError(
        f'the positions are for clips of {crop[0]}x{crop[1]} px; need a square: --set crop={min(crop)}'
      )
    clip |= {'num_frames': frames, 'crop_size': crop[0], 'short_side': crop[0] * 8 // 7}
    stride = re.search(r'_\d+x(\d+)$', variant)  # as in v2_s_16x4
    clip['frame_stride'] = int(stride[1]) if stride else 4 if source == 'mae_st' else None
  if source == 'vmz':
    clip |= {'frame_stride': 1, 'crop_size': 112, 'short_side': 128}
  return clip


def _part(module: Any, left_out: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
  """(file, settings other than the defaults) of a backbone or head."""
  left_out = (*left_out, 'parent', 'name', 'dtype', 'remat')
  found = {}
  for field in dataclasses.fields(module):
    value = getattr(module, field.name)
    if field.name not in left_out and value != field.default:
      found[field.name] = json.loads(json.dumps(value))  # TypeError for what no config can hold
  return type(module).__module__.rsplit('.', 1)[-1], found


def classes(path: str, count: int) -> list[str]:
  """Names, one a line of the file, or with '' numbers. Raises ValueError where there are not `count`."""
  if not path:
    return [str(i) for i in range(count)]
  try:
    with open(path) as file:
      names = file.read().splitlines()
  except OSError as error:
    raise ValueError(f'--classes={path}: {error}') from error
  if len(names) != count or len(set(names)) != count:
    raise ValueError(
      f'--classes={path} has {len(set(names))} different names on {len(names)} lines; the weights have {count} classes: '
      f'one a line'
    )
  return names


def count(model: VideoModel) -> int:
  """Classes of a head; 1 of a decoder, which has none."""
  return model.head.num_classes if hasattr(model.head, 'num_classes') else 1
