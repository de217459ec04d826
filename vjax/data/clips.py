"""A record as a clip: its context, and those of its frames that are asked for, checked.

A clip of 16 frames needs a twentieth of a record of 300. The index says where each frame lies and
what its checksum is (records.TABLE), so the rest is neither read nor checked; records without such
a table, and those on object stores, are read whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vjax.data import recordio, records, wire


@dataclass(frozen=True)
class Clip:
  """context: features by name; count: frames there are; frame(t): the encoded frame t."""

  context: dict[str, list]
  count: int
  frame: Callable[[int], bytes]


def read(index: records.Index, i: int, feature: str = '') -> Clip:
  """Record i. feature: the context's list that holds the frames (of Examples); '' = the frames of a
  SequenceExample. Raises ValueError, also from Clip.frame, naming file, record and byte of what is
  damaged."""
  if index.head is not None and index.head[i] and not feature:
    return _partly(index, i)
  payload = records.read(index, i)
  context, spans = wire.parse(payload)
  if feature:
    values = context.get(feature, [])
    return Clip(context, len(values), lambda t: values[t])
  return Clip(context, len(spans), lambda t: wire.frame(payload, spans[t]))


def _partly(index: records.Index, i: int) -> Clip:
  path, offset, head = index.files[index.shard[i]], int(index.offset[i]), int(index.head[i])
  header, begin = recordio.read_ranges(
    path, offset - recordio.HEADER.size, (recordio.HEADER.size, head)
  )
  (crc,) = recordio.read_ranges(path, offset + int(index.length[i]), (4,))
  records.check_frame(index, i, header, crc)
  if recordio.masked_crc(begin) != index.head_crc[i]:
    raise ValueError(
      f'{index.where(i)}: wrong checksum of its first {head} bytes, {_damaged(index)}'
    )
  table = index.table[index.first[i] : index.first[i] + index.frames[i]]

  def frame(t: int) -> bytes:
    start, length, crc = table[t].tolist()
    (encoded,) = recordio.read_ranges(path, offset + start, (length,))
    if recordio.masked_crc(encoded) != crc:
      raise ValueError(
        f'{index.where(i)}: wrong checksum of frame {t} at byte {offset + start}, {_damaged(index)}'
      )
    return encoded

  return Clip(wire.context(begin), len(table), frame)


def _damaged(index: records.Index) -> str:
  return f'the record or its index is damaged; write the shard again, or run: {index.rebuild}'
