"""Small sets of records to damage, and what must be said of them."""

import dataclasses
import functools
import itertools
import pathlib

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.data import make
from vjax.config import AugmentConfig, ViewsConfig
from vjax.data import pipeline, sequence_example, tfrecord
from vjax.data.index import write_index
from vjax.data.manifest import write_scanned
from vjax.data.specs import DatasetSpec
from vjax.data.split import open_split

SPEC = DatasetSpec(name='set', num_classes=0)
MANY = dataclasses.replace(SPEC, labels='multi_label')
CLIP = ViewsConfig(num_frames=2, frame_stride=1, crop_size=16, short_side=16, sampling='dense')
HEADER = 12  # bytes of length and its checksum
quick = settings(
  deadline=None,
  max_examples=60,
  derandomize=True,
  database=None,
  suppress_health_check=list(HealthCheck),
)


def train(source, spec=SPEC, clip=CLIP, steps=2):
  batches = pipeline.train_batches(
    source, spec, clip, AugmentConfig(), batch=2, seed=0, start_step=0, host=0, hosts=1
  )
  return list(itertools.islice(batches, steps))


def evaluate(source, spec=SPEC, clip=CLIP):
  return list(pipeline.eval_batches(source, spec, clip, batch=2, host=0, hosts=1))


@functools.cache
def jpeg(video: int, height: int = 24, width: int = 32) -> bytes:
  import tensorflow as tf

  return tf.io.encode_jpeg(make.frame(video, 0, height, width)).numpy()


def write_set(path: pathlib.Path, shards: list[list[bytes]]) -> pathlib.Path:
  """Shards of these payloads, with right checksums, index and manifest."""
  path.mkdir()
  for s, payloads in enumerate(shards):
    (path / f'train-{s:05}-of-{len(shards):05}.tfrecord').write_bytes(
      b''.join(map(tfrecord.encode, payloads))
    )
  write_index(str(path), 'train')
  write_scanned(str(path))
  return path


def clip(video: int, frames: list | None = None, **context) -> bytes:
  """A serialized clip of frames of one size; context: more features, '__' for '/'."""
  values = {'clip/label/index': [video % 4], 'video/filename': [f'v{video}.mp4']}
  values |= {key.replace('__', '/'): value for key, value in context.items()}
  return sequence_example.encode(
    values, {'image/encoded': [[f] for f in ([jpeg(video)] if frames is None else frames)]}
  )


def shard(folder, number=0, total=2) -> pathlib.Path:
  return folder / f'train-{number:05}-of-{total:05}.tfrecord'


def open_set(folder, spec=SPEC):
  return open_split(str(folder.parent), spec, 'train')


def flip(path: pathlib.Path, at: int, bit: int = 1) -> bytes:
  """Flips a bit of the file; returns what the file was."""
  whole = path.read_bytes()
  path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
  return whole


def refused(folder, *words, spec=SPEC, clip=CLIP):
  """Training and evaluation both stop with a ValueError that has all the words."""
  for read in (train, evaluate):
    with pytest.raises(ValueError) as e:
      read(open_set(folder, spec), spec, clip)
    assert all(word in str(e.value) for word in words), e.value


def change_columns(folder, **columns) -> None:
  """Writes the index again with these columns, without those that are None."""
  path = folder / 'train.index.npz'
  with np.load(path) as arrays:
    new = {name: arrays[name] for name in arrays.files} | columns
  np.savez(path, **{name: values for name, values in new.items() if values is not None})
