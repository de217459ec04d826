"""The image and video stages of Li et al. 2022: recipes by the paper's numbers, and networks of
images that start networks of videos."""

import functools
import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import sts_image
from tests.networks import variables_of
from vjax import build, checkpoint, tree, types
from vjax.config import parse, plain
from vjax.heads import linear


def config_of(name: str, arg: str) -> dict:
  return plain(importlib.import_module(f'configs.{name}').get_config(arg))


class Mean(types.Backbone):
  """The mean color of a clip."""

  @nn.compact
  def __call__(self, video, *, train, token_mask=None):
    return types.Features(maps=(), pooled=video.mean((1, 2, 3)))


def rates(name: str, arg: str, clips: int) -> tuple:
  """Learning rate by epoch, and the number of steps."""
  config = config_of(name, arg)
  config['optim'].pop('decayed', None)  # the schedule does not see the network
  net = types.VideoModel(backbone=Mean(), head=linear.Head(num_classes=2))
  _, schedule, total = build.optimizer(config, net, clips_per_epoch=clips)
  steps = clips / (config['data']['batch_size'] * config['clip']['num_repeats'])
  return lambda epoch: float(schedule(round(epoch * steps))), total


def test_recipes_of_images():
  rate, total = rates('sts_image', 'recipe=100', 1_280_000)
  assert total == 125_000  # 1024 images a step
  at = [rate(e) for e in (0, 2.5, 52.5, 100)]
  assert at == pytest.approx([1e-6, 0.1988, 0.1843, 0], abs=1e-4)
  config = config_of('sts_image', 'recipe=300,model=csn')
  assert config['data']['batch_size'] * config['clip']['num_repeats'] == 2304 == 9 * sts_image.GROUP
  rate, total = rates('sts_image', 'recipe=300,model=csn', 1_280_000)
  assert total == round(300 * 1_280_000 / 2304)  # an epoch has as many images as the set
  assert [rate(e) for e in (0, 150, 299.9)] == pytest.approx([5e-6, 2.5e-3, 1.1e-6], rel=0.05)
  assert rate(7.3) == rate(7.9) > rate(8.1)  # once an epoch
  assert config['model']['drop_path'] == 0.05 and config['objective']['multi_label']
  assert config_of('sts_image', 'recipe=300,model=x3d_s')['model']['drop_path'] == 0
  assert sts_image.test_side(224, 0.875) == 256 and sts_image.test_side(224, 0.95) == 235
  assert {e['short_side'] for e in config['evals'].values()} == {256, 235}


def test_frames_of_videos_have_the_budget_of_images():
  optim = config_of('sts_image', 'data=k400,recipe=300')['optim']
  assert optim['total_clips'] == pytest.approx(384e6, rel=2e-3) and 'total_epochs' not in optim
  _, total = rates('sts_image', 'data=k400', 240_000)
  assert total == round(100 * sts_image.IMAGES / 1024)


def test_recipes_of_videos():
  rate, total = rates('sts_video', 'init=x', 240_436)
  assert total == round(50 * 240_436 / 128)
  assert rate(0) == pytest.approx(0.1 * 0.02) and rate(25.01) == pytest.approx(0.01, rel=1e-4)
  assert rate(49.5) == pytest.approx(0.02 * 0.00099, rel=5e-3)
  for model, (frames, stride, crop, test) in {
    'slowonly': (8, 8, 224, 256), 'slowfast_8x8': (32, 2, 224, 256), 'r2plus1d': (8, 8, 224, 256),
    'csn': (32, 2, 224, 256), 'x3d_s': (13, 6, 160, 192),
  }.items():  # fmt: skip
    config = parse(config_of('sts_video', f'model={model},init=x'))
    assert (config.clip.num_frames, config.clip.frame_stride) == (frames, stride)
    views = config.evals['test'].clip
    assert (config.clip.crop_size, views.crop_size, views.short_side) == (crop, test, test)
    assert (views.num_clips, views.num_crops, config.clip.sampling) == (10, 3, 'parts')
    assert config.optim and config.optim.clip_norm == 40
    assert config.optim.decayed == ('kernels' if model == 'x3d_s' else 'all')
    assert config.train.precise_bn == (0 if model == 'csn' else 200)
  config = parse(config_of('sts_video', 'model=x3d_s,data=ssv2,init=x'))
  assert (config.clip.num_frames, config.clip.crop_size, config.clip.sampling) == (8, 224, 'tsn')
  assert (config.evals['test'].clip.num_clips, config.evals['test'].clip.num_crops) == (1, 3)
  assert config.augment.flip == 0 and config.data.batch_size == 64
  short = parse(config_of('sts_video', 'model=csn,frames=8,init=x'))
  assert (short.clip.num_frames, short.clip.frame_stride) == (8, 8)  # table 7


@pytest.mark.parametrize(
  ('name', 'arg', 'words'),
  [
    ('sts_image', 'conv=dilated_2', "conv='dilated_2' is for kernels of 3x3x3"),
    ('sts_image', 'recipe=90', 'recipe=90: it must be one of 100, 150, 300'),
    ('sts_video', 'rule=inflation', 'name these by init=WORKDIR'),
    ('sts_video', 'init=x,branch=slow', "branch=slow is for SlowFast, and model is 'slowonly'"),
    ('sts_video', 'init=x,rule=mean', 'it must be one of center, sts, inflation'),
  ],
)
def test_axes_that_do_not_go_together(name, arg, words):
  with pytest.raises(ValueError, match=words):
    config_of(name, arg)


@functools.cache
def image_network(model: str, conv: str) -> tuple[dict, dict]:
  """(variables, meta) of the tiny image stage, without a training."""
  config = config_of('sts_image', f'model={model},conv={conv},tiny')
  net = build.model(config, 7)
  clip = config['clip']
  frames = jax.ShapeDtypeStruct((1, 1, clip['crop_size'], clip['crop_size'], 3), jnp.float32)
  return variables_of(net, frames), {'config': config}


@functools.cache
def video_network(arg: str) -> tuple:
  """(network, variables) of the tiny video stage."""
  net = build.model(config_of('sts_video', f'{arg},tiny'), 5)
  video = jax.ShapeDtypeStruct((1, 8, 64, 64, 3), jnp.float32)
  return net, variables_of(net, video, seed=1)


def started(monkeypatch, image: str, arg: str, conv: str = 'plain'):
  """(parameters before, after, of the image network, report) of the tiny video stage that starts
  from the image stage. arg: the axes of the network first, then rule or branch."""
  config = parse(config_of('sts_video', f'{arg},init=x,tiny'))
  net, variables = video_network(arg.partition(',rule')[0].partition(',branch')[0])
  variables = dict(variables)
  load = lambda path: ({k: dict(v) for k, v in image_network(image, conv)[0].items()}, {})
  module = importlib.import_module('vjax.checkpoint.warm_start')  # beside the function
  monkeypatch.setattr(module, 'load_params', load)
  params = variables.pop('params')
  new, stats, report = checkpoint.warm_start(
    params, variables, 'x', **build.warm(net, config.clip, config.init)
  )
  given = tree.flatten(image_network(image, conv)[0]['params'])
  return tree.flatten(params), tree.flatten(new), given, report


def side(x):
  """All slices of a kernel but the middle one."""
  return np.delete(np.asarray(x), x.shape[0] // 2, axis=0)


@pytest.mark.parametrize('model', list(sts_image.MODELS))
def test_an_image_network_starts_every_video_network(model, monkeypatch):
  """Everything is taken but the classifier; kernels through time have their middle slice alone."""
  before, new, given, report = started(monkeypatch, model, f'model={model}')
  linear = ['head/linear/bias', 'head/linear/kernel']
  assert report['skipped'] == linear and not report['resized']
  assert len(report['loaded']) > len(new) - 2
  deep = 0
  for name, x in new.items():
    if name in linear:
      np.testing.assert_array_equal(x, before[name])
    elif x.ndim == 5 and x.shape[0] > 1:
      deep += 1
      assert not side(x).any()
      np.testing.assert_array_equal(x[x.shape[0] // 2], given[name][x.shape[0] // 2])
    else:
      np.testing.assert_array_equal(x, given[name])
  assert deep >= {'slowonly': 2, 'csn': 5, 'x3d_s': 5, 'r2plus1d': 9}.get(model, 10)


def test_rules_of_kernels_through_time(monkeypatch):
  """By the kernel of a block of CSN, whose first half of outputs is static."""
  name = 'backbone/res3/block0/conv2/kernel'
  start = lambda rule, conv='sts': started(
    monkeypatch, 'csn', f'model=csn,conv={conv},rule={rule}', conv
  )
  kernel = start('center')[2][name]
  half = kernel.shape[-1] // 2
  assert kernel.shape[0] == 3
  for rule, factors in {
    'center': (0, 1, 0), 'inflation': (1 / 3,) * 3, 'rates_3_3_9': (1 / 3, 1 / 3, 1 / 9),
    'rates_9_3_9': (1 / 9, 1 / 3, 1 / 9),
  }.items():  # fmt: skip
    found = start(rule)[1][name]
    np.testing.assert_allclose(found, np.stack([f * kernel[1] for f in factors]), rtol=1e-6)
  np.testing.assert_array_equal(start('random')[1][name], kernel)
  sts = start('sts')[1][name]
  np.testing.assert_array_equal(sts[..., :half], kernel[..., :half])  # trained by images too
  assert not side(sts[..., half:]).any()
  np.testing.assert_array_equal(sts[1], kernel[1])
  plain_rule = start('sts', 'plain')[1][name]
  np.testing.assert_array_equal(plain_rule, start('center', 'plain')[1][name])


def test_the_slow_pathway_alone_starts_from_slowonly(monkeypatch):
  """Inputs from the fast pathway are zero, and that pathway and the connections stay random."""
  before, new, given, report = started(monkeypatch, 'slowonly', 'model=slowfast_4x16,branch=slow')
  name = 'backbone/{}res3/block0/conv1/kernel'
  x, image = new[name.format('slow_')], given[name.format('')]
  inputs = image.shape[3]
  assert x.shape[3] > inputs and not x[..., inputs:, :].any()
  np.testing.assert_array_equal(x[..., :inputs, :], image)
  deep = 'backbone/{}res5/block0/conv1/kernel'
  x, image = new[deep.format('slow_')], given[deep.format('')]
  assert x.shape[0] == 3 and not side(x).any() and x[1].any()
  random = [n for n in new if '/fast_' in n or '/lateral' in n]
  assert random and all(np.array_equal(new[n], before[n]) for n in random)
  assert any(side(new[n]).any() for n in random if n.endswith('kernel') and new[n].shape[0] > 1)
  assert len(report['loaded']) + len(report['resized']) > len(given)


@pytest.mark.slow
def test_two_stages_from_end_to_end(data_dir, tmp_path):
  """Images, then videos from them: the second result holds the budgets of both."""
  from vjax import train

  def run(name, arg):
    config = config_of(name, arg)
    config['model'] |= {'width': 0.0625, 'norm': {'group_size': 4}}
    name_of_data = 'motions_appearance' if name == 'sts_image' else 'motions'  # of one folder
    config['data'] |= {'batch_size': 8, 'name': name_of_data}
    if config['objective'].get('mix_group'):
      config['objective'] |= {'mix_group': 8}
    config['clip'] |= {'crop_size': 32, 'short_side': 36}
    if config['augment']['crop'] == 'fixed':
      config['augment'] |= {'size': (36, 36)}
    config['optim'] |= {'base_batch_size': 8, 'total_steps': 3, 'warmup_steps': 1}
    config['train'] |= {'precise_bn': 0}
    config['evals'] = {}
    return train.run(build.experiment(config, str(data_dir)), str(tmp_path / name))

  images = run('sts_image', 'model=slowonly,tiny')['training']
  videos = run('sts_video', f'model=slowonly,init={tmp_path / "sts_image"},tiny')['training']
  assert images['images_seen'] == 24 and 'stages' not in images
  assert videos['images_seen'] == 24 * 8 and len(videos['stages']) == 2
  assert videos['total']['images_seen'] == 24 * 9
  hours = images['device_hours'] + videos['device_hours']
  assert videos['total']['device_hours'] == pytest.approx(hours)
