"""Chip-days of ways of training: the paper's comparison of its supplement, and what is open."""

import pytest

from vjax.analysis import training_cost

CHIPS = 8
# Seconds of an epoch on eight V100 (Liang et al. 2022, supplement), and epochs.
SECONDS = {'k400': 3200, 'imagenet': 1800, 'imagenet_21k': 11_000}
WAYS = {
  'scratch': {'k400': 200},
  'imagenet': {'imagenet': 300, 'k400': 100},
  'imagenet_21k': {'imagenet_21k': 90, 'k400': 75},
}
CLIPS = 240_000  # of an epoch


def training(seconds, clips=CLIPS):
  return {
    'training': {
      'train_s': float(seconds), 'clips_seen': clips, 'device_hours': seconds * CHIPS / 3600
    }
  }  # fmt: skip


def test_the_papers_comparison_of_whole_trainings():
  results = {
    f'{way}_{data}': training(epochs * SECONDS[data], epochs * CLIPS)
    for way, parts in WAYS.items()
    for data, epochs in parts.items()
  }
  ways = {way: [f'{way}_{data}' for data in parts] for way, parts in WAYS.items()}
  rows = training_cost.rows(results, ways)
  sums = {row['way']: row for row in rows if row['training'] == 'all'}
  assert sums['scratch']['chip-days'] == f'{200 * 3200 * 8 / 86_400:.3g}' == '59.3'
  share = {way: round(row['chip-days, %']) for way, row in sums.items()}
  assert share == {'scratch': 100, 'imagenet': 134, 'imagenet_21k': 192}


def test_full_size_at_the_speed_of_short_runs():
  results = {data: training(seconds) for data, seconds in SECONDS.items()}
  clips = {'k400': 200 * CLIPS, 'imagenet': 300 * CLIPS}
  ways = {'scratch': ('k400',), 'both': ('k400', 'imagenet')}
  scratch, _, _, image, both = training_cost.rows(results, ways, clips=clips)
  assert scratch['clips/s'] == 75 and scratch['chips'] == CHIPS
  assert (scratch['chip-days'], scratch['chip-days at full size']) == ('0.296', '59.3')
  assert image['chip-days at full size'] == '50'
  assert both['chip-days at full size, %'] == pytest.approx(100 * (1 + 300 * 1800 / (200 * 3200)))


def test_what_is_not_finished_is_open():
  rows = training_cost.rows({'a': training(60)}, {'x': ('a', 'b'), 'y': ('a',)}, clips={'b': 9.0})
  assert [row['chip-days'] is None for row in rows] == [False, True, True, False, False]
  assert rows[0]['chip-days at full size'] is None and rows[-1]['chip-days, %'] is None
