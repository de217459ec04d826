"""Videos made to be difficult: written as they were rendered, frame by frame, or listed in
failed.csv with what is wrong."""

import csv
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import simplejpeg

from data_prep import shards, write
from tests.data_prep.films import cut, write_sound
from vjax.data import sequence_example, video_file
from vjax.data.index import open_index, read_record
from vjax.data.video_file import VideoError, read_frames

pytestmark = pytest.mark.timeout(120)
FRAMES, RATE = 12, 12
HEIGHT, WIDTH = 48, 64
QUARTERS = np.array(
  [[180, 60, 60], [60, 180, 60], [60, 60, 180]]
)  # top right, bottom left, bottom right


def level(t: int) -> int:
  """Brightness of the top left quarter of frame t: tells which frame it is."""
  return 40 + 15 * (t % FRAMES)


def picture(t: int, height: int, width: int) -> np.ndarray:
  image = np.full((height, width, 3), level(t), np.uint8)
  h, w = height // 2, width // 2
  image[:h, w:], image[h:, :w], image[h:, w:] = QUARTERS
  return image


def encode(path, codec='libx264', pixels='yuv420p', times_ms=None, options=None,
size=(HEIGHT, WIDTH), frames=FRAMES,
           rate=RATE, rotation=0, interlaced=False, **container_options):  # fmt: skip
  """Encodes `picture`s. times_ms: when each is shown; rotation: degrees counter-clockwise for
  display."""
  with av.open(str(path), 'w', options=container_options) as container:
    stream = container.add_stream(codec, rate=rate, options={'g': '6', **(options or {})})
    (stream.height, stream.width), stream.pix_fmt = size, pixels
    if times_ms:
      stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
    if rotation:
      stream.set_display_rotation(rotation)
    for t in range(frames):
      frame = av.VideoFrame.from_ndarray(picture(t, *size), 'rgb24')
      if codec == 'libx264' and 'gray' in pixels:  # its luma is of video range, as that of color
        frame = av.VideoFrame.from_ndarray(frame.to_ndarray(format='yuv420p')[: size[0]], 'gray')
      frame = frame.reformat(format=pixels)
      if times_ms:
        frame.pts, frame.time_base = times_ms[t], Fraction(1, 1000)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def patched(path, source, atom: bytes, skip: int, *values: int):
  """A copy of an mp4 with big-endian numbers put `skip` bytes behind the name of an atom."""
  data = bytearray(source.read_bytes())
  at = data.index(atom) + 4 + skip
  data[at : at + 4 * len(values)] = struct.pack(f'>{len(values)}I', *values)
  path.write_bytes(data)
  return path


IRREGULAR = [0, 40, 80, 120, 500, 510, 520, 1000, 1040, 1600, 1640, 1700]
SHIFTED = [500 + 80 * t for t in range(FRAMES)]
EARLY = [-240 + 80 * t for t in range(FRAMES)]
REORDERED = {'bf': '3', 'b_strategy': '0'}
INTERLACED = {'flags': '+ildct+ilme'}
# name: (what to encode, frames it must have, when they begin in ms)
REGULAR = [1000 * t / RATE for t in range(FRAMES)]
AT_25 = [40 * t for t in range(FRAMES)]
SHOWN = range(FRAMES)
STEPS = [80 * t for t in range(FRAMES)]
GOOD = {
  'ten_bit.mp4': ({'pixels': 'yuv420p10le'}, SHOWN, REGULAR),
  'ten_bit_422.mkv': ({'pixels': 'yuv422p10le'}, SHOWN, REGULAR),
  'gray.mp4': ({'pixels': 'gray'}, SHOWN, REGULAR),
  'gray_ten_bit.mp4': ({'pixels': 'gray10le'}, SHOWN, REGULAR),
  'gray_lossless.avi': ({'codec': 'ffv1', 'pixels': 'gray'}, SHOWN, REGULAR),
  'interlaced.mp4': ({'options': INTERLACED}, SHOWN, REGULAR),
  'interlaced.mpg': ({'codec': 'mpeg2video', 'rate': 25, 'options': INTERLACED}, SHOWN, AT_25),
  'reordered.mp4': ({'options': REORDERED}, SHOWN, REGULAR),
  'reordered.mkv': ({'options': REORDERED}, SHOWN, REGULAR),
  'reordered.avi': ({'options': REORDERED}, SHOWN, REGULAR),
  'reordered.ts': ({'options': REORDERED}, SHOWN, REGULAR),
  'odd.mp4': ({'size': (51, 75), 'pixels': 'yuv444p'}, SHOWN, REGULAR),
  'tiny.mp4': ({'size': (32, 34)}, SHOWN, REGULAR),
  'turned.mp4': ({'rotation': 90}, SHOWN, REGULAR),
  'irregular.mp4': ({'times_ms': IRREGULAR}, SHOWN, IRREGULAR),
  'irregular.mkv': ({'times_ms': IRREGULAR, 'options': REORDERED}, SHOWN, IRREGULAR),
  'late_start.mp4': ({'times_ms': SHIFTED}, SHOWN, STEPS),
  'late_start.mkv': ({'times_ms': SHIFTED}, SHOWN, STEPS),
  'late_untagged.mkv': ({}, SHOWN, STEPS),  # the same, its length in the header alone
  'late_start.ts': ({'times_ms': SHIFTED}, SHOWN, STEPS),
  'early_start.mp4': (
    {'times_ms': EARLY},
    range(3, FRAMES),
    STEPS[:9],
  ),  # its edit list hides what is before 0
  'early_start.mkv': ({'times_ms': EARLY}, SHOWN, STEPS),  # has no edit lists: all is shown
  'early_reordered.mp4': ({'times_ms': EARLY, 'options': REORDERED}, range(3, FRAMES), STEPS[:9]),
  'one_frame.mp4': ({'frames': 1}, range(1), [0]),
  'flash.flv': ({'codec': 'flv'}, SHOWN, [round(ms) for ms in REGULAR]),
}


@pytest.fixture(scope='module')
def films(tmp_path_factory):
  """A class folder with everything good and bad, and the dataset written of it."""
  root = tmp_path_factory.mktemp('films')
  place = root / 'in' / 'a'
  place.mkdir(parents=True)
  for name, (what, *_) in GOOD.items():
    if name != 'late_untagged.mkv':
      encode(place / name, **what)
  untagged = (place / 'late_start.mkv').read_bytes().replace(b'DURATION', b'DURATIOX')
  (place / 'late_untagged.mkv').write_bytes(untagged)
  plain = encode(root / 'plain.mp4', movflags='faststart')
  with av.open(str(place / 'no_frames.avi'), 'w') as container:
    stream = container.add_stream('libx264', rate=RATE)
    stream.width, stream.height = WIDTH, HEIGHT
    container.start_encoding()
  write_sound(place / 'sound.mp4')
  cut(place / 'cut.mp4', plain, 0.7)
  cut(place / 'cut.ts', encode(root / 'plain.ts'), 0.611)
  cut(place / 'cut.flv', place / 'flash.flv', 0.5)
  patched(place / 'endless.mp4', plain, b'stts', 8, FRAMES, 0x7FFFFFF0)
  patched(place / 'still_clock.mp4', plain, b'stts', 8, FRAMES, 0)
  patched(place / 'many_samples.mp4', plain, b'stsz', 8, 0x7FFFFFFF)
  encode(place / 'long_gap.mp4', times_ms=[*STEPS[:-1], 10_000_000])
  encode(place / 'long_gap.mkv', times_ms=[*STEPS[:-1], 10_000_000])
  once = (root / 'plain.ts').read_bytes()
  (place / 'twice.ts').write_bytes(once + once)
  (place / 'list.mp4').write_text('ffconcat version 1.0\nfile reordered.ts\n')
  (place / 'live.mp4').write_text('#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nreordered.ts\n')
  avi = bytearray((place / 'reordered.avi').read_bytes())
  at = avi.index(b'strh') + 8 + 32  # dwLength
  avi[at : at + 4] = struct.pack('<I', 0x7FFFFFFF)
  (place / 'many_frames.avi').write_bytes(avi)
  with av.open(str(place / 'large.avi'), 'w') as container:
    stream = container.add_stream('png', rate=1)
    stream.width, stream.height, stream.pix_fmt = 8200, 8200, 'gray'
    container.mux(stream.encode(av.VideoFrame(8200, 8200, 'gray')))
    container.mux(stream.encode(None))
  write_png_header(place / 'large.png', 60_000, 60_000)
  write_png_header(place / 'larger_than_a_frame.png', 9_000, 9_000)
  write.main(
    [f'--folder={root / "in"}', f'--out={root / "out"}', '--short_side=0', '--processes=1']
  )
  return root


def write_png_header(path, width, height):
  import zlib

  head = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  body = struct.pack('>I', 13) + head + struct.pack('>I', zlib.crc32(head))
  path.write_bytes(b'\x89PNG\r\n\x1a\n' + body + struct.pack('>I', 4) + b'IDAT' + bytes(8))


@pytest.fixture(scope='module')
def clips(films):
  """name -> (context, frames) of what was written."""
  index, out = open_index(str(films / 'out'), 'train'), {}
  for i in range(len(index)):
    payload = read_record(index, i)
    context, spans = sequence_example.decode(payload)
    frames = np.stack([simplejpeg.decode_jpeg(sequence_example.frame(payload, s)) for s in spans])
    out[context['video/filename'][0].decode().removeprefix('a/')] = context, frames
  return out


@pytest.fixture(scope='module')
def reasons(films):
  with open(films / 'out' / 'failed.csv', newline='') as file:
    return {path.removeprefix('a/'): reason for path, _, _, reason in list(csv.reader(file))[1:]}


def test_all_are_written_or_listed(clips, reasons):
  assert set(clips) == set(GOOD) and set(reasons) == set(BAD)


def check_pictures(frames: np.ndarray, shown, gray: bool) -> None:
  """Frames are the pictures `shown`, by the color in the middle of each quarter."""
  h, w = frames.shape[1] // 4, frames.shape[2] // 4
  quarters = [frames[:, y, x].astype(int) for y in (h, -h - 1) for x in (w, -w - 1)]
  np.testing.assert_allclose(quarters[0], np.repeat([[level(t)] for t in shown], 3, 1), atol=7)
  for found, expected in zip(quarters[1:], QUARTERS):
    expected = np.full(3, expected @ [0.299, 0.587, 0.114]) if gray else expected
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=14)


@pytest.mark.parametrize('name', GOOD)
def test_written_as_rendered(films, clips, name):
  """Number of frames, size, colors and times are those of the drawing board."""
  what, shown, begins = GOOD[name]
  context, frames = clips[name]
  turned = what.get('rotation') == 90
  size = what.get('size', (HEIGHT, WIDTH))[:: -1 if turned else 1]
  assert frames.shape == (len(shown), *size, 3)
  assert (context['image/height'], context['image/width']) == ([size[0]], [size[1]])
  check_pictures(
    np.rot90(frames, -1, (1, 2)) if turned else frames, shown, 'gray' in what.get('pixels', '')
  )
  read = list(read_frames(str(films / 'in' / 'a' / name), short_side=0))
  found = [begin for begin, _, _ in read]
  np.testing.assert_allclose(found, np.array(begins) / 1000, atol=1.1e-3)
  assert [end for _, end, _ in read[:-1]] == found[1:] and read[-1][1] > read[-1][0]
  assert context['clip/start/timestamp'] == [0]
  assert context['clip/end/timestamp'] == [round(read[-1][1] * 1e6)]
  assert context['image/frame_rate'][0] == pytest.approx(len(shown) / read[-1][1])


@pytest.mark.parametrize(
  'name', ['late_start.mkv', 'late_start.mp4', 'irregular.mkv', 'early_start.mp4']
)
def test_segments_count_from_the_first_frame_shown(films, name):
  """Also where the file's clock does not start at 0: frames that begin from 0.2 s to 0.6 s of what
  is shown."""
  path, begins = str(films / 'in' / 'a' / name), GOOD[name][2]
  part = list(read_frames(path, short_side=0, start_s=0.2, end_s=0.6))
  chosen = [t for t, ms in zip(GOOD[name][1], begins) if 200 <= ms < 600]
  check_pictures(np.stack([rgb for *_, rgb in part]), chosen, False)
  np.testing.assert_allclose(
    [b for b, *_ in part], [ms / 1000 for ms in begins if 200 <= ms < 600], atol=1e-3
  )


def test_sought_segments_of_reordered_frames(tmp_path):
  """A segment far into the file has the frames that decoding from its beginning gives."""
  for name in ('a.mp4', 'a.mkv', 'a.avi', 'a.ts'):
    path = encode(tmp_path / name, frames=60, options=REORDERED)
    whole = list(read_frames(str(path), short_side=0))
    part = list(read_frames(str(path), short_side=0, start_s=2.99, end_s=4.01))
    wanted = [(b, e, rgb) for b, e, rgb in whole if 2.99 <= b < 4.01]
    assert len(whole) == 60 and [p[0] for p in part] == pytest.approx(
      [w[0] for w in wanted], abs=2e-3
    )
    np.testing.assert_array_equal(np.stack([p[2] for p in part]), np.stack([w[2] for w in wanted]))


def test_resampling_stops_at_the_end_of_the_segment(tmp_path):
  """A frame that stays on show beyond the segment is not repeated beyond it."""
  path = encode(tmp_path / 'a.mp4', times_ms=[*STEPS[:5], *(ms + 3000 for ms in STEPS[5:])])
  part = list(read_frames(str(path), short_side=0, start_s=0, end_s=1, frame_rate=10))
  assert len(part) == 10 and part[-1][0] == pytest.approx(0.9)


BAD = {
  'no_frames.avi': 'no frames: zero duration',
  'sound.mp4': 'no video: the file has sound only',
  'cut.mp4': 'truncated: ',
  'cut.ts': 'truncated: ',
  'cut.flv': 'truncated: ',
  'endless.mp4': 'too long: a frame is on show from 0 to 174763 s',
  'long_gap.mp4': 'too long: a frame is on show from 1 to 10000 s, and --max_duration_s allows 3600 s'
  ': raise that, or cut the video into segments (start_s, end_s of a --manifest)',
  'long_gap.mkv': 'too long: 10000 s by its header',
  'still_clock.mp4': 'clock: frame ',
  'many_samples.mp4': 'unreadable: ',
  'many_frames.avi': 'too long: 178956971 s by its header',
  'twice.ts': 'clock: frame 12 begins at 0.000 s, the one before it at 0.917 s',
  'list.mp4': 'unreadable: a playlist, not a video; name the files it lists',
  'live.mp4': 'unreadable: a playlist',
  'large.avi': 'too large: 8200x8200 pixels; at most 67108864',
  'large.png': 'unreadable: not an image, or cut off (Image size (3600000000 pixels) exceeds limit',
  'larger_than_a_frame.png': 'too large: 9000x9000 pixels; at most 67108864',
}


@pytest.mark.parametrize('name', BAD)
def test_listed_with_what_is_wrong(reasons, name):
  assert reasons[name].startswith(BAD[name])


def test_a_live_playlist_does_not_wait_for_more(films):
  """By its own extension it would be read again and again without end."""
  path = films / 'in' / 'live.m3u8'
  path.write_text('#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na/reordered.ts\n')
  with pytest.raises(VideoError, match='unreadable: a playlist'):
    list(read_frames(str(path), short_side=0))


@pytest.mark.parametrize(
  'start, end, words',
  [
    (0.21, 0.22, 'segment: no frame begins between 0.21 and 0.22 s; make it longer'),
    (0.99, None, 'segment: it starts at 0.99 s, the video ends at 1.00 s'),
    (1e300, None, r'segment: it starts at 1e\+300 s, the video ends at 1.00 s'),
    (0.5, 1e6, r'segment: it ends at 1e\+06 s, the video at 1.00 s'),
  ],
)
def test_segments_that_hold_no_frame(films, start, end, words):
  with pytest.raises(VideoError, match=words):
    list(read_frames(str(films / 'plain.mp4'), short_side=0, start_s=start, end_s=end))


def test_longest_clip_can_be_set(films, tmp_path):
  """It bounds what is written: of a longer video, segments are."""
  (tmp_path / 'list.csv').write_text('plain.mp4,a,,\nplain.mp4,a,0.25,0.75\nplain.mp4,a,0.1,0.9\n')
  flags = [
    f'--manifest=train:{tmp_path / "list.csv"}',
    f'--videos={films}',
    '--processes=1',
    '--max_duration_s=0.6',
  ]
  write.main([*flags, f'--out={tmp_path / "out"}'])
  with open(tmp_path / 'out' / 'failed.csv', newline='') as file:
    failed = [(row, reason) for _, _, row, reason in list(csv.reader(file))[1:]]
  assert [row for row, _ in failed] == ['1', '3']
  assert all(
    r.startswith('too long: 1 s by its header, and --max_duration_s allows 0.6 s')
    for _, r in failed
  )
  index = open_index(str(tmp_path / 'out'), 'train')
  assert index.frames.tolist() == [6] and index.manifest['settings']['max_duration_s'] == 0.6


def test_longest_clip_without_a_header_that_says_so(tmp_path):
  """Streams that promise nothing are stopped while they are read."""
  path = encode(tmp_path / 'a.h264', frames=30)
  assert len(list(read_frames(str(path), short_side=0))) == 30
  with pytest.raises(VideoError, match='too long: a frame is on show from 0 to 1 s'):
    list(read_frames(str(path), short_side=0, max_duration_s=0.5))


def test_clips_of_too_many_bytes(films, monkeypatch):
  """A clip too large for readers of the records is refused while it grows, not when memory is
  full."""
  monkeypatch.setattr(shards, 'MOST_BYTES', 5000)
  row = shards.rows_lib.Row('plain.mp4', 'train', {}, 1)
  with pytest.raises(
    VideoError, match=r'too large: \d+ frames have \d+ bytes, at most 5000; cut it into segments'
  ):
    shards.encode_clip(row, str(films), {}, shards.Settings(0, 95, 0))


def test_shapes_that_no_jpeg_holds(tmp_path):
  path = encode(tmp_path / 'a.mp4', size=(16, 4112), frames=1)
  with pytest.raises(
    VideoError, match='too large: 4112x16 pixels, 65792x256 as stored; at most 65500 a side'
  ):
    list(read_frames(str(path), short_side=256))


def test_a_stream_that_grows_while_it_is_read(films, monkeypatch):
  """The bound holds for every frame, not for the header alone."""
  monkeypatch.setattr(video_file, '_check_pixels', lambda width, height: None)
  monkeypatch.setattr(video_file, 'MOST_PIXELS', 2000)
  with pytest.raises(VideoError, match='truncated: 0 of 12 frames decodable|too large: 64x48'):
    list(read_frames(str(films / 'plain.mp4'), short_side=0))
