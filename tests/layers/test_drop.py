import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax import factory
from vjax.layers import drop


def test_drop_path_per_sample():
  x = jnp.ones((4000, 3))
  layer = drop.DropPath(0.25)
  out = np.asarray(layer.apply({}, x, True, rngs={'dropout': jax.random.key(0)}))
  assert set(np.unique(out)) == {0, np.float32(1 / 0.75)}
  assert (out == out[:, :1]).all()  # a sample is dropped whole
  assert out.mean() == pytest.approx(1, abs=0.03)
  np.testing.assert_array_equal(layer.apply({}, x, False), x)


def test_rates():
  assert drop.linear_rates(0.2, 5) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
  assert drop.linear_rates(0.2, 1) == [0]
  with pytest.raises(ValueError, match='drop_path'):
    drop.DropPath(1.0).apply({}, jnp.ones((2, 3)), True, rngs={'dropout': jax.random.key(0)})


def test_rates_of_resnet_50():
  """Over the 16 blocks; those of the first blocks of res3 to res5 are in the released image recipe
  of Li et al. 2022."""
  rates = drop.staged_rates(0.05, (3, 4, 6, 3))
  assert [len(stage) for stage in rates] == [3, 4, 6, 3]
  assert [round(stage[0], 3) for stage in rates] == [0, 0.01, 0.023, 0.043]
  assert rates[3][2] == pytest.approx(0.05)


@pytest.mark.parametrize('name', ['r2plus1d_18', 'ir_csn_r50', 'slowfast_r50_4x16', 'x3d_s'])
def test_every_block_of_a_cnn_has_its_rate(name):
  """Branches of a rate; nothing else changes, parameters included."""
  rates, depths = [], {'r2plus1d_18': (1, 1, 1, 2), 'x3d_s': None}.get(name, (1, 2, 1, 1))
  settings = {'width': 0.125, **({'depths': depths} if depths else {'deep': 0.2})}
  video = jax.ShapeDtypeStruct((2, 8, 32, 32, 3), jnp.float32)

  def note(call, args, kwargs, context):
    if isinstance(context.module, drop.DropPath):
      rates.append(context.module.rate)
    return call(*args, **kwargs)

  def shapes(rate):
    net = factory.create_backbone(name, drop_path=rate, **settings)
    keys = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}
    return jax.eval_shape(lambda x: net.init(keys, x, train=True), video)

  plain = shapes(0.0)
  with nn.intercept_methods(note):
    assert shapes(0.4) == plain
  blocks = 5 if depths else 4
  want = drop.linear_rates(0.4, blocks)[1:]
  both = [rate for rate in want for _ in range(2)] if 'slowfast' in name else want
  assert sorted(rates) == pytest.approx(sorted(both))
