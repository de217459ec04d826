"""Writes one shard: its rows go to a temporary file, which is renamed, and a `.done.json` beside it
describes the shard.

A shard specification is the unit of work of every runner. It is small, any worker writes the same
bytes from it, and no frame travels between processes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import google_crc32c

from data_prep import frames as frames_lib
from data_prep import rows as rows_lib
from vjax import files
from vjax.data import sequence_example, tfrecord
from vjax.data.video_file import MAX_DURATION_S, VideoError, read_frames

CLIPS_PER_SHARD = 256
_SAFE = 'nothing is lost, the same command continues once that is mended'
_DESCRIBED = {
  'file',
  'fingerprint',
  'clips',
  'frames',
  'duration_s',
  'bytes',
  'failures',
  'clips_per_class',
  'crc32c',
}
MOST_BYTES = (1 << 31) - (1 << 20)  # of a clip: readers of protocol buffers refuse 2 GB


@dataclass(frozen=True)
class Settings:
  """Form in which clips are stored.

  Attributes:
    short_side_px: short side in pixels, 0 = unchanged.
    quality: of the JPEGs.
    frame_rate: frames per second, 0 = unchanged.
    max_duration_s: longer clips are refused.
  """

  short_side_px: int
  quality: int
  frame_rate: float
  max_duration_s: float = MAX_DURATION_S

  def __post_init__(self):
    if self.short_side_px < 0:
      raise ValueError(
        f'--short_side={self.short_side_px} must be a number of pixels, e.g. 256; 0 keeps the size'
      )
    if not 1 <= self.quality <= 100:
      raise ValueError(
        f'--quality={self.quality} must be from 1 to 100, that of a JPEG; 95 is usual'
      )
    if not 0 <= self.frame_rate < math.inf:
      raise ValueError(
        f'--frame_rate={self.frame_rate:g} must be frames per second, e.g. 25; 0 keeps all frames'
      )
    if not 0 < self.max_duration_s < math.inf:
      raise ValueError(
        f'--max_duration_s={self.max_duration_s:g} must be a number of seconds above 0, e.g. 3600'
      )

  def described(self) -> dict[str, Any]:
    """Returns the settings for manifest and fingerprint. The default max_duration_s is left out, so
    that older datasets, which have no such setting, keep their fingerprint."""
    return {k: v for k, v in asdict(self).items() if k != 'max_duration_s' or v != MAX_DURATION_S}


@dataclass(frozen=True)
class Shard:
  """All that a worker needs to write one shard.

  Attributes:
    out, root: folders of the dataset and of the videos.
    file: name of the shard.
    rows: its clips.
    sizes: `size_of` each row's file or folder when the work was planned.
    classes: names by label space.
    settings: form of the clips.
    fingerprint: of rows, settings and versions.
  """

  out: str
  root: str
  file: str
  rows: tuple[rows_lib.Row, ...]
  sizes: tuple[int, ...]
  classes: Mapping[str, Sequence[str]]
  settings: Settings
  fingerprint: str


def assign(rows: Sequence[rows_lib.Row], shards: int) -> list[list[rows_lib.Row]]:
  """Returns the rows of one split by shard: equal parts of their order by hash, which mixes
  classes.

  shards: 0 = as many as make shards of about 256 clips. The result depends on the rows alone: a
  video that fails makes its shard a clip shorter.
  """
  shards = shards or max(1, round(len(rows) / CLIPS_PER_SHARD))
  order = sorted(rows, key=lambda r: (rows_lib.digest(r.media_id), r.line))
  bounds = [i * len(order) // shards for i in range(shards + 1)]
  return [order[a:b] for a, b in zip(bounds, bounds[1:])]


def fingerprint(content: Any) -> str:
  """Returns 16 hex digits that change with anything in `content`, which must be JSON."""
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def write_json(path: str, content: Any) -> None:
  """Writes JSON whole or not at all."""
  text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + '\n'
  files.write_bytes(path, text.encode(), shared=True)


def sidecar(shard: Shard) -> str:
  """Returns the path of the description, which exists once the shard is finished."""
  return os.path.join(shard.out, f'{shard.file}.done.json')


def finished(shard: Shard) -> dict[str, Any] | None:
  """Returns the description of a shard that was written earlier with the same rows, settings and
  versions, else None. A damaged shard gives None too, so that it is written again."""
  try:
    with open(sidecar(shard), encoding='utf-8') as file:
      done = json.load(file)
    size = os.path.getsize(os.path.join(shard.out, shard.file))
  except (FileNotFoundError, ValueError, RecursionError):
    return None
  whole = isinstance(done, dict) and done.keys() >= _DESCRIBED
  return (
    done if whole and done['fingerprint'] == shard.fingerprint and done['bytes'] == size else None
  )


def write_shard(shard: Shard, tick: Callable[[], None] = lambda: None) -> dict[str, Any]:
  """Writes a shard and its description, and returns the description; `tick` is called after every
  row.

  The description has clips, frames, duration_s, bytes, crc32c, clips_per_class (by label space),
  failures [path, split, row, reason]. Memory holds one clip's JPEG frames. Neither the time nor a
  path of this machine is written, so that two runs agree.

  Raises OSError, and MemoryError, for faults of the machine: a video that was there and is gone, a
  disk that cannot be read or written. Such a shard is not finished, and the next run writes it
  again.
  """
  path = os.path.join(shard.out, shard.file)
  temporary = f'{path}.tmp-{uuid.uuid4().hex[:8]}'  # a runner may write a shard twice at once
  checksum = google_crc32c.Checksum()
  done: dict[str, Any] = {
    'file': shard.file,
    'fingerprint': shard.fingerprint,
    'clips': 0,
    'frames': 0,
  }
  done |= {'duration_s': 0.0, 'bytes': 0, 'failures': []}
  done['clips_per_class'] = {space: [0] * len(names) for space, names in shard.classes.items()}
  with open(temporary, 'wb') as file:
    for row, planned in zip(shard.rows, shard.sizes, strict=True):
      try:
        payload, frames, duration = encode_clip(row, shard.root, shard.classes, shard.settings)
      except MemoryError as e:
        raise MemoryError(
          f'no memory left for {os.path.join(shard.root, row.path)}; try fewer --processes: {_SAFE}'
        ) from e
      except Exception as e:  # any error of a decoder fails this row alone
        _check_still_there(os.path.join(shard.root, row.path), shard.root, planned)
        reason = str(e) if isinstance(e, VideoError) else f'error: {type(e).__name__}: {e}'
        done['failures'].append([row.path, row.split, row.line, reason])
      else:
        record = tfrecord.encode(payload)
        file.write(record)
        checksum.update(record)
        done['clips'] += 1
        done['frames'] += frames
        done['duration_s'] += duration
        done['bytes'] += len(record)
        for space, names in row.labels.items():
          for name in names:
            done['clips_per_class'][space][shard.classes[space].index(name)] += 1
      tick()
    file.flush()
    os.fsync(file.fileno())
  done['crc32c'] = checksum.digest().hex()
  os.replace(temporary, path)
  write_json(sidecar(shard), done)
  return done


def size_of(path: str) -> int:
  """Returns the bytes of a file, the number of files in a folder (of images), or -1 for what is
  missing."""
  try:
    return len(os.listdir(path)) if os.path.isdir(path) else os.path.getsize(path)
  except OSError:
    return -1


def _check_still_there(path: str, root: str, planned: int) -> None:
  """Raises OSError if the video folder is gone, or if a file of `planned` bytes (a folder of so
  many images) is gone, has another size, or cannot be read to its end: then the fault is not the
  video's."""
  try:
    if not os.path.isdir(root):
      raise OSError(errno.ENOENT, 'the video folder is gone', root)
    folder = os.path.isdir(path)
    if planned < 0 or not folder and not os.path.isfile(path) and os.path.exists(path):
      return  # missing from the beginning, or a pipe
    if (os.path.getsize(path) if not folder else len(os.listdir(path))) != planned:
      what = f'folder had {planned} files' if folder else f'file had {planned} bytes'
      raise OSError(errno.ESTALE, f'the {what} and has another size now', path)
    inside = sorted(entry.path for entry in os.scandir(path) if entry.is_file()) if folder else []
    for name in inside if folder else [path]:
      with (
        contextlib.suppress(PermissionError),
        open(name, 'rb') as file,
      ):  # a forbidden file is listed as failed
        while file.read(1 << 20):
          pass
  except OSError as e:
    what = f'{e.filename or path}: {e.strerror}'
    raise OSError(
      f'{what}. A video that was there when the work was planned cannot be read now: {_SAFE}'
    ) from e


def encode_clip(
  row: rows_lib.Row, root: str, classes: Mapping[str, Sequence[str]], settings: Settings
) -> tuple[bytes, int, float]:
  """Returns (serialized SequenceExample, frames, seconds) of a row, with the keys of DMVR
  (MediaPipe's).

  image/frame_rate is the average, frames / seconds, and 0 for an image. The clip's start and end
  are true times, also where the frame rate varies between them. Further label spaces are
  clip/label/NAME/{index,text}.
  """
  jpegs, size, times, shape = [], 0, [], (0, 0)
  for begin, finish, jpeg, of_frame in _encoded_frames(row, root, settings):
    jpegs.append([jpeg])
    size += len(jpeg)
    if size > MOST_BYTES:
      raise VideoError(
        f'too large: {len(jpegs)} frames have {size} bytes, at most {MOST_BYTES}; cut it into '
        'segments'
      )
    times, shape = [times[0] if times else begin, finish], of_frame
  seconds = times[1] - times[0]
  context = {
    sequence_example.MEDIA_ID: [row.media_id],
    sequence_example.START_US: [round(times[0] * 1e6)],
    sequence_example.END_US: [round(times[1] * 1e6)],
    sequence_example.HEIGHT: [shape[0]],
    sequence_example.WIDTH: [shape[1]],
    sequence_example.FRAME_RATE: [len(jpegs) / seconds if seconds else 0.0],
    sequence_example.FILENAME: [row.path],
  }
  for space, names in row.labels.items():
    indices = [classes[space].index(name) for name in names]
    context[sequence_example.label_key(space, 'index')] = indices
    context[sequence_example.label_key(space, 'text')] = list(names)
  return sequence_example.encode(context, {sequence_example.FRAMES: jpegs}), len(jpegs), seconds


def _encoded_frames(
  row: rows_lib.Row, root: str, settings: Settings
) -> Iterator[tuple[float, float, bytes, tuple[int, int]]]:
  """Yields (start, end, JPEG, (height, width)) of the frames of a row, a video or a folder of
  images."""
  import simplejpeg

  path = os.path.join(root, row.path)
  form: dict[str, Any] = {}
  form |= dict(short_side=settings.short_side_px, frame_rate=settings.frame_rate)
  form |= dict(start_s=row.start_s, end_s=row.end_s, max_duration_s=settings.max_duration_s)
  if row.image_rate is not None:
    yield from frames_lib.read_folder(path, row.image_rate, quality=settings.quality, **form)
    return
  last, jpeg = None, b''
  for begin, finish, rgb in read_frames(path, **form):
    if rgb is not last:
      jpeg, last = simplejpeg.encode_jpeg(rgb, settings.quality, 'RGB', '420'), rgb
    yield begin, finish, jpeg, rgb.shape[:2]
