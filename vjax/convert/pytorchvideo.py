"""PyTorchVideo's model zoo: C2D, I3D, Slow, CSN, R(2+1)D, SlowFast and X3D (Fan et al. 2021)."""

import re
from typing import Any

import numpy as np

from vjax import convert
from vjax.convert import _cnn, _table
from vjax.heads import linear
from vjax.models import resnet, slowfast, x3d
from vjax.types import VideoModel

CLIP = (16, 64, 64)
VARIANTS = {
  name: settings
  for name, settings in resnet.VARIANTS.items()
  if re.fullmatch(r'(c2d|i3d_3x1x1|slow|ir_csn|ptv_r2plus1d)_r\d+', name)
}


VARIANTS |= {
  f'slowfast_{n}': settings for n, settings in slowfast.VARIANTS.items() if n.startswith('r')
}
VARIANTS |= {
  f'x3d_{n}': dict(settings, shortcut_norm=False)
  for n, settings in x3d.VARIANTS.items()
  if not n.startswith('sts')
}


def table(variant: str) -> list[_table.Row]:
  """The rename table; where a network pools after res2 the pool is a block, and the later ones have
  a number more."""
  settings = convert.variant_of(VARIANTS, variant)
  if variant.startswith('slowfast'):
    rows = _table.dense('blocks.6.proj', 'head/linear')
    for number, name in enumerate(('slow', 'fast')):
      rows += _stem(f'blocks.0.multipathway_blocks.{number}', f'{name}_stem')
      for stage in (2, 3, 4, 5):
        rows += _blocks(f'blocks.{stage - 1}.multipathway_blocks.{number}', f'{name}_res{stage}')
    for stage in (1, 2, 3, 4):
      fusion, here = f'blocks.{stage - 1}.multipathway_fusion', f'backbone/lateral{stage}'
      rows += [(f'{fusion}.conv_fast_to_slow.weight', f'params/{here}/conv/kernel')]
      rows += _table.norm(f'{fusion}.norm', f'{here}/norm')
    return rows
  if variant.startswith('x3d'):
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
  pooled = int(settings.get('pools', ('',))[0] == 'half')
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


def build(tensors: dict[str, np.ndarray], variant: str, overrides: dict[str, Any]):
  """Model, clip shape, table and tensors for `convert.load`."""
  settings = {**convert.variant_of(VARIANTS, variant), **overrides}
  tensors = _table.matrices(tensors, r'blocks\.[56]\.proj\.weight')
  head = linear.Head(convert.num_classes(tensors, 'blocks.5.proj.weight', 'blocks.6.proj.weight'))
  if variant.startswith('slowfast'):
    lateral = np.shape(tensors.get('blocks.0.multipathway_fusion.conv_fast_to_slow.weight', ()))
    settings = {**settings, **({'fusion': lateral[2]} if len(lateral) == 5 else {}), **overrides}
    return (
      VideoModel(_cnn.backbone(slowfast, settings), head),
      (32, 64, 64),
      table(variant),
      tensors,
    )
  if variant.startswith('x3d'):
    tensors = _table.matrices(tensors, _POINTWISE)
    hidden = tensors['blocks.5.pool.post_conv.weight'].shape[0]
    return (
      VideoModel(_cnn.backbone(x3d, settings), head.clone(hidden=hidden)),
      CLIP,
      table(variant),
      tensors,
    )
  return VideoModel(_cnn.backbone(resnet, settings), head), CLIP, table(variant), tensors


def names(variables: dict[str, np.ndarray], variant: str) -> list[_table.Row]:
  """The table for `convert.to_source`."""
  return table(variant)


# linear layers of X3D that are 1x1x1 convolutions there
_POINTWISE = r'.*\.block\.[02]\.weight|.*\.post_conv\.weight'


def restore(tensors: dict[str, np.ndarray], variant: str) -> dict[str, np.ndarray]:
  """What the original stores in another form."""
  return _table.pointwise(tensors, _POINTWISE) if variant.startswith('x3d') else tensors
