"""Hand-written protocol buffers and TFRecords against TensorFlow's own."""

import numpy as np
import pytest

from data_prep.sequence_example import sequence_example, tfrecord

CONTEXT = {
  'clip/label/index': [0, 7, 300, -1, 2**62],
  'clip/label/text': ['left', 'ünï'.encode(), b''],
  'image/frame_rate': [29.97],
  'video/filename': ['a' * 300],
  'nothing': [],
}
FRAMES = {'image/encoded': [[b'\xff\xd8' + bytes(200)], [b'']], 'audio': [[0.5, -1.0], []]}


def proto():
  import tensorflow as tf

  def feature(values):
    if not values:
      return tf.train.Feature()
    if isinstance(values[0], float):
      return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    if isinstance(values[0], int):
      return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    texts = [v if isinstance(v, bytes) else v.encode() for v in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))

  context = tf.train.Features(feature={k: feature(v) for k, v in CONTEXT.items()})
  lists = {
    k: tf.train.FeatureList(feature=[feature(v) for v in steps]) for k, steps in FRAMES.items()
  }
  return tf.train.SequenceExample(
    context=context, feature_lists=tf.train.FeatureLists(feature_list=lists)
  )


def test_equals_tensorflow():
  import tensorflow as tf

  ours = sequence_example(CONTEXT, FRAMES)
  assert ours == proto().SerializeToString(deterministic=True)
  assert tf.train.SequenceExample.FromString(ours) == proto()


def test_order_of_keys_does_not_matter():
  assert sequence_example(dict(reversed(CONTEXT.items())), FRAMES) == sequence_example(
    CONTEXT, FRAMES
  )


def test_tensorflow_reads_the_records(tmp_path):
  import tensorflow as tf

  payloads = [b'', b'x', np.random.default_rng(0).bytes(100_000)]
  path = tmp_path / 'a.tfrecord'
  path.write_bytes(b''.join(map(tfrecord, payloads)))
  assert [
    r.numpy() for r in tf.data.TFRecordDataset(str(path))
  ] == payloads  # checks both checksums


@pytest.mark.parametrize('values', [[1, 'a'], [1, 2.0], [True], [None]])
def test_mixed_values_are_refused(values):
  with pytest.raises(ValueError, match="'key' holds"):
    sequence_example({'key': values}, {})
