"""PySlowFast's model zoo: C2D, I3D, Slow, with and without non-local blocks, SlowFast, X3D and
MViT, from its PyTorch files or the Caffe2 pickles.  (Wang et al. 2018; Feichtenhofer et al. 2019;
Feichtenhofer 2020; Li et al. 2022.)
"""

import re
from types import ModuleType
from typing import Any

import numpy as np

from vjax import convert, factory
from vjax.convert import _mvit, _table
from vjax.heads import linear
from vjax.models import mvit, slowfast, x3d
from vjax.types import VideoModel

CLIP = (8, 64, 64)
MODELS = (
  'c2d_r50', 'c2d_r101', 'c2d_r152',
  'c2d_nln_r50', 'c2d_nln_r101', 'c2d_nln_r152',
  'c2d_nopool_r50', 'c2d_nopool_r101', 'c2d_nopool_r152',
  'i3d_3x1x1_r50', 'i3d_3x1x1_r101', 'i3d_3x1x1_r152',
  'i3d_nln_r50', 'i3d_nln_r101', 'i3d_nln_r152',
  'slow_r50', 'slow_r101', 'slow_r152',
  'slow_nln_r50', 'slow_nln_r101', 'slow_nln_r152',
  'slow_50_50_r50', 'slow_50_50_r101', 'slow_50_50_r152',
  'x3d_xs', 'x3d_s', 'x3d_m', 'x3d_l', 'x3d_xl',
  'slowfast_r50_4x16', 'slowfast_r50_8x8', 'slowfast_r50_16x8',
  'slowfast_r101_8x8', 'slowfast_r101_8x8_50_50', 'slowfast_r101_8x8_50_101',
  'slowfast_r101_16x8', 'slowfast_r101_16x8_50_50',
  'slowfast_nln_r50_4x16', 'slowfast_nln_r50_8x8', 'slowfast_nln_r101_16x8_50_50',
  'slowfast_ava_nln_r101_50_50',
  'mvit_v1_b_16x4', 'mvit_v1_b_32x3', 'mvit_v1_b16_32x3', 'mvit_v1_b16_64x3',
  'mvit_v2_s_16x4', 'mvit_v2_b_32x3', 'mvit_v2_l_40x3',
)  # fmt: skip
ALIASES = {  # PySlowFast's own names, of its configs and model zoo
  'C2D_8x8_R50': 'c2d_r50', 'C2D_NLN_8x8_R50': 'c2d_nln_r50',
  'C2D_NOPOOL_8x8_R50': 'c2d_nopool_r50',
  'I3D_8x8_R50': 'i3d_3x1x1_r50', 'I3D_8x8_R101': 'i3d_3x1x1_r101',
  'I3D_NLN_8x8_R50': 'i3d_nln_r50', 'I3D_NLN_8x8_R101': 'i3d_nln_r101',
  'SLOW_4x16_R50': 'slow_r50', 'SLOW_8x8_R50': 'slow_r50',
  'SLOWONLY_4x16_R50': 'slow_r50', 'SLOWONLY_8x8_R50': 'slow_r50',
  'SLOW_NLN_4x16_R50': 'slow_nln_r50', 'SLOW_NLN_8x8_R50': 'slow_nln_r50',
  'SLOWFAST_4x16_R50': 'slowfast_r50_4x16', 'SLOWFAST_8x8_R50': 'slowfast_r50_8x8',
  'SLOWFAST_16x8_R50': 'slowfast_r50_16x8',
  'SLOWFAST_16x8_R101_50_50': 'slowfast_r101_16x8_50_50',
  'SLOWFAST_NLN_4x16_R50': 'slowfast_nln_r50_4x16', 'SLOWFAST_NLN_8x8_R50': 'slowfast_nln_r50_8x8',
  'X3D_XS': 'x3d_xs', 'X3D_S': 'x3d_s', 'X3D_M': 'x3d_m', 'X3D_L': 'x3d_l',
  'MVIT_B_16x4_CONV': 'mvit_v1_b_16x4', 'MVIT_B_32x3_CONV': 'mvit_v1_b_32x3',
  'MVITv2_S_16x4': 'mvit_v2_s_16x4', 'MVITv2_B_32x3': 'mvit_v2_b_32x3',
  'MVITv2_L_40x3': 'mvit_v2_l_40x3',
}  # fmt: skip


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


def _blocks(pathway: int = 0, prefix: str = '') -> list[_table.Row]:
  rows = []
  for stage in (2, 3, 4, 5):
    block, here = (
      f's{stage}.pathway{pathway}_res{{block}}',
      f'backbone/{prefix}res{stage}/block{{block}}',
    )
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
    attend, here = (
      f's{stage}.pathway{pathway}_nonlocal{{block}}',
      f'backbone/{prefix}res{stage}/nonlocal{{block}}',
    )
    for name in ('theta', 'phi', 'g', 'out'):
      rows += _table.dense(f'{attend}.conv_{name}', f'{here}/{name}')
    rows += _table.norm(f'{attend}.bn', f'{here}/norm')
  return rows


def caffe2_name(blob: str) -> str | None:
  """The PyTorch file's name of a Caffe2 blob; None for what is no weight (momentum, learning rate,
  counters)."""
  if 'momentum' in blob or blob in ('lr', 'model_iter'):
    return None
  ends = {'s': 'weight', 'b': 'bias', 'rm': 'running_mean', 'riv': 'running_var', 'w': 'weight'}
  match = re.fullmatch(
    r't_(?:pool(1)|res(\d)_\d+_branch2c_bn)_subsample(_bn)?_(s|b|rm|riv|w)', blob
  )
  if match:  # a lateral, named after the last fast layer before it
    return f's{match[1] or match[2]}_fuse.{"bn" if match[3] else "conv_f2s"}.{ends[match[4]]}'
  pathway, blob = (1, blob[2:]) if blob.startswith('t_') else (0, blob)
  match = re.fullmatch(r'(conv1|conv1_xy|res_conv1_bn)_(s|b|rm|riv|w)', blob)
  if match:  # conv1_xy: X3D's first half, conv1 its second
    part = {'conv1': 'conv', 'conv1_xy': 'conv_xy', 'res_conv1_bn': 'bn'}[match[1]]
    return f's1.pathway{pathway}_stem.{part}.{ends[match[2]]}'
  match = re.fullmatch(r'res(\d)_(\d+)_branch2b_bn_fc(\d)_(b|w)', blob)
  if match:  # squeeze-excitation
    return f's{match[1]}.pathway{pathway}_res{match[2]}.branch2.se.fc{match[3]}.{ends[match[4]]}'
  match = re.fullmatch(r'res(\d)_(\d+)_branch(1|2[abc])(_bn)?_(s|b|rm|riv|w)', blob)
  if match:
    stage, block, branch, norm, end = match.groups()
    branch = 'branch1' if branch == '1' else f'branch2.{branch[1]}'
    return f's{stage}.pathway{pathway}_res{block}.{branch}{norm or ""}.{ends[end]}'
  match = re.fullmatch(r'nonlocal_conv(\d)_(\d+)_(theta|phi|g|out|bn)_(s|b|rm|riv|w)', blob)
  if match:
    stage, block, part, end = match.groups()
    return (
      f's{stage}.pathway0_nonlocal{block}.{part if part == "bn" else f"conv_{part}"}.{ends[end]}'
    )
  match = re.fullmatch(r'(pred|conv_5|conv_5_bn|lin_5)_(s|b|rm|riv|w)', blob)
  return f'head.{match[1].replace("pred", "projection")}.{ends[match[2]]}' if match else blob


def build(
  tensors: dict[str, np.ndarray], name: str, overrides: dict[str, Any]
) -> convert.SourceModel:
  """The model that the weights are for, and how they fit into it.

  How many frames SlowFast's laterals look at is read from the weights.
  """
  family, read, head = factory.find_model(name)[0], {}, {}
  if any(key.endswith('_riv') for key in tensors):
    tensors = {
      new: array for blob, array in tensors.items() if (new := caffe2_name(blob)) is not None
    }
  tensors = _table.matrices(tensors, r'head\.projection\.weight')
  classes = convert.num_classes(tensors, 'head.projection.weight')
  if family is mvit:
    backbone, tensors = _mvit.backbone(tensors, mvit.MODELS[name], overrides)
    clip = (backbone.frames, backbone.crop, backbone.crop)
    model = VideoModel(backbone, linear.Head(classes))
    return convert.SourceModel(model, clip=clip, table=_mvit.table(), tensors=tensors)
  if family is slowfast:
    lateral = np.shape(tensors.get('s1_fuse.conv_f2s.weight', ()))
    read = {'fusion': lateral[2]} if len(lateral) == 5 else {}
  if family is x3d:
    tensors = _table.matrices(tensors, _POINTWISE)
    if 'head.lin_5.weight' in tensors:
      head = {'hidden': tensors['head.lin_5.weight'].shape[0]}
  model = factory.create_model(name, classes, head=head, **{**read, **overrides})
  clip = (32, 64, 64) if family is slowfast else CLIP
  return convert.SourceModel(model, clip=clip, table=_rows(family), tensors=tensors)


def _rows(family: ModuleType) -> list[_table.Row]:
  return {x3d: x3d_table, slowfast: slowfast_table, mvit: _mvit.table}.get(family, table)()


def names(variables: dict[str, np.ndarray], name: str) -> list[_table.Row]:
  """The table for `convert.to_source`."""
  return _rows(factory.find_model(name)[0])


# linear layers of X3D that are 1x1x1 convolutions there
_POINTWISE = r'.*\.se\.fc\d\.weight|head\.lin_5\.weight'


def restore(tensors: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """Brings tensors into the original's form."""
  family, _ = factory.find_model(name)
  if family is mvit:
    return _table.join_qkv(tensors)
  return _table.pointwise(tensors, _POINTWISE) if family is x3d else tensors


SOURCE = convert.Source(MODELS, build, names, ALIASES, restore)
