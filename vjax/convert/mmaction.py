"""MMAction 0.x: SlowOnly, ResNet3d, R(2+1)D, CSN and TSM; the image pre-training paper (ECCV 2022) uses its names."""

import re
from typing import Any

import numpy as np

from vjax import convert
from vjax.convert import _table
from vjax.heads import linear
from vjax.models import resnet, slowfast, x3d
from vjax.types import VideoModel

CLIP = (8, 64, 64)
_NAMES = r'(sts_\w+|slow_r\d+|i[rp]_csn_r\d+|tsm(_tp)?_r\d+|tsn_r\d+)'
VARIANTS = {name: settings for name, settings in resnet.VARIANTS.items() if re.fullmatch(_NAMES, name)}
VARIANTS |= {f'sts_slowfast_{n[4:]}': settings for n, settings in slowfast.VARIANTS.items() if n.startswith('sts_')}
VARIANTS |= {'sts_x3d_s': x3d.VARIANTS['sts_s']}


def table() -> list[_table.Row]:
  """The rename table; block numbers and stages are the same everywhere."""
  stem = 'backbone/stem'
  rows = [
    ('backbone.conv1.conv.weight', f'params/{stem}/conv1/kernel'),
    ('backbone.conv1.conv.conv_s.weight', f'params/{stem}/conv1/kernel'),
    *_table.norm('backbone.conv1.conv.bn_s', f'{stem}/norm1'),
    ('backbone.conv1.conv.conv_t.weight', f'params/{stem}/conv2/kernel'),
  ]
  for layer in (1, 2, 3, 4):
    block, here = f'backbone.layer{layer}.{{block}}', f'backbone/res{layer + 1}/block{{block}}'
    rows += [
      (f'{block}.conv{{i}}.conv.conv_s.weight', f'params/{here}/conv{{i}}/spatial/kernel'),
      *_table.norm(f'{block}.conv{{i}}.conv.bn_s', f'{here}/conv{{i}}/norm'),
      (f'{block}.conv{{i}}.conv.conv_t.weight', f'params/{here}/conv{{i}}/temporal/kernel'),
      (f'{block}.conv{{i}}.conv.net.weight', f'params/{here}/conv{{i}}/kernel'),
      (f'{block}.conv{{i}}.conv.weight', f'params/{here}/conv{{i}}/kernel'),
      *_table.norm(f'{block}.conv{{i}}.bn', f'{here}/norm{{i}}'),
      (f'{block}.downsample.conv.conv_s.weight', f'params/{here}/shortcut_spatial/kernel'),
      *_table.norm(f'{block}.downsample.conv.bn_s', f'{here}/shortcut_middle_norm'),
      (f'{block}.downsample.conv.conv_t.weight', f'params/{here}/shortcut/kernel'),
      (f'{block}.downsample.conv.weight', f'params/{here}/shortcut/kernel'),
      *_table.norm(f'{block}.downsample.bn', f'{here}/shortcut_norm'),
    ]
  return rows + _table.dense('cls_head.fc_cls', 'head/linear')


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
    ours = lambda name, path=path: name and re.sub(r'backbone/(res|stem)', rf'backbone/{path}_\1', name)
    single = _table.norm('backbone.conv1.bn', 'backbone/stem/norm1') + table()
    rows += [(within(theirs), ours(here)) for theirs, here in single if theirs.startswith('backbone.')]
  return rows


def build(tensors: dict[str, np.ndarray], variant: str, overrides: dict[str, Any]):
  """Model, clip shape, table and tensors for `convert.load`."""
  settings = {**convert.variant_of(VARIANTS, variant), **overrides}
  if variant == 'sts_x3d_s':
    tensors = _table.matrices(tensors, _POINTWISE)
    classes = convert.num_classes(tensors, 'cls_head.fc2.weight')
    return VideoModel(x3d.Backbone(**settings), linear.Head(classes, hidden=x3d.HIDDEN)), CLIP, x3d_table(), tensors
  if variant.startswith('sts_slowfast'):
    head = linear.Head(convert.num_classes(tensors, 'cls_head.fc_cls.weight'))
    return VideoModel(slowfast.Backbone(**settings), head), (32, 64, 64), slowfast_table(), tensors
  tensors = {_plain(name, settings): _five_axes(np.asarray(array)) for name, array in tensors.items()}
  rows = [('backbone.conv1.bn', 'norm2' if settings.get('stem') == '2plus1d' else 'norm1')]
  rows = _table.norm(rows[0][0], f'backbone/stem/{rows[0][1]}') + table()
  head = linear.Head(convert.num_classes(tensors, 'cls_head.fc_cls.weight'))
  return VideoModel(resnet.Backbone(**settings), head), CLIP, rows, tensors


def _plain(name: str, settings: dict[str, Any]) -> str:
  """Names without the wrappers of CSN's convolutions (a sequence) and of TSM's blocks (a net)."""
  if settings.get('convs', ('2d',))[0] == 'ir':
    return re.sub(r'\.conv2\.0\.', '.conv2.', name)
  if settings.get('convs', ('2d',))[0] == 'ip':
    name = re.sub(r'\.conv2\.0\.conv\.', '.conv2.pointwise.', name)
    return re.sub(r'\.conv2\.1\.', '.conv2.', name)
  return re.sub(r'^(backbone\.layer\d)(?:\.net)?(\.\d+)(?:\.net)?\.', r'\1\2.', name)


def _five_axes(array: np.ndarray) -> np.ndarray:
  return array[:, :, None] if array.ndim == 4 else array


def names(variables: dict[str, np.ndarray], variant: str) -> list[_table.Row]:
  """The table for `convert.to_source`."""
  split = convert.variant_of(VARIANTS, variant).get('stem') == '2plus1d'
  if variant == 'sts_x3d_s' or variant.startswith('sts_slowfast'):
    rows = x3d_table() if variant == 'sts_x3d_s' else slowfast_table()
    return [row for row in rows if not re.search(r'\.net\.|conv_[st]|bn_s', row[0])]
  other = r'\.net\.|backbone\.conv1\.conv\.weight' if split else r'\.net\.|conv_[st]|bn_s'
  rows = [row for row in table() if not re.search(other, row[0])]
  return _table.norm('backbone.conv1.bn', f'backbone/stem/{"norm2" if split else "norm1"}') + rows


_POINTWISE = r'.*\.se_module\.fc\d\.weight'  # linear layers of X3D that are 1x1x1 convolutions there


def restore(tensors: dict[str, np.ndarray], variant: str) -> dict[str, np.ndarray]:
  """What the original stores in another form, under the names that its wrappers give (of TSM, those of 'blockres')."""
  if variant == 'sts_x3d_s':
    return _table.pointwise(tensors, _POINTWISE)
  if '_csn_' in variant:
    last = '1' if 'ip_' in variant else '0'
    for pattern, name in {
      r'\.conv2\.pointwise\.': '.conv2.0.conv.',
      r'\.conv2\.(conv|bn)\.': rf'.conv2.{last}.\1.',
    }.items():
      tensors = {re.sub(pattern, name, old): array for old, array in tensors.items()}
    return tensors
  if variant.startswith('tsm'):
    shifted = lambda name: re.sub(r'(layer\d\.\d+\.conv1\.conv)\.weight', r'\1.net.weight', name)
    return {shifted(name): array for name, array in _table.pictures(tensors).items()}
  return _table.pictures(tensors) if variant.startswith('tsn') else tensors
