"""Framing and ranges of TFRecord files."""

import os

import numpy as np

from vjax.data import tfrecord


def test_checksum_is_crc32c():
  assert tfrecord.crc32c(b'123456789') == 0xE3069283


def test_tensorflow_reads_the_records(tmp_path):
  import tensorflow as tf

  payloads = [b'', b'x', np.random.default_rng(0).bytes(100_000)]
  path = tmp_path / 'a.tfrecord'
  path.write_bytes(b''.join(map(tfrecord.encode, payloads)))
  assert [
    r.numpy() for r in tf.data.TFRecordDataset(str(path))
  ] == payloads  # checks both checksums


def test_few_files_stay_open(tmp_path):
  files = tfrecord.OpenFiles(limit=1)
  for name in 'ab':
    (tmp_path / name).write_bytes(name.encode() * 9)
  read = [files.read(str(tmp_path / name), 2, [3, 1]) for name in 'abab']
  assert read == [[b'aaa', b'a'], [b'bbb', b'b']] * 2 and len(files) == 1


def test_a_file_that_was_replaced_is_opened_anew(tmp_path):
  path = tmp_path / 'a'
  path.write_bytes(b'old')
  assert tfrecord.read_ranges(str(path), 0, [3]) == [b'old']
  (tmp_path / 'b').write_bytes(b'new')
  (tmp_path / 'b').rename(path)
  tfrecord.forget([str(path)])
  assert tfrecord.read_ranges(str(path), 0, [3]) == [b'new']


def test_spans_near_each_other_are_one_read(tmp_path, monkeypatch):
  """In any order, overlapping or twice; beyond the end they are shorter."""
  data = bytes(range(256)) * 64
  path = tmp_path / 'file'
  path.write_bytes(data)
  read, original = [], os.pread
  monkeypatch.setattr(os, 'pread', lambda f, n, at: read.append((at, n)) or original(f, n, at))
  spans = [(9000, 9010), (5, 20), (10, 300), (5, 20), (4000, 4001), (16380, 16400)]
  assert tfrecord.read_spans(str(path), spans) == [data[a:b] for a, b in spans]
  assert read == [(5, 3996), (9000, 10), (16380, 20)]
  assert tfrecord.read_spans(str(path), []) == []
