"""Study files: configs of all runs are valid, at full size and in miniature; tables of CNNs."""

import inspect
import pathlib

import jax
import numpy as np
import pytest

from vjax import build, factory, study, tree
from vjax.analysis import cnn
from vjax.config import parse

FILES = sorted(pathlib.Path('configs/studies').glob('[!_]*.py'))


def sizes(file):
  module = study.load(str(file))
  return (False, True) if 'tiny' in inspect.signature(module.runs).parameters else (False,)


def runs(file, tiny, workdir='work'):
  module = study.load(str(file))
  return list(module.runs(workdir, tiny=True) if tiny else module.runs(workdir))


# Small studies that have no other size.
ONE_SIZE = ('mae_masks', 'mae_pretraining', 'sts_image_pretraining')
CASES = [(file, tiny) for file in FILES for tiny in sizes(file)]


@pytest.mark.parametrize(('file', 'tiny'), CASES, ids=str)
def test_runs_of_a_study_have_valid_configs(file, tiny):
  made = study.Study(iter(runs(file, tiny)), 'work', 'nowhere', source=str(file))
  entries = next(made.batches())
  assert entries and all(
    entry.is_analysis or parse(entry.what).data.batch_size > 0 for entry in entries
  )


@pytest.mark.parametrize(
  ('file', 'tiny'),
  [(file, tiny) for file, tiny in CASES if tiny or file.stem in ONE_SIZE],
  ids=str,
)
def test_every_run_of_a_miniature_fits_the_one_it_starts_from(file, tiny):
  """Each parameter of both backbones is in the other, or left out by init.skip; those of another
  family, such as a pathway of SlowFast, are renamed as they are loaded."""
  seen: dict[str, set[str]] = {}

  def names(config):
    clip = parse(config).clip
    key = f'{config.model} {clip.num_frames} {clip.crop_size}'
    if key not in seen:
      net = build.model(config, build.known_outputs(config)).backbone
      shape = (1, clip.num_frames, clip.crop_size, clip.crop_size, 3)
      video = jax.ShapeDtypeStruct(shape, np.float32)
      shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), video)
      seen[key] = {f'backbone/{name}' for name in tree.flatten(shapes['params'])}
    return seen[key]

  entries = next(study.Study(iter(runs(file, tiny)), 'work', 'nowhere').batches())
  made = {entry.name: entry.what for entry in entries if not entry.is_analysis}
  for name, config in made.items():
    folder, _, start = (config.init.path or '').partition('/') if 'init' in config else ('', '', '')
    if folder == 'work' and start in made:
      here, there = (factory.find_model(made[run].model.name)[0] for run in (name, start))
      other = names(config) ^ names(made[start]) if here is there else ()
      left = {n for n in other if not tree.matches(config.init.skip, n)}
      assert not left, f'{name} starts from {start}'


def test_the_grid_has_288_trainings_in_four_levels(tmp_path):
  file = 'configs/studies/cnn_grid.py'
  made = study.Study(iter(runs(file, False, str(tmp_path))), str(tmp_path), 'nowhere', source=file)
  levels = [level for level, _ in made.commands()]
  assert [levels.count(n) for n in (1, 2, 3, 4)] == [72] * 4 and len(levels) == 288


def test_the_tables_of_the_grid_return_the_released_scores():
  """The authors' 288 scores as results: both columns of every table agree."""
  grid = study.load('configs/studies/cnn_grid.py')
  names = {theirs: ours for ours, theirs in grid.AUTHORS.items() if ours in grid.DATASETS}
  results = {}
  for key, top1 in cnn.released().items():
    tp = '_tp' if key.pool else ''
    name = f'{names[key.dataset]}_{key.module}_{key.backbone}{tp}_f{key.frames}'
    results[name] = {'clip': {'top1': top1 / 100}}
  assert set(results) == {name for name, _ in runs('configs/studies/cnn_grid.py', False)}
  shares, effects, accuracy = grid.table(results).values()
  assert (len(shares), len(effects), len(accuracy)) == (12, 144, 144)
  said = grid.outcome(results)
  assert 'mini_ssv2: TAM is better than TSN: one seed, +31.3 points' in said
  assert 'mini_ssv2: pooling hurts I3D: one seed, +4.4 points' in said and len(said) == 21
  for row in shares:
    for title in ('Phi, %', 'Psi, %', 'Psi, pooling, %'):
      assert row[title] == [pytest.approx(row[f'paper: {title}'])], row
  assert all(row['pooling adds, points'] == [pytest.approx(row['paper'])] for row in effects)
  assert all(row['with pooling'] == [pytest.approx(row['paper, with pooling'])] for row in accuracy)
  assert set(grid.figures(results)) == {'Contributions', 'Temporal pooling'}


def test_what_more_clips_add():
  sampling = study.load('configs/studies/cnn_sampling.py')
  result = {f'clips_{m}': {'top1': m / 20} for m in sampling.CLIPS}
  results = {'k400_I3D-R50_dense': result, 'mini_ssv2_tam_uniform_f16': result}
  rows, table3 = sampling.table(results).values()
  added = {(r['network'], r['clips']): r['10 clips add'] for r in rows}
  assert added['mini_ssv2_tam_f16', 'uniform'] == added['k400_I3D-R50', 'dense'] == [45]
  assert table3[0]['dense, 3 x 10'] == [50] and str(table3[0]['paper, dense']) == '76.61'


def test_joint_training_costs_what_its_clips_cost():
  cost = study.load('configs/studies/multitrain_cost.py')
  one = {'training': {'train_s': 100.0, 'clips_seen': 1000, 'device_hours': 1.0}}
  rows = cost.table(dict.fromkeys([*cost.PASSES, cost.JOINT], one))
  separate, joint = (row for row in rows if row['training'] == 'all')
  assert separate['chip-days at full size, %'] == 100
  assert round(joint['chip-days at full size, %']) == 61
  assert cost.table({'motion': one})[-1]['chip-days'] is None


def test_the_outcome_of_joint_training_is_a_mean_over_datasets():
  """Of the seeds that all have, in miniature; of one run each, at full size."""
  joint = study.load('configs/studies/multitrain.py')
  top1 = lambda value, names: {name: {'top1': value} for name in names}
  tiny = {}
  for seed, gain in enumerate((0.02, 0.03, 0.04)):
    for domain in joint.DOMAINS:
      tiny[f'separate_{domain}_seed{seed}'] = top1(0.5, [domain])
    tiny[f'multitrain_seed{seed}'] = top1(0.5 + gain, joint.DOMAINS)
  said = joint.outcome(tiny)
  assert said[0] == 'MultiTrain is better than separate: shows, +3.0 ± 1.0 points (3 seeds)'
  assert said[1] == 'MultiTrain is better than vanilla: not told, no runs of both'
  names = ('k400', 'mit', 'ssv2', 'activitynet')
  full = {f'separate_{name}': top1(0.5, [name]) for name in names[1:]}
  full['separate_k400'] = top1(0.6, ['test'])
  full |= {'multitrain': top1(0.525, names), 'multitrain_312': top1(0.9, names)}
  assert joint.outcome(full)[0] == 'MultiTrain is better than separate: one seed, +0.0 points'


def test_the_outcome_of_ablations_knows_the_masks_of_its_base():
  """The paper's figures as results: frames are the base in miniature, random masks at full size."""
  ablations = study.load('configs/studies/mae_ablations.py')
  figures = {'mask_random_90': 84.4, 'mask_tube_90': 83.5}
  results = lambda base, more: {
    f'{name}_tuned': {'test': {'top1': top1 / 100}}
    for name, top1 in {ablations.BASE: base, 'decoder_quarter': 83.8, **more}.items()
  }
  tiny = results(79.1, figures) | {'mask_random_90': {'val': {'loss': 0.5}}}
  assert ablations.outcome(tiny)[0].endswith(": 3 of 3 pairs of rows are in the paper's order")
  full = results(84.4, {'mask_tube_90': 83.5, 'mask_frame_75': 79.1})
  assert ablations.outcome(full)[0].endswith(": 3 of 3 pairs of rows are in the paper's order")
  assert ablations.outcome(full)[1].endswith(": 1 of 1 pairs of rows are in the paper's order")
