"""torchvision's models compute what torchvision computes; the table works in both directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden_files
from vjax import convert, tree


def clip(fixture):
  """The fixture's input as (B, T, H, W, C)."""
  return golden_files.model_input(fixture['inputs'][0]['shape']).transpose(0, 2, 3, 4, 1)


def check_logits(source, variant, name, **overrides):
  """Logits in float32 to ten times the original's own rounding, in float64 to 1e-9."""
  fixture = golden_files.load(name)
  weights = golden_files.weights(fixture)
  model, variables = convert.load(source, weights, variant=variant, **overrides)
  logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, clip(fixture))
  exact = np.reshape(fixture['float64']['logits'], fixture['logits']['shape'])
  limit = 10 * fixture['float64']['max_abs_diff']
  assert np.abs(np.asarray(logits) - np.reshape(fixture['logits']['values'], logits.shape)).max() < limit
  with jax.enable_x64(True):
    model, _ = convert.load(source, weights, variant=variant, dtype=jnp.float64, **overrides)
    doubled = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(doubled, jnp.asarray(clip(fixture), jnp.float64))
    assert logits.dtype == jnp.float64
    assert np.abs(np.asarray(logits) - exact).max() < 1e-9
  back = convert.to_source(source, variables, variant)
  assert set(back) == set(weights)
  for key, array in weights.items():
    np.testing.assert_array_equal(back[key], array, err_msg=key)
  assert all(a.dtype == np.float32 for a in tree.flatten(variables).values())


@pytest.mark.parametrize('variant', ['mc3_18', 'r2plus1d_18', pytest.param('r3d_18', marks=pytest.mark.slow)])
def test_logits_and_names_both_ways(variant):
  check_logits('torchvision', variant, f'tv_{variant}')
