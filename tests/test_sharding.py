"""Batches on devices: what cannot be shared is refused with the keys that give it."""

import numpy as np
import pytest

from vjax import sharding


def test_rows_that_devices_cannot_share_name_the_keys_of_training_and_evaluation():
  mesh = sharding.mesh()
  with pytest.raises(ValueError, match='config.data.batch_size .*config.evals.NAME.batch_size'):
    sharding.to_global(mesh, {'video': np.zeros((mesh.size + 1, 1), np.float32)})
  with pytest.raises(
    ValueError, match='config.train.grad_accumulation=2: .*config.data.batch_size'
  ):
    sharding.microbatches(mesh, {'video': np.zeros((mesh.size, 1), np.float32)}, 2)
  with pytest.raises(ValueError, match='config.train.fsdp is 3, but there are 8 devices: .*of 8'):
    sharding.mesh(fsdp=3)
