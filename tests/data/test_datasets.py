"""Facts of the datasets."""

import dataclasses
import shlex

import pytest

from data_prep import write
from tests.data import make
from vjax import registry
from vjax.config import AugmentConfig, ViewsConfig
from vjax.data import pipeline
from vjax.data.labels import find_names
from vjax.data.specs import DatasetSpec
from vjax.data.split import open_split

PART = DatasetSpec(
  name='part', num_classes=2, classes_of='toy', classes=('Class_3', 'class 1'), prepare='write it'
)


def test_every_dataset_file_states_its_facts():
  specs = {
    name: registry.find('data.datasets', name).SPEC for name in registry.names('data.datasets')
  }
  counts = dict(
    k400=400, k600=600, k700=700, ssv2=174, ssv1=174, jester=27, ucf101=101, hmdb51=51, motions=12,
    custom=0, moments=339, moments_v2=305, mini_mit=200, activitynet=200, sports1m=487,
    imagenet=1000, epic55=0, epic55_verb=125, epic55_noun=352, epic100=0, epic100_verb=97,
    epic100_noun=300, mini_k400=200, mini_ssv2=87, activitynet_10s=200, domain_a=6, domain_b=6, domain_b_appearance=12, domain_c=6,
    domain_d=6,
  )  # fmt: skip
  assert {name: specs[name].num_classes for name in counts} == counts
  for name, spec in specs.items():
    assert spec.name == name and spec.prepare.startswith('python -m data_prep.')
  sided = {'ssv1', 'ssv2', 'mini_ssv2', 'jester', 'motions', 'motions_action'}
  sided |= {'domain_a', 'domain_b', 'domain_d'}  # left and right, or turning
  assert {name for name, spec in specs.items() if not spec.flip} == sided
  assert specs['sports1m'].labels == 'multi_label'
  assert {specs[n].folder or n for n in specs if n.startswith('motions')} == {'motions'}


def test_commands_that_prepare_a_dataset_have_flags_that_there_are():
  for name in registry.names('data.datasets'):
    spec = registry.find('data.datasets', name).SPEC
    module, *flags = shlex.split(spec.prepare.removeprefix('python -m '))
    if module == 'data_prep.write':
      args, unknown = write._parser().parse_known_args(flags)
      assert not unknown and args.out == f'data/{spec.records}'


def test_parts_of_datasets_name_classes_of_theirs():
  for name, count, of in (('mini_k400', 200, 'k400'), ('mini_ssv2', 87, 'ssv2')):
    spec = registry.find('data.datasets', name).SPEC
    full = registry.find('data.datasets', of).SPEC
    assert len({*spec.classes}) == len(spec.classes) == spec.num_classes == count
    assert list(spec.classes) == sorted(spec.classes)
    assert (spec.classes_of, spec.records) == (of, of)
    assert (spec.flip, spec.splits, spec.prepare) == (full.flip, full.splits, full.prepare)
  kinetics = registry.find('data.datasets', 'mini_k400').SPEC.classes
  assert kinetics[:2] == ('air drumming', 'answering questions') and kinetics[-1] == 'yoga'
  templates = registry.find('data.datasets', 'mini_ssv2').SPEC.classes
  assert templates[0] == 'Approaching something with your camera'
  assert templates[-1] == 'Unfolding something'


def test_a_part_of_the_classes_is_read_from_the_records_of_all(tmp_path):
  """Labels are renumbered, records of other classes are not in use, the folder is untouched."""
  folder = make.dataset(tmp_path / 'toy')
  before = make.manifest(folder)
  split = open_split(str(tmp_path), PART, 'train')
  assert split.classes == PART.classes and split.num_clips == 5
  assert split.index.label[split.rows].tolist() == [1, 0, 1, 0, 1]  # of videos 1, 3, 5, 7, 9
  assert [split.labels_of(split.read(row)) for row in split.rows] == [[1], [0], [1], [0], [1]]
  assert make.manifest(folder) == before
  turned = open_split(str(tmp_path), PART, 'train', classes=PART.classes[::-1])
  assert turned.index.label[turned.rows].tolist() == [0, 1, 0, 1, 0]
  assert [turned.labels_of(turned.read(row)) for row in turned.rows[:2]] == [[0], [1]]
  clip = ViewsConfig(num_frames=2, frame_stride=1, crop_size=16, short_side=20, sampling='dense')
  settings = dict(batch=5, host=0, hosts=1, workers=0)
  [batch] = pipeline.eval_batches(split, PART, clip, **settings)
  assert batch['video_id'].tolist() == split.rows.tolist()
  assert batch['label'].tolist() == [1, 0, 1, 0, 1]
  settings |= dict(seed=0, start_step=0)
  batch = next(pipeline.train_batches(split, PART, clip, AugmentConfig(), **settings))
  assert sorted(batch['label']) == [0, 0, 1, 1, 1]
  few = open_split(str(tmp_path), PART, 'train', per_class=1)
  assert sorted(few.index.label[few.rows]) == [0, 1] and {*few.rows} <= {*split.rows}


def test_classes_that_the_records_lack_are_named(tmp_path):
  make.dataset(tmp_path / 'toy')
  with pytest.raises(
    ValueError, match=r"part of the classes of toy: 1 of 2 .* 'class 9'.*write it"
  ):
    open_split(str(tmp_path), dataclasses.replace(PART, classes=('class 1', 'class 9')), 'train')
  assert find_names(['a-b', 'C'], ['c', 'A b']) == [1, 0]
  with pytest.raises(ValueError, match="'C'"):
    find_names(['C'], ['c', 'C '])  # spelling tells two classes apart
