"""Videos of one dataset through the classifiers of the others."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.experiments import joint as config
from vjax import build, evaluate, sharding, tree
from vjax.analysis import cross_confusion

CLASSES = {'a': ('run', 'sit'), 'b': ('rest', 'move', 'eat')}
COUNTS = {('a', 'b'): np.array([[1, 3, 0], [2, 0, 2]]), ('b', 'a'): np.zeros((3, 2), int)}


def test_most_frequent_pairs_first():
  rows = cross_confusion.rows(COUNTS, CLASSES, count=3)
  assert [(r['class'], r['taken for'], r['videos']) for r in rows] == [
    ('run', 'move', 3), ('sit', 'rest', 2), ('sit', 'eat', 2)
  ]  # fmt: skip
  assert [r['% of the class'] for r in rows] == [75, 50, 50]
  assert {(r['dataset'], r['head']) for r in rows} == {('a', 'b')}


def test_a_heat_map_of_each_direction():
  panels = cross_confusion.draw(COUNTS, CLASSES).axes[:2]
  assert [axis.get_title() for axis in panels] == ['a through b', 'b through a']
  np.testing.assert_allclose(panels[0].images[0].get_array(), [[0.25, 0.75, 0], [0.5, 0, 0.5]])
  assert panels[0].get_xticklabels()[1].get_text() == 'move'


@pytest.fixture(scope='module')
def evaluator(data_dir):
  """Of a network whose classifier of motions answers the fourth class whatever the clip."""
  exp, rng = build.experiment(config(), str(data_dir)), np.random.default_rng(0)
  video = jax.ShapeDtypeStruct((1, 8, 48, 48, 3), np.float32)
  init = functools.partial(exp.model.init, train=False)
  shapes = tree.flatten(jax.eval_shape(init, jax.random.key(0), video)['params'])
  params = {name: np.float32(rng.normal(0, 0.2, x.shape)) for name, x in shapes.items()}
  params['head/classifiers/motion/fc2/bias'][3] = 1000
  mesh = sharding.mesh(devices=jax.devices()[:1])
  return evaluate.of_experiment(exp, mesh, tree.unflatten(params), {})


def test_every_video_of_a_dataset_counts_once_by_the_classifier_of_the_other(evaluator):
  found = cross_confusion.counts(evaluator)
  assert list(found) == [('appearance', 'motion'), ('motion', 'appearance')]
  to_motion, to_appearance = found.values()
  assert to_motion.shape == (12, 12) and to_motion.sum() == to_motion[:, 3].sum() == 36
  entry = evaluator.exp.evals['motion']
  (batch,) = evaluator.batches_of(entry, 'test')
  answers = evaluator.model.serving('appearance').logits(batch['video'])[:, 0].argmax(-1)
  assert len({*answers.tolist()}) > 1
  assert to_appearance.tolist() == [
    [int(((batch['label'] == i) & (answers == j)).sum()) for j in range(12)] for i in range(12)
  ]


def test_the_command(evaluator, monkeypatch, tmp_path, capsys):
  alone = dataclasses.replace(evaluator, exp=dataclasses.replace(evaluator.exp, joint=False))
  monkeypatch.setattr(evaluate, 'load', lambda workdir, data_dir: alone)
  args = ['run', '--split=test', '--count=1', f'--out={tmp_path}']
  assert cross_confusion.main(args) == 1
  assert 'trained on one dataset, and has one classifier' in capsys.readouterr().err
  monkeypatch.setattr(evaluate, 'load', lambda workdir, data_dir: evaluator)
  assert cross_confusion.main(args) == 0
  fourth = evaluator.model.serving('motion').classes[3]
  assert f'| {fourth} ' in capsys.readouterr().out.splitlines()[2]
  assert {path.name for path in tmp_path.iterdir()} == set(cross_confusion.FILES)
