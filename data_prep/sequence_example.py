"""tf.train.SequenceExample and TFRecord bytes, written by hand: importing TensorFlow costs a worker
6 s and 600 MB.

Messages (tensorflow/core/example/{example,feature}.proto), with the field numbers used below:
  SequenceExample {Features context = 1; FeatureLists feature_lists = 2}
  Features {map<string, Feature> feature = 1}
  FeatureLists {map<string, FeatureList> feature_list = 1}
  FeatureList {repeated Feature feature = 1}
  Feature {oneof: BytesList 1, FloatList 2, Int64List 3}
  BytesList, FloatList, Int64List {repeated value = 1}, numbers packed.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence

import google_crc32c

Values = Sequence[bytes] | Sequence[str] | Sequence[int] | Sequence[float]


def sequence_example(
  context: Mapping[str, Values], feature_lists: Mapping[str, Iterable[Values]]
) -> bytes:
  """Serialized SequenceExample with keys in sorted order, so that equal content gives equal bytes.

  context: key -> values, all bytes or str, all int, or all float. feature_lists: key -> one such
  sequence a step. Raises ValueError naming the key whose values are of mixed or other types.
  """
  entries = [_entry(key, _feature(key, values)) for key, values in sorted(context.items())]
  lists = [
    _entry(key, b''.join(_field(1, _feature(key, values)) for values in steps))
    for key, steps in sorted(feature_lists.items())
  ]
  return _field(1, b''.join(entries)) + _field(2, b''.join(lists))


def tfrecord(payload: bytes) -> bytes:
  """The payload in TFRecord framing: uint64 length, masked CRC of the length, payload, masked CRC
  of the payload."""
  length = struct.pack('<Q', len(payload))
  return b''.join((length, _masked_crc(length), payload, _masked_crc(payload)))


def _masked_crc(data: bytes) -> bytes:
  crc = google_crc32c.value(data)
  return struct.pack('<I', (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
  value &= 0xFFFFFFFFFFFFFFFF  # negative int64 travel as two's complement
  out = bytearray()
  while value > 0x7F:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  out.append(value)
  return bytes(out)


def _field(number: int, data: bytes) -> bytes:
  return bytes((number << 3 | 2,)) + _varint(len(data)) + data  # wire type 2: length-delimited


def _entry(key: str, message: bytes) -> bytes:
  return _field(1, _field(1, key.encode()) + _field(2, message))


def _feature(key: str, values: Values) -> bytes:
  kinds = {
    bool if isinstance(v, bool) else str if isinstance(v, bytes) else type(v) for v in values
  }
  if kinds == {str}:
    return _field(1, b''.join(_field(1, v if isinstance(v, bytes) else v.encode()) for v in values))
  if kinds == {float}:
    return _field(2, _field(1, struct.pack(f'<{len(values)}f', *values)))
  if kinds == {int}:
    return _field(3, _field(1, b''.join(map(_varint, values))))
  if not kinds:
    return b''  # a feature without a value, as TensorFlow writes Feature()
  names = ', '.join(sorted(kind.__name__ for kind in kinds))
  raise ValueError(
    f'feature {key!r} holds {names}: give only bytes or str, only int, or only float'
  )
