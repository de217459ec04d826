"""Space-time masked autoencoders (Feichtenhofer et al. 2022): pre-trained with decoder, or
classifiers; in the names of the authors' stand-alone code ('repo') or of PySlowFast, in which the
weights were released ('released')."""

import math
import re
from typing import Any

import numpy as np

from vjax import convert, factory
from vjax.convert import _table
from vjax.heads import linear, mae
from vjax.layers import position, relative
from vjax.models import vit
from vjax.types import VideoModel

MODELS = (
  'vit_tiny', 'vit_small', 'vit_base', 'vit_large', 'vit_huge',
)  # fmt: skip
ALIASES = {  # sizes in the papers' notation
  'Ti': 'vit_tiny',
  'S': 'vit_small',
  'B': 'vit_base',
  'L': 'vit_large',
  'H': 'vit_huge',
}
_RELATIVE = re.compile(r'blocks\.\d+\.attn\.rel_pos_[thw]')
DEFAULT_FRAMES = 16  # of a joint position table, which does not tell time from space


def table(scheme: str, decoder_depth: int) -> list[_table.Row]:
  """The rename table of the scheme 'repo' or 'released'; decoder_depth=0 for classifiers."""
  rows = [
    ('cls_token', 'params/backbone/class_token'),
    *_positions('pos_embed', 'backbone'),
    *_table.dense('patch_embed.proj', 'backbone/patch'),
    *_blocks('blocks', 'backbone'),
    *_table.dense('norm', 'backbone/norm', 'scale'),
  ]
  if not decoder_depth:
    return rows + _table.dense('head' if scheme == 'repo' else 'head.projection', 'head/linear')
  rows += [*_table.dense('decoder_embed', 'head/embed'), ('mask_token', 'params/head/mask_token')]
  if scheme == 'repo':
    return [
      *rows,
      ('decoder_cls_token', 'params/head/class_token'),
      *_positions('decoder_pos_embed', 'head'),
      *_blocks('decoder_blocks', 'head'),
      *_table.dense('decoder_norm', 'head/norm', 'scale'),
      *_table.dense('decoder_pred', 'head/predict'),
    ]
  return [
    *rows,
    ('decoder_pos_embed', 'params/head/position'),
    *_positions('dec_pos_embed', 'head')[:-1],
    *_blocks('pred_head.transforms.0', 'head'),
    *_table.dense(f'pred_head.transforms.0.{decoder_depth}', 'head/norm', 'scale'),
    *_table.dense('pred_head.projections.0', 'head/predict'),
  ]


def _positions(original: str, here: str) -> list[_table.Row]:
  parts = ('spatial', 'temporal', 'class')
  rows = [(f'{original}_{part}', f'params/{here}/position_{part}') for part in parts]
  return [*rows, (original, f'params/{here}/position')]


def _blocks(original: str, here: str) -> list[_table.Row]:
  original, here = f'{original}.{{i}}', f'{here}/block{{i}}'
  rows = _table.dense(f'{original}.norm{{n}}', f'{here}/norm{{n}}', 'scale')
  for part in ('q', 'k', 'v', 'proj'):
    rows += _table.dense(f'{original}.attn.{part}', f'{here}/attn/{part}')
  rows += [
    (f'{original}.attn.rel_pos_{axis}', f'params/{here}/attn/relative_{axis}') for axis in 'thw'
  ]
  return rows + _table.dense(f'{original}.mlp.fc{{n}}', f'{here}/mlp/fc{{n}}')


def build(
  tensors: dict[str, np.ndarray], name: str, overrides: dict[str, Any]
) -> convert.SourceModel:
  """The model that the weights are for, and how they fit into it.

  Frames and crop come from the position tables; overridden, the tables are resized. A joint table
  does not tell time from space: frames=16 unless overridden, and it keeps its size. Relative
  positions are there where the weights have them, and start at 0 with relative=True where they do
  not.
  """
  tensors = _table.split_qkv(tensors)
  kernel = tensors.get('patch_embed.proj.weight')
  if kernel is None or kernel.ndim != 5:
    raise ValueError(
      "the weights have no 'patch_embed.proj.weight' of five dimensions: not a video MAE"
    )
  patch, class_token = tuple(kernel.shape[2:]), 'cls_token' in tensors
  old = _grid(tensors, patch, class_token, overrides)
  settings = dict(
    frames=old[0] * patch[0], crop=(old[1] * patch[1], old[2] * patch[2]), patch=patch
  )
  settings |= dict(
    positions='separable' if 'pos_embed_spatial' in tensors else 'joint', class_token=class_token
  )
  settings |= dict(relative=any(_RELATIVE.fullmatch(name) for name in tensors))
  settings |= dict(
    qkv_bias='blocks.0.attn.q.bias' in tensors or 'blocks.0.attn.q.weight' not in tensors
  )
  scheme, depth = scheme_of(tensors), _decoder_depth(tensors)
  settings['drop_first'] = not depth and not class_token  # as the published classifier does
  net = factory.create_backbone(name, **{**settings, **overrides})
  if depth:
    shared = {name: overrides[name] for name in ('dtype', 'remat') if name in overrides}
    head = _decoder(tensors, scheme, depth, patch, old[0], {**shared, 'qkv_bias': net.qkv_bias})
  else:
    head = linear.Head(convert.num_classes(tensors, 'head.weight', 'head.projection.weight'))
  clip = (net.frames, *convert.sides(net.crop))
  tensors = with_relative(_resize(tensors, old, position.grid_of(clip, patch)), net)
  return convert.SourceModel(
    VideoModel(net, head), clip=clip, table=table(scheme, depth), tensors=tensors
  )


def scheme_of(tensors: dict[str, np.ndarray]) -> str:
  """'released' for the names of PySlowFast, 'repo' for those of the stand-alone code."""
  released = any(
    name.startswith(('pred_head.', 'head.projection.', 'dec_pos_embed')) for name in tensors
  )
  return 'released' if released else 'repo'


def with_relative(tensors: dict[str, np.ndarray], net: vit.Backbone) -> dict[str, np.ndarray]:
  """The tables of relative positions for the clips of the network, interpolated, or of zeros where
  there are none."""
  if not net.relative:
    return tensors
  grid, found = net.grid((net.frames, *convert.sides(net.crop))), dict(tensors)
  for axis, rows in zip('thw', relative.rows(grid, grid)):
    for i in range(net.depth):
      name = f'blocks.{i}.attn.rel_pos_{axis}'
      known = name in found
      found[name] = (
        position.resize_temporal(found[name], rows)
        if known
        else np.zeros((rows, net.width // net.heads))
      )
  return found


def names(variables: dict[str, np.ndarray], name: str, scheme: str = '') -> list[_table.Row]:
  """The table for `convert.to_source`. scheme: 'repo' or 'released'; '': 'repo', but 'released' for
  a decoder without a class token of its own where the encoder has one, or with a joint position
  table where it has none, as the defaults of the two codes are."""
  if scheme not in ('', 'repo', 'released'):
    raise ValueError(
      f"scheme is {scheme!r}; it must be 'repo', 'released', or '' to choose by the decoder"
    )
  depth = len({name.split('/')[2] for name in variables if name.startswith('params/head/block')})
  own, class_token = (f'params/{part}/class_token' in variables for part in ('head', 'backbone'))
  released = depth and not own and (class_token or 'params/head/position' in variables)
  return table(scheme or ('released' if released else 'repo'), depth)


def _grid(
  tensors: dict, patch: tuple[int, ...], class_token: bool, overrides: dict
) -> tuple[int, int, int]:
  """Token grid (t, h, w) that the position tables are for; space is square."""
  if 'pos_embed_spatial' in tensors and 'pos_embed_temporal' in tensors:
    slots, places = tensors['pos_embed_temporal'].shape[1], tensors['pos_embed_spatial'].shape[1]
  elif 'pos_embed' in tensors:
    frames = overrides['frames'] if 'frames' in overrides else DEFAULT_FRAMES
    slots = frames // patch[0]
    places, rest = divmod(tensors['pos_embed'].shape[1] - class_token, slots)
    if rest or math.isqrt(places) ** 2 != places:
      raise ValueError(
        f"'pos_embed' {tensors['pos_embed'].shape} is not for {frames} frames and a square crop: "
        'give the number of frames that it is for, as in --set frames=8'
      )
  else:
    raise ValueError(
      "the weights have neither 'pos_embed_spatial' with 'pos_embed_temporal', nor 'pos_embed'"
    )
  side = math.isqrt(places)
  if side * side != places:
    raise ValueError(
      f"'pos_embed_spatial' has {places} places, which are not those of a square crop: choose "
      'weights of a model that was trained on square crops'
    )
  return slots, side, side


def _decoder_depth(tensors: dict[str, np.ndarray]) -> int:
  pattern = re.compile(r'(?:decoder_blocks|pred_head\.transforms\.0)\.(\d+)\.norm1\.weight')
  return len([name for name in tensors if pattern.fullmatch(name)])


def _decoder(
  tensors: dict, scheme: str, depth: int, patch: tuple[int, ...], slots: int, shared: dict
) -> mae.Head:
  predict = 'decoder_pred.weight' if scheme == 'repo' else 'pred_head.projections.0.weight'
  missing = [name for name in (predict, 'decoder_embed.weight') if name not in tensors]
  if missing:
    raise ValueError(f'the weights have a decoder, but lack {missing}')
  separable = {'decoder_pos_embed_spatial', 'dec_pos_embed_spatial'}.intersection(tensors)
  frames = tensors[predict].shape[0] // (patch[1] * patch[2] * 3)
  return mae.Head(
    width=tensors['decoder_embed.weight'].shape[0],
    depth=depth,
    preset=scheme,
    positions='separable' if separable else 'joint',
    patch=patch,
    pred_frames=None if frames == 1 else frames * slots,
    **shared,
  )


def _resize(
  tensors: dict[str, np.ndarray], old: tuple[int, ...], new: tuple[int, ...]
) -> dict[str, np.ndarray]:
  """Position tables for the grid `new` (Feichtenhofer et al. 2022 fine-tune at other sizes than
  they pre-train)."""
  if old == new:
    return tensors
  resized = dict(tensors)
  for name, array in tensors.items():
    match = re.fullmatch(r'(?:decoder_|dec_)?pos_embed(_spatial|_temporal)?', name)
    if match:
      part = match.group(1) or ''
      rows = {'_spatial': new[1] * new[2], '_temporal': new[0]}
      length = rows[part] if part else array.shape[1] - math.prod(old) + math.prod(new)
      shape = (1, length, array.shape[2])
      resized[name] = position.resize(f'position{part}', array, shape, old_grid=old, new_grid=new)
  return resized


SOURCE = convert.Source(MODELS, build, names, ALIASES)
