"""The unified framework's TSN, TAM, I3D and S3D on ResNets and InceptionV1 (Chen et al. 2021), and
bLResNet-TAM (Fan et al. 2019), from the authors' files; torchvision's image networks are its tsn_*,
bLResNet's ImageNet files lack TAM."""

import re
from typing import Any

import numpy as np

from vjax import convert, factory
from vjax.convert import _table
from vjax.models import blresnet, inception

CLIP = (8, 64, 64)
MODELS = (
  'tsn_r18', 'tsn_r34', 'tsn_r50', 'tsn_r101', 'tsn_r152',
  'tam_r18', 'tam_r34', 'tam_r50', 'tam_r101', 'tam_r152',
  'tam_dense_r18', 'tam_dense_r34', 'tam_dense_r50', 'tam_dense_r101', 'tam_dense_r152',
  'i3d_r18', 'i3d_r34', 'i3d_r50', 'i3d_r101', 'i3d_r152',
  's3d_r18', 's3d_r34', 's3d_r50', 's3d_r101', 's3d_r152',
  's3d_dw_r18', 's3d_dw_r34', 's3d_dw_r50', 's3d_dw_r101', 's3d_dw_r152',
  'tsn_tp_r18', 'tsn_tp_r34', 'tsn_tp_r50', 'tsn_tp_r101', 'tsn_tp_r152',
  'tam_tp_r18', 'tam_tp_r34', 'tam_tp_r50', 'tam_tp_r101', 'tam_tp_r152',
  'tam_dense_tp_r18', 'tam_dense_tp_r34', 'tam_dense_tp_r50', 'tam_dense_tp_r101',
  'tam_dense_tp_r152',
  'i3d_tp_r18', 'i3d_tp_r34', 'i3d_tp_r50', 'i3d_tp_r101', 'i3d_tp_r152',
  's3d_tp_r18', 's3d_tp_r34', 's3d_tp_r50', 's3d_tp_r101', 's3d_tp_r152',
  's3d_dw_tp_r18', 's3d_dw_tp_r34', 's3d_dw_tp_r50', 's3d_dw_tp_r101', 's3d_dw_tp_r152',
  'tsn_inception', 'tam_inception', 'tam_dense_inception', 'i3d_inception',
  's3d_inception', 's3d_dw_inception',
  'tsn_tp_inception', 'tam_tp_inception', 'tam_dense_tp_inception', 'i3d_tp_inception',
  's3d_tp_inception', 's3d_dw_tp_inception',
  'blresnet_50', 'blresnet_101', 'blresnet_152',
)  # fmt: skip
ALIASES: dict[str, str] = {}


def table(name: str) -> list[_table.Row]:
  """The rename table."""
  family, _ = factory.find_model(name)
  if family is blresnet:
    return _blresnet() + _table.dense('new_fc', 'head/linear') + _table.dense('fc', 'head/linear')
  if family is inception:
    rows = _inception()
  else:
    net = factory.create_backbone(name)
    rows = _resnet(net.bottleneck, split=net.convs[0] == '2plus1d')
  return rows + _table.dense('fc', 'head/linear')


def _resnet(bottleneck: bool, split: bool) -> list[_table.Row]:
  rows = [
    ('conv1.weight', 'params/backbone/stem/conv1/kernel'),
    *_table.norm('bn1', 'backbone/stem/norm1'),
  ]
  for layer in (1, 2, 3, 4):
    block, here = f'layer{layer}.{{block}}', f'backbone/res{layer + 1}/block{{block}}'
    for i in (2,) if bottleneck and split else (1, 2) if split else ():
      rows += [
        (f'{block}.conv{i}.weight', f'params/{here}/conv{i}/spatial/kernel'),
        *_table.norm(f'{block}.bn{i}', f'{here}/conv{i}/norm'),
        (f'{block}.conv{i}_t.weight', f'params/{here}/conv{i}/temporal/kernel'),
        *_table.norm(f'{block}.bn{i}_t', f'{here}/norm{i}'),
      ]
    rows += [
      (f'{block}.conv{{i}}.weight', f'params/{here}/conv{{i}}/kernel'),
      *_table.norm(f'{block}.bn{{i}}', f'{here}/norm{{i}}'),
      (f'{block}.downsample.0.weight', f'params/{here}/shortcut/kernel'),
      *_table.norm(f'{block}.downsample.1', f'{here}/shortcut_norm'),
      (f'{block}.tam.weight', f'params/{here}/mix/kernel'),
    ]
  return rows


def _inception() -> list[_table.Row]:
  units = {f'conv{i}': f'conv{i}' for i in (1, 2, 3)}
  for name in inception.MODULES:
    branches = {'branch1': 'branch1', 'branch4.1': 'branch4'}
    for b in ('branch2', 'branch3'):
      branches |= {f'{b}.0': f'{b}_reduce', f'{b}.1': b}
    units |= {
      f'inception{name}.{theirs}': f'inception{name}/{ours}' for theirs, ours in branches.items()
    }
  rows = []
  for theirs, ours in units.items():
    here = f'backbone/{ours}'
    rows += [
      (f'{theirs}.conv.weight', f'params/{here}/conv/kernel'),
      *_table.norm(f'{theirs}.bn', f'{here}/norm'),
      *_table.dense(f'{theirs}.conv_t', f'{here}/conv_t'),
      *_table.norm(f'{theirs}.bn_t', f'{here}/norm_t'),
    ]
  for aux in ('aux1', 'aux2'):  # classifiers of GoogLeNet's training
    rows += [
      (f'{aux}.{part}', None)
      for part in ('conv.conv.weight', 'fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias')
    ]
    rows += [(theirs, None) for theirs, _ in _table.norm(f'{aux}.conv.bn', '')]
  return rows + [
    (f'tam{n}.weight', f'params/backbone/tam{n}/kernel')
    for n in ('1', '2', '3', *inception.MODULES)
  ]


def _blresnet() -> list[_table.Row]:
  units = {
    'conv1': ('conv1', 'bn1'),
    'big': ('b_conv0', 'bn_b0'),
    'join': ('bl_init', 'bn_bl_init'),
  }
  units |= {f'little{i}': (f'l_conv{i}', f'bn_l{i}') for i in (0, 1, 2)}
  rows = [('tam.weight', 'params/backbone/mix/kernel')]
  for ours, (conv, norm) in units.items():
    rows += [
      (f'{conv}.weight', f'params/backbone/{ours}/kernel'),
      *_table.norm(norm, f'backbone/{ours}_norm'),
    ]
  for layer in (1, 2, 3):
    here = f'backbone/stage{layer}'
    rows += [
      (f'layer{layer}.tam.weight', f'params/{here}/mix/kernel'),
      (f'layer{layer}.little_e.0.weight', f'params/{here}/widen/kernel'),
      *_table.norm(f'layer{layer}.little_e.1', f'{here}/widen_norm'),
    ]
    for part in ('big', 'little', 'fusion'):
      rows += _bottleneck(f'layer{layer}.{part}.{{block}}', f'{here}/{part}/block{{block}}')
  return rows + _bottleneck('layer4.{block}', 'backbone/stage4/block{block}')


def _bottleneck(theirs: str, here: str) -> list[_table.Row]:
  rows = [(f'{theirs}.tam.weight', f'params/{here}/mix/kernel')]
  for conv, norm, ours in (
    *((f'conv{i}', f'bn{i}', f'{i}') for i in (1, 2, 3)),
    ('downsample.0', 'downsample.1', ''),
  ):
    names = (f'conv{ours}', f'norm{ours}') if ours else ('shortcut', 'shortcut_norm')
    rows += [
      (f'{theirs}.{conv}.weight', f'params/{here}/{names[0]}/kernel'),
      *_table.norm(f'{theirs}.{norm}', f'{here}/{names[1]}'),
    ]
  return rows


def build(
  tensors: dict[str, np.ndarray], name: str, overrides: dict[str, Any]
) -> convert.SourceModel:
  """The model that the weights are for, and how they fit into it.

  Taps other than three are read from the weights, and whether bLResNet has TAM at all.
  """
  tensors, taps = _together(tensors)
  tensors = _table.matrices(tensors, r'(new_)?fc\.weight')
  little = factory.find_model(name)[0] is blresnet
  read = {'taps': taps} if taps else {'kind': ''} if little else {}
  if read:
    overrides = {**overrides, 'temporal': {**read, **overrides.get('temporal', {})}}
  classifier = ('new_fc.weight', 'fc.weight') if little else ('fc.weight',)
  model = factory.create_model(name, convert.num_classes(tensors, *classifier), **overrides)
  return convert.SourceModel(model, clip=CLIP, table=table(name), tensors=tensors)


def _together(tensors: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int]:
  """Tensors with an axis of time, the taps of a TAM as one kernel, without the trainer's prefix;
  and how many taps."""
  found, taps = {}, {}
  tensors = {
    n.removeprefix('module.').removeprefix('baseline_model.'): np.asarray(a)
    for n, a in tensors.items()
  }
  pooled = {
    n.partition('.2.')[0] for n in tensors if '.downsample.2.' in n
  }  # their first place is a pool without weights
  for name, array in tensors.items():
    before, _, after = name.partition('.downsample.')
    if f'{before}.downsample' in pooled:
      name = f'{before}.downsample.{int(after[0]) - 1}{after[1:]}'
    match = re.fullmatch(
      r'(.*tam\w*)\.(?:(prev|curr|next)(?:_se)?|blending_layers\.(\d+))(?:\.fc1)?\.weight', name
    )
    if match:
      place = match[3] if match[2] is None else ('prev', 'curr', 'next').index(match[2])
      taps.setdefault(match[1], {})[int(place)] = array.reshape(len(array), -1)
    else:
      found[name] = array[:, :, None] if array.ndim == 4 else array
  for name, kernels in taps.items():
    found[f'{name}.weight'] = np.stack([kernels[i] for i in sorted(kernels)], axis=-1)[
      ..., None, None
    ]
  return found, max((len(kernels) for kernels in taps.values()), default=0)


def names(variables: dict[str, np.ndarray], name: str) -> list[_table.Row]:
  """The table for `convert.to_source`."""
  return table(name)


def restore(tensors: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """Brings tensors into the original's form: the taps of a TAM one by one, kernels of frames
  without an axis of time, and in bLResNet a pool in the first place of strided shortcuts."""
  family, _ = factory.find_model(name)
  found, little = {}, family is blresnet
  end = '' if little else '.fc1'
  for key, array in tensors.items():
    if little and re.match(r'layer\d\.big|layer4', key):
      key = re.sub(r'downsample\.(\d)', lambda match: f'downsample.{int(match[1]) + 1}', key)
    if not re.search(r'\btam\w*\.weight$', key):
      found[key] = array
      continue
    base, taps = key.removesuffix('.weight'), array.shape[2]
    three = ('prev', 'curr', 'next') if little else ('prev_se', 'curr_se', 'next_se')
    for i, tap in enumerate(three if taps == 3 else [f'blending_layers.{i}' for i in range(taps)]):
      found[f'{base}.{tap}{end}.weight'] = array[:, :, i]
  if little or not _is_3d(name):
    found = _table.pictures(found)
  if not little:
    return found
  return {
    key if key.startswith('new_fc') else f'baseline_model.{key}': array
    for key, array in found.items()
  }


def _is_3d(name: str) -> bool:
  """Returns whether the convolutions of a ResNet or InceptionV1 look through time (I3D, S3D)."""
  net = factory.create_backbone(name)
  return net.kind != '2d' if isinstance(net, inception.Backbone) else net.convs[0] != '2d'


SOURCE = convert.Source(MODELS, build, names, ALIASES, restore)
