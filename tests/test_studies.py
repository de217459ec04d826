"""Study files: each lists its runs, at full size and in miniature, with configs that are valid."""

import inspect
import pathlib

import pytest

from vjax import study
from vjax.config import parse

FILES = sorted(pathlib.Path('configs/studies').glob('[!_]*.py'))


def sizes(file):
  module = study.load(str(file))
  return (False, True) if 'tiny' in inspect.signature(module.runs).parameters else (False,)


def runs(file, tiny, workdir='work'):
  module = study.load(str(file))
  return list(module.runs(workdir, tiny=True) if tiny else module.runs(workdir))


CASES = [(file, tiny) for file in FILES for tiny in sizes(file)]


@pytest.mark.parametrize(('file', 'tiny'), CASES, ids=str)
def test_a_study_lists_runs_with_valid_configs(file, tiny):
  made = study.Study(iter(runs(file, tiny)), 'work', 'nowhere', source=str(file))
  entries = next(made.batches())
  assert entries
  for entry in {e.name: e for e in entries if not e.is_analysis}.values():
    assert parse(entry.what).data.batch_size > 0


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_a_study_without_results_has_tables_and_figures(file):
  module = study.load(str(file))
  empty = study.Results({}, {})
  assert isinstance(module.table(empty), list | dict)
  assert not hasattr(module, 'figures') or isinstance(module.figures(empty), dict)


def test_the_grid_has_288_trainings_in_four_levels(tmp_path):
  file = 'configs/studies/cnn_grid.py'
  made = study.Study(iter(runs(file, False, str(tmp_path))), str(tmp_path), 'nowhere', source=file)
  levels = [level for level, _ in made.commands()]
  assert [levels.count(n) for n in (1, 2, 3, 4)] == [72] * 4 and len(levels) == 288
