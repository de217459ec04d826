"""TensorBoard events without TensorFlow: a writer with the methods of clu's `MetricWriter`.

clu's own writer, and the package that holds its interface, import TensorFlow: seconds and hundreds
of megabytes in every training process. `EventWriter` has the interface's methods and writes the
same summaries through TensorBoard's protocol buffers (tests hold both against each other).
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_VERSION = 'brain.Event:2'  # of TensorFlow 2's summaries, which TensorBoard reads as they are


class EventWriter:
  """Writes scalars, pictures, texts, histograms and hyperparameters to an event file in `logdir`.

  Each event reaches the file whole, in one piece, before the method returns. So a process that is
  killed at any time leaves a file that TensorBoard reads; on a disk that is full the event that did
  not fit is taken away again. Raises OSError where the file cannot be written.
  """

  def __init__(self, logdir: str):
    from tensorboard.summary.writer.record_writer import RecordWriter

    os.makedirs(logdir, exist_ok=True)
    self._event = _proto('event').Event
    self._file = _EventFile(os.path.join(logdir, _file_name(logdir)))
    self._records = RecordWriter(self._file)
    source = _proto('event').SourceMetadata(writer='vjax.event_writer')
    self._write(file_version=_VERSION, source_metadata=source)

  def write_summaries(
    self,
    step: int,
    values: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
  ) -> None:
    """Writes arrays as they are. metadata: a SummaryMetadata, or its bytes, by name."""
    for name, value in values.items():
      self._write_tensor(step, name, value, (metadata or {}).get(name))

  def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Writes numbers, as float32."""
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb

    for name, value in scalars.items():
      self._write(step, summary=scalar_pb(name, np.asarray(value)))

  def write_images(self, step: int, images: Mapping[str, Any]) -> None:
    """Writes pictures ([N,] H, W, C) as PNG: uint8, or floating-point numbers in [0, 1]; C is 1, 3
    or 4."""
    from tensorboard.plugins.image import metadata

    for name, value in images.items():
      pictures = _pixels(name, np.asarray(value))
      _, height, width, _ = pictures.shape
      strings = [b'%d' % width, b'%d' % height, *(_png(p) for p in pictures)]
      about = metadata.create_summary_metadata(display_name=None, description=None)
      self._write_tensor(step, name, np.array(strings, object), about)

  def write_videos(self, step: int, videos: Mapping[str, Any]) -> None:
    """Warns that videos are not written, as clu's writer does: TensorBoard shows none."""
    _unsupported('videos', videos)

  def write_audios(self, step: int, audios: Mapping[str, Any], *, sample_rate: int) -> None:
    """Warns that sounds are not written: nothing here has any."""
    _unsupported('sounds', audios)

  def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
    """Writes texts, which TensorBoard shows as Markdown."""
    from tensorboard.plugins.text.summary_v2 import text_pb

    for name, text in texts.items():
      self._write(step, summary=text_pb(name, text))

  def write_histograms(
    self,
    step: int,
    arrays: Mapping[str, Any],
    num_buckets: Mapping[str, int] | None = None,
  ) -> None:
    """Writes how the numbers of arrays are distributed. num_buckets: by name; otherwise
    TensorBoard's 30."""
    from tensorboard.plugins.histogram.summary_v2 import histogram_pb

    for name, value in arrays.items():
      buckets = (num_buckets or {}).get(name)
      summary = histogram_pb(name, np.asarray(value), buckets=buckets)
      self._write(step, summary=summary)

  def write_hparams(self, hparams: Mapping[str, Any]) -> None:
    """Writes hyperparameters. Those of a section are called 'section.key'."""
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    self._write(0, summary=hparams_pb(dict(_flat(hparams))))

  def write_restart(self, step: int) -> None:
    """Tells TensorBoard that the run starts again: events of this step and later ones, in files
    before this one, are not shown."""
    log = _proto('event').SessionLog
    for _ in range(2):  # TensorBoard takes the first one of a run as its beginning
      self._write(step, session_log=log(status=log.START))

  def flush(self) -> None:
    """Does nothing more: what was written is in the file."""
    self._records.flush()

  def close(self) -> None:
    """Closes the file; nothing can be written any more."""
    self._records.close()

  def _write_tensor(self, step: int, name: str, value: Any, about: Any) -> None:
    from tensorboard.util import tensor_util

    if isinstance(about, bytes):
      about = _proto('summary').SummaryMetadata.FromString(about)
    summary = _proto('summary').Summary()
    summary.value.add(tag=name, tensor=tensor_util.make_tensor_proto(value), metadata=about)
    self._write(step, summary=summary)

  def _write(self, step: int = 0, **content: Any) -> None:
    event = self._event(wall_time=time.time(), step=int(step), **content)
    self._records.write(event.SerializeToString())


class _EventFile:
  """A new file that holds whole records only."""

  def __init__(self, path: str):
    self._file = open(path, 'xb', buffering=0)
    self._size = 0

  def write(self, record: bytes) -> None:
    """Appends a record. Raises OSError where it does not fit, and leaves the file as it was."""
    left = memoryview(record)
    try:
      while left:
        left = left[self._file.write(left) :]
    except OSError:
      self._file.truncate(self._size)
      self._file.seek(self._size)
      raise
    self._size += len(record)

  def flush(self) -> None:
    """Does nothing: the file has no buffer."""

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def _proto(name: str) -> Any:
  """Returns a module of messages, whose names are made at run time."""
  return importlib.import_module(f'tensorboard.compat.proto.{name}_pb2')


def _file_name(logdir: str) -> str:
  """Returns a name as TensorFlow's writer gives, later in order than those in the folder, whatever
  the clock says: TensorBoard reads the files of a folder in this order."""
  found = [re.match(r'events\.out\.tfevents\.(\d+)\.', name) for name in os.listdir(logdir)]
  seconds = max([int(time.time()), *(int(m[1]) + 1 for m in found if m)])
  return f'events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}.0.v2'


def _pixels(name: str, value: np.ndarray) -> np.ndarray:
  """Returns pictures (N, H, W, C) uint8."""
  pictures = value[None] if value.ndim == 3 else value
  floats = np.issubdtype(pictures.dtype, np.floating)
  if (
    pictures.ndim != 4
    or pictures.shape[-1] not in (1, 3, 4)
    or not (floats or pictures.dtype == np.uint8)
  ):
    raise ValueError(
      f'picture {name!r} is {value.dtype} of shape {value.shape}; needed: uint8, or numbers in '
      '[0, 1], of shape ([N,] height, width, 1, 3 or 4)'
    )
  # As tf.image.convert_image_dtype: 255.5, so that equal shares of [0, 1] become each value.
  return (np.clip(pictures, 0, 1) * 255.5).astype(np.uint8) if floats else pictures


def _png(picture: np.ndarray) -> bytes:
  import cv2

  order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[picture.shape[-1]]
  return cv2.imencode('.png', np.ascontiguousarray(picture[..., order]))[1].tobytes()


def _flat(hparams: Mapping[str, Any], before: str = '') -> Iterator[tuple[str, Any]]:
  """Yields 'section.key' and value, '' for None; entries of a list have its name and their
  number."""
  for key, value in hparams.items():
    if hasattr(value, 'items'):  # a ConfigDict is no Mapping
      yield from _flat(value, f'{before}{key}.')
    elif isinstance(value, list | tuple):
      yield from _flat({str(i): v for i, v in enumerate(value)}, f'{before}{key}.')
    else:
      yield f'{before}{key}', '' if value is None else value


def _unsupported(what: str, values: Mapping[str, Any]) -> None:
  logging.warning('%s are not written to TensorBoard: %s', what, ', '.join(values))
