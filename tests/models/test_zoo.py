"""Parameters and multiply-adds of every published variant, and what must hold of the modules that mix frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax import macs
from vjax.heads import linear
from vjax.layers import temporal
from vjax.models import resnet, slowfast, x3d
from vjax.types import VideoModel


def model(module, variant, classes, hidden=0, **settings):
  return VideoModel(module.Backbone(**{**module.VARIANTS[variant], **settings}), linear.Head(classes, hidden=hidden))


def clip(frames, crop):
  return jax.ShapeDtypeStruct((1, frames, crop, crop, 3), jnp.float32)


def shapes(net, video):
  return jax.eval_shape(lambda rng, x: net.init(rng, x, train=False), jax.random.key(0), video)


def parameters(net, video) -> int:
  return sum(x.size for x in jax.tree.leaves(shapes(net, video)['params']))


def giga_macs(net, video) -> float:
  variables = shapes(net, video)
  return macs.count(lambda v, x: net.apply(v, x, train=False), variables, video) / 1e9


# Chen et al. 2021, table 10 and the authors' log: 8 frames of 224 px, 87 classes; GMACs without and with pooling in time.
FRAMEWORK = {
  'r18': {'tam': (11_225_559, 14.53, 7.54), 'i3d': (33_210_903, 43.22, 22.47), 's3d': (15_425_559, 21.33, 12.13)},
}


@pytest.mark.parametrize(('backbone', 'kind'), [(b, k) for b, kinds in FRAMEWORK.items() for k in kinds])
def test_framework(backbone, kind):
  count, off, on = FRAMEWORK[backbone][kind]
  net = model(resnet, f'{kind}_{backbone}', 87)
  assert parameters(net, clip(8, 224)) == count
  assert giga_macs(net, clip(8, 224)) == pytest.approx(off, rel=2e-3)
  if on:
    pooled = model(resnet, f'{kind}_tp_{backbone}', 87)
    assert parameters(pooled, clip(8, 224)) == count
    assert giga_macs(pooled, clip(8, 224)) == pytest.approx(on, rel=2e-3)


# module, variant, frames, crop, parameters at 400 classes, GMACs: Feichtenhofer et al. 2019; Feichtenhofer 2020; Tran et al.
# 2019, PySlowFast's and PyTorchVideo's files.
ZOO = [
  (resnet, 'slow_r50', 8, 256, 32_454_096, 54.52),
  (resnet, 'ip_csn_r50', 32, 224, 14_396_176, 47.65),
  (slowfast, 'r50_4x16', 32, 256, 34_480_216, 36.10),
  (x3d, 'xs', 4, 160, 3_794_322, 0.605),
]


@pytest.mark.parametrize(
  ('module', 'variant', 'frames', 'crop', 'count', 'cost'),
  ZOO,
)
def test_zoo(module, variant, frames, crop, count, cost):
  net = model(module, variant, 400, hidden=x3d.HIDDEN if module is x3d else 0)
  assert parameters(net, clip(frames, crop)) == count
  assert giga_macs(net, clip(frames, crop)) == pytest.approx(cost, rel=2e-3)


TINY = dict(width=0.125)


def logits(net, video):
  variables = net.init(jax.random.key(0), video, train=False)
  return np.asarray(net.apply(variables, video, train=False))


@pytest.mark.parametrize(
  ('module', 'variant', 'blind'),
  [(resnet, 'tsn_r18', True), (resnet, 'tam_r18', False), (resnet, 'tsm_r18', False)],
)
def test_what_sees_the_order_of_frames(module, variant, blind):
  settings = {'zero_last': False} if module is resnet else {}
  net = model(module, variant, 5, **TINY, **settings)
  video = jax.random.normal(jax.random.key(1), (2, 8, 32, 32, 3))
  change = np.abs(logits(net, video) - logits(net, video[:, ::-1])).max()
  assert change < 1e-5 if blind else change > 1e-4


def test_shift_by_hand():
  """Eight channels of a clip that counts frames: one from the next frame, one from the one before, six as they are."""
  x = jnp.broadcast_to(jnp.arange(1.0, 5.0)[None, :, None, None, None], (1, 4, 1, 1, 8))
  y = np.asarray(temporal.shift(x))[0, :, 0, 0]
  assert y[:, 0].tolist() == [2, 3, 4, 0] and y[:, 1].tolist() == [0, 1, 2, 3]
  assert (y[:, 2:] == np.arange(1, 5)[:, None]).all()


def test_pooling_by_hand():
  x = jnp.arange(8.0)[None, :, None, None, None]
  assert temporal.pool_frames(x)[0, :, 0, 0, 0].tolist() == [1, 3, 5, 7]
  np.testing.assert_allclose(temporal.pool_frames(x, 'avg')[0, :, 0, 0, 0], [1 / 3, 2, 4, 6], rtol=1e-6)
