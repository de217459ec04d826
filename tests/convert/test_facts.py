"""Facts of sources' test code in the configs of converted checkpoints."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import vjax
from tests.convert.test_names import SMALL, original
from vjax import build, convert
from vjax.config import parse
from vjax.convert import _config
from vjax.types import Features

CLIP = {'num_frames': 8, 'frame_stride': 8, 'short_side': 256, 'sampling': 'linspace'}


def config_of(source: str, name: str, classes: int = 5, **told) -> dict:
  """The config in meta.json of a converted checkpoint."""
  model = vjax.create_model(name, num_classes=classes)
  return json.loads(json.dumps(_config.config(source, name, model, (8, 64, 64), told)))


def softmax(x):
  return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def expected(maps, params, window: int, of: str) -> np.ndarray:
  """Probabilities of the original's head: average pool of stride 1, classifier at every place, and
  the mean of its scores or of their softmax."""
  height, width = (n - window + 1 for n in maps[0].shape[2:4])
  found = []
  for y in range(height):
    for x in range(width):
      pooled = [m[:, :, y : y + window, x : x + window].mean((1, 2, 3)) for m in maps]
      pooled = np.concatenate(pooled, -1)
      if 'hidden' in params:
        pooled = np.maximum(pooled @ params['hidden']['kernel'], 0)
      found.append(pooled @ params['linear']['kernel'] + params['linear']['bias'])
  if of == 'logits':
    return softmax(np.mean(found, 0))
  return softmax(np.stack(found)).mean(0)


@pytest.mark.parametrize(
  ('source', 'name', 'crop', 'window', 'of'),
  [
    ('pytorchvideo', 'slow_r50', 256, 7, 'logits'),
    ('pytorchvideo', 'c2d_r50', 256, 7, 'logits'),
    ('pytorchvideo', 'i3d_3x1x1_r50', 256, 7, 'logits'),
    ('pytorchvideo', 'slowfast_r50_8x8', 256, 7, 'logits'),
    ('pytorchvideo', 'ir_csn_r101', 256, 7, 'probabilities'),
    ('pytorchvideo', 'ptv_r2plus1d_r50', 256, 7, 'probabilities'),
    ('pytorchvideo', 'ptv_x3d_s', 182, 5, 'probabilities'),
    ('pytorchvideo', 'ptv_x3d_l', 356, 10, 'probabilities'),
    ('slowfast', 'slow_r50', 256, 7, 'probabilities'),
    ('slowfast', 'slowfast_r50_8x8', 256, 7, 'probabilities'),
    ('slowfast', 'x3d_m', 256, 7, 'probabilities'),
  ],
)
def test_heads_pool_windows_of_the_training_crop(source, name, crop, window, of):
  """The head of the config computes what the original's does on the maps of its test crop."""
  made = config_of(source, name, crop_size=crop, **CLIP)
  assert made['head'] == {
    'name': 'linear', **({'hidden': 2048} if 'x3d' in name else {}), 'window': [0, window, window],
    'average': of,
  }  # fmt: skip
  head = build.model(parse(made), 5).head
  rng, side, width = np.random.default_rng(0), -(-crop // 32), 6
  slow_fast = (2, 8) if 'slowfast' in name else (4,)
  maps = [rng.standard_normal((2, t, side, side, width)) for t in slow_fast]
  of_linear = 2048 if 'x3d' in name else width * len(maps)
  params = {'linear': {'kernel': rng.standard_normal((of_linear, 5)), 'bias': np.arange(5.0)}}
  if 'x3d' in name:
    params['hidden'] = {'kernel': rng.standard_normal((width, 2048))}
    params['linear']['kernel'] /= 30
  features = Features(maps=tuple(jnp.asarray(m, jnp.float32) for m in maps), pooled=None)
  scores = head.apply({'params': params}, features, train=False)
  np.testing.assert_allclose(
    softmax(np.asarray(scores)), expected(maps, params, window, of), atol=2e-5
  )


@pytest.mark.parametrize(('source', 'name', 'crop'), [
  ('pytorchvideo', 'slow_r50', 224), ('pytorchvideo', 'slow_r50', 112),
  ('pytorchvideo', 'ptv_x3d_s', 160), ('slowfast', 'x3d_l', 312), ('slowfast', 'slow_r50', None),
  ('torchvision', 'tv_r3d_18', 256), ('mmaction', 'slow_r50', 256),
])  # fmt: skip
def test_one_window_is_the_mean(source, name, crop):
  """And sources that pool whole maps have none."""
  assert 'window' not in config_of(source, name, crop_size=crop)['head']


def test_published_weights_get_the_clips_of_their_published_test():
  clip = config_of('pytorchvideo', 'ptv_x3d_s', 400)
  assert clip['clip'] == {
    'num_frames': 13, 'frame_stride': 6, 'crop_size': 182, 'short_side': 182,
    'sampling': 'linspace',
  }  # fmt: skip
  assert clip['head']['window'] == [0, 5, 5]
  assert config_of('pytorchvideo', 'ptv_x3d_s', 400, crop_size=160)['clip']['crop_size'] == 160
  # Weights of other classes, and what differs between published files, are asked for.
  assert config_of('pytorchvideo', 'ptv_x3d_s', 5)['clip']['crop_size'] is None
  slow = config_of('slowfast', 'slow_r50', 400)['clip']
  assert slow['crop_size'] == 256 and slow['num_frames'] is None
  both = config_of('slowfast', 'slowfast_r50_8x8', 400)['clip']
  assert both['crop_size'] is None and (both['num_frames'], both['frame_stride']) == (32, 2)
  for source, name in _config.PUBLISHED:
    models = convert.registry.find('convert', source).SOURCE.models
    assert name in models and set(_config.PUBLISHED[source, name]) <= set(_config.CLIP)


def test_windows_in_python():
  """The crop says whether there are several."""
  weights = original('pytorchvideo', 'slow_r50')
  head = lambda **crop: (
    convert.load('pytorchvideo', weights, variant='slow_r50', **SMALL, **crop)[0].head
  )
  assert head().window is None and head(crop=224).window is None
  assert head(crop=256).window == (0, 7, 7) and head(crop=256).average == 'logits'


def test_pixels_and_sizes_of_torchvision():
  """Its video presets resize to 128x171 whatever the aspect; its image networks have ImageNet's
  pixels, GoogLeNet's convolutions those of 2 x - 1."""
  video = config_of('torchvision', 'tv_r2plus1d_18', 400)
  assert video['augment'] == {'crop': 'fixed', 'size': [128, 171], 'flip': 0.0}
  assert video['data']['mean'] == [0.43216, 0.394666, 0.37645]
  for name, mean in {
    'tsn_r18': [0.485, 0.456, 0.406], 'tsn_r50': [0.485, 0.456, 0.406],
    'tsn_inception': [0.5, 0.5, 0.5],
  }.items():  # fmt: skip
    image = config_of('torchvision', name, 1000)
    assert image['data']['mean'] == mean and image['augment']['crop'] == 'resized'
    assert image['clip']['crop_size'] == 224 and image['clip']['short_side'] == 256
