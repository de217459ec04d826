"""Videos that two splits share: by the names that records give them, and by their frames.

Frames are compared by the checksums that an index holds, so that no record is read. A copy that was
decoded and encoded again is found by its name only.

A checkpoint carries a sketch of the videos that it was trained on: the smallest of the numbers made
of them. That is all numbers of a small set, and a sample of a large one (Broder 1997, On the
resemblance and containment of documents).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import numpy as np

from vjax.data.index import Index
from vjax.data.split import Split

_MOST = 1024  # numbers of a sketch, 11 kB


def shared_rows(train: Split, test: Split) -> np.ndarray:
  """Returns the records of `test`, among those in use, whose video is in use in `train` too."""
  found = np.zeros(test.num_clips, bool)
  ours, theirs = train.index, test.index
  if ours.video is not None and theirs.video is not None:
    names = theirs.video[test.rows]
    found |= (names != 0) & np.isin(names, ours.video[train.rows])
  for keys in (_frame_keys, _record_keys):
    here, there = keys(ours, train.rows), keys(theirs, test.rows)
    if here is not None and there is not None:
      known = {*here} - {b''}
      found |= np.array([key in known for key in there], bool)
      break
  return test.rows[found]


def _frame_keys(index: Index, rows: np.ndarray) -> list[bytes] | None:
  """Returns number, lengths and checksums of the first, middle and last frame of records, b'' where
  the index has none; None for an index without frames, or with those on an object store."""
  if not isinstance(index.table, np.ndarray) or index.first is None or index.head is None:
    return None
  first, frames = index.first[rows], index.frames[rows].astype(np.int64)
  parts = [frames.astype(np.uint32)]
  for at in (first, first + frames // 2, first + frames - 1):
    table = index.table[at]
    parts += [table['length'], table['crc']]
  lines = np.ascontiguousarray(np.stack(parts, 1))
  return [line.tobytes() if head else b'' for line, head in zip(lines, index.head[rows])]


def _record_keys(index: Index, rows: np.ndarray) -> list[bytes] | None:
  """Returns length and checksum of whole records; None for an index without checksums."""
  if index.crc is None:
    return None
  parts = [index.length[rows].astype(np.int64), index.crc[rows].astype(np.int64)]
  return [line.tobytes() for line in np.ascontiguousarray(np.stack(parts, 1))]


def sketch(split: Split) -> dict[str, Any]:
  """Returns the sketch of the videos of a split, for meta.json: their number, and under 'names',
  'frames' and 'records' the smallest numbers of each kind that the index allows, in base64."""
  kinds = {name: np.unique(numbers)[:_MOST] for name, numbers in _numbers(split).items()}
  described = {
    name: base64.b64encode(numbers.astype('<u8').tobytes()).decode()
    for name, numbers in kinds.items()
  }
  return {'folder': split.index.folder, 'videos': split.num_clips, **described}


def sketched_rows(found: dict[str, Any], test: Split) -> tuple[np.ndarray, int]:
  """Returns the records of `test` that are in a sketch, and of how many the sketch can tell: of
  all where it holds a small set, of a sample otherwise."""
  shared, told = np.zeros(test.num_clips, bool), np.zeros(test.num_clips, bool)
  for name, numbers in _numbers(test).items():
    known = np.frombuffer(base64.b64decode(found.get(name, '')), '<u8')
    if len(known):
      shared |= (numbers != 0) & np.isin(numbers, known)
      told |= numbers <= (known.max() if len(known) == _MOST else np.iinfo(np.uint64).max)
  return test.rows[shared], int(told.sum())


def _numbers(split: Split) -> dict[str, np.ndarray]:
  """Returns 64 bits of a hash of every record in use, 0 = none, by what they are made of."""
  index, found = split.index, {}
  if index.video is not None:
    found['names'] = index.video[split.rows]
  for name, keys in (('frames', _frame_keys), ('records', _record_keys)):
    of_split = keys(index, split.rows)
    if of_split is not None:
      hashes = [hashlib.sha256(key).digest()[:8] if key else bytes(8) for key in of_split]
      found[name] = np.frombuffer(b''.join(hashes), '<u8')
  return found
