"""A converted checkpoint predicts, is looked at, probed and starts other clips: its meta.json says
all that takes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vjax
from configs import probe_k400
from tests.convert.test_mae_st import dictionary
from vjax import build, checkpoint, predict, registry, visualize
from vjax.config import SCHEMA, ClipConfig, plain
from vjax.convert import __main__ as command
from vjax.convert import _config


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
  """A classifier and a masked autoencoder of variant Ti for 4 frames of 32 px, converted, and their
  folder."""
  root = tmp_path_factory.mktemp('converted')
  np.savez(root / 'classifier.npz', **dictionary('released', classes=3))
  np.savez(root / 'mae.npz', **dictionary('released'))
  (root / 'names.txt').write_text('grow\nleft\nright\n')
  convert(root, 'classifier', f'--classes={root}/names.txt')
  convert(root, 'mae')
  return root


def convert(root, name, *more, out=None):
  command.main(
    ['--source=mae_st', '--variant=Ti', *more, f'{root}/{name}.npz', f'{root}/{out or name}']
  )


@pytest.fixture(scope='module')
def video(tmp_path_factory) -> str:
  from data_prep import synthetic

  folder = tmp_path_factory.mktemp('videos')
  synthetic.prepare(str(folder), 12, 12, seed=0)
  return str(next(folder.rglob('*.mp4')))


@pytest.mark.slow
def test_predictions_and_pictures(converted, video, capsys, tmp_path):
  assert predict.main([f'--workdir={converted}/classifier', video]) == 0
  out = capsys.readouterr().out
  assert all(label in out for label in ('grow', 'left', 'right')) and out.count('%') == 3
  assert (
    visualize.main(['heatmap', f'--workdir={converted}/classifier', f'--out={tmp_path}', video])
    == 0
  )
  assert (
    visualize.main(['reconstruct', f'--workdir={converted}/mae', f'--out={tmp_path}', video]) == 0
  )
  assert predict.main([f'--workdir={converted}/mae', video]) == 1
  assert 'knows no labels' in capsys.readouterr().err
  assert predict.main([f'--workdir={tmp_path}', video]) == 1
  assert 'no meta.json' in capsys.readouterr().err


def test_a_probe_takes_its_model_clip_and_pixels(converted):
  config = plain(probe_k400.get_config(f'init={converted}/classifier'))
  model = build.model(config, 400)
  assert (model.backbone.width, model.backbone.frames, model.backbone.patch) == (
    192,
    4,
    (2, 16, 16),
  )
  assert config['data']['mean'] == (0.45, 0.45, 0.45) and config['clip']['frame_stride'] == 4


PROBED = {  # of every family one, and a source of it
  'r2plus1d_34': 'vmz', 'vmz_ir_csn_r50': 'vmz', 'slow_r50': 'slowfast', 'tam_r18': 'ibm',
  'tsn_inception': 'ibm', 'blresnet_50': 'ibm', 'slowfast_r50_8x8': 'slowfast', 'x3d_s': 'slowfast',
  'mvit_v2_s_16x4': 'slowfast', 'vit_tiny': 'mae_st',
}  # fmt: skip


@pytest.mark.parametrize('name', PROBED)
@pytest.mark.parametrize('arg', ['', ',tiny'])
def test_a_probe_of_every_family(name, arg, tmp_path):
  """The probe's config builds exactly the network of the converted checkpoint, with its clips."""
  clip = dict(num_frames=8, frame_stride=2, crop_size=112, short_side=128, sampling='dense')
  told = {**clip, 'mean': (0.5,) * 3, 'std': (0.25,) * 3}
  small = dict(frames=8, crop=112) if name.startswith(('vit', 'mvit')) else {}
  model = vjax.create_model(name, num_classes=7, **small)
  config = _config.config(PROBED[name], name, model, (8, 112, 112), told)
  meta = {'schema': SCHEMA, 'config': config, 'classes': list('abcdefg')}
  (tmp_path / 'meta.json').write_text(json.dumps(meta))
  probe = plain(probe_k400.get_config(f'init={tmp_path}{arg}'))
  probe['train'] |= {'dtype': 'float32', 'remat': False}  # how it is computed, not what
  assert build.model(probe, 7).backbone == model.backbone
  assert {key: probe['clip'][key] for key in clip} == clip
  assert probe['data']['mean'] == (0.5,) * 3 and set(probe['evals']) == {'probe'}


def test_each_family_is_probed():
  families = {registry.find_model(name)[0].__name__ for name in PROBED}
  assert families == {f'vjax.models.{name}' for name in registry.names('models')}


def test_another_clip_starts_from_it(converted):
  config = plain(json.loads((converted / 'mae' / 'meta.json').read_text())['config'])
  config['clip'] |= {'num_frames': 8, 'crop_size': 64}
  config['model'] |= {'frames': 8, 'crop': 64, 'relative': False}
  model, clip = build.model(config, 1), ClipConfig(**config['clip'])
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 64, 64, 3)), train=False)
  )['params']
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  resize = lambda *args: build.resize(model, clip, '', *args)
  params, _, report = checkpoint.warm_start(zeros, {}, str(converted / 'mae'), resize=resize)
  assert {name.rsplit('/')[-1] for name in report['resized']} == {
    'position',
    'position_spatial',
    'position_temporal',
  }
  assert params['backbone']['position_spatial'].shape == (1, 16, 192)


def test_what_nobody_knows_is_asked_for(tmp_path, capsys):
  from tests.convert.test_mae_image import dictionary as images

  np.savez(tmp_path / 'image.npz', **images())
  weights, out = f'{tmp_path}/image.npz', f'{tmp_path}/image'
  command.main(['--source=mae_image', '--variant=Ti', '--set', 'frames=4', weights, out])
  assert (
    'unknown, and needed for predictions: --frame_stride, --sampling' in capsys.readouterr().out
  )
  for use in (predict.Predictor, lambda path: probe_k400.get_config(f'init={path}')):
    with pytest.raises(
      ValueError, match=r'convert (them|the weights) again.*--frame_stride, --sampling'
    ):
      use(out)
  more = [
    '--frame_stride=2',
    '--sampling=linspace',
    '--mean',
    '.5',
    '.5',
    '.5',
    '--std',
    '.2',
    '.2',
    '.2',
  ]
  command.main(['--source=mae_image', '--variant=Ti', '--set=frames=4', *more, weights, f'{out}2'])
  found = predict.Predictor(f'{out}2')
  assert found.model.config.clip == ClipConfig(
    num_frames=4, frame_stride=2, crop_size=64, short_side=73, sampling='linspace'
  )
  assert found.model.mean == (0.5,) * 3 and len(found.model.classes) == 7
  (tmp_path / 'two.txt').write_text('a\nb\n')
  for wrong, message in {
    '--set=frames': 'need KEY=VALUE',
    '--set=frame=4': "did you mean 'frames'",
    f'--classes={tmp_path}/two.txt': 'two.txt has 2 names; the weights have 7 classes',
    f'--classes={tmp_path}/none.txt': 'No such file',
  }.items():
    with pytest.raises(SystemExit, match=message):
      command.main(['--source=mae_image', '--variant=Ti', wrong, weights, f'{out}3'])


def test_literals_and_words():
  assert command._override('patch=(2, 14, 14)') == ('patch', (2, 14, 14))
  assert command._override('dataset=ssv2') == ('dataset', 'ssv2')
  assert command._override('kernel=None') == ('kernel', None)


def test_relative_tables_are_resized_in_a_warm_start():
  """Linear, half-pixel centers: the middle of a table of 15 rows becomes that of 31."""
  old = np.random.default_rng(0).standard_normal((15, 4)).astype(np.float32)
  new = build.resize(None, None, '', 'backbone/block0/attn/relative_h', old, (31, 4), {})
  assert new.shape == (31, 4)
  np.testing.assert_allclose(new[15], old[7], atol=1e-6)
  with pytest.raises(ValueError, match='only the number of positions can be resized'):
    build.resize(None, None, '', 'backbone/block0/attn/relative_h', old, (31, 8), {})
  assert build.resize(None, None, '', 'backbone/block0/attn/q/kernel', old, (31, 4), {}) is None
