"""Decoding of one video file or image (PyAV, Pillow), for data_prep and vjax.predict alike.

Frames are upright, have square pixels and the asked short side, and carry their true times. A video
(or segment) that cannot be decoded whole raises VideoError with the reason; it never becomes a
shorter clip.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Collection, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from vjax.data import containers

# Names that promise a video or an image: what has one is to be read, or listed as a failure.
# Whether it is one is decided by what is in it.
VIDEO_EXTENSIONS = tuple(
  '.mp4 .m4v .mov .qt .3gp .3g2 .f4v .mkv .webm .avi .divx .amv .mpg .mpeg .mpe .m1v .m2v .mpv '
  '.vob .mod .tod .ts .mts .m2ts .m2t .trp .flv .wmv .asf .wtv .ogv .ogm .ogx .rm .rmvb .gif '
  '.apng .mxf .dv .nut .ivf .y4m .mjpg .mjpeg .h264 .264 .h265 .265 .hevc .swf'.split()
)
IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.webp', '.tif', '.tiff')
_IMAGE_HEADS = (b'\xff\xd8\xff', b'\x89PNG\r\n', b'II*\0', b'MM\0*')
_PICTURE_STREAMS = ('.mjpg', '.mjpeg', '.apng')  # videos that begin as images do
SEGMENT_SLACK_S = 0.5  # lists give whole seconds; a segment may end this far behind the last frame
MAX_DURATION_S = (
  3600.0  # of one clip: more is a film to be cut, a broken clock or a stream without end
)
MOST_PIXELS = 1 << 26  # of a frame, 8192 x 8192
_MOST_SIDE = 65500  # of a JPEG
_AVI_OF_A_PIPE = 1 << 30
_TEXT_DEMUXERS = ('tty', 'bin', 'xbin', 'adf', 'idf')  # draw pictures of letters
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
  if _is_image(path):
    if only is None or 0 in only:
      yield 0.0, 0.0, read_image(path, short_side)
    return
  start, end = start_s or 0.0, float('inf') if end_s is None else end_s
  with _open(path) as container:
    stream = _video_stream(container)
    frames = _bounded(
      _segment(container, stream, path, start, end, max_duration_s), start, end, max_duration_s
    )
    if frame_rate:
      frames = resample(frames, start, end, frame_rate)
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
  _check_file(path)
  if _is_image(path):
    return [start for start, _, _ in read_frames(path, short_side=0)]
  with _open(path) as container:
    infinite = float('inf')
    segment = _segment(container, _video_stream(container), path, 0.0, infinite, infinite)
    for begin, _, _ in segment:
      times.append(begin)
  return times


def why_unreadable(path: str) -> str:
  """Returns why a file is neither a video nor an image by what it holds, '' if it is one.

  Of a video the first frame is decoded; the rest may still turn out to be damaged.
  """
  try:
    _check_file(path)
    if _is_image(path):
      return ''
    if _is_text(_head(path)):
      return 'unreadable: a text file'
    with _open(path) as container:
      source = _Source(container, _video_stream(container), path)
      return '' if next(source.frames(), None) else 'no frames: zero duration'
  except VideoError as e:
    return str(e)


def _check_file(path: str) -> None:
  if not os.path.isfile(path):
    raise VideoError(f'missing: {_what_is_there(path)}')
  if os.path.getsize(path) == 0:
    raise VideoError('empty: the file has 0 bytes')


def _what_is_there(path: str) -> str:
  if os.path.islink(path):
    return 'a symbolic link that leads nowhere, or to itself'
  if os.path.isdir(path):
    return 'a folder, not a file; name the videos in it'
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


def _head(path: str, size: int = 4096) -> bytes:
  try:
    with open(path, 'rb') as file:
      return file.read(size)
  except OSError as e:
    raise VideoError(f'unreadable: {e.strerror}') from e


def _is_image(path: str) -> bool:
  """Returns whether a file begins as images do."""
  head = _head(path, 16)
  webp = head[:4] == b'RIFF' and head[8:12] == b'WEBP'
  bmp = head[:2] == b'BM' and head[6:10] == bytes(4)
  found = webp or bmp or head.startswith(_IMAGE_HEADS)
  return found and not path.lower().endswith(_PICTURE_STREAMS)


def _is_text(head: bytes) -> bool:
  """Returns whether the beginning of a file is text: letters and line breaks, no control bytes."""
  try:
    text = head[: head.rfind(b'\n') + 1 or len(head)].decode('utf-8-sig')
  except UnicodeDecodeError:
    return False
  return not any(c < ' ' and c not in '\t\n\r\f' or c == '\x7f' for c in text)


def _open(path: str) -> Any:
  import av

  # A playlist would be read from elsewhere, and from a live one without end.
  if _head(path, 64).lstrip(b'\xef\xbb\xbf \r\n').startswith(_PLAYLISTS):
    raise VideoError('unreadable: a playlist, not a video; name the files it lists')
  try:
    container = av.open(f'file:{path}', metadata_errors='replace')
  except av.FFmpegError as e:
    raise VideoError(
      f'unreadable: not a video, or its header is broken or cut off ({e.strerror})'
    ) from e
  if container.format.name in _TEXT_DEMUXERS:
    container.close()
    raise VideoError('unreadable: text, or data that would be shown as letters')
  return container


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
  source = _Source(container, stream, path)
  if min(end, source.duration) - start > longest:
    raise VideoError(_too_long(f'{min(end, source.duration) - start:.0f} s by its header', longest))
  seekable = stream.start_time is not None and container.format.name != 'avi'
  seek = source.sought = seek and start > 1 and seekable and _seek(container, stream, start)
  count, shown, first, finish = 0, 0, 0.0, 0.0
  for begin, finish, frame in source.frames():
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
        raise VideoError(f'truncated: {source.decodable(count - 1)} (the next one is damaged)')
      yield begin, finish, frame
  if seek and (
    not count or first > start + 1e-6
  ):  # the index led past the segment: decode from the beginning
    container.seek(0)
    yield from _segment(container, stream, path, start, end, longest, seek=False)
    return
  lacking = source.lacking(count, first, finish)
  if not count and not source.expected and not lacking:
    raise VideoError('no frames: zero duration')
  if lacking:
    raise VideoError(f'truncated: {source.decodable(count)}{lacking}')
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
    f'too long: {what}, and --max_duration_s allows {longest:g} s: raise that, or cut the video '
    'into segments (start_s, end_s of a --manifest)'
  )


def _seek(container: Any, stream: Any, start: float) -> bool:
  import av

  try:
    container.seek(int(start / stream.time_base) + stream.start_time, stream=stream)
  except (av.FFmpegError, OverflowError):
    container.seek(0)
    return False
  return True


class _Source:
  """Decodes a video stream, with the true time of every frame, and says whether all of it is there.

  What ends where its own clock says is whole. What its own clock is differs: the length of the
  video stream where the container has it, that of the file where there is nothing else in it, the
  ticks of an AVI. Where a file was cut off inside one of its units, it ends early whatever a clock
  says.

  Attributes:
    expected: number of frames by the header, 0 = it does not say.
    duration: of the video from its first frame, in seconds, by the header; 0 = it does not say.
    sought: decoding does not start at the first frame.
  """

  def __init__(self, container: Any, stream: Any, path: str):
    self.container, self.stream, self.path = container, stream, path
    self.format, self.sought = container.format.name, False
    self.rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    # An AVI numbers its chunks; the time that a frame has beside that is a guess.
    self.ticks = self.format == 'avi'
    # One that was written to a pipe has this number in its header.
    unknown = self.ticks and stream.frames == _AVI_OF_A_PIPE
    self.promised = 0 if unknown else stream.frames
    self.duration = 0.0 if unknown else _duration(container, stream)
    self.expected = self.promised or round(self.duration * float(stream.average_rate or 0))
    self.indexed = len(stream.index_entries) if self.ticks else 0
    self.chunks: containers.AviChunks | None = None
    self.packets, self.first_tick, self.last_tick, self.pause_end = 0, 0, 0, 0

  def frames(self) -> Iterator[tuple[float, float, Any]]:
    """Yields (start, end, frame): on show until the next one, whatever the rate says.

    Raises VideoError where decoding breaks off, or time runs backwards.
    """
    stream, count, held, step = self.stream, 0, None, 1 / self.rate
    origin: Any = None if self.ticks else stream.start_time
    begin: Any = -step
    clock = _Clock(self.ticks)
    for frame in self._decoded(clock):
      stamp = clock.time(frame)
      origin = stamp if origin is None else origin
      begin = begin + step if stamp is None else (stamp - origin) * stream.time_base
      if held and begin < held[0] - 1e-6:
        stamp = clock.other_time(frame)
        again = begin if stamp is None else (stamp - origin) * stream.time_base
        if again < held[0] - 1e-6:
          raise VideoError(
            f'clock: frame {count} begins at {float(begin):.3f} s, the one before it at '
            f'{held[0]:.3f} s; encode it again, e.g. ffmpeg -i IN OUT.mp4'
          )
        begin = again
      if held and self.ticks:  # its last frames come without a time
        step = begin - held[0]
      if held:
        yield held[0], float(begin), held[1]
      count, held = count + 1, (float(begin), frame)
    if held:
      yield held[0], self._end(*held, origin or 0), held[1]

  def _decoded(self, clock: _Clock) -> Iterator[Any]:
    """Yields the frames in the order in which they are shown."""
    import av

    count = 0
    try:
      for packet in self.container.demux(self.stream):
        if not packet.size:  # says that the picture stays; to the decoder it would be the end
          clock.pause(packet)
          continue
        if not self.packets:
          self.first_tick = packet.dts or 0
        self.packets, self.last_tick = self.packets + 1, packet.dts or 0
        clock.sent(packet)
        for frame in packet.decode():
          yield frame
          count += 1
      for frame in self.stream.decode(None):
        yield frame
        count += 1
    except av.FFmpegError as e:
      raise VideoError(f'truncated: {self.decodable(count)} ({e.strerror})') from e
    self.pause_end = clock.pause_end

  def _end(self, begin: float, frame: Any, origin: int) -> float:
    """Seconds at which the last frame goes: by its own word, else by the stream's average rate; or
    later, where the file says that it stays."""
    tick = self.stream.time_base
    end = begin + float(frame.duration * tick if frame.duration else 1 / self.rate)
    if self.ticks:
      self.chunks = containers.avi_chunks(self.path, self.stream.index)
      end += float(max(0, self.chunks.ticks - self.last_tick - 1) * tick)  # empty ones
      delayed = self.stream.codec_context.has_b_frames  # then ticks are not the times of showing
      return end if delayed else max(end, float((self.chunks.ticks - self.first_tick) * tick))
    return max(end, float((self.pause_end - origin) * tick))

  def decodable(self, count: int) -> str:
    """'12 of 24 frames decodable', or '12 frames' where the header does not promise more."""
    promised = f' of {self.expected}' if count < self.expected else ''
    return f'{count}{promised} frames decodable'

  def lacking(self, count: int, first: float, finish: float) -> str:
    """Returns what a video lacks that was read to its end, '' = nothing.

    Args:
      count: of its frames.
      first: when the first one begins, in seconds.
      finish: when the last one ends.
    """
    if self.ticks:
      return self._lacking_chunks(finish)
    unit = containers.cut_inside(self.format, self.path)
    if unit:
      return f': the file ends inside {unit}'
    slack = 1.5 * (finish - first) / max(count, 1)
    if finish < self.duration - slack and not (
      self.format == 'asf' and containers.asf_is_whole(self.path)
    ):
      return _too_early(finish, self.duration)
    # MP4 hides frames by edit lists.
    missing = not self.sought and 'mp4' not in self.format and count < self.promised
    return f', which end at {finish:.2f} s' if missing else ''

  def _lacking_chunks(self, finish: float) -> str:
    """The same of an AVI: a tick without a picture lacks nothing, the one before it stays."""
    chunks = self.chunks or containers.avi_chunks(self.path, self.stream.index)
    if chunks.cut:
      return ': the file ends inside a chunk'
    if self.packets >= self.promised:  # also 0: a file that was never closed
      return ''
    if self.packets < chunks.pictures:
      return f': {self.packets} of the {chunks.pictures} chunks with pictures could be read'
    if chunks.ticks >= self.promised - (1 if chunks.whole else 0):
      return ''
    indexed = 0 < self.indexed <= self.packets and self.last_tick + 1 >= self.promised
    return '' if indexed else _too_early(finish, self.duration)


def _duration(container: Any, stream: Any) -> float:
  """Seconds from the first frame of a video to its end, as the container says; 0 = it does not."""
  from av.format import Flags

  if container.format.flags & Flags.no_timestamps.value:  # a guess from the file's size
    return 0.0
  # ASF has the length of the file alone, also where it is given as that of the stream.
  own = stream.duration and container.format.name != 'asf'
  duration = float(stream.duration * stream.time_base) if own else 0.0
  tag = re.fullmatch(
    r'(\d+):(\d+):(\d+(?:\.\d+)?)', stream.metadata.get('DURATION', '')
  )  # Matroska's: 00:00:02.000
  if not duration and tag:
    duration = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
  start = max(0.0, float((stream.start_time or 0) * stream.time_base))
  if 'matroska' in container.format.name and tag:  # says when the last frame ends
    return max(0.0, duration - start)
  if not duration and container.duration and len(container.streams) == 1:
    # So does the length of a file, unless its clock is that of a live stream.
    duration = container.duration / 1e6
    return duration - start if start < duration else duration
  return duration


def _too_early(finish: float, duration: float) -> str:
  """', which end at 1.00 s of 2.00 s', with as many digits as tell the two apart."""
  digits = next(n for n in (2, 3, 6, 12) if f'{finish:.{n}f}' != f'{duration:.{n}f}' or n == 12)
  return f', which end at {finish:.{digits}f} s of {duration:.{digits}f} s'


class _Clock:
  """Times of frames in units of the stream's time base, from what packets and frames say.

  Some writers give frames times in the order of decoding. Frames that refer to later ones (B) are
  decoded after these, so that such times are in disorder. A decoder returns frames in the order of
  show: each then has the earliest time not yet given away.

  Attributes:
    pause_end: until when the last picture stays by packets that are empty, 0 = there are none.
  """

  _MOST_LATE = 16  # frames that a decoder holds back, at most

  def __init__(self, ticks: bool):
    self.ticks, self.pause_end = ticks, 0
    self._earliest: int | None = None
    # Times of packets that have no frame yet, as long as they grow from packet to packet.
    self._given: list[int] | None = None if ticks else []
    self._latest: int | None = None
    self._disorder = self._by_decoding = False

  def pause(self, packet: Any) -> None:
    """Takes in an empty packet."""
    if packet.pts is not None:
      self.pause_end = packet.pts + (packet.duration or 0)

  def sent(self, packet: Any) -> None:
    """Takes in a packet that goes to the decoder."""
    if self._given is None:
      return
    if packet.pts is None or self._latest is not None and packet.pts <= self._latest:
      self._given = None
    else:
      self._latest = packet.pts
      if not packet.is_discard:
        heapq.heappush(self._given, packet.pts)

  def time(self, frame: Any) -> int | None:
    """Returns when the next frame of the decoder begins, None where nothing says."""
    if self.ticks or frame.pts is None or self._by_decoding:
      return frame.dts
    self._earliest = None
    if self._given:
      self._earliest = heapq.heappop(self._given)
      while len(self._given) > self._MOST_LATE:  # packets without a frame
        heapq.heappop(self._given)
      self._disorder |= frame.pict_type == _B
      if self._disorder:
        return self._earliest
    return frame.pts

  def other_time(self, frame: Any) -> int | None:
    """Returns when the frame begins that `time` was asked for last, as it runs backwards: by the
    times of packets, from now on."""
    if self.ticks:
      return None
    if self._earliest is not None:
      self._disorder = True
      return self._earliest
    self._by_decoding = True
    return frame.dts


_B = 3  # type of a frame that may refer to later ones


def resample(
  frames: Iterator, start: float, end: float, rate: float
) -> Iterator[tuple[float, float, Any]]:
  """The frame on show at start + k / rate, for all k within the frames' time and before `end`."""
  k, origin = 0, None
  for begin, finish, frame in frames:
    origin = max(start, begin) if origin is None else origin
    while origin + k / rate < min(finish, end) - 1e-6:
      yield origin + k / rate, origin + (k + 1) / rate, frame
      k += 1


def read_image(path: str, short_side: int) -> np.ndarray:
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
