"""Frame indices: the papers' worked examples, the tables of the published code, and ranges."""

import numpy as np
import pytest

from tests import golden_files
from vjax.config import ViewsConfig
from vjax.data import sampling

TABLES = golden_files.load('frame_indices')['tables']


def clip(frames, stride=1, clips=1):
  return ViewsConfig(
    num_frames=frames, frame_stride=stride, crop_size=8, short_side=8, num_clips=clips
  )


def every_view(rule, n, spec, rate=0.0):
  return [sampling.RULES[rule].test(n, spec, view, rate).tolist() for view in range(spec.num_clips)]


def test_ibm_table():
  for modality, dense, n, groups, per_group, clips, expected in TABLES['ibm_validation']['rows']:
    n -= 4 if modality == 'flow' else 0  # an optical-flow stack needs the next four frames
    views = every_view('dense' if dense else 'uniform_legacy', n, clip(groups, per_group, clips))
    assert (np.concatenate(views) + 1).tolist() == expected, (
      modality,
      dense,
      n,
      groups,
      per_group,
      clips,
    )


def test_uniform_needs_no_draw_for_long_videos():
  for modality, dense, n, groups, _, clips, expected in TABLES['ibm_validation']['rows']:
    if modality == 'rgb' and not dense and n > groups:
      assert (
        np.concatenate(every_view('uniform', n, clip(groups, 1, clips))) + 1
      ).tolist() == expected


def test_mmaction_table():
  for frames, stride, clips, twice, beyond, n, expected in TABLES['mmaction_test']['rows']:
    if frames == 1 and stride == 1:  # segments: each is an mmaction clip of one frame
      views = every_view('tsn', n, clip(clips, 1, 2 if twice else 1))
    else:
      views = every_view(
        'parts' if beyond == 'loop' else 'parts_hold', n, clip(frames, stride, clips)
      )
    assert np.concatenate(views).tolist() == expected, (frames, stride, clips, twice, beyond, n)


@pytest.mark.parametrize('table', ['slowfast_test', 'multitrain_test'])
def test_linspace_tables(table):
  for frames, rate, offset, clips, n, expected in TABLES[table]['rows']:
    views = every_view('linspace' if offset else 'linspace_head', n, clip(frames, rate, clips))
    assert views == [indices for _, _, indices in expected], (frames, rate, offset, clips, n)


def test_worked_examples():
  assert every_view('uniform', 100, clip(8)) == [[6, 18, 31, 43, 56, 68, 81, 93]]
  spaced = [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]
  assert every_view('linspace', 64, clip(16, 4), 30.0) == [spaced]
  starts = [v[0] for v in every_view('linspace', 300, clip(16, 4, 7), 30.0)]
  assert starts == [0, 39, 78, 117, 156, 195, 234]
  assert every_view('consecutive', 300, clip(8, 1, 10))[-1] == list(range(292, 300))
  assert every_view('consecutive', 100, clip(8)) == [list(range(46, 54))]
  assert every_view('consecutive', 5, clip(8)) == [[0, 1, 2, 3, 4, 0, 1, 2]]
  assert every_view('segments', 17, clip(8)) == [[1, 3, 5, 7, 9, 11, 13, 15]]


def test_linspace_follows_the_source_rate():
  at_15 = every_view('linspace', 300, clip(16, 4), 15.0)[0]
  assert at_15[-1] - at_15[0] == 31  # 64 frames at 30 per second are 32 at 15


@pytest.mark.parametrize('rule', sorted(sampling.RULES))
@pytest.mark.parametrize('n', [1, 5, 16, 31, 100])
def test_train_indices_are_in_range(rule, n):
  spec = clip(8, 2)
  for seed in range(20):
    index = sampling.RULES[rule].train(np.random.default_rng(seed), n, spec, 25.0)
    assert index.shape == (8,) and index.min() >= 0 and index.max() < n
    if rule not in ('dense', 'consecutive', 'parts', 'parts_hold'):
      assert (np.diff(index) >= 0).all()


def test_train_starts():
  draw = lambda rule, n, spec: {
    int(sampling.RULES[rule].train(np.random.default_rng(s), n, spec, 0.0)[0]) for s in range(400)
  }
  assert draw('dense', 20, clip(8, 2)) == set(range(4))  # n - stride*K is never drawn
  assert draw('consecutive', 20, clip(8, 2)) == set(range(6))  # every start that fits
  assert draw('parts', 20, clip(8, 2)) == set(range(5))
  assert draw('segments', 17, clip(8)) == {0, 1, 2}


def test_uniform_jitter_shared_or_independent():
  shared = sampling.RULES['uniform'].train(np.random.default_rng(0), 100, clip(8), 0.0)
  assert set(np.diff(shared)) == {12}
  own = sampling.RULES['uniform_independent'].train(np.random.default_rng(0), 100, clip(8), 0.0)
  assert len(set(np.diff(own))) > 1 and (own // 12 == np.arange(8)).all()


def test_unknown_rule_lists_the_rules():
  with pytest.raises(ValueError, match='dense.*linspace'):
    sampling.rule('density')
