"""Reconstructions and heat maps of video files."""

import pathlib

import av
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from tests.experiments import shrunk
from vjax import build, look, predict, train
from vjax.heads import linear
from vjax.types import Features, VideoModel


@pytest.fixture(scope='module')
def runs(data_dir, tmp_path_factory):
  """A masked autoencoder and a classifier after two steps, and a video file."""
  root = tmp_path_factory.mktemp('look')
  for name in ('mae_k400', 'mae_finetune_k400'):
    config = shrunk(name, **{'optim.total_steps': 2})
    config['evals'] = {k: v for k, v in config['evals'].items() if v['name'] == 'reconstruction'}
    train.run(build.experiment(config, str(data_dir)), str(root / name))
  return root, str(next((data_dir / 'motions').rglob('*.mp4')))


def test_reconstructions_keep_what_was_seen(runs, tmp_path, capsys):
  root, video = runs
  args = ['reconstruct', f'--workdir={root}/mae_k400', f'--out={tmp_path}', video, '--ratios', '0.5', '0.9']
  assert look.main(args) == 0
  file = pathlib.Path(capsys.readouterr().out.strip())
  assert file.read_bytes()[:4] == b'\x89PNG' and file.parent == tmp_path
  assert look.main(['reconstruct', f'--workdir={root}/mae_finetune_k400', video]) == 1
  assert 'only masked autoencoders' in capsys.readouterr().err


def test_pictures_go_to_tensorboard(runs):
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

  root, _ = runs
  events = EventAccumulator(str(root / 'mae_k400')).Reload()
  tags = [*events.Tags()['tensors'], *events.Tags()['images']]
  assert all(any(tag.startswith(f'pictures/clip{i}') for tag in tags) for i in (0, 1)), tags
  assert 'pictures' not in (root / 'mae_k400' / 'result.json').read_text()


def test_heat_of_a_video_and_unknown_labels(runs, tmp_path, capsys):
  root, video = runs
  assert (
    look.main(['heatmap', f'--workdir={root}/mae_finetune_k400', f'--out={tmp_path}', video, '--label', 'left']) == 0
  )
  file, label = capsys.readouterr().out.strip().split(': ')
  assert label == 'left'
  with av.open(file) as container:
    frames = [f.to_ndarray(format='rgb24') for f in container.decode(video=0)]
  assert len(frames) == 8 and min(frames[0].shape[:2]) >= 224
  assert look.main(['heatmap', f'--workdir={root}/mae_finetune_k400', video, '--label', 'sideways']) == 1
  assert "label is 'sideways'" in capsys.readouterr().err


class Bright(nn.Module):
  """Maps of two channels at half the size: brightness, and its opposite."""

  def __call__(self, video, *, train):
    x = video.mean(-1, keepdims=True)
    x = nn.avg_pool(x, (1, 2, 2), (1, 2, 2))
    maps = jnp.concatenate([x, -x], axis=-1)
    return Features(maps=(maps,), pooled=maps.mean((1, 2, 3)))


class Shown(predict.Loaded):
  def __init__(self, video):
    self.config = {'data': {'mean': (0.0,) * 3, 'std': (1.0,) * 3}}
    self.classes, self.model = ['bright', 'dark'], VideoModel(Bright(), linear.Head(2))
    head = {'linear': {'kernel': jnp.eye(2), 'bias': jnp.zeros(2)}}
    self.params, self.stats, self._video = {'head': head}, {}, video

  def views(self, path, *, clips, crops):
    return self._video[None]


def test_heat_is_where_a_bright_patch_is():
  video = np.zeros((4, 16, 16, 3), np.float32)
  video[2, 4:8, 8:12] = 1
  frames, heat, label = look.heatmap(Shown(video), '')
  assert label == 'bright' and frames.shape == video.shape and heat.shape == (4, 16, 16)
  assert heat.min() >= 0 and np.unravel_index(heat.argmax(), heat.shape)[0] == 2 and heat[2, 5, 9] > 0.5
  assert heat[0].max() == 0 and heat[2, 14, 2] == 0
  assert look.heatmap(Shown(video), '', 'dark')[1].max() == 0  # nothing speaks for it
