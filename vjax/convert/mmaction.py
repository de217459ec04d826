"""MMAction: SlowOnly, SlowFast, R(2+1)D, CSN, TSN and TSM, the first and the last also with
non-local blocks; the image pre-training paper (ECCV 2022) uses its names, for its image networks
nearly."""

import re
from types import ModuleType
from typing import Any

import flax.linen as nn
import numpy as np

from vjax import convert, factory
from vjax.convert import _table
from vjax.models import slowfast, tsn, x3d

CLIP = (8, 64, 64)
MODELS = (
  'tsn_r18', 'tsn_r34', 'tsn_r50', 'tsn_r101', 'tsn_r152',
  'tsm_r18', 'tsm_r34', 'tsm_r50', 'tsm_r101', 'tsm_r152',
  'tsm_nl_r50', 'mm_tsm_tp_r50',
  'slow_r50', 'slow_r101', 'slow_r152', 'slow_nl_r50',
  'vmz_ir_csn_r50', 'vmz_ir_csn_r101', 'vmz_ir_csn_r152',
  'vmz_ip_csn_r50', 'vmz_ip_csn_r101', 'vmz_ip_csn_r152',
  'mm_r2plus1d_r34',
  'mm_slowfast_r50_4x16', 'mm_slowfast_r50_8x8',
  'sts_slow_r50', 'sts_3x1x1_r50', 'sts_3x3x3_r50', 'sts_ir_csn_r50', 'sts_r2plus1d_r34',
  'sts_slowfast_r50_4x16', 'sts_slowfast_r50_8x8', 'sts_x3d_s',
)  # fmt: skip
ALIASES = {  # what MMAction's models were called here, or are called there
  'ir_csn_r50': 'vmz_ir_csn_r50',
  'ir_csn_r101': 'vmz_ir_csn_r101',
  'ir_csn_r152': 'vmz_ir_csn_r152',
  'ip_csn_r50': 'vmz_ip_csn_r50',
  'ip_csn_r101': 'vmz_ip_csn_r101',
  'ip_csn_r152': 'vmz_ip_csn_r152',
  'tsm_tp_r50': 'mm_tsm_tp_r50',
  'r2plus1d_r34': 'mm_r2plus1d_r34',
  'slowfast_r50_4x16': 'mm_slowfast_r50_4x16',
  'slowfast_r50_8x8': 'mm_slowfast_r50_8x8',
  'slowonly_r50': 'slow_r50',
  'slowonly_r101': 'slow_r101',
}


def table(kind: str = '2d') -> list[_table.Row]:
  """The rename table; block numbers and stages are the same everywhere. kind: of the convolutions,
  as in layers.resnet.KINDS; those of CSN stand in a sequence."""
  stem = 'backbone/stem'
  rows = [
    ('backbone.conv1.conv.weight', f'params/{stem}/conv1/kernel'),
    ('backbone.conv1.conv.conv_s.weight', f'params/{stem}/conv1/kernel'),
    *_table.norm('backbone.conv1.conv.bn_s', f'{stem}/norm1'),
    ('backbone.conv1.conv.conv_t.weight', f'params/{stem}/conv2/kernel'),
  ]
  for layer in (1, 2, 3, 4):
    block, here = f'backbone.layer{layer}.{{block}}', f'backbone/res{layer + 1}/block{{block}}'
    if kind in ('ir', 'ip'):
      rows += _separated(f'{block}.conv2', here, kind == 'ip')
    rows += [
      (f'{block}.conv{{i}}.conv.conv_s.weight', f'params/{here}/conv{{i}}/spatial/kernel'),
      *_table.norm(f'{block}.conv{{i}}.conv.bn_s', f'{here}/conv{{i}}/norm'),
      (f'{block}.conv{{i}}.conv.conv_t.weight', f'params/{here}/conv{{i}}/temporal/kernel'),
      (f'{block}.conv{{i}}.conv.weight', f'params/{here}/conv{{i}}/kernel'),
      *_table.norm(f'{block}.conv{{i}}.bn', f'{here}/norm{{i}}'),
      (f'{block}.downsample.conv.conv_s.weight', f'params/{here}/shortcut_spatial/kernel'),
      *_table.norm(f'{block}.downsample.conv.bn_s', f'{here}/shortcut_middle_norm'),
      (f'{block}.downsample.conv.conv_t.weight', f'params/{here}/shortcut/kernel'),
      (f'{block}.downsample.conv.weight', f'params/{here}/shortcut/kernel'),
      *_table.norm(f'{block}.downsample.bn', f'{here}/shortcut_norm'),
    ]
    attend, here = f'{block}.non_local_block', f'backbone/res{layer + 1}/nonlocal{{block}}'
    for theirs, ours in {'theta': 'theta', 'phi': 'phi', 'g': 'g', 'conv_out': 'out'}.items():
      rows += _table.dense(f'{attend}.{theirs}.conv', f'{here}/{ours}')
    rows += _table.norm(f'{attend}.conv_out.bn', f'{here}/norm')
  return rows + _table.dense('cls_head.fc_cls', 'head/linear')


def _separated(theirs: str, here: str, kept: bool) -> list[_table.Row]:
  """Rows of CSN's depthwise convolution and its norm; kept: after those that keep the interaction
  of channels."""
  if not kept:
    return [
      (f'{theirs}.0.conv.weight', f'params/{here}/conv2/kernel'),
      *_table.norm(f'{theirs}.0.bn', f'{here}/norm2'),
    ]
  return [
    (f'{theirs}.0.conv.weight', f'params/{here}/conv2/pointwise/kernel'),
    *_table.norm(f'{theirs}.0.bn', f'{here}/conv2/norm'),
    (f'{theirs}.1.conv.weight', f'params/{here}/conv2/depthwise/kernel'),
    *_table.norm(f'{theirs}.1.bn', f'{here}/norm2'),
  ]


def x3d_table() -> list[_table.Row]:
  """The rename table of X3D."""
  rows = [
    ('backbone.conv1_s.conv.weight', 'params/backbone/stem_space/kernel'),
    ('backbone.conv1_t.conv.weight', 'params/backbone/stem_time/kernel'),
    *_table.norm('backbone.conv1_t.bn', 'backbone/stem_norm'),
    ('backbone.conv5.conv.weight', 'params/backbone/conv5/kernel'),
    *_table.norm('backbone.conv5.bn', 'backbone/norm5'),
    ('cls_head.fc1.weight', 'params/head/hidden/kernel'),
    *_table.dense('cls_head.fc2', 'head/linear'),
  ]
  for layer in (1, 2, 3, 4):
    block, here = f'backbone.layer{layer}.{{block}}', f'backbone/res{layer + 1}/block{{block}}'
    rows += _table.dense(f'{block}.se_module.fc1', f'{here}/se/reduce')
    rows += _table.dense(f'{block}.se_module.fc2', f'{here}/se/expand')
  return rows + table()


def slowfast_table() -> list[_table.Row]:
  """The rename table of two pathways."""
  rows = _table.dense('cls_head.fc_cls', 'head/linear')
  rows += [('backbone.slow_path.conv1_lateral.conv.weight', 'params/backbone/lateral1/conv/kernel')]
  for layer in (1, 2, 3):
    lateral = f'backbone.slow_path.layer{layer}_lateral.conv.weight'
    rows += [(lateral, f'params/backbone/lateral{layer + 1}/conv/kernel')]
  for path in ('slow', 'fast'):
    within = lambda name, path=path: name.replace('backbone.', f'backbone.{path}_path.', 1)
    ours = lambda name, path=path: (
      name and re.sub(r'backbone/(res|stem)', rf'backbone/{path}_\1', name)
    )
    single = _table.norm('backbone.conv1.bn', 'backbone/stem/norm1') + table()
    rows += [
      (within(theirs), ours(here)) for theirs, here in single if theirs.startswith('backbone.')
    ]
  return rows


def build(
  tensors: dict[str, np.ndarray], name: str, overrides: dict[str, Any]
) -> convert.SourceModel:
  """The model that the weights are for, and how they fit into it."""
  family, _ = factory.find_model(name)
  if any('get_feature.' in key for key in tensors):
    tensors = _image(tensors, family)
  tensors = _table.matrices(tensors, r'cls_head\.fc(_cls|2)\.weight')
  last = 'cls_head.fc2.weight' if family is x3d else 'cls_head.fc_cls.weight'
  model = factory.create_model(name, convert.num_classes(tensors, last), **overrides)
  if family is x3d:
    tensors = _table.matrices(tensors, _POINTWISE)
    return convert.SourceModel(model, clip=CLIP, table=x3d_table(), tensors=tensors)
  if family is slowfast:
    return convert.SourceModel(model, clip=(32, 64, 64), table=slowfast_table(), tensors=tensors)
  tensors = _biased({_plain(key): _five_axes(array) for key, array in tensors.items()})
  return convert.SourceModel(model, clip=CLIP, table=_rows(model.backbone), tensors=tensors)


def _rows(net: nn.Module) -> list[_table.Row]:
  """The table of a ResNet, the norm at the end of its stem included."""
  last = 'norm2' if net.stem == '2plus1d' else 'norm1'
  return _table.norm('backbone.conv1.bn', f'backbone/stem/{last}') + table(net.convs[0])


def _image(tensors: dict[str, np.ndarray], family: ModuleType) -> dict[str, np.ndarray]:
  """The image pre-training paper's image networks under the names of its video networks.

  DIFFERS(code): X3D's image network has a bias before its last ReLU, which the video network lacks;
  it is dropped, as in the authors' fine-tuning."""
  found, last = {}, 'cls_head.fc2' if family is x3d else 'cls_head.fc_cls'
  for name, array in tensors.items():
    name = name.removeprefix('module.')
    if name == 'classifier.weight' and family is slowfast:
      array = np.roll(
        array, array.shape[1] // 9, axis=1
      )  # [slow, fast], 8 to 1; the video network has [fast, slow]
    for theirs, video in {
      'get_feature': 'backbone',
      'classifier': last,
      'fc1': 'cls_head.fc1',
    }.items():
      name = re.sub(rf'^{theirs}\.', f'{video}.', name)
    if name != 'cls_head.fc1.bias':
      found[name] = array
  return found


def _plain(name: str) -> str:
  """Names without the wrappers of TSM's blocks, convolutions and pool (a net), of blocks with a
  non-local one behind them (a block), and of projections with a pool behind them (a sequence)."""
  name = re.sub(r'^(backbone\.layer\d)(?:\.net)?(\.\d+)(?:\.net)?(?:\.block)?\.', r'\1\2.', name)
  return re.sub(
    r'\.non_local_block\.(phi|g)\.0\.',
    r'.non_local_block.\1.',
    name.replace('.conv.net.', '.conv.'),
  )


def _five_axes(array: np.ndarray) -> np.ndarray:
  array = np.asarray(array)
  return array[:, :, None] if array.ndim == 4 else array


def _biased(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """With biases of zero where the norm after a non-local block's last projection made the original
  leave them out."""
  norms = [name for name in tensors if name.endswith('.conv_out.bn.running_mean')]
  zeros = {
    n.replace('.bn.running_mean', '.conv.bias'): np.zeros(tensors[n].shape, np.float32)
    for n in norms
  }
  return {**zeros, **tensors}


def names(variables: dict[str, np.ndarray], name: str) -> list[_table.Row]:
  """The table for `convert.to_source`."""
  family, _ = factory.find_model(name)
  if family in (x3d, slowfast):
    rows = x3d_table() if family is x3d else slowfast_table()
    return [row for row in rows if not re.search('conv_[st]|bn_s', row[0])]
  net = factory.create_backbone(name)
  other = r'backbone\.conv1\.conv\.weight' if net.stem == '2plus1d' else 'conv_[st]|bn_s'
  return [row for row in _rows(net) if not re.search(other, row[0])]


_POINTWISE = (
  r'.*\.se_module\.fc\d\.weight'  # linear layers of X3D that are 1x1x1 convolutions there
)


def restore(tensors: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """Brings tensors into the original's form, under the names that its wrappers give (of TSM, those
  of 'blockres')."""
  family, net = factory.find_model(name)[0], factory.create_backbone(name)
  if family is x3d:
    return _table.pointwise(tensors, _POINTWISE)
  tensors = _unbiased(tensors)
  if family is slowfast:
    return tensors
  tensors = {
    re.sub(r'(non_local_block\.(?:phi|g))\.', r'\1.0.', key): array
    for key, array in tensors.items()
  }
  if family is not tsn:
    return tensors
  if net.temporal.kind == 'tsm':
    tensors = {_wrapped(key, net): array for key, array in tensors.items()}
  clips = {key: array for key, array in tensors.items() if '.non_local_block.' in key}
  return {**_table.pictures(tensors), **clips}  # 3D among 2D convolutions


def _wrapped(name: str, net: nn.Module) -> str:
  """The name that TSM gives: a net where it shifts or pools, a block where a non-local one
  follows."""
  match = re.fullmatch(r'(backbone\.layer)(\d)\.(\d+)\.(.*)', name)
  if not match:
    return name
  stage, block, rest = int(match[2]) - 1, int(match[3]), match[4]
  if net.mixed()[stage][block]:
    rest = re.sub(r'^conv1\.conv\.', 'conv1.conv.net.', rest)
  if block in net.non_local.blocks[stage] and not rest.startswith('non_local_block'):
    rest = f'block.{rest}'
  pooled = '.net' if stage and net.pools[stage - 1] else ''
  return f'{match[1]}{match[2]}{pooled}.{block}.{rest}'


def _unbiased(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The inverse of `_biased`: a bias in front of a norm is the same as so much less of a running
  mean."""
  found = dict(tensors)
  for name in tensors:
    if name.endswith('.conv_out.conv.bias'):
      mean = name.replace('.conv.bias', '.bn.running_mean')
      found[mean] = found[mean] - found.pop(name)
  return found


SOURCE = convert.Source(MODELS, build, names, ALIASES, restore)
