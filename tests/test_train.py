"""The trainer: a resumed run is the unbroken one bit for bit; devices, fsdp and accumulation change
nothing."""

import dataclasses
import json
import pathlib
import shutil

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from configs import mae_k400
from tests.experiments import shrunk
from vjax import build, checkpoint, sharding, train, train_step, tree, types
from vjax.config import plain
from vjax.heads import linear
from vjax.layers.norm import BatchNorm
from vjax.metrics import Totals

# Values of one training run that are facts of the clock, not of the training.
CLOCK = ('clips_per_s', 'data_wait', 'memory_gib', 'seconds')


def lines(workdir) -> list[dict]:
  rows = [
    json.loads(line) for line in pathlib.Path(workdir, 'metrics.jsonl').read_text().splitlines()
  ]
  return [{k: v for k, v in row.items() if k not in CLOCK} for row in rows]


def result(workdir) -> dict:
  """result.json without what the clock says."""
  return timeless(json.loads(pathlib.Path(workdir, 'result.json').read_text()))


def timeless(found: dict) -> dict:
  """A result without what the clock says."""
  clock = ('train_s', 'eval_s', 'memory_gib', 'device_hours')
  return {**found, 'training': {k: v for k, v in found['training'].items() if k not in clock}}


def arrays(workdir, step: int) -> dict[str, np.ndarray]:
  """Everything in a checkpoint, by name."""
  import orbax.checkpoint as ocp

  with ocp.CheckpointManager(pathlib.Path(workdir).absolute() / 'checkpoints') as manager:
    saved = manager.restore(
      step,
      args=ocp.args.Composite(
        model=ocp.args.StandardRestore(), optimizer=ocp.args.StandardRestore()
      ),
    )
  leaves = jax.tree_util.tree_flatten_with_path((saved['model'], saved['optimizer']))[0]
  return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
  return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


@pytest.mark.parametrize(
  'config',
  [
    # A resume in the middle of a logging interval. Of masked autoencoders: faults/test_kills.py.
    shrunk(
      'mae_finetune_k400',
      **{
        'head.dropout': 0.3,
        'model.drop_path': 0.2,
        'train.ema_decay': 0.9,
        'train.log_steps': 4,
      },
    ),
    # Its programs change with the progress of the training.
    pytest.param(
      shrunk('mae_finetune_k400', **{'objective.mask_ratio': 0.75}), marks=pytest.mark.slow
    ),
  ],
  ids=['classify', 'masked'],
)
def test_resume_is_bit_identical(config, data_dir, tmp_path):
  config['evals'] = {}
  exp = build.experiment(
    config, str(data_dir)
  )  # 60 clips, 8 a step: an epoch ends in the middle of step 8
  train.run(exp, str(tmp_path / 'unbroken'))
  # What a run killed after its first save leaves: checkpoint 2, and lines that the last moments
  # wrote.
  shutil.copytree(tmp_path / 'unbroken', tmp_path / 'killed')
  for step in (4, 6):
    shutil.rmtree(tmp_path / 'killed' / 'checkpoints' / str(step))
  with open(tmp_path / 'killed' / 'metrics.jsonl', 'a') as f:
    f.write('{"step": 5, "split": "tr')
  train.run(exp, str(tmp_path / 'killed'))
  assert same(arrays(tmp_path / 'unbroken', 6), arrays(tmp_path / 'killed', 6))
  assert lines(tmp_path / 'unbroken') == lines(tmp_path / 'killed')
  assert [row['step'] for row in lines(tmp_path / 'killed')][-1] == 6


def losses(config, data_dir, mesh, steps=3) -> tuple[list[float], dict]:
  exp = build.experiment(config, str(data_dir))
  make, _ = train_step.init_state(exp.update, mesh, jax.random.key(0))
  state = make()
  step = train_step.compiled_step(exp.update, mesh, state, exp.objective_at(0)[0])
  batches, found = exp.train_batches(0), []
  for _ in range(steps):
    state, metrics = step(state, sharding.to_global(mesh, next(batches)), jax.random.key(1))
    found.append(float(metrics['loss'].compute()))
  return found, jax.device_get(state)


# fsdp, devices, parts of a step
LAYOUTS = {
  'eight devices': (1, 8, 1),
  'fsdp': (4, 8, 1),
  'accumulated': (1, 4, 2),
}
LAYOUTS['all at once'] = (2, 4, 2)


@pytest.mark.parametrize(
  ('name', 'layouts'),
  [
    # With mixing of neighboring clips.
    pytest.param('mae_finetune_k400', ['all at once'], marks=pytest.mark.slow),
    # The trainer knows no network: each layout by itself is tried with one, BatchNorm's groups with
    # all at once.
    pytest.param('mae_k400', ['eight devices', 'fsdp', 'accumulated'], marks=pytest.mark.slow),
    pytest.param('r2plus1d_k400', ['all at once'], marks=pytest.mark.slow),
  ],
)
def test_devices_sharding_and_accumulation_agree(name, layouts, data_dir):
  mixing = (
    {'objective.mixup': 0.8, 'objective.cutmix': 1.0, 'objective.mix_group': 2}
    if 'finetune' in name
    else {}
  )
  # Plain SGD steps, because Adam turns rounding noise of tiny gradients into whole steps.
  config = shrunk(name, **{'data.batch_size': 16, 'optim.base_batch_size': 16, **mixing})
  sgd = {'name': 'sgd', 'momentum': 0.9, 'nesterov': True, 'learning_rate': 0.02}
  config['optim'] = {k: v for k, v in config['optim'].items() if k not in ('b1', 'b2', 'eps')} | sgd
  devices, others = jax.devices(), {}
  # BatchNorm over two clips of a few pixels magnifies rounding from step to step: there, one step.
  steps = 1 if name == 'r2plus1d_k400' else 3
  if name == 'r2plus1d_k400':
    config['model'] |= {'depths': (1, 1, 0, 0)}
  reference, state = losses(config, data_dir, sharding.mesh(1, devices[:1]), steps)
  assert np.isfinite(reference).all() and len(set(reference)) == steps
  for what in layouts:
    fsdp, count, accumulate = LAYOUTS[what]
    split = {**config, 'train': {**config['train'], 'grad_accumulation': accumulate}}
    others[what] = losses(split, data_dir, sharding.mesh(fsdp, devices[:count]), steps)
  for what, (found, other) in others.items():
    np.testing.assert_allclose(found, reference, rtol=2e-5, err_msg=what)
    for part in ('params', 'stats'):
      ours, theirs = tree.flatten(getattr(state, part)), tree.flatten(getattr(other, part))
      assert ours.keys() == theirs.keys()
      for leaf in ours:
        np.testing.assert_allclose(
          theirs[leaf], ours[leaf], rtol=1e-3, atol=2e-5, err_msg=f'{what}: {leaf}'
        )


@pytest.mark.slow
def test_fsdp_splits_parameters_and_optimizer(data_dir):
  config = shrunk('mae_k400')
  config['model'] |= {'width': 128}
  exp = build.experiment(config, str(data_dir))
  mesh = sharding.mesh(8)
  state = train_step.init_state(exp.update, mesh, jax.random.key(0))[0]()
  kernel = state.params['backbone']['block0']['mlp']['fc1']['kernel']
  assert kernel.shape == (128, 512) and kernel.addressable_shards[0].data.shape == (128, 64)
  moments = [x for x in jax.tree.leaves(state.opt_state) if x.shape == (128, 512)]
  assert moments and all(x.addressable_shards[0].data.size == x.size // 8 for x in moments)


def test_golden_step(data_dir):
  """Two steps of the smallest MAE on given pixels: losses, and the norm of all parameters. If this
  fails, initialization, masks, loss or optimizer changed: say which in the commit, and put the new
  values here."""
  settings = {'objective.ratio': 0.75, 'objective.normalize': False, 'optim.learning_rate': 2e-3}
  config = shrunk('mae_k400', **{'model.depth': 2}, **settings)
  exp = build.experiment(config, str(data_dir))
  mesh = sharding.mesh(1, jax.devices()[:1])
  state = train_step.init_state(exp.update, mesh, jax.random.key(0))[0]()
  step, found = train_step.compiled_step(exp.update, mesh, state, exp.objective_at(0)[0]), []
  for seed in range(2):
    video = np.random.default_rng(seed).integers(0, 256, (8, 8, 48, 48, 3), np.uint8)
    batch = {'video': video, 'label': np.zeros(8, np.int32), 'valid': np.ones(8, np.float32)}
    state, metrics = step(state, sharding.to_global(mesh, batch), jax.random.key(1))
    found.append(float(metrics['loss'].compute()))
  norm = np.sqrt(
    sum(np.sum(np.square(x)) for x in tree.flatten(jax.device_get(state.params)).values())
  )
  np.testing.assert_allclose([*found, norm], [1.7302055, 1.7322797, 33.34425], rtol=1e-5)


@pytest.mark.slow
def test_not_finite_stops_and_names_the_clips(data_dir, tmp_path):
  config = shrunk(
    'mae_finetune_k400',
    **{'optim.learning_rate': 1e30, 'optim.clip_norm': 0.0, 'train.save_steps': 1},
  )
  config['evals'] = {}
  with pytest.raises(
    FloatingPointError,
    match=r'loss is (nan|inf) at step \d, on clips \[\d+, .*checkpoint is that of step',
  ):
    train.run(build.experiment(config, str(data_dir)), str(tmp_path))


def test_a_profile_is_recorded_and_another_model_refused_with_the_names_that_differ(
  data_dir, tmp_path
):
  config = shrunk('mae_finetune_k400', **{'train.profile': (2, 3)})
  config['evals'] = {}
  train.run(build.experiment(config, str(data_dir)), str(tmp_path))
  assert len(list((tmp_path / 'profile').rglob('*.xplane.pb'))) == 1
  (tmp_path / 'meta.json').unlink()  # else the config says so first
  config['model'] |= {'depth': 2}
  with pytest.raises(ValueError, match='block1.*in the model only'):
    train.run(build.experiment(config, str(data_dir)), str(tmp_path))


@pytest.mark.slow
def test_warm_start_loads_the_encoder_and_reports(data_dir, tmp_path):
  pretrain = shrunk('mae_k400')
  pretrain['evals'] = {}
  train.run(build.experiment(pretrain, str(data_dir)), str(tmp_path / 'mae'))
  config = shrunk(
    'mae_finetune_k400',
    f'tiny,init={tmp_path}/mae',
    **{'clip.num_frames': 16, 'clip.crop_size': 32},
  )
  exp = build.experiment(config, str(data_dir))
  state = train_step.init_state(exp.update, sharding.mesh(), jax.random.key(0))[0]()
  params, _, report = checkpoint.warm_start(state.params, state.stats, exp.init_path, **exp.warm)
  saved = checkpoint.load_params(tmp_path / 'mae')[0]['params']['backbone']
  np.testing.assert_array_equal(
    params['backbone']['block0']['attn']['q']['kernel'], saved['block0']['attn']['q']['kernel']
  )
  assert set(report['resized']) == {'backbone/position_spatial', 'backbone/position_temporal'}
  assert saved['position_temporal'].shape == (1, 2, 32)
  assert params['backbone']['position_temporal'].shape == (1, 4, 32)
  assert (
    all(name.startswith('head/') for name in report['skipped'])
    and 'head/predict/kernel' in report['skipped']
  )
  with pytest.raises(ValueError, match=r'init.skip(.|\n)*head/linear/kernel'):
    checkpoint.warm_start(state.params, state.stats, exp.init_path, **exp.warm | {'skip': ()})


@pytest.mark.slow
def test_a_chain_of_three_trainings_knows_what_it_saw(data_dir, tmp_path):
  """Masked pre-training, fine-tuning on other labels, then on the task: the head is new each time,
  the rest is kept."""
  arg, last = 'tiny', None
  for number, name in enumerate(('mae_k400', 'mae_finetune_k400', 'mae_finetune_k400')):
    config = shrunk(name, arg + (f',init={last}' if last else ''), **{'optim.total_steps': 2})
    config['evals'] = {}
    if number == 1:
      config['data'] |= {'name': 'motions_appearance'}
    exp = build.experiment(config, str(data_dir))
    if last:
      state = train_step.init_state(exp.update, sharding.mesh(), jax.random.key(0))[0]()
      _, _, report = checkpoint.warm_start(state.params, state.stats, last, **exp.warm)
      assert all(n.startswith('head/') for n in report['skipped']) and len(report['loaded']) > 20
    last = str(tmp_path / str(number))
    train.run(exp, last)
  assert checkpoint.read_meta(last)['trained_on'] == ['motions', 'motions_appearance']


@pytest.mark.slow
def test_vit_l_over_eight_devices():
  """Of masked pre-training at the paper's size an eighth of parameters and optimizer state is on
  each device, by shapes; one step of a block of that width, and one of the decoder's, gives the
  gradients of one device."""
  config = plain(mae_k400.get_config('variant=L'))
  config['clip'] |= {'num_frames': 4, 'crop_size': 32, 'num_repeats': 1}
  config['train'] |= {'dtype': 'float32', 'remat': False}
  config['objective'] |= {'ratio': 0.5}
  config['data'] |= {'batch_size': 8}

  def update_of(**depth):
    parts = {part: {**config[part], **depth} for part in ('model', 'head')}
    net = build.model({**config, **parts}, 400)
    tx, schedule, _ = build.optimizer(config, net, clips_per_epoch=1000)
    return train_step.Update(net, tx, schedule, (4, 32, 32), lambda batch: batch['video'])

  state = train_step.init_state(update_of(), sharding.mesh(8), jax.random.key(0))[1]
  leaves = jax.tree.leaves((state.params, state.opt_state))
  whole = sum(x.size * x.dtype.itemsize for x in leaves)
  mine = sum(int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize for x in leaves)
  assert whole > 3.8e9 and mine / whole < 0.127  # three times 318 million numbers
  update, objective = update_of(depth=1), build.objective(config)
  rng = np.random.default_rng(0)
  batch = {
    'video': rng.standard_normal((8, 4, 32, 32, 3), np.float32),
    'valid': np.ones(8, np.float32),
  }
  batch |= {'video_id': np.arange(8)}

  def first_moments(mesh):
    state = train_step.init_state(update, mesh, jax.random.key(0))[0]()
    step = train_step.compiled_step(update, mesh, state, objective)
    state, metrics = step(state, sharding.to_global(mesh, batch), jax.random.key(1))
    moments = jax.tree.leaves(optax.tree_utils.tree_get(state.opt_state, 'mu'))
    return float(metrics['loss'].compute()), [np.asarray(x) for x in moments]

  loss, moments = first_moments(sharding.mesh(8))
  plain_loss, wanted = first_moments(sharding.mesh(1, jax.devices()[:1]))
  assert loss == pytest.approx(plain_loss, rel=1e-5)
  typical = max(
    np.abs(x).max() for x in wanted
  )  # the gradient of a bias of keys is 0 but for rounding
  for a, b in zip(moments, wanted, strict=True):
    assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b) + 1e-6 * typical


class Averages(types.Backbone):
  """Mean colors of a clip, normalized over the batch."""

  @nn.compact
  def __call__(self, video, *, train, token_mask=None):
    pooled = BatchNorm(group_size=2, name='norm')(video.mean((1, 2, 3)), train=train)
    return types.Features(maps=(), pooled=pooled)


def of_averages(data_dir, **settings) -> build.Experiment:
  """An experiment with a network that compiles at once."""
  config = shrunk('r2plus1d_k400', **settings)
  exp = build.experiment(config, str(data_dir))
  net = types.VideoModel(backbone=Averages(), head=linear.Head(num_classes=len(exp.classes)))
  return dataclasses.replace(exp, model=net, tx=optax.sgd(0.5))


def test_precise_statistics_are_averages_over_batches(data_dir):
  """Of the six batches to come, mean over their groups of two clips, by hand; of the parameters'
  moving average; a frozen norm keeps its own."""
  exp = of_averages(data_dir, **{'train.precise_bn': 6, 'train.ema_decay': 0.5})
  mesh = sharding.mesh(1, jax.devices()[:1])
  loop = train._Loop.__new__(train._Loop)
  loop.exp, loop.mesh, loop.statistics, loop.totals = exp, mesh, {}, Totals()
  loop.preemption = train.PreemptionGuard(mesh)
  state = train_step.init_state(exp.update, mesh, jax.random.key(0))[0]()
  found = loop._with_statistics(state, jax.random.key(1))
  batches = exp.train_batches(0)
  colors = []
  for _ in range(6):
    pixels = exp.update.pixels(next(batches))
    colors.append(np.asarray(pixels.mean((1, 2, 3))).reshape(4, 2, 3))  # groups of two clips
  norm = found.stats['batch_stats']['backbone']['norm']
  np.testing.assert_allclose(norm['mean'], np.mean(colors, (0, 1, 2)), rtol=1e-4)
  np.testing.assert_allclose(norm['var'], np.var(colors, 2).mean((0, 1)), rtol=1e-4)
  assert loop.totals.eval_s > 0
  loop.exp = dataclasses.replace(exp, freeze=('backbone/.*',))
  kept = loop._with_statistics(state, jax.random.key(1)).stats['batch_stats']['backbone']['norm']
  assert (np.asarray(kept['mean']) == 0).all() and (np.asarray(kept['var']) == 1).all()
  loop.preemption.close()
  loop._check_statistics(state)
  with pytest.raises(ValueError, match='precise_bn is 6, but the model has no batch normalization'):
    loop._check_statistics(state.replace(stats={}))


def test_statistics_resume_bit_identically(data_dir, tmp_path):
  """Saved and evaluated statistics, also where the run was stopped between two saves; and the
  running ones of a training without precise statistics."""
  exp = of_averages(data_dir, **{'train.precise_bn': 3, 'train.eval_epochs': 0.5})
  assert exp.eval_steps == 4

  def unbroken_and_resumed(exp, workdir) -> dict[str, np.ndarray]:
    train.run(exp, str(workdir / 'unbroken'))
    shutil.copytree(workdir / 'unbroken', workdir / 'killed')
    for step in (4, 6):
      shutil.rmtree(workdir / 'killed' / 'checkpoints' / str(step))
    train.run(exp, str(workdir / 'killed'))
    whole, resumed = (arrays(workdir / name, 6) for name in ('unbroken', 'killed'))
    assert same(whole, resumed)
    assert lines(workdir / 'unbroken') == lines(workdir / 'killed')
    return whole

  whole = unbroken_and_resumed(exp, tmp_path / 'precise')
  other = unbroken_and_resumed(of_averages(data_dir), tmp_path / 'running')
  differ = [name for name in whole if not np.array_equal(whole[name], other[name])]
  assert differ and all('batch_stats' in name for name in differ)  # training reads no statistics
