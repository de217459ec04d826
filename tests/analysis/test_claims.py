"""Words for what a study shows."""

import pytest

from vjax.analysis import claims


@pytest.mark.parametrize(
  ('these', 'those', 'words'),
  [
    ({0: 5.0, 1: 6.0, 2: 7.0}, {0: 1.0, 1: 2.5, 2: 2.0}, 'shows, +4.2 ± 0.8 points (3 seeds)'),
    ({0: 5.0, 1: 6.0}, {1: 4.0, 0: 4.5, 2: 90.0}, 'shows, +1.2 ± 1.1 points (2 seeds)'),
    (
      {0: 5.0, 1: 7.0},
      {0: 5.0, 1: 2.0},
      'does not show, within the spread of seeds, +2.5 ± 3.5 points (2 seeds)',
    ),
    (
      {0: 5.0, 1: 9.0},
      {0: 4.8, 1: 4.0},
      'does not show, within the spread of seeds, +2.6 ± 3.4 points (2 seeds)',
    ),
    (
      {0: 5.0, 1: 6.0},
      {0: 5.0, 1: 6.5},
      'does not show, within the spread of seeds, -0.2 ± 0.4 points (2 seeds)',
    ),
    ({0: 5.0, 1: 6.0}, {0: 7.0, 1: 9.0}, 'the opposite shows, -2.5 ± 0.7 points (2 seeds)'),
    (
      {0: 10.0, 1: 10.0, 2: 0.0},
      {0: 0.0, 1: 0.0, 2: 0.1},
      'does not show with every seed, +6.6 ± 5.8 points (3 seeds)',
    ),
    ({0: 5.0, 1: float('nan')}, {0: 4.0, 1: 3.0}, 'one seed, +1.0 points'),
    ({0: 5.0}, {0: 4.0}, 'one seed, +1.0 points'),
    ({0: 5.0}, {1: 4.0}, 'not told, no runs of both'),
  ],
)
def test_better(these, those, words):
  assert claims.better('A over B', these, those) == f'A over B: {words}'


def test_numbers_by_seed():
  top1 = lambda value: {'test': {'top1': value}}
  results = {
    'a_seed2': top1(0.5),
    'a_1': top1(0.25),
    'a_b_1': top1(1.0),
    'a_312': top1(1.0),
    'b': top1(0.75),
  }
  assert claims.by_seed(results, 'a', 'test') == {2: 50.0, 1: 25.0}
  assert claims.by_seed(results, 'b', 'test') == {0: 75.0}
  assert claims.by_seed(results, 'a', 'probe') == claims.by_seed(results, 'c', 'test') == {}


def test_ordered():
  rows = [
    {'seen': [1.0, 2.0], 'paper': '84.4 † (63.4)'},
    {'seen': 3.0, 'paper': 79.1},
    {'seen': 0.5, 'paper': '70'},
    {'seen': 0.1, 'paper': '70.0'},
    {'seen': None, 'paper': 99.0},
    {'seen': [], 'paper': 99.0},
    {'seen': 3.0, 'paper': 'none'},
    {'seen': 3.0},
  ]
  said = claims.ordered('rows', rows, 'seen')
  assert said == "rows: 4 of 5 pairs of rows are in the paper's order"
  assert 'not told' in claims.ordered('rows', rows[4:], 'seen')
