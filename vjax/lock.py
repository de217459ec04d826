"""Lock of a workdir: two runs that write into one would mix their numbers and lose checkpoints."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from vjax import files
from vjax.metrics import writing

NAME = '.lock.json'
BEAT_S = 10.0  # between the signs of life of a lock's owner
PATIENCE_S = 45.0  # without one, after which the owner on another host counts as gone


class WorkdirLock:
  """Holds a workdir until `close`, or the end of the process.

  The file has host, process and start time of its owner, and a number that changes every BEAT_S. A
  lock of this host is stale if there is no such process any more. One of another host is stale if
  the number does not change for PATIENCE_S: clocks of hosts need not agree. A stale lock is taken
  over, with a line that says so.

  Args:
    workdir: local or on an object store.
    patience_s: see PATIENCE_S.

  Raises:
    ValueError: where another run holds the workdir.
  """

  def __init__(self, workdir: str, *, patience_s: float = PATIENCE_S):
    self._file = files.path(workdir) / NAME
    self._mine = {
      'host': socket.gethostname(), 'process': os.getpid(), 'started': _started(os.getpid()),
      'token': uuid.uuid4().hex,
    }  # fmt: skip
    self._beats, self._ended = 0, threading.Event()
    self._take(workdir, patience_s)
    self._thread = threading.Thread(target=self._beat, daemon=True)
    self._thread.start()

  def __enter__(self) -> WorkdirLock:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def close(self) -> None:
    """Gives the workdir free."""
    self._ended.set()
    self._thread.join()
    if (self._read() or {}).get('token') == self._mine['token']:
      self._file.unlink(missing_ok=True)

  def _take(self, workdir: str, patience_s: float) -> None:
    there = self._read()
    if there is not None:
      who = f'process {there.get("process")} on {there.get("host")}'
      if self._alive(there, patience_s):
        raise ValueError(
          f'{workdir} is in use by {who}, since {there.get("since")}: wait for its end, or give '
          f'another --workdir. (If there is no such process, remove {self._file})'
        )
      logging.warning('%s: %s left it without a word; taken over', workdir, who)
    self._mine['since'] = time.strftime('%Y-%m-%d %H:%M:%S %z')  # for people
    with writing(workdir):
      claimed = there is not None or self._claim()
      if claimed:
        self._write()
    if not claimed:
      raise ValueError(f'{workdir} was taken by another run at the same time: give another')
    if files.is_remote(self._file):
      time.sleep(1)  # another one may have written at the same time: the last one has it
    if (self._read() or {}).get('token') != self._mine['token']:
      raise ValueError(f'{workdir} was taken by another run at the same time: give another')

  def _claim(self) -> bool:
    """Makes the file where there is none, and returns whether this process is the one that did. An
    object store cannot tell."""
    if files.is_remote(self._file):
      return True
    self._file.parent.mkdir(parents=True, exist_ok=True)
    try:
      os.close(os.open(self._file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
      return False
    return True

  def _alive(self, there: dict[str, Any], patience_s: float) -> bool:
    if there.get('host') == self._mine['host']:
      started = _started(int(there.get('process', -1)))
      return started is not None and started == there.get('started')
    logging.info('waiting %g s for a sign of life of the run that holds %s', patience_s, self._file)
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
      time.sleep(min(1.0, patience_s / 4))
      now = self._read()
      if now != there:
        return now is not None
    return False

  def _beat(self) -> None:
    while not self._ended.wait(BEAT_S):
      self._beats += 1
      try:
        self._write()
      except Exception as error:  # the next save tells of a full disk
        logging.debug('the lock could not be renewed: %s', error)

  def _write(self) -> None:
    files.write_bytes(self._file, json.dumps({**self._mine, 'beats': self._beats}).encode())

  def _read(self) -> dict[str, Any] | None:
    try:
      found = json.loads(self._file.read_text())
    except FileNotFoundError:
      return None
    except ValueError:
      found = {}
    return found if isinstance(found, dict) else {}


def _started(process: int) -> str | None:
  """Returns when a process of this host started, None if there is none, '' where the system does
  not say. Numbers of processes are used again."""
  if process < 1:
    return None
  try:
    os.kill(process, 0)
  except (ProcessLookupError, OverflowError, ValueError):
    return None
  except PermissionError:
    pass
  stat = Path(f'/proc/{process}/stat')
  return stat.read_text().rpartition(')')[2].split()[19] if stat.exists() else ''
