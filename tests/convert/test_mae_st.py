"""Masked autoencoders and their classifiers: both schemes of names. tests/test_mae_golden.py holds
their outputs."""

import numpy as np
import pytest

from tests import golden_files
from vjax import convert, tree
from vjax.models import vit

WIDTH, DEPTH, DECODER = 192, 12, 64  # of vit_tiny


def dictionary(
  scheme: str, frames: int = 4, crop: int = 32, classes: int = 0
) -> dict[str, np.ndarray]:
  """A synthetic state dict of the tiny ViT with a decoder of width 64 and depth 2, or a
  classifier."""
  places, slots, shapes = (crop // 16) ** 2, frames // 2, {}

  def dense(name, *shape):
    shapes[f'{name}.weight'], shapes[f'{name}.bias'] = shape, shape[:1]

  def blocks(name, width, depth):
    for i in range(depth):
      for layer in ('norm1', 'norm2'):
        dense(f'{name}.{i}.{layer}', width)
      for layer in 'q', 'k', 'v', 'proj':
        dense(f'{name}.{i}.attn.{layer}', width, width)
      dense(f'{name}.{i}.mlp.fc1', 4 * width, width)
      dense(f'{name}.{i}.mlp.fc2', width, 4 * width)

  shapes |= {'cls_token': (1, 1, WIDTH), 'pos_embed_class': (1, 1, WIDTH)}
  shapes |= {'pos_embed_spatial': (1, places, WIDTH), 'pos_embed_temporal': (1, slots, WIDTH)}
  dense('patch_embed.proj', WIDTH, 3, 2, 16, 16)
  blocks('blocks', WIDTH, DEPTH)
  dense('norm', WIDTH)
  if classes:
    dense('head' if scheme == 'repo' else 'head.projection', classes, WIDTH)
  else:
    dense('decoder_embed', DECODER, WIDTH)
    shapes['mask_token'] = (1, 1, DECODER)
    if scheme == 'repo':
      shapes |= {'decoder_cls_token': (1, 1, DECODER), 'decoder_pos_embed_class': (1, 1, DECODER)}
      shapes |= {
        'decoder_pos_embed_spatial': (1, places, DECODER),
        'decoder_pos_embed_temporal': (1, slots, DECODER),
      }
      blocks('decoder_blocks', DECODER, 2)
      dense('decoder_norm', DECODER)
      dense('decoder_pred', 768, DECODER)
    else:
      shapes['decoder_pos_embed'] = (1, 1 + places * slots, DECODER)
      blocks('pred_head.transforms.0', DECODER, 2)
      dense('pred_head.transforms.0.2', DECODER)
      dense('pred_head.projections.0', 768, DECODER)
  return {name: golden_files.weight(name, shape) for name, shape in shapes.items()}


@pytest.mark.parametrize('scheme', ['repo', 'released'])
def test_both_schemes_of_a_pretrained_model_both_ways(scheme):
  weights = dictionary(scheme)
  model, variables = convert.load('mae_st', weights, variant='vit_tiny')
  assert model.head.preset == scheme and model.head.depth == 2
  assert model.backbone.frames == 4 and model.backbone.crop == (32, 32)
  back = convert.to_source('mae_st', variables, 'vit_tiny')
  assert set(back) == set(weights) and all(
    np.array_equal(back[name], weights[name]) for name in weights
  )


def test_classifiers_fused_qkv_and_prefix_give_the_same_variables():
  plain = dictionary('repo', classes=7)
  fused = {
    f'module.{name}': array
    for name, array in dictionary('released', classes=7).items()
    if '.attn.' not in name
  }
  for i in range(DEPTH):
    fused[f'module.blocks.{i}.attn.proj.weight'] = plain[f'blocks.{i}.attn.proj.weight']
    fused[f'module.blocks.{i}.attn.proj.bias'] = plain[f'blocks.{i}.attn.proj.bias']
    for kind in 'weight', 'bias':
      parts = [plain[f'blocks.{i}.attn.{part}.{kind}'] for part in 'qkv']
      fused[f'module.blocks.{i}.attn.qkv.{kind}'] = np.concatenate(parts)
  fused['module.head.projection.weight'] = plain['head.weight']
  fused['module.head.projection.bias'] = plain['head.bias']
  model, variables = convert.load('mae_st', {'model': plain, 'epoch': 3}, variant='vit_tiny')
  _, other = convert.load('mae_st', {'model_state': fused}, variant='vit_tiny')
  assert model.head.num_classes == 7
  for name, array in tree.flatten(variables).items():
    np.testing.assert_array_equal(array, tree.flatten(other)[name], err_msg=name)


def test_positions_are_resized_for_other_clips():
  weights = dictionary('released')
  _, before = convert.load('mae_st', weights, variant='vit_tiny')
  model, after = convert.load('mae_st', weights, variant='vit_tiny', frames=8, crop=48)
  assert model.backbone.crop == 48
  shapes = {name: array.shape for name, array in tree.flatten(after).items() if 'position' in name}
  assert shapes['params/backbone/position_spatial'] == (1, 9, WIDTH)
  assert shapes['params/backbone/position_temporal'] == (1, 4, WIDTH)
  assert shapes['params/head/position'] == (1, 1 + 4 * 9, DECODER)
  middle = after['params']['backbone']['position_spatial'][
    0, 4
  ]  # of 3 x 3: between the 4 old places
  np.testing.assert_allclose(
    middle, before['params']['backbone']['position_spatial'][0].mean(0), atol=1e-6
  )
  assert np.array_equal(
    after['params']['head']['position'][:, 0], before['params']['head']['position'][:, 0]
  )


def test_weights_of_another_size_are_listed():
  weights = dictionary('repo', classes=7)
  with pytest.raises(ValueError, match='another shape: .*patch/kernel'):
    convert.load('mae_st', weights, variant='vit_small')
  del weights['norm.bias']
  weights['blocks.0.attn.rel_pos_h'] = np.zeros((3, 64), np.float32)
  with pytest.raises(
    ValueError, match=r'(?s)missing: params/backbone/norm/bias.*unexpected: blocks.0.attn.rel_pos_h'
  ):
    convert.load('mae_st', weights, variant='vit_tiny', relative=False)
  assert vit.MODELS['vit_tiny']['width'] == WIDTH


def test_relative_positions_are_found_resized_or_new():
  weights = dictionary('released')
  rows = {'h': 3, 'w': 3, 't': 3}
  for i in range(DEPTH):
    for axis, n in rows.items():
      name = f'blocks.{i}.attn.rel_pos_{axis}'
      weights[name] = golden_files.weight(name, (n, 64))
  model, variables = convert.load('mae_st', weights, variant='vit_tiny')
  assert model.backbone.relative
  back = convert.to_source('mae_st', variables, 'vit_tiny')
  assert set(back) == set(weights) and all(
    np.array_equal(back[name], weights[name]) for name in weights
  )
  _, variables = convert.load('mae_st', weights, variant='vit_tiny', crop=64, frames=8)
  attn = variables['params']['backbone']['block3']['attn']
  assert attn['relative_h'].shape == attn['relative_t'].shape == (7, 64)
  np.testing.assert_allclose(
    attn['relative_w'][3], weights['blocks.3.attn.rel_pos_w'][1], atol=1e-6
  )  # the same place
  model, variables = convert.load(
    'mae_st', dictionary('repo', classes=7), variant='vit_tiny', relative=True
  )
  attn = variables['params']['backbone']['block0']['attn']
  assert (
    model.backbone.relative
    and attn['relative_t'].shape == (3, 64)
    and (attn['relative_t'] == 0).all()
  )


def test_no_bias_no_head_and_unknown_overrides():
  weights = dictionary('repo')
  bare = {
    name: x
    for name, x in weights.items()
    if not name.endswith(('attn.q.bias', 'attn.k.bias', 'attn.v.bias'))
  }
  model, variables = convert.load('mae_st', bare, variant='vit_tiny')
  assert not model.backbone.qkv_bias and not model.head.qkv_bias
  back = convert.to_source('mae_st', variables, 'vit_tiny')
  assert set(back) == set(bare)
  encoder = {
    name: x for name, x in weights.items() if 'decoder' not in name and name != 'mask_token'
  }
  model, variables = convert.load('mae_st', encoder, variant='vit_tiny')
  assert (
    model.head.num_classes == 1 and (variables['params']['head']['linear']['kernel'] == 0).all()
  )
  with pytest.raises(
    ValueError, match="override frame=8 is unknown: did you mean 'frames'.*relative"
  ):
    convert.load('mae_st', weights, variant='vit_tiny', frame=8)


@pytest.mark.parametrize('scheme', ['repo', 'released'])
def test_names_of_a_decoder_without_class_token_and_of_a_classifier(scheme):
  weights = {
    name: x
    for name, x in dictionary(scheme).items()
    if 'class' not in name and 'cls_token' not in name
  }
  if scheme == 'released':
    weights['decoder_pos_embed'] = weights['decoder_pos_embed'][:, 1:]
  _, variables = convert.load('mae_st', weights, variant='vit_tiny')
  assert set(convert.to_source('mae_st', variables, 'vit_tiny')) == set(weights)
  weights = dictionary(scheme, classes=7)
  _, variables = convert.load('mae_st', weights, variant='vit_tiny')
  assert set(convert.to_source('mae_st', variables, 'vit_tiny', scheme=scheme)) == set(weights)
  with pytest.raises(ValueError, match="scheme is 'new'"):
    convert.to_source('mae_st', variables, 'vit_tiny', scheme='new')


def test_a_joint_table_of_other_frames_asks_for_them():
  weights = {
    name: x for name, x in dictionary('repo', classes=7).items() if not name.startswith('pos_embed')
  }
  weights['pos_embed'] = golden_files.weight('pos_embed', (1, 1 + 3 * 4, WIDTH))
  with pytest.raises(
    ValueError,
    match=r"'pos_embed' \(1, 13, 192\) is not for 16 frames and a square crop.*--set frames=",
  ):
    convert.load('mae_st', weights, variant='vit_tiny')
  oblong = dictionary('repo', classes=7)
  oblong['pos_embed_spatial'] = oblong['pos_embed_spatial'][:, 1:]
  with pytest.raises(
    ValueError, match=r"'pos_embed_spatial' has .* square crop: choose weights of"
  ):
    convert.load('mae_st', oblong, variant='vit_tiny')
  model, _ = convert.load('mae_st', weights, variant='vit_tiny', frames=6)
  assert model.backbone.frames == 6 and model.backbone.crop == (32, 32)
