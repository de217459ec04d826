"""The few protocol-buffer fields of tf.train.(Sequence)Example that a clip needs, without
TensorFlow or copies.

A record has up to 300 JPEG frames of which a clip uses a few: hopping over the others costs
microseconds, parsing them all costs a copy of the whole record. Messages (field number in
brackets):
  SequenceExample: context[1] Features, feature_lists[2] {feature_list[1] map name -> FeatureList
  {feature[1] Feature}}
  Example: features[1] Features {feature[1] map name -> Feature {bytes_list[1] | float_list[2] |
  int64_list[3] {value[1]}}}
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

FRAMES = b'image/encoded'  # DMVR's feature list of JPEG frames; TFDS images may call theirs 'image'
_SHIFTS = tuple(range(0, 70, 7))  # a number has at most ten bytes of seven bits
_UINT64 = (1 << 64) - 1


def parse(record: bytes | memoryview) -> tuple[dict[str, list], list[tuple[int, int]]]:
  """Context features name -> values (bytes, float or int), and the byte span of every frame's
  Feature in the record.

  An Example has no feature list: its features are the context and there are no spans. Raises
  ValueError if the bytes are not such a message.
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


def context(head: bytes) -> dict[str, list]:
  """Context features of a record of which `head` is the beginning: those that stand before anything
  else. Raises ValueError as parse."""
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


def frame(record, span: tuple[int, int]) -> bytes:
  """The bytes of the frame whose Feature lies at `span`. Raises ValueError if it holds anything
  else."""
  start, end = frame_span(record, span)
  return bytes(record[start:end])


def frame_span(record, span: tuple[int, int]) -> tuple[int, int]:
  """(start, end) of the bytes of the frame whose Feature lies at `span`. Raises ValueError if it
  holds anything else."""
  try:
    values = [
      (kind, c, d) for kind, a, b in _fields(record, *span) for _, c, d in _fields(record, a, b)
    ]
  except IndexError as e:
    raise ValueError(f'the frame at bytes {span} ends too early ({e})') from e
  if len(values) != 1 or values[0][0] != 1:
    raise ValueError(f'the frame at bytes {span} is not one byte string')
  return values[0][1:]


def image_size(image: bytes) -> tuple[int, int]:
  """(height, width) that the header of a JPEG or PNG states. Raises ValueError for other bytes."""
  if image[:8] == b'\x89PNG\r\n\x1a\n' and len(image) >= 24:
    width, height = struct.unpack('>II', image[16:24])
    return height, width
  i = 2
  while image[:2] == b'\xff\xd8' and i + 9 <= len(image) and image[i] == 0xFF:
    marker = image[i + 1]
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      return struct.unpack('>HH', image[i + 5 : i + 9])
    i += 1 if marker == 0xFF else 2 + struct.unpack('>H', image[i + 2 : i + 4])[0]
  raise ValueError(f'{len(image)} bytes that are neither a JPEG nor a PNG')


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
  """(field number, start, end) of every field's value between bytes i and end."""
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
  """Key, and span of the value, of one entry of a map<string, message>."""
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
  """Values of one Feature."""
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


def _frame_spans(buffer, start: int, end: int) -> list[tuple[int, int]]:
  for number, a, b in _fields(buffer, start, end):
    if number == 1:
      key, i, stop = _map_entry(buffer, a, b)
      if key == FRAMES:
        return _hop(buffer, i, stop)
  return []


def _hop(buffer, i: int, end: int) -> list[tuple[int, int]]:
  """Spans of a repeated message field 1: `_fields` without its calls, for this loop runs once a
  frame of the video."""
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
