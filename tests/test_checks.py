"""Checks of a config against the weights that it starts from."""

import dataclasses
import json
import types

import pytest

from tests.experiments import shrunk
from tests.test_joint import config as joint_config
from vjax import build, checks
from vjax.config import parse


def start(tmp_path, config, classes, head='linear', **init):
  """The parsed config, starting from weights with these class names."""
  meta = {'config': {'head': {'name': head}}, 'classes': list(classes)}
  (tmp_path / 'meta.json').write_text(json.dumps(meta))
  found = parse(config)
  return dataclasses.replace(
    found, init=dataclasses.replace(found.init, path=str(tmp_path), skip=(), **init)
  )


def sources(**classes):
  """Splits with these class names."""
  index = lambda name: types.SimpleNamespace(folder=f'data/{name}')
  return {n: types.SimpleNamespace(classes=tuple(c), index=index(n)) for n, c in classes.items()}


ALONE = shrunk('mae_finetune_k400')


@pytest.mark.parametrize('classes, words', [
  (('dog', 'cat'), 'only there: dog; only here: bear'),
  (('cat', 'Bear'), 'only there: Bear; only here: bear'),
])  # fmt: skip
def test_a_classifier_of_other_classes_is_refused(tmp_path, classes, words):
  config = start(tmp_path, ALONE, classes)
  remedy = r"""init.path='.*': .*something else: .*--config.init.skip="\('head/\.\*',\)", or"""
  with pytest.raises(ValueError, match=f'data/pets has other classes than .*{remedy}') as e:
    checks.check_init_classes(config, sources(pets=('bear', 'cat')))
  assert words in str(e.value)


def test_a_classifier_that_is_left_out_or_of_the_same_classes_is_fine(tmp_path):
  pets = sources(pets=('polar bear', 'cat'))
  for classes in (('polar bear', 'cat'), ('Polar_bear', 'cat'), ('a', 'b', 'c'), ()):
    checks.check_init_classes(start(tmp_path, ALONE, classes), pets)
  config = start(tmp_path, ALONE, ('dog', 'cat'))
  config = dataclasses.replace(config, init=dataclasses.replace(config.init, skip=('head/.*',)))
  checks.check_init_classes(config, pets)
  checks.check_init_classes(start(tmp_path, ALONE, ('dog', 'cat'), head='mae'), pets)
  with_decoder = start(tmp_path, shrunk('mae_k400'), ('dog', 'cat'), head='mae')
  checks.check_init_classes(with_decoder, pets)  # its outputs are no classes


def test_classes_called_by_numbers_are_taken_with_a_warning(tmp_path, caplog):
  checks.check_init_classes(start(tmp_path, ALONE, ('0', '1')), sources(pets=('bear', 'cat')))
  (record,) = caplog.records
  assert 'calls its classes by their numbers' in record.getMessage()


def test_classes_of_each_dataset_are_compared(tmp_path):
  here = sources(appearance=('red', 'blue'), motion=('up', 'down'))
  theirs = ('motion/up', 'motion/left', 'other/a')
  config = start(tmp_path, joint_config(), theirs, head='joint')
  with pytest.raises(ValueError, match='datasets.motion .*only there: left; only here: down') as e:
    checks.check_init_classes(config, here)
  pattern = 'head/(classifiers|projections)/(.*/)?motion/.*'
  assert f'--config.init.skip="(\'{pattern}\',)"' in str(e.value)
  with_skip = dataclasses.replace(config.init, skip=(pattern,))
  checks.check_init_classes(dataclasses.replace(config, init=with_skip), here)
  only = dataclasses.replace(config.init, skip=('head/classifiers/motion/.*',))
  config = start(tmp_path, joint_config(), ('appearance/red', 'appearance/blue', *theirs), 'joint')
  with pytest.raises(ValueError, match='datasets.motion'):  # its projections would be taken
    checks.check_init_classes(dataclasses.replace(config, init=only), here)


def test_an_experiment_compares_classes(tmp_path, data_dir):
  names = [f'class {i}' for i in range(12)]
  config = {**ALONE, 'init': {'path': str(tmp_path)}}
  start(tmp_path, ALONE, names)
  meta = json.loads((tmp_path / 'meta.json').read_text())
  meta['config'] |= {'data': {'name': 'k400'}, 'optim': {}}
  (tmp_path / 'meta.json').write_text(json.dumps(meta))
  with pytest.raises(ValueError, match='motions has other classes than the weights of config.init'):
    build.experiment(config, str(data_dir))
