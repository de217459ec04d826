"""Published models' outputs for known weights: tests/golden/*.json.gz, and the rule that makes
weights and inputs.

No weights are stored: every tensor is a function of its name in the original's state dict and of
its shape (PCG64 seeded with the CRC-32 of the name, standard normal float32; the last part of the
name picks scale and offset).
"""

import gzip
import json
import math
import pathlib
import zlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent / 'golden'


def load(name: str) -> dict:
  """The fixture tests/golden/<name>.json.gz."""
  with gzip.open(FOLDER / f'{name}.json.gz') as f:
    return json.load(f)


def normal(key: str, shape) -> np.ndarray:
  generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
  return generator.standard_normal(tuple(shape), dtype=np.float32)


def weight(name: str, shape) -> np.ndarray:
  """The tensor that the original holds under `name`."""
  f, x, last = np.float32, normal(name, shape), name.split('.')[-1]
  if last == 'num_batches_tracked':
    return np.zeros(shape, np.int64)
  if last == 'running_var':
    return f(1) + f(0.1) * np.abs(x)
  if last == 'running_mean':
    return f(0.1) * x
  if last == 'bias':
    return f(0.05) * x
  if 'pos_embed' in last or 'rel_pos' in last or last.endswith('token'):
    return f(0.1) * x
  if len(shape) <= 1:  # norm scales
    return f(1) + f(0.1) * x
  gain = 2.0 if 'inception' in name else 1.0
  return f(math.sqrt(gain / math.prod(shape[1:]))) * x


def weights(fixture: dict) -> dict[str, np.ndarray]:
  """The whole state dict of a fixture."""
  return {name: weight(name, shape) for name, shape in fixture['state_dict']}


def model_input(shape) -> np.ndarray:
  """The fixture's input in the original's layout (N, C, T, H, W unless it says otherwise)."""
  return normal('input:' + str(tuple(int(s) for s in shape)), shape)
