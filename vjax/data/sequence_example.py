"""SequenceExamples with DMVR's keys: encoding, decoding, labels; without TensorFlow.

Messages (tensorflow/core/example/{example,feature}.proto), with the field numbers used below:
  SequenceExample {Features context = 1; FeatureLists feature_lists = 2}
  Example {Features features = 1}
  Features {map<string, Feature> feature = 1}
  FeatureLists {map<string, FeatureList> feature_list = 1}
  FeatureList {repeated Feature feature = 1}
  Feature {oneof: BytesList 1, FloatList 2, Int64List 3}
  BytesList, FloatList, Int64List {repeated value = 1}, numbers packed.
"""

# Why not the protobuf package with a descriptor of our own: for a record of 300 frames of 20 kB it
# takes 0.6 ms where `decode` takes 0.24 ms, because it copies every frame. It gives no byte
# positions, which the frame table needs. And it skips fields of a wrong number or type as unknown,
# so that a damaged message becomes a video with fewer frames, where `decode` raises.

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Values = Sequence[bytes] | Sequence[str] | Sequence[int] | Sequence[float]
Span = tuple[int, int]  # first byte, and the byte after the last

# DMVR's keys (MediaPipe's): the feature list of encoded frames, and features of the context.
FRAMES = 'image/encoded'
HEIGHT = 'image/height'
WIDTH = 'image/width'
FRAME_RATE = 'image/frame_rate'
DEFAULT_RATE = 30.0  # frames per second that are assumed of a record without FRAME_RATE
FILENAME = 'video/filename'
MEDIA_ID = 'clip/media_id'
START_US = 'clip/start/timestamp'  # microseconds
END_US = 'clip/end/timestamp'
# Keys of TFDS's Examples of one image.
IMAGE = 'image'
IMAGE_LABEL = 'label'

_MOST_CLASSES = 1_000_000  # a larger label is damage: it would need a list of that many names
_FRAMES = FRAMES.encode()
_SHIFTS = tuple(range(0, 70, 7))  # a number has at most ten bytes of seven bits
_UINT64 = (1 << 64) - 1


def label_key(label_space: str, what: str) -> str:
  """Returns the key of a record's labels. label_space: '' = the main one. what: 'index' or
  'text'."""
  return f'clip/label/{label_space}/{what}' if label_space else f'clip/label/{what}'


def labels_by_space(context: Mapping[str, list]) -> dict[str, list[int]]:
  """Returns the label indices of a record by label space; '' is the main one (also TFDS's `label`).

  Raises ValueError for values that are no label indices.
  """
  spaces = {}
  for key, values in context.items():
    if key in (IMAGE_LABEL, label_key('', 'index')):
      spaces[''] = values
    elif key.startswith('clip/label/') and key.endswith('/index'):
      spaces[key[len('clip/label/') : -len('/index')]] = values
    else:
      continue
    wrong = [v for v in values if not isinstance(v, int) or not -1 <= v < _MOST_CLASSES]
    if wrong:
      raise ValueError(
        f'{key} holds {wrong[0]!r:.40}; labels are whole numbers below {_MOST_CLASSES}, -1 for none'
      )
  return spaces


def number(context: Mapping[str, list], key: str) -> float:
  """Returns the first value of a record's feature, 0 if the feature has none. Raises ValueError for
  a value that is no finite number."""
  value = (context.get(key) or [0])[0]
  if isinstance(value, bytes) or not -math.inf < value < math.inf:
    raise ValueError(f'{key} is {value!r:.40}; it must be a finite number')
  return value


def encode(context: Mapping[str, Values], feature_lists: Mapping[str, Iterable[Values]]) -> bytes:
  """Returns a serialized SequenceExample.

  Keys are written in sorted order, so that equal content gives equal bytes.

  Args:
    context: key -> values, all bytes or str, all int, or all float.
    feature_lists: key -> one such sequence a step.

  Raises:
    ValueError: naming the key whose values are of mixed or other types.
  """
  entries = [_entry(key, _feature(key, values)) for key, values in sorted(context.items())]
  lists = [
    _entry(key, b''.join(_field(1, _feature(key, values)) for values in steps))
    for key, steps in sorted(feature_lists.items())
  ]
  return _field(1, b''.join(entries)) + _field(2, b''.join(lists))


def _field(number: int, data: bytes) -> bytes:
  return bytes((number << 3 | 2,)) + _encode_varint(len(data)) + data  # wire type 2: with a length


def _entry(key: str, message: bytes) -> bytes:
  return _field(1, _field(1, key.encode()) + _field(2, message))


def _encode_varint(value: int) -> bytes:
  value &= _UINT64  # negative int64 are written as two's complement
  out = bytearray()
  while value > 0x7F:
    out.append(value & 0x7F | 0x80)
    value >>= 7
  out.append(value)
  return bytes(out)


def _feature(key: str, values: Values) -> bytes:
  kinds = {
    bool if isinstance(v, bool) else str if isinstance(v, bytes) else type(v) for v in values
  }
  if kinds == {str}:
    return _field(1, b''.join(_field(1, v if isinstance(v, bytes) else v.encode()) for v in values))
  if kinds == {float}:
    return _field(2, _field(1, struct.pack(f'<{len(values)}f', *values)))
  if kinds == {int}:
    return _field(3, _field(1, b''.join(map(_encode_varint, values))))
  if not kinds:
    return b''  # a feature without a value, as TensorFlow writes Feature()
  names = ', '.join(sorted(kind.__name__ for kind in kinds))
  raise ValueError(
    f'feature {key!r} holds {names}: give only bytes or str, only int, or only float'
  )


def decode(record: bytes | memoryview) -> tuple[dict[str, list], list[Span]]:
  """Returns the context features of a record, and the positions of its frames.

  Frames are not copied: `frame` returns one. An Example has no feature list: its features are the
  context, and there are no spans.

  Returns:
    Values (bytes, float or int) by feature name, and the byte span of every frame's Feature.

  Raises:
    ValueError: if the bytes are not such a message.
  """
  context, spans = {}, []
  try:
    for number, start, end in _fields(record, 0, len(record)):
      if number == 1:
        context.update(_features(record, start, end))
      elif number == 2:
        spans += _frame_spans(record, start, end)
  except (IndexError, struct.error) as e:
    raise ValueError(f'a protocol buffer that ends too early ({e})') from e
  except UnicodeDecodeError as e:
    raise ValueError(f'a feature whose name {e.object!r} is not UTF-8') from e
  return context, spans


def decode_at(
  record: bytes, file: Any, offset: int
) -> tuple[dict[str, list], list[Span], dict[str, list[int]]]:
  """Returns context, spans of the frames, and labels by label space. A ValueError names the file
  and the byte of the record."""
  try:
    context, spans = decode(record)
    return context, spans, labels_by_space(context)
  except ValueError as e:
    raise ValueError(f'{file}: the record at byte {offset} cannot be read: {e}') from e


def decode_context(head: bytes) -> dict[str, list]:
  """Returns the context features of a record from its first bytes, `head`.

  Only features before any other field are returned. Raises ValueError as `decode` does.
  """
  found, i = {}, 0
  try:
    while i < len(head):
      tag, i = _varint(head, i)
      size, i = _varint(head, i)
      if tag != 10:  # field 1, a message
        break
      found.update(_features(head, i, i + size))
      i += size
  except (IndexError, struct.error) as e:
    raise ValueError(f'a protocol buffer that ends too early ({e})') from e
  except UnicodeDecodeError as e:
    raise ValueError(f'a feature whose name {e.object!r} is not UTF-8') from e
  return found


def frame(record, span: Span) -> bytes:
  """Returns the bytes of the frame whose Feature lies at `span`. Raises ValueError if the Feature
  holds anything else."""
  start, end = frame_span(record, span)
  return bytes(record[start:end])


def frame_span(record, span: Span) -> Span:
  """Returns the byte span of the encoded frame itself, whose Feature lies at `span`. Raises
  ValueError if the Feature holds anything else."""
  try:
    values = [
      (kind, c, d) for kind, a, b in _fields(record, *span) for _, c, d in _fields(record, a, b)
    ]
  except IndexError as e:
    raise ValueError(f'the frame at bytes {span} ends too early ({e})') from e
  if len(values) != 1 or values[0][0] != 1:
    raise ValueError(f'the frame at bytes {span} is not one byte string')
  return values[0][1:]


def _varint(buffer, i: int) -> tuple[int, int]:
  value = 0
  for shift in _SHIFTS:
    byte = buffer[i]
    i += 1
    value |= (byte & 127) << shift
    if byte < 128:
      return value & _UINT64, i
  raise ValueError(f'a number of more than 10 bytes before byte {i} of the record')


def _fields(buffer, i: int, end: int) -> Iterator[tuple[int, int, int]]:
  """Yields (field number, start, end) of every field's value between bytes i and end."""
  while i < end:
    tag, i = _varint(buffer, i)
    kind = tag & 7
    if kind == 2:
      size, i = _varint(buffer, i)
      stop = i + size
    elif kind == 0:
      stop = _varint(buffer, i)[1]
    elif kind in (1, 5):
      stop = i + (8 if kind == 1 else 4)
    else:
      raise ValueError(
        f'wire type {kind} at byte {i} of the record: not a tf.train.Example or SequenceExample'
      )
    if stop > end:
      raise ValueError(
        f'a field at byte {i} of the record ends at {stop}, beyond its message ({end})'
      )
    yield tag >> 3, i, stop
    i = stop


def _map_entry(buffer, start: int, end: int) -> tuple[bytes, int, int]:
  """Returns the key, and the span of the value, of one entry of a map<string, message>."""
  key, value = b'', (end, end)
  for number, a, b in _fields(buffer, start, end):
    if number == 1:
      key = bytes(buffer[a:b])
    elif number == 2:
      value = (a, b)
  return key, *value


def _features(buffer, start: int, end: int) -> dict[str, list]:
  entries = [
    _map_entry(buffer, a, b) for number, a, b in _fields(buffer, start, end) if number == 1
  ]
  return {key.decode(): _values(buffer, a, b) for key, a, b in entries}


def _values(buffer, start: int, end: int) -> list[Any]:
  """Returns the values of one Feature."""
  values = []
  for kind, a, b in _fields(buffer, start, end):
    for _, c, d in _fields(buffer, a, b):
      if kind == 1:
        values.append(bytes(buffer[c:d]))
      elif kind == 2:
        values += struct.unpack(f'<{(d - c) // 4}f', buffer[c:d])
      elif kind == 3:
        while c < d:
          value, c = _varint(buffer, c)
          values.append(value - (1 << 64) if value >> 63 else value)
        if c != d:
          raise ValueError(
            f'a whole number at byte {c} of the record lies across the end of its list ({d})'
          )
  return values


def _frame_spans(buffer, start: int, end: int) -> list[Span]:
  for number, a, b in _fields(buffer, start, end):
    if number == 1:
      key, i, stop = _map_entry(buffer, a, b)
      if key == _FRAMES:
        return _hop(buffer, i, stop)
  return []


def _hop(buffer, i: int, end: int) -> list[Span]:
  """Returns the spans of a repeated message field 1. This is `_fields` without function calls: the
  loop runs once a frame of the video."""
  spans = []
  while i < end:
    if buffer[i] != 10:
      raise ValueError(f'byte {i} of the record is {buffer[i]}, not the start of a frame')
    i, size = i + 1, 0
    for shift in _SHIFTS:
      byte = buffer[i]
      i += 1
      size |= (byte & 127) << shift
      if byte < 128:
        break
    else:
      raise ValueError(f'a frame length of more than 10 bytes before byte {i} of the record')
    spans.append((i, i + size))
    i += size
  if i != end:
    raise ValueError(f'the frame list ends at byte {i} of the record, not at {end}')
  return spans
