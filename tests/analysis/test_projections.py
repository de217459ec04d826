"""Related classes of two datasets, by planted projections."""

import csv

import numpy as np
import pytest

from tests.experiments import joint as config
from vjax import checkpoint
from vjax.analysis import projections

CLASSES = ['appearance/red', 'appearance/blue', 'motion/left', 'motion/right', 'motion/up']
# Of two classes to three, and back; [source, target].
TO_MOTION = np.float32([[0.1, 0.9, -2.0], [0.9, 0.3, 0.2]])
TO_APPEARANCE = np.float32([[0.0, 0.5], [0.4, 0.0], [0.0, 0.0]])


def saved(workdir, kernels, **changes):
  meta = {'config': config(**changes), 'classes': CLASSES}
  checkpoint.save_params(workdir, {'params': {'head': kernels}}, meta)
  return str(workdir)


@pytest.fixture
def run(tmp_path):
  kernels = {
    'motion': {'appearance': {'kernel': TO_MOTION}},
    'appearance': {'motion': {'kernel': TO_APPEARANCE}},
  }
  return saved(tmp_path / 'run', {'projections': kernels})


def test_largest_weights_first_with_their_classes(run):
  pairs = projections.of_checkpoint(run, count=3)
  assert list(pairs) == [('appearance', 'motion'), ('motion', 'appearance')]
  found = [(p.source, p.target) for p in pairs['appearance', 'motion']]
  assert found == [('red', 'right'), ('blue', 'left'), ('blue', 'right')]
  assert pairs['motion', 'appearance'][:2] == [
    ('left', 'blue', 0.5),
    ('right', 'red', TO_APPEARANCE[1, 0]),
  ]
  signed = projections.of_checkpoint(run, count=9, absolute=True)['appearance', 'motion']
  assert len(signed) == 6 and signed[0] == ('red', 'up', -2.0)


def test_the_command_writes_table_and_picture(run, tmp_path, capsys):
  args = [run, '--count=1', f'--out={tmp_path}/out']
  assert projections.main(args) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[2].split('|')[1:-1] == [
    ' appearance ',
    ' motion     ',
    ' red   ',
    ' right         ',
    ' 0.9    ',
  ]
  with open(tmp_path / 'out' / 'projections.csv') as file:
    assert [row['related class'] for row in csv.DictReader(file)] == ['right', 'blue']
  assert (tmp_path / 'out' / 'projections.png').read_bytes()[:4] == b'\x89PNG'
  assert projections.main(args) == 1 and 'is there already' in capsys.readouterr().err


def test_one_panel_a_direction(run):
  axes = projections.draw(projections.of_checkpoint(run)).axes
  assert [axis.get_title() for axis in axes] == ['appearance -> motion', 'motion -> appearance']
  assert axes[0].get_yticklabels()[0].get_text() == 'red -> right'
  assert [bar.get_width() for bar in axes[1].patches] == pytest.approx([0.5, 0.4, 0, 0, 0])


def test_runs_without_trained_projections_are_refused(tmp_path, capsys):
  kernels = {'projections': {'motion': {'appearance': {'kernel': TO_MOTION}}}}
  untrained = saved(tmp_path / 'a', kernels, **{'objective.projection': 'none'})
  without = saved(tmp_path / 'b', {'classifiers': {'x': TO_MOTION}})
  alone = saved(tmp_path / 'c', {'linear': {'kernel': TO_MOTION}})
  meta = checkpoint.read_meta(alone)
  meta['config'] |= {'head': {'name': 'linear'}, 'objective': {'name': 'classify'}}
  meta['config']['datasets'] = {}
  checkpoint.write_json(f'{alone}/meta.json', meta)
  for workdir, words in (
    (untrained, 'config.objective.projection is none'),
    (without, 'config.head has no projections'),
    (alone, 'was trained on one dataset, without projections'),
  ):
    assert projections.main([workdir]) == 1
    assert words in capsys.readouterr().err
