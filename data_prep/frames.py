"""Folders of images, each the frames of one video: lists them in order, and packs them as JPEGs,
unchanged where they are stored well enough."""

from __future__ import annotations

import functools
import io
import os
import re
from collections.abc import Iterator

import numpy as np

from vjax.data.image import image_size
from vjax.data.video_file import SEGMENT_SLACK_S, VideoError, read_image, resample

_IMAGE = re.compile(r'(?P<series>.*?)(?P<number>\d+)\.(jpe?g|png)', re.I)
_ORIENTATION = 0x0112  # in EXIF


def holds_images(folder: str) -> bool:
  """Returns whether a folder has an image with a number, such as img_00001.jpg."""
  try:
    with os.scandir(folder) as entries:
      return any(_IMAGE.fullmatch(entry.name) for entry in entries)
  except OSError:
    return False


def list_images(folder: str) -> list[str]:
  """Returns the names of the images in order of their numbers.

  Images of optical flow beside them (flow_x_00001.jpg) are left out. Raises VideoError for a folder
  without images, with those of several series, and for a number that is missing or there twice.
  """
  series: dict[str, dict[int, list[str]]] = {}
  try:
    names = sorted(os.listdir(folder))
  except OSError as e:
    raise VideoError(f'missing: {e.strerror}') from e
  for name in names:
    match = _IMAGE.fullmatch(name)
    if match and 'flow' not in match['series'].lower():
      series.setdefault(match['series'], {}).setdefault(int(match['number']), []).append(name)
  if len(series) != 1:
    begin = ', '.join(f'{name}...' for name in sorted(series))
    raise VideoError(
      f'images: of several series ({begin}); leave one in the folder'
      if series
      else 'no frames: the folder has no images with numbers, such as 00001.jpg'
    )
  (found,) = series.values()
  for number in range(min(found), max(found) + 1):
    if len(found.get(number, ())) != 1:
      said = 'is missing' if number not in found else f'is there twice, as {found[number]}'
      raise VideoError(
        f'images: number {number} of {min(found)} to {max(found)} {said}; copy the folder again'
      )
  return [found[number][0] for number in sorted(found)]


def read_folder(
  folder: str,
  rate: float,
  *,
  short_side: int,
  quality: int,
  start_s: float | None = None,
  end_s: float | None = None,
  frame_rate: float = 0,
  max_duration_s: float = float('inf'),
) -> Iterator[tuple[float, float, bytes, tuple[int, int]]]:
  """Yields (start, end, JPEG, (height, width)) of the images of a folder in order.

  Args:
    folder: of the images.
    rate: images per second, 0 = unknown: all times are 0 then.
    short_side: larger images are scaled to this number of pixels, smaller ones keep their size; 0
      keeps all.
    quality: of the JPEGs that are encoded. A JPEG of this quality or less, of a size that is kept,
      keeps its bytes.
    start_s, end_s: the segment [start_s, end_s); needs a rate.
    frame_rate: 0 keeps the images; otherwise frame k is the one on show at start + k / frame_rate;
      needs a rate.
    max_duration_s: of the whole folder or segment.

  Raises:
    VideoError: with the reason, also where the images have several sizes.
  """
  if not rate and (frame_rate or start_s is not None or end_s is not None):
    raise VideoError('images: their number per second is not known; pass --image_rate')
  start, end = start_s or 0.0, float('inf') if end_s is None else end_s
  names, step = list_images(folder), 1 / rate if rate else 0.0
  shown = [
    (i * step, (i + 1) * step, name)
    for i, name in enumerate(names)
    if start - step / 2 <= i * step < end - 1e-6
  ]
  if not shown:
    raise VideoError(
      f'segment: it starts at {start:g} s, the images end at {len(names) * step:g} s'
    )
  if end != float('inf') and end > len(names) * step + SEGMENT_SLACK_S:
    raise VideoError(f'segment: it ends at {end:g} s, the images at {len(names) * step:.2f} s')
  if shown[-1][1] - shown[0][0] > max_duration_s:
    raise VideoError(
      f'too long: {shown[-1][1] - shown[0][0]:.0f} s, and --max_duration_s allows '
      f'{max_duration_s:g} s: raise that, or cut it into segments'
    )
  frames = resample(iter(shown), shown[0][0], end, frame_rate) if frame_rate else shown
  last, jpeg, size, first = '', b'', (0, 0), None
  for begin, finish, name in frames:
    if name != last:
      jpeg, size = pack(os.path.join(folder, name), short_side, quality)
      last, first = name, first or (name, size)
      if size != first[1]:
        raise VideoError(
          f'images: {name} has (height, width) {size}, {first[0]} {first[1]}; a clip has one'
        )
    yield begin, finish, jpeg, size


def pack(path: str, short_side: int, quality: int) -> tuple[bytes, tuple[int, int]]:
  """Returns (JPEG, (height, width)) of an image file, see `read_folder`. Raises VideoError."""
  import simplejpeg

  try:
    with open(path, 'rb') as file:
      data = file.read()
  except OSError as e:
    raise VideoError(f'unreadable: {os.path.basename(path)}: {e.strerror}') from e
  side, kept = _inspect(data, os.path.basename(path), quality)
  larger = bool(short_side) and side > short_side
  if kept and not larger:
    try:
      height, width, _ = simplejpeg.decode_jpeg(data, 'RGB').shape
      if image_size(data) == (height, width):
        return data, (height, width)
    except ValueError:  # flawed; what can be read of it is encoded below
      pass
  try:
    rgb = read_image(path, short_side if larger else 0)
  except VideoError as e:
    raise VideoError(f'{e} in {os.path.basename(path)}') from e
  jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality, 'RGB', '420')
  return jpeg, rgb.shape[:2]


def _inspect(data: bytes, name: str, quality: int) -> tuple[int, bool]:
  """Returns the short side of an image, and whether it is an upright JPEG in color that is stored
  with no finer steps than those of `quality`."""
  from PIL import Image, JpegImagePlugin

  try:
    with Image.open(io.BytesIO(data)) as image:
      side = min(image.size)
      if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode != 'RGB':
        return side, False
      upright = image.getexif().get(_ORIENTATION, 1) == 1
      return side, upright and sum(image.quantization[0]) >= _steps(quality)
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
    raise VideoError(f'unreadable: {name} is not an image, or cut off ({e})') from e


@functools.cache
def _steps(quality: int) -> int:
  """Returns the sum of the quantization steps of luminance that a JPEG of this quality has."""
  import simplejpeg
  from PIL import JpegImagePlugin

  jpeg = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8), quality, 'RGB', '420')
  return sum(JpegImagePlugin.JpegImageFile(io.BytesIO(jpeg)).quantization[0])
