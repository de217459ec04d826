"""VMZ: R(2+1)D, R3D and R2D of Ghadiyaram et al. 2019, CSN (Tran et al. 2019), from the PyTorch
files (and the community's conversions, which share their names) or from the Caffe2 pickles."""

import re
from typing import Any

import numpy as np

from vjax import convert, factory
from vjax.convert import _table, torchvision

MODELS = (
  'r2d_18',
  'r3d_18', 'r3d_34', 'r3d_101', 'r3d_152',
  'r2plus1d_18', 'r2plus1d_34', 'r2plus1d_101', 'r2plus1d_152',
  'vmz_ir_csn_r50', 'vmz_ir_csn_r101', 'vmz_ir_csn_r152',
  'vmz_ip_csn_r50', 'vmz_ip_csn_r101', 'vmz_ip_csn_r152',
)  # fmt: skip
ALIASES = {  # VMZ's own names
  'ir_csn_50': 'vmz_ir_csn_r50',
  'ir_csn_101': 'vmz_ir_csn_r101',
  'ir_csn_152': 'vmz_ir_csn_r152',
  'ip_csn_50': 'vmz_ip_csn_r50',
  'ip_csn_101': 'vmz_ip_csn_r101',
  'ip_csn_152': 'vmz_ip_csn_r152',
}


def caffe2_table(name: str, classes: int) -> list[_table.Row]:
  """The rename table of the Caffe2 blobs. Blocks are numbered through all stages; `_riv` holds the
  running variance in spite of its name, which says inverse."""
  net, stem = factory.create_backbone(name), 'backbone/stem'
  if net.stem == '2plus1d':
    rows = [
      ('conv1_middle_w', f'params/{stem}/conv1/kernel'),
      *_caffe2_norm('conv1_middle_spatbn_relu', f'{stem}/norm1'),
      ('conv1_w', f'params/{stem}/conv2/kernel'),
      *_caffe2_norm('conv1_spatbn_relu', f'{stem}/norm2'),
    ]
  else:
    rows = [
      ('conv1_w', f'params/{stem}/conv1/kernel'),
      *_caffe2_norm('conv1_spatbn_relu', f'{stem}/norm1'),
    ]
  blocks = [
    (stage, block) for stage, depth in enumerate(net.depths, start=2) for block in range(depth)
  ]
  for i, (stage, block) in enumerate(blocks):
    here = f'backbone/res{stage}/block{block}'
    kind = net.convs[stage - 2]
    for j in (1, 2, 3) if net.bottleneck else (1, 2):
      wide = not net.bottleneck or j == 2
      first, second = _HALVES.get(kind, ('', '')) if wide else ('', '')
      number = j + (kind == 'ir' and j > 1)  # ir-CSN's depthwise convolution is counted twice
      if first:
        rows += [
          (f'comp_{i}_conv_{j}_middle_w', f'params/{here}/conv{j}/{first}/kernel'),
          *_caffe2_norm(f'comp_{i}_spatbn_{j}_middle', f'{here}/conv{j}/norm'),
        ]
      rows += [
        (
          f'comp_{i}_conv_{number}_w',
          f'params/{here}/conv{j}/' + (f'{second}/kernel' if second else 'kernel'),
        ),
        *_caffe2_norm(f'comp_{i}_spatbn_{number}', f'{here}/norm{j}'),
      ]
    rows += [
      (f'shortcut_projection_{i}_w', f'params/{here}/shortcut/kernel'),
      *_caffe2_norm(f'shortcut_projection_{i}_spatbn', f'{here}/shortcut_norm'),
    ]
  last = f'last_out_L{classes}'
  return [
    *rows,
    (f'{last}_w', 'params/head/linear/kernel'),
    (f'{last}_b', 'params/head/linear/bias'),
  ]


_HALVES = {'2plus1d': ('spatial', 'temporal'), 'ip': ('pointwise', 'depthwise')}


def _caffe2_norm(original: str, here: str) -> list[_table.Row]:
  return [
    (f'{original}_s', f'params/{here}/scale'),
    (f'{original}_b', f'params/{here}/bias'),
    (f'{original}_rm', f'batch_stats/{here}/mean'),
    (f'{original}_riv', f'batch_stats/{here}/var'),
  ]


def build(
  tensors: dict[str, np.ndarray], name: str, overrides: dict[str, Any]
) -> convert.SourceModel:
  """The model that the weights are for, and how they fit into it.

  pool1 leaves no trace in the weights: R(2+1)D files for 224 px need the override pool1=True; CSN
  has it.
  """
  tensors = _table.matrices(tensors, r'last_out_L\d+_w|fc\.weight')
  last = next((key for key in tensors if re.fullmatch(r'last_out_L\d+_w', key)), None)
  classes = convert.num_classes(tensors, last or 'fc.weight')
  model = factory.create_model(name, classes, **overrides)
  caffe2 = any(key.endswith('_riv') for key in tensors)
  rows = caffe2_table(name, classes) if caffe2 else torchvision.table(model.backbone.convs[0])
  return convert.SourceModel(model, clip=torchvision.CLIP, table=rows, tensors=tensors)


def names(variables: dict[str, np.ndarray], name: str) -> list[_table.Row]:
  """The table for `convert.to_source`: the names of the PyTorch release."""
  return torchvision.table(factory.create_backbone(name).convs[0])


SOURCE = convert.Source(MODELS, build, names, ALIASES)
