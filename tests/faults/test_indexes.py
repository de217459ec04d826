"""Damaged indexes, frame tables and manifests, or such as belong to other records: named, with the
command that mends it."""

import contextlib
import dataclasses
import io
import json
import re

import numpy as np
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from tests.data import make
from tests.faults.sets import SPEC, change_columns, evaluate, flip, open_set, quick, refused, train
from vjax.data import index as index_lib
from vjax.data.split import open_record

pytestmark = pytest.mark.timeout(120)


def test_every_flip_of_a_frame_table_is_found_or_of_no_matter(folder):
  path, rng = folder / 'train.frames', np.random.default_rng(0)
  frames = lambda: [
    [open_record(open_set(folder).index, i).frame(t) for t in range(2)] for i in range(4)
  ]
  clean, found = frames(), 0
  for place in rng.integers(0, path.stat().st_size, 100):
    whole = flip(path, place, 1 << int(rng.integers(8)))
    try:
      assert frames() == clean
    except ValueError as e:
      found += 1
      assert re.search(
        r'tfrecord: record \d at byte \d+: .*frame \d at byte \d+.*run: python -m vjax.data.index',
        str(e),
      )
    path.write_bytes(whole)
  assert found > 60


@pytest.mark.parametrize('damage', ['gone', 'short', 'of another set'])
def test_frame_tables_that_do_not_fit(folder, damage):
  path = folder / 'train.frames'
  content = {
    'gone': None,
    'short': path.read_bytes()[:-5],
    'of another set': path.read_bytes() * 2,
  }[damage]
  path.unlink()
  if content is not None:
    path.write_bytes(content)
  for read in (train, evaluate):
    with pytest.raises(
      (ValueError, FileNotFoundError), match=f'{path} .*run: python -m vjax.data.index'
    ):
      read(open_set(folder))


def test_indexes_without_checksums_are_still_read(folder):
  change_columns(folder, crc=None)
  source = open_set(folder)
  assert source.index.crc is None and len(evaluate(source)) == 2


@pytest.mark.parametrize(
  'column, value', [('length', 1 << 32), ('offset', -4), ('offset', 1 << 40), ('shard', 9)]
)
def test_indexes_that_claim_what_is_not_there(folder, column, value):
  path = folder / 'train.index.npz'
  with np.load(path) as arrays:
    columns = {name: arrays[name] for name in arrays.files}
  columns[column][1] = value
  np.savez(path, **columns)
  refused(
    folder,
    f'{path} is damaged (a record outside its shard); to build it again: python -m vjax.data.index',
  )


def test_every_flip_of_an_index_is_found_or_without_effect(folder):
  path, rng = folder / 'train.index.npz', np.random.default_rng(0)
  clean, found = open_set(folder).index, 0
  for place in rng.integers(0, path.stat().st_size, 300):
    whole = flip(path, place, 1 << int(rng.integers(8)))
    try:
      index = open_set(folder).index
    except ValueError as e:
      found += 1
      assert str(path) in str(e) and 'to build it again: python -m vjax.data.index' in str(e)
    else:
      for name in ('shard', 'offset', 'length', 'frames', 'label', 'crc'):
        np.testing.assert_array_equal(getattr(index, name), getattr(clean, name))
    path.write_bytes(whole)
  assert found > 150


@pytest.mark.parametrize('content', [b'', b'PK\3\4', b'\x93NUMPY', bytes(500)])
def test_an_index_that_is_none(folder, content):
  (folder / 'train.index.npz').write_bytes(content)
  refused(folder, f'{folder / "train.index.npz"} is damaged', 'to build it again')


@pytest.mark.parametrize('clips', [3, 5, 0])
def test_manifests_that_count_otherwise(folder, clips):
  manifest = make.manifest(folder)
  manifest['splits']['train']['clips'] = clips
  (folder / 'manifest.json').write_text(json.dumps(manifest))
  refused(
    folder,
    f'{folder}: manifest.json counts {clips} clips of train, train.index.npz 4',
    'vjax.data.index',
  )


@pytest.mark.parametrize('content', [b'', b'{"classes": ["a"', b'[1]', b'\xff\xfe{}', b'{}', b'7'])
def test_a_manifest_that_is_none(folder, content):
  (folder / 'manifest.json').write_bytes(content)
  refused(folder, str(folder / 'manifest.json'), 'prepare')


@pytest.mark.parametrize(
  'change, words',
  [
    ({'classes': 3}, 'classes is no list of names'),
    ({'classes': 'abcd'}, 'classes is no list of names'),
    ({'classes': ['a', 'b', 'c', 7]}, 'classes is no list of names'),
    ({'classes': ['a', 'b', 'a', 'c']}, "classes has 'a' twice"),
    ({'classes': []}, 'names no classes'),
    ({'views': None}, 'views is no object'),
    ({'views': {'even': None}}, 'views.even is no list of names'),
    ({'splits': True}, 'splits is no object'),
    ({'splits': {'train': [4]}}, 'splits.train is no description of a split'),
    ({'splits': {'train': {'clips': '4'}}}, 'splits.train is no description of a split'),
  ],
)
def test_manifests_of_other_types(folder, change, words):
  (folder / 'manifest.json').write_text(json.dumps(make.manifest(folder) | change))
  refused(folder, words, 'prepare')


def test_a_label_space_that_the_manifest_lacks(folder):
  (folder / 'manifest.json').write_text(json.dumps(make.manifest(folder) | {'views': {}}))
  spec = dataclasses.replace(SPEC, label_space='even')
  refused(folder, "has no label space 'even'", 'delete manifest.json', spec=spec)


values = st.recursive(
  st.none() | st.booleans() | st.integers(-2, 5) | st.text(max_size=3),
  lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
  ),
  max_leaves=5,
)


@quick
@given(st.sampled_from(['classes', 'views', 'splits']), values)
def test_any_manifest_opens_or_is_a_value_error(folder, key, value):
  (folder / 'manifest.json').write_text(
    json.dumps(json.loads((folder / 'manifest.json').read_text()) | {key: value})
  )
  with contextlib.suppress(ValueError):
    source = open_set(folder)
    assert len(source.classes) == 4 and source.num_clips == 4


@pytest.mark.parametrize(
  'column, value',
  [('label', 0.5), ('label', 'a'), ('frames', [[1]]), ('shard_bytes', 7.5), ('crc', None)],
)
def test_index_columns_of_other_kinds(folder, column, value):
  path = folder / 'train.index.npz'
  with np.load(path) as arrays:
    count = len(arrays[column])
  change_columns(folder, **{column: np.array([value] * count)})
  refused(folder, f'{path} is damaged', 'to build it again')


@quick
@given(st.binary(max_size=400))
def test_any_bytes_are_an_index_or_a_value_error(tmp_path_factory, data):
  path = epath.Path(tmp_path_factory.mktemp('any')) / 'train.index.npz'
  buffer = io.BytesIO()
  np.savez(buffer, shard=np.zeros(2, np.int32))
  for content in (data, buffer.getvalue() + data, buffer.getvalue()[: len(data)]):
    path.write_bytes(content)
    with pytest.raises(ValueError, match='train.index.npz is damaged'):
      index_lib._columns(path, 'again')
