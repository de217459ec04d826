"""PyTorchVideo's model zoo: C2D, I3D, Slow, CSN and R(2+1)D (Fan et al. 2021)."""

import re
from typing import Any

import numpy as np

from vjax import convert
from vjax.convert import _table
from vjax.heads import linear
from vjax.models import resnet
from vjax.types import VideoModel

CLIP = (16, 64, 64)
VARIANTS = {
  name: settings
  for name, settings in resnet.VARIANTS.items()
  if re.fullmatch(r'(c2d|i3d_3x1x1|slow|i[rp]_csn|ptv_r2plus1d)_r\d+', name)
}


def table(variant: str) -> list[_table.Row]:
  """The rename table; where a network pools after res2 the pool is a block, and the later ones have a number more."""
  settings = convert.variant_of(VARIANTS, variant)
  pooled = int(settings.get('pools', ('',))[0] == 'half')
  rows = [
    ('blocks.0.conv.weight', 'params/backbone/stem/conv1/kernel'),
    *_table.norm('blocks.0.norm', 'backbone/stem/norm1'),
  ]
  for stage in (2, 3, 4, 5):
    number = stage - 1 + (pooled if stage > 2 else 0)
    block, here = f'blocks.{number}.res_blocks.{{block}}', f'backbone/res{stage}/block{{block}}'
    rows += [
      (f'{block}.branch2.conv_b.conv_t.weight', f'params/{here}/conv2/temporal/kernel'),
      *_table.norm(f'{block}.branch2.conv_b.norm', f'{here}/conv2/norm'),
      (f'{block}.branch2.conv_b.conv_xy.weight', f'params/{here}/conv2/spatial/kernel'),
    ]
    for i, letter in enumerate('abc', start=1):
      rows += [
        (f'{block}.branch2.conv_{letter}.weight', f'params/{here}/conv{i}/kernel'),
        *_table.norm(f'{block}.branch2.norm_{letter}', f'{here}/norm{i}'),
      ]
    rows += [
      (f'{block}.branch1_conv.weight', f'params/{here}/shortcut/kernel'),
      *_table.norm(f'{block}.branch1_norm', f'{here}/shortcut_norm'),
    ]
  return rows + _table.dense(f'blocks.{5 + pooled}.proj', 'head/linear')


def build(tensors: dict[str, np.ndarray], variant: str, overrides: dict[str, Any]):
  """Model, clip shape, table and tensors for `convert.load`."""
  backbone = resnet.Backbone(**{**convert.variant_of(VARIANTS, variant), **overrides})
  head = linear.Head(convert.num_classes(tensors, 'blocks.5.proj.weight', 'blocks.6.proj.weight'))
  return VideoModel(backbone, head), CLIP, table(variant), tensors


def names(variables: dict[str, np.ndarray], variant: str) -> list[_table.Row]:
  """The table for `convert.to_source`."""
  return table(variant)
