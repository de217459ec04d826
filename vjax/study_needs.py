"""Needs of the runs of a study that are not there: datasets, and weights that no run makes."""

from collections.abc import Iterable, Mapping
from typing import Any

from vjax import files
from vjax.config import Config, parse
from vjax.data import specs
from vjax.data.index import prepare_command
from vjax.study_report import shortened


def missing(runs: Mapping[str, Any], starts: Iterable[str], data_dir: str) -> list[str]:
  """Returns a line for each dataset and each checkpoint that is not there, with the runs that need
  it and, of a dataset, the command that prepares it.

  Args:
    runs: configs of trainings by name.
    starts: names of those that start from another run of the study.
    data_dir: folder of prepared datasets.
  """
  needed: dict[str, list[str]] = {}
  own = set(starts)
  for name, run in runs.items():
    config = parse(run)
    lines = [_dataset(config, alias, data_dir) for alias in _aliases(config)]
    if config.init.path and name not in own and not files.path(config.init.path).exists():
      lines.append(f'weights {config.init.path}')
    for line in filter(None, dict.fromkeys(lines)):
      needed.setdefault(line, []).append(name)
  return [f'{line}: needed by {shortened(names)}' for line, names in needed.items()]


def _aliases(config: Config) -> list[str]:
  """Returns the datasets that a config trains on or evaluates."""
  evaluated = [entry.dataset for entry in config.evals.values() if entry.dataset]
  return list(dict.fromkeys((*(config.datasets if config.optim else ()), *evaluated)))


def _dataset(config: Config, alias: str, data_dir: str) -> str:
  """Returns a line for a dataset without records, '' where they are there. Sets of TensorFlow
  Datasets say by themselves what they need."""
  spec = specs.spec_of(config, alias)
  if spec.records.startswith('tfds:'):
    return ''
  folder = files.path(data_dir) / spec.records
  if folder.exists():
    return ''
  return f'dataset {folder} (to prepare it: {prepare_command(spec.prepare, str(folder))})'
