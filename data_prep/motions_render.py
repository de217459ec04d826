"""Frames of the built-in datasets: a textured actor that moves over a background, in five styles.

Motions come in pairs that differ in time only. The first of a pair is drawn, the second is *the
same drawing played backwards*, camera, brightness and passers-by included. So the frames of both,
as sets, have one distribution. Other movement gives no hint either, because its own directions are
symmetric.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

VERSION = 2  # part of a dataset's settings: change it with any pixel
HEIGHT, WIDTH, FPS = 96, 128, 12
MOTIONS = (  # drawn forwards, then its reverse
  *('right', 'left', 'down', 'up', 'grow', 'shrink'),
  *('clockwise', 'anticlockwise', 'appear', 'vanish', 'approach', 'part'),
)
SHAPES = ('ring', 'square', 'triangle', 'cross')
TEXTURES = ('plain', 'striped', 'checkered')
# (motion, shape) -> name of an action; a noun has several verbs, a verb one noun or two
ACTIONS = {
  ('right', 'square'): 'pushing square',
  ('right', 'ring'): 'pushing ring',
  ('left', 'square'): 'pulling square',
  ('left', 'ring'): 'pulling ring',
  ('up', 'triangle'): 'lifting triangle',
  ('up', 'ring'): 'lifting ring',
  ('down', 'triangle'): 'dropping triangle',
  ('down', 'ring'): 'dropping ring',
  ('grow', 'ring'): 'inflating ring',
  ('shrink', 'ring'): 'deflating ring',
  ('clockwise', 'cross'): 'winding cross',
  ('anticlockwise', 'cross'): 'unwinding cross',
}
_MARGIN = 48  # px of background beyond the frame, for the camera's drift


@dataclass(frozen=True)
class Style:
  """Look of the clips of a dataset, and the motions that they have.

  Attributes:
    motions: whole pairs of MOTIONS.
    background: 'noise', 'paper', 'grid' or 'night'.
    dark: whether actors are darker than the background, else brighter.
    outlined: whether actors are lines, without area or texture.
    size: of actors, relative.
    passers_by: fewest and most of them.
    drift: of the camera, relative.
    grain: standard deviation of noise that is new in every frame, in [0, 1].
    gray: whether frames have no color.
  """

  motions: tuple[str, ...] = MOTIONS
  background: str = 'noise'
  dark: bool = False
  outlined: bool = False
  size: float = 1.0
  passers_by: tuple[int, int] = (1, 2)
  drift: float = 1.0
  grain: float = 0.0
  gray: bool = False


# 'motions' is the dataset of that name; the others are domains for joint training. Each of the 12
# motions is in two of the four.
STYLES = {
  'motions': Style(),
  'a': Style(MOTIONS[:6]),
  'b': Style(
    (*MOTIONS[:2], *MOTIONS[6:10]), 'paper', dark=True, size=1.25, passers_by=(0, 0), drift=0.0
  ),
  'c': Style(
    (*MOTIONS[2:6], *MOTIONS[10:]), 'grid', outlined=True, size=1.1, passers_by=(0, 1), drift=0.5
  ),
  'd': Style(MOTIONS[6:], 'night', size=0.9, passers_by=(1, 2), grain=0.06, gray=True),
}


@dataclass
class Track:
  """One object over T frames.

  Attributes:
    x, y: (T,) center in px.
    radius: (T,) px.
    angle: (T,) rad.
    opacity: (T,) in [0, 1].
    shape, texture: names.
    colors: two colors.
  """

  x: np.ndarray
  y: np.ndarray
  radius: np.ndarray
  angle: np.ndarray
  opacity: np.ndarray
  shape: str
  texture: str
  colors: np.ndarray  # (2, 3) in [0, 1]


def classes_of(seed: int, split: str, index: int, style: str = 'motions') -> dict[str, str]:
  """Returns motion, shape and texture of a clip.

  Any 12 clips from a multiple of 12 on have all motions and all appearances once, any 144 all their
  combinations (a Latin square in shuffled order). With the 6 motions of a domain any 6 clips have
  all of them once, in other appearances, and any 72 all combinations.
  """
  motions = STYLES[style].motions
  block, place = divmod(index, len(motions))
  group, row = divmod(block, 12)
  split_key = zlib.crc32(split.encode())
  appearances, rows = (
    np.random.default_rng([seed, split_key, group, k]).permutation(12) for k in (1, 2)
  )
  order = np.random.default_rng([seed, split_key, block, 3]).permutation(len(motions))
  motion = MOTIONS.index(motions[order[place]])
  look = appearances[(motion + rows[row]) % 12]
  return {'motion': MOTIONS[motion], 'shape': SHAPES[look // 3], 'texture': TEXTURES[look % 3]}


def names_of(facts: dict[str, str]) -> tuple[str, str]:
  """Returns the (appearance, action) labels of a clip; action is '' if no action has its motion and
  shape."""
  return f'{facts["texture"]} {facts["shape"]}', ACTIONS.get((facts['motion'], facts['shape']), '')


def render_clip(
  seed: int, split: str, index: int, style: str = 'motions'
) -> tuple[np.ndarray, dict]:
  """Returns frames (T, 96, 128, 3) uint8 at 12 fps, 2 to 4 s, and facts: motion, shape, texture,
  appearance, action, seconds.

  A pure function of its arguments; style is a name of STYLES. action is '' for motion and shape
  that make no named action.
  """
  facts, look = classes_of(seed, split, index, style), STYLES[style]
  rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index, 4])
  frames = 2 * FPS + round(2 * FPS * rng.uniform() ** 3)  # 2 to 4 s, shorter ones more often
  forward, backward = divmod(MOTIONS.index(facts['motion']), 2)
  background = _BACKGROUNDS[look.background](rng)
  drift = np.float32(look.drift) * _drift(rng, frames)
  canvas = _pan(background, drift)
  mean = background.mean((0, 1))
  actors = _actors(rng, MOTIONS[2 * forward], facts['shape'], facts['texture'], frames, mean)
  fewest, most = look.passers_by
  passers_by = [_passer_by(rng, frames, mean) for _ in range(rng.integers(fewest, most + 1))]
  for track in passers_by + actors:
    track.radius = np.float32(look.size) * track.radius
    if look.dark:
      track.colors = 1 - track.colors
    _draw(canvas, track, drift, look.outlined)
  light = 255 * (_wave(rng, frames, 0.08)[:, None, None, None] + np.float32(rng.uniform(0.8, 1.15)))
  contrast = np.float32(rng.uniform(0.8, 1.15))
  canvas *= contrast * light
  canvas += (0.5 - 0.5 * contrast) * light  # contrast about mid-gray, then light
  if look.gray:
    canvas[:] = canvas.mean(-1, keepdims=True)
  if look.grain:
    canvas += 255 * np.float32(look.grain) * rng.standard_normal(canvas.shape, np.float32)
  clip = np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)
  appearance, action = names_of(facts)
  facts |= {'appearance': appearance, 'action': action, 'seconds': frames / FPS}
  return np.ascontiguousarray(clip[::-1] if backward else clip), facts


def _actors(
  rng, motion: str, shape: str, texture: str, frames: int, mean: np.ndarray
) -> list[Track]:
  """Returns the actor, or the two of 'approach', of the forward motion of a pair."""
  progress = _progress(rng, frames)
  radius = HEIGHT * rng.uniform(0.17, 0.22) * np.ones(frames, np.float32)
  angle = rng.uniform(0, 2 * np.pi) + _wave(rng, frames, 0.15)
  opacity = np.ones(frames, np.float32)
  dx = dy = np.zeros(frames, np.float32)
  if motion == 'right':
    dx = rng.uniform(0.45, 0.65) * WIDTH * (progress - 0.5)
  elif motion == 'down':
    dy = rng.uniform(0.45, 0.6) * HEIGHT * (progress - 0.5)
  elif motion == 'grow':
    radius = HEIGHT * rng.uniform(0.15, 0.19) * rng.uniform(2.4, 3.2) ** (progress - 0.5)
  elif (
    motion == 'clockwise'
  ):  # on an orbit, one side always inwards, as on a turntable; y points down
    turn = rng.uniform(0, 2 * np.pi) + rng.uniform(0.55, 0.85) * 2 * np.pi * progress
    orbit = rng.uniform(0.2, 0.25) * HEIGHT
    dx, dy, angle = orbit * np.cos(turn), orbit * np.sin(turn), angle[0] + turn
  elif motion == 'appear':
    opacity = progress
  elif motion == 'approach':
    return _approaching(rng, shape, texture, progress, radius, angle, mean)
  x, y = _place(rng, dx, dy, radius)
  return [Track(x, y, radius, angle, opacity, shape, texture, _colors(rng, mean))]


def _approaching(rng, shape, texture, progress, radius, angle, mean) -> list[Track]:
  radius = radius * 0.85
  gap = 2.1 * radius + rng.uniform(0.36, 0.48) * WIDTH * (1 - progress)
  tilt = rng.uniform(-0.5, 0.5) + np.pi * rng.integers(2)
  half_x, half_y = gap / 2 * np.cos(tilt), gap / 2 * np.sin(tilt)
  far = np.array([1, -1])
  x, y = _place(rng, np.outer(far, half_x), np.outer(far, half_y), radius)
  return [
    Track(
      x[i],
      y[i],
      radius,
      angle + rng.uniform(0, 6),
      np.ones_like(radius),
      shape,
      texture,
      _colors(rng, mean),
    )
    for i in range(2)
  ]


def _passer_by(rng, frames: int, mean: np.ndarray) -> Track:
  """Returns a small object on a straight path of any direction."""
  radius = np.full(frames, HEIGHT * rng.uniform(0.03, 0.05), np.float32)
  direction, length = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.5) * WIDTH
  way = length * np.linspace(-0.5, 0.5, frames, dtype=np.float32)
  x, y = (
    rng.uniform(0, WIDTH) + way * np.cos(direction),
    rng.uniform(0, HEIGHT) + way * np.sin(direction),
  )
  still = np.full(frames, rng.uniform(0, 6), np.float32)
  shape = SHAPES[rng.integers(4)]
  return Track(x, y, radius, still, np.ones(frames, np.float32), shape, 'plain', _colors(rng, mean))


def _progress(rng, frames: int) -> np.ndarray:
  """Returns (T,) from 0 to 1 in eased time, with a pause of up to an eighth at either end."""
  t = np.linspace(0, 1, frames, dtype=np.float32)
  begin, end = rng.uniform(0, 0.125, 2)
  t = np.clip((t - begin) / (1 - begin - end), 0, 1)
  return (t + rng.uniform(0, 1) * (t * t * (3 - 2 * t) - t)).astype(np.float32)


def _place(
  rng, dx: np.ndarray, dy: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns centers (..., T) px: the path (dx, dy) shifted so that the object stays in the frame,
  except for a fifth of its radius."""
  keep = 0.8 * radius
  out = []
  for way, size in ((dx, WIDTH), (dy, HEIGHT)):
    low, high = (keep - way).max(), (size - keep - way).min()
    out.append(way + (rng.uniform(low, high) if low < high else (low + high) / 2))
  return out[0], out[1]


def _colors(rng, mean: np.ndarray) -> np.ndarray:
  """Returns two colors (2, 3): of eight draws, those with the most contrast, to each other and, by
  being brighter, to the background's mean."""
  pairs = rng.uniform(0.4, 1, (8, 2, 3))
  brighter = (pairs - mean).mean(2).min(1)
  apart = np.abs(pairs[:, 0] - pairs[:, 1]).mean(1)
  return pairs[np.argmax(np.minimum(brighter, apart))].astype(np.float32)


def _wave(rng, frames: int, size: float) -> np.ndarray:
  """Returns (T,): a slow sine of amplitude up to `size`, any phase, either direction of time."""
  t = np.arange(frames, dtype=np.float32) / FPS
  return (
    size * rng.uniform() * np.sin(2 * np.pi * (rng.uniform(0.1, 0.5) * t + rng.uniform()))
  ).astype(np.float32)


def _drift(rng, frames: int) -> np.ndarray:
  """Returns the camera shift (T, 2) (y, x) in px: slow, straight, in any direction, with a sway."""
  direction = rng.uniform(0, 2 * np.pi)
  way = rng.uniform(0, 0.05) * WIDTH * np.linspace(-0.5, 0.5, frames, dtype=np.float32)
  sway = np.stack([_wave(rng, frames, 1.5), _wave(rng, frames, 1.5)], 1)
  return (way[:, None] * np.array([np.sin(direction), np.cos(direction)]) + sway).astype(np.float32)


def _background(rng) -> np.ndarray:
  """Returns (H + margin, W + margin, 3) in [0, 1]: 1/f^a noise, mostly gray, about a random
  color."""
  h, w = HEIGHT + _MARGIN, WIDTH + _MARGIN
  frequency = np.hypot(np.fft.fftfreq(h)[:, None] * h, np.fft.rfftfreq(w)[None] * w) + 1
  spectrum = rng.normal(size=(2, 3, *frequency.shape)) * frequency ** -rng.uniform(2.2, 2.8)
  noise = np.fft.irfft2(spectrum[0] + 1j * spectrum[1], s=(h, w)).astype(np.float32)
  noise /= noise.std((1, 2), keepdims=True)
  noise = 0.9 * noise[:1] + 0.3 * noise
  return (
    (rng.uniform(0.3, 0.7, (3, 1, 1)) + rng.uniform(0.07, 0.14) * noise)
    .transpose(1, 2, 0)
    .astype(np.float32)
  )


def _paper(rng) -> np.ndarray:
  """Returns a sheet like `_background`: one bright color, a little darker to one side."""
  shade = np.linspace(0, rng.uniform(0, 0.1), WIDTH + _MARGIN)[None, :: rng.choice((-1, 1)), None]
  sheet = rng.uniform(0.75, 0.95, (1, 1, 3)) - shade
  return np.repeat(sheet, HEIGHT + _MARGIN, 0).astype(np.float32)


def _grid(rng) -> np.ndarray:
  """Returns a dark sheet like `_background`, with fainter lines 12 to 20 px apart."""
  step, (top, left) = rng.integers(12, 21), rng.integers(0, 12, 2)
  sheet = np.ones((HEIGHT + _MARGIN, WIDTH + _MARGIN, 1)) * rng.uniform(0.05, 0.3, 3)
  sheet[top::step] += 0.1
  sheet[:, left::step] += 0.1
  return sheet.astype(np.float32)


def _night(rng) -> np.ndarray:
  """Returns a dark scene like `_background`, with some 40 small lights."""
  scene = 0.3 * _background(rng)
  rows, columns = (rng.integers(0, side + _MARGIN - 1, 40) for side in (HEIGHT, WIDTH))
  for row, column in zip(rows, columns):
    scene[row : row + 2, column : column + 2] = rng.uniform(0.5, 1)
  return scene


_BACKGROUNDS = {'noise': _background, 'paper': _paper, 'grid': _grid, 'night': _night}


def _pan(image: np.ndarray, drift: np.ndarray) -> np.ndarray:
  """Returns views (T, H, W, 3) of the image, bilinear, as the camera shifts."""
  out = np.empty((len(drift), HEIGHT, WIDTH, 3), np.float32)
  for t, (y, x) in enumerate(_MARGIN / 2 - drift):
    i, j = int(y), int(x)
    rows = image[i : i + HEIGHT + 1, j : j + WIDTH + 1]
    rows = rows[:-1] + np.float32(y - i) * (rows[1:] - rows[:-1])
    out[t] = rows[:, :-1] + np.float32(x - j) * (rows[:, 1:] - rows[:, :-1])
  return out


def _draw(canvas: np.ndarray, track: Track, drift: np.ndarray, outlined: bool = False) -> None:
  """Paints an object, or the lines around it 3 px wide, into (T, H, W, 3) with anti-aliased edges.
  All frames are painted at once, in a patch that moves with the object."""
  reach = int(np.ceil(track.radius.max() * 1.15)) + 2
  y, x = track.y + drift[:, 0], track.x + drift[:, 1]
  top, left = np.floor(y).astype(int) - reach, np.floor(x).astype(int) - reach
  grid = np.arange(2 * reach + 1, dtype=np.float32)
  dy = (grid + (top - y)[:, None].astype(np.float32))[:, :, None]
  dx = (grid + (left - x)[:, None].astype(np.float32))[:, None, :]
  radius = track.radius.astype(np.float32)[:, None, None]
  cos, sin = (f(track.angle).astype(np.float32)[:, None, None] / radius for f in (np.cos, np.sin))
  u, v = cos * dx + sin * dy, cos * dy - sin * dx  # the object's own axes, in radii
  distance = _distance(track.shape, u, v) * radius  # px
  if outlined:
    distance = np.abs(distance) - 1.5
  cover = np.clip(0.5 - distance, 0, 1) * track.opacity[:, None, None]
  second = _texture(track.texture, u, v, radius)[..., None]
  color = track.colors[0] + second * (track.colors[1] - track.colors[0])
  for t in range(len(canvas)):
    a, b = max(top[t], 0), max(left[t], 0)
    c, d = min(top[t] + len(grid), HEIGHT), min(left[t] + len(grid), WIDTH)
    if a < c and b < d:
      part = np.s_[t, a - top[t] : c - top[t], b - left[t] : d - left[t]]
      view = canvas[t, a:c, b:d]
      view += cover[part][..., None] * (color[part] - view)


def _distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
  """Returns the signed distance to the outline in radii, negative inside."""
  if shape == 'ring':
    return np.abs(np.sqrt(u * u + v * v) - 0.7) - 0.3
  if shape == 'square':
    return np.maximum(np.abs(u), np.abs(v)) - 0.82
  if shape == 'triangle':
    return np.maximum(v - 0.55, np.abs(u) * 0.866 - v * 0.5 - 0.55)
  a, b = np.abs(u), np.abs(v)
  return np.minimum(np.maximum(a - 0.3, b - 1), np.maximum(b - 0.3, a - 1))  # cross


def _texture(texture: str, u: np.ndarray, v: np.ndarray, radius: np.ndarray) -> np.ndarray:
  """Returns the share of the second color: stripes across u, or squares, two fifths of a radius
  wide, softened at 1 px."""
  if texture == 'plain':
    return np.zeros_like(u)
  wave = np.sin(u * np.float32(2.5 * np.pi))
  if texture == 'checkered':
    wave = wave * np.sin(v * np.float32(2.5 * np.pi))
  return np.clip(0.5 + wave * radius / 8, 0, 1)
