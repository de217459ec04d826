"""Evaluations with clips of their own, saved predictions, the best checkpoint, and what a training
leaves behind. One small CNN is trained for all of them."""

import json

import jax
import numpy as np
import pytest

from tests.experiments import shrunk
from vjax import build, checkpoint, evaluate, inference, train
from vjax.config import parse
from vjax.evals import views
from vjax.types import Predictions, TrainState

VIEWS = dict(name='views', split='test', num_clips=1, num_crops=1, batch_size=16)


def config_of(**evals):
  config = shrunk('r2plus1d_k400', **{'optim.total_steps': 4, 'train.eval_epochs': 0.25})
  config['optim'] |= {'boundary_steps': (3,)}
  config['model'] |= {'depths': (1, 1, 0, 0)}
  config['train'] |= {'keep_best': 'test/loss'}
  config['clip'] |= {'num_frames': 4, 'crop_size': 32, 'short_side': 36}
  config['augment'] |= {'size': (36, 36)}
  config['evals'] = {
    'test': {**VIEWS, 'save_predictions': True},
    'large': {**VIEWS, 'crop_size': 40, 'short_side': 44, 'num_frames': 6, 'num_crops': 3},
    'full': {**VIEWS, 'crop_size': 'full', 'short_side': 40},
    **evals,
  }
  return config


@pytest.fixture(scope='module')
def run(data_dir, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('evaluate')
  exp = build.experiment(config_of(), str(data_dir))
  return exp, workdir, train.run(exp, str(workdir))


@pytest.mark.slow
def test_each_evaluation_has_its_own_clip(run):
  exp, _, result = run
  assert {name: result[name]['count'] for name in exp.evals} == dict.fromkeys(exp.evals, 36)
  size = lambda name: next(exp.eval_batches(exp.evals[name], 'test', 4))['video'].shape
  t, s = exp.clip.num_frames, exp.clip.crop_size
  assert size('test') == (4, 1, t, s, s, 3)
  assert size('large') == (4, 3, 6, 40, 40, 3)
  assert size('full')[3] == 40 and size('full')[4] > 40  # the whole frame, wider than high
  assert result['large']['loss'] != result['test']['loss'] != result['full']['loss']


@pytest.mark.slow
def test_result_says_what_the_training_cost(run):
  exp, workdir, result = run
  cost = result['training']
  assert json.loads((workdir / 'result.json').read_text()) == result
  assert cost['clips_seen'] == cost['videos_seen'] == 4 * 8
  assert cost['images_seen'] == 32 * exp.clip.num_frames and cost['epochs'] == 32 / 60
  assert cost['device_hours'] == cost['train_s'] * jax.device_count() / 3600
  params = checkpoint.load_params(workdir)[0]['params']
  leaves = [x.size for x in jax.tree.leaves(params)]
  assert cost['parameters'] == sum(leaves) and cost['gmacs'] == 32 * cost['gmacs_per_clip'] > 0
  assert cost['train_s'] > 0 and cost['eval_s'] > 0 and cost['memory_gib'] > 0
  assert set(cost['code']) == {'version', 'commit', 'dirty'}
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  seconds = [row['seconds'] for row in rows if row['split'] == 'train']
  assert seconds == sorted(seconds) and 0 < seconds[-1] <= cost['train_s'] + 1e-6


@pytest.mark.slow
def test_evaluating_again_keeps_the_cost(run):
  exp, workdir, result = run
  again = evaluate.newest(exp, str(workdir))
  assert again['training'] == result['training'] and again['test'] == pytest.approx(result['test'])


def test_a_confusion_matrix_replaces_nothing(tmp_path, capsys):
  path, png = tmp_path / 'a.predictions.npz', tmp_path / 'c.png'
  found = Predictions(np.arange(2), np.arange(2), np.eye(2, dtype=np.float32)[:, None])
  evaluate.save_predictions(str(path), found, names='ab', classes='cd', average='logits')
  args = [f'--predictions={path}', f'--confusion={png}']
  png.write_text('mine')
  assert evaluate.main(args) == 1 and png.read_text() == 'mine'
  said = capsys.readouterr()
  assert f'{png} is there already: give another --confusion, or --overwrite to rep' in said.err
  assert not said.out
  assert evaluate.main([*args, '--overwrite']) == 0 and png.read_bytes()[:4] == b'\x89PNG'
  assert evaluate.main([args[0], f'--confusion={tmp_path}', '--overwrite']) == 1
  assert 'is a folder: give another --confusion' in capsys.readouterr().err


@pytest.mark.slow
def test_saved_predictions_give_every_metric_offline(run, capsys, tmp_path):
  exp, workdir, result = run
  path = f'{workdir}/test.predictions.npz'
  found, more = evaluate.load_predictions(path)
  assert found.logits.shape == (36, 1, 12) and found.logits.dtype == np.float32
  assert tuple(more['classes']) == exp.classes and len(set(more['name'])) == 36
  numbers = views.scores_of(found, num_classes=12)
  assert numbers == pytest.approx(result['test'], rel=1e-6)
  png = tmp_path / 'confusion.png'
  assert evaluate.main([f'--predictions={path}', '--mistakes=2', f'--confusion={png}']) == 0
  out = capsys.readouterr().out
  assert f'{result["test"]["top1"]:.6g}' in out and 'worst mistakes' in out
  assert out.count('%, ') == 2 and png.read_bytes()[:4] == b'\x89PNG'
  assert evaluate.main([f'--predictions={path}', f'--confusion={png}', '--overwrite']) == 0
  (tmp_path / 'x.npz').write_bytes(b'nothing')
  assert evaluate.main([f'--predictions={tmp_path}/x.npz']) == 1
  assert 'holds no predictions' in capsys.readouterr().err


@pytest.mark.slow
def test_the_best_checkpoint_is_kept(run):
  exp, workdir, result = run
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  losses = {row['step']: row['loss'] for row in rows if row['split'] == 'test'}
  best = json.loads((workdir / 'best' / 'best.json').read_text())
  assert len(losses) > 1 and best['value'] == min(losses.values()) == losses[best['step']]
  model = inference.load(str(workdir / 'best'))
  assert model.step == best['step'] and model.classes == exp.classes
  saved = checkpoint.load_params(workdir / 'best')[0]
  assert set(saved) == {'params', 'batch_stats'}


def test_best_ignores_nan_and_survives_a_kill(tmp_path):
  """NaN is never the best; a step that was written without its record is taken over."""
  state = lambda step: TrainState(
    step=np.int32(step), params={'w': np.full(3, step, np.float32)}, stats={}, opt_state=()
  )
  offer = lambda step, top1: checkpoint.Best(tmp_path, 'test/top1', {'classes': []}).offer(
    state(step), {'test': {'top1': top1}}
  )
  steps = [offer(1, float('nan')), offer(2, 0.5), offer(3, 0.5), offer(4, 0.4), offer(5, 0.6)]
  assert steps == [False, True, False, False, True]
  (tmp_path / 'best' / 'best.json').unlink()
  assert offer(5, 0.6)
  other = checkpoint.Best(tmp_path, 'test/loss', {'classes': []})  # another metric starts anew
  assert other.offer(state(5), {'test': {'loss': 2.0}})
  with pytest.raises(ValueError, match='best checkpoint of a run whose other checkpoints are gone'):
    checkpoint.Best(tmp_path, 'test/loss', {}, continues=False)
  again = checkpoint.Best(tmp_path, 'test/loss', {'classes': []})
  same_step = TrainState(np.int32(5), {'w': np.full(3, 7, np.float32)}, {}, ())
  assert again.offer(same_step, {'test': {'loss': 1.0}})  # the same step of another training
  assert checkpoint.load_params(tmp_path / 'best')[0]['params']['w'].tolist() == [7, 7, 7]
  assert again.offer(state(5), {'test': {'loss': 0.5}})
  saved, meta = checkpoint.load_params(tmp_path / 'best')
  assert meta['step'] == 5 and saved['params']['w'].tolist() == [5, 5, 5]
  with pytest.raises(ValueError, match="keep_best is 'test/top1'; the evaluations give probe/top1"):
    checkpoint.Best(tmp_path, 'test/top1', {}).offer(state(6), {'step': 6, 'probe': {'top1': 1.0}})


@pytest.mark.parametrize(
  'entry, message',
  [
    ({'crop_size': 'whole'}, "config.evals.x: crop_size is 'whole'.*'full'"),
    ({'crop_size': 'full', 'num_crops': 3}, 'config.evals.x: num_crops is 3: a full frame'),
    ({'num_frames': 0}, 'config.evals.x: num_frames is 0'),
    ({'num_frames': 'all'}, "config.evals.x.num_frames is 'all'; it must be a whole number"),
    ({'croq_size': 40}, "config.evals.x has the unknown key 'croq_size'.*crop_size"),
    ({'dataset': 'k4000'}, "dataset 'k4000' is neither an alias in config.datasets"),
    (
      {'dataset': 'motions_appearance'},
      'config.evals.x: its classes .*are others than those trained',
    ),
    ({'sampling': 'any'}, "no sampling rule 'any'"),
    ({'num_crops': 10}, 'num_crops is 10, of which five are mirror images, but labels of motions'),
    ({'crop_places': 'all'}, "config.evals.x: crop_places is 'all'; it must be one of ends"),
    ({'num_crops': 2}, 'config.evals.x.num_crops is 2; it must be one of 1 .center., 3'),
    ({'crop_size': 40, 'short_side': 36}, 'crop_size 40 is more than short_side 36.*short_side=40'),
    ({'average': 'mean'}, "config.evals.x: average is 'mean'"),
    ({'multi_label': True}, 'config.evals.x.multi_label is True, but .* one label each'),
    ({'name': 'probe', 'test_split': 'test'}, 'config.evals.x has the unknown key .split.'),
  ],
)
def test_an_evaluation_that_cannot_be_is_refused_before_the_training(entry, message, data_dir):
  with pytest.raises(ValueError, match=message):
    build.experiment(config_of(x={**VIEWS, **entry}), str(data_dir))


def test_a_clip_that_does_not_fit_the_model_is_refused(data_dir):
  config = shrunk('mae_finetune_k400')
  config['evals'] = {'x': {**VIEWS, 'crop_size': 64, 'short_side': 64}}
  with pytest.raises(ValueError, match=r'config.evals.x: the model is made for .*cannot take'):
    build.experiment(config, str(data_dir))


def test_the_metric_of_the_best_checkpoint_needs_an_evaluation(data_dir):
  config = config_of()
  config['train'] |= {'keep_best': 'val/top1'}
  with pytest.raises(ValueError, match="config.train.keep_best is 'val/top1'.*test, large, full"):
    build.experiment(config, str(data_dir))
  config['train'] |= {'keep_best': 'test/top1x'}
  with pytest.raises(ValueError, match="'test/top1x'; config.evals.test reports top1, "):
    build.experiment(config, str(data_dir))
  for metric in ('map', 'count'):
    config['train'] |= {'keep_best': f'test/{metric}'}
    with pytest.raises(ValueError, match='config.evals.test reports top1, top5'):
      build.experiment(config, str(data_dir))
  config['train'] |= {'keep_best': 'test/top1', 'eval_epochs': 0.0}
  with pytest.raises(ValueError, match="keep_best is 'test/top1', but train.eval_epochs is 0"):
    build.experiment(config, str(data_dir))


def test_datasets_by_alias(data_dir):
  """One dataset of config.datasets trains with its own folder and clip; several are refused."""
  config = config_of()
  config['datasets'] = {'mine': {'folder': 'motions', 'clip': {'num_frames': 5}}}
  found = parse(config).datasets['mine']
  assert found.name == 'motions' and found.clip.num_frames == 5
  assert found.clip.crop_size == config['clip']['crop_size']
  exp = build.experiment(config, str(data_dir))
  assert next(exp.train_batches(0))['video'].shape[1] == 5
  config['datasets']['more'] = {}
  with pytest.raises(ValueError, match=r'config.datasets has 2 entries \(mine, more\)'):
    build.experiment(config, str(data_dir))
  config['datasets'] = {'mine': {'clip': {'frames': 4}}}
  with pytest.raises(
    ValueError,
    match='config.datasets.mine.clip.frames is called config.datasets.mine.clip.num_frames now',
  ):
    parse(config)
  config['datasets'] = {'mine': {'share': 0.0}}
  with pytest.raises(ValueError, match='config.datasets.mine.share is 0.0'):
    parse(config)


@pytest.mark.slow
def test_videos_seen_are_those_of_every_batch_size_the_run_had(data_dir, tmp_path):
  def trained(batch: int, steps: int) -> dict:
    config = config_of()
    config['evals'], config['train']['keep_best'] = {}, ''
    config['data'] |= {'batch_size': batch}
    config['optim'] |= {'total_steps': steps}
    return train.run(build.experiment(config, str(data_dir)), str(tmp_path / 'run'))['training']

  assert trained(8, 2)['videos_seen'] == 16
  cost = trained(16, 3)
  assert cost['videos_seen'] == cost['clips_seen'] == 16 + 16 and 'estimated_steps' not in cost
