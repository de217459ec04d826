"""Encoding and decoding of protocol buffers against TensorFlow's own."""

import pytest

from vjax.data import sequence_example

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

  ours = sequence_example.encode(CONTEXT, FRAMES)
  assert ours == proto().SerializeToString(deterministic=True)
  assert tf.train.SequenceExample.FromString(ours) == proto()


def test_order_of_keys_does_not_matter():
  assert sequence_example.encode(
    dict(reversed(CONTEXT.items())), FRAMES
  ) == sequence_example.encode(CONTEXT, FRAMES)


@pytest.mark.parametrize('values', [[1, 'a'], [1, 2.0], [True], [None]])
def test_mixed_values_are_refused(values):
  with pytest.raises(ValueError, match="'key' holds"):
    sequence_example.encode({'key': values}, {})


def test_values_of_every_kind():
  import tensorflow as tf

  example = tf.train.Example()
  example.features.feature['image'].bytes_list.value.append(b'abc')
  example.features.feature['numbers'].int64_list.value.extend([-1, 0, 2**40])
  example.features.feature['floats'].float_list.value.extend([0.5, -2.0])
  example.features.feature['nothing'].int64_list.value.extend([])
  context, spans = sequence_example.decode(example.SerializeToString())
  assert (
    context == {'image': [b'abc'], 'numbers': [-1, 0, 2**40], 'floats': [0.5, -2.0], 'nothing': []}
    and spans == []
  )
  with pytest.raises(ValueError, match='wire type|ends'):
    sequence_example.decode(b'\xff\xff\xff\xff not a message')
