"""The study of CNNs (Chen et al. 2021): names of the paper, recipes of its tables, and all networks
of its grid."""

import itertools
import re

import jax
import jax.numpy as jnp
import pytest

from configs import cnn_study
from vjax import build, checks, factory, inflate, tree
from vjax.config import parse, plain
from vjax.kernels import conv

GRID = list(
  itertools.product(
    ('tsn', 'i3d', 's3d', 'tam'), ('inception_v1', 'resnet18', 'resnet50'), (False, True)
  )
)


def get(arg):
  return parse(cnn_study.get_config(arg))


@pytest.mark.parametrize(
  ('text', 'model', 'frames'),
  [
    ('I3D-R50-tp-f16', 'i3d_tp_r50', 16),
    ('i3d-resnet50-tp', 'i3d_tp_r50', 8),
    ('I3D-ResNet-50-8', 'i3d_r50', 8),
    ('K400-TAM-ResNet-101-f32', 'tam_r101', 32),
    ('TAM-InceptionV1', 'tam_inception', 8),
    ('s3d-IncV1-ts-max-f64', 's3d_tp_inception', 64),
    ('I3D-SE-R50', 'i3d_se_r50', 8),
    ('Conv-R50', 'tam_dense_r50', 8),
    ('NLN-R50', 'nln_r50', 8),
    ('SF-R50 8×8', 'slowfast_r50_8x8', 32),
    ('SlowFast-R101-16x8', 'slowfast_r101_16x8_50_50', 64),
    ('bLVNet-TAM-50-a2-b4-f8x2', 'blresnet_50', 16),
    ('TAM-bLResNet-101', 'blresnet_101', 8),
  ],
)
def test_names_of_the_paper(text, model, frames):
  config = get(f'model={text}')
  assert (config.model.name, config.clip.num_frames) == (model, frames)


@pytest.mark.parametrize(
  ('arg', 'words'),
  [
    ('model=R50-I3D', "model='R50-I3D' is no name of the paper: write MODULE-BACKBONE"),
    ('model=I3D-ResNet', 'is no name of the paper'),
    ('model=I3D-R50,pool', 'give the name or the axes'),
    ('model=I3D-R50-f8,frames=16', 'has 8 frames, but frames=16'),
    ('module=nln,backbone=inception_v1', 'inception_v1 has no nln'),
    ('module=nln,backbone=resnet18', 'there is no such network'),
    ('module=tsm,backbone=blresnet50', 'blresnet has tsn and tam alone'),
    ('module=slowfast,frames=8', 'slowfast is on resnet50 or resnet101 with 32 or 64 frames'),
    ('module=lstm', "module='lstm': it must be one of tsn, tam"),
    ('backbone=vit', "backbone='vit': it must be one of inception_v1"),
    ('protocol=slowfast_ssv2,data=k400', 'is for module=slowfast and data=ssv2'),
    ('data=k600', "data='k600': the paper has no durations for it; give schedule=kinetics"),
    ('test=crops', "test='crops': it must be one of clip, video, clips"),
    ('sampling=random', "sampling='random': it must be one of uniform, dense"),
  ],
)
def test_arguments_that_cannot_be(arg, words):
  with pytest.raises(ValueError, match=re.escape(words)):
    cnn_study.get_config(arg)


def test_recipe_of_table_d3():
  """Mini sets: cosine at 8 frames, 72 videos a step; then 36, and drops in three steps."""
  f8, f16 = get('model=I3D-R50,data=ssv2'), get('model=I3D-R50-f16,data=ssv2,init=F8')
  for config, batch, group in ((f8, 72, 12), (f16, 36, 0)):
    optim = config.optim
    assert (config.data.batch_size, config.model.settings['norm']['group_size']) == (batch, group)
    assert (optim.learning_rate, optim.momentum, optim.weight_decay) == (0.01, 0.9, 5e-4)
    assert (optim.nesterov, optim.decayed, optim.base_batch_size) == (False, 'all', batch)
    assert config.augment.crop == 'multiscale' and config.clip.sampling == 'uniform'
    assert (config.clip.crop_size, config.clip.short_side) == (224, 224)
    assert config.train.keep_best == 'clip/top1' and config.train.eval_epochs == 1
  assert (f8.optim.schedule, f8.optim.total_epochs, f8.optim.end_lr) == ('cosine', 75, 0)
  assert (f16.optim.schedule, f16.optim.total_epochs) == ('step', 35)
  assert f16.optim.boundary_epochs == (10, 20, 30) and f16.optim.factor == 0.1
  kinetics8, kinetics16 = (
    get('model=TAM-R50,data=k400'),
    get('frames=64,data=mini,schedule=kinetics'),
  )
  assert (kinetics8.optim.total_epochs, kinetics16.optim.total_epochs) == (100, 45)
  assert kinetics16.optim.boundary_epochs == (15, 30, 40)


def test_halves_of_the_classes_have_the_recipes_of_their_sets():
  for whole, half in (('k400', 'mini_k400'), ('ssv2', 'mini_ssv2')):
    for protocol in ('mini', 'full'):
      a, b = (get(f'protocol={protocol},model=TAM-R50,data={d}').plain for d in (whole, half))
      assert (a['data']['name'], b['data']['name']) == (whole, half)
      assert a == {**b, 'data': a['data']} and {**b['data'], 'name': whole} == a['data']
  assert get('data=mini_mit').optim == get('data=mini_ssv2').optim


def test_recipe_of_table_d2():
  """Full sets: 1024 videos a step, 34 of 196 epochs of warm-up to 1.6, half a cosine."""
  for arg in ('model=TAM-R50', 'model=SF-R50-8x8'):
    config = get(f'protocol=full,{arg}')
    assert (config.data.batch_size, config.model.settings['norm']['group_size']) == (1024, 8)
    optim = config.optim
    assert (optim.learning_rate, optim.warmup_start_lr, optim.end_lr) == (1.6, 0.01, 0)
    assert (optim.total_epochs, optim.warmup_epochs, optim.weight_decay) == (196, 34, 1e-4)
    assert (config.clip.num_frames, config.clip.frame_stride, config.clip.sampling) == (
      32,
      2,
      'dense',
    )
    assert (config.augment.crop, config.augment.short_side) == ('jitter', (256, 320))
    views = config.evals['video'].clip
    assert (views.num_clips, views.num_crops, views.crop_size) == (10, 3, 256)
  assert get('protocol=full,model=TAM-R50').optim.decayed == 'all'
  ssv2 = get('protocol=full,model=TAM-R50,data=ssv2')
  assert (ssv2.clip.sampling, ssv2.clip.frame_stride) == ('uniform', 1)
  assert (ssv2.evals['video'].clip.num_clips, ssv2.evals['video'].clip.num_crops) == (2, 3)
  uniform = get('protocol=full,model=TAM-R50,sampling=uniform')  # table 3
  assert (uniform.clip.sampling, uniform.evals['video'].clip.num_clips) == ('uniform', 2)


def test_learning_rates_by_epoch():
  def rates(arg, epochs):
    config = cnn_study.get_config(arg)
    model, batch = build.model(plain(config), 87), config.data.batch_size
    _, schedule, total = build.optimizer(config, model, clips_per_epoch=100 * batch)
    assert total == epochs[-1] * 100
    return [float(schedule(100 * e)) for e in epochs]

  dropped = rates('model=I3D-R18-f16,data=ssv2', (0, 10, 20, 30, 35))
  assert dropped == pytest.approx([0.01, 1e-3, 1e-4, 1e-5, 1e-5])
  assert rates('model=I3D-R18,data=ssv2', (0, 25, 75)) == pytest.approx(
    [0.01, 0.0075, 0], abs=1e-9, rel=1e-6
  )
  full = rates('protocol=full,model=I3D-R18', (0, 34, 115, 196))
  assert full == pytest.approx([0.01, 1.6, 0.8, 0], abs=1e-9, rel=1e-6)
  slowfast = rates('protocol=full,model=SF-R50-8x8', (0, 34, 196))
  assert slowfast == pytest.approx([0.01, 1.484, 0], abs=1e-3)


def test_recipe_of_transfer():
  config = get('protocol=transfer,data=ucf101_frames,init=K400')
  assert (config.data.batch_size, config.optim.total_epochs, config.optim.weight_decay) == (
    48,
    45,
    5e-4,
  )
  assert (config.optim.schedule, config.optim.learning_rate) == ('cosine', 0.01)
  assert config.init.skip == ('head/.*',) and config.init.inflate == ''
  assert (config.clip.num_frames, config.clip.sampling) == (32, 'dense')


def test_recipe_of_slowfast_on_ssv2():
  """PySlowFast's configs/SSv2/SLOWFAST_16x8_R50.yaml."""
  config = get('protocol=slowfast_ssv2,init=K400')
  optim = config.optim
  assert config.model.name == 'slowfast_r50_16x8' and config.clip.num_frames == 64
  assert (config.data.name, config.data.batch_size, optim.learning_rate) == ('ssv2', 16, 0.03)
  assert (optim.total_epochs, optim.boundary_epochs, optim.factor) == (22, (14, 18), 0.1)
  assert (optim.weight_decay, optim.warmup_epochs, optim.warmup_start_lr) == (1e-6, 0.19, 1e-4)
  assert optim.nesterov and optim.decayed == 'kernels' and config.augment.inverse
  assert config.augment.flip == 0 and config.model.settings['norm']['group_size'] == 8
  views = config.evals['clip'].clip
  assert (views.crop_size, views.num_clips, views.num_crops, views.sampling) == (
    256,
    1,
    1,
    'segments',
  )


def test_evaluations():
  """Center of one clip at 224 px; ten clips; one to ten clips with the logits of every view."""
  clip = get('').evals['clip']
  assert (clip.clip.num_clips, clip.clip.num_crops, clip.clip.crop_size) == (1, 1, 224)
  assert clip.clip.crop_places == 'quarters' and clip.settings['average'] == 'logits'
  video = get('test=video').evals['video']
  assert (video.clip.num_clips, video.clip.num_crops) == (10, 1)
  many = get('test=clips,protocol=full').evals
  assert [many[f'clips_{m}'].clip.num_clips for m in range(1, 11)] == list(range(1, 11))
  assert all(e.clip.num_crops == 3 and e.settings['save_predictions'] for e in many.values())
  for test in cnn_study.TESTS:
    checks.check_evals(get(f'test={test},protocol=full'))


def test_progressive_runs_start_from_the_one_before():
  runs = dict(cnn_study.progressive('work', 'model=TAM-R18,data=ssv2', init='IMAGES'))
  assert [parse(c).clip.num_frames for c in runs.values()] == [8, 16, 32, 64]
  inits = [parse(c).init for c in runs.values()]
  assert [i.path for i in inits] == ['IMAGES', *(f'work/{name}' for name in list(runs)[:3])]
  assert inits[0].skip[0] == 'head/.*' and all(i.skip == () for i in inits[1:])
  assert next(cnn_study.progressive('work', 'model=TAM-R18', name='mine'))[0] == 'mine_f8'


def test_miniature_keeps_network_label_space_and_kind_of_clips():
  arg = 'module=tam,pool,sampling=dense,test=clips'
  config = parse(cnn_study.miniature(arg, 'motions_appearance', seed=3, steps=200))
  assert (config.model.name, config.model.settings['depths']) == ('tam_tp_r18', (1, 1, 1, 1))
  assert (config.data.name, config.clip.sampling, config.seed) == ('motions_appearance', 'dense', 3)
  assert config.optim.total_steps == 200 and config.evals['clips_10'].clip.num_clips == 10


def names(model):
  net = factory.create_backbone(model)
  video = jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32)
  with conv.formulation('lax'):  # traces faster
    found = jax.eval_shape(lambda r, x: net.init(r, x, train=False), jax.random.key(0), video)
  return {n.split('/', 1)[1] for n in tree.flatten(found)}


@pytest.mark.parametrize(
  ('module', 'backbone'),
  [
    ('tam', 'resnet18'), ('s3d', 'resnet18'), ('i3d', 'resnet18'),
    *(pytest.param(m, 'resnet50', marks=pytest.mark.slow) for m in ('s3d', 'nln', 'i3d_se')),
    *(pytest.param(m, 'inception_v1', marks=pytest.mark.slow) for m in ('s3d', 'tam', 'i3d')),
  ],
)  # fmt: skip
def test_parts_that_an_image_network_lacks_are_named(module, backbone):
  """All of them and no others, so that a warm start from images is complete."""
  image = names(cnn_study.model_name('tsn', backbone, False, 8))
  video = names(cnn_study.model_name(module, backbone, False, 8))
  new = video - set(inflate.renames(image, video).values())
  patterns = cnn_study.new_parts(module, backbone)
  matched = {n for n in video if tree.matches(patterns, f'backbone/{n}')}
  assert new == matched
  config = get(f'module={module},backbone={backbone},init=IMAGES')
  assert config.init.skip == ('head/.*', *patterns)
  assert config.init.inflate == ('' if module in ('tam', 'nln') else 'repeat')


@pytest.mark.parametrize('frames', cnn_study.FRAMES)
def test_all_96_networks_of_the_grid_have_a_config(frames):
  found = set()
  for module, backbone, pool in GRID:
    config = get(f'module={module},backbone={backbone},frames={frames}' + ',pool' * pool)
    assert config.clip.num_frames == frames
    found.add(config.model.name)
  assert len(found) == 24


@pytest.mark.slow
@pytest.mark.parametrize('frames', cnn_study.FRAMES)
def test_all_96_networks_of_the_grid_trace(frames):
  """Written with XLA's convolutions, which trace ten times as fast as those of a CPU."""
  for module, backbone, pool in GRID:
    arg = f'module={module},backbone={backbone},frames={frames}' + ',pool' * pool
    model = build.model(plain(cnn_study.get_config(arg)), 87)
    video = jax.ShapeDtypeStruct((1, frames, 64, 64, 3), jnp.float32)
    with conv.formulation('lax'):
      logits, _ = jax.eval_shape(
        lambda r, x, model=model: model.init_with_output(r, x, train=False),
        jax.random.key(0),
        video,
      )
    assert logits.shape == (1, 87)
