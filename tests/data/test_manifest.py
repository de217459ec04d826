"""The manifest's one schema, and folders whose manifest is older."""

import json
import pathlib

import google_crc32c
import pytest

from data_prep import dataset, rows, write
from data_prep.shards import Settings
from tests.data import make
from tests.data_prep.films import write_video
from vjax.data import manifest
from vjax.data.specs import DatasetSpec
from vjax.data.split import open_split

SCANNED_1 = """{"format": "vjax-1", "name": "toy", "classes": ["class 0", "class 1", "class 2",
"class 3"], "labels": "one", "views": {"even": ["even 0", "even 1"]}, "settings": {},
"versions": {}, "splits": {"train": {"clips": 5, "frames": 22, "duration_s": 10.0, "shards": [
{"file": "train-00000-of-00002.tfrecord", "clips": 3, "bytes": 13440, "sha256":
"4a12c0a5d32f5beb4ffc2913297d89a5b1304b51ec2be1136f561406bb784a1b"}, {"file":
"train-00001-of-00002.tfrecord", "clips": 2, "bytes": 9239, "sha256":
"c77380fb2163b8713aeecb59fd112cef58f427e81982b6ea124bd8e701058eda"}], "clips_per_class":
[2, 1, 1, 1]}}, "failed": 0}"""
WRITTEN_1 = """{"classes": ["class 0", "class 1", "class 2", "class 3"], "failed": 1,
"failed_by_reason": {"truncated": 1}, "fingerprint": "e2a44018823cbfbc", "format": "vjax-1",
"in_several_splits": 2, "labels": "one", "name": "old", "settings": {"frame_rate": 0,
"quality": 95, "shards": 0, "short_side_px": 0}, "splits": {"train": {"clips": 5,
"clips_per_class": [2, 1, 1, 1], "duration_s": 8.0, "frames": 22, "shards": [{"bytes": 13440,
"clips": 3, "crc32c": "4536ffda", "file": "train-00000-of-00002.tfrecord"}, {"bytes": 9239,
"clips": 2, "crc32c": "4536ffdb", "file": "train-00001-of-00002.tfrecord"}], "views": {"even":
[3, 2]}}}, "versions": {"av": "18.1.0", "vjax": "0.1.0"}, "views": {"even": ["even 0", "even 1"]}}"""
SPEC = DatasetSpec(name='toy', num_classes=4)


@pytest.fixture
def toy(tmp_path):
  return pathlib.Path(make.dataset(tmp_path / 'toy', clips=5, frames=4, shards=2))


@pytest.fixture
def videos(tmp_path):
  for name in ('walk', 'run'):
    (tmp_path / 'videos' / name).mkdir(parents=True)
    write_video(tmp_path / 'videos' / name / '0.mp4', frames=12)  # one second
  return tmp_path / 'videos'


@pytest.mark.parametrize('text', [SCANNED_1, WRITTEN_1], ids=['scanned', 'written'])
def test_folders_of_schema_1_are_read(toy, text):
  (toy / 'manifest.json').write_text(text)
  split = open_split(str(toy.parent), SPEC, 'train')
  assert split.num_clips == 5 and split.classes == tuple(f'class {i}' for i in range(4))
  assert split.read(3).context['clip/label/index'] == [3]
  even = DatasetSpec(name='other', num_classes=2, folder='toy', label_space='even')
  assert open_split(str(toy.parent), even, 'train').index.label.tolist() == [0, 1, 0, 1, 0]
  assert split.manifest['schema'] == manifest.SCHEMA
  assert split.manifest['failed'] == sum(split.manifest['failed_by_reason'].values())
  assert (split.manifest['splits'] == json.loads(text)['splits']) and split.manifest[
    'versions'
  ] == (json.loads(text)['versions'])


def test_a_folder_of_schema_1_without_kind_of_labels_is_read(toy):
  old = json.loads(SCANNED_1)
  del old['labels']
  (toy / 'manifest.json').write_text(json.dumps(old))
  assert open_split(str(toy.parent), SPEC, 'train').labels == 'single_label'


def test_both_writers_write_one_schema(toy, videos, tmp_path):
  found = rows.read_folder(str(videos), 'train')
  out = tmp_path / 'out'
  written = dataset.write_dataset(
    found, str(out), root=str(videos), settings=Settings(0, 95, 0), processes=1
  )
  scanned = manifest.read(toy, '')
  assert written == json.loads((out / 'manifest.json').read_text()) == manifest.read(out, '')
  keys = set(manifest.Manifest.__annotations__)
  assert set(written) == set(scanned) == keys
  for made, folder in ((written, out), (scanned, toy)):
    (split,) = made['splits'].values()
    assert set(split) == set(manifest.SplitEntry.__annotations__)
    for shard in split['shards']:
      assert set(shard) == set(manifest.ShardEntry.__annotations__)
      content = (folder / shard['file']).read_bytes()
      assert shard['bytes'] == len(content)
      assert shard['crc32c'] == f'{google_crc32c.value(content):08x}'


def test_a_scan_of_written_records_tells_the_same(videos, tmp_path):
  out = tmp_path / 'out'
  write.main([f'--folder={videos}', f'--out={out}', '--processes=1', '--short_side=0'])
  written = make.manifest(out)
  (out / 'manifest.json').unlink()
  manifest.write_scanned(str(out))
  scanned = make.manifest(out)
  for key in ('format', 'schema', 'name', 'classes', 'views', 'labels', 'splits'):
    assert scanned[key] == written[key], key


def test_the_command_that_wrote_a_folder_of_schema_1_keeps_it(videos, tmp_path, capsys):
  command = [f'--folder={videos}', f'--out={tmp_path / "out"}', '--processes=1']
  write.main(command)
  path = tmp_path / 'out' / 'manifest.json'
  old = json.loads(path.read_text())
  del old['schema']
  path.write_text(json.dumps(old))
  capsys.readouterr()
  write.main(command)
  assert 'writing' not in capsys.readouterr().out and json.loads(path.read_text()) == old


def test_a_later_schema_is_refused(toy):
  (toy / 'manifest.json').write_text(json.dumps(make.manifest(toy) | {'schema': 3}))
  with pytest.raises(
    ValueError, match=r'manifest.json has schema 3, .* reads up to 2: update vjax'
  ):
    open_split(str(toy.parent), SPEC, 'train')


@pytest.mark.parametrize(
  'change', [{'schema': '2'}, {'schema': True}, {'labels': ['one']}, {'settings': []}]
)
def test_entries_of_other_types_are_named(toy, change):
  (toy / 'manifest.json').write_text(json.dumps(make.manifest(toy) | change))
  (key,) = change
  with pytest.raises(ValueError, match=f'is not a manifest of records .{key} is no .*: mend it'):
    manifest.read(toy, 'mend it')


def test_several_labels_in_a_further_label_space_only(tmp_path):
  videos = [make.example(v, 2, 16, 16, {'': [v], 'parts': [0, 1]}) for v in range(2)]
  made = make.manifest(make.folder(tmp_path / 'set', videos, shards=1))
  assert made['labels'] == 'one' and made['splits']['train']['views'] == {'parts': [2, 2]}
