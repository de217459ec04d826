"""Frames of real files: upright, complete, in true time; bad files fail with their reason."""

import os
import re

import av
import numpy as np
import pytest
from PIL import Image

from tests.data_prep.films import (
  CORNERS,
  cut,
  encoded,
  pictures,
  with_times_of_decoding,
  write_avi,
  write_sound,
  write_theora,
  write_video,
  write_with_sound,
)
from vjax.data.video_file import VideoError, frame_times, read_frames, stored_size, why_unreadable


def read(path, short_side=0, **kwargs):
  frames = list(read_frames(str(path), short_side=short_side, **kwargs))
  return [(round(a, 3), round(b, 3)) for a, b, _ in frames], np.stack([rgb for *_, rgb in frames])


def corner_colors(image):
  """Names of the colors of the four corners, row by row."""
  colors = np.array(list(CORNERS.values()))
  corners = [image[y, x].astype(int) for y in (3, -4) for x in (3, -4)]
  return [list(CORNERS)[np.abs(colors - c).sum(1).argmin()] for c in corners]


def failure(path, **kwargs):
  with pytest.raises(VideoError) as e:
    read(path, **kwargs)
  return str(e.value)


@pytest.mark.parametrize(
  'name, codec',
  [('a.mp4', 'libx264'), ('a.mkv', 'libx264'), ('a.webm', 'libvpx'), ('a.avi', 'mpeg4')],
)
def test_containers(tmp_path, name, codec):
  times, video = read(write_video(tmp_path / name, codec=codec))
  assert (
    video.shape == (24, 48, 64, 3)
    and times[0][0] == 0
    and times[-1][1] == pytest.approx(2, abs=1e-3)
  )
  assert np.abs(video[:, :10, :10].astype(int) - pictures(24)[:, :10, :10]).max() < 12
  assert times[12][0] == pytest.approx(1, abs=1e-3)


def test_short_side_and_odd_sizes(tmp_path):
  path = write_video(tmp_path / 'a.mp4', height=51, width=75)
  assert read(path)[1].shape[1:3] == (51, 75)
  assert read(path, short_side=32)[1].shape[1:3] == (32, 47)
  assert stored_size(1920, 1080, 256) == (455, 256) and stored_size(1080, 1920, 256) == (256, 455)


def test_pixels_become_square(tmp_path):
  assert read(write_video(tmp_path / 'a.mp4', aspect='3/2'))[1].shape[1:3] == (48, 96)


@pytest.mark.parametrize(
  'rotation, mirror, corners',
  [
    (0, False, 'red blue green white'),
    (90, False, 'blue white red green'),
    (180, False, 'white green blue red'),
    (270, False, 'green red white blue'),
    (0, True, 'blue red white green'),
  ],
)
def test_display_matrix_is_applied(tmp_path, rotation, mirror, corners):
  _, video = read(write_video(tmp_path / 'a.mp4', rotation=rotation, mirror=mirror))
  assert corner_colors(video[0]) == corners.split()
  assert video.shape[1:3] == ((64, 48) if rotation % 180 else (48, 64))


def test_other_angles_are_refused(tmp_path):
  assert failure(write_video(tmp_path / 'a.mp4', rotation=45)).startswith('rotated: ')


def test_variable_frame_rate_keeps_true_times(tmp_path):
  at = [0, 40, 80, 120, 500, 1000, 1040, 1080]
  times, _ = read(write_video(tmp_path / 'a.mp4', frames=8, times=at))
  assert [round(a * 1000) for a, _ in times] == at
  assert [b for _, b in times[:-1]] == [a for a, _ in times[1:]]


def test_resampling_shows_the_frame_of_the_time(tmp_path):
  at = [0, 40, 80, 120, 500, 1000]
  path = write_video(tmp_path / 'a.mp4', frames=6, times=at)
  _, source = read(path)
  times, video = read(path, frame_rate=10)
  shown = [max(i for i, t in enumerate(at) if t <= 100 * k) for k in range(len(video))]
  assert [a for a, _ in times[:10]] == [k / 10 for k in range(10)]
  np.testing.assert_array_equal(video, source[shown])


@pytest.mark.parametrize('start, end', [(0, 1), (0.5, 1.25), (1.5, None), (1.25, 1.75), (1.5, 2.4)])
def test_segments(tmp_path, start, end):
  path = write_video(tmp_path / 'a.mp4')
  _, whole = read(path)
  times, part = read(path, start_s=start, end_s=end)
  stop = 24 if end is None else min(24, round(end * 12))
  np.testing.assert_array_equal(part, whole[round(start * 12) : stop])
  assert times[0][0] == pytest.approx(start, abs=1e-3)


@pytest.mark.parametrize('start, end', [(3, 4), (3, None), (1, 2.9)])
def test_segments_beyond_the_end(tmp_path, start, end):
  assert 'segment: it' in failure(write_video(tmp_path / 'a.mp4'), start_s=start, end_s=end)


@pytest.mark.parametrize('share', [0.4, 0.7, 0.97])
def test_truncated_mp4(tmp_path, share):
  source = write_video(tmp_path / 'a.mp4', movflags='faststart')
  reason = failure(cut(tmp_path / 'b.mp4', source, share))
  assert reason.startswith('truncated: ') and ' of 24 frames decodable' in reason
  assert 0 <= int(reason.split()[1]) < 24


@pytest.mark.parametrize(
  'name, codec', [('a.mkv', 'libx264'), ('a.webm', 'libvpx'), ('a.avi', 'mpeg4')]
)
@pytest.mark.parametrize('share', [0.5, 0.9])
def test_truncated_others(tmp_path, name, codec, share):
  source = write_video(tmp_path / name, codec=codec)
  reason = failure(cut(tmp_path / f'b{name[1:]}', source, share))
  assert reason.startswith('truncated: ') and ' of 24 frames decodable' in reason


CONTAINERS = {
  'a.mp4': ('libx264', 'aac', {'movflags': 'faststart'}),
  'fragments.mp4': ('libx264', 'aac', {'movflags': 'frag_keyframe+empty_moov'}),
  'a.mov': ('libx264', 'aac', {}),
  'a.mkv': ('libx264', 'aac', {}),
  'a.webm': ('libvpx', 'libopus', {}),
  'a.avi': ('mpeg4', 'mp3', {}),
  'b.avi': ('libx264', 'mp3', {}),
  'a.wmv': ('wmv2', 'wmav2', {}),
  'a.asf': ('msmpeg4', 'mp3', {}),
  'a.flv': ('libx264', 'aac', {}),
  'b.flv': ('flv', 'mp3', {}),
  'a.ogv': ('libvpx', 'flac', {}),
  'a.mpg': ('mpeg1video', 'mp2', {}),
  'a.vob': ('mpeg2video', 'ac3', {}),
  'a.ts': ('libx264', 'aac', {}),
  'a.MTS': ('libx264', 'ac3', {'mpegts_m2ts_mode': '1'}),
  'a.gif': ('gif', '', {}),
}


@pytest.mark.parametrize('sound, late', [(0, 5), (1.6, 0)])
@pytest.mark.parametrize('name', CONTAINERS)
def test_whole_and_cut_with_any_sound_and_start(tmp_path, name, sound, late):
  """Whatever else is in the file, and wherever its clock starts, it is the picture that counts.
  What is cut off inside a unit of the container is found, also where the sound alone ends early."""
  codec, kind, options = CONTAINERS[name]
  path = tmp_path / name
  write_with_sound(path, codec, kind if sound else '', sound, 25, 25, late=late, **options)
  times, video = read(path)
  assert len(video) == 25 and times[0][0] == 0 and not why_unreadable(str(path))
  if name != 'a.avi':  # has no start: its first picture stays for longer
    assert times[-1][1] == pytest.approx(1, abs=0.02)
  data = path.read_bytes()
  # The tables of an MP4 say where its pictures are: with sound, its last tenth holds none.
  for share in (0.5,) if name == 'a.mp4' and sound else (0.5, 0.9):
    size = int(len(data) * share)
    path = tmp_path / f'cut_{name}'
    path.write_bytes(data[: size - (not size % 4)])  # packets of a stream have multiples of 4
    reason = failure(path)
    assert reason.startswith(('truncated: ', 'unreadable: ', 'no video: ', 'codec: '))
    consistent(reason)


def test_the_length_of_a_file_may_say_where_it_ends(tmp_path):
  path = write_with_sound(tmp_path / 'a.nut', 'mpeg4', '', late=5)
  assert len(read(path)[1]) == 24


def consistent(reason):
  """The numbers of a reason do not contradict what it says: fewer than promised, and earlier."""
  if found := re.search(r'(\d+) of (\d+) frames', reason):
    assert int(found[1]) < int(found[2]), reason
  if found := re.search(r'end at ([\d.]+) s of ([\d.]+) s', reason):
    assert float(found[1]) < float(found[2]), reason


@pytest.mark.parametrize(
  'chunks, begins, end',
  [
    ('......', range(6), 6),
    ('.-.--...', [0, 2, 5, 6, 7], 8),  # '-': a tick without a picture
    ('...----', range(3), 7),
    ('--...', range(3), 3),
    ('.-', [0], 2),
  ],
)
@pytest.mark.parametrize('closed', [True, False])
def test_ticks_of_an_avi_without_a_picture(tmp_path, chunks, begins, end, closed):
  """The picture before stays on show; nothing is missing."""
  packets = iter(encoded('mpeg4', 6))
  data = [next(packets) if c == '.' else b'' for c in chunks]
  times, _ = read(write_avi(tmp_path / 'a.avi', data, closed=closed))
  assert [a for a, _ in times] == pytest.approx([t / 12 for t in begins], abs=1e-3)
  assert times[-1][1] == pytest.approx(end / 12, abs=1e-3)
  for share in (0.6, 0.9):
    short = cut(tmp_path / 'b.avi', tmp_path / 'a.avi', share)
    if share == 0.6 or not closed and chunks[-1] == '.':  # 0.9 is in the index, or behind pictures
      consistent(failure(short))


@pytest.mark.parametrize('ticks', [0, 1 << 30])  # of a recorder that was stopped, and of a pipe
def test_an_avi_that_never_said_its_length(tmp_path, ticks):
  path = write_avi(tmp_path / 'a.avi', encoded('mpeg4', 6), ticks=ticks, closed=False)
  assert len(read(path)[1]) == 6
  assert failure(cut(tmp_path / 'b.avi', path, 0.8)).startswith('truncated: ')


def test_an_avi_that_lacks_chunks(tmp_path):
  """Fewer ticks than the header says; one is a matter of counting."""
  packets = encoded('mpeg4', 6)
  assert len(read(write_avi(tmp_path / 'a.avi', packets, ticks=7))[1]) == 6
  reason = failure(write_avi(tmp_path / 'b.avi', packets, ticks=9))
  assert reason == 'truncated: 6 of 9 frames decodable, which end at 0.50 s of 0.75 s'
  data = bytearray(write_avi(tmp_path / 'c.avi', packets).read_bytes())
  third = data.index(packets[2]) - 8
  data[third : third + 100] = bytes(100)
  (tmp_path / 'c.avi').write_bytes(data)
  assert failure(tmp_path / 'c.avi').startswith('truncated: ')


def test_empty_packets_of_theora_keep_the_picture(tmp_path):
  """They are no end of the stream."""
  path = write_theora(tmp_path / 'a.ogv', [0, 2, 0, 3])
  assert read(path)[0] == [(0, 0.083), (0.083, 0.333), (0.333, 0.417), (0.417, 0.75)]
  assert frame_times(str(path)) == pytest.approx([0, 1 / 12, 4 / 12, 5 / 12])
  assert failure(cut(tmp_path / 'b.ogv', path, 0.97)).startswith('truncated: ')


@pytest.mark.parametrize('container', ['mp4', 'mkv', 'mov'])
def test_times_of_decoding_for_those_of_showing(tmp_path, container):
  """Frames that refer to later ones are decoded after them: their times are put in order."""
  options = {'bf': '2', 'b_strategy': '0'}
  path = write_with_sound(tmp_path / 'a.mp4', 'mpeg4', '', options=options)
  times, video = read(path)
  path = with_times_of_decoding(tmp_path / f'b.{container}', path)
  again, same = read(path)
  np.testing.assert_array_equal(video, same)
  assert [a for a, _ in again] == pytest.approx([a for a, _ in times], abs=2e-3)
  part, _ = read(path, start_s=1.25, end_s=1.75)
  assert [a for a, _ in part] == pytest.approx([t / 12 for t in range(15, 21)], abs=2e-3)


def test_a_stream_between_other_bytes(tmp_path):
  """A recording may begin and end with something else; only a cut packet says that it is cut."""
  data = write_video(tmp_path / 'a.ts').read_bytes()
  (tmp_path / 'b.ts').write_bytes(bytes(77) + data + bytes(33))
  assert len(read(tmp_path / 'b.ts')[1]) == 24
  assert 'ends inside a packet' in failure(cut(tmp_path / 'c.ts', tmp_path / 'a.ts', 0.613))


def test_content_decides_not_the_name(tmp_path):
  write_video(tmp_path / 'a.mp4', frames=3).rename(tmp_path / 'film')
  Image.fromarray(pictures(1)[0]).save(tmp_path / 'a.png')
  (tmp_path / 'a.png').rename(tmp_path / 'image.dat')
  write_video(tmp_path / 'b.mp4', frames=3).rename(tmp_path / 'film.jpg')
  (tmp_path / 'text').write_text('Élan\n' * 1000)
  write_sound(tmp_path / 'sound.mp4')
  for name, frames in (('film', 3), ('image.dat', 1), ('film.jpg', 3)):
    assert len(read(tmp_path / name)[1]) == frames and not why_unreadable(str(tmp_path / name))
  assert why_unreadable(str(tmp_path / 'text')) == 'unreadable: a text file'
  assert why_unreadable(str(tmp_path / 'sound.mp4')) == 'no video: the file has sound only'
  assert why_unreadable(str(tmp_path / 'gone')) == 'missing: no such file'


def test_damage_in_the_middle(tmp_path):
  data = bytearray(write_video(tmp_path / 'a.mp4', movflags='faststart').read_bytes())
  for i in range(len(data) // 2, len(data) // 2 + 600):
    data[i] = (data[i] * 7 + 13) % 256
  (tmp_path / 'b.mp4').write_bytes(data)
  assert failure(tmp_path / 'b.mp4').startswith('truncated: ')


def test_bad_files(tmp_path):
  (tmp_path / 'empty.mp4').write_bytes(b'')
  (tmp_path / 'noise.mp4').write_bytes(np.random.default_rng(0).bytes(5000))
  with av.open(str(tmp_path / 'none.avi'), 'w') as container:
    stream = container.add_stream('libx264', rate=12)
    stream.width, stream.height = 64, 48
    container.start_encoding()
  assert failure(tmp_path / 'gone.mp4') == 'missing: no such file'
  assert failure(tmp_path / 'empty.mp4') == 'empty: the file has 0 bytes'
  assert failure(tmp_path / 'noise.mp4').startswith('unreadable: ')
  assert failure(tmp_path / 'none.avi') == 'no frames: zero duration'
  assert failure(write_sound(tmp_path / 'sound.mp4')) == 'no video: the file has sound only'
  assert failure(cut(tmp_path / 'half.mp4', write_video(tmp_path / 'a.mp4'), 0.5)).startswith(
    'unreadable: '
  )


def test_images(tmp_path):
  image = pictures(1)[0]
  turned = Image.Exif()
  turned[0x0112] = 6  # to be turned clockwise
  Image.fromarray(image).save(tmp_path / 'a.png')
  Image.fromarray(image).save(tmp_path / 'b%03d.jpg', quality=95, exif=turned)
  times, video = read(tmp_path / 'a.png')
  assert times == [(0, 0)]
  np.testing.assert_array_equal(video[0], image)
  _, video = read(tmp_path / 'b%03d.jpg', short_side=24)
  assert video.shape == (1, 32, 24, 3) and corner_colors(video[0]) == 'green red white blue'.split()
  assert failure(cut(tmp_path / 'c.jpg', tmp_path / 'b%03d.jpg', 0.6)).startswith(
    'unreadable: not an image'
  )


@pytest.mark.parametrize('mode', ['I;16', 'I;16B'])
def test_images_of_sixteen_bits_keep_their_greys(tmp_path, mode):
  """Scaled to eight, rounded; Pillow alone would make white of all above 255."""
  levels = np.array([[0, 128, 129, 257, 40000, 65535]] * 2, np.uint16)
  image = Image.frombytes(
    mode, (6, 2), levels.astype('>u2' if mode == 'I;16B' else '<u2').tobytes()
  )
  image.save(tmp_path / 'a.png')
  [(_, _, frame)] = read_frames(str(tmp_path / 'a.png'), short_side=0)
  assert frame.tolist() == [[[v] * 3 for v in (0, 0, 1, 1, 156, 255)]] * 2


@pytest.mark.parametrize('mode', ['I', 'F'])
def test_images_whose_range_is_unknown_are_refused(tmp_path, mode):
  Image.new(mode, (4, 2), 70000).save(tmp_path / 'a.tiff')
  os.rename(tmp_path / 'a.tiff', tmp_path / 'a.png')
  with pytest.raises(
    VideoError, match=rf'unreadable: an image of mode {mode} \(32 bits a pixel\); save it with 8'
  ):
    list(read_frames(str(tmp_path / 'a.png'), short_side=0))


@pytest.mark.parametrize('extension', ['webp', 'png'])
def test_animated_images_are_refused_not_cut_to_one_frame(tmp_path, extension):
  images = [Image.new('RGB', (40, 30), (60 * i, 0, 0)) for i in range(4)]
  images[0].save(tmp_path / f'a.{extension}', save_all=True, append_images=images[1:])
  with pytest.raises(VideoError, match='animated: an image of 4 frames; save it as a video'):
    list(read_frames(str(tmp_path / f'a.{extension}'), short_side=0))
  images[0].save(tmp_path / f'b.{extension}')
  assert len(list(read_frames(str(tmp_path / f'b.{extension}'), short_side=0))) == 1


def test_a_photograph_with_a_preview_is_read(tmp_path):
  """Telephones write such files (MPO): the first picture is the photograph."""
  images = [Image.new('RGB', (40, 30), 'white'), Image.new('RGB', (20, 15))]
  images[0].save(tmp_path / 'a.jpg', 'MPO', save_all=True, append_images=images[1:])
  [(_, _, frame)] = read_frames(str(tmp_path / 'a.jpg'), short_side=0)
  assert frame.shape == (30, 40, 3) and frame.min() > 250
