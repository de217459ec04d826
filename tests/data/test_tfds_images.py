"""Image sets that TFDS prepared: a tiny one, written in the test, read as clips of one frame."""

import itertools
import pathlib

import numpy as np
import pytest

from tests.data.test_foreign import read_only
from tests.data.test_pipeline import same
from vjax.config import AugmentConfig, ViewsConfig
from vjax.data import pipeline
from vjax.data.specs import DatasetSpec
from vjax.data.split import open_split

CLIP = ViewsConfig(
  num_frames=1, frame_stride=1, crop_size=16, short_side=20, sampling='consecutive'
)


@pytest.fixture(scope='module', params=['jpeg', 'png'])
def prepared(request, tmp_path_factory):
  """(data_dir, spec) of nine flat pictures in three classes, in two shards."""
  import tensorflow_datasets as tfds

  root, name = tmp_path_factory.mktemp(request.param), f'tiny_{request.param}'
  folder = root / name / '1.0.0'
  folder.mkdir(parents=True)
  image = tfds.features.Image(shape=(None, None, 3), encoding_format=request.param)
  features = tfds.features.FeaturesDict(
    {'image': image, 'label': tfds.features.ClassLabel(names=['red', 'green', 'blue'])}
  )
  identity = tfds.core.dataset_info.DatasetIdentity(
    name=name, version=tfds.core.Version('1.0.0'), data_dir=str(folder), module_name=name
  )
  writer = tfds.core.SequentialWriter(tfds.core.DatasetInfo(builder=identity, features=features), 5)
  writer.initialize_splits(['train'])
  for i in range(9):
    picture = np.zeros((24 + i, 40 - i, 3), np.uint8)
    picture[..., i % 3] = 200
    writer.add_examples({'train': [{'image': picture, 'label': i % 3}]})
  writer.close_all()
  return str(root), DatasetSpec(name='shapes', num_classes=3, folder=f'tfds:{name}')


def test_images_become_clips_of_one_frame(prepared):
  root, spec = prepared
  source = open_split(root, spec, 'train')
  assert source.classes == ('red', 'green', 'blue') and source.num_clips == 9
  settings = {'batch': 3, 'seed': 0, 'start_step': 0, 'host': 0, 'hosts': 1}
  batches = list(
    itertools.islice(pipeline.train_batches(source, spec, CLIP, AugmentConfig(), **settings), 3)
  )
  assert sorted(np.concatenate([b['video_id'] for b in batches])) == list(range(9))
  for b in batches:
    assert b['video'].shape == (3, 1, 16, 16, 3)
    assert (b['video'].mean(axis=(1, 2, 3)).argmax(-1) == b['label']).all()
  (whole,) = pipeline.eval_batches(source, spec, CLIP, batch=9, host=0, hosts=1)
  assert whole['video'].shape == (9, 1, 1, 16, 16, 3) and np.bincount(whole['label']).tolist() == [
    3,
    3,
    3,
  ]
  assert open_split(root, spec, 'train').num_clips == 9  # now from the cached index


def test_images_by_workers(prepared):
  root, spec = prepared
  source = open_split(root, spec, 'train')
  settings = {'batch': 3, 'seed': 0, 'start_step': 0, 'host': 0, 'hosts': 1}
  alone, two = (
    pipeline.train_batches(source, spec, CLIP, AugmentConfig(), workers=count, **settings)
    for count in (0, 2)
  )
  for a, b in zip(itertools.islice(alone, 5), two):
    same(a, b)


def test_errors(prepared, tmp_path):
  root, spec = prepared
  with pytest.raises(ValueError, match="split 'val' is not in"):
    open_split(root, spec, 'val')
  with pytest.raises(
    FileNotFoundError, match=r"no TFDS set 'tiny_.*; to prepare it: tfds build tiny_"
  ):
    open_split(str(tmp_path), spec, 'train')


def test_a_folder_that_cannot_be_written_to(prepared, tmp_path, monkeypatch, caplog):
  root, spec = prepared
  for index in pathlib.Path(root).rglob('vjax-*'):
    index.unlink()
  read_only(monkeypatch, root)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  for _ in range(2):
    assert open_split(root, spec, 'train').num_clips == 9
  assert caplog.text.count(f'its index is kept in {tmp_path}/vjax/indexes/1.0.0-') == 1
  assert not [*pathlib.Path(root).rglob('vjax-*')]
