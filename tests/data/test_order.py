"""The order of an epoch: TensorFlow's index_shuffle, bit for bit."""

import numpy as np
import pytest

from vjax.data.order import shuffled


@pytest.mark.parametrize('n', [1, 2, 5, 255, 65535, 65536, 65537, 10**6])
def test_every_epoch_is_a_permutation(n):
  places = np.arange(min(n, 1000))
  numbers = shuffled(places, 3, np.full(len(places), 2), n)
  assert len(np.unique(numbers)) == len(places)
  assert numbers.min() >= 0 and numbers.max() < n
  if n > 5:
    assert (numbers != shuffled(places, 3, np.full(len(places), 3), n)).any()
    assert (numbers != shuffled(places, 4, np.full(len(places), 2), n)).any()


@pytest.mark.parametrize('n', [1, 2, 3, 17, 256, 65536, 65537, 240435, 2**31, 2**62])
def test_equals_tensorflow(n):
  tf = pytest.importorskip('tensorflow')
  rng = np.random.default_rng(n % 1000)
  for seed in (0, 42, 2**32 + 7, -3):
    places = np.append(rng.integers(0, n, 4), n - 1)
    epochs = np.append(rng.integers(0, 2**33, 4), 0)
    wanted = [
      int(
        tf.random.experimental.index_shuffle(
          tf.constant(p, tf.int64), tf.constant([seed, e], tf.int64), tf.constant(n - 1, tf.int64)
        )
      )
      for p, e in zip(places.tolist(), epochs.tolist())
    ]
    assert shuffled(places, seed, epochs, n).tolist() == wanted
