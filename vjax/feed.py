"""Batches on their way to the devices: taken and sent ahead of use, so that nothing waits."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

_PATIENCE_S = 0.2  # between looks at whether the feed was closed
_LAST_S = 10.0  # that a batch in the making may take once the feed is closed


class Feed:
  """Iterator of batches that a thread takes and sends to the devices, two ahead of their use.

  An error of reading is raised where its batch is asked for.

  Args:
    batches: of the host.
    send: function of a host's batch that begins its way to the devices, and returns what is
      yielded.
    count: batches that are taken in all.
    ahead: batches that wait, at most.
  """

  def __init__(
    self, batches: Iterator[Any], send: Callable[[Any], Any], count: int, ahead: int = 2
  ):
    self._queue: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(ahead)
    self._closed = threading.Event()
    self._thread = threading.Thread(target=self._run, args=(batches, send, count), daemon=True)
    self._thread.start()

  def __iter__(self) -> Feed:
    return self

  def __next__(self) -> Any:
    value, error = self._queue.get()
    if error is not None:
      self.close()
      raise error
    return value

  def close(self) -> None:
    """Ends the thread and forgets the batches that wait."""
    self._closed.set()
    while not self._queue.empty():
      self._queue.get_nowait()
    self._queue.put((None, StopIteration()))  # whoever still asks
    self._thread.join(_LAST_S)

  def _run(self, batches: Iterator[Any], send: Callable[[Any], Any], count: int) -> None:
    value, error = None, None
    for _ in range(count):
      try:
        value = send(next(batches))
      except BaseException as e:  # of any kind: it stops the run
        error = e
      self._put(value, error)
      if self._closed.is_set() or error is not None:
        break
    else:
      self._put(None, StopIteration())
    getattr(batches, 'close', lambda: None)()  # of generators

  def _put(self, value: Any, error: BaseException | None) -> None:
    while not self._closed.is_set():
      try:
        return self._queue.put((value, error), timeout=_PATIENCE_S)
      except queue.Full:
        pass
