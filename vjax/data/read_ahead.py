"""Reads records of object stores ahead of their use: while one clip is decoded, the bytes of the
next ones are under way. Needs neither JAX nor TensorFlow.

    for record in read_ahead.records(split, [(row, choose), ...]):
      jpegs = record.frames(...)                # in memory

Records of local folders are read when they are asked for: the operating system reads ahead there.
"""

from __future__ import annotations

import collections
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from vjax import files
from vjax.data.split import Record, Split

# Requests under way in a process. The time between request and answer, 20 to 100 ms, is that of a
# few clips' decoding.
READERS = 8
MAX_BYTES = 128 << 20  # of records read and not used yet, in a process
Choose = Callable[[Record], Sequence[int]]


class Reading(Protocol):
  """A record that is being read."""

  def result(self) -> Record:
    """Waits for the record and returns it. Raises what `Split.read` does."""
    ...

  def cancel(self) -> object:
    """Gives up a reading that has not begun."""
    ...


def start(split: Split, row: int, choose: Choose | None = None) -> Reading:
  """Starts to read a record of an object store, in a thread; a local one is read by `result`.

  Args:
    split: records.
    row: number of the record.
    choose: returns the frames that will be asked for, given the record; these are read too. None =
      only what `Split.read` reads.
  """
  if not files.is_remote(split.index.folder):
    return _Later(lambda: split.read(row))
  return _pool(os.getpid()).submit(_read, split, row, choose)


def records(
  split: Split,
  wanted: Iterable[tuple[int, Choose | None]],
  *,
  max_bytes: int = MAX_BYTES,
) -> Iterator[Record]:
  """Yields these records in order, those after each being read meanwhile.

  An error of reading is raised in its record's place. Leaving the loop gives up the rest.

  Args:
    split: records.
    wanted: number of each record, and `choose` of `start`. It is asked for a few records ahead.
    max_bytes: no more of the records is read ahead, but one record at least.
  """
  waiting: collections.deque[tuple[int, Reading]] = collections.deque()
  held = 0
  try:
    for row, choose in wanted:
      size = int(split.index.length[row])
      while waiting and (held + size > max_bytes or len(waiting) > READERS):
        taken, reading = waiting.popleft()
        held -= taken
        yield reading.result()
      waiting.append((size, start(split, row, choose)))
      held += size
    while waiting:
      yield waiting.popleft()[1].result()
  finally:
    for _, reading in waiting:
      reading.cancel()


class _Later:
  """A record that is read when it is asked for."""

  def __init__(self, read: Callable[[], Record]):
    self.result = read

  def cancel(self) -> None:
    """Does nothing: nothing has begun."""


def _read(split: Split, row: int, choose: Choose | None) -> Record:
  record = split.read(row)
  return record.holding(choose(record)) if choose else record


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
  """Returns the threads of a process."""
  return ThreadPoolExecutor(READERS, thread_name_prefix='read-ahead')
