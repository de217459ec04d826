"""Videos that two splits share: by the names that records give them, and by their frames.

Frames are compared by the checksums that an index holds, so that no record is read. A copy that was
decoded and encoded again is found by its name only.
"""

from __future__ import annotations

import numpy as np

from vjax.data.index import Index
from vjax.data.split import Split


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
  the index has none; None for an index without frames."""
  if index.table is None or index.first is None or index.head is None:
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
