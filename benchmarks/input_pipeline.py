"""Clips per second of the input pipeline's worker processes, against the rate at which this machine
decodes the same JPEG frames.

  python -m benchmarks.input_pipeline [--seconds=10] [--only='*RandAugment*']
  python -m benchmarks.input_pipeline --recipe=configs/mae_k400.py [--rate=2000]
                                        1, 2, 4, ... workers; cores for so many clips/s
  python -m benchmarks.input_pipeline --grain          beside grain (pip install grain), same clips
  python -m benchmarks.input_pipeline --step           waiting for data, where a step takes twice
                                                       the time of its batch
  python -m benchmarks.input_pipeline --resizing       crops by exact and fast resizing, in turn
  python -m benchmarks.input_pipeline --parts          where the time beside decoding goes
  python -m benchmarks.input_pipeline --epochs=10      memory by epoch, docs/input_memory.png

Videos are made here: 300 frames of 256x340 px, quality 95, smooth texture with grain. Decoding
alone is the pipeline's own decoder on the frames of a clip, into the same memory, and nothing
else. Ratios are of CPU-seconds, of this process and its workers, so that other work on the machine
does not count. This process holds its interpreter's lock at most as long as it computes: `here` is
its share of a core. It bounds a host's clips/s to those measured over `here`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fnmatch
import itertools
import os
import pathlib
import resource
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import simplejpeg

from vjax.config import AugmentConfig, ClipConfig
from vjax.data import augment as augments
from vjax.data import clips, image, pipeline, sequence_example, tfrecord, workers
from vjax.data.index import write_index
from vjax.data.manifest import write_scanned
from vjax.data.order import shuffled
from vjax.data.specs import DatasetSpec
from vjax.data.split import Split, open_split

SPEC = DatasetSpec(name='bench', num_classes=4)
_16X4 = ClipConfig(
  num_frames=16, frame_stride=4, crop_size=224, short_side=256, sampling='linspace'
)
_32X2 = ClipConfig(num_frames=32, frame_stride=2, crop_size=224, short_side=256, sampling='dense')
_32X1 = ClipConfig(
  num_frames=32, frame_stride=1, crop_size=112, short_side=128, sampling='consecutive'
)
_FOUR = dataclasses.replace(_16X4, num_repeats=4)
_CROP = AugmentConfig(area=(0.5, 1.0))
_FAST = dataclasses.replace(_CROP, resize_quality='fast')
_CANVAS = AugmentConfig(area=(0.5, 1.0), device_frame_size=(256, 340))
_FIXED = AugmentConfig(crop='fixed', size=(128, 171))
_STRONG = AugmentConfig(area=(0.08, 1.0), rand_augment=2, random_erasing=0.25)
SETTINGS = {
  '16x4, 224 px, random resized crop': (_16X4, _CROP),
  '16x4, 224 px, random resized crop, fast': (_16X4, _FAST),
  '16x4, 224 px, resized on the accelerator': (_16X4, _CANVAS),
  '16x4, 224 px, four repeats': (_FOUR, _CROP),
  '16x4, 224 px, four repeats, fast': (_FOUR, _FAST),
  '16x4, 224 px, four repeats, accelerator': (_FOUR, _CANVAS),
  '32x2, 224 px, short side 256-320': (_32X2, AugmentConfig(crop='jitter')),
  '32x2, 224 px, short side 256-320, fast': (
    _32X2,
    AugmentConfig(crop='jitter', resize_quality='fast'),
  ),
  '32x2, 224 px, short side, accelerator': (
    _32X2,
    AugmentConfig(crop='jitter', device_frame_size=(256, 340)),
  ),
  '32x1, 112 px of 128x171': (_32X1, _FIXED),
  '32x1, 112 px of 128x171, fast': (
    _32X1,
    dataclasses.replace(_FIXED, resize_quality='fast'),
  ),
  '32x1, 112 px of 128x171, accelerator': (
    _32X1,
    dataclasses.replace(_FIXED, device_frame_size=(256, 340)),
  ),
  '16x4, 224 px, RandAugment and erasing': (_16X4, _STRONG),
  '16x4, RandAugment and erasing, accelerator': (
    _16X4,
    dataclasses.replace(_STRONG, device_frame_size=(256, 340)),
  ),
}


def make_videos(folder: pathlib.Path, videos: int = 32, frames: int = 300) -> list[bytes]:
  """Writes a dataset of `videos` records to the folder. Returns some of its JPEG frames."""
  rng = np.random.default_rng(0)
  jpegs: list[bytes] = []
  with open(folder / tfrecord.shard_name('train', 0, 1), 'wb') as shard:
    for v in range(videos):
      coarse = cv2.resize(rng.uniform(0, 255, (32, 43, 3)).astype(np.float32), (340, 256))
      jpegs = []
      for _ in range(8):
        frame = np.clip(coarse + rng.normal(0, 4, (256, 340, 3)), 0, 255).astype(np.uint8)
        jpegs.append(simplejpeg.encode_jpeg(frame, 95, 'RGB', '420'))
      context = {'clip/label/index': [v % 4], sequence_example.FRAME_RATE: [30.0]}
      lists = {sequence_example.FRAMES: ([jpegs[t % 8]] for t in range(frames))}
      shard.write(tfrecord.encode(sequence_example.encode(context, lists)))
  write_index(str(folder), 'train')
  write_scanned(str(folder))
  return jpegs


def decode_rate(jpegs: list[bytes], seconds: float) -> float:
  """Returns whole frames per CPU-second that are decoded into the same memory, and nothing else."""
  memory = np.empty((256, 340, 3), np.uint8)
  frames = itertools.cycle(jpegs)
  for _ in range(50):
    image.decode(next(frames), memory)
  done, start = 0, time.process_time()
  while time.process_time() < start + seconds:
    image.decode(next(frames), memory)
    done += 1
  return done / (time.process_time() - start)


class Rate(NamedTuple):
  """Speed of a pipeline.

  Attributes:
    per_s: clips per second.
    per_cpu_s: clips per CPU-second of all processes.
    here: CPU-seconds of this process per second.
    first_s: seconds to the first batch.
    mib: memory of a worker of its own.
    read: bytes read from records per clip.
  """

  per_s: float
  per_cpu_s: float
  here: float
  first_s: float
  mib: float
  read: float


def measure(make: Callable[[], Iterator[Any]], seconds: float) -> Rate:
  """Returns the speed of the batches of an iterator that `make` begins."""
  before, begun = _children(), time.monotonic()
  batches = make()
  next(batches)
  first = time.monotonic() - begun
  mine = _children() - before
  for _ in range(4):  # what was made ahead
    next(batches)
  cpu = lambda: sum(map(_cpu_s, mine))
  start, own, others, read = time.monotonic(), time.process_time(), cpu(), sum(map(_read, mine))
  done = 0
  while time.monotonic() < start + seconds:
    done += len(next(batches)['valid'])
  wall, own, others = time.monotonic() - start, time.process_time() - own, cpu() - others
  read = sum(map(_read, mine)) - read
  mib = max(map(_own_mib, mine), default=0.0)
  getattr(batches, 'close', lambda: None)()
  return Rate(done / wall, done / (own + others), own / wall, first, mib, read / done)


def _children() -> set[int]:
  """Returns the process numbers of this process' descendants."""
  parents = {}
  for stat in pathlib.Path('/proc').glob('[0-9]*/stat'):
    with contextlib.suppress(OSError):
      parents[int(stat.parent.name)] = int(stat.read_text().rpartition(')')[2].split()[1])
  found = {os.getpid()}
  while more := {p for p, parent in parents.items() if parent in found} - found:
    found |= more
  return found - {os.getpid()}


def _cpu_s(process: int) -> float:
  fields = pathlib.Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()
  return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def _read(process: int) -> int:
  return int(pathlib.Path(f'/proc/{process}/io').read_text().split()[1])


def _own_mib(process: int) -> float:
  """Returns the memory that a process took for itself: not that of files, batches and index."""
  text = pathlib.Path(f'/proc/{process}/smaps_rollup').read_text()
  lines = dict(line.split(':') for line in text.splitlines()[1:])
  return int(lines['Anonymous'].split()[0]) / 1024


def train(source: Split, clip: ClipConfig, augment: AugmentConfig, count: int, batch: int = 8):
  """Returns a function that begins batches by `count` workers."""
  settings = {'batch': batch, 'seed': 0, 'start_step': 0, 'host': 0, 'hosts': 1, 'workers': count}
  return lambda: pipeline.train_batches(source, SPEC, clip, augment, **settings)


def by_grain(source: Split, clip: ClipConfig, augment: AugmentConfig, count: int, batch: int = 8):
  """Returns a function that begins the same batches by grain's worker processes."""
  import grain
  from absl import flags

  if not flags.FLAGS.is_parsed():
    flags.FLAGS(['input_pipeline'])
  maker = clips.TrainClips(source, SPEC.flip, clip, augment, 0)

  def begin() -> Iterator[Any]:
    rows = grain.MapDataset.source(_Places(maker, batch * 10**6)).batch(batch)
    options = grain.MultiprocessingOptions(num_workers=count, per_worker_buffer_size=1)
    reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=batch)
    made = iter(rows.to_iter_dataset(reading).mp_prefetch(options))
    for value in made:
      yield {**value, 'valid': np.ones(batch * clip.num_repeats)}

  return begin


class _Places:
  """The rows of all places, in order, as grain takes them."""

  def __init__(self, maker: clips.TrainClips, count: int):
    self._maker, self._count = maker, count

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, place: int) -> dict[str, np.ndarray]:
    n = self._maker.split.num_clips
    row = int(
      self._maker.split.rows[shuffled(np.array([place % n]), 0, np.array([place // n]), n)[0]]
    )
    out = {name: np.empty(shape, kind) for name, (kind, shape) in self._maker.arrays.items()}
    self._maker.render(self._maker.read(row, place // n), row, place // n, out)
    return out


def ratios(source: Split, jpegs: list[bytes], seconds: float, only: str) -> None:
  """Prints one line per setting, of one worker: two on the threads of one core would slow each
  other down, and decoding alone is measured in one process. It is measured before and after."""
  for name, (clip, augment) in SETTINGS.items():
    if not fnmatch.fnmatch(name, only):
      continue
    alone = [decode_rate(jpegs, seconds / 2)]
    rate = measure(train(source, clip, augment, 1), seconds)
    alone = sum([*alone, decode_rate(jpegs, seconds / 2)]) / 2 / clip.num_frames
    print(
      f'{name:42} {rate.per_cpu_s:7.1f} clips per CPU-second   decoding alone {alone:7.1f}   '
      f'ratio {rate.per_cpu_s / alone:.2f}   here {rate.here:.3f}',
      flush=True,
    )


def scaling(source: Split, jpegs: list[bytes], recipe: str, seconds: float, wanted: float) -> None:
  """Prints one line for every number of workers, and the cores for `wanted` clips/s."""
  clip, augment = of_config(recipe)
  alone = decode_rate(jpegs, seconds) / clip.num_frames
  print(f'{recipe}: {clip}, {augment}')
  print(f'decoding alone: {alone:.1f} clips per CPU-second (of {clip.num_frames} frames)')
  cores, one, count, rate = workers.usable_cores(), 0.0, 1, None
  while count <= cores:
    rate = measure(train(source, clip, augment, count, batch=16), seconds)
    one = one or rate.per_s
    print(
      f'{count:3} workers: {rate.per_s:7.1f} clips/s, {rate.per_s / one / count:.2f} of linear; '
      f'{rate.per_cpu_s:.1f} per CPU-second ({rate.per_cpu_s / alone:.2f} of decoding alone); '
      f'here {rate.here:.3f} of a core; {rate.read / 1e3:.0f} kB read a clip; first batch after '
      f'{rate.first_s:.1f} s; {rate.mib:.0f} MiB a worker',
      flush=True,
    )
    count = cores if count < cores < 2 * count else 2 * count
  assert rate is not None
  most = rate.per_s / rate.here
  print(f'this process alone would bound a host to {most:.0f} clips/s')
  print(
    f'{wanted:.0f} clips/s need {wanted / rate.per_cpu_s:.0f} cores like these'
    + (f', on {-(-wanted // most):.0f} hosts at least' if wanted > most else ' on one host')
  )


def of_config(recipe: str) -> tuple[ClipConfig, AugmentConfig]:
  """Returns clip and augmentation of a config file, such as 'configs/mae_k400.py:variant=L'."""
  import importlib

  from vjax.config import parse

  path, _, argument = recipe.partition(':')
  module = importlib.import_module(path.removesuffix('.py').replace('/', '.'))
  config = parse(module.get_config(argument))
  (dataset,) = config.datasets.values()
  return dataset.clip, dataset.augment


def beside_grain(source: Split, seconds: float, only: str) -> None:
  """Prints the speed of grain's workers and of ours, in turn, for the same clips."""
  count = workers.usable_cores()
  for name, (clip, augment) in SETTINGS.items():
    if not fnmatch.fnmatch(name, only):
      continue
    peer, ours = by_grain(source, clip, augment, count), train(source, clip, augment, count)
    for a, b in zip(itertools.islice(peer(), 3), ours()):
      np.testing.assert_array_equal(a['video'].reshape(b['video'].shape), b['video'])
    found = {'grain': measure(peer, seconds), 'vjax': measure(ours, seconds)}
    for whose, rate in found.items():
      print(
        f'{name:42} {whose:5} {rate.per_s:7.1f} clips/s {rate.per_cpu_s:7.1f} per CPU-second; '
        f'here {rate.here:.3f}; first batch {rate.first_s:.1f} s; {rate.mib:.0f} MiB a worker',
        flush=True,
      )
    print(f'{name:42} ratio {found["vjax"].per_cpu_s / found["grain"].per_cpu_s:.2f}', flush=True)


def waiting(source: Split, seconds: float, only: str) -> None:
  """Prints the share of the time that a training waits for data, where a step takes twice the time
  of its batch."""
  count = workers.usable_cores()
  for name, (clip, augment) in SETTINGS.items():
    if not fnmatch.fnmatch(name, only):
      continue
    make = train(source, clip, augment, count)
    step = 2 * 8 * clip.num_repeats / measure(make, seconds).per_s
    batches, waited = make(), 0.0
    for _ in range(3):  # the workers begin
      next(batches)
      time.sleep(step)
    begun = time.monotonic()
    while time.monotonic() < begun + max(seconds, 5 * step):
      asked = time.monotonic()
      next(batches)
      waited += time.monotonic() - asked
      time.sleep(step)
    share = waited / (time.monotonic() - begun)
    print(f'{name:42} steps of {step:.2f} s: {share:.1%} of the time waiting for data', flush=True)


def resizing(source: Split, jpegs: list[bytes], videos: int = 12) -> None:
  """Prints the speed of crops on the host, exact and fast, of that of decoding as many frames. All
  three are made in turn, video by video, so that other work counts for each alike."""
  memory = np.empty((256, 340, 3), np.uint8)
  for name, (clip, augment) in SETTINGS.items():
    if augment.resize_quality != 'fast':
      continue
    both = (dataclasses.replace(augment, resize_quality=q) for q in ('exact', 'fast'))
    makers = [clips.TrainClips(source, SPEC.flip, clip, one, 0) for one in both]
    out = {key: np.ones(shape, kind) for key, (kind, shape) in makers[0].arrays.items()}
    found = []
    for number in range(videos + 2):
      row, seconds = number % source.num_clips, []
      for maker in makers:
        begun = time.thread_time()
        maker.render(maker.read(row, number), row, number, out)
        seconds.append(time.thread_time() - begun)
      begun = time.thread_time()
      for t in range(clip.num_frames * clip.num_repeats):
        image.decode(jpegs[t % len(jpegs)], memory)
      alone = time.thread_time() - begun
      found.append((alone / seconds[0], alone / seconds[1], seconds[0] / seconds[1]))
    exact, fast, gain = np.median(found[2:], axis=0)
    print(
      f'{name:42} exact {exact:.2f} of decoding alone, fast {fast:.2f}, fast / exact {gain:.2f}',
      flush=True,
    )


def parts(source: Split, recipe: str = 'configs/mae_k400.py', videos: int = 16) -> None:
  """Prints the milliseconds of a thread that parts of the work on a video take."""
  clip, augment = of_config(recipe)
  maker = clips.TrainClips(source, SPEC.flip, clip, augment, 0)
  out = {key: np.ones(shape, kind) for key, (kind, shape) in maker.arrays.items()}
  spent: dict[str, float] = {}

  def timed(what: str, function: Callable) -> Callable:
    def call(*args: Any) -> Any:
      begun = time.thread_time()
      result = function(*args)
      spent[what] = spent.get(what, 0) + time.thread_time() - begun
      return result

    return call

  places = {
    'decoding': (image, 'decode'), 'reading': (os, 'pread'), 'checksums': (tfrecord, 'masked_crc'),
    'drawing': (augments, 'draw'), 'copies': (augments, 'place'),
  }  # fmt: skip
  with contextlib.ExitStack() as stack:
    for what, (module, name) in places.items():
      patch = unittest.mock.patch.object(module, name, timed(what, getattr(module, name)))
      stack.enter_context(patch)
    for number in range(videos + 2):
      if number == 2:
        spent.clear()
        begun = time.thread_time()
      row = number % source.num_clips
      maker.render(maker.read(row, number), row, number, out)
    spent['rest'] = time.thread_time() - begun - sum(spent.values())
  line = ', '.join(f'{what} {1e3 * s / videos:.2f}' for what, s in spent.items())
  print(f'{recipe}, ms a video: {line}')


def memory(source: Split, epochs: int) -> None:
  """Prints memory after each epoch of the first setting, of this process and of a worker, and draws
  both."""
  from matplotlib.figure import Figure

  clip, augment = next(iter(SETTINGS.values()))
  before, count = _children(), workers.usable_cores()
  batches = train(source, clip, augment, count)()
  mib = resource.getpagesize() / 2**20
  resident = lambda: int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * mib
  seen: dict[str, list[float]] = {'training process': [], 'a worker': []}
  for epoch in range(epochs):
    for _ in range(source.num_clips // 8):
      next(batches)
    mine = _children() - before
    seen['training process'].append(resident())
    seen['a worker'].append(max(map(_own_mib, mine)))
    print(f'epoch {epoch + 1}: ' + ', '.join(f'{k} {v[-1]:.0f} MiB' for k, v in seen.items()))
  figure = Figure(figsize=(5, 2.5), layout='constrained')
  axes = figure.subplots()
  for name, values in seen.items():
    axes.plot(range(1, epochs + 1), values, marker='o', label=name)
  axes.set(xlabel='epoch', ylabel='memory, MiB', ylim=(0, max(map(max, seen.values())) * 1.2))
  axes.legend()
  figure.savefig('docs/input_memory.png', dpi=110)


def main() -> None:
  parser = argparse.ArgumentParser(description='Input pipeline against raw JPEG decoding.')
  parser.add_argument('--seconds', type=float, default=10.0, help='of each measurement')
  parser.add_argument('--only', default='*', help='settings whose name fits this pattern')
  parser.add_argument('--recipe', default='', help='config whose clips are made, instead')
  parser.add_argument('--rate', type=float, default=2000, help='clips/s, with --recipe')
  parser.add_argument('--grain', action='store_true', help="grain's workers beside ours, instead")
  parser.add_argument('--step', action='store_true', help='waiting for data, instead')
  parser.add_argument('--resizing', action='store_true', help='exact and fast in turn, instead')
  parser.add_argument('--parts', action='store_true', help='time beside decoding, instead')
  parser.add_argument('--epochs', type=int, default=0, help='memory after each epoch, instead')
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as root:
    folder = pathlib.Path(root) / 'bench'
    folder.mkdir()
    jpegs = make_videos(folder)
    source = open_split(root, SPEC, 'train')
    size = sum(map(len, jpegs)) / len(jpegs) / 1024
    print(f'{workers.usable_cores()} cores, frames of 256x340 px and {size:.0f} KiB')
    if args.recipe:
      scaling(source, jpegs, args.recipe, args.seconds, args.rate)
    elif args.grain:
      beside_grain(source, args.seconds, args.only)
    elif args.step:
      waiting(source, args.seconds, args.only)
    elif args.resizing:
      resizing(source, jpegs)
    elif args.parts:
      parts(source)
    elif args.epochs:
      memory(source, args.epochs)
    else:
      ratios(source, jpegs, args.seconds, args.only)


if __name__ == '__main__':
  main()
