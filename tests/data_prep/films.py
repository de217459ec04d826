"""Tiny real videos, sound and pictures for the tests, good and bad."""

from fractions import Fraction

import av
import numpy as np

CORNERS = {'red': (255, 0, 0), 'blue': (0, 0, 255), 'green': (0, 255, 0), 'white': (255, 255, 255)}


def pictures(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
  """(T, H, W, 3): corners red, blue / green, white; noise that changes in the middle, so that
  frames cost bytes."""
  video = np.zeros((frames, height, width, 3), np.uint8)
  h, w = height // 2, width // 2
  video[:, :h, :w], video[:, :h, w:], video[:, h:, :w], video[:, h:, w:] = CORNERS.values()
  noise = np.random.default_rng(0).integers(0, 255, (frames, h, w, 3))
  video[:, h // 2 : h // 2 + h, w // 2 : w // 2 + w] = noise
  return video


def write_video(
  path,
  frames=24,
  height=48,
  width=64,
  rate=12,
  codec='libx264',
  times=None,
  rotation=0,
  mirror=False,
  aspect=None,
  **options,
):
  """Encodes `pictures`; times: presentation times in 1/1000 s; rotation: to display, degrees
  counter-clockwise."""
  with av.open(str(path), 'w', options=options) as container:
    stream = container.add_stream(codec, rate=rate, options={'g': '12'})
    stream.width, stream.height = width, height
    odd = height % 2 or width % 2
    stream.pix_fmt = 'yuv444p' if odd else 'yuv420p'
    if aspect:
      stream.codec_context.sample_aspect_ratio = Fraction(aspect)
    if times is not None:
      stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
    if rotation or mirror:
      stream.set_display_rotation(rotation, hflip=mirror)
    for i, image in enumerate(pictures(frames, height, width)):
      frame = av.VideoFrame.from_ndarray(image, 'rgb24')
      if times is not None:
        frame.pts, frame.time_base = times[i], Fraction(1, 1000)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def write_sound(path):
  """A second of noise, no picture."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('aac', rate=16000)
    samples = np.random.default_rng(0).normal(size=(1, 16000)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format='fltp', layout='mono')
    frame.sample_rate = 16000
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def cut(path, source, share: float):
  """The first `share` of a file's bytes."""
  data = source.read_bytes()
  path.write_bytes(data[: int(len(data) * share)])
  return path
