"""Scanning, index, manifest, reading; damage is reported with file and byte. No TensorFlow is
needed to read."""

import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest

from tests.data import make
from vjax.data import image, sequence_example, tfrecord
from vjax.data.index import open_index, read_record, write_index


@pytest.fixture
def toy(tmp_path):
  return pathlib.Path(make.dataset(tmp_path / 'toy', clips=5, frames=4, shards=2))


def test_index_columns(toy):
  with np.load(toy / 'train.index.npz') as index:
    assert index['shard'].tolist() == [0, 0, 0, 1, 1] and index['shard'].dtype == np.int32
    assert index['offset'].dtype == index['length'].dtype == np.int64 and index['offset'][0] == 12
    assert (np.diff(index['offset'])[:2] == index['length'][:2] + 16).all()
    assert index['frames'].tolist() == [4, 5, 4, 5, 4] and index['label'].tolist() == [
      0,
      1,
      2,
      3,
      0,
    ]
    assert index['label_even'].tolist() == [0, 1, 0, 1, 0]
    assert index['shard_bytes'].tolist() == [
      (toy / str(f)).stat().st_size for f in index['shard_files']
    ]


def test_records_are_what_tensorflow_wrote(toy):
  import tensorflow as tf

  index = open_index(str(toy), 'train')
  for i, shard in enumerate(
    tf.data.TFRecordDataset([str(toy / f) for f in tfrecord.shard_files(toy, 'train')])
  ):
    payload = read_record(index, i)
    assert payload == shard.numpy()
    context, spans = sequence_example.decode(payload)
    message = tf.train.SequenceExample.FromString(payload)
    frames = message.feature_lists.feature_list['image/encoded'].feature
    assert [sequence_example.frame(payload, s) for s in spans] == [
      f.bytes_list.value[0] for f in frames
    ]
    assert context['video/filename'] == [f'v{i}.mp4'.encode()] and context[
      'clip/end/timestamp'
    ] == [2_000_000]
    assert context['image/frame_rate'] == [30.0] and context['clip/label/index'] == [i % 4]
    assert image.image_size(sequence_example.frame(payload, spans[0])) == (
      (56, 40) if i % 3 == 2 else (40, 56)
    )


def test_manifest_from_scanning(toy):
  manifest = make.manifest(toy)
  assert manifest['format'] == 'vjax-1' and manifest['labels'] == 'one' and manifest['failed'] == 0
  assert manifest['classes'] == ['class 0', 'class 1', 'class 2', 'class 3']
  assert manifest['views'] == {'even': ['even 0', 'even 1']}
  split = manifest['splits']['train']
  assert (split['clips'], split['frames'], split['duration_s']) == (5, 22, 10.0)
  assert split['clips_per_class'] == [2, 1, 1, 1] and [s['clips'] for s in split['shards']] == [
    3,
    2,
  ]


def test_command_builds_index_and_manifest(toy):
  (toy / 'train.index.npz').unlink()
  (toy / 'manifest.json').unlink()
  (toy / 'names.txt').write_text('a\nb\nc\nd\n')
  command = [
    sys.executable,
    '-m',
    'vjax.data.index',
    f'--folder={toy}',
    f'--classes={toy / "names.txt"}',
  ]
  subprocess.run(command, check=True, capture_output=True)
  index = open_index(str(toy), 'train')
  assert index.classes == ('a', 'b', 'c', 'd') and len(index) == 5


def test_records_need_neither_tensorflow_nor_jax():
  check = (
    'import sys, data_prep.synthetic, data_prep.write, vjax.data.index, vjax.data.video_file\n'
    "assert not {'tensorflow', 'jax'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, '-c', check], check=True)


def test_missing_shards_are_named(toy):
  (toy / 'train-00000-of-00002.tfrecord').rename(toy / 'kept')
  with pytest.raises(
    ValueError, match='1 of 2 shards of train are missing: train-00000-of-00002.tfrecord'
  ):
    write_index(str(toy), 'train')
  with pytest.raises(FileNotFoundError, match='train-00000-of-00002.tfrecord is gone'):
    open_index(str(toy), 'train')
  with pytest.raises(ValueError, match="no val-.*splits there: .*'train'"):
    write_index(str(toy), 'val')


def test_two_series_of_shards(toy):
  (toy / 'train-00002-of-00003.tfrecord').write_bytes(b'')
  with pytest.raises(ValueError, match=r'series of \[2, 3\]'):
    write_index(str(toy), 'train')


def test_incomplete_folders(toy, tmp_path):
  with pytest.raises(FileNotFoundError, match='no dataset in .*nowhere; to prepare it: make it'):
    open_index(str(tmp_path / 'nowhere'), 'train', prepare='make it')
  for prepare in ('python -m data_prep.write --folder=DIR --out=data/custom', ''):
    words = f'to prepare it: python -m data_prep.write --folder=DIR --out={tmp_path}/d_cool'
    with pytest.raises(FileNotFoundError, match=words):
      open_index(str(tmp_path / 'd_cool'), 'train', prepare=prepare)
  (toy / 'train.index.npz').rename(toy / 'elsewhere')
  with pytest.raises(
    FileNotFoundError,
    match='no train.index.npz; to build it: python -m vjax.data.index --folder=',
  ):
    open_index(str(toy), 'train')
  (toy / 'manifest.json').unlink()
  with pytest.raises(FileNotFoundError, match='no manifest.json, so it is not complete'):
    open_index(str(toy), 'train')


def test_index_older_than_its_shard(toy):
  with open(toy / 'train-00001-of-00002.tfrecord', 'ab') as f:
    f.write(bytes(8))
  with pytest.raises(
    ValueError, match='train-00001-of-00002.tfrecord: index older than its shard.*vjax.data.index'
  ):
    open_index(str(toy), 'train')


def test_shard_cut_short(toy):
  shard = toy / 'train-00001-of-00002.tfrecord'
  whole = shard.read_bytes()
  for keep, message in (
    (len(whole) - 9, 'beyond the end of the file'),
    (5, 'inside a record header at byte 0'),
  ):
    shard.write_bytes(whole[:keep])
    with pytest.raises(ValueError, match=f'train-00001-of-00002.tfrecord.*{message}'):
      write_index(str(toy), 'train')
  shard.write_bytes(b'\0' + whole[1:])
  with pytest.raises(ValueError, match='wrong length checksum at byte 0'):
    write_index(str(toy), 'train')


def test_damaged_payload(toy):
  index = open_index(str(toy), 'train')
  path = pathlib.Path(index.files[0])
  data = bytearray(path.read_bytes())
  data[index.offset[1] + 100] ^= 1
  path.write_bytes(data)
  read_record(index, 0)
  with pytest.raises(
    ValueError, match=f'00000-of-00002.tfrecord: record 1 at byte {index.offset[1]}: wrong checksum'
  ):
    read_record(index, 1)


def test_not_an_example(tmp_path):
  payload = b'\xff\xff\xff'
  length = struct.pack('<Q', len(payload))
  crc, checksum = (struct.pack('<I', tfrecord.masked_crc(b)) for b in (length, payload))
  (tmp_path / 'train-00000-of-00001.tfrecord').write_bytes(length + crc + payload + checksum)
  with pytest.raises(ValueError, match='the record at byte 12 cannot be read'):
    write_index(str(tmp_path), 'train')
