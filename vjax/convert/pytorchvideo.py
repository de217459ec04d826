"""PyTorchVideo's model zoo: C2D, I3D, Slow, CSN, R(2+1)D, SlowFast and X3D (Fan et al. 2021)."""

from typing import Any

import numpy as np

from vjax import convert, factory
from vjax.convert import _table
from vjax.models import slow, slowfast, x3d

CLIP = (16, 64, 64)
MODELS = (
  'c2d_r50', 'c2d_r101', 'c2d_r152',
  'i3d_3x1x1_r50', 'i3d_3x1x1_r101', 'i3d_3x1x1_r152',
  'slow_r50', 'slow_r101', 'slow_r152',
  'ir_csn_r50', 'ir_csn_r101', 'ir_csn_r152',
  'ptv_r2plus1d_r50',
  'slowfast_r50_4x16', 'slowfast_r50_8x8', 'slowfast_r50_16x8',
  'slowfast_r101_8x8', 'slowfast_r101_8x8_50_50', 'slowfast_r101_8x8_50_101',
  'slowfast_r101_16x8', 'slowfast_r101_16x8_50_50',
  'ptv_x3d_xs', 'ptv_x3d_s', 'ptv_x3d_m', 'ptv_x3d_l', 'ptv_x3d_xl',
)  # fmt: skip
ALIASES = {  # PyTorchVideo's own names, those of its hub first
  'csn_r101': 'ir_csn_r101',
  'i3d_r50': 'i3d_3x1x1_r50',
  'r2plus1d_r50': 'ptv_r2plus1d_r50',
  'slowfast_r50': 'slowfast_r50_8x8',
  'slowfast_r101': 'slowfast_r101_8x8',
  'slowfast_16x8_r101_50_50': 'slowfast_r101_16x8_50_50',
  'x3d_xs': 'ptv_x3d_xs',
  'x3d_s': 'ptv_x3d_s',
  'x3d_m': 'ptv_x3d_m',
  'x3d_l': 'ptv_x3d_l',
  'x3d_xl': 'ptv_x3d_xl',
}


def table(name: str) -> list[_table.Row]:
  """The rename table; where a network pools after res2 the pool is a block, and the later ones have
  a number more."""
  family, net = factory.find_model(name)[0], factory.create_backbone(name)
  if family is slowfast:
    rows = _table.dense('blocks.6.proj', 'head/linear')
    for number, path in enumerate(('slow', 'fast')):
      rows += _stem(f'blocks.0.multipathway_blocks.{number}', f'{path}_stem')
      for stage in (2, 3, 4, 5):
        rows += _blocks(f'blocks.{stage - 1}.multipathway_blocks.{number}', f'{path}_res{stage}')
    for stage in (1, 2, 3, 4):
      fusion, here = f'blocks.{stage - 1}.multipathway_fusion', f'backbone/lateral{stage}'
      rows += [(f'{fusion}.conv_fast_to_slow.weight', f'params/{here}/conv/kernel')]
      rows += _table.norm(f'{fusion}.norm', f'{here}/norm')
    return rows
  if family is x3d:
    rows = [  # the originals' names of the two halves are swapped
      ('blocks.0.conv.conv_t.weight', 'params/backbone/stem_space/kernel'),
      ('blocks.0.conv.conv_xy.weight', 'params/backbone/stem_time/kernel'),
      *_table.norm('blocks.0.norm', 'backbone/stem_norm'),
      ('blocks.5.pool.pre_conv.weight', 'params/backbone/conv5/kernel'),
      *_table.norm('blocks.5.pool.pre_norm', 'backbone/norm5'),
      ('blocks.5.pool.post_conv.weight', 'params/head/hidden/kernel'),
      *_table.dense('blocks.5.proj', 'head/linear'),
    ]
    return rows + [
      row
      for stage in (2, 3, 4, 5)
      for row in _blocks(f'blocks.{stage - 1}', f'res{stage}', squeezed=True)
    ]
  pooled = int(family is slow and net.pools[0] == 'half')
  rows = _stem('blocks.0', 'stem') + _table.dense(f'blocks.{5 + pooled}.proj', 'head/linear')
  for stage in (2, 3, 4, 5):
    rows += _blocks(f'blocks.{stage - 1 + (pooled if stage > 2 else 0)}', f'res{stage}')
  return rows


def _stem(theirs: str, here: str) -> list[_table.Row]:
  return [
    (f'{theirs}.conv.weight', f'params/backbone/{here}/conv1/kernel'),
    *_table.norm(f'{theirs}.norm', f'backbone/{here}/norm1'),
  ]


def _blocks(theirs: str, here: str, squeezed: bool = False) -> list[_table.Row]:
  """squeezed: X3D's, whose second norm stands in a sequence with squeeze-excitation."""
  block, here = f'{theirs}.res_blocks.{{block}}', f'backbone/{here}/block{{block}}'
  rows = [
    (f'{block}.branch2.conv_b.conv_t.weight', f'params/{here}/conv2/temporal/kernel'),
    *_table.norm(f'{block}.branch2.conv_b.norm', f'{here}/conv2/norm'),
    (f'{block}.branch2.conv_b.conv_xy.weight', f'params/{here}/conv2/spatial/kernel'),
    (f'{block}.branch1_conv.weight', f'params/{here}/shortcut/kernel'),
    *_table.norm(f'{block}.branch1_norm', f'{here}/shortcut_norm'),
  ]
  for i, letter in enumerate('abc', start=1):
    norm = f'norm_{letter}.0' if squeezed and letter == 'b' else f'norm_{letter}'
    rows += [
      (f'{block}.branch2.conv_{letter}.weight', f'params/{here}/conv{i}/kernel'),
      *_table.norm(f'{block}.branch2.{norm}', f'{here}/norm{i}'),
    ]
  for place, name in ((0, 'reduce'), (2, 'expand')):
    rows += _table.dense(f'{block}.branch2.norm_b.1.block.{place}', f'{here}/se/{name}')
  return rows


def build(
  tensors: dict[str, np.ndarray], name: str, overrides: dict[str, Any]
) -> convert.SourceModel:
  """The model that the weights are for, and how they fit into it."""
  family, read, head = factory.find_model(name)[0], {}, {}
  tensors = _table.matrices(tensors, r'blocks\.[56]\.proj\.weight')
  classes = convert.num_classes(tensors, 'blocks.5.proj.weight', 'blocks.6.proj.weight')
  if family is slowfast:
    lateral = np.shape(tensors.get('blocks.0.multipathway_fusion.conv_fast_to_slow.weight', ()))
    read = {'fusion': lateral[2]} if len(lateral) == 5 else {}
  if family is x3d:
    tensors = _table.matrices(tensors, _POINTWISE)
    if 'blocks.5.pool.post_conv.weight' in tensors:
      head = {'hidden': tensors['blocks.5.pool.post_conv.weight'].shape[0]}
  model = factory.create_model(name, classes, head=head, **{**read, **overrides})
  clip = (32, 64, 64) if family is slowfast else CLIP
  return convert.SourceModel(model, clip=clip, table=table(name), tensors=tensors)


def names(variables: dict[str, np.ndarray], name: str) -> list[_table.Row]:
  """The table for `convert.to_source`."""
  return table(name)


# linear layers of X3D that are 1x1x1 convolutions there
_POINTWISE = r'.*\.block\.[02]\.weight|.*\.post_conv\.weight'


def restore(tensors: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """Brings tensors into the original's form."""
  is_x3d = factory.find_model(name)[0] is x3d
  return _table.pointwise(tensors, _POINTWISE) if is_x3d else tensors


SOURCE = convert.Source(MODELS, build, names, ALIASES, restore)
