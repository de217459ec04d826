import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
