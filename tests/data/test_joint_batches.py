"""Batches of several datasets: shares, epochs, draws of each dataset, resume, hosts, workers."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest

from tests.data import make
from tests.data.test_pipeline import CLIP, PLAIN, SPEC, same
from vjax.config import AugmentConfig
from vjax.data import clips, pipeline
from vjax.data.split import open_split

FLIPPED = AugmentConfig(flip=0.5)


@pytest.fixture(scope='module')
def datasets(tmp_path_factory):
  """Two folders with the same records, of which one is mirrored in training, one is not."""
  root = tmp_path_factory.mktemp('data')
  found = {}
  for alias, clip in (('one', CLIP), ('two', dataclasses.replace(CLIP, sampling='uniform'))):
    make.dataset(root / alias)
    spec = dataclasses.replace(SPEC, name=alias, folder=alias, flip=alias == 'one')
    found[alias] = open_split(str(root), spec, 'train'), spec, clip, FLIPPED
  return found


def batches(datasets, count, shares=None, *, start=0, workers=0, batch=4, **settings):
  settings = {'seed': 7, 'host': 0, 'hosts': 1, **settings}
  made = pipeline.joint_batches(
    datasets, shares, batch=batch, start_step=start, workers=workers, **settings
  )
  return list(itertools.islice(made, count))


def test_an_epoch_has_every_clip_of_all_datasets_once(datasets):
  sizes = [split.num_clips for split, *_ in datasets.values()]
  found = batches(datasets, sum(sizes) // 4 + 1)
  ids = np.concatenate([b['video_id'] for b in found])[: sum(sizes)]
  assert Counter(ids.tolist()) == Counter(range(sum(sizes)))
  numbers = np.concatenate([b['dataset'] for b in found])[: sum(sizes)]
  assert Counter(numbers.tolist()) == dict(enumerate(sizes))
  np.testing.assert_array_equal(numbers, ids >= sizes[0])


def test_shares_are_those_of_every_batch_and_datasets_have_epochs_of_their_own(datasets):
  split = datasets['one'][0]
  steps = -(-2 * split.num_clips // 3)
  found = batches(datasets, steps, (3, 1))
  for b in found:
    assert b['dataset'].tolist() == [0, 0, 0, 1]
  first = np.concatenate([b['video_id'][:3] for b in found])
  assert Counter(first[: split.num_clips].tolist()) == Counter(range(split.num_clips))
  assert [int(b['epoch'][0]) for b in found][-1] == 1 and found[-1]['epoch'][3] == 0


@pytest.mark.parametrize('distance', [1, 2])
def test_clips_of_a_dataset_are_neighbors(datasets, distance):
  """So that a group of BatchNorm's is of one: repeats stay within their dataset."""
  repeated = {
    alias: (
      split,
      spec,
      dataclasses.replace(clip, num_repeats=2, repeat_distance=distance),
      augment,
    )
    for alias, (split, spec, clip, augment) in datasets.items()
  }
  for found in batches(repeated, 2, (3, 1), batch=8):
    assert found['dataset'].tolist() == [0] * 12 + [1] * 4
  (one, two) = (batches(repeated, 1, (3, 1), batch=8, host=h, hosts=2)[0] for h in (0, 1))
  assert one['dataset'].tolist() + two['dataset'].tolist() == [0] * 12 + [1] * 4


def test_counts_are_whole_and_add_up():
  assert pipeline.batch_counts(10, ['a', 'b', 'c'], (1, 1, 1)) == [4, 3, 3]
  assert pipeline.batch_counts(8, ['a', 'b'], (0.5, 0.5)) == [4, 4]
  with pytest.raises(
    ValueError, match='config.datasets.b.share leaves it no video of a batch of 4'
  ):
    pipeline.batch_counts(4, ['a', 'b'], (99, 1))


@pytest.mark.parametrize('shares', [None, (3, 1)])
def test_a_clip_is_that_of_its_dataset_whatever_the_others(datasets, shares):
  (found,) = batches(datasets, 1, shares)
  for i, (number, row) in enumerate(zip(found['dataset'], found['video_id'])):
    alias = list(datasets)[number]
    split, spec, clip, augment = datasets[alias]
    own = int(row) - number * datasets['one'][0].num_clips
    maker = clips.TrainClips(split, spec.flip, clip, augment, pipeline._seed_of(7, alias))
    out = {n: np.zeros(shape, kind) for n, (kind, shape) in maker.arrays.items()}
    maker.render(maker.read(own, 0), own, 0, out)
    np.testing.assert_array_equal(found['video'][i], out['video'][0])
    assert found['label'][i] == split.index.label[own]


def test_equal_records_of_two_datasets_draw_apart(datasets):
  assert pipeline._seed_of(7, 'one') != pipeline._seed_of(7, 'two') != pipeline._seed_of(8, 'two')
  split, spec, clip, _ = datasets['one']
  twins = dict.fromkeys('ab', (split, spec, clip, FLIPPED))
  found = batches(twins, split.num_clips // 2 + 1)
  videos = {int(i): v for b in found for i, v in zip(b['video_id'], b['video'])}
  pairs = [(videos[i], videos[i + split.num_clips]) for i in range(split.num_clips)]
  assert sum(np.array_equal(a, b) for a, b in pairs) < len(pairs) / 2


@pytest.mark.parametrize('shares', [None, (3, 1)])
def test_resumed_hosts_and_workers_give_the_same_batches(datasets, shares):
  whole = batches(datasets, 5, shares)
  for a, b in zip(whole[3:], batches(datasets, 2, shares, start=3), strict=True):
    same(a, b)
  for a, b in zip(whole, batches(datasets, 5, shares, workers=2), strict=True):
    same(a, b)
  parts = [batches(datasets, 5, shares, host=h, hosts=2) for h in (0, 1)]
  for a, *b in zip(whole, *parts, strict=True):
    same(a, {name: np.concatenate([part[name] for part in b]) for name in a})


def test_one_dataset_keeps_its_sequence(datasets):
  """The order of one dataset does not go through the seed of its alias."""
  split, spec, clip, _ = datasets['one']
  alone = pipeline.train_batches(
    split, spec, clip, PLAIN, batch=4, seed=7, start_step=0, host=0, hosts=1, workers=0
  )
  joint = batches({'one': (split, spec, clip, PLAIN)}, 1)[0]
  np.testing.assert_array_equal(next(alone)['video_id'], joint['video_id'])


def test_clips_of_several_datasets_answer_for_their_records(datasets):
  """Messages of workers name the file of the right dataset."""
  parts = [clips.TrainClips(s, spec.flip, c, a, 0) for s, spec, c, a in datasets.values()]
  joint = clips.JointClips(tuple(parts))
  first = len(parts[0].split.index)
  assert '/two/' in joint.where(first) and '/one/' in joint.where(first - 1)
  assert joint.rebuild == ', '.join(part.split.index.rebuild for part in parts)
