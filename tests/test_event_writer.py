"""TensorBoard's events: what TensorBoard and TensorFlow read back, and files of killed writers and
full disks."""

import importlib.util
import inspect
import os
import pathlib
import resource
import subprocess
import sys

import numpy as np
import pytest

from tests.faults.commands import ROOT
from vjax import event_writer
from vjax.event_writer import EventWriter

IMAGES = {
  'color': np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8),
  'gray': np.arange(12, dtype=np.uint8).reshape(3, 4, 1),
  'floats': np.linspace(-0.2, 1.2, 60, dtype=np.float32).reshape(4, 5, 3),
}
HPARAMS = {'rate': 0.1, 'model': {'name': 'vit', 'shape': (2, 3)}, 'none': None}


def fill(writer) -> None:
  """Writes one of each."""
  writer.write_scalars(3, {'loss': 1.5, 'a/b': float('nan'), 'numpy': np.float32(2), 'whole': 7})
  writer.write_scalars(4, {'loss': np.pi})
  writer.write_images(4, IMAGES)
  writer.write_texts(5, {'words': 'a *b*'})
  writer.write_histograms(6, {'h': np.arange(100.0) ** 2}, {'h': 5})
  writer.write_summaries(7, {'raw': np.arange(3)})
  writer.write_hparams(HPARAMS)
  writer.flush()


def event_file(folder) -> pathlib.Path:
  (file,) = pathlib.Path(folder).glob('events.out.tfevents.*')
  return file


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
  """Returns (step, value) by name, as TensorBoard reads a folder."""
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
  from tensorboard.util.tensor_util import make_ndarray

  found = EventAccumulator(str(folder)).Reload()
  return {
    n: [(e.step, make_ndarray(e.tensor_proto).item()) for e in found.Tensors(n)]
    for n in found.PluginTagToContent('scalars')
  }


def test_has_the_methods_of_clus_interface():
  """Read from its file: importing clu.metric_writers imports TensorFlow."""
  root = importlib.util.find_spec('clu').submodule_search_locations[0]
  spec = importlib.util.spec_from_file_location('interface', f'{root}/metric_writers/interface.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  wanted = module.MetricWriter.__abstractmethods__
  assert len(wanted) == 10
  parameters = lambda cls, name: [
    (p.name, p.kind, p.default) for p in inspect.signature(getattr(cls, name)).parameters.values()
  ]
  for name in wanted:
    assert parameters(EventWriter, name) == parameters(module.MetricWriter, name), name


def test_tensorboard_reads_what_was_written(tmp_path):
  import cv2
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
  from tensorboard.plugins.hparams import plugin_data_pb2

  writer = EventWriter(str(tmp_path))
  fill(writer)
  writer.close()
  found = EventAccumulator(str(tmp_path), {'tensors': 0}).Reload()
  read = scalars(tmp_path)
  assert np.isnan(read.pop('a/b')[0][1])
  assert read == {
    'loss': [(3, 1.5), (4, np.float32(np.pi))],
    'numpy': [(3, 2.0)],
    'whole': [(3, 7.0)],
  }
  for name, image in IMAGES.items():
    (event,) = found.Tensors(name)
    width, height, *pngs = event.tensor_proto.string_val
    assert event.step == 4 and (int(height), int(width)) == image.shape[-3:-1]
    assert found.summary_metadata[name].plugin_data.plugin_name == 'images'
    pixels = [cv2.imdecode(np.frombuffer(p, np.uint8), cv2.IMREAD_COLOR_RGB) for p in pngs]
    if image.dtype == np.uint8:
      image = np.broadcast_to(image.reshape(-1, *image.shape[-3:]), np.shape(pixels))
      np.testing.assert_array_equal(pixels, image)
    else:
      assert pixels[0].min() == 0 and pixels[0].max() == 255
  assert found.Tensors('words')[0].tensor_proto.string_val == [b'a *b*']
  assert found.Tensors('h')[0].step == 6 and len(found.Tensors('raw')) == 1
  about = found.summary_metadata['_hparams_/session_start_info'].plugin_data.content
  start = plugin_data_pb2.HParamsPluginData.FromString(about).session_start_info
  assert sorted(start.hparams) == ['model.name', 'model.shape.0', 'model.shape.1', 'none', 'rate']


@pytest.mark.slow
def test_the_events_are_those_of_clus_writer(tmp_path):
  """Read by TensorFlow: the same steps, names, metadata and values; of pictures, the same
  pixels."""
  import tensorflow as tf
  from clu import metric_writers

  def events(make, folder):
    writer = make(str(folder))
    fill(writer)
    writer.close()
    for event in tf.compat.v1.train.summary_iterator(str(event_file(folder))):
      for value in event.summary.value:
        array = tf.make_ndarray(value.tensor)
        plugin, content = value.metadata.plugin_data.plugin_name, value.metadata.plugin_data.content
        if plugin == 'images':
          array = [*array[:2], *(tf.io.decode_png(png).numpy().tolist() for png in array[2:])]
        if plugin == 'hparams':
          content = content[: content.index(b'"')]  # what follows depends on the time
        array = array if plugin == 'images' else array.tolist()
        yield repr((event.step, value.tag, plugin, content, value.metadata.data_class, array))

  theirs = list(events(metric_writers.SummaryWriter, tmp_path / 'theirs'))
  assert list(events(EventWriter, tmp_path / 'ours')) == theirs and len(theirs) == 12


def test_a_writer_that_is_killed_leaves_its_events(tmp_path):
  """Neither flushed nor closed; and with the last event cut anywhere, those before are read."""
  code = (
    'import os, sys\n'
    'from vjax.event_writer import EventWriter\n'
    'writer = EventWriter(sys.argv[1])\n'
    "for i in range(5): writer.write_scalars(i, {'x': i})\n"
    "assert 'tensorflow' not in sys.modules\n"
    'os.kill(os.getpid(), 9)\n'
  )
  run = subprocess.run([sys.executable, '-c', code, str(tmp_path)], cwd=ROOT, check=False)
  assert run.returncode == -9
  assert scalars(tmp_path) == {'x': [(i, float(i)) for i in range(5)]}
  file = event_file(tmp_path)
  whole = file.read_bytes()
  for cut in (1, 5, 30):
    file.write_bytes(whole[:-cut])
    assert scalars(tmp_path) == {'x': [(i, float(i)) for i in range(4)]}


def test_an_event_that_does_not_fit_is_taken_away_again(tmp_path):
  """The file may not grow beyond a limit in the middle of an event: an OSError, and with more room
  the next event is read."""
  writer = EventWriter(str(tmp_path))
  writer.write_scalars(0, {'x': 0})
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  size = event_file(tmp_path).stat().st_size
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    with pytest.raises(OSError, match='File too large'):
      writer.write_scalars(1, {'x': 1})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert event_file(tmp_path).stat().st_size == size
  writer.write_scalars(2, {'x': 2})
  assert scalars(tmp_path) == {'x': [(0, 0.0), (2, 2.0)]}


def test_files_are_in_order_whatever_the_clock_says(tmp_path, monkeypatch):
  """A second start finds a clock set back by a year: its points come last nevertheless."""
  EventWriter(str(tmp_path)).write_scalars(1, {'x': 1})
  now = event_writer.time.time()
  monkeypatch.setattr(event_writer.time, 'time', lambda: now - 3e7)
  EventWriter(str(tmp_path)).write_scalars(2, {'x': 2})
  assert len(os.listdir(tmp_path)) == 2
  assert scalars(tmp_path) == {'x': [(1, 1.0), (2, 2.0)]}


def test_pictures_of_other_kinds_are_refused(tmp_path):
  writer = EventWriter(str(tmp_path))
  for wrong in (np.zeros((4, 5), np.uint8), np.zeros((4, 5, 2)), np.zeros((4, 5, 3), np.int32)):
    with pytest.raises(ValueError, match="picture 'a' is .*needed: uint8"):
      writer.write_images(0, {'a': wrong})
