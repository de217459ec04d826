"""Decoding of one video file or image (PyAV, Pillow), for data_prep and vjax.predict alike.

Frames are upright, have square pixels and the asked short side, and carry their true times. A video
(or segment) that cannot be decoded whole raises VideoError with the reason; it never becomes a
shorter clip.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

VIDEO_EXTENSIONS = (
  '.mp4',
  '.m4v',
  '.mkv',
  '.webm',
  '.avi',
  '.mov',
  '.mpg',
  '.mpeg',
  '.ts',
  '.flv',
  '.wmv',
  '.3gp',
  '.ogv',
)
IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
SEGMENT_SLACK_S = 0.5  # lists give whole seconds; a segment may end this far behind the last frame
MAX_DURATION_S = (
  3600.0  # of one clip: more is a film to be cut, a broken clock or a stream without end
)
MOST_PIXELS = 1 << 26  # of a frame, 8192 x 8192
_MOST_SIDE = 65500  # of a JPEG
_PLAYLISTS = (b'#EXTM3U', b'ffconcat ', b'<?xml', b'<MPD')


class VideoError(Exception):
  """Why a file cannot become a clip; the message goes to failed.csv as 'kind: detail'."""


def read_frames(
  path: str,
  *,
  short_side: int,
  start_s: float | None = None,
  end_s: float | None = None,
  frame_rate: float = 0,
  max_duration_s: float = MAX_DURATION_S,
  only: Collection[int] | None = None,
) -> Iterator[tuple[float, float, np.ndarray]]:
  """Yields (start, end, frame (h, w, 3) uint8 RGB) in order; times in seconds from the video's
  start.

  short_side: pixels, 0 = as it is. start_s, end_s: the segment [start_s, end_s). frame_rate: 0
  keeps the frames of the file with their own times; otherwise frame k is the one on show at start +
  k / frame_rate, and one that is on
  show twice is the same array twice. An image is one frame from 0 to 0. max_duration_s: of the
  whole video or segment. only: numbers of the frames to yield, None = all; the others are decoded,
  but not converted. Raises VideoError with the reason.
  """
  _check_file(path)
  if path.lower().endswith(IMAGE_EXTENSIONS):
    if only is None or 0 in only:
      yield 0.0, 0.0, _read_image(path, short_side)
    return
  start, end = start_s or 0.0, float('inf') if end_s is None else end_s
  with _open(path) as container:
    stream = _video_stream(container)
    frames = _bounded(
      _segment(container, stream, path, start, end, max_duration_s), start, end, max_duration_s
    )
    if frame_rate:
      frames = _resample(frames, start, end, frame_rate)
    picture = _Picture(short_side, float(stream.sample_aspect_ratio or 1))
    last, rgb = None, None
    for number, (begin, finish, frame) in enumerate(frames):
      if only is not None and number not in only:
        continue
      if frame is not last:
        last, rgb = frame, picture(frame)
      yield begin, finish, rgb


def frame_times(path: str) -> list[float]:
  """Returns the time in seconds at which each frame of a video begins, as `read_frames` has them.

  Everything is decoded, nothing converted or kept. Raises VideoError like `read_frames`.
  """
  times = []
  if path.lower().endswith(IMAGE_EXTENSIONS):
    return [start for start, _, _ in read_frames(path, short_side=0)]
  _check_file(path)
  with _open(path) as container:
    infinite = float('inf')
    segment = _segment(container, _video_stream(container), path, 0.0, infinite, infinite)
    for begin, _, _ in segment:
      times.append(begin)
  return times


def _check_file(path: str) -> None:
  if not os.path.isfile(path):
    raise VideoError(f'missing: {_what_is_there(path)}')
  if os.path.getsize(path) == 0:
    raise VideoError('empty: the file has 0 bytes')


def _what_is_there(path: str) -> str:
  if os.path.islink(path):
    return 'a symbolic link that leads nowhere, or to itself'
  if os.path.isdir(path):
    return 'a folder, not a file'
  return 'a pipe or device, not a file' if os.path.exists(path) else 'no such file'


def stored_size(width: float, height: float, short_side: int) -> tuple[int, int]:
  """(width, height) in pixels when the short side becomes `short_side` (0: unchanged). Raises
  VideoError if that is more than a JPEG holds."""
  scale = short_side / min(width, height) if short_side else 1.0
  size = max(1, round(width * scale)), max(1, round(height * scale))
  if max(size) > _MOST_SIDE or size[0] * size[1] > MOST_PIXELS:
    raise VideoError(
      f'too large: {width:g}x{height:g} pixels, {size[0]}x{size[1]} as stored; at most '
      f'{_MOST_SIDE} a side and {MOST_PIXELS} in all'
    )
  return size


def _check_pixels(width: int, height: int) -> None:
  if width * height > MOST_PIXELS:
    raise VideoError(f'too large: {width}x{height} pixels; at most {MOST_PIXELS}')


class _Picture:
  """Converts the frames of one stream; keeps its scaler, which is costly to make."""

  def __init__(self, short_side: int, pixel_aspect: float):
    from av.video.reformatter import VideoReformatter

    self.short_side, self.pixel_aspect = short_side, pixel_aspect
    self.reformat = VideoReformatter().reformat
    self.size = self.turn = None

  def __call__(self, frame: Any) -> np.ndarray:
    _check_pixels(frame.width, frame.height)
    if self.size is None:  # a stream may change its size; a clip keeps that of its first frame
      self.size = stored_size(frame.width * self.pixel_aspect, frame.height, self.short_side)
      self.turn = _display_matrix(frame)
    width, height = self.size
    rgb = self.reformat(
      frame, width, height, 'rgb24', interpolation='BICUBIC', threads=1
    ).to_ndarray()
    return np.ascontiguousarray(turn(rgb, self.turn))


def turn(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
  """The image under a display matrix (a, b, c, d): x' = a x + c y, y' = b x + d y, y pointing
  down."""
  a, b, c, d = matrix
  if a == 0:
    image, along_x, along_y = image.swapaxes(0, 1), c, b
  else:
    along_x, along_y = a, d
  return image[::along_y, ::along_x]


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
  data = [s for s in frame.side_data if s.type.name == 'DISPLAYMATRIX']
  if not data:
    return 1, 0, 0, 1
  matrix = np.frombuffer(bytes(data[0]), np.int32).reshape(3, 3)[:2, :2] / 65536
  if (
    sorted(np.abs(matrix).ravel().round(3).tolist()) != [0, 0, 1, 1]
    or matrix[0].any() != matrix[1].any()
  ):
    raise VideoError(
      f'rotated: by about {frame.rotation} degrees; only multiples of 90 can be undone'
    )
  return tuple(int(v) for v in matrix.round().ravel())


def _open(path: str) -> Any:
  import av

  try:
    with open(path, 'rb') as file:
      head = file.read(64).lstrip(b'\xef\xbb\xbf \r\n')
  except OSError as e:
    raise VideoError(f'unreadable: {e.strerror}') from e
  if head.startswith(_PLAYLISTS):  # would be read from elsewhere, and from a live one without end
    raise VideoError('unreadable: a playlist, not a video; name the files it lists')
  try:
    return av.open(f'file:{path}', metadata_errors='replace')
  except av.FFmpegError as e:
    raise VideoError(
      f'unreadable: not a video, or its header is broken or cut off ({e.strerror})'
    ) from e


def _video_stream(container: Any) -> Any:
  import av

  streams = [
    s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
  ]
  if not streams:
    raise VideoError(
      'no video: ' + ('the file has sound only' if container.streams.audio else 'no video stream')
    )
  if streams[0].codec_context is None:
    raise VideoError('codec: no decoder for the video stream')
  _check_pixels(streams[0].width, streams[0].height)
  streams[0].thread_count = 1  # many processes, one thread each
  streams[0].codec_context.options = {
    'max_pixels': str(MOST_PIXELS)
  }  # refused before they are allocated
  return streams[0]


def _segment(
  container: Any,
  stream: Any,
  path: str,
  start: float,
  end: float,
  longest: float,
  seek: bool = True,
) -> Iterator[tuple[float, float, Any]]:
  """(start, end, frame) of frames that begin in [start, end), from the nearest key frame where the
  index allows."""
  expected, duration = _promised(container, stream)
  if min(end, duration) - start > longest:
    raise VideoError(_too_long(f'{min(end, duration) - start:.0f} s by its header', longest))
  seekable = stream.start_time is not None and container.format.name != 'avi'
  seek = seek and start > 1 and seekable and _seek(container, stream, start)
  count, shown, first, finish = 0, 0, 0.0, 0.0
  for begin, finish, frame in _timed(container, stream, expected):
    first = first if count else begin
    if seek and first > start + 1e-6:
      break
    count += 1
    if begin >= end - 1e-6:
      if not shown:
        raise VideoError(
          f'segment: no frame begins between {start:g} and {end:g} s; make it longer'
        )
      return
    if begin >= start - 1e-6:
      shown += 1
      if (
        frame.is_corrupt
      ):  # before the segment, a key frame sought may lack what its neighbors refer to
        raise VideoError(
          f'truncated: {count - 1} of {expected} frames decodable (the next one is damaged)'
        )
      yield begin, finish, frame
  if seek and (
    not count or first > start + 1e-6
  ):  # the index led past the segment: decode from the beginning
    container.seek(0)
    yield from _segment(container, stream, path, start, end, longest, seek=False)
    return
  if not count and not expected:
    raise VideoError('no frames: zero duration')
  missing = (
    not seek and 'mp4' not in container.format.name and count < stream.frames
  )  # mp4 hides frames by edit lists
  slack = 1.5 * (finish - first) / max(count, 1)
  if missing or finish < duration - slack or _ends_early(container, path):
    raise VideoError(
      f'truncated: {count} of {expected} frames decodable, which end at {finish:.2f} s of '
      f'{duration:.2f} s'
    )
  if not shown:
    raise VideoError(f'segment: it starts at {start:g} s, the video ends at {finish:.2f} s')
  if end != float('inf') and end > finish + SEGMENT_SLACK_S:
    raise VideoError(f'segment: it ends at {end:g} s, the video at {finish:.2f} s')


def _bounded(
  frames: Iterator, start: float, end: float, longest: float
) -> Iterator[tuple[float, float, Any]]:
  """The frames. Raises VideoError once they last longer than `longest`, whatever the header
  says."""
  for begin, finish, frame in frames:
    if min(finish, end) - start > longest:
      raise VideoError(_too_long(f'a frame is on show from {begin:.0f} to {finish:.0f} s', longest))
    yield begin, finish, frame


def _too_long(what: str, longest: float) -> str:
  return (
    f'too long: {what}; cut it into segments (start_s, end_s), or raise '
    f'--max_duration_s={longest:g}'
  )


def _seek(container: Any, stream: Any, start: float) -> bool:
  import av

  try:
    container.seek(int(start / stream.time_base) + stream.start_time, stream=stream)
  except (av.FFmpegError, OverflowError):
    container.seek(0)
    return False
  return True


def _promised(container: Any, stream: Any) -> tuple[int, float]:
  """(frames, seconds) the container promises; 0 where it does not say."""
  duration = float(stream.duration * stream.time_base) if stream.duration else 0.0
  tag = re.fullmatch(
    r'(\d+):(\d+):(\d+(?:\.\d+)?)', stream.metadata.get('DURATION', '')
  )  # Matroska's: 00:00:02.000
  if not duration and tag:
    duration = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
  if not duration and container.duration and len(container.streams) == 1:
    duration = container.duration / 1e6
  if 'matroska' in container.format.name:  # says when the last frame ends
    duration = max(0.0, duration - max(0.0, float((stream.start_time or 0) * stream.time_base)))
  return stream.frames or round(duration * float(stream.average_rate or 0)), duration


def _ends_early(container: Any, path: str) -> bool:
  """Returns whether a file ends before it says: a Matroska or WebM segment, for its demuxer takes
  the cut for the end; or an MPEG packet."""
  if container.format.name == 'mpegts':
    return all(os.path.getsize(path) % packet for packet in (188, 192, 204))
  with open(path, 'rb') as file:
    head = file.read(4096)
  if head[:4] != b'\x1a\x45\xdf\xa3':
    return False
  at, size = _ebml_size(head, 4)
  at += size
  if head[at : at + 4] != b'\x18\x53\x80\x67':
    return False
  at, size = _ebml_size(head, at + 4)
  return size > 0 and at + size > os.path.getsize(path)


def _ebml_size(data: bytes, at: int) -> tuple[int, int]:
  """(position after it, value) of an EBML length; -1 for 'unknown', which live streams use."""
  length = 9 - data[at].bit_length()
  value = int.from_bytes(data[at : at + length], 'big') & ((1 << 7 * length) - 1)
  return at + length, -1 if value == (1 << 7 * length) - 1 else value


def _timed(container: Any, stream: Any, expected: int) -> Iterator[tuple[float, float, Any]]:
  """Every frame of the stream with its times: on show until the next one, whatever the rate says.

  Raises VideoError where decoding breaks off, or time runs backwards.
  """
  import av

  rate = stream.average_rate or stream.guessed_rate or Fraction(25)
  origin, count, begin, held = stream.start_time, 0, -1 / rate, None
  counted = (
    container.format.name == 'avi'
  )  # numbers packets only; a frame's own time is a guess there
  origin = None if counted else origin
  frames = container.decode(stream)
  while True:
    try:
      frame = next(frames, None)
    except av.FFmpegError as e:
      raise VideoError(f'truncated: {count} of {expected} frames decodable ({e.strerror})') from e
    if frame is None:
      break
    stamp = frame.dts if counted or frame.pts is None else frame.pts
    origin = stamp if origin is None else origin
    begin = begin + 1 / rate if stamp is None else (stamp - origin) * stream.time_base
    if held and begin < held[0] - 1e-6:
      raise VideoError(
        f'clock: frame {count} begins at {float(begin):.3f} s, the one before it at {held[0]:.3f} s'
      )
    if held:
      yield held[0], float(begin), held[1]
    count, held = count + 1, (float(begin), frame)
  if held:
    yield held[0], held[0] + _length_s(held[1], stream, rate), held[1]


def _length_s(frame: Any, stream: Any, rate: Fraction) -> float:
  """Seconds a frame is on show by its own word, else by the stream's average rate."""
  return float(frame.duration * stream.time_base if frame.duration else 1 / rate)


def _resample(
  frames: Iterator, start: float, end: float, rate: float
) -> Iterator[tuple[float, float, Any]]:
  """The frame on show at start + k / rate, for all k within the frames' time and before `end`."""
  k, origin = 0, None
  for begin, finish, frame in frames:
    origin = max(start, begin) if origin is None else origin
    while origin + k / rate < min(finish, end) - 1e-6:
      yield origin + k / rate, origin + (k + 1) / rate, frame
      k += 1


def _read_image(path: str, short_side: int) -> np.ndarray:
  """(h, w, 3) uint8. Raises VideoError for animations, and for numbers that 8 bits do not hold."""
  from PIL import Image, ImageOps

  try:
    with Image.open(path) as file:
      _check_pixels(*file.size)
      if (
        getattr(file, 'is_animated', False) and file.format != 'MPO'
      ):  # photographs bring a preview as MPO
        raise VideoError(
          f'animated: an image of {file.n_frames} frames; save it as a video, e.g. .mp4'
        )
      if file.mode in ('I', 'F'):  # of any range: what is black and what white is not said
        raise VideoError(
          f'unreadable: an image of mode {file.mode} (32 bits a pixel); save it with 8 or 16 bits'
        )
      image = ImageOps.exif_transpose(file)
      if image.mode.startswith('I;16'):  # Pillow would cut off what is above 255
        image = Image.fromarray(
          ((np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        )
      image = image.convert('RGB')
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
    raise VideoError(f'unreadable: not an image, or cut off ({e})') from e
  size = stored_size(*image.size, short_side)
  return np.asarray(image if size == image.size else image.resize(size, Image.Resampling.BICUBIC))
