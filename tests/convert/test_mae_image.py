"""Image transformers as starts of video ones: a still clip has the image's tokens at every time."""

import jax
import numpy as np
import pytest

from tests import golden_files
from vjax import convert

WIDTH = 192  # of vit_tiny


def dictionary(patch: int = 16, side: int = 4, head: bool = True) -> dict[str, np.ndarray]:
  """A synthetic image ViT of the tiny ViT, with a decoder's leftovers and fused queries, keys and
  values."""
  shapes = {
    'cls_token': (1, 1, WIDTH),
    'pos_embed': (1, 1 + side * side, WIDTH),
    'mask_token': (1, 1, 64),
  }
  shapes |= {'patch_embed.proj.weight': (WIDTH, 3, patch, patch), 'patch_embed.proj.bias': (WIDTH,)}
  shapes |= {'norm.weight': (WIDTH,), 'norm.bias': (WIDTH,), 'decoder_embed.weight': (64, WIDTH)}
  for i in range(12):
    for name, shape in {'attn.qkv': (3 * WIDTH, WIDTH), 'attn.proj': (WIDTH, WIDTH),
    'mlp.fc1': (4 * WIDTH, WIDTH),
                        'mlp.fc2': (WIDTH, 4 * WIDTH), 'norm1': (WIDTH,), 'norm2': (WIDTH,)}.items():  # fmt: skip
      shapes |= {f'blocks.{i}.{name}.weight': shape, f'blocks.{i}.{name}.bias': shape[:1]}
  if head:
    shapes |= {'head.weight': (7, WIDTH), 'head.bias': (7,)}
  return {name: golden_files.weight(name, shape) for name, shape in shapes.items()}


@pytest.mark.slow
def test_a_still_clip_has_the_tokens_of_the_image():
  weights = dictionary()
  model, variables = convert.load('mae_image', weights, variant='vit_tiny', frames=4)
  assert model.backbone.crop == 64 and model.head.num_classes == 7
  backbone = variables['params']['backbone']
  image = np.random.default_rng(0).standard_normal((64, 64, 3)).astype(np.float32)
  patches = np.einsum(
    'ahbwc,dchw->abd', image.reshape(4, 16, 4, 16, 3), weights['patch_embed.proj.weight']
  )
  tokens = (patches + weights['patch_embed.proj.bias']).reshape(16, WIDTH) + weights['pos_embed'][
    0, 1:
  ]
  kernel = backbone['patch']['kernel']  # (2, 16, 16, 3, D)
  still = np.broadcast_to(image.reshape(4, 16, 4, 16, 3), (2, 4, 16, 4, 16, 3))
  seen = (
    np.einsum('tahbwc,thwcd->abd', still, kernel).reshape(16, WIDTH) + backbone['patch']['bias']
  )
  space, time = backbone['position_spatial'][0], backbone['position_temporal'][0]
  assert time.shape == (2, WIDTH) and (time == 0).all()
  for slot in time:
    np.testing.assert_allclose(seen + space + slot, tokens, atol=1e-4)
  assert (backbone['position_class'] == weights['pos_embed'][:, :1]).all()
  logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(
    variables, np.broadcast_to(image, (1, 4, 64, 64, 3))
  )
  assert logits.shape == (1, 7) and np.isfinite(logits).all()


def test_other_sizes_patches_and_directions():
  model, variables = convert.load('mae_image', dictionary(head=False), variant='vit_tiny', crop=96)
  assert variables['params']['backbone']['position_spatial'].shape == (1, 36, WIDTH)
  assert (
    model.backbone.frames == 16 and (variables['params']['head']['linear']['kernel'] == 0).all()
  )
  with pytest.raises(
    ValueError,
    match=r'patches are 14x14 px, the video model wants 16x16 .*--set "patch=\(2, 14, 14\)"',
  ):
    convert.load('mae_image', dictionary(patch=14), variant='vit_tiny')
  model, _ = convert.load('mae_image', dictionary(patch=14), variant='vit_tiny', patch=(2, 14, 14))
  assert model.backbone.crop == 56
  distilled = dictionary()
  distilled['pos_embed'] = np.repeat(distilled['pos_embed'], 2, axis=1)[:, : 2 + 16]
  with pytest.raises(ValueError, match=r"'pos_embed' has 17 places .*a distilled DeiT has two"):
    convert.load('mae_image', distilled, variant='vit_tiny')
  with pytest.raises(ValueError, match='no image ViT'):
    convert.load('mae_image', {'head.weight': np.zeros((7, WIDTH))}, variant='vit_tiny')
  with pytest.raises(ValueError, match='one way'):
    convert.to_source('mae_image', variables, 'vit_tiny')


def test_readouts_and_crops():
  """DeiT reads the class token; a fine-tuned masked autoencoder norms the mean, and calls that norm
  otherwise."""
  assert convert.load('mae_image', dictionary(), variant='vit_tiny')[0].backbone.pool == 'class'
  tuned = {
    name.replace('norm.', 'fc_norm.') if name.startswith('norm.') else name: x
    for name, x in dictionary().items()
  }
  model, variables = convert.load('mae_image', tuned, variant='vit_tiny', crop=(64, 96))
  assert model.backbone.pool == 'mean' and model.backbone.crop == (64, 96)
  assert variables['params']['backbone']['position_spatial'].shape == (1, 24, WIDTH)
  np.testing.assert_array_equal(
    variables['params']['backbone']['norm']['scale'], tuned['fc_norm.weight']
  )
  assert (
    convert.load('mae_image', dictionary(head=False), variant='vit_tiny')[0].backbone.pool == 'mean'
  )
  with pytest.raises(ValueError, match="both 'norm' and 'fc_norm'"):
    convert.load('mae_image', tuned | dictionary(), variant='vit_tiny')
