"""The search for the largest batch, with a device whose memory ends at a known number of clips."""

import functools

import pytest

from vjax.analysis import speed


@pytest.mark.parametrize(
  ('holds', 'limit', 'found'),
  [(0, 64, 0), (1, 64, 1), (5, 64, 5), (44, 64, 44), (64, 64, 64), (100, 64, 64), (100, 7, 7)],
)
def test_largest_batch_by_doubling_then_bisecting(holds, limit, found):
  tried = []

  def run(batch):
    tried.append(batch)
    if batch > holds:
      raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes')

  assert speed.largest_batch(functools.partial(speed.without_memory_error, run), limit) == found
  assert len(tried) == len(set(tried)) <= 13 and max(tried) <= min(2 * max(holds, 1), limit)


def test_other_errors_are_not_taken_for_too_large_a_batch():
  def run(batch):
    raise RuntimeError('INVALID_ARGUMENT: shapes do not match')

  with pytest.raises(RuntimeError, match='INVALID_ARGUMENT'):
    speed.without_memory_error(run, 1)


def test_measure_of_a_small_clip():
  found = speed.measure('tsn_r18', frames=1, crop=32, num_classes=2, limit=1, repeats=1)
  assert found['batch'] == 1 and found['clips_per_s'] > 0
  assert found['gmacs'] == pytest.approx(0.0370, abs=0.001)  # 1.8137 G of 224 px, by area
