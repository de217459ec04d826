"""Reconstructions and heat maps of video files."""

import math
import pathlib
from types import SimpleNamespace

import av
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.experiments import shrunk
from vjax import build, inference, sharding, train, tree, visualize
from vjax.evals import reconstruction
from vjax.heads import linear
from vjax.kernels.conv import conv3d
from vjax.models import mvit, vit, x3d
from vjax.types import Backbone, Features, VideoModel


@pytest.fixture(scope='module')
def runs(data_dir, tmp_path_factory):
  """A masked autoencoder and a classifier after two steps, and a video file."""
  root = tmp_path_factory.mktemp('look')
  for name in ('mae_k400', 'mae_finetune_k400'):
    config = shrunk(name, **{'optim.total_steps': 2})
    config['evals'] = {k: v for k, v in config['evals'].items() if v['name'] == 'reconstruction'}
    train.run(build.experiment(config, str(data_dir)), str(root / name))
  return root, str(next((data_dir / 'motions').rglob('*.mp4')))


@pytest.mark.slow
def test_reconstructions_keep_what_was_seen(runs, tmp_path, capsys):
  root, video = runs
  args = [
    'reconstruct',
    f'--workdir={root}/mae_k400',
    f'--out={tmp_path}',
    video,
    '--ratios',
    '0.5',
    '0.9',
  ]
  assert visualize.main(args) == 0
  file = pathlib.Path(capsys.readouterr().out.strip())
  assert file.read_bytes()[:4] == b'\x89PNG' and file.parent == tmp_path
  assert visualize.main(['reconstruct', f'--workdir={root}/mae_finetune_k400', video]) == 1
  assert 'only masked autoencoders' in capsys.readouterr().err
  # Videos after the ratios are videos; heat maps of a masked autoencoder, and no ratios, are
  # answered.
  assert (
    visualize.main(
      [
        'reconstruct',
        '--overwrite',
        f'--workdir={root}/mae_k400',
        f'--out={tmp_path}',
        '--ratios',
        '0.5',
        video,
      ]
    )
    == 0
  )
  assert visualize.main(['heatmap', f'--workdir={root}/mae_k400', video]) == 1
  assert 'heat maps are of the scores of a classifier' in capsys.readouterr().err
  for wrong, message in (
    (['--ratios', '0.5'], 'no video'),
    (['--ratios', '90', video], '--ratios 90.0: it is a share'),
  ):
    with pytest.raises(SystemExit):
      visualize.main(['reconstruct', f'--workdir={root}/mae_k400', *wrong])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
  'what, name', [('reconstruct', 'a_reconstruction.png'), ('heatmap', 'a_heat.mp4')]
)
def test_pictures_that_are_there_stay(what, name, tmp_path, capsys):
  """They are looked for before the model is loaded: there is none here."""
  (tmp_path / name).write_text('mine')
  args = [what, f'--workdir={tmp_path}/none', f'--out={tmp_path}', 'b.mp4', 'films/a.mp4']
  assert visualize.main(args) == 1
  said = capsys.readouterr().err
  assert f'{name} is there already: give another --out, or --overwrite to replace it' in said
  assert visualize.main([*args, '--overwrite']) == 1
  assert 'no meta.json in' in capsys.readouterr().err
  assert visualize.main([what, '--workdir=x', f'--out={tmp_path / name}', 'a.mp4']) == 1
  assert f'{name} is a file: give a folder for the pictures' in capsys.readouterr().err
  assert (tmp_path / name).read_text() == 'mine'


@pytest.mark.slow
def test_pictures_go_to_tensorboard(runs):
  from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

  root, _ = runs
  events = EventAccumulator(str(root / 'mae_k400')).Reload()
  tags = [*events.Tags()['tensors'], *events.Tags()['images']]
  assert all(any(tag.startswith(f'pictures/clip{i}') for tag in tags) for i in (0, 1)), tags
  assert 'pictures' not in (root / 'mae_k400' / 'result.json').read_text()


@pytest.mark.slow
def test_files_of_videos_of_one_name():
  """None replaces that of another."""
  videos = ['a/x.mp4', '../b/x.mp4', 'a/x.avi', 'y.mp4']
  names = ['a-x.mp4', 'b-x.mp4', 'a-x.avi', 'y']
  assert visualize._file_names(videos) == names


@pytest.mark.slow
def test_heat_of_a_video_and_unknown_labels(runs, tmp_path, capsys):
  root, video = runs
  assert (
    visualize.main(
      [
        'heatmap',
        f'--workdir={root}/mae_finetune_k400',
        f'--out={tmp_path}',
        video,
        '--label',
        'left',
      ]
    )
    == 0
  )
  file, label = capsys.readouterr().out.strip().split(': ')
  assert label == 'left'
  with av.open(file) as container:
    frames = [f.to_ndarray(format='rgb24') for f in container.decode(video=0)]
  assert len(frames) == 8 and min(frames[0].shape[:2]) >= 224
  assert (
    visualize.main(['heatmap', f'--workdir={root}/mae_finetune_k400', video, '--label', 'lefts'])
    == 1
  )
  said = "--label is 'lefts', which is no class of the run (did you mean 'left'?): choose one of "
  assert said in capsys.readouterr().err


class Bright(Backbone):
  """Maps of two channels at half the size: brightness, and its opposite."""

  def __call__(self, video, *, train):
    x = video.mean(-1, keepdims=True)
    x = nn.avg_pool(x, (1, 2, 2), (1, 2, 2))
    maps = jnp.concatenate([x, -x], axis=-1)
    return Features(maps=(maps,), pooled=maps.mean((1, 2, 3)))


def shown() -> inference.InferenceModel:
  """A classifier of bright and dark."""
  head = {'linear': {'kernel': jnp.eye(2), 'bias': jnp.zeros(2)}}
  return inference.InferenceModel(
    VideoModel(Bright(), linear.Head(2)),
    {'head': head},
    {},
    mean=(0.0,) * 3,
    std=(1.0,) * 3,
    mesh=sharding.mesh(devices=jax.devices()[:1]),
    classes=('bright', 'dark'),
    config=SimpleNamespace(objective=SimpleNamespace(name='classify')),
  )


def test_heat_is_where_a_bright_patch_is(monkeypatch):
  video = np.zeros((4, 16, 16, 3), np.uint8)
  video[2, 4:8, 8:12] = 255
  monkeypatch.setattr(visualize, '_middle_clip', lambda model, path: video[None])
  frames, heat, label = visualize.heatmap(shown(), '')
  assert label == 'bright' and frames.shape == video.shape and heat.shape == (4, 16, 16)
  assert (
    heat.min() >= 0 and np.unravel_index(heat.argmax(), heat.shape)[0] == 2 and heat[2, 5, 9] > 0.5
  )
  assert heat[0].max() == 0 and heat[2, 14, 2] == 0
  assert visualize.heatmap(shown(), '', 'dark')[1].max() == 0  # nothing speaks for it


class Later(Backbone):
  """Brightness by a kernel of three frames."""

  @nn.compact
  def __call__(self, video, *, train):
    x = nn.avg_pool(video.mean(-1, keepdims=True), (1, 2, 2), (1, 2, 2))
    kernel = self.param('kernel', nn.initializers.zeros, (3, 1, 1, 1, 2))
    maps = conv3d(x, kernel, padding=(1, 0, 0))
    return Features(maps=(maps,), pooled=maps.mean((1, 2, 3)))


def test_heat_of_each_slice(monkeypatch):
  """Before the middle nothing, in the middle brightness, after it darkness: of the network, where
  the middle slice sees the patch, and of the slices alone."""
  video = np.zeros((4, 16, 16, 3), np.uint8)
  video[2, 4:8, 8:12] = 255
  monkeypatch.setattr(visualize, '_middle_clip', lambda model, path: video[None])
  model = shown()
  kernel = np.array([[0, 0], [1, -1], [-1, 1]], np.float32).reshape(3, 1, 1, 1, 2)
  model.model = VideoModel(Later(), linear.Head(2))
  model.params = {**model.params, 'backbone': {'kernel': jnp.asarray(kernel)}}
  rows, label = visualize.slice_heatmaps(model, '', 'bright')
  assert label == 'bright' and list(rows) == ['frames', 'network', 'slice 0', 'slice 1', 'slice 2']
  hot = {name: (row != video).any((1, 2, 3)).tolist() for name, row in rows.items()}
  assert hot['frames'] == hot['slice 0'] == hot['slice 2'] == [False] * 4
  assert hot['slice 1'] == [False, False, True, False]
  np.testing.assert_array_equal(model.params['backbone']['kernel'], kernel)


TINY_VIT = dict(width=16, depth=2, heads=2, frames=4, crop=32, patch=(2, 8, 8))
TINY_MVIT = dict(flavor='v2', depths=(1, 1), frames=4, crop=32, width=8, key_stride=2)
NETWORKS = {
  'class': vit.Backbone(**TINY_VIT, pool='class'),
  'mean': vit.Backbone(**TINY_VIT),
  'mvit': mvit.Backbone(**TINY_MVIT),
  'mvit_mean': mvit.Backbone(**TINY_MVIT, class_token=False),
  'x3d': x3d.Backbone(wide=0.5, deep=0.2),
}


def filled(model, video, rng):
  """Random variables of a model in which places without content are alike."""
  shapes = jax.eval_shape(
    lambda x: model.init(jax.random.key(0), x, train=False), jnp.asarray(video)
  )

  def fill(path, x):
    if path.endswith('patch/bias'):  # gray tokens are not 0, which norms would make much of
      return np.float32(rng.normal(size=x.shape))
    if 'position' in path or path.endswith(('bias', 'mean')):
      return np.zeros(x.shape, np.float32)
    if path.endswith(('scale', 'var')):
      return np.ones(x.shape, np.float32)
    return np.float32(
      rng.normal(size=x.shape) / (math.prod(x.shape[:-1]) if path.endswith('kernel') else 1) ** 0.5
    )

  return tree.unflatten(
    {path: jnp.asarray(fill(path, x)) for path, x in tree.flatten(shapes).items()}
  )


@pytest.mark.parametrize(
  'name', ['class', *(pytest.param(n, marks=pytest.mark.slow) for n in ('mean', 'x3d'))]
)
def test_heat_is_where_the_score_comes_from(name):
  """Of a gray clip with one patch of noise: the heat, for or against the class, is at the patch;
  graying it moves the score more than as much noise in a tenth of the strength at a cold place."""
  model, cell = VideoModel(NETWORKS[name], linear.Head(2)), 32 if name == 'x3d' else 8
  rng, video = np.random.default_rng(0), np.zeros((1, 4, 4 * cell, 4 * cell, 3), np.float32)
  noise = 3 * rng.standard_normal((4, cell, cell, 3))
  video[:, :, cell : 2 * cell, 2 * cell : 3 * cell] = noise
  variables = filled(model, video, rng)
  apply = jax.jit(lambda x: model.apply(variables, x, train=False)[0, 0])
  (parts,) = visualize.contributions(model, variables, jnp.asarray(video), 0)
  heat = np.abs(jax.image.resize(parts, video.shape[1:4], 'linear')).sum(0)
  row, column = (n / cell for n in np.unravel_index(heat.argmax(), heat.shape))
  assert 0.5 <= row < 2.5 and 1.5 <= column < 3.5, (row, column)
  cold = video.copy()
  cold[:, :, 3 * cell :, :cell] = 0.1 * noise
  changes = [abs(float(apply(changed) - apply(video))) for changed in (np.zeros_like(video), cold)]
  assert changes[0] > 2 * changes[1], changes


@pytest.mark.parametrize(
  'name',
  ['class', 'mean', *(pytest.param(n, marks=pytest.mark.slow) for n in ('mvit', 'mvit_mean'))],
)
def test_contributions_are_what_tokens_change(name):
  """Integrated gradients are complete: their sum is the score less that of tokens all alike. And of
  each token they are about what the score loses when that token is replaced by their mean."""
  model, rng = VideoModel(NETWORKS[name], linear.Head(2)), np.random.default_rng(0)
  video = jnp.asarray(rng.standard_normal((1, 4, 32, 32, 3)), jnp.float32)
  variables = filled(model, video, rng)
  (parts,) = visualize.contributions(model, variables, video, 1)
  count = parts.size

  def score(replaced):
    """Of tokens of which those with 1 in `replaced` (N,) are the mean."""

    def put(call, args, kwargs, context):
      if context.module.path == ('backbone', 'block1') and context.method_name == '__call__':
        x = args[0]
        body = x[:, -count:]
        body = jnp.where(replaced[None, :, None] > 0, body.mean(1, keepdims=True), body)
        args = (jnp.concatenate([x[:, :-count], body], axis=1), *args[1:])
      return call(*args, **kwargs)

    with nn.intercept_methods(put):
      return model.apply(variables, video, train=False)[0, 1]

  whole, nothing = np.asarray(
    jax.jit(jax.vmap(score))(jnp.stack([jnp.zeros(count), jnp.ones(count)]))
  )
  assert parts.sum() == pytest.approx(whole - nothing, rel=0.05, abs=1e-3)
  lost = whole - np.asarray(jax.jit(lambda x: jax.lax.map(score, x))(jnp.eye(count)))
  assert np.corrcoef(lost, parts.ravel())[0, 1] > 0.7
  hottest, coldest = np.abs(parts).argmax(), np.abs(parts).argmin()
  assert abs(lost[hottest]) > 2 * abs(lost[coldest])


def test_pictures_of_several_ratios():
  """The objective's own ratio unless told; one picture a clip, taller with every ratio."""
  asked = []

  def rebuilt(video, ratio):
    asked.append(ratio)
    return [(x, x, x) for x in np.float32(video)], 0.9 if ratio is None else ratio, True

  batches = [{'video': np.zeros((3, 1, 2, 8, 8, 3), np.uint8)}]
  draw = lambda **settings: (
    reconstruction.run(rebuilt, batches, mean=(0.5,) * 3, std=(0.2,) * 3, **settings).figures
  )
  one, three = draw(count=1), draw(ratios=(0.9, 0.95, 0.98))
  assert (
    asked == [None, 0.9, 0.95, 0.98]
    and sorted(one) == ['clip0']
    and sorted(three) == ['clip0', 'clip1']
  )
  assert three['clip0'].shape[0] > 2 * one['clip0'].shape[0] and three['clip0'].dtype == np.uint8
