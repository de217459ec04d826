"""Small datasets for tests: records built with tf.train.SequenceExample, so that they are what
DMVR writes."""

import json
import pathlib

import numpy as np

from vjax.data.index import write_index
from vjax.data.manifest import write_scanned


def frame(video: int, t: int, height: int, width: int) -> np.ndarray:
  """A smooth picture that tells video, time and place: red rises with t, green with x, blue with
  video."""
  image = np.zeros((height, width, 3), np.uint8)
  image[..., 0] = 10 + 8 * t
  image[..., 1] = np.linspace(20, 230, width).astype(np.uint8)
  image[..., 2] = 20 + 12 * (video % 16)
  return image


def example(
  video: int, frames: int, height: int, width: int, labels: dict[str, list[int]], rate: float = 0.0
):
  """A SequenceExample; labels by label space, '' is the main one."""
  import tensorflow as tf

  record = tf.train.SequenceExample()
  for t in range(frames):
    jpeg = tf.io.encode_jpeg(frame(video, t, height, width), quality=95).numpy()
    record.feature_lists.feature_list['image/encoded'].feature.add().bytes_list.value.append(jpeg)
  context = record.context.feature
  for space, values in labels.items():
    key = f'clip/label/{space}/' if space else 'clip/label/'
    context[f'{key}index'].int64_list.value.extend(values)
    context[f'{key}text'].bytes_list.value.extend(
      [f'{space or "class"} {v}'.encode() for v in values]
    )
  context['video/filename'].bytes_list.value.append(f'v{video}.mp4'.encode())
  context['clip/start/timestamp'].int64_list.value.append(0)
  context['clip/end/timestamp'].int64_list.value.append(2_000_000)
  if rate:
    context['image/frame_rate'].float_list.value.append(rate)
  return record


def folder(path: pathlib.Path, videos: list, split: str = 'train', shards: int = 2) -> str:
  """Shards, index and manifest of `videos` (tf messages) under path; the videos are dealt to the
  shards in order."""
  import tensorflow as tf

  path.mkdir(parents=True, exist_ok=True)
  for s, part in enumerate(np.array_split(np.arange(len(videos)), shards)):
    with tf.io.TFRecordWriter(str(path / f'{split}-{s:05}-of-{shards:05}.tfrecord')) as writer:
      for i in part:
        writer.write(videos[i].SerializeToString())
  write_index(str(path), split)
  (path / 'manifest.json').unlink(missing_ok=True)
  write_scanned(str(path))
  return str(path)


def dataset(path: pathlib.Path, clips: int = 11, frames: int = 10, shards: int = 3, **sizes) -> str:
  """`clips` videos of 40x56 px (every third 56x40), label = number modulo 4, label spaces 'even' and the
  main one."""
  height, width = sizes.get('height', 40), sizes.get('width', 56)
  videos = []
  for v in range(clips):
    h, w = (width, height) if v % 3 == 2 else (height, width)
    videos.append(example(v, frames + v % 2, h, w, {'': [v % 4], 'even': [v % 2]}, rate=30.0))
  return folder(path, videos, shards=shards)


def manifest(path) -> dict:
  """The manifest in a folder."""
  return json.loads((pathlib.Path(path) / 'manifest.json').read_text())
