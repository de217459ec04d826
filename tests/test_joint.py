"""Joint training of two datasets: training, evaluation of each, one dataset's model, resume,
devices."""

import json
import shutil

import jax
import numpy as np
import pytest

from configs import multitrain
from tests.data import make
from tests.experiments import joint as config
from tests.networks import variables_of
from tests.test_train import losses
from vjax import (
  build,
  built_in_data,
  checkpoint,
  evaluate,
  export,
  inference,
  predict,
  sharding,
  train,
  tree,
  visualize,
)
from vjax.checkpoint import same_run
from vjax.config import plain
from vjax.heads import joint as joint_head
from vjax.types import Features


@pytest.fixture(scope='module')
def run(data_dir, tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp('joint') / 'run')
  result = train.run(build.experiment(config(), str(data_dir)), workdir)
  return workdir, result


@pytest.mark.slow
def test_training_and_evaluation_of_each_dataset(run):
  workdir, result = run
  assert set(result) == {'step', 'motion', 'motion_projected', 'appearance', 'mean', 'training'}
  mean = (result['motion']['top1'] + result['appearance']['top1']) / 2
  assert result['mean'] == {'top1': pytest.approx(mean)}
  assert result['motion']['count'] == result['appearance']['count'] == 36
  assert result['motion']['loss'] != result['motion_projected']['loss']
  meta = checkpoint.read_meta(workdir)
  assert meta['trained_on'] == ['motions_appearance', 'motions']
  assert [name.partition('/')[0] for name in meta['classes']] == ['appearance'] * 12 + [
    'motion'
  ] * 12
  assert meta['classes'][0] == 'appearance/checkered cross'
  with np.load(f'{workdir}/appearance.predictions.npz') as found:
    assert found['logits'].shape == (36, 1, 12) and not str(found['classes'][0]).startswith('app')
  (row,) = [
    r
    for r in map(json.loads, open(f'{workdir}/metrics.jsonl'))
    if (r['step'], r['split']) == (2, 'train')
  ]
  wanted = {'variance', 'covariance', 'motion_top1', 'appearance_top1', 'motion_sigma'}
  assert wanted < set(row) and all(np.isfinite(row[name]) for name in wanted)


@pytest.mark.slow
def test_one_dataset_is_a_model_of_its_own(run, data_dir, tmp_path, capsys):
  workdir, result = run
  model = inference.load(workdir)
  video = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 48, 48, 3), np.uint8)
  with pytest.raises(ValueError, match='classifiers for appearance, motion: choose one by serving'):
    model.logits(video)
  out = str(tmp_path / 'motion')
  assert export.main([workdir, out, '--head=motion']) == 0
  alone = inference.load(out)
  assert alone.classes == model.serving('motion').classes and 'left' in alone.classes
  np.testing.assert_allclose(
    alone.logits(video), model.serving('motion').logits(video), rtol=1e-5, atol=1e-6
  )
  head = [name for name in tree.flatten(alone.params) if name.startswith('head/')]
  assert head == ['head/fc1/bias', 'head/fc1/kernel', 'head/fc2/bias', 'head/fc2/kernel']
  exp = build.experiment({**alone.config.plain}, str(data_dir), classes=alone.classes)
  assert list(exp.evals) == ['motion'] and exp.meta['config']['data']['name'] == 'motions'
  assert export.main([workdir, out, '--head=motion']) == 1
  assert 'is not empty: give a new folder' in capsys.readouterr().err
  assert export.main([workdir, str(tmp_path / 'x'), '--head=k400']) == 1
  assert "dataset 'k400' has no classifier; there are those of" in capsys.readouterr().err


@pytest.mark.slow
def test_an_exported_model_keeps_nothing_of_the_others(data_dir, tmp_path):
  best = {'train.keep_best': 'appearance/top1', 'train.eval_epochs': 1.0}
  exp = build.experiment(config(**best), str(data_dir))
  video = jax.numpy.zeros((1, 8, 48, 48, 3))
  variables = jax.device_get(exp.model.init(jax.random.key(0), video, train=False))
  workdir, out = str(tmp_path / 'run'), str(tmp_path / 'motion')
  checkpoint.save_params(workdir, variables, exp.meta)
  export.export(workdir, out, 'motion')
  assert list(evaluate.load(out, str(data_dir)).exp.evals) == ['motion']
  assert evaluate.load(workdir, str(data_dir), data='motions').exp.evals == {}
  for use in (predict.Predictor, lambda path: visualize.heatmap(inference.load(path), 'x.mp4')):
    with pytest.raises(ValueError, match='classifiers for appearance, motion: .* --head=DATASET'):
      use(workdir)


@pytest.mark.slow
def test_a_resumed_run_is_the_unbroken_one(run, data_dir, tmp_path):
  workdir = str(tmp_path / 'killed')
  shutil.copytree(run[0], workdir)
  shutil.rmtree(f'{workdir}/checkpoints/4')
  train.run(build.experiment(config(), str(data_dir)), workdir)
  whole, again = (checkpoint.load_params(w)[0] for w in (run[0], workdir))
  for name, x in tree.flatten(whole).items():
    np.testing.assert_array_equal(x, tree.flatten(again)[name], err_msg=name)


@pytest.mark.slow
def test_eight_devices_are_one(data_dir):
  """With statistics over the whole batch, shares, and partners of other datasets."""
  settings = config(**{'data.batch_size': 16, 'objective.mixup': 0.8, 'objective.mix_group': 0})
  settings['datasets'] = {a: dict(e, share=1.0) for a, e in settings['datasets'].items()}
  sgd = {'name': 'sgd', 'momentum': 0.9, 'nesterov': True, 'learning_rate': 0.02}
  settings['optim'] = {
    k: v for k, v in settings['optim'].items() if k not in ('b1', 'b2', 'eps')
  } | sgd
  found = [
    losses(settings, data_dir, sharding.mesh(fsdp, jax.devices()[:n]))
    for fsdp, n in ((1, 1), (2, 8))
  ]
  np.testing.assert_allclose(found[1][0], found[0][0], rtol=2e-5)
  one, eight = (tree.flatten(state.params) for _, state in found)
  for name, x in one.items():
    np.testing.assert_allclose(eight[name], x, rtol=1e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize('updates, words', [
  ({'train.grad_accumulation': 2}, 'config.train.grad_accumulation is 2: statistics of the joint'),
  ({'head.name': 'linear'}, "config.head.name is 'linear': set it to 'joint'"),
  ({'objective.name': 'classify'}, "'joint' goes with 'joint'"),
  ({'evals.motion': dict(name='views', split='test', num_clips=1, num_crops=1, batch_size=4)},
   'config.evals.motion names no dataset: .* to one of appearance, motion'),
  ({'evals.motion': dict(name='views', dataset='k400', split='val', num_clips=1, num_crops=1,
                         batch_size=4)}, "dataset is 'k400', for which the network has no"),
  ({'evals.motion': dict(name='loss', dataset='motion', split='test', num_clips=1, num_crops=1,
                         batch_size=4)}, "is evaluated by 'views', 'projected' or 'probe'"),
  ({'datasets.motion': dict(name='motions', share=0.5)}, 'appearance has no share, others have'),
  ({'datasets.motion': dict(name='motions', clip=dict(num_frames=4))},
   "clip.num_frames is {'appearance': 8, 'motion': 4}; clips of one batch have one shape"),
  ({'datasets.a/b': dict(name='motions')}, "has the alias 'a/b'; it must be of letters"),
  ({'datasets.motion': dict(name='motions', augment=dict(crop='fixed', size=(40, 60)))},
   r'crop_size is 48, more than config.datasets.motion.augment.size=\(40, 60\)'),
  ({'datasets.motion': dict(name='motions', share=1.0), 'data.batch_size': 1,
    'datasets.appearance': dict(name='motions_appearance', share=1.0)},
   'share leaves it no video of a batch of 1'),
  ({'model.norm': {'group_size': 4}}, 'group_size is 4, but a batch mixes datasets at random'),
  ({'model.norm': {'group_size': 4}, 'datasets.motion': dict(name='motions', share=3.0),
    'datasets.appearance': dict(name='motions_appearance', share=5.0)},
   'appearance has 5 clips of a batch, no multiple of config.model.norm.group_size=4'),
  ({'model.norm': {'group_size': 2}, 'datasets.motion': dict(name='motions', share=2.0),
    'datasets.appearance': dict(name='motions_appearance', share=6.0),
    'clip.num_repeats': 2, 'clip.repeat_distance': 4},
   'appearance has 6 videos of a batch, no multiple of config.clip.repeat_distance=4'),
  ({'objective.projection': 'none'}, "adds projected logits, but config.objective.projection is"),
  ({'head.projections': False}, 'adds projected logits, but config.head.projections is False'),
  ({'datasets.k400': dict(name='k400'), 'datasets.k700': dict(name='k700'),
    'evals.x': dict(name='views', dataset='k400', split='val', num_clips=1, num_crops=1,
                    batch_size=4)}, r'config.datasets.k700 \(k700\) has test videos of k400'),
])  # fmt: skip
def test_wrong_settings(updates, words):
  settings = config(**updates)
  if settings['head']['name'] == 'linear':
    settings['head'] = {'name': 'linear'}
  if settings['objective']['name'] == 'classify':
    settings['objective'] = {'name': 'classify'}
  with pytest.raises(ValueError, match=words):
    build.check(settings)


def test_a_split_that_another_dataset_is_trained_on_is_no_test(data_dir):
  settings = config(**{'datasets.more': dict(name='motions', split='test')})
  with pytest.raises(ValueError, match='config.evals.motion.split=test: 36 of 36 videos'):
    build.experiment(settings, str(data_dir))


def test_settings_of_a_dataset_that_no_evaluation_depends_on(tmp_path):
  changes = {'share': 1.0, 'videos_per_class': 5, 'augment': {'flip': 0.0}}
  meta = lambda c: {'config': c, 'classes': ['motion/up']}
  now = config(**{'datasets.motion': dict(name='motions', **changes)})
  check = lambda new: same_run.check_evaluated(meta(config()), meta(new), str(tmp_path))
  assert check(now) == {}
  now = config(**{'datasets.motion': dict(name='motions', split='test')})
  assert set(check(now)) == {'datasets.motion.split'}
  now = config(**{'datasets.motion': dict(name='motions', clip={'frame_stride': 4})})
  with pytest.raises(ValueError, match='motion.clip.frame_stride was 1, is 4: .*config.evals.NAME'):
    check(now)


VIDEO = np.zeros((1, 8, 48, 48, 3), np.float32)


def saved(exp, workdir, seed=0):
  """The variables of an experiment, drawn and saved in a folder."""
  variables = variables_of(exp.model, VIDEO, seed)
  checkpoint.save_params(str(workdir), variables, exp.meta)
  return tree.flatten(variables['params'])


def started(exp, workdir, seed=1):
  """(variables drawn for an experiment, those of its warm start, its report)."""
  params = variables_of(exp.model, VIDEO, seed)['params']
  new, _, report = checkpoint.warm_start(params, {}, str(workdir), **exp.warm)
  return tree.flatten(params), tree.flatten(new), report


def test_a_joint_run_starts_from_weights_of_other_datasets(data_dir, tmp_path):
  exp = build.experiment(config(), str(data_dir))
  saved(exp, tmp_path)
  skip = ('head/(projections|classifiers/appearance)/.*', 'head/log_variances')
  settings = config(**{'init.path': str(tmp_path), 'init.skip': skip})
  settings['datasets'] = {'motion': dict(name='motions')}
  settings['evals'] = {'motion': settings['evals']['motion']}
  fewer = build.experiment(settings, str(data_dir))
  assert fewer.classes == tuple(name for name in exp.classes if name.startswith('motion/'))
  report = started(fewer, tmp_path)[2]
  assert 'head/classifiers/motion/fc2/kernel' in report['loaded']
  assert 'head/log_variances' in report['skipped'] and not report['left_out']


def test_a_joint_run_takes_the_head_of_the_datasets_that_the_weights_have_too(
  data_dir, tmp_path, caplog
):
  settings = config(**{'datasets.old': dict(name='motions_appearance')})
  before = saved(build.experiment(settings, str(data_dir)), tmp_path)
  settings = config(**{'datasets.new': dict(name='motions'), 'init.path': str(tmp_path)})
  exp = build.experiment(settings, str(data_dir))
  initial, now, report = started(exp, tmp_path)
  new = [name for name in now if 'new' in name.split('/')]
  assert report['initialized'] == new and len(new) == 4 + 4
  assert all(now[name] is initial[name] for name in new)
  assert report['left_out'] == [name for name in before if 'old' in name.split('/')]
  both = 'head/projections/motion/appearance/kernel'
  assert {both, 'head/projections/appearance/motion/kernel'} <= {*report['loaded']}
  for name in (both, 'head/classifiers/motion/fc2/kernel', 'head/expander/fc1/kernel'):
    np.testing.assert_array_equal(now[name], before[name])
  known = dict(zip(('appearance', 'motion', 'old'), before['head/log_variances']))
  wanted = [known['appearance'], known['motion'], 0]
  np.testing.assert_array_equal(now['head/log_variances'], np.float32(wanted))
  said = [r.getMessage() for r in caplog.records if 'warm start from' in r.getMessage()]
  assert 'initialized: head/classifiers/new/fc1, head/classifiers/new/fc2, head/proj' in said[0]
  assert 'left out: head/classifiers/old/fc1' in said[1]


def test_networks_of_no_common_dataset_do_not_fit():
  given = {f'head/classifiers/a/{part}/bias': 0 for part in ('fc1', 'fc2')} | {'x': 0}
  wanted = [name.replace('/a/', '/b/') for name in given]
  assert joint_head.align(given, wanted) == (given, set())
  assert joint_head.align(given, list(given)) == (given, set())


def test_training_clips_of_one_dataset_may_be_evaluated_in_a_run_that_starts_from_another(
  data_dir, tmp_path
):
  """The other dataset of the run, in a folder of its own, is no reason against it."""
  make.dataset(tmp_path / 'data' / 'other')
  (tmp_path / 'data' / 'motions').symlink_to(data_dir / 'motions')
  folders = str(tmp_path / 'data')
  other = dict(name='custom', folder='other')
  settings = config(
    **{'datasets.other': other, 'evals.all': config()['evals']['motion'] | {'split': 'train'}}
  )
  exp = build.experiment(settings, folders)
  workdir = str(tmp_path / 'run')
  saved(exp, workdir)
  again = build.experiment({**settings, 'init': {'path': workdir}}, folders)
  assert again.meta['trained_videos'] == exp.meta['trained_videos']


def test_projected_logits_have_the_weight_of_training(data_dir):
  video = np.random.default_rng(0).integers(0, 256, (1, 1, 8, 48, 48, 3), np.uint8)
  found = []
  for weight in (1.0, 0.5):
    exp = build.experiment(config(**{'objective.projection_weight': weight}), str(data_dir))
    variables = exp.model.init(jax.random.key(0), jax.numpy.zeros((1, 8, 48, 48, 3)), train=False)
    mesh = sharding.mesh(devices=jax.devices()[:1])
    model = evaluate.of_experiment(exp, mesh, variables['params'], {}).model.serving('motion')
    found.append(model.projected_logits(video) - model.logits(video))
  np.testing.assert_allclose(found[1], found[0] / 2, rtol=1e-3, atol=1e-6)
  with pytest.raises(ValueError, match='needs `dataset`, the number of the dataset'):
    model.metrics({'video': video, 'label': np.zeros(1, np.int32), 'valid': np.ones(1)})


def test_built_in_data_are_rendered_for_any_of_the_datasets(tmp_path, monkeypatch):
  made = []
  monkeypatch.setattr(
    built_in_data.synthetic, 'prepare', lambda out, style: made.append((out, style))
  )
  settings = config(**{
    'datasets.mine': dict(name='custom', folder='a'), 'datasets.b': dict(name='domain_b')
  })  # fmt: skip
  built_in_data.render_if_missing(settings, str(tmp_path))
  assert sorted(made) == [(f'{tmp_path}/domains/b', 'b'), (f'{tmp_path}/motions', 'motions')]


def test_names_of_folders_become_aliases():
  found = multitrain.get_config('mine=tfds:cifar10+dogs').datasets.to_dict()
  assert {alias: entry['folder'] for alias, entry in found.items()} == {
    'tfds-cifar10': 'tfds:cifar10', 'dogs': 'dogs'
  }  # fmt: skip
  with pytest.raises(ValueError, match='has no name'):
    multitrain.get_config('mine=dogs+')


def test_shares_fill_groups_in_proportion_to_the_videos():
  of = lambda arg: {n: e.share for n, e in multitrain.get_config(arg).datasets.items()}
  cnn = of('backbone=slow_r50')
  assert cnn == {'activitynet': 48, 'k400': 96, 'mit': 296, 'ssv2': 72} and sum(cnn.values()) == 512
  assert of('backbone=slow_r50,mine=a+b+c,tiny') == {'a': 12, 'b': 12, 'c': 8}
  assert set(of('').values()) == {None}
  folders = '+'.join('abcdefghi')
  with pytest.raises(ValueError, match='has 8 groups of 4 clips, fewer than the 9 datasets'):
    multitrain.get_config(f'backbone=slow_r50,tiny,mine={folders}')


def test_statistics_of_a_cnn_are_of_one_dataset(data_dir):
  """Other clips of the dataset in the batch matter to a clip, those of other datasets do not."""
  settings = plain(multitrain.get_config('backbone=slow_r50,tiny'))
  settings['model'] |= {'width': 0.0625}
  settings['data'] |= {'workers': 0, 'batch_size': 8}
  exp, rng = build.experiment(settings, str(data_dir)), np.random.default_rng(0)
  batch, net = next(exp.train_batches(0)), exp.model.backbone
  assert batch['dataset'].tolist() == [0] * 4 + [1] * 4
  video = jax.numpy.float32(batch['video'][:, :2, ::3, ::3]) / 255
  shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), video)
  variables = jax.tree.map(lambda x: np.float32(rng.uniform(-0.5, 1, x.shape)), shapes)
  run = jax.jit(lambda x: net.apply(variables, x, train=True, mutable=['batch_stats'])[0].pooled)
  whole = run(video)
  assert (run(video.at[4:].set(0)) == whole)[:4].all()
  assert np.abs(run(video.at[3].set(0)) - whole)[:3].max() > 1e-3


def test_fixed_weights_go_with_the_shares_of_the_datasets():
  assert multitrain.get_config('ablation=vanilla').objective.reduction == 'batch'


def test_a_served_classifier_has_nothing_of_training():
  head = joint_head.Head({'activitynet': 200, 'k400': 400, 'mit': 305, 'ssv2': 174})
  pooled = jax.ShapeDtypeStruct((1, 768), np.float32)

  def parameters(head):
    init = lambda x: head.init(jax.random.key(0), Features(maps=None, pooled=x), train=False)
    shapes = jax.eval_shape(init, pooled)['params']
    return {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in shapes.items()}

  assert parameters(head) == {
    'classifiers': 8_510_519, 'projections': 840_940, 'expander': 3_148_544, 'log_variances': 4
  }  # fmt: skip
  assert parameters(head.serving('k400')) == {'classifiers': 1_574_912 + 2049 * 400}
