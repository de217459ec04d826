"""Runs what is missing of a study, then prints its table:  python -m vjax.study
configs/studies/NAME.py

A study is a file with runs(workdir), which yields (name, config) in the order in which they must
run, and table(results), which makes {column: cell} rows of {name: result.json} of the runs that are
finished. A cell is text, a number, or a list of numbers over seeds, printed as mean and standard
deviation.
"""

import argparse
import fnmatch
import importlib.util
import json
import logging
import statistics
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from vjax import build, built_in_data, checkpoint, metrics, train, tree
from vjax.config import parse, plain

Rows = list[dict[str, Any]]
MISSING = '-'


def load(path: str) -> ModuleType:
  """The study file as a module. Raises ValueError for a file that is none."""
  file = Path(path)
  if not file.is_file():
    names = ', '.join(sorted(str(p) for p in file.parent.glob('*.py') if p.name != '__init__.py'))
    raise ValueError(f'study is {path!r}: there is no such file; beside it are: {names or "none"}')
  spec = importlib.util.spec_from_file_location(file.stem, file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  for name in ('runs', 'table'):
    if not callable(getattr(module, name, None)):
      raise ValueError(
        f'{path} has no function {name}: a study has runs(workdir) and table(results)'
      )
  return module


def finished(config: Any, folder: Path) -> dict[str, Any] | None:
  """result.json of a run, None where it is not finished. Raises ValueError where the run was made
  with another config."""
  meta = folder / 'meta.json'
  if meta.exists():
    there = tree.flatten(checkpoint.read_meta(folder)['config'])
    here = tree.flatten(json.loads(json.dumps(plain(config))))
    differ = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
    if differ:
      raise ValueError(
        f'{folder} holds a run of another config: {", ".join(differ)} differ. Choose another '
        '--workdir, or remove it'
      )
  result = folder / 'result.json'
  return json.loads(result.read_text()) if result.exists() else None


def run_all(
  runs: dict[str, Any], workdir: str, data_dir: str, only: str = '*'
) -> dict[str, dict[str, Any]]:
  """{name: result.json}, training what is not finished among the names that match `only`."""
  results, began, trained = {}, time.monotonic(), 0
  todo = [
    n
    for n, config in runs.items()
    if fnmatch.fnmatch(n, only) and not finished(config, Path(workdir, n))
  ]
  for name, config in runs.items():
    folder = Path(workdir, name)
    if name in todo:
      _check_start(name, config, runs, workdir)
      eta = (
        f', about {(time.monotonic() - began) / trained * (len(todo) - trained) / 60:.0f} min left'
        if trained
        else ''
      )
      logging.info('--- %s (%d of %d%s)', name, trained + 1, len(todo), eta)
      start = time.monotonic()
      classes = checkpoint.classes_of(checkpoint.run_in(str(folder)))
      train.run(build.experiment(config, data_dir, classes=classes), str(folder))
      logging.info('%s took %.0f s', name, time.monotonic() - start)
      trained += 1
    result = finished(config, folder)
    if result is not None:
      results[name] = result
  return results


def _check_start(name: str, config: Any, runs: dict[str, Any], workdir: str) -> None:
  """Raises ValueError where a run would start from another of the study that is not finished."""
  source = Path(parse(config).init.path)
  if (
    source.parent == Path(workdir)
    and source.name in runs
    and not finished(runs[source.name], source)
  ):
    raise ValueError(
      f'{name} starts from {source.name}, which is not finished: run that first '
      f'(--only={source.name})'
    )


def cell(value: Any) -> str:
  """Text of a value in the table."""
  if isinstance(value, (list, tuple)):
    if not value:
      return MISSING
    spread = f' ± {statistics.stdev(value):.1f}' if len(value) > 1 else ''
    return f'{statistics.fmean(value):.1f}{spread} ({len(value)})'
  return f'{value:.1f}' if isinstance(value, float) else MISSING if value is None else str(value)


def markdown(rows: Rows) -> str:
  """The table, columns in the order of the first row, padded so that it reads well in a terminal
  too."""
  columns = list(rows[0])
  lines = [columns, *([cell(row.get(c)) for c in columns] for row in rows)]
  widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
  text = ['| ' + ' | '.join(x.ljust(w) for x, w in zip(line, widths)) + ' |' for line in lines]
  return '\n'.join([text[0], '| ' + ' | '.join('-' * w for w in widths) + ' |', *text[1:]])


def main(argv: list[str] | None = None) -> None:
  """Runs, prints and writes workdir/table.md. Exits with 1 and one message for what the user can
  mend."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('study', help='configs/studies/NAME.py')
  parser.add_argument('--workdir', help='default runs/NAME')
  parser.add_argument(
    '--data_dir', default=build.default_data_dir(), help='folder of prepared datasets'
  )
  parser.add_argument(
    '--only',
    default='*',
    help='pattern of the runs to train; the table shows all that are finished',
  )
  args = parser.parse_args(argv)
  workdir = args.workdir or f'runs/{Path(args.study).stem}'
  metrics.start_log(workdir)
  try:
    module = load(args.study)
    runs = dict(module.runs(workdir))
    for config in runs.values():
      built_in_data.render_if_missing(config, args.data_dir)
    results = run_all(runs, workdir, args.data_dir, args.only)
  except (ValueError, FileNotFoundError, FloatingPointError) as error:
    logging.error('%s', error)
    sys.exit(1)
  text = markdown(module.table(results))
  Path(workdir, 'table.md').write_text(text + '\n')
  print(f'\n{module.__doc__.strip()}\n\n{text}\n\n{len(results)} of {len(runs)} runs are finished.')


if __name__ == '__main__':
  main()
