"""Worker processes: the same batches for any number of them, errors that name the record, nothing
left behind."""

import contextlib
import dataclasses
import errno
import gc
import importlib
import itertools
import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests.data import make
from tests.data.test_pipeline import CLIP, PLAIN, SPEC, same
from vjax.config import AugmentConfig
from vjax.data import clips, pipeline, tfrecord, workers
from vjax.data.split import open_split


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  root = tmp_path_factory.mktemp('data')
  make.dataset(root / 'toy')
  return str(root)


NOTEBOOK = """
import dataclasses
import time
import numpy as np
from vjax.data import clips

@dataclasses.dataclass
class Numbers(clips.OfOneSplit):
  split: object
  sleep_at: int = -1
  arrays = {'number': (np.int32, ())}

  def read(self, row, epoch):
    if row == self.sleep_at:
      time.sleep(0.7)
    return row

  def render(self, frames, row, epoch, out):
    out['number'][...] = frames
"""


@pytest.fixture
def numbers(data_dir, tmp_path, monkeypatch):
  """A maker of numbers, in a module of a folder that only this process' path has, beside a file
  named like one of Python's."""
  (tmp_path / 'of_a_notebook.py').write_text(NOTEBOOK)
  (tmp_path / 'struct.py').write_text('raise ImportError("a file of the user")')
  monkeypatch.syspath_prepend(tmp_path)
  module = importlib.import_module('of_a_notebook')
  yield module.Numbers(open_split(data_dir, SPEC, 'train'))
  del sys.modules['of_a_notebook']


def batches(data_dir, count, *, augment=PLAIN, clip=CLIP, **settings):
  """An iterator of training batches by so many workers."""
  settings = {'batch': 4, 'seed': 7, 'start_step': 0, 'host': 0, 'hosts': 1, **settings}
  source = open_split(data_dir, SPEC, 'train')
  return pipeline.train_batches(source, SPEC, clip, augment, workers=count, **settings)


def children():
  """Process numbers of this process' children that live."""
  found = set()
  for stat in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      state, parent = stat.read_text().rpartition(')')[2].split()[:2]
    except OSError:  # it ended
      continue
    if int(parent) == os.getpid() and state != 'Z':
      found.add(int(stat.parent.name))
  return found


def gone(processes, seconds=10):
  """Returns true if all these processes end within so many seconds."""
  end = time.monotonic() + seconds
  while time.monotonic() < end:
    alive = [p for p in processes if pathlib.Path(f'/proc/{p}').exists()]
    alive = [p for p in alive if 'Z' not in pathlib.Path(f'/proc/{p}/stat').read_text().split()[2]]
    if not alive:
      return True
    time.sleep(0.05)
  return False


def test_batches_do_not_depend_on_the_number_of_workers(data_dir):
  settings = {
    'augment': AugmentConfig(rand_augment=2, random_erasing=1.0, color_jitter=(0.4, 0.4, 0.4)),
    'clip': dataclasses.replace(CLIP, num_repeats=2),
  }
  alone, three = (batches(data_dir, count, **settings) for count in (0, 3))
  kept = list(itertools.islice(alone, 8))  # all are held: beyond the third, memory is copied
  for a, b in zip(kept, list(itertools.islice(three, 8))):
    same(a, b)
  resumed = batches(data_dir, 2, start_step=6, **settings)
  for a, b in zip(kept[6:], resumed):
    same(a, b)
  second = {'host': 1, 'hosts': 2, **settings}
  for a, b in zip(
    itertools.islice(batches(data_dir, 0, **second), 3), batches(data_dir, 2, **second)
  ):
    same(a, b)


def test_memory_is_used_again_once_nothing_refers_to_it(data_dir):
  made = batches(data_dir, 1)
  first = next(made)
  kept, content = first['video'][1:3, 0], first['video'][1:3, 0].copy()
  address = first['video'].ctypes.data
  del first
  seen = {next(made)['video'].ctypes.data for _ in range(14)}
  np.testing.assert_array_equal(kept, content)  # a view of a view keeps it
  assert address not in seen and len(seen) <= 5
  del kept
  assert address in {next(made)['video'].ctypes.data for _ in range(14)}


@pytest.mark.parametrize('hosts', [1, 3])
@pytest.mark.parametrize('count', [0, 2])
def test_views_by_workers(data_dir, hosts, count):
  source = open_split(data_dir, SPEC, 'train')  # 11 clips
  views = dataclasses.replace(CLIP, num_clips=2, num_crops=3)
  settings = {'batch': 6, 'hosts': hosts, 'workers': count}
  parts = [
    list(pipeline.eval_batches(source, SPEC, views, host=host, **settings)) for host in range(hosts)
  ]
  assert [len(part) for part in parts] == [2] * hosts
  ids = np.concatenate([batch['video_id'] for part in zip(*parts) for batch in part])
  assert ids.tolist() == [*range(11), -1]
  maker = clips.EvalClips(source, views)
  out = {name: np.zeros(shape, kind) for name, (kind, shape) in maker.arrays.items()}
  maker.render(maker.read(10), 10, 0, out)
  rows = np.concatenate([batch['video'] for part in zip(*parts) for batch in part])
  np.testing.assert_array_equal(rows[10], out['video'])
  assert not rows[11].any()


def test_a_damaged_record_is_named_at_its_batch(tmp_path):
  make.dataset(tmp_path / 'toy')
  source = open_split(str(tmp_path), SPEC, 'train')
  path = pathlib.Path(source.index.files[source.index.shard[5]])
  content = bytearray(path.read_bytes())
  start = int(source.index.offset[5])
  content[start + 200 : start + int(source.index.length[5]) - 50] = bytes(
    int(source.index.length[5]) - 250
  )
  path.write_bytes(content)
  tfrecord.forget()
  said = []
  for count in (0, 2):
    made = batches(str(tmp_path), count, batch=1)
    whole = []
    with pytest.raises(ValueError, match='record 5 at byte') as error:
      whole.extend(batch['label'].tolist() for batch in made)
    said.append((whole, str(error.value)))
    with pytest.raises(StopIteration):
      next(made)
  assert said[0] == said[1]


@pytest.mark.parametrize('count', [1, 2])
def test_a_killed_worker_is_one_message_and_leaves_no_other(data_dir, count):
  before = children()
  made = batches(data_dir, count)
  next(made)
  mine = children() - before
  assert len(mine) == count
  os.kill(min(mine), signal.SIGKILL)
  assert gone([min(mine)])  # between two batches
  with pytest.raises(
    workers.WorkerError, match=r'process \d+\) was killed by SIGKILL (at .*record|as it)'
  ):
    for _ in itertools.islice(made, 100):
      time.sleep(0.02)
  assert gone(mine)


def test_an_index_that_is_cut_short_ends_workers_with_its_remedy(tmp_path):
  make.dataset(tmp_path / 'toy')
  made = batches(str(tmp_path), 1)
  next(made)
  os.truncate(tmp_path / 'toy' / 'train.frames', 0)  # mapped by the worker
  with pytest.raises(
    workers.WorkerError, match='killed by SIGBUS at .*: python -m vjax.data.index'
  ):
    list(itertools.islice(made, 100))


def test_a_stopped_worker_is_named_and_goes_on(data_dir, monkeypatch, caplog):
  monkeypatch.setattr(workers, '_PATIENCE_S', 0.02)
  before = children()
  made = batches(data_dir, 1)
  kept = [next(made)]
  (stopped,) = children() - before
  os.kill(stopped, signal.SIGSTOP)
  monkeypatch.setattr(workers, '_STALLED_S', 0.2)
  timer = threading.Timer(0.6, os.kill, (stopped, signal.SIGCONT))
  timer.start()
  kept += itertools.islice(made, 9)
  timer.join()
  said = [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']
  assert len(said) == 1, said  # again after ten minutes
  assert f'waiting for process {stopped} (stopped by a signal)' in said[0]
  assert f'kill -CONT {stopped}' in said[0] and said[0].startswith(
    'no video from the input workers'
  )
  for a, b in zip(kept, batches(data_dir, 0)):
    same(a, b)


def test_a_slow_record_is_named(numbers, monkeypatch, caplog):
  monkeypatch.setattr(workers, '_PATIENCE_S', 0.02)
  monkeypatch.setattr(workers, '_STALLED_S', 0.1)
  monkeypatch.setattr(workers, '_STALLED_AGAIN_S', 0.3)
  numbers.sleep_at = 4
  tasks = iter([(np.array([3, 4]), np.zeros(2, np.int64))])
  made = workers.batches(numbers, tasks, rows=2, workers=1)
  assert [batch['number'].tolist() for batch in made] == [[3, 4]]
  said = [r.getMessage() for r in caplog.records if ', at ' in r.getMessage()]
  assert 1 <= len(said) <= 3 and 'record 4' in said[-1] and '(waiting)' in said[-1]


def test_signals_to_the_group_do_not_end_workers_that_start(data_dir):
  before = children()
  made = batches(data_dir, 1)
  (worker,) = children() - before
  os.kill(worker, signal.SIGTERM)
  os.kill(worker, signal.SIGINT)
  next(made)
  os.kill(worker, signal.SIGTERM)
  os.kill(worker, signal.SIGINT)
  assert [next(made)['label'].shape for _ in range(4)] == [(4,)] * 4


def test_pipes_may_have_little_room(numbers, monkeypatch):
  monkeypatch.setattr(workers, '_PIPE_BYTES', 4096)  # 128 tasks, 256 results
  epochs = np.zeros(600, np.int64)
  tasks = [(np.arange(start, start + 600), epochs) for start in range(5)]
  made = workers.batches(numbers, iter(tasks), rows=600, workers=1)
  for (records, _), batch in zip(tasks, made, strict=True):
    np.testing.assert_array_equal(batch['number'], records)


def test_workers_beside_many_open_files(data_dir):
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
  with contextlib.ExitStack() as stack:
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    for _ in range(1024):
      stack.enter_context(open(os.devnull))
    assert next(batches(data_dir, 1))['label'].shape == (4,)


def test_workers_that_cannot_be_started_leave_nothing(data_dir, monkeypatch):
  before, start = children(), subprocess.Popen
  gc.collect()
  descriptors = len(os.listdir('/proc/self/fd'))

  def second_fails(*args, **settings):
    if children() - before:
      raise OSError(errno.EMFILE, 'Too many open files')
    return start(*args, **settings)

  monkeypatch.setattr(subprocess, 'Popen', second_fails)
  with pytest.raises(workers.WorkerError, match='2 input workers .*: Too many open files. Raise'):
    batches(data_dir, 2)
  assert children() == before and len(os.listdir('/proc/self/fd')) <= descriptors


def test_workers_import_from_where_this_process_does(numbers):
  tasks = iter([(np.array([3, 5]), np.zeros(2, np.int64))])
  made = workers.batches(numbers, tasks, rows=2, workers=1)
  assert [batch['number'].tolist() for batch in made] == [[3, 5]]


def test_workers_end_with_their_iterator(data_dir):
  before = children()
  made = batches(data_dir, 2)
  next(made)
  mine = children() - before
  del made
  assert len(mine) == 2 and gone(mine)


SCRIPT = """
import os, sys
from vjax.config import AugmentConfig, ViewsConfig
from vjax.data import pipeline
from vjax.data.specs import DatasetSpec
from vjax.data.split import open_split
spec = DatasetSpec(name='toy', num_classes=4)
clip = ViewsConfig(num_frames=4, frame_stride=2, crop_size=16, short_side=20, sampling='dense')
source = open_split({data_dir!r}, spec, 'train')
batches = pipeline.train_batches(source, spec, clip, AugmentConfig(), batch=4, seed=7,
  start_step=0, host=0, hosts=1, workers=2)
next(batches)
assert not {{'jax', 'tensorflow'}} & set(sys.modules)
print(*[p.pid for p in batches.gi_frame.f_locals['made']._pool._processes], flush=True)
{end}
"""


@pytest.mark.parametrize('end', ['os._exit(3)', 'os.kill(os.getpid(), 9)', ''])
def test_workers_die_with_their_parent_however_it_ends(data_dir, end):
  script = SCRIPT.format(data_dir=data_dir, end=end)
  done = subprocess.run(
    [sys.executable, '-c', script], check=False, capture_output=True, text=True, timeout=120
  )
  processes = [int(p) for p in done.stdout.split()]
  assert len(processes) == 2 and not done.stderr, done.stderr
  assert gone(processes)


def test_workers_need_neither_jax_nor_tensorflow_and_little_time():
  code = (
    'import sys, time; begun = time.perf_counter(); import vjax.data.workers, vjax.data.clips; '
    'assert time.perf_counter() - begun < 4; '
    "print([m for m in ('jax', 'flax', 'tensorflow', 'grain') if m in sys.modules])"
  )
  done = subprocess.run(
    [sys.executable, '-c', code], check=True, capture_output=True, text=True, timeout=60
  )
  assert done.stdout.strip() == '[]'


def test_the_index_is_shared_and_frame_tables_are_mapped(data_dir):
  source = open_split(data_dir, SPEC, 'train')
  shared = workers._share(clips.TrainClips(source, True, CLIP, PLAIN, 0))
  index = workers._shared_maker(shared.memory).split.index
  assert isinstance(index.table, np.memmap) and index.table.filename == source.index.table.filename
  for name in ('shard', 'offset', 'length', 'label', 'crc', 'first'):
    np.testing.assert_array_equal(getattr(index, name), getattr(source.index, name))
    assert not getattr(index, name).flags.writeable
  assert np.shares_memory(index.offset, np.frombuffer(shared.memory, np.uint8))


def test_the_default_is_by_cores_and_recipe(data_dir, monkeypatch):
  monkeypatch.setattr(workers, 'usable_cores', lambda: 8)
  source = open_split(data_dir, SPEC, 'train')
  maker = clips.TrainClips(source, True, CLIP, PLAIN, 0)
  assert pipeline._workers(maker, 0, 64) == 0  # small frames
  monkeypatch.setattr(pipeline, '_SHORT_S', 0.0)
  assert pipeline._workers(maker, 0, 64) == 7 and pipeline._workers(maker, 0, 2) == 2
  monkeypatch.setattr(workers, 'usable_cores', lambda: 1)
  assert pipeline._workers(maker, 0, 64) == 1


@pytest.mark.parametrize(
  ('files', 'cores'),
  [
    ({}, 8),
    ({'cpu.max': 'max 100000\n'}, 8),
    ({'cpu.max': '250000 100000\n'}, 3),
    ({'cpu/cpu.cfs_quota_us': '-1\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 8),
    ({'cpu/cpu.cfs_quota_us': '150000\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 2),
    ({'cpu/cpu.cfs_quota_us': '50000\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 1),
    ({'cpu/cpu.cfs_quota_us': '50000\n'}, 8),
    ({'own': '0::/job/step\n', 'job/cpu.max': '400000 100000\n'}, 4),
    ({'own': '0::/job\n', 'job/cpu.max': 'max 100000\n', 'cpu.max': '600000 100000\n'}, 6),
    (
      {
        'own': '9:name=systemd:/x\n4:cpu,cpuacct:/job\n0::/\n',
        'cpu/job/cpu.cfs_quota_us': '50000\n',
        'cpu/job/cpu.cfs_period_us': '100000\n',
      },
      1,
    ),
    ({'own': '0::/../elsewhere\n', 'cpu.max': '250000 100000\n'}, 3),
    ({'own': '0::/job\n\n1:name\n', 'job/cpu.max': '250000 100000\n'}, 3),
  ],
)
def test_cores_are_those_of_the_container(tmp_path, monkeypatch, files, cores):
  monkeypatch.setattr(workers, '_CGROUPS', str(tmp_path))
  monkeypatch.setattr(workers, '_OWN_GROUPS', str(tmp_path / 'own'))
  monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(8)), raising=False)
  for name, text in files.items():
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
  assert workers.usable_cores() == cores


def test_as_a_dataset_of_tensorflow(data_dir):
  data = pipeline.as_tf_dataset(lambda: batches(data_dir, 0))
  for a, b in zip(batches(data_dir, 0), data.take(3)):
    same(a, {name: value.numpy() for name, value in b.items()})
  assert data.element_spec['video'].shape == (4, 4, 16, 16, 3)
