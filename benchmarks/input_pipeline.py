"""Clips per CPU-second of the input pipeline against the rate at which this machine decodes the
same JPEG frames.

  python -m benchmarks.input_pipeline [--seconds=10]
  python -m benchmarks.input_pipeline --cores        clips per second on 1, 2, ... all cores
  python -m benchmarks.input_pipeline --epochs=10    memory after each epoch, and docs/input_memory.png

Videos are made here: 300 frames of 256x340 px, quality 95, smooth texture with grain. Decoding
alone is the pipeline's own decoder on the frames of a clip, into the same memory, and nothing
else. The bar: a ratio of 0.9. Ratios are of CPU-seconds of this process, so that other work on
the machine does not count."""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import resource
import tempfile
import time

import numpy as np

from vjax.config import AugmentConfig, ClipConfig
from vjax.data import image, pipeline
from vjax.data.index import write_index
from vjax.data.manifest import write_scanned
from vjax.data.split import open_split
from vjax.types import DatasetSpec

SETTINGS = {
  '16x4, 224 px, random resized crop': (
    ClipConfig(num_frames=16, frame_stride=4, crop_size=224, short_side=256, sampling='linspace'),
    AugmentConfig(area=(0.5, 1.0)),
  ),
  '16x4, 224 px, resized on the accelerator': (
    ClipConfig(num_frames=16, frame_stride=4, crop_size=224, short_side=256, sampling='linspace'),
    AugmentConfig(area=(0.5, 1.0), device_frame_size=(256, 340)),
  ),
  '16x4, 224 px, four repeats': (
    ClipConfig(
      num_frames=16,
      frame_stride=4,
      crop_size=224,
      short_side=256,
      sampling='linspace',
      num_repeats=4,
    ),
    AugmentConfig(area=(0.5, 1.0)),
  ),
  '16x4, 224 px, four repeats, accelerator': (
    ClipConfig(
      num_frames=16,
      frame_stride=4,
      crop_size=224,
      short_side=256,
      sampling='linspace',
      num_repeats=4,
    ),
    AugmentConfig(area=(0.5, 1.0), device_frame_size=(256, 340)),
  ),
  '32x2, 224 px, short side 256-320': (
    ClipConfig(num_frames=32, frame_stride=2, crop_size=224, short_side=256, sampling='dense'),
    AugmentConfig(crop='jitter'),
  ),
  '32x2, 224 px, short side, accelerator': (
    ClipConfig(num_frames=32, frame_stride=2, crop_size=224, short_side=256, sampling='dense'),
    AugmentConfig(crop='jitter', device_frame_size=(256, 340)),
  ),
  '32x1, 112 px of 128x171': (
    ClipConfig(
      num_frames=32, frame_stride=1, crop_size=112, short_side=128, sampling='consecutive'
    ),
    AugmentConfig(crop='fixed', size=(128, 171)),
  ),
  '32x1, 112 px of 128x171, accelerator': (
    ClipConfig(
      num_frames=32, frame_stride=1, crop_size=112, short_side=128, sampling='consecutive'
    ),
    AugmentConfig(crop='fixed', size=(128, 171), device_frame_size=(256, 340)),
  ),
  '16x4, 224 px, RandAugment and erasing': (
    ClipConfig(num_frames=16, frame_stride=4, crop_size=224, short_side=256, sampling='linspace'),
    AugmentConfig(area=(0.08, 1.0), rand_augment=2, random_erasing=0.25),
  ),
  '16x4, RandAugment and erasing, accelerator': (
    ClipConfig(num_frames=16, frame_stride=4, crop_size=224, short_side=256, sampling='linspace'),
    AugmentConfig(
      area=(0.08, 1.0), rand_augment=2, random_erasing=0.25, device_frame_size=(256, 340)
    ),
  ),
}


def make_videos(folder: pathlib.Path, videos: int = 32, frames: int = 300) -> list[bytes]:
  """Writes a dataset of `videos` records to the folder; some of its JPEG frames."""
  import tensorflow as tf

  rng = np.random.default_rng(0)
  with tf.io.TFRecordWriter(str(folder / 'train-00000-of-00001.tfrecord')) as writer:
    for v in range(videos):
      coarse = tf.image.resize(rng.uniform(0, 255, (32, 43, 3)), (256, 340))
      jpegs = []
      for _ in range(8):
        frame = np.clip(coarse + rng.normal(0, 4, (256, 340, 3)), 0, 255).astype(np.uint8)
        jpegs.append(tf.io.encode_jpeg(frame, quality=95).numpy())
      record = tf.train.SequenceExample()
      record.context.feature['clip/label/index'].int64_list.value.append(v % 4)
      for t in range(frames):
        record.feature_lists.feature_list['image/encoded'].feature.add().bytes_list.value.append(
          jpegs[t % 8]
        )
      writer.write(record.SerializeToString())
  write_index(str(folder), 'train')
  write_scanned(str(folder))
  return jpegs


def decode_rate(jpegs: list[bytes], seconds: float) -> float:
  """Whole frames per CPU-second that are decoded into the same memory, and nothing else."""
  memory = np.empty((256, 340, 3), np.uint8)
  return _rate(
    (len(image.decode(jpeg, memory)) // 256 for jpeg in itertools.cycle(jpegs)), seconds, warm=50
  )


def _rate(counts, seconds: float, warm: int, clock=time.process_time) -> float:
  for _ in range(warm):
    next(counts)
  done, start = 0, clock()
  while clock() < start + seconds:
    done += next(counts)
  return done / (clock() - start)


def _clips(source, spec, clip, augment):
  batches = pipeline.train_batches(
    source, spec, clip, augment, batch=8, seed=0, start_step=0, host=0, hosts=1
  )
  return (len(b['valid']) for b in batches)


def ratios(source, spec, jpegs: list[bytes], seconds: float) -> None:
  """Prints one line per setting."""
  for name, (clip, augment) in SETTINGS.items():
    raw = decode_rate(jpegs, seconds)
    rate = _rate(_clips(source, spec, clip, augment), seconds, warm=6)
    alone = raw / clip.num_frames
    print(
      f'{name:42} {rate:7.1f} clips per CPU-second   decoding alone {alone:7.1f}   ratio '
      f'{rate / alone:.2f}',
      flush=True,
    )


def cores(source, spec, seconds: float) -> None:
  """Prints clips per second of the first setting on 1, 2, ... cores: this process is pinned to
  them."""
  clip, augment = next(iter(SETTINGS.values()))
  every = sorted(os.sched_getaffinity(0))
  one, count = 0.0, 1
  while count <= len(every):
    os.sched_setaffinity(0, every[:count])
    rate = _rate(_clips(source, spec, clip, augment), seconds, warm=6, clock=time.monotonic)
    one = one or rate
    print(f'{count:3} cores: {rate:7.1f} clips/s, {rate / one / count:.2f} of linear', flush=True)
    count = len(every) if count < len(every) < 2 * count else 2 * count


def memory(source, spec, epochs: int) -> None:
  """Prints resident memory after each epoch of the first setting and draws it."""
  from matplotlib.figure import Figure

  clip, augment = next(iter(SETTINGS.values()))
  batches = pipeline.train_batches(
    source, spec, clip, augment, batch=8, seed=0, start_step=0, host=0, hosts=1
  )
  page = resource.getpagesize() / 2**20
  seen = []
  for epoch in range(epochs):
    for _ in range(source.num_clips // 8):
      next(batches)
    seen.append(int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * page)
    print(f'epoch {epoch + 1}: {seen[-1]:.0f} MiB', flush=True)
  figure = Figure(figsize=(5, 2.5), layout='constrained')
  axes = figure.subplots()
  axes.plot(range(1, epochs + 1), seen, marker='o')
  axes.set(xlabel='epoch', ylabel='resident memory, MiB', ylim=(0, max(seen) * 1.2))
  figure.savefig('docs/input_memory.png', dpi=110)


def main() -> None:
  parser = argparse.ArgumentParser(description='Input pipeline against raw JPEG decoding.')
  parser.add_argument('--seconds', type=float, default=10.0, help='CPU-seconds per line')
  parser.add_argument(
    '--cores', action='store_true', help='clips per second on 1, 2, ... cores instead'
  )
  parser.add_argument(
    '--epochs', type=int, default=0, help='memory after each of so many epochs instead'
  )
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as root:
    folder = pathlib.Path(root) / 'bench'
    folder.mkdir()
    jpegs = make_videos(folder)
    spec = DatasetSpec(name='bench', num_classes=4)
    source = open_split(root, spec, 'train')
    size = sum(map(len, jpegs)) / len(jpegs) / 1024
    print(f'{os.cpu_count()} cores, frames of 256x340 px and {size:.0f} KiB')
    if args.cores:
      cores(source, spec, args.seconds)
    elif args.epochs:
      memory(source, spec, args.epochs)
    else:
      ratios(source, spec, jpegs, args.seconds)


if __name__ == '__main__':
  main()
