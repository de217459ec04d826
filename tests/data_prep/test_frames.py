"""Folders of images as videos: order, bytes that stay as they are, what is wrong with a folder."""

import io
import re

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from data_prep import frames, write
from data_prep.frames import list_images, pack, read_folder
from tests.data import make
from tests.data_prep.films import pictures
from vjax.data.specs import DatasetSpec
from vjax.data.split import open_split
from vjax.data.video_file import VideoError


def put(folder, count=4, quality=80, height=24, name='{:05}.jpg'):
  """JPEGs of `pictures`; returns the bytes of each."""
  folder.mkdir(parents=True, exist_ok=True)
  found = []
  for i, image in enumerate(pictures(count, height, 32), 1):
    found.append(simplejpeg.encode_jpeg(np.ascontiguousarray(image // i), quality, 'RGB', '420'))
    (folder / name.format(i)).write_bytes(found[-1])
  return found


def read(folder, rate=12.0, **settings):
  return list(read_folder(str(folder), rate, **{'short_side': 256, 'quality': 95} | settings))


def test_images_are_in_order_of_their_numbers(tmp_path):
  put(tmp_path, 12, name='img_{}.jpg')
  put(tmp_path, 2, name='flow_x_{:05}.jpg')
  (tmp_path / 'Thumbs.db').write_bytes(b'x')
  assert list_images(str(tmp_path)) == [f'img_{i}.jpg' for i in range(1, 13)]


@pytest.mark.parametrize('names, words', [
  (['1.jpg', '2.jpg', '4.jpg'], 'images: number 3 of 1 to 4 is missing'),
  (['1.jpg', '01.jpg'], "number 1 of 1 to 1 is there twice, as ['01.jpg', '1.jpg']"),
  (['a1.jpg', 'b1.jpg'], 'of several series (a..., b...)'),
  (['x.jpg', '1.txt'], 'no frames: the folder has no images with numbers'),
])  # fmt: skip
def test_a_folder_that_is_not_whole(tmp_path, names, words):
  for name in names:
    (tmp_path / name).write_bytes(b'x')
  with pytest.raises(VideoError, match=re.escape(words)):
    list_images(str(tmp_path))


def test_images_keep_their_bytes_where_size_and_quality_permit(tmp_path):
  jpegs = put(tmp_path)
  found = read(tmp_path)
  assert [jpeg for _, _, jpeg, _ in found] == jpegs
  assert [(b, e) for b, e, _, _ in found] == [(i / 12, (i + 1) / 12) for i in range(4)]
  assert {size for *_, size in found} == {(24, 32)}
  assert [jpeg for _, _, jpeg, _ in read(tmp_path, short_side=0, quality=80)] == jpegs
  assert [(b, e) for b, e, _, _ in read(tmp_path, rate=0)] == [(0, 0)] * 4


@pytest.mark.parametrize('change', [dict(short_side=12), dict(quality=60)])
def test_larger_or_finer_images_are_encoded_again(tmp_path, change):
  jpegs = put(tmp_path, 1)
  [(_, _, jpeg, size)] = read(tmp_path, **change)
  side = change.get('short_side', 24)
  assert len(jpeg) < len(jpegs[0]) and size == (side, side * 4 // 3)
  assert simplejpeg.decode_jpeg(jpeg, 'RGB').shape == (*size, 3)


def test_other_images_become_jpegs(tmp_path):
  """PNGs, gray and turned ones; upright as they are shown."""
  image = Image.fromarray(pictures(1, 24, 32)[0])
  image.save(tmp_path / '1.png')
  exif = Image.Exif()
  exif[0x0112] = 6
  image.save(tmp_path / '2.jpg', exif=exif)
  image.convert('L').save(tmp_path / '3.jpg')
  jpeg, size = pack(str(tmp_path / '1.png'), 256, 95)
  assert size == (24, 32) and jpeg[:2] == b'\xff\xd8'
  jpeg, size = pack(str(tmp_path / '2.jpg'), 256, 95)
  assert size == (32, 24) and Image.open(io.BytesIO(jpeg)).size == (24, 32)
  jpeg, size = pack(str(tmp_path / '3.jpg'), 256, 95)
  assert Image.open(io.BytesIO(jpeg)).mode == 'RGB'


def test_an_image_that_is_cut_off_fails_the_folder(tmp_path):
  jpegs = put(tmp_path, 2)
  for content in (jpegs[1][: len(jpegs[1]) // 2], b'', b'text'):
    (tmp_path / '00002.jpg').write_bytes(content)
    with pytest.raises(VideoError, match=r'unreadable: .*00002\.jpg'):
      read(tmp_path)


def test_images_of_two_sizes_fail_the_folder(tmp_path):
  put(tmp_path, 2)
  put(tmp_path, 1, height=16)
  with pytest.raises(VideoError, match=r'00002.jpg has .* \(24, 32\), 00001.jpg \(16, 32\)'):
    read(tmp_path)


def test_segments_and_frame_rates_of_images(tmp_path):
  jpegs = put(tmp_path, 8)
  at = lambda found: [jpegs.index(jpeg) for _, _, jpeg, _ in found]
  assert at(read(tmp_path, rate=4, start_s=0.5, end_s=1.25)) == [2, 3, 4]
  assert at(read(tmp_path, rate=4, frame_rate=2)) == [0, 2, 4, 6]
  assert at(read(tmp_path, rate=4, start_s=1, end_s=1.5, frame_rate=8)) == [4, 4, 5, 5]
  for change, words in (
    (dict(rate=0, frame_rate=2), 'pass --image_rate'),
    (dict(rate=4, start_s=9), 'starts at 9 s, the images end at 2 s'),
    (dict(rate=4, end_s=3), 'ends at 3 s, the images at 2.00 s'),
    (dict(rate=4, max_duration_s=1), 'too long: 2 s'),
  ):
    with pytest.raises(VideoError, match=words):
      read(tmp_path, **change)


def test_holds_images(tmp_path):
  assert not frames.holds_images(str(tmp_path)) and not frames.holds_images(str(tmp_path / 'gone'))
  (tmp_path / 'frame_0000000001.JPG').write_bytes(b'x')
  assert frames.holds_images(str(tmp_path))


def test_folders_of_images_become_a_dataset(tmp_path, capsys):
  """The published form of Something-Something V1: records hold the bytes of the images."""
  root, lists = tmp_path / 'v', 'something-something-v1-'
  jpegs = {i: put(root / '20bn-something-something-v1' / str(i), 3 + i) for i in (1, 2, 3)}
  (root / '20bn-something-something-v1' / '3' / '00002.jpg').unlink()
  texts = dict(train='1;B of it\n2;A\n3;A\n4;A\n', validation='2;A\n', labels='B of it\nA\n')
  paths = []
  for part, text in texts.items():
    (tmp_path / f'{lists}{part}.csv').write_text(text)
    paths.append(str(tmp_path / f'{lists}{part}.csv'))
  out = tmp_path / 'ssv1'
  write.main(['--list', *paths, f'--root={root}', f'--out={out}', '--processes=1'])
  said = capsys.readouterr().out
  assert 'Something-Something V1 CSV (--list_kind=ssv1), 4 rows, split train' in said
  assert '4 videos are folders of images, images per second: 12' in said
  assert make.manifest(out)['classes'] == ['B of it', 'A']
  failed = (out / 'failed.csv').read_text().splitlines()[1:]
  assert len(failed) == 2 and 'number 2 of 1 to 6 is missing' in failed[0]
  assert failed[1].startswith('4,train,4,missing')
  split = open_split(str(tmp_path), DatasetSpec(name='ssv1', num_classes=2), 'train')
  records = {split.name_of(row): split.read(row) for row in split.rows}
  record = records['20bn-something-something-v1/1']
  assert record.frames(range(4)) == jpegs[1] and record.frame_rate == 12
  assert split.labels_of(record) == [0] and record.context['clip/end/timestamp'] == [333333]
