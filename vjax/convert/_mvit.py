"""MViT in the names of PySlowFast: which of its options a file was made with, read from the
tensors, and its positions for other clips.  (Fan et al. 2021; Li et al. 2022.)"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vjax import factory
from vjax.convert import _table
from vjax.layers import position
from vjax.layers.position import Grid
from vjax.models import mvit

PATCH_FRAMES = 3  # of the kernel that cuts patches


def table(widen: str = 'proj') -> list[_table.Row]:
  """The rename table of MViT; widen: what projects a skip that gets wider."""
  block, here = 'blocks.{i}', 'backbone/block{i}'
  rows = [('cls_token', 'params/backbone/class_token'), ('pos_embed', 'params/backbone/position')]
  rows += [
    (f'pos_embed_{part}', f'params/backbone/position_{part}')
    for part in ('spatial', 'temporal', 'class')
  ]
  rows += _table.dense('patch_embed.proj', 'backbone/patch') + _table.dense(
    'norm', 'backbone/norm', 'scale'
  )
  rows += _table.dense(f'{block}.norm{{n}}', f'{here}/norm{{n}}', 'scale')
  rows += _table.dense(f'{block}.mlp.fc{{n}}', f'{here}/mlp/fc{{n}}') + _table.dense(
    f'{block}.{widen}', f'{here}/proj'
  )
  rows += _table.dense(f'{block}.attn.proj', f'{here}/attn/proj')
  for part in 'qkv':
    rows += _table.dense(f'{block}.attn.{part}', f'{here}/attn/{part}')
    rows += [(f'{block}.attn.pool_{part}.weight', f'params/{here}/attn/pool_{part}/kernel')]
    rows += _table.dense(f'{block}.attn.norm_{part}', f'{here}/attn/pool_{part}/norm', 'scale')
  rows += [
    (f'{block}.attn.rel_pos_{axis}', f'params/{here}/attn/relative_{axis}') for axis in 'thw'
  ]
  return rows + _table.dense('head.projection', 'head/linear')


def backbone(
  tensors: dict[str, np.ndarray], row: Mapping[str, Any], overrides: Mapping[str, Any]
) -> tuple[mvit.Backbone, dict[str, np.ndarray]]:
  """(MViT, its tensors). row: of the model.

  Class token, positions, relative axes, where it widens, which queries are pooled and by what
  kernels come from the tensors; whether the pooled queries are added (add_query) they do not tell,
  so it is the row's. Raises ValueError where the model pools other queries, unless add_query
  is given: then it may be another's in this as well. Frames and crop come from the position tables,
  and where those do not tell, are the row's. Overridden, the tables are resized, but for the
  frames of a joint table, which are what tells its grid. Tables of an axis in the override
  `relative` that the weights lack are 0. Weights of images (four axes in the patches) are inflated.
  """
  tensors = _table.split_qkv(tensors)
  known = _settings(tensors)
  other = 'pool_all' in known and known['pool_all'] != mvit.FLAVORS[row['flavor']].pool_all
  if other and 'add_query' not in overrides:
    raise ValueError(
      'the weights pool queries in '
      f'{"every block" if known["pool_all"] else "blocks that lose resolution only"}, unlike '
      'the model: choose another --variant, or say whether pooled queries are added to the output: '
      '--set add_query=True or --set add_query=False'
    )
  image = (
    np.ndim(tensors['patch_embed.proj.weight']) == 4
    if 'patch_embed.proj.weight' in tensors
    else False
  )
  old = _grid(tensors, known, {**row, **overrides}, image)
  clip = dict(crop=old[1] * mvit.PATCH[1]) if image else _clip(old)
  if image:
    tensors, wanted = _inflated(tensors), {**row, **overrides}
    known['relative'] = (
      'thw' if known['relative'] else ''
    )  # the tables of time start at 0, as PySlowFast's do
    known['kernel'] = None if known['kernel'] is None else (3, *known['kernel'][1:])
    clip['frames'] = wanted['frames']
  net = factory.backbone_of(mvit.Backbone, row, {**known, **clip, **overrides})
  return net, _resized(_with_tables(tensors, net), net, old)


def _clip(grid: Grid) -> dict[str, int]:
  return dict(frames=grid[0] * mvit.PATCH[0], crop=grid[1] * mvit.PATCH[1])


def _settings(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Options of mvit.Backbone that the tensors tell."""
  separable = 'pos_embed_temporal' in tensors and 'pos_embed_spatial' in tensors
  relative = ''.join(axis for axis in 'thw' if f'blocks.0.attn.rel_pos_{axis}' in tensors)
  if not (separable or relative or 'pos_embed' in tensors):
    raise ValueError(
      "the weights have neither 'pos_embed_temporal' and 'pos_embed_spatial' nor 'pos_embed' nor "
      'relative positions: no '
      'MViT'
    )
  of = lambda part: [
    x for name, x in tensors.items() if re.fullmatch(rf'blocks\.\d+\.attn\.{part}\.weight', name)
  ]
  pools, keys, queries = of('pool_[qkv]'), of('pool_k'), of('q')
  kernels = {(1,) * (5 - x.ndim) + x.shape[2:] for x in pools}
  same = len(kernels) == 1 and len(keys) == len(queries)
  found = {
    'class_token': 'cls_token' in tensors,
    'positions': 'separable' if separable else 'joint' if 'pos_embed' in tensors else '',
    'relative': relative,
    'widen': 'attention' if any(x.shape[0] != x.shape[1] for x in queries) else 'mlp',
    'kernel': tuple(int(n) for n in kernels.pop()) if same else None,
  }
  # Kernels of stride + 1 pool nothing at stride 1, whatever pool_all says.
  return {**found, 'pool_all': 'blocks.0.attn.pool_q.weight' in tensors} if same else found


def _grid(
  tensors: Mapping[str, np.ndarray],
  known: Mapping[str, Any],
  wanted: Mapping[str, Any],
  image: bool,
) -> Grid:
  """Token grid (t, h, w) that the position tables are for; space is square. wanted: settings and
  overrides."""
  size = lambda name: tensors[name].shape[1 if name.startswith('pos') else 0]
  relative = {axis: (size(f'blocks.0.attn.rel_pos_{axis}') + 1) // 2 for axis in known['relative']}
  slots = relative['t'] if 't' in relative else 1 if image else wanted['frames'] // mvit.PATCH[0]
  if known['positions'] == 'separable':
    slots, places = size('pos_embed_temporal'), size('pos_embed_spatial')
  elif known['positions'] == 'joint':
    rows = size('pos_embed') - known['class_token']
    places, rest = divmod(rows, slots)
    if rest or math.isqrt(places) ** 2 != places:
      raise ValueError(
        f"'pos_embed' has {rows} places, which are not those of {slots * mvit.PATCH[0]} frames and "
        'a square crop: give the number of frames that it is for, as in --set frames=8'
      )
  else:
    side = (
      relative['h'] if 'h' in relative else wanted.get('crop', mvit.Backbone.crop) // mvit.PATCH[1]
    )
    places = side * side
  side = math.isqrt(places)
  if side * side != places:
    raise ValueError(
      f"'pos_embed_spatial' has {places} places, which are not those of a square crop: choose "
      'weights of a model that was trained on square crops'
    )
  return slots, side, side


def _inflated(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Tensors of an image network as those of a video one: kernels are repeated through time, those
  of the patches divided by their length, so that a still clip has the image's tokens; the norm
  after a pooling makes up for its scale."""
  found = dict(tensors)
  for name, x in tensors.items():
    pool = re.fullmatch(r'blocks\.\d+\.attn\.pool_[qkv]\.weight', name)
    if name == 'patch_embed.proj.weight':
      found[name] = np.repeat(x[:, :, None], PATCH_FRAMES, axis=2) / PATCH_FRAMES
    elif pool:
      x = x[:, :, None] if x.ndim == 4 else x
      found[name] = np.repeat(x, 3, axis=2) if x.shape[2] == 1 else x
  return found


def _with_tables(tensors: dict[str, np.ndarray], net: mvit.Backbone) -> dict[str, np.ndarray]:
  """With tables of zeros for the axes of net's relative positions that the tensors lack."""
  found = dict(tensors)
  for i, layer in enumerate(net.layers()):
    for axis, rows in zip('thw', layer.rows):
      name = f'blocks.{i}.attn.rel_pos_{axis}'
      if axis in net.resolve_flavor().relative and name not in found:
        found[name] = np.zeros((rows, layer.attend // layer.heads), np.float32)
  return found


def _resized(
  tensors: dict[str, np.ndarray], net: mvit.Backbone, old: Grid
) -> dict[str, np.ndarray]:
  """Position tables for the clips of the network; old: the grid that absolute ones are for."""
  layers = net.layers()
  new, resized = layers[0].grid, dict(tensors)
  rows = {'_spatial': new[1] * new[2], '_temporal': new[0]}
  for name, array in tensors.items():
    match = re.fullmatch(
      r'pos_embed(_spatial|_temporal)?|blocks\.(\d+)\.attn\.rel_pos_([thw])', name
    )
    if match and match[2]:
      if int(match[2]) < len(layers):
        resized[name] = position.resize_temporal(
          array, layers[int(match[2])].rows['thw'.index(match[3])]
        )
    elif match:
      part = match[1] or ''
      length = rows[part] if part else array.shape[1] - math.prod(old) + math.prod(new)
      shape = (1, length, array.shape[2])
      resized[name] = position.resize(f'position{part}', array, shape, old_grid=old, new_grid=new)
  return resized
