"""Runs that continue or are evaluated: class names and changed settings."""

import json
import logging

import numpy as np
import pytest

from vjax import checkpoint
from vjax.data.specs import DatasetSpec
from vjax.data.split import open_split

CONFIG = {
  'model': {'name': 'vit_tiny', 'depth': 2}, 'head': {'name': 'linear'},
  'objective': {'name': 'classify'}, 'seed': 0,
  'data': {'name': 'custom', 'split': 'train', 'batch_size': 8, 'mean': [0.5] * 3, 'std': [0.5] * 3},
  'clip': {'num_frames': 8, 'frame_stride': 2, 'crop_size': 32, 'short_side': 36},
  'augment': {'flip': 0.5}, 'optim': {'learning_rate': 0.1, 'total_steps': 6},
  'train': {'dtype': 'float32', 'log_steps': 2},
  'evals': {'test': {'name': 'views', 'num_clips': 2, 'batch_size': 4}},
}  # fmt: skip
CLASSES = ['apple', 'bear', 'cat']


def meta(classes=CLASSES, **changes):
  """meta.json with changes {'section.key': value}."""
  config = json.loads(json.dumps(CONFIG))
  for place, value in changes.items():
    *path, key = place.split('.')
    section = config
    for name in path:
      section = section.setdefault(name, {})
    section[key] = value
  return {'config': config, 'classes': list(classes)}


def test_every_changed_setting_is_said_as_a_run_continues(caplog):
  with caplog.at_level(logging.WARNING):
    now = meta(**{'optim.learning_rate': 0.2, 'data.batch_size': 16, 'train.profile': ()})
    now['config']['augment']['resize_quality'] = 'fast'
    checkpoint.check_continues(meta(), now, 'runs/x')
  assert [record.getMessage() for record in caplog.records] == [
    'config.augment.resize_quality was exact in this run, and is fast from now on',
    'config.data.batch_size was 8 in this run, and is 16 from now on',
    'config.optim.learning_rate was 0.1 in this run, and is 0.2 from now on',
  ]  # a new key with its default is no change


@pytest.mark.parametrize(
  ('key', 'value', 'text'),
  [
    ('model.depth', 3, 'config.model.depth was 2, is 3'),
    ('model.sts.variant', 'sts', 'config.model.sts.variant was open, is sts'),
    ('data.mean', [0.4] * 3, r'config.data.mean was \[0.5, 0.5, 0.5\], is \[0.4'),
    ('clip.num_frames', 16, 'config.clip.num_frames was 8, is 16'),
    ('clip.sampling', 'uniform', 'config.clip.sampling was dense, is uniform'),
  ],
)
def test_another_model_pixels_or_clips_are_refused(key, value, text):
  for check in (checkpoint.check_continues, checkpoint.check_evaluated):
    with pytest.raises(ValueError, match=f'runs/x holds a run that .*{text}'):
      check(meta(), meta(**{key: value}), 'runs/x')


@pytest.mark.parametrize(
  ('key', 'value', 'text'),
  [
    ('clip.sampling', 'segments', 'dogs.clip.sampling was dense, is segments'),
    ('clip.frame_stride', 4, 'dogs.clip.frame_stride was 2, is 4'),
    ('share', 2.0, 'dogs.share was 1.0, is 2.0'),
    ('label_space', 'verb', 'dogs.label_space was open, is verb'),
    ('split', 'val', 'dogs.split was train, is val'),
    ('videos_per_class', 5, 'dogs.videos_per_class was open, is 5'),
  ],
)
def test_a_run_that_continues_keeps_the_sampling_of_each_dataset(key, value, text):
  before = meta(**{'datasets.dogs.share': 1.0, 'datasets.cats.share': 1.0})
  now = {'datasets.dogs.share': 1.0, 'datasets.cats.share': 1.0, f'datasets.dogs.{key}': value}
  with pytest.raises(ValueError, match=f'that continues: config.datasets.{text}: leave it as it'):
    checkpoint.check_continues(before, meta(**now), 'runs/x')


@pytest.mark.parametrize('key', ['data.videos_per_class', 'datasets.a.videos_per_class'])
def test_a_run_that_continues_keeps_its_choice_of_videos(key, caplog):
  before, now = meta(**{key: 0.5, 'data.subset_seed': 7}), meta(**{key: 0.5})
  with pytest.raises(ValueError, match='config.data.subset_seed was 7, is 0: leave it as it was'):
    checkpoint.check_continues(before, now, 'runs/x')
  assert 'data.subset_seed' not in checkpoint.check_evaluated(before, now, 'runs/x')
  checkpoint.check_continues(meta(**{'data.subset_seed': 7}), meta(), 'runs/x')  # it takes all


def test_what_a_dataset_says_as_all_do_is_no_change(caplog):
  same = {'clip.sampling': 'dense', 'clip.frame_stride': 2, 'split': 'train', 'augment.flip': 0.5}
  now = meta(**{f'datasets.dogs.{key}': value for key, value in same.items()})
  checkpoint.check_continues(meta(**{'datasets.dogs.share': None}), now, 'runs/x')
  assert not caplog.records
  before = meta(**{'datasets.dogs.folder': 'other'})
  checkpoint.check_continues(before, meta(**{'datasets.dogs.folder': 'moved'}), 'runs/x')
  assert [r.getMessage() for r in caplog.records] == [
    'config.datasets.dogs.folder was other in this run, and is moved from now on'
  ]


def test_other_classes_are_refused_with_the_difference():
  for classes, text in (
    (['bear', 'cat', 'zebra'], 'only there: apple; only here: zebra'),
    (['bear', 'apple', 'cat'], 'the same names in another order'),
    (['apple', 'bear'], 'only there: cat; only here: none'),
  ):
    for check in (checkpoint.check_continues, checkpoint.check_evaluated):
      with pytest.raises(ValueError, match=f'the run in runs/x: {text}'):
        check(meta(), meta(classes), 'runs/x')
      check(meta(), meta(classes), 'runs/x', labeled=False)  # outputs are no classes


def test_an_evaluation_with_other_settings_has_a_result_of_its_own(tmp_path):
  more = {'train.fsdp': 8, 'optim.learning_rate': 1.0, 'evals.test.batch_size': 16}
  assert checkpoint.check_evaluated(meta(), meta(**more), 'x') == {}
  assert checkpoint.other_result(str(tmp_path), {}) == 'result.json'
  names = []
  for clips in (4, 8, 4):
    changed = checkpoint.check_evaluated(meta(), meta(**{'evals.test.num_clips': clips}), 'x')
    assert changed == {'evals.test.num_clips': (2, clips)}
    names.append(checkpoint.other_result(str(tmp_path), changed))
    settings = checkpoint.settings_of(changed)
    (tmp_path / names[-1]).write_text(json.dumps({'settings': settings}))
  assert names == ['result-2.json', 'result-3.json', 'result-2.json']


def test_labels_are_renumbered_where_the_names_are_the_same(data_dir):
  spec = DatasetSpec('motions', 0)
  split = open_split(str(data_dir), spec, 'test')
  turned = open_split(str(data_dir), spec, 'test', classes=split.classes[::-1])
  assert turned.classes == split.classes[::-1]
  last = len(split.classes) - 1
  np.testing.assert_array_equal(turned.index.label, last - split.index.label)
  assert turned.labels_of(turned.read(3)) == [
    last - label for label in split.labels_of(split.read(3))
  ]
  other = open_split(str(data_dir), spec, 'test', classes=('a', 'b'))
  assert other.classes == split.classes and other.order is None
