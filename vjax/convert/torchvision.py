"""torchvision's video ResNets r3d_18, mc3_18 and r2plus1d_18 (Tran et al. 2018), and its image
ResNets and GoogLeNet, which see clips frame by frame here (the unified framework's TSN)."""

from typing import Any

import numpy as np

from vjax import convert, factory
from vjax.convert import _table, ibm

_IMAGES = ('tsn_r18', 'tsn_r34', 'tsn_r50', 'tsn_r101', 'tsn_r152', 'tsn_inception')
MODELS = ('tv_r3d_18', 'tv_mc3_18', 'tv_r2plus1d_18', *_IMAGES)
ALIASES = {  # torchvision's own names
  'r3d_18': 'tv_r3d_18',
  'mc3_18': 'tv_mc3_18',
  'r2plus1d_18': 'tv_r2plus1d_18',
  'resnet18': 'tsn_r18',
  'resnet34': 'tsn_r34',
  'resnet50': 'tsn_r50',
  'resnet101': 'tsn_r101',
  'resnet152': 'tsn_r152',
  'googlenet': 'tsn_inception',
}
CLIP = (8, 112, 112)  # any clip that survives the strides; no parameter depends on it


def table(kind: str = '2d') -> list[_table.Row]:
  """The rename table; VMZ's PyTorch release uses the same names. kind: 'ip' for the two
  convolutions of ip-CSN."""
  rows = [
    ('stem.0.weight', 'params/backbone/stem/conv1/kernel'),
    *_table.norm('stem.1', 'backbone/stem/norm1'),
    ('stem.3.weight', 'params/backbone/stem/conv2/kernel'),
    *_table.norm('stem.4', 'backbone/stem/norm2'),
  ]
  for layer in (1, 2, 3, 4):
    block, here = f'layer{layer}.{{block}}', f'backbone/res{layer + 1}/block{{block}}'
    if kind == 'ip':
      rows += [
        (f'{block}.conv2.0.0.weight', f'params/{here}/conv2/pointwise/kernel'),
        (f'{block}.conv2.0.2.weight', f'params/{here}/conv2/depthwise/kernel'),
      ]
    rows += [
      (f'{block}.conv{{i}}.0.weight', f'params/{here}/conv{{i}}/kernel'),
      (f'{block}.conv{{i}}.0.0.weight', f'params/{here}/conv{{i}}/spatial/kernel'),
      *_table.norm(f'{block}.conv{{i}}.0.1', f'{here}/conv{{i}}/norm'),
      (f'{block}.conv{{i}}.0.3.weight', f'params/{here}/conv{{i}}/temporal/kernel'),
      *_table.norm(f'{block}.conv{{i}}.1', f'{here}/norm{{i}}'),
      (f'{block}.downsample.0.weight', f'params/{here}/shortcut/kernel'),
      *_table.norm(f'{block}.downsample.1', f'{here}/shortcut_norm'),
    ]
  return rows + _table.dense('fc', 'head/linear')


def build(
  tensors: dict[str, np.ndarray], name: str, overrides: dict[str, Any]
) -> convert.SourceModel:
  """The model that the weights are for, and how they fit into it."""
  if name in _IMAGES:
    return ibm.build(tensors, name, overrides)
  model = factory.create_model(name, convert.num_classes(tensors, 'fc.weight'), **overrides)
  return convert.SourceModel(model, clip=CLIP, table=table(), tensors=tensors)


def names(variables: dict[str, np.ndarray], name: str) -> list[_table.Row]:
  """The table for `convert.to_source`."""
  return ibm.table(name) if name in _IMAGES else table()


def restore(tensors: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """Brings tensors into the original's form: kernels of images without an axis of time."""
  return ibm.restore(tensors, name) if name in _IMAGES else tensors


SOURCE = convert.Source(MODELS, build, names, ALIASES, restore)
