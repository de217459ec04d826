"""The codebook of a masked autoencoder is made of the patches of its training clips."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.experiments import shrunk
from vjax import build
from vjax.analysis import codebook
from vjax.targets import tokens


def test_a_codebook_explains_the_patches_and_fits_the_objective(data_dir, tmp_path):
  path = f'{tmp_path}/codes.npy'
  config = shrunk('mae_k400', **{'objective.predict': 'tokens', 'objective.codebook': path})
  config['evals'] = {}
  with pytest.raises(ValueError, match='codes is 600, but there are 128 patches'):
    codebook.make(config, str(data_dir), path, codes=600, clips=16, patches=8)
  report = codebook.make(config, str(data_dir), path, codes=16, clips=16, patches=8)
  assert report['patches'] == 128 and 0.3 < report['explained'] < 1
  assert tokens.load(path).shape == (16, 16 * 16 * 3)
  model = build.experiment(config, str(data_dir)).model
  assert model.head.values == 16
  chosen = tokens.codes(jnp.asarray(tokens.load(path))[None], tokens.load(path))
  np.testing.assert_array_equal(np.unique(chosen), np.arange(16))
