"""Sampling rules, which choose the frames of a clip. Every rule is two pure functions of Python and
numpy:

  train(rng, n, clip, rate) -> (frames,)       random, from the numpy Generator given
  test(n, clip, view, rate) -> (frames,)       view counts 0 .. clip.num_clips - 1

n: frames in the video (at least 1). rate: its frames per second, 0 = unknown. Indices are int64 in
[0, n).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from vjax.config import ClipConfig, ViewsConfig
from vjax.data import sequence_example

# The frame rate at which `linspace` counts frames; an unknown one counts as this.
_RATE_FPS = sequence_example.DEFAULT_RATE


class Rule(NamedTuple):
  """The two functions of a sampling rule."""

  train: Callable[[np.random.Generator, int, ClipConfig, float], np.ndarray]
  test: Callable[[int, ViewsConfig, int, float], np.ndarray]


def rule(name: str) -> Rule:
  """Returns the rule of that name. Raises ValueError listing the known rules."""
  if name not in RULES:
    raise ValueError(
      f'no sampling rule {name!r} (config.clip.sampling); there are: {", ".join(sorted(RULES))}'
    )
  return RULES[name]


# One frame from each of K equal segments (Wang et al. 2016; Chen et al. 2021, sec. 3).


def uniform_train(
  rng, n: int, clip: ClipConfig, rate: float, *, shared: bool = True
) -> Int[np.ndarray, ' t']:
  """Frame k*g + jitter, g = n // K; the jitter is shared by all segments (as released) or drawn for
  each (as written). A video shorter than K gives K sorted draws with replacement."""
  k = clip.num_frames
  if n < k:
    return np.sort(rng.integers(0, n, k))
  return np.arange(k) * (n // k) + rng.integers(0, n // k, 1 if shared else k)


def uniform_test(
  n: int, clip: ViewsConfig, view: int, rate: float, *, legacy: bool = False
) -> Int[np.ndarray, ' t']:
  """Middle of each segment of n / K frames, plus the view's offset: whole frames from -ceil(m/2) +
  1 to m // 2 for m views, at most half a segment."""
  if (
    legacy and n <= clip.num_frames
  ):  # the released code draws these, with the view as seed of numpy's old generator
    return np.sort(np.random.RandomState(view).randint(0, n, clip.num_frames))
  # DIFFERS(code): n <= K takes the same rounded middles, since an evaluation should not draw
  # ('uniform_legacy' does).
  tick = n / clip.num_frames
  offset = max(-tick / 2, min(view - math.ceil(clip.num_clips / 2) + 1, tick / 2 - 1e-4))
  return (tick / 2 + offset + tick * np.arange(clip.num_frames)).astype(np.int64)


# Frames `stride` apart, short videos wrapping round (Chen et al. 2021, sec. 3).


def dense_train(rng, n: int, clip: ClipConfig, rate: float) -> Int[np.ndarray, ' t']:
  """Start uniform in [0, n - stride*K), 0 for short videos; indices modulo n."""
  start = rng.integers(0, max(n - clip.frame_stride * clip.num_frames, 1))
  return (start + np.arange(clip.num_frames) * clip.frame_stride) % n


def dense_test(n: int, clip: ViewsConfig, view: int, rate: float) -> Int[np.ndarray, ' t']:
  """Starts evenly spaced from 0 to n - stride*K; a single view starts at 0."""
  start = int(np.linspace(0, max(0, n - clip.frame_stride * clip.num_frames), clip.num_clips)[view])
  return (start + np.arange(clip.num_frames) * clip.frame_stride) % n


# Frames exactly `stride` apart, first and last frame reachable (Ghadiyaram et al. 2019, sec. 4).


def consecutive_train(rng, n: int, clip: ClipConfig, rate: float) -> Int[np.ndarray, ' t']:
  """Start uniform over all that fit, both ends included; a video shorter than the span loops."""
  span = (clip.num_frames - 1) * clip.frame_stride + 1
  start = rng.integers(0, max(n - span, 0) + 1)
  return (start + np.arange(clip.num_frames) * clip.frame_stride) % n


def consecutive_test(n: int, clip: ViewsConfig, view: int, rate: float) -> Int[np.ndarray, ' t']:
  """Start floor(i (n - span) / (clips - 1)), so that the views cover first and last frame; a single
  view is centered."""
  free = max(n - (clip.num_frames - 1) * clip.frame_stride - 1, 0)
  start = free * view // (clip.num_clips - 1) if clip.num_clips > 1 else free // 2
  return (start + np.arange(clip.num_frames) * clip.frame_stride) % n


# A span of frames*stride frames at 30 frames/s, resampled by linspace (Feichtenhofer et al. 2019;
# 2022, appendix A).


def linspace_train(rng, n: int, clip: ClipConfig, rate: float) -> Int[np.ndarray, ' t']:
  """Start uniform and real in [0, n - span]; the spacing is (span - 1) / (frames - 1), not exactly
  the stride."""
  span = _span(clip, rate)
  return _linspace(rng.uniform(0, max(n - span, 0)), span, clip.num_frames, n)


def linspace_test(n: int, clip: ViewsConfig, view: int, rate: float) -> Int[np.ndarray, ' t']:
  """Start i*floor((n - span) / (clips - 1)), so that the last view ends near the end of the video;
  a single view is centered."""
  span = _span(clip, rate)
  free = max(n - span, 0)
  start = (
    math.floor(free / (clip.num_clips - 1)) * view if clip.num_clips > 1 else math.floor(free / 2)
  )
  return _linspace(start, span, clip.num_frames, n)


def linspace_head_test(n: int, clip: ViewsConfig, view: int, rate: float) -> Int[np.ndarray, ' t']:
  """Start i (n - span) / clips: the first view begins the video, the last does not reach its end
  (SlowFast's models)."""
  span = _span(clip, rate)
  return _linspace(max(n - span, 0) * view / clip.num_clips, span, clip.num_frames, n)


def _span(clip: ClipConfig, rate: float) -> float:
  """Returns the source frames in the duration of frames*stride frames at 30 per second;
  frames*stride where the rate is unknown."""
  return clip.num_frames * clip.frame_stride * (rate or _RATE_FPS) / _RATE_FPS


def _linspace(start: float, span: float, frames: int, n: int) -> np.ndarray:
  """Returns the truncated linspace(start, start + span - 1), clamped to the video.

  Points are in double, then float32. The originals' float32 loop with fused multiply-add gives the
  same: 33, not 32.999998.
  """
  points = np.linspace(start, start + span - 1, frames).astype(np.float32)
  return np.clip(points, 0, n - 1).astype(np.int64)


# One frame from each of K segments of (n - 1) / K (Something-Something: Feichtenhofer et al. 2019).


def segments_train(rng, n: int, clip: ClipConfig, rate: float) -> Int[np.ndarray, ' t']:
  """Frame i uniform in round(s i) .. round(s (i + 1)), both included, s = (n - 1) / K."""
  edges = np.round(np.arange(clip.num_frames + 1) * ((n - 1) / clip.num_frames)).astype(np.int64)
  return rng.integers(edges[:-1], edges[1:] + 1)


def segments_test(n: int, clip: ViewsConfig, view: int, rate: float) -> Int[np.ndarray, ' t']:
  """Middle of each segment, rounded down. Raises ValueError for more than one view."""
  if clip.num_clips != 1:
    raise ValueError(
      f'num_clips={clip.num_clips}, but sampling "segments" has one test clip: set num_clips=1, or '
      'use "uniform"'
    )
  edges = np.round(np.arange(clip.num_frames + 1) * ((n - 1) / clip.num_frames)).astype(np.int64)
  return (edges[:-1] + edges[1:]) // 2


# Starts in the middle of equal parts of all valid starts, as MMAction does (Li et al. 2022 trained
# with it).


def parts_train(rng, n: int, clip: ClipConfig, rate: float) -> Int[np.ndarray, ' t']:
  """Start uniform in [0, n - stride*K], 0 for short videos; indices modulo n."""
  start = rng.integers(0, max(n - clip.frame_stride * clip.num_frames, 0) + 1)
  return (start + np.arange(clip.num_frames) * clip.frame_stride) % n


def parts_test(
  n: int, clip: ViewsConfig, view: int, rate: float, *, hold: bool = False
) -> Int[np.ndarray, ' t']:
  """Start int(d (i + 1/2)), d = (n - stride*K + 1) / clips. Beyond the end: indices modulo n, or
  with `hold` the clip's last valid frame again."""
  starts = max(n - clip.frame_stride * clip.num_frames + 1, 0)
  d = starts / clip.num_clips
  index = int(view * d + d / 2) + np.arange(clip.num_frames) * clip.frame_stride
  return np.minimum(index, index[index < n].max()) if hold else index % n


def tsn_train(rng, n: int, clip: ClipConfig, rate: float) -> Int[np.ndarray, ' t']:
  """A random frame of each of K segments of n // K frames; round(k n / K) where n < K."""
  k, segment = clip.num_frames, n // clip.num_frames
  if segment == 0:
    return np.minimum(np.round(np.arange(k) * (n / k)).astype(np.int64), n - 1)
  return np.arange(k) * segment + rng.integers(0, segment, k)


def tsn_test(n: int, clip: ViewsConfig, view: int, rate: float) -> Int[np.ndarray, ' t']:
  """Middle int(k n/K + n/2K) of each segment; a second view takes the segments' first frames."""
  if clip.num_clips > 2:
    raise ValueError(
      f'num_clips={clip.num_clips}, but sampling "tsn" has at most two test clips: set num_clips=1 '
      'or 2'
    )
  d = n / clip.num_frames
  return (np.arange(clip.num_frames) * d + (0 if view else d / 2)).astype(np.int64)


RULES: dict[str, Rule] = {
  'uniform': Rule(uniform_train, uniform_test),
  'uniform_independent': Rule(functools.partial(uniform_train, shared=False), uniform_test),
  'uniform_legacy': Rule(uniform_train, functools.partial(uniform_test, legacy=True)),
  'dense': Rule(dense_train, dense_test),
  'consecutive': Rule(consecutive_train, consecutive_test),
  'linspace': Rule(linspace_train, linspace_test),
  'linspace_head': Rule(linspace_train, linspace_head_test),
  'segments': Rule(segments_train, segments_test),
  'parts': Rule(parts_train, parts_test),
  'parts_hold': Rule(parts_train, functools.partial(parts_test, hold=True)),
  'tsn': Rule(tsn_train, tsn_test),
}
