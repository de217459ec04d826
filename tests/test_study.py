"""Studies: what is missing is run, what is there is not run again, the table shows what is
finished."""

import importlib
import pathlib

import pytest

from tests.experiments import shrunk
from vjax import study

STUDY = """'''Two seeds.'''
from tests.experiments import shrunk


def runs(workdir):
  for seed in (0, 1):
    config = shrunk('mae_finetune_k400', **{'optim.total_steps': 2})
    config['seed'] = seed
    yield f'tuned_{seed}', config


def table(results):
  return [{'what': 'top-1', 'seen': [100 * r['test']['top1'] for r in results.values()], 'paper': None}]
"""
ALL = sorted(p.stem for p in pathlib.Path('configs/studies').glob('*.py') if p.stem != '__init__')


@pytest.fixture(scope='module')
def trained(data_dir, tmp_path_factory):
  """(the study, its workdir, results after the first and the second call)."""
  folder = tmp_path_factory.mktemp('study')
  (folder / 'two_seeds.py').write_text(STUDY)
  module = study.load(str(folder / 'two_seeds.py'))
  work = str(folder / 'work')
  one = study.run_all(dict(module.runs('')), work, str(data_dir), only='*_0')
  written = (folder / 'work/tuned_0/result.json').stat().st_mtime_ns
  both = study.run_all(dict(module.runs('')), work, str(data_dir))
  assert (folder / 'work/tuned_0/result.json').stat().st_mtime_ns == written
  return module, work, one, both


@pytest.mark.slow
def test_runs_what_is_missing_and_nothing_twice(trained):
  module, _, one, both = trained
  assert (
    list(one) == ['tuned_0']
    and list(both) == ['tuned_0', 'tuned_1']
    and both['tuned_0'] == one['tuned_0']
  )
  assert '(2)' in study.markdown(module.table(both))


@pytest.mark.slow
def test_a_result_of_another_config_is_not_taken(trained, data_dir):
  module, work, *_ = trained
  runs = dict(module.runs(''))
  runs['tuned_0']['optim']['learning_rate'] = 1.0
  with pytest.raises(
    ValueError, match=r'tuned_0 holds a run of another config: optim/learning_rate differ'
  ):
    study.run_all(runs, work, str(data_dir))


def test_a_run_waits_for_the_one_it_starts_from(data_dir, tmp_path):
  runs = {'first': shrunk('mae_k400'), 'second': shrunk('mae_finetune_k400')}
  runs['second']['init'] = {'path': f'{tmp_path}/first', 'skip': ('head/.*',)}
  with pytest.raises(ValueError, match='second starts from first, which is not finished'):
    study.run_all(runs, str(tmp_path), str(data_dir), only='second')


def test_table_says_what_is_missing():
  rows = [
    {'what': 'a', 'seen': [60.0, 62.0], 'paper': '71.4'},
    {'what': 'b', 'seen': [], 'paper': None},
  ]
  lines = study.markdown(rows).splitlines()
  assert [x.strip() for x in lines[2].split('|')[1:-1]] == ['a', '61.0 ± 1.4 (2)', '71.4']
  assert [x.strip() for x in lines[3].split('|')[1:-1]] == ['b', '-', '-']


def test_errors_name_the_remedy(tmp_path):
  (tmp_path / 'good.py').write_text(STUDY)
  with pytest.raises(ValueError, match='good.py'):
    study.load(str(tmp_path / 'missing.py'))
  (tmp_path / 'empty.py').write_text('')
  with pytest.raises(ValueError, match='no function runs'):
    study.load(str(tmp_path / 'empty.py'))


@pytest.mark.parametrize('name', ALL)
def test_every_study_builds_and_prints_without_results(name):
  module = importlib.import_module(f'configs.studies.{name}')
  runs = dict(module.runs('work'))
  assert len(runs) > 1
  text = study.markdown(module.table({}))
  assert len(text.splitlines()) > 2 and 'paper' in text.splitlines()[0]
