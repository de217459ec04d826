"""Worker processes that make the rows of batches, in order, in memory shared with this process.

Needs neither JAX nor TensorFlow: a worker starts in a fraction of a second and takes little memory.
It ends when this process ends, however that happens, since the pipe of its tasks closes then. The
memory has no name, so nothing is left behind, and small limits of /dev/shm do not matter.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import functools
import io
import json
import logging
import math
import mmap
import os
import pathlib
import pickle
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from vjax import files

Rows = dict[str, np.ndarray]  # arrays of a batch by name, one row a record

# Both divide a page: a pipe with several readers never splits one between them.
_TASK = struct.Struct('<iiqq8x')  # memory of the batch, place in it, record, epoch
_DONE = struct.Struct('<iii4x')  # memory of the batch, place in it, whether it failed
_AHEAD = 2  # batches that are made before they are asked for
_HELD = 4  # further batches whose memory may still be in use where they were handed out
_ERROR_BYTES = 4096
_LENGTH = struct.Struct('<q')
_PIPE_BYTES = 1 << 20  # the most that the system gives without privileges
_ALIGNED = 64
_ERROR = 'error'  # name of the array that takes the errors of rows, as JSON
_FOR_PARENT = (signal.SIGINT, signal.SIGTERM)  # signals that workers leave to it
_START = """import json, sys
first, last = json.loads(sys.argv[1])
sys.path = [*(f for f in first if f not in sys.path), *sys.path]
sys.path += [f for f in last if f not in sys.path]
from vjax.data.workers import work
work(sys.argv[2:])"""
_CGROUPS = '/sys/fs/cgroup'  # limits of this container
_OWN_GROUPS = '/proc/self/cgroup'
_PATIENCE_S = 0.5  # between looks at whether all workers live
# After so long without a row, and again so much later, a warning names the workers that are waited
# for.
_STALLED_S, _STALLED_AGAIN_S = 60.0, 600.0
# States of processes by the letter in /proc/PID/stat: what they mean, and what to do.
_STATES = {
  'T': ('stopped by a signal', 'let it go on: kill -CONT {process}'),
  't': ('stopped by a debugger', 'let it go on, or end the debugger'),
  'D': (
    'waiting for a disk, a file system or swapped memory',
    'look whether the data folder can be read, and whether memory is short (then set '
    'config.data.workers to fewer)',
  ),
  'R': ('computing', 'look whether the machine has more to do than it has cores'),
  'S': ('waiting', 'look whether the data folder or object store answers'),
}
# Records that a worker asks an object store for at once: the time between request and answer, 20 to
# 100 ms, is that of a few clips' decoding.
_READ_AHEAD = 8


class Maker(Protocol):
  """Makes the row of a record: in a worker, so it must be picklable."""

  @property
  def arrays(self) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Type and shape of the arrays of a row, by name."""
    ...

  @property
  def folder(self) -> str:
    """Folder of the records."""
    ...

  @property
  def rebuild(self) -> str:
    """Command that makes the index of the records again."""
    ...

  def where(self, row: int) -> str:
    """Returns words for the place of a record."""
    ...

  def check(self, row: int) -> None:
    """Reads the record and decodes all its frames. Raises ValueError naming what is wrong."""
    ...

  def read(self, row: int, epoch: int) -> Any:
    """Returns the record's bytes."""
    ...

  def render(self, frames: Any, row: int, epoch: int, out: Rows) -> None:
    """Writes the row, of what `read` returned, to the arrays `out`."""
    ...


class WorkerError(OSError):
  """A worker process ended, or cannot be started."""


def usable_cores() -> int:
  """Returns the number of cores that this process may use, by its affinity, its container and, as
  in jobs of SLURM or systemd, the groups it is in."""
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  for group, file_names in _groups():
    try:
      found = ' '.join((group / name).read_text() for name in file_names)
      quota, period = map(int, found.split())
    except (OSError, ValueError):  # no limit ('max'), or no file
      continue
    if quota > 0 and period > 0:  # -1 is no limit
      cores = min(cores, max(1, math.ceil(quota / period)))
  return cores


def _groups() -> Iterator[tuple[pathlib.Path, tuple[str, ...]]]:
  """Yields the folders of this process' control groups, out to the container's, and the files that
  hold quota and period there: of both versions, since either may be in use."""
  files = {'': ('cpu.max',), 'cpu': ('cpu.cfs_quota_us', 'cpu.cfs_period_us')}  # v2, v1
  inner = dict.fromkeys(files, '')
  with contextlib.suppress(OSError):  # another system
    for line in pathlib.Path(_OWN_GROUPS).read_text(errors='surrogateescape').split('\n'):
      if line.count(':') < 2:
        continue
      _, controllers, group = line.split(':', 2)
      for name in {'', 'cpu'}.intersection(controllers.split(',')):
        inner[name] = group.strip('/')
  for name, file_names in files.items():
    top = pathlib.Path(_CGROUPS, name)
    own = top / inner[name]
    yield from ((group, file_names) for group in (own, *own.parents) if group.is_relative_to(top))


def batches(
  maker: Maker, tasks: Iterator[tuple[np.ndarray, np.ndarray]], *, rows: int, workers: int
) -> Iterator[Rows]:
  """Returns an iterator of batches, begun at once: arrays by name, one row for every task.

  The arrays of a batch are valid as long as anything refers to them.

  Args:
    maker: of the rows.
    tasks: (records, epochs) of every batch, at most `rows` each.
    rows: of a batch.
    workers: processes, 0 = none: every batch is made when it is asked for.

  Raises:
    ValueError, OSError: from the iterator, where a record cannot be read; it names the record.
    WorkerError: where workers cannot be started; from the iterator, where one was killed.
  """
  if not workers:
    return _made_here(maker, tasks)
  return _Stream(maker, tasks, rows, workers)


def _made_here(maker: Maker, tasks: Iterator) -> Iterator[Rows]:
  for records, epochs in tasks:
    memory = np.empty(_size(maker, len(records)) + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED  # JAX uses aligned memory without a copy
    batch = _arrays(memory[start:], maker, len(records))
    del batch[_ERROR]
    for i, (row, epoch) in enumerate(zip(records.tolist(), epochs.tolist())):
      try:
        maker.render(maker.read(row, epoch), row, epoch, _row(batch, i))
      except ValueError:
        maker.check(row)  # its error says more
        raise
    yield batch


class _Stream:
  """Iterator of batches that workers make."""

  def __init__(self, maker: Maker, tasks: Iterator, rows: int, workers: int):
    self._maker, self._tasks, self._rows = maker, tasks, rows
    self._free = collections.deque(range(_AHEAD + _HELD))
    self._pending: collections.deque[_Batch] = collections.deque()
    self._by_memory: dict[int, _Batch] = {}
    try:
      self._memory = [_Shared(_size(maker, rows)) for _ in self._free]
      self._now = _Shared(8 * workers)  # the record that each worker has begun, + 1
      self._pool = _Pool(_share(maker), self._memory, self._now, rows, workers)
    except OSError as e:
      raise WorkerError(
        f'{workers} input workers cannot be started: {e.strerror or e}. Raise the limit that was '
        'reached (ulimit -a shows limits), or set config.data.workers to fewer; 0 needs none'
      ) from e
    weakref.finalize(self, self._pool.close)
    self._looked = self._moved = time.monotonic()
    self._stalled_s = _STALLED_S
    self._ended = False
    self._send()

  def __iter__(self) -> _Stream:
    return self

  def __next__(self) -> Rows:
    if not self._pending:
      self.close()
      raise StopIteration
    batch = self._pending[0]
    self._moved, self._stalled_s = time.monotonic(), _STALLED_S  # time elsewhere does not count
    try:
      while batch.missing:
        self._collect()
      if batch.failed:
        self._raise(batch)
    except BaseException:
      self.close()
      raise
    self._pending.popleft()
    result = self._handed_out(batch)
    self._send()
    if not self._pending:
      self.close()
    return result

  def close(self) -> None:
    """Ends the workers."""
    self._pending.clear()
    self._ended = True
    self._pool.close()

  def _send(self) -> None:
    """Gives the workers the tasks of further batches."""
    while not self._ended and len(self._pending) < _AHEAD and self._free:
      task = next(self._tasks, None)
      if task is None:
        self._ended = True
        return
      memory = self._free.popleft()
      records, epochs = (values.tolist() for values in task)
      batch = _Batch(memory, records)
      self._pending.append(batch)
      self._by_memory[memory] = batch
      self._pool.send(
        b''.join(
          _TASK.pack(memory, i, row, epoch) for i, (row, epoch) in enumerate(zip(records, epochs))
        )
      )

  def _collect(self) -> None:
    """Waits for some rows."""
    done = self._pool.done(_PATIENCE_S)
    for memory, place, failed in done:
      batch = self._by_memory[memory]
      batch.missing.discard(place)
      if failed:
        batch.failed.append(place)
    now = time.monotonic()
    if done:
      self._moved, self._stalled_s = now, _STALLED_S
    elif now > self._moved + self._stalled_s:
      self._stalled_s += _STALLED_AGAIN_S
      self._warn_stalled(now - self._moved)
    if not done or now > self._looked + _PATIENCE_S:
      self._looked = now
      self._check_alive()

  def _warn_stalled(self, seconds: float) -> None:
    """Logs which workers are waited for, at which records, and what to do."""
    missing = {batch.records[place] for batch in self._pending for place in batch.missing}
    records = (np.frombuffer(self._now.memory, np.int64) - 1).tolist()
    at = {number: record for number, record in enumerate(records) if record in missing}
    for number in at or range(len(records)):  # all, where none has begun a record that is missing
      process = self._pool.process(number)
      meaning, remedy = _STATES.get(
        _state_of(process), ('in an unknown state', 'look what it does')
      )
      where = f', at {self._maker.where(at[number])}' if number in at else ''
      logging.warning(
        'no video from the input workers for %.0f s: waiting for process %d (%s)%s; %s. To end the '
        'run instead: kill -9 %d; the same command continues it',
        seconds, process, meaning, where, remedy.format(process=process), process,
      )  # fmt: skip

  def _check_alive(self) -> None:
    dead = self._pool.dead()
    if dead is None:
      return
    number, process, status = dead
    record = int(np.frombuffer(self._now.memory, np.int64)[number]) - 1
    where = f' at {self._maker.where(record)}' if record >= 0 else ' as it started'
    if status < 0:
      names = {s.value: s.name for s in signal.Signals}  # real-time signals have none
      how = f'was killed by {names.get(-status, f"signal {-status}")}{where}. '
      if -status == signal.SIGBUS:
        how += 'A file that is mapped into memory, such as the frame table of the index, was cut '
        how += f'short, or its disk failed; then run: {self._maker.rebuild}'
      else:
        how += 'Where memory is short, set config.data.workers to fewer, or a smaller '
        how += 'config.data.batch_size'
    else:
      how = f'ended with {status}{where}; its own message is on the standard error stream'
    raise WorkerError(f'an input worker (process {process}) {how}')

  def _raise(self, batch: _Batch) -> None:
    place = min(batch.failed)
    root = np.frombuffer(self._memory[batch.memory].memory, np.uint8)
    error = json.loads(bytes(_arrays(root, self._maker, self._rows)[_ERROR][place]).rstrip(b'\0'))
    kind = {'ValueError': ValueError, 'OSError': OSError}.get(error['kind'], RuntimeError)
    raise kind(error['text'])

  def _handed_out(self, batch: _Batch) -> Rows:
    """Returns the arrays of a batch. Its memory is used again once nothing refers to them; where
    too much is held already, they are copied."""
    del self._by_memory[batch.memory]
    count = len(batch.records)
    held = len(self._memory) - len(self._free) - len(self._pending)
    # A view's `base` is this array, so it lives as long as any view.
    root = np.frombuffer(self._memory[batch.memory].memory, np.uint8)
    arrays = _arrays(root, self._maker, self._rows)
    del arrays[_ERROR]
    if held > _HELD:
      copies = {name: array[:count].copy() for name, array in arrays.items()}
      self._free.appendleft(batch.memory)
      return copies
    weakref.finalize(root, self._free.appendleft, batch.memory).atexit = False
    return {name: array[:count] for name, array in arrays.items()}


class _Batch:
  """A batch in the making."""

  def __init__(self, memory: int, records: list[int]):
    self.memory, self.records = memory, records
    self.missing, self.failed = set(range(len(records))), list[int]()  # places


class _Shared:
  """Memory without a name that is shared with child processes."""

  def __init__(self, size: int):
    self.size = max(size, 1)
    if hasattr(os, 'memfd_create'):
      self.file = os.memfd_create('vjax', os.MFD_CLOEXEC)
    else:
      with tempfile.TemporaryFile() as file:
        self.file = os.dup(file.fileno())
    os.ftruncate(self.file, self.size)
    self.memory = mmap.mmap(self.file, self.size)
    weakref.finalize(self, os.close, self.file)


class _Pool:
  """Processes that share one pipe of tasks and one of results."""

  def __init__(self, setup: _Shared, memory: list[_Shared], now: _Shared, rows: int, workers: int):
    self._closed, self._processes = False, list[subprocess.Popen]()
    self._rest, self._unsent = b'', b''
    tasks, self._tasks = os.pipe()
    self._done, done = os.pipe()
    os.set_blocking(self._tasks, False)
    for pipe in (tasks, done):
      with contextlib.suppress(OSError, AttributeError):  # too many pipes of this user; macOS
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    shared = [tasks, done, setup.file, now.file, *(m.file for m in memory)]
    sizes = [setup.size, now.size, memory[0].size, rows]
    threads = dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'), '1')
    try:
      for number in range(workers):
        command = [sys.executable, '-P', '-c', _START, json.dumps(_import_path())]
        command += map(str, [number, *sizes, *shared])
        with _signals_held_back():
          process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=shared,
            env={**os.environ, **threads},
          )  # fmt: skip
        self._processes.append(process)
    except BaseException:
      self.close()
      raise
    finally:
      os.close(tasks)
      os.close(done)

  def send(self, tasks: bytes) -> None:
    """Gives the workers tasks. Those for which the pipe has no room follow in `done`."""
    self._unsent += tasks
    try:
      while self._unsent:
        self._unsent = self._unsent[os.write(self._tasks, self._unsent) :]
    except BlockingIOError:
      pass
    except BrokenPipeError:  # no worker lives, as `dead` tells
      self._unsent = b''

  def done(self, seconds: float) -> list[tuple[int, int, int]]:
    """Returns the rows that are done, [] where none is after so many seconds."""
    poll = select.poll()  # select.select takes no descriptor above 1023
    poll.register(self._done, select.POLLIN)
    if self._unsent:
      poll.register(self._tasks, select.POLLOUT)
    ready = dict(poll.poll(1000 * seconds))
    if self._tasks in ready:
      self.send(b'')
    if self._done not in ready:
      return []
    data = self._rest + os.read(self._done, 1 << 16)
    whole = len(data) - len(data) % _DONE.size
    self._rest = data[whole:]
    return list(_DONE.iter_unpack(data[:whole]))

  def dead(self) -> tuple[int, int, int] | None:
    """Returns (number, process, status) of a worker that ended."""
    for number, process in enumerate(self._processes):
      if process.poll() is not None:
        return number, process.pid, process.returncode
    return None

  def process(self, number: int) -> int:
    """Returns the process id of a worker."""
    return self._processes[number].pid

  def close(self) -> None:
    """Ends the processes."""
    if self._closed:
      return
    self._closed = True
    os.close(self._tasks)
    os.close(self._done)
    for process in self._processes:
      process.kill()
    for process in self._processes:
      process.wait()


def _state_of(process: int) -> str:
  """Returns the letter of a process' state, '' where the system does not tell."""
  try:
    return pathlib.Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0]
  except (OSError, LookupError):
    return ''


def _import_path() -> list[list[str]]:
  """Returns where workers import from: the folder of vjax if it is not one of theirs, and folders
  that this process added to its path, such as a notebook's, which come after theirs."""
  own = str(pathlib.Path(__file__).parents[2])
  return [[own], [os.path.abspath(folder) for folder in sys.path if folder]]


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
  """Holds signals to this thread, and to processes begun by it, back. A signal to a whole group of
  processes, such as Ctrl-C, would end workers that do not ignore it yet."""
  before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_PARENT)
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _size(maker: Maker, rows: int) -> int:
  """Returns the bytes of the memory of a batch."""
  return sum(size for _, _, _, size in _layout(maker, rows))


def _layout(maker: Maker, rows: int) -> list[tuple[str, np.dtype, tuple[int, ...], int]]:
  """Returns name, type, shape and bytes, padded, of the arrays of a batch, in order."""
  layout = []
  for name, (kind, shape) in {**maker.arrays, _ERROR: (np.uint8, (_ERROR_BYTES,))}.items():
    size = rows * math.prod(shape) * np.dtype(kind).itemsize
    layout.append((name, np.dtype(kind), (rows, *shape), size + -size % _ALIGNED))
  return layout


def _arrays(memory: np.ndarray, maker: Maker, rows: int) -> Rows:
  """Returns the arrays of a batch in its memory (bytes,) uint8."""
  arrays, at = {}, 0
  for name, kind, shape, size in _layout(maker, rows):
    array = memory[at : at + math.prod(shape) * kind.itemsize]
    arrays[name] = array.view(kind).reshape(shape)
    at += size
  return arrays


def _row(batch: Rows, i: int) -> Rows:
  """Returns row i; what is written to it is written to the batch."""
  return {name: array[i : i + 1].reshape(array.shape[1:]) for name, array in batch.items()}


class _Pickler(pickle.Pickler):
  """Leaves the content of arrays out; mapped files are mapped again."""

  def reducer_override(self, value: Any) -> Any:
    if isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap):
      return np.memmap, (value.filename, value.dtype, 'r', value.offset, value.shape)
    return NotImplemented


def _share(maker: Maker) -> _Shared:
  """Returns memory with the pickled maker. Its arrays, such as those of the index, are there once,
  however many workers use them."""
  stream, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
  _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(maker)
  content = [b.raw() for b in buffers]
  head = pickle.dumps((stream.getvalue(), [len(c) for c in content]))
  start = _LENGTH.size + len(head)
  shared = _Shared(start + sum(len(c) + _ALIGNED for c in content))
  shared.memory[:start] = _LENGTH.pack(len(head)) + head
  for c in content:
    start += -start % _ALIGNED
    shared.memory[start : start + len(c)] = c
    start += len(c)
  return shared


def _shared_maker(memory: mmap.mmap) -> Maker:
  """Returns the maker in the memory that `_share` filled."""
  (length,) = _LENGTH.unpack(memory[: _LENGTH.size])
  start = _LENGTH.size + length
  pickled, lengths = pickle.loads(memory[_LENGTH.size : start])
  whole, content = memoryview(memory).toreadonly(), []
  for length in lengths:
    start += -start % _ALIGNED
    content.append(whole[start : start + length])
    start += length
  return pickle.loads(pickled, buffers=content)


def work(argv: list[str]) -> None:
  """The life of a worker. argv: numbers that `_Pool` gives."""
  for ignored in _FOR_PARENT:
    signal.signal(ignored, signal.SIG_IGN)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_PARENT)
  number, setup_bytes, now_bytes, batch_bytes, rows, tasks, done, *shared = map(int, argv)
  setup, now, *memories = shared
  maker = _shared_maker(mmap.mmap(setup, setup_bytes, access=mmap.ACCESS_READ))
  current = np.frombuffer(mmap.mmap(now, now_bytes), np.int64)
  memory = [np.frombuffer(mmap.mmap(file, batch_bytes), np.uint8) for file in memories]
  batches = [_arrays(m, maker, rows) for m in memory]
  for task, read in _begun(maker, tasks):
    which, place, row, epoch = _TASK.unpack(task)
    current[number] = row + 1
    out, failed = _row(batches[which], place), 0
    error = out.pop(_ERROR)
    try:
      maker.render(read(), row, epoch, out)
    except Exception as e:  # reported where the batch is asked for
      failed, text = 1, _reported(maker, row, e)
      error[:] = np.frombuffer(text.ljust(_ERROR_BYTES, b'\0'), np.uint8)
    try:
      os.write(done, _DONE.pack(which, place, failed))
    except BrokenPipeError:  # the process that began this one has ended
      return


def _begun(maker: Maker, tasks: int) -> Iterator[tuple[bytes, Callable[[], Any]]]:
  """Yields tasks from the pipe, with functions that return what was read for them. Reads ahead from
  object stores, whose answers take long. Ends when the pipe is closed."""
  begin = lambda task: functools.partial(maker.read, *_TASK.unpack(task)[2:])
  if not files.is_remote(maker.folder):
    while task := os.read(tasks, _TASK.size):
      yield task, begin(task)
    return
  poll = select.poll()
  poll.register(tasks, select.POLLIN)
  with ThreadPoolExecutor(_READ_AHEAD) as threads:
    waiting, closed = collections.deque(), False
    while waiting or not closed:
      room = not closed and len(waiting) < _READ_AHEAD
      if room and (not waiting or poll.poll(0)):
        task = os.read(tasks, _TASK.size)
        closed = not task
        if task:
          waiting.append((task, threads.submit(begin(task)).result))
        elif not waiting:
          return
      else:
        yield waiting.popleft()


def _reported(maker: Maker, row: int, error: Exception) -> bytes:
  """Returns an error as JSON of at most _ERROR_BYTES."""
  try:
    if isinstance(error, ValueError):
      maker.check(row)  # its error says more
  except Exception as better:
    error = better
  kind = next((k for k in (ValueError, OSError) if isinstance(error, k)), None)
  text = str(error) if kind else ''.join(traceback.format_exception(error))
  where = maker.where(row)
  if not kind:
    text = f'an input worker failed at {where}:\n{text}'
  for end in (text, text[: _ERROR_BYTES // 8] + ' ... ' + text[-_ERROR_BYTES // 12 :]):
    found = json.dumps({'kind': kind.__name__ if kind else '', 'text': end}).encode()
    if len(found) <= _ERROR_BYTES:
      return found
  return json.dumps({'kind': 'ValueError', 'text': f'{where} cannot be read'}).encode()
