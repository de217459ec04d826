"""The order of clips in an epoch: a permutation that is computed place by place, so that a run
resumes at any step and hosts share an epoch without a list of its order."""

from __future__ import annotations

import functools
import math

import numpy as np

_ROUNDS = 4  # of the cipher
_SMALLEST_BITS = 16  # of a block; permutations of smaller ones show patterns
_CONSTANT = 0xFFFFFFFC
_SEQUENCE = 0x7369F885192C0EF5
_PAD = 498247692  # first word of the key, before seed and epoch


def shuffled(place: np.ndarray, seed: int, epoch: np.ndarray, n: int) -> np.ndarray:
  """Returns the numbers, among n clips, of the clips at these places of their epochs.

  Every epoch is a permutation of its own: a Simon cipher of four rounds (Beaulieu et al. 2013) on
  blocks of the least even number of bits that hold n - 1, applied until the result is below n.
  Equal to tf.random.experimental.index_shuffle with the seed (seed, epoch).

  Args:
    place: (...) in [0, n).
    seed: of the run.
    epoch: (...) of each place.
    n: clips.
  """
  place, epoch = np.broadcast_arrays(np.asarray(place, np.int64), np.asarray(epoch, np.int64))
  result = np.empty(place.shape, np.int64)
  for one in np.unique(epoch):
    here = epoch == one
    result[here] = _of_epoch(place[here], seed, int(one), n)
  return result


def _of_epoch(place: np.ndarray, seed: int, epoch: int, n: int) -> np.ndarray:
  if n <= 1 << _SMALLEST_BITS:
    return _small(seed, epoch, n)[place]
  bits = math.ceil(math.log2(n - 1))
  word = (bits + bits % 2) // 2
  keys = _round_keys(seed, epoch, word)
  found, todo = place.astype(np.uint64), np.ones(place.shape, bool)
  while todo.any():
    found[todo] = _encrypted(found[todo], keys, word)
    todo[todo] = found[todo] >= n
  return found.astype(np.int64)


@functools.lru_cache(4)
def _small(seed: int, epoch: int, n: int) -> np.ndarray:
  """Returns the whole permutation of an epoch of few clips, whose walks through the block are
  long."""
  word = _SMALLEST_BITS // 2
  block = np.arange(1 << _SMALLEST_BITS, dtype=np.uint64)
  after = _encrypted(block, _round_keys(seed, epoch, word), word)
  end = np.where(block < n, block, after)  # of walks of one step, which are doubled until they end
  while (end[after[:n]] >= n).any():
    end = end[end]
  return end[after[:n]].astype(np.int64)


def _round_keys(seed: int, epoch: int, word: int) -> list[int]:
  """Returns the keys of the rounds, of `word` bits each."""
  mask = (1 << word) - 1
  keys = [value & 0xFFFFFFFF & mask for value in (_PAD, seed, epoch)]
  right = lambda x, by: (x >> by | x << word - by) & mask
  for i in range(3, _ROUNDS):
    bit = (_CONSTANT ^ (_SEQUENCE & mask) >> (i - 3) & 1) & mask
    keys.append(bit ^ keys[i - 3] ^ right(keys[i - 1], 3) ^ right(keys[i - 1], 4))
  return keys


def _encrypted(value: np.ndarray, keys: list[int], word: int) -> np.ndarray:
  mask, shift = np.uint64((1 << word) - 1), np.uint64(word)
  rotated = lambda x, by: (x << np.uint64(by) | x >> np.uint64(word - by)) & mask
  mixed = lambda x: rotated(x, 1) & rotated(x, 8) ^ rotated(x, 2)
  left, right = value >> shift & mask, value & mask
  for first, second in zip(keys[::2], keys[1::2]):
    left = left ^ mixed(right) ^ np.uint64(first)
    right = right ^ mixed(left) ^ np.uint64(second)
  return left << shift | right
