"""Accuracy over the seconds of training."""

import json

import pytest

from vjax.analysis import curves


def test_seconds_are_read_off_between_training_rows(tmp_path):
  rows = [
    {'step': 10, 'split': 'train', 'seconds': 5.0},
    {'step': 15, 'split': 'test', 'top1': 0.1},
    {'step': 20, 'split': 'train', 'seconds': 9.0},
    {'step': 20, 'split': 'train', 'seconds': 11.0},  # after a restart
    {'step': 20, 'split': 'test', 'top1': 0.3},
    {'step': 20, 'split': 'val', 'top1': 0.9},
  ]
  (tmp_path / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, rows)) + '\n')
  assert curves.over_seconds(str(tmp_path), 'test') == [(8.0, 0.1), (11.0, 0.3)]
  with pytest.raises(ValueError, match='no top5 of an evaluation'):
    curves.over_seconds(str(tmp_path), 'test', 'top5')
