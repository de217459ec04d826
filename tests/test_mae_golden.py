"""The ViT and the masked autoencoder compute what the published ones compute: known weights, known
inputs.

Fixtures: the authors' stand-alone code. The small cases: the same code in float64, with weights
made by a sine of the index; their 'released' numbers come from PySlowFast's modules.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden_files
from tests.convert.zoo import check_names
from vjax import convert, tree
from vjax.heads import linear
from vjax.heads import mae as mae_head
from vjax.layers import mask as masks
from vjax.models import vit
from vjax.objectives import mae
from vjax.types import Mask, VideoModel


def masked_error(model, video, out, mask, normalize, target) -> float:
  wanted, _, _ = mae.targets(model, video, out.shape[-1], normalize, target)
  return float(jnp.sum(jnp.square(out - wanted).mean(-1) * mask.removed) / mask.removed.sum())


def loaded(golden, weights, dtype):
  """Model and variables of a fixture, and its clip (B, T, H, W, C)."""
  model, variables = convert.load('mae_st', weights, variant='vit_base', dtype=dtype)
  video = np.moveaxis(golden_files.model_input(golden['inputs'][0]['shape']), 1, -1)
  return model, variables, jnp.asarray(video, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, ratio, normalize',
  [
    ('mae_pretrain_base_patch16', 0.9, True),
    ('mae_pretrain_base_patch16_pix_joint', 0.75, False),
  ],
)
def test_fixture_pretrain(name, ratio, normalize):
  """Mask, predictions and loss in float64, and names both ways."""
  golden = golden_files.load(name)
  noise = np.array(golden['mask_noise']['values'], np.float32).reshape(
    golden['mask_noise']['shape']
  )
  keep = masks.kept(noise.shape[1], ratio)
  mask = masks.from_noise(jnp.asarray(noise), keep)
  assert keep == golden['outputs']['kept_tokens']
  np.testing.assert_array_equal(mask.removed, golden['outputs']['mask'])
  weights = golden_files.weights(golden)
  with jax.enable_x64(True):
    model, variables, video = loaded(golden, weights, jnp.float64)
    doubled = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables)
    out = jax.jit(lambda v, x: model.apply(v, x, train=False, token_mask=mask))(doubled, video)
    loss = masked_error(model, video, out, mask, normalize, 'linspace')
  np.testing.assert_allclose(
    np.ravel(out[:, ::16, :16]), golden['float64']['logits'], atol=1e-9, rtol=0
  )
  assert loss == pytest.approx(golden['float64']['loss'], abs=1e-9)
  check_names('mae_st', 'B', variables, weights)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['mae_finetune_base_patch16', 'mae_finetune_base_patch16_nocls'])
def test_fixture_finetune(name):
  """Logits in float64, the plain one's in float32 too, and names both ways."""
  golden = golden_files.load(name)
  weights = golden_files.weights(golden)
  first = not name.endswith('nocls')

  def run(dtype, **settings):
    model, variables, video = loaded(golden, weights, dtype)
    wide = jax.tree.map(lambda x: jnp.asarray(x, dtype), variables)
    model = VideoModel(model.backbone.clone(**settings), model.head)
    return np.asarray(
      jax.jit(lambda v, x: model.apply(v, x, train=False))(wide, video)
    ).ravel(), variables

  with jax.enable_x64(True):
    logits, variables = run(jnp.float64)
  np.testing.assert_allclose(logits, golden['float64']['logits'], atol=1e-9, rtol=0)
  check_names('mae_st', 'B', variables, weights)
  single = run(jnp.float32, **({} if first else {'drop_first': False}))[0]
  if first:
    np.testing.assert_allclose(
      single, golden['logits']['values'], atol=10 * golden['float64']['max_abs_diff'], rtol=0
    )
  else:
    # DIFFERS(code): without a class token the published classifier drops the first patch; ours does
    # so only if asked.
    assert np.abs(single - golden['logits']['values']).max() > 1e-3


# Small cases: 8 frames of 32 px, patches of 2 x 8 x 8, width 32, 2 blocks of 4 heads; decoder 16, 1
# block of 2 heads.
SMALL = {'width': 32, 'depth': 2, 'heads': 4, 'frames': 8, 'crop': 32, 'patch': (2, 8, 8)}
DECODER = {'width': 16, 'depth': 1, 'heads': 2, 'patch': (2, 8, 8)}
PUBLISHED = {  # our name -> the stand-alone code's, where it is not of a block
  'backbone/class_token': 'cls_token',
  'backbone/position_spatial': 'pos_embed_spatial',
  'backbone/position_temporal': 'pos_embed_temporal',
  'backbone/position_class': 'pos_embed_class',
  'backbone/patch': 'patch_embed.proj',
  'backbone/norm': 'norm',
  'head/mask_token': 'mask_token',
  'head/class_token': 'decoder_cls_token',
  'head/position': 'decoder_pos_embed',
  'head/position_spatial': 'decoder_pos_embed_spatial',
  'head/position_temporal': 'decoder_pos_embed_temporal',
  'head/position_class': 'decoder_pos_embed_class',
  'head/embed': 'decoder_embed',
  'head/norm': 'decoder_norm',
  'head/predict': 'decoder_pred',
  'head/linear': 'head',
}


def published_name(name: str) -> str:
  """The stand-alone code's name of one of our parameters."""
  if name in PUBLISHED:
    return PUBLISHED[name]
  stem, leaf = name.rsplit('/', 1)
  leaf = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}[leaf]
  if stem in PUBLISHED:
    return f'{PUBLISHED[stem]}.{leaf}'
  room, block, rest = re.fullmatch(r'(backbone|head)/block(\d+)/(.*)', stem).groups()
  return f'{"decoder_" * (room == "head")}blocks.{block}.{rest.replace("/", ".")}.{leaf}'


def sine_params(model: VideoModel, video) -> dict:
  """0.1 sin(0.37 i + sum of the bytes of the published name mod 97) in the published layout; 1 +
  that for norm scales."""

  def fill(name, leaf):
    theirs = published_name(name)
    axes = {2: (1, 0), 5: (2, 3, 4, 1, 0)}.get(
      leaf.ndim, tuple(range(leaf.ndim))
    )  # ours in the published layout
    shape = [leaf.shape[axes.index(i)] for i in range(leaf.ndim)]
    x = 0.1 * np.sin(0.37 * np.arange(math.prod(shape)) + sum(theirs.encode()) % 97)
    x = x + 1 if 'norm' in theirs and theirs.endswith('weight') else x
    return jnp.asarray(x.reshape(shape).transpose(axes))

  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), video, train=False))['params']
  return tree.map_named(fill, shapes)


def small_video() -> np.ndarray:
  n, c, t, h, w = np.meshgrid(*map(np.arange, (2, 3, 8, 32, 32)), indexing='ij')
  x = np.sin(0.3 * h + 0.2 * w * (1 + 0.1 * n) + 0.5 * t + 1.1 * c) + 0.05 * ((h * w + t) % 7)
  assert x.sum() == pytest.approx(7034.013117, abs=1e-5) and x[1, 2, 7, 31, 31] == pytest.approx(
    0.270314, abs=1e-6
  )
  return np.moveaxis(x, 1, -1)


def small_mask(ratio: float) -> Mask:
  n, token = np.meshgrid(np.arange(2), np.arange(64), indexing='ij')
  return masks.from_noise(jnp.asarray(((37 * token + 11 * n) % 101) / 101), masks.kept(64, ratio))


def small_model(preset: str) -> VideoModel:
  return VideoModel(
    vit.Backbone(**SMALL, dtype=jnp.float64),
    mae_head.Head(**DECODER, preset=preset, dtype=jnp.float64),
  )


def small_loss(preset: str, ratio: float, normalize: bool):
  model, video, mask = small_model(preset), jnp.asarray(small_video()), small_mask(ratio)
  out = jax.jit(lambda p: model.apply({'params': p}, video, train=False, token_mask=mask))(
    sine_params(model, video)
  )
  rule = 'linspace' if preset == 'repo' else 'stride'
  return masked_error(model, video, out, mask, normalize, rule), np.asarray(out)


def test_small_kept_tokens():
  keep = small_mask(0.75).keep
  assert keep[0].tolist() == [0, 41, 11, 52, 22, 63, 33, 3, 44, 14, 55, 25, 36, 6, 47, 17]


@pytest.mark.parametrize(
  'preset, normalize, losses',
  [
    pytest.param('repo', True, (1.129813, 1.138614), marks=pytest.mark.slow),
    ('repo', False, (0.657201, 0.670172)),
    ('released', True, (1.140178, 1.148074)),
  ],
)
def test_small_losses(preset, normalize, losses):
  with jax.enable_x64(True):
    for ratio, wanted in zip((0.75, 0.9), losses):
      assert small_loss(preset, ratio, normalize)[0] == pytest.approx(wanted, abs=1e-5)


def test_small_predictions():
  with jax.enable_x64(True):
    repo, released = (small_loss(preset, 0.75, True)[1] for preset in ('repo', 'released'))
  np.testing.assert_allclose(repo[0, 0, :3], [0.192148, 0.032263, -0.131524], atol=1e-5)
  assert repo[1, 63, -1] == pytest.approx(0.233140, abs=1e-5) and repo.sum() == pytest.approx(
    40.9220, abs=1e-3
  )
  np.testing.assert_allclose(released[0, 0, :3], [0.385988, 0.405237, 0.371926], atol=1e-5)


def test_small_classifier():
  with jax.enable_x64(True):
    model = VideoModel(vit.Backbone(**SMALL, dtype=jnp.float64), linear.Head(10))
    video = jnp.asarray(small_video())
    params = sine_params(model, video)
    logits = np.asarray(jax.jit(lambda p: model.apply({'params': p}, video, train=False))(params))
  assert sum(x.size for x in jax.tree.leaves(params)) == 38_826
  np.testing.assert_allclose(
    logits[0, :5], [0.165018, 0.463927, 0.507939, 0.287305, -0.073013], atol=1e-5
  )
  np.testing.assert_allclose(logits[1, :3], [0.166345, 0.466115, 0.509884], atol=1e-5)
