"""Records as other tools write them: small, of few frames, made without TensorFlow."""

import pathlib

import numpy as np
import simplejpeg

from vjax.data import sequence_example, tfrecord


def jpeg(value: int) -> bytes:
  """A flat picture of 16x16 px."""
  return simplejpeg.encode_jpeg(np.full((16, 16, 3), value, np.uint8))


def record(
  number: int, label: int | list[int], text: str | list[str] = '', frames=3, **more
) -> bytes:
  """A clip whose frames tell its number; text '' = without names. more: features, '__' for '/'."""
  context = {'clip/label/index': [label] if isinstance(label, int) else label}
  if text:
    context['clip/label/text'] = [text] if isinstance(text, str) else text
  context |= {key.replace('__', '/'): value for key, value in more.items()}
  pictures = [[jpeg(20 * number % 200 + 8 * t)] for t in range(frames)]
  return sequence_example.encode(context, {'image/encoded': pictures})


def write(folder: pathlib.Path, name: str, records: list[bytes]) -> pathlib.Path:
  """A file of records; returns the folder."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / name).write_bytes(b''.join(map(tfrecord.encode, records)))
  return folder


def two_splits(folder: pathlib.Path, train: list[bytes], val: list[bytes]) -> pathlib.Path:
  """Splits train and val of one shard each."""
  write(folder, 'train-00000-of-00001', train)
  return write(folder, 'val-00000-of-00001', val)
