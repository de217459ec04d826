"""PySlowFast's model zoo: C2D, I3D, Slow, with and without non-local blocks, SlowFast, X3D and MViT, from its PyTorch
files or the Caffe2 pickles.  (Wang et al. 2018; Feichtenhofer et al. 2019; Feichtenhofer 2020; Li et al. 2022.)"""

import math
import re
from typing import Any

import numpy as np

from vjax import convert
from vjax.convert import _table
from vjax.heads import linear
from vjax.layers import position
from vjax.models import mvit, resnet, slowfast, x3d
from vjax.types import VideoModel

CLIP = (8, 64, 64)
VARIANTS = {
  name: settings
  for name, settings in resnet.VARIANTS.items()
  if re.fullmatch(r'(c2d|c2d_nopool|i3d_3x1x1|i3d_nln|slow|slow_nln|slow_50_50)_r\d+', name)
}
VARIANTS |= {f'x3d_{n}': settings for n, settings in x3d.VARIANTS.items() if not n.startswith('sts')}
VARIANTS |= {f'slowfast_{n}': settings for n, settings in slowfast.VARIANTS.items() if not n.startswith('sts')}
VARIANTS |= {f'mvit_{n}': settings for n, settings in mvit.VARIANTS.items() if n.startswith('v')}


def table() -> list[_table.Row]:
  """The rename table of the PyTorch files."""
  rows = [
    ('s1.pathway0_stem.conv.weight', 'params/backbone/stem/conv1/kernel'),
    *_table.norm('s1.pathway0_stem.bn', 'backbone/stem/norm1'),
  ]
  return rows + _blocks() + _table.dense('head.projection', 'head/linear')


def x3d_table() -> list[_table.Row]:
  """The rename table of X3D."""
  return [
    ('s1.pathway0_stem.conv_xy.weight', 'params/backbone/stem_space/kernel'),
    ('s1.pathway0_stem.conv.weight', 'params/backbone/stem_time/kernel'),
    *_table.norm('s1.pathway0_stem.bn', 'backbone/stem_norm'),
    *_blocks(),
    ('head.conv_5.weight', 'params/backbone/conv5/kernel'),
    *_table.norm('head.conv_5_bn', 'backbone/norm5'),
    ('head.lin_5.weight', 'params/head/hidden/kernel'),
    *_table.dense('head.projection', 'head/linear'),
  ]


def slowfast_table() -> list[_table.Row]:
  """The rename table of two pathways."""
  rows = []
  for number, name in enumerate(('slow', 'fast')):
    stem = f's1.pathway{number}_stem'
    rows += [
      (f'{stem}.conv.weight', f'params/backbone/{name}_stem/conv1/kernel'),
      *_table.norm(f'{stem}.bn', f'backbone/{name}_stem/norm1'),
      *_blocks(number, f'{name}_'),
    ]
  return [
    *rows,
    ('s{i}_fuse.conv_f2s.weight', 'params/backbone/lateral{i}/conv/kernel'),
    *_table.norm('s{i}_fuse.bn', 'backbone/lateral{i}/norm'),
    *_table.dense('head.projection', 'head/linear'),
  ]


def mvit_table(widen: str = 'proj') -> list[_table.Row]:
  """The rename table of MViT; widen: what projects a skip that gets wider."""
  block, here = 'blocks.{i}', 'backbone/block{i}'
  rows = [('cls_token', 'params/backbone/class_token')]
  rows += [(f'pos_embed_{part}', f'params/backbone/position_{part}') for part in ('spatial', 'temporal', 'class')]
  rows += _table.dense('patch_embed.proj', 'backbone/patch') + _table.dense('norm', 'backbone/norm', 'scale')
  rows += _table.dense(f'{block}.norm{{n}}', f'{here}/norm{{n}}', 'scale')
  rows += _table.dense(f'{block}.mlp.fc{{n}}', f'{here}/mlp/fc{{n}}') + _table.dense(
    f'{block}.{widen}', f'{here}/proj'
  )
  rows += _table.dense(f'{block}.attn.proj', f'{here}/attn/proj')
  for part in 'qkv':
    rows += _table.dense(f'{block}.attn.{part}', f'{here}/attn/{part}')
    rows += [(f'{block}.attn.pool_{part}.weight', f'params/{here}/attn/pool_{part}/kernel')]
    rows += _table.dense(f'{block}.attn.norm_{part}', f'{here}/attn/pool_{part}/norm', 'scale')
  rows += [(f'{block}.attn.rel_pos_{axis}', f'params/{here}/attn/relative_{axis}') for axis in 'thw']
  return rows + _table.dense('head.projection', 'head/linear')


def _blocks(pathway: int = 0, prefix: str = '') -> list[_table.Row]:
  rows = []
  for stage in (2, 3, 4, 5):
    block, here = f's{stage}.pathway{pathway}_res{{block}}', f'backbone/{prefix}res{stage}/block{{block}}'
    for i, letter in enumerate('abc', start=1):
      rows += [
        (f'{block}.branch2.{letter}.weight', f'params/{here}/conv{i}/kernel'),
        *_table.norm(f'{block}.branch2.{letter}_bn', f'{here}/norm{i}'),
      ]
    rows += [
      (f'{block}.branch1.weight', f'params/{here}/shortcut/kernel'),
      *_table.norm(f'{block}.branch1_bn', f'{here}/shortcut_norm'),
    ]
    for part, layer in {'fc1': 'reduce', 'fc2': 'expand'}.items():
      rows += _table.dense(f'{block}.branch2.se.{part}', f'{here}/se/{layer}')
    attend, here = f's{stage}.pathway0_nonlocal{{block}}', f'backbone/res{stage}/nonlocal{{block}}'
    for name in ('theta', 'phi', 'g', 'out'):
      rows += _table.dense(f'{attend}.conv_{name}', f'{here}/{name}')
    rows += _table.norm(f'{attend}.bn', f'{here}/norm')
  return rows


def caffe2_name(blob: str) -> str | None:
  """The PyTorch file's name of a Caffe2 blob; None for what is no weight (momentum, learning rate, counters)."""
  if 'momentum' in blob or blob in ('lr', 'model_iter'):
    return None
  ends = {'s': 'weight', 'b': 'bias', 'rm': 'running_mean', 'riv': 'running_var', 'w': 'weight'}
  match = re.fullmatch(r't_(?:pool(1)|res(\d)_\d+_branch2c_bn)_subsample(_bn)?_(s|b|rm|riv|w)', blob)
  if match:  # a lateral, named after the last fast layer before it
    return f's{match[1] or match[2]}_fuse.{"bn" if match[3] else "conv_f2s"}.{ends[match[4]]}'
  pathway, blob = (1, blob[2:]) if blob.startswith('t_') else (0, blob)
  match = re.fullmatch(r'(conv1|res_conv1_bn)_(s|b|rm|riv|w)', blob)
  if match:
    return f's1.pathway{pathway}_stem.{"conv" if match[1] == "conv1" else "bn"}.{ends[match[2]]}'
  match = re.fullmatch(r'res(\d)_(\d+)_branch(1|2[abc])(_bn)?_(s|b|rm|riv|w)', blob)
  if match:
    stage, block, branch, norm, end = match.groups()
    branch = 'branch1' if branch == '1' else f'branch2.{branch[1]}'
    return f's{stage}.pathway{pathway}_res{block}.{branch}{norm or ""}.{ends[end]}'
  match = re.fullmatch(r'nonlocal_conv(\d)_(\d+)_(theta|phi|g|out|bn)_(s|b|rm|riv|w)', blob)
  if match:
    stage, block, part, end = match.groups()
    return f's{stage}.pathway0_nonlocal{block}.{part if part == "bn" else f"conv_{part}"}.{ends[end]}'
  match = re.fullmatch(r'pred_(w|b)', blob)
  return f'head.projection.{ends[match[1]]}' if match else blob


def build(tensors: dict[str, np.ndarray], variant: str, overrides: dict[str, Any]):
  """Model, clip shape, table and tensors for `convert.load`."""
  settings = {**convert.variant_of(VARIANTS, variant), **overrides}
  if any(name.endswith('_riv') for name in tensors):
    tensors = {new: array for name, array in tensors.items() if (new := caffe2_name(name)) is not None}
  classes = convert.num_classes(tensors, 'head.projection.weight')
  if variant.startswith('mvit'):
    backbone, tensors = mvit_backbone(tensors, settings, overrides)
    clip = (backbone.frames, backbone.crop, backbone.crop)
    return VideoModel(backbone, linear.Head(classes)), clip, mvit_table(), tensors
  if variant.startswith('slowfast'):
    return VideoModel(slowfast.Backbone(**settings), linear.Head(classes)), (32, 64, 64), slowfast_table(), tensors
  if not variant.startswith('x3d'):
    return VideoModel(resnet.Backbone(**settings), linear.Head(classes)), CLIP, table(), tensors
  tensors = _table.matrices(tensors, _POINTWISE)
  hidden = tensors['head.lin_5.weight'].shape[0] if 'head.lin_5.weight' in tensors else x3d.HIDDEN
  return VideoModel(x3d.Backbone(**settings), linear.Head(classes, hidden=hidden)), CLIP, x3d_table(), tensors


def mvit_backbone(
  tensors: dict[str, np.ndarray], settings: dict[str, Any], overrides: dict[str, Any]
) -> tuple[mvit.Backbone, dict[str, np.ndarray]]:
  """(MViT, its tensors). Frames and crop come from the position tables; overridden, the tables are resized."""
  tensors = _table.split_qkv(tensors)
  size = lambda name: tensors[name].shape[1 if name.startswith('pos') else 0]
  if 'pos_embed_temporal' in tensors and 'pos_embed_spatial' in tensors:
    old = size('pos_embed_temporal'), math.isqrt(size('pos_embed_spatial'))
  elif 'blocks.0.attn.rel_pos_t' in tensors and 'blocks.0.attn.rel_pos_h' in tensors:
    old = tuple((size(f'blocks.0.attn.rel_pos_{axis}') + 1) // 2 for axis in 'th')
  else:
    raise ValueError(
      "the weights have neither 'pos_embed_temporal' and 'pos_embed_spatial' nor relative positions: no MViT"
    )
  clip = dict(frames=old[0] * mvit.PATCH[0], crop=old[1] * mvit.PATCH[1])
  net = mvit.Backbone(**{**settings, **clip, 'class_token': 'cls_token' in tensors, **overrides})
  resized = dict(tensors)
  for name, array in tensors.items():
    match = re.fullmatch(r'pos_embed_(spatial|temporal)|blocks\.(\d+)\.attn\.rel_pos_([thw])', name)
    if match and match[1]:
      grid = net.layers()[0].grid
      rows = grid[0] if match[1] == 'temporal' else grid[1] * grid[2]
      resized[name] = position.resize(f'position_{match[1]}', array, (1, rows, array.shape[2]))
    elif match and int(match[2]) < sum(net.depths):
      resized[name] = position.resize_temporal(array, net.layers()[int(match[2])].rows['thw'.index(match[3])])
  return net, resized


def names(variables: dict[str, np.ndarray], variant: str) -> list[_table.Row]:
  """The table for `convert.to_source`."""
  convert.variant_of(VARIANTS, variant)
  return {'x3d': x3d_table, 'slowfast': slowfast_table, 'mvit': mvit_table}.get(variant.split('_')[0], table)()


_POINTWISE = r'.*\.se\.fc\d\.weight|head\.lin_5\.weight'  # linear layers of X3D that are 1x1x1 convolutions there


def restore(tensors: dict[str, np.ndarray], variant: str) -> dict[str, np.ndarray]:
  """What the original stores in another form."""
  if variant.startswith('mvit'):
    return _table.join_qkv(tensors)
  return _table.pointwise(tensors, _POINTWISE) if variant.startswith('x3d') else tensors
