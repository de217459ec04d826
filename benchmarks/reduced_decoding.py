"""Decoding of JPEG frames at a half of their size, and records of smaller or coarser frames: clips
per CPU-second, and how far the pixels of the crops are from the original's.

  python -m benchmarks.reduced_decoding [--seconds=2 --rounds=5]       augment.decode, from 256 px
  python -m benchmarks.reduced_decoding --stored [--rounds=3]          stored sides and qualities

Frames are made here, with the statistics of photographs: discs of all sizes that hide each other
(dead leaves, Lee et al. 2001), texture of all sizes, and grain. The original is a frame of 256x340
px before JPEG. Decoding alone is the pipeline's own decoder on the frames of a clip, whole, into
the same memory, and nothing else. Settings of a table are measured in turn, `rounds` times; a ratio
is the median over rounds of the ratio within a round. CPU-seconds are those of this process.

Decibels are peak signal-to-noise ratios, 10 log10(255^2 / mean squared error), of the crops without
mirroring. The best crop is of means of the window's pixels (area resize), without aliasing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from vjax.config import AugmentConfig, ClipConfig, ViewsConfig
from vjax.data import augment as augments
from vjax.data import image, pipeline
from vjax.data.index import write_index
from vjax.data.manifest import write_scanned
from vjax.data.specs import DatasetSpec
from vjax.data.split import Split, open_split
from vjax.data.video_file import stored_size

SPEC = DatasetSpec(name='bench', num_classes=4)
HEIGHT, WIDTH = 256, 340
CROP_112 = ClipConfig(
  num_frames=32, frame_stride=1, crop_size=112, short_side=128, sampling='consecutive'
)
CROP_224 = ClipConfig(
  num_frames=16, frame_stride=4, crop_size=224, short_side=256, sampling='linspace'
)
FIXED = AugmentConfig(crop='fixed', size=(128, 171))
SETTINGS = {
  '112 px of 128x171': (CROP_112, FIXED),
  '112 px, short side 128-160': (CROP_112, AugmentConfig(crop='jitter', short_side=(128, 160))),
  '224 px, random resized crop': (CROP_224, AugmentConfig(area=(0.5, 1.0))),
  '224 px, short side 256-320': (CROP_224, AugmentConfig(crop='jitter')),
}
STORED_SIDES, QUALITIES = (256, 128, 112), (95, 85, 75)


def leaves(rng: np.random.Generator) -> np.ndarray:
  """Returns a frame (HEIGHT, WIDTH, 3) uint8: discs, smallest most frequent, texture and grain."""
  height, width = 2 * HEIGHT, 2 * WIDTH  # drawn at twice the size, so that edges are not jagged
  frame = np.zeros((height, width, 3), np.uint8)
  for _ in range(1500):
    radius = int(min(12 / np.sqrt(rng.uniform(1e-3, 1)), 240))  # density of radii ~ radius^-3
    center = int(rng.integers(width)), int(rng.integers(height))
    shade = rng.uniform(20, 235) + rng.normal(0, 25, 3)
    cv2.circle(frame, center, radius, np.clip(shade, 0, 255).tolist(), -1)
  pixels = frame.astype(np.float32)
  for octave in range(1, 7):
    n = 2**octave
    noise = rng.normal(0, octave, (height // n + 1, width // n + 1, 1)).astype(np.float32)
    pixels += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
  pixels = cv2.resize(pixels, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
  pixels += rng.normal(0, 1, pixels.shape).astype(np.float32)
  return np.clip(pixels, 0, 255).astype(np.uint8)


def stored(frame: np.ndarray, side: int, quality: int) -> bytes:
  """Returns the JPEG that data_prep.write stores of a frame with its --short_side and --quality."""
  import av
  import simplejpeg

  width, height = stored_size(frame.shape[1], frame.shape[0], side)
  video = av.VideoFrame.from_ndarray(frame, 'rgb24')
  pixels = video.reformat(width, height, 'rgb24', interpolation='BICUBIC').to_ndarray()
  return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, 'RGB', '420')


def write_records(folder: pathlib.Path, jpegs: list[bytes], videos: int = 8) -> Split:
  """Writes records of 64 frames each to a new folder; the opened split."""
  import tensorflow as tf

  target = folder / SPEC.name
  target.mkdir(parents=True)
  with tf.io.TFRecordWriter(str(target / 'train-00000-of-00001.tfrecord')) as writer:
    for v in range(videos):
      record = tf.train.SequenceExample()
      record.context.feature['clip/label/index'].int64_list.value.append(v % SPEC.num_classes)
      frames = record.feature_lists.feature_list['image/encoded'].feature
      for t in range(64):
        frames.add().bytes_list.value.append(jpegs[(v + t) % len(jpegs)])
      writer.write(record.SerializeToString())
  write_index(str(target), 'train')
  write_scanned(str(target))
  return open_split(str(folder), SPEC, 'train')


def _rate(counts: Iterator[int], seconds: float, warm: int) -> float:
  """Returns the sum of counts per CPU-second, after the first `warm`."""
  for _ in range(warm):
    next(counts)
  done, start = 0, time.process_time()
  while time.process_time() < start + seconds:
    done += next(counts)
  return done / (time.process_time() - start)


def clips_per_second(
  source: Split, clip: ClipConfig, augment: AugmentConfig, seconds: float
) -> float:
  """Returns the training clips per CPU-second of the pipeline."""
  places = dict(seed=0, start_step=0, host=0, hosts=1)
  batches = pipeline.train_batches(source, SPEC, clip, augment, batch=4, workers=0, **places)
  try:
    return _rate((len(batch['valid']) for batch in batches), seconds, warm=8)
  finally:
    batches.close()  # type: ignore[attr-defined]


def test_clips_per_second(source: Split, clip: ViewsConfig, seconds: float) -> float:
  """Returns the test clips per CPU-second of the pipeline."""
  one = partial(pipeline.eval_batches, source, SPEC, clip, batch=4, host=0, hosts=1, workers=0)
  passes = (one() for _ in itertools.count())
  counts = (int(batch['valid'].sum()) for batch in itertools.chain.from_iterable(passes))
  return _rate(counts, seconds, warm=2)


def frames_per_second(jpegs: list[bytes], seconds: float) -> float:
  """Returns the frames per CPU-second that are decoded whole, and nothing else."""
  height, width = image.image_size(jpegs[0])
  memory = np.empty((height, width, 3), np.uint8)
  counts = (len(image.decode(jpeg, memory)) // height for jpeg in itertools.cycle(jpegs))
  return _rate(counts, seconds, warm=50)


class Crops(NamedTuple):
  """Crops (N, crop, crop, 3) of the same draws.

  Attributes:
    made: as the pipeline makes them of JPEGs.
    full: of JPEGs that are decoded whole.
    same: likewise, of the windows whose edges were rounded for reduced decoding.
    best: means of the pixels of those windows.
    original: means of the pixels of the original at the same places.
  """

  made: np.ndarray
  full: np.ndarray
  same: np.ndarray
  best: np.ndarray
  original: np.ndarray


def crops(
  originals: list[np.ndarray], jpegs: list[bytes], clip: ClipConfig, augment: AugmentConfig
) -> tuple[Crops, float]:
  """Returns eight crops of every frame, and the share of reduced ones."""
  crop, plain, found, divisors = clip.crop_size, replace(augment, flip=0.0), [], []
  for i, (original, jpeg) in enumerate(zip(originals, jpegs)):
    whole = image.decode(jpeg)
    fine = original.repeat(8, axis=0).repeat(8, axis=1)  # windows of an eighth of a pixel
    scale = np.tile(np.array(fine.shape[:2]) / whole.shape[:2], 2)
    for k in range(8):
      drawn = _plan([i, k], plain, clip, whole)
      (plan,), divisor = augments.reduce(plain, [drawn], crop, whole.shape[0], whole.shape[1])
      there = drawn._replace(window=plan.window * divisor)
      found.append(
        (
          _made(image.decode(jpeg, divisor=divisor), plan, plain, crop),
          _made(whole, drawn, plain, crop),
          _made(whole, there, plain, crop),
          _area(whole, there.window, crop),
          _area(fine, np.round(there.window * scale).astype(int), crop),
        )
      )
      divisors.append(divisor)
  return Crops(*(np.stack(part) for part in zip(*found))), np.mean(np.array(divisors) > 1).item()


def _plan(
  seed: list[int], augment: AugmentConfig, clip: ClipConfig, frame: np.ndarray
) -> augments.Plan:
  rng = np.random.default_rng(seed)
  return augments.draw(rng, augment, clip, frame.shape[0], frame.shape[1], flip=False)


def _made(frame: np.ndarray, plan: augments.Plan, augment: AugmentConfig, crop: int) -> np.ndarray:
  out = np.empty((crop, crop, 3), np.uint8)
  augments.render(frame, plan, augment, 0, out)
  return out


def _area(frame: np.ndarray, window: np.ndarray, crop: int) -> np.ndarray:
  y, x, h, w = window
  return cv2.resize(frame[y : y + h, x : x + w], (crop, crop), interpolation=cv2.INTER_AREA)


def decibels(a: np.ndarray, b: np.ndarray) -> float:
  """Returns the peak signal-to-noise ratio; infinite for equal pixels."""
  error = np.square(a.astype(np.float64) - b).mean()
  return 10 * np.log10(255**2 / error) if error else np.inf


def rounds_of(measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
  """Returns what each measure gave in every round; all take their turn within a round."""
  found = {name: [] for name in measures}
  for _ in range(rounds):
    for name, measure in measures.items():
      found[name].append(measure())
  return found


def ratio(a: list[float], b: list[float]) -> float:
  """Returns the median over rounds of a / b."""
  return statistics.median(x / y for x, y in zip(a, b))


def reduced(root: pathlib.Path, originals: list[np.ndarray], seconds: float, rounds: int) -> None:
  """Prints one row per setting: speed and pixels with `decode` 'reduced' and 'full'."""
  jpegs = [stored(frame, HEIGHT, 95) for frame in originals]
  source = write_records(root / 'full', jpegs)
  print(
    f'{len(originals)} frames of {HEIGHT}x{WIDTH} px, quality 95, '
    f'{statistics.mean(map(len, jpegs)) / 1024:.0f} KiB each\n'
  )
  print(
    '| | reduced clips | full, clips per CPU-s | reduced | reduced / full | full / decoding alone '
    '| reduced / decoding alone | full to reduced, dB | the same windows, dB | mean difference | '
    'full to best, dB | reduced to best, dB |'
  )
  print('|' + ' --- |' * 12)
  alone = lambda: frames_per_second(jpegs, seconds / 2)
  for name, (clip, augment) in SETTINGS.items():
    half = replace(augment, decode='reduced')
    measures = {
      'full': partial(clips_per_second, source, clip, augment, seconds),
      'reduced': partial(clips_per_second, source, clip, half, seconds),
      'alone': alone,
    }
    cut, share = crops(originals, jpegs, clip, half)
    _row(name, share, rounds_of(measures, rounds), clip.num_frames, cut)
  views = ViewsConfig(**vars(CROP_112))
  measures = {
    'full': partial(test_clips_per_second, source, views, seconds),
    'reduced': partial(test_clips_per_second, source, replace(views, decode='reduced'), seconds),
    'alone': alone,
  }
  found = rounds_of(measures, rounds)
  _row(
    '112 px, test view of short side 128', 1.0, found, views.num_frames, test_crops(jpegs, views)
  )


def test_crops(jpegs: list[bytes], views: ViewsConfig) -> Crops:
  """Returns the center crop of every frame; the original counts as decoded."""
  scaled, ((y, x),) = augments.test_crops(views, HEIGHT, WIDTH, None)
  center = lambda frame: frame[y : y + views.crop[0], x : x + views.crop[1]]
  divisor = augments.test_divisor(replace(views, decode='reduced'), HEIGHT, WIDTH, None)
  whole = [image.decode(jpeg) for jpeg in jpegs]
  half = [image.decode(jpeg, divisor=divisor) for jpeg in jpegs]
  made = np.stack([center(augments.resize(frame, *scaled)) for frame in half])
  full = np.stack([center(augments.resize(frame, *scaled)) for frame in whole])
  area = lambda frame: cv2.resize(frame, scaled[::-1], interpolation=cv2.INTER_AREA)
  best = np.stack([center(area(frame)) for frame in whole])
  return Crops(made, full, full, best, best)


def _row(name: str, share: float, found: dict[str, list[float]], frames: int, cut: Crops) -> None:
  """Prints a row of the table. frames: of a clip."""
  alone = [rate / frames for rate in found['alone']]
  values = [f'{100 * share:.0f} %']
  values += [f'{statistics.median(found[key]):.1f}' for key in ('full', 'reduced')]
  pairs = (found['reduced'], found['full']), (found['full'], alone), (found['reduced'], alone)
  values += [f'{ratio(a, b):.2f}' for a, b in pairs]
  pairs = (cut.made, cut.full), (cut.made, cut.same)
  values += [f'{decibels(a, b):.1f}' for a, b in pairs]
  values += [f'{np.abs(cut.made.astype(int) - cut.same).mean():.2f}']
  values += [f'{decibels(a, cut.best):.1f}' for a in (cut.same, cut.made)]
  print(f'| {name} | {" | ".join(values)} |', flush=True)


def sizes(root: pathlib.Path, originals: list[np.ndarray], seconds: float, rounds: int) -> None:
  """Prints one row per stored side, quality and setting, against 112 px crops of whole frames of
  256 px and quality 95."""
  half = replace(FIXED, decode='reduced')
  recipes = {'112 px of 128x171': (CROP_112, FIXED), '112 px, reduced': (CROP_112, half)}
  large = {name: setting for name, setting in SETTINGS.items() if name.startswith('224')}
  jpegs, settings, measures = {}, {}, {}
  for side, quality in itertools.product(STORED_SIDES, QUALITIES):
    encoded = [stored(frame, side, quality) for frame in originals]
    source = write_records(root / f'{side}-{quality}', encoded)
    used = {**recipes, **large} if side == HEIGHT else dict(recipes)
    if side < FIXED.size[0]:
      del used['112 px, reduced']  # it would do nothing: windows are smaller than crops
    for name, (clip, augment) in used.items():
      key = f'{side} | {quality} | {name}'
      jpegs[key], settings[key] = encoded, (clip, augment)
      measures[key] = partial(clips_per_second, source, clip, augment, seconds)
  first = next(iter(settings))
  measures['alone'] = partial(frames_per_second, jpegs[first], seconds)
  found = rounds_of(measures, rounds)
  print(
    '| stored side | quality | crops | bytes a frame | clips per CPU-s | to the first row | to '
    'decoding alone, 256 px, 95 | to the original, dB |'
  )
  print('|' + ' --- |' * 8)
  for name, (clip, augment) in settings.items():
    cut, _ = crops(originals, jpegs[name], clip, augment)
    alone = [rate / clip.num_frames for rate in found['alone']]
    values = [f'{statistics.mean(map(len, jpegs[name])):.0f}']
    values += [f'{statistics.median(found[name]):.1f}']
    values += [
      f'{ratio(found[name], found[first]):.2f}' if clip is CROP_112 else '',
      f'{ratio(found[name], alone):.2f}',
      f'{decibels(cut.made, cut.original):.1f}',
    ]
    print(f'| {name} | {" | ".join(values)} |', flush=True)


def main() -> None:
  parser = argparse.ArgumentParser(description='Reduced decoding, and smaller records.')
  parser.add_argument('--stored', action='store_true', help='stored sides and qualities instead')
  parser.add_argument('--seconds', type=float, default=2.0, help='CPU-seconds per measurement')
  parser.add_argument('--rounds', type=int, default=5)
  args = parser.parse_args()
  print(f'{os.cpu_count()} cores')
  rng = np.random.default_rng(0)
  originals = [leaves(rng) for _ in range(24)]
  with tempfile.TemporaryDirectory() as folder:
    table = sizes if args.stored else reduced
    table(pathlib.Path(folder), originals, args.seconds, args.rounds)


if __name__ == '__main__':
  main()
