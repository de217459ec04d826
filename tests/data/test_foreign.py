"""Records of DMVR and Scenic: names of shards, numbers and names of classes, frame rates."""

import numpy as np
import pytest

from tests.data import foreign, make
from vjax.data import index as index_lib
from vjax.data import tfrecord
from vjax.data.index import open_index
from vjax.data.split import open_split
from vjax.types import DatasetSpec

SPEC = DatasetSpec(name='set', num_classes=0, labels='')


def index(folder, *flags):
  """Runs the index command."""
  index_lib.main([f'--folder={folder}', *flags])


@pytest.mark.parametrize(
  'name, split',
  [
    ('train-{}-of-00002', 'train'),
    ('validation.tfrecord-{}-of-00002', 'validation'),
    ('train-{}-of-00002.tfrecord', 'train'),
    ('kinetics-train.tfrecord-{}-of-00002', 'train'),
    ('hmdb51_test-{}-of-00002', 'test'),
    ('my.split1-{}-of-00002.tfrecord', 'my.split1'),
  ],
)
def test_shards_are_found_by_their_names(tmp_path, name, split):
  for s in range(2):
    foreign.write(
      tmp_path / 'set', name.format(f'{s:05}'), [foreign.record(2 * s + i, i) for i in range(2)]
    )
  index(tmp_path / 'set')
  source = open_split(str(tmp_path), SPEC, split)
  assert source.num_clips == 4 and source.index.label.tolist() == [0, 1, 0, 1]
  assert source.read(3).frame(2) == foreign.jpeg(76)


@pytest.mark.parametrize(
  'names, words',
  [
    (
      ['train-00000-of-00002', 'train-00001-of-00002.tfrecord'],
      r'shards of train have names of 2 forms .*train-00000-of-00002, train-00001-of-00002.tfrecord',
    ),
    (
      ['train.tfrecord-00000-of-00001', 'train-00000-of-00001.tfrecord'],
      'shards of train have names of 2 forms',
    ),
    (['train-00000-of-00002'], 'missing: train-00001-of-00002$'),
    (['a-val.tfrecord-00001-of-00002'], 'shards of val are missing: a-val.tfrecord-00000-of-00002'),
    (['train-00000-of-00001', 'train-00001-of-00001'], 'no number 1 of 1'),
  ],
)
def test_shards_of_two_forms_or_too_few_are_refused(tmp_path, names, words):
  for name in names:
    foreign.write(tmp_path, name, [foreign.record(0, 0)])
  with pytest.raises(SystemExit, match=words):
    index(tmp_path)


def test_prefixes_that_may_mean_anything_stay(tmp_path):
  for name in ('kinetics-train', 'ucf-train'):
    foreign.write(tmp_path, f'{name}-00000-of-00001', [foreign.record(0, 0)])
  foreign.write(tmp_path, 'model.data-00000-of-00001', [])
  assert tfrecord.splits(tmp_path) == ['kinetics-train', 'ucf-train']
  old = foreign.write(tmp_path / 'old', 'my_train-00000-of-00001.tfrecord', [foreign.record(0, 0)])
  index_lib.write_index(str(old), 'my_train')
  assert tfrecord.splits(old) == ['my_train']
