"""Totals of a run, counted step by step."""

from vjax.metrics import Totals


def test_totals_count_the_batch_that_each_step_had():
  first = Totals(train_s=2.0)
  for _ in range(3):
    first.count_step(8, 16)
  resumed = Totals.resumed(vars(first), 3, videos=4, clips=8)
  resumed.count_step(4, 8)
  assert (resumed.videos, resumed.clips, resumed.train_s) == (28, 56, 2.0)
  assert resumed.estimated_steps == 0


def test_totals_of_older_checkpoints_are_estimated_and_say_so():
  resumed = Totals.resumed({'train_s': 2.0}, 3, videos=4, clips=8)
  assert (resumed.videos, resumed.clips, resumed.estimated_steps) == (12, 24, 3)
  assert Totals.resumed(vars(resumed), 3, videos=9, clips=9) == resumed  # the mark stays
