"""Codes of a codebook as targets."""

import jax.numpy as jnp
import numpy as np
import pytest

from vjax.targets import pixels, tokens


@pytest.fixture(scope='module')
def codebook(tmp_path_factory):
  """Four vectors of patches of 2 x 2 px: black, white, red, green."""
  colors = jnp.array([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0]], jnp.float32)
  path = tmp_path_factory.mktemp('codes') / 'codes.npy'
  np.save(path, np.tile(colors, (1, 4)))
  return str(path)


def clip():
  """Two slots of 1 x 2 patches: white and nearly red; green and black."""
  first = jnp.concatenate([jnp.ones((2, 2, 3)), jnp.full((2, 2, 3), 0.1).at[..., 0].set(0.8)], 1)
  second = jnp.concatenate([jnp.zeros((2, 2, 3)).at[..., 1].set(1), jnp.zeros((2, 2, 3))], 1)
  return jnp.stack([first, first + 9, second, second + 9])[None]  # the others are not coded


SETTINGS = {'normalize': False, 'target': 'stride'}


def test_codes_are_the_nearest_vectors(codebook):
  vectors, _, _ = pixels.of_tokens(clip(), (2, 2, 2), 1, False, 'stride')
  assert tokens.codes(vectors, tokens.load(codebook)).tolist() == [[1, 2, 3, 0]]
  assert tokens.values((2, 2, 2), codebook=codebook) == 4


def test_cross_entropy_of_uniform_logits_is_log_k(codebook):
  error = tokens.error(jnp.zeros((1, 4, 4)), clip(), (2, 2, 2), codebook=codebook, **SETTINGS)
  np.testing.assert_allclose(error, np.log(4) * np.ones((1, 4)), rtol=1e-6)
  logits = jnp.zeros((1, 4, 4)).at[0, 0, 1].set(np.log(3.0))  # 3 of 3 + 1 + 1 + 1 at the true code
  error = tokens.error(logits, clip(), (2, 2, 2), codebook=codebook, **SETTINGS)
  assert float(error[0, 0]) == pytest.approx(np.log(2))


def test_a_codebook_that_is_missing_or_does_not_fit(codebook, tmp_path):
  for path in ('', str(tmp_path / 'none.npy')):
    with pytest.raises(ValueError, match='config.objective.codebook is .*no such file'):
      tokens.values((2, 2, 2), codebook=path)
  np.save(tmp_path / 'flat.npy', np.zeros(3))
  with pytest.raises(ValueError, match=r'holds float64 \(3,\); it must be floats'):
    tokens.load(str(tmp_path / 'flat.npy'))
  with pytest.raises(ValueError, match='vectors of 12 values; patches .* have 48'):
    tokens.error(
      jnp.zeros((1, 1, 4)), jnp.zeros((1, 2, 4, 4, 3)), (2, 4, 4), codebook=codebook, **SETTINGS
    )
