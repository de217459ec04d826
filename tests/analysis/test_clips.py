"""Accuracy over the number of clips, from saved predictions."""

import numpy as np
import pytest

from vjax import evaluate
from vjax.analysis import clips
from vjax.types import Predictions

# One video of class 0 in three clips and two crops; view = crop * 3 + clip. The second clip is right
# and outweighs the first; the third is wrong, and outweighs both.
CLIPS = np.float32([[0, 1], [3, 0], [0, 9]])
LOGITS = np.stack([np.concatenate([CLIPS, CLIPS])])


def test_first_clips_in_all_their_crops():
  labels = np.array([0])
  assert clips.prefix_top1(LOGITS, labels, num_crops=2) == [0, 1, 0]
  assert clips.prefix_top1(LOGITS, labels) == [0, 1, 0, 0, 0, 0]
  with pytest.raises(ValueError, match='num_crops is 4; it must divide the 6 views'):
    clips.prefix_top1(LOGITS, labels, num_crops=4)


def test_the_crops_of_a_clip_are_those_of_the_file(tmp_path):
  path, found = str(tmp_path / 'a.npz'), Predictions(np.array([0]), np.array([0]), LOGITS)
  facts = dict(names=['a'], classes=['x', 'y'], average='logits')
  evaluate.save_predictions(path, found, num_crops=2, **facts)
  assert [r['top1'] for r in clips.rows([path], 'prefix')] == [0, 1, 0]
  assert [r['gmacs'] for r in clips.rows([path], 'prefix', gmacs=2.0, num_crops=2)] == [4, 8, 12]
  with pytest.raises(ValueError, match='has 2 crops a clip, not 3: leave --num_crops out'):
    clips.rows([path], 'prefix', num_crops=3)


def test_both_protocols(tmp_path, capsys):
  paths = []
  for count in (1, 3):
    found = Predictions(np.array([0]), np.array([0]), LOGITS[:, :3][:, :count])
    paths.append(str(tmp_path / f'clips_{count}.npz'))
    evaluate.save_predictions(
      paths[-1], found, names=['a'], classes=['x', 'y'], average='logits'
    )  # fmt: skip
  prefix = clips.rows(paths[1:], 'prefix', gmacs=2.0)
  assert [(r['clips'], r['top1'], r['gmacs']) for r in prefix] == [(1, 0, 2), (2, 1, 4), (3, 0, 6)]
  assert [r['clips'] for r in clips.rows(paths[::-1], 'm-clip')] == [1, 3]
  with pytest.raises(ValueError, match='prefix takes one file, not 2'):
    clips.rows(paths, 'prefix')
  assert clips.main([paths[1], f'--out={tmp_path}/curve.png']) == 0
  assert '| 2 | 100.00 | 0.0 |' in capsys.readouterr().out
  assert clips.main([paths[1], f'--out={tmp_path}/curve.png']) == 1
  assert 'is there already' in capsys.readouterr().err
  assert clips.main([paths[1], f'--out={tmp_path}/curve.png', '--overwrite']) == 0
  capsys.readouterr()
  assert (tmp_path / 'curve.png').exists()
  assert clips.main([str(tmp_path / 'none.npz')]) == 1
