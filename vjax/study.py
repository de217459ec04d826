"""Runs what is missing of a study, then prints its table:  python -m vjax.study
configs/studies/NAME.py

A study is a file with runs(workdir) and table(results); docs/add_a_study.md shows one. `runs`
yields, in the order in which they must run:

  name, config              a training;
  name, function            an analysis: function(results, data_dir) of all results before it, which
                            returns what JSON can hold, is saved like the result of a training;
  name, function, names     the same of these results alone;
  (a bare yield)            waits for all runs before and receives their results, results = yield,
                            so that the next runs may depend on them.

A study of a paper's size may have a miniature: runs(workdir, tiny=False), and --tiny.

`table` makes {column: cell} rows of {name: result} of the runs that are finished, or several
tables, {title: rows}. A cell is text, a number, or a list of numbers over seeds, printed as mean
and standard deviation. figures(results), which a study may have too, returns {title: figure}:
figures of matplotlib, or the arguments of vjax.figures.points. outcome(results), if it is there,
returns sentences on what shows and what does not (vjax.analysis.claims has words for that).

A run is finished if its result was made with the same config and the same code. Exit status: 0; 1
if a run diverged or failed (the others go on); 75 after SIGTERM, when the same command continues.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import hashlib
import importlib.util
import inspect
import json
import logging
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from vjax import (
  build,
  built_in_data,
  checkpoint,
  files,
  metrics,
  sources,
  study_needs,
  study_report,
  train,
)
from vjax.checkpoint.same_run import differences
from vjax.config import plain
from vjax.lock import WorkdirLock
from vjax.study_report import cell, markdown

__all__ = ['Results', 'Study', 'cell', 'load', 'main', 'markdown', 'run_all']

RECORD = 'study.json'  # of a run's folder: what the study knows of the run
_COMPILED = 'compiled'  # folder of compiled programs, shared by all runs
# Sources without which the numbers of a run are the same. A training's config is compared key by
# key, so that the files that made it do not count.
_NOT_OF_RUNS = (
  'vjax/study.py', 'vjax/study_report.py', 'vjax/sources.py', 'vjax/figures.py', 'vjax/demo.py',
  'configs/papers.py',
)  # fmt: skip
# Further sources that do not change a training, but what an analysis returns.
_OF_ANALYSES = ('configs/', 'vjax/analysis/')
_POLL_S = 0.2


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


def runs_of(module: ModuleType, workdir: str, tiny: bool = False) -> Iterable[Any]:
  """Returns what a study's `runs` returns; tiny: of its miniature. Raises ValueError where it has
  none."""
  if not tiny:
    return module.runs(workdir)
  if 'tiny' not in inspect.signature(module.runs).parameters:
    raise ValueError(
      f'--tiny: the study {Path(module.__file__ or "").stem} has one size alone; leave --tiny out'
    )
  return module.runs(workdir, tiny=True)


class Results(dict):
  """{name: result} of the runs that are finished. A name without result raises ValueError; `in` and
  `get` ask first."""

  def __init__(self, found: Mapping[str, Any], missing: Mapping[str, str]):
    super().__init__(found)
    self._missing = missing

  def __missing__(self, name: str) -> Any:
    why = self._missing.get(name, 'is no run of this study')
    raise ValueError(f'the study asks for the result of {name}, which {why}')


@dataclass(frozen=True)
class Entry:
  """A run of a study.

  Attributes:
    name: of the run and its folder.
    what: config of a training, or function of an analysis.
    needs: runs that must be finished before.
  """

  name: str
  what: Any
  needs: tuple[str, ...]

  @property
  def is_analysis(self) -> bool:
    return callable(self.what)


@dataclass(frozen=True)
class Found:
  """State of a run, by its folder.

  Attributes:
    result: content of result.json.
    diverged: message of a training that diverged.
    other: why the folder is not of this run as it is now: another config, other code; '' where it
      is.
    older: sources that have changed since, and are accepted.
    record: content of study.json.
  """

  result: Any = None
  diverged: str = ''
  other: str = ''
  older: tuple[str, ...] = ()
  record: Mapping[str, Any] = field(default_factory=dict)

  @property
  def finished(self) -> bool:
    return not self.other and self.result is not None

  @property
  def settled(self) -> bool:
    """Returns whether there is nothing left to run."""
    return not self.other and (self.result is not None or bool(self.diverged))

  @property
  def state(self) -> str:
    """Words for the state, to follow the name of the run."""
    if self.other:
      return f'is of {self.other}'
    if self.result is None:
      return f'diverged: {self.diverged}' if self.diverged else 'is not finished'
    return 'is finished'


class Study:
  """Runs of a study in a workdir.

  Args:
    runs: what a study's `runs` returns.
    workdir: of the study, local or on an object store; each run has a folder in it.
    data_dir: folder of prepared datasets.
    only: name, or pattern of names, of the runs to make.
    jobs: processes that run at a time; 1 = all runs in this process.
    accept_code: results of other code are taken.
    source: file of the study, for runs in processes of their own.
    own_logs: a run logs to its own folder.
    tiny: the runs are of the study's miniature, for runs in processes of their own.
  """

  def __init__(
    self,
    runs: Iterable[Any],
    workdir: str,
    data_dir: str,
    *,
    only: str = '*',
    jobs: int = 1,
    accept_code: bool = False,
    source: str = '',
    own_logs: bool = False,
    tiny: bool = False,
  ):
    self._runs = _generator(runs)
    self.workdir, self.data_dir = str(workdir), str(data_dir)
    self._only, self._jobs, self._accept = only, jobs, accept_code
    self._source, self._own_logs, self._tiny = source, own_logs, tiny
    self.entries: dict[str, Entry] = {}
    self.failed: dict[str, str] = {}  # message of each run that failed in this call
    self.waits_for: list[str] = []  # runs whose results decide on further ones
    self._begun = 0

  def run(self) -> Results:
    """Makes all runs that are selected and not finished; returns the results there are then."""
    for batch in self.batches():
      self._settle([entry for entry in batch if self.selected(entry.name)])
      if self._only in self.entries:
        break  # one run by its name: what follows does not matter
    return self.results()

  def batches(self) -> Iterator[list[Entry]]:
    """Yields the runs up to each wait. Where they are settled when the next is asked for, their
    results are sent to the study; else the rest of the study stays unknown."""
    batch: list[Entry] = []
    sent: Results | None = None
    while True:
      try:
        item = self._runs.send(sent)
      except StopIteration:
        break
      except (AttributeError, KeyError, TypeError) as error:  # such as a key that no config has
        raise ValueError(f'{_place(error)}: {type(error).__name__}: {error!s:.400}') from error
      sent = None
      if item is not None:
        batch.append(self._entry(item))
        continue
      yield batch
      batch = []
      self.waits_for = [n for n, entry in self.entries.items() if not self.find(entry).settled]
      if self.waits_for:
        return
      sent = self.results()
    yield batch

  def selected(self, name: str) -> bool:
    """Returns whether `only` selects a run."""
    return name == self._only or fnmatch.fnmatch(name, self._only)

  def results(self, names: Sequence[str] | None = None, *, newer: bool = False) -> Results:
    """Returns the results of finished runs.

    Args:
      names: of these runs; None = of all.
      newer: without those of older code.
    """
    found, missing = {}, {}
    for name in self.entries if names is None else names:
      state = self.find(self.entries[name])
      if state.finished and not (newer and state.older):
        found[name] = state.result
      else:
        missing[name] = f'failed: {self.failed[name]}' if name in self.failed else state.state
    return Results(found, missing)

  def older(self) -> dict[str, tuple[str, ...]]:
    """Returns {name: files that have changed since} of the results with older code."""
    found = {name: self.find(entry) for name, entry in self.entries.items()}
    return {name: state.older for name, state in found.items() if state.finished and state.older}

  def find(self, entry: Entry) -> Found:
    """Returns what is in the folder of a run."""
    folder = self._folder(entry.name)
    record = _read(folder / RECORD) or {}
    result = _read(folder / 'result.json')
    other, code = '', record.get('code', {'unknown': ''})
    if not record and not (folder / 'meta.json').exists():
      return Found()
    if record.get('kind', 'run') != ('analysis' if entry.is_analysis else 'run'):
      other = 'another kind'
    elif entry.is_analysis:
      if record.get('inputs') != self._inputs(entry):
        other = 'other results than there are now'
    else:
      if not (folder / 'meta.json').exists():
        return Found()
      try:
        here = _placed(plain(entry.what), self.workdir)
      except ValueError:
        return Found(record=record)  # the run will say what is wrong
      there = _placed(checkpoint.read_meta(folder)['config'], record.get('workdir', self.workdir))
      differ = differences(there, here)
      differ.pop('data.workers', None)  # batches do not depend on it
      if differ:
        changes = [f'{key} was {old}, is {new}' for key, (old, new) in differ.items()]
        other = f'another config: {study_report.shortened(changes)}'
      for name, made in record.get('from', {}).items():
        if (_read(self._folder(name) / RECORD) or {}).get('id', made) != made:
          other = f'another run of {name}, from which it starts'
      code = {file: was for file, was in code.items() if not file.startswith(_OF_ANALYSES)}
    older = tuple(file for file in sources.changed(code) if file not in _NOT_OF_RUNS)
    if older and not other and not self._accept:
      other = f'other code ({study_report.shortened(older)}), which --accept_code would keep'
    return Found(result, record.get('diverged', ''), other, older, record)

  def commands(self) -> Iterator[tuple[int, str]]:
    """Yields (level, command line) of the runs that are selected and not finished. Those of a level
    may run at the same time, after all of the level before."""
    base = 0
    for batch in self.batches():
      levels: dict[str, int] = {}
      for entry in self._todo(batch):
        levels[entry.name] = max((levels.get(n, base) for n in entry.needs), default=base) + 1
      for name, level in sorted(levels.items(), key=lambda item: item[1]):
        if self.selected(name):
          yield level, shlex.join(self._command(self.entries[name], 'python'))
      base = max(levels.values(), default=base)

  def _entry(self, item: Any) -> Entry:
    """Returns the run that a study yields. Raises ValueError where it is none."""
    if not (isinstance(item, tuple) and len(item) in (2, 3) and isinstance(item[0], str)):
      raise ValueError(
        f'runs(workdir) yields {item!r:.80}; it must be (name, config), (name, function), '
        '(name, function, names), or nothing'
      )
    name, what = item[:2]
    if name in self.entries or name in ('', '.', '..', _COMPILED) or '/' in name:
      why = 'is there twice' if name in self.entries else 'cannot be the name of a folder'
      raise ValueError(f'runs(workdir) yields the name {name!r}, which {why}: choose another')
    if not callable(what):
      needs = self._starts(what)
    else:
      needs = tuple(self.entries) if len(item) == 2 else tuple(item[2])
    unknown = [n for n in needs if n not in self.entries]
    if unknown:
      raise ValueError(f'{name} needs {", ".join(unknown)}, which runs(workdir) has not yielded')
    self.entries[name] = Entry(name, what, needs)
    return self.entries[name]

  def _starts(self, config: Any) -> tuple[str, ...]:
    """Returns the run of this study whose weights a training starts from, as () or (name,)."""
    try:
      path = str(_placed(plain(config), self.workdir).get('init', {}).get('path', ''))
    except ValueError:
      return ()  # the run will say what is wrong
    name = path.removeprefix(f'{_HERE}/').partition('/')[0]
    return (name,) if path.startswith(f'{_HERE}/') and name in self.entries else ()

  def _folder(self, name: str) -> Any:
    return files.path(self.workdir) / name

  def _inputs(self, entry: Entry) -> str:
    """Returns a hash of the results that an analysis is given."""
    made = {n: self.find(self.entries[n]).record.get('id', '') for n in entry.needs}
    given = json.dumps([dict(self.results(entry.needs)), made], sort_keys=True)
    return hashlib.sha256(given.encode()).hexdigest()[:16]

  def _settle(self, batch: Sequence[Entry]) -> None:
    """Makes what is not settled of a batch."""
    todo = self._todo(batch)
    self._total = self._begun + len(todo)
    if self._jobs == 1:
      for entry in todo:
        if not self.find(entry).settled:
          self._announce(entry)
          self._here(entry)
        self._begun += 1
    elif todo:
      self._in_processes(todo)

  def _todo(self, batch: Iterable[Entry]) -> list[Entry]:
    """Returns what is not settled of a batch, and what starts from such a run, which will be
    another one."""
    todo: dict[str, Entry] = {}
    for entry in batch:
      if not self.find(entry).settled or any(name in todo for name in entry.needs):
        todo[entry.name] = entry
    return list(todo.values())

  def _announce(self, entry: Entry) -> None:
    left = self._total - self._begun
    known = [self.find(e).record.get('seconds') for e in self.entries.values()]
    known = [seconds for seconds in known if seconds]
    minutes = statistics.fmean(known) * left / min(self._jobs, left) / 60 if known else None
    eta = f', about {minutes:.0f} min left' if minutes is not None else ''
    logging.info('--- %s (%d of %d%s)', entry.name, self._begun + 1, self._total, eta)

  def _blocked(self, entry: Entry) -> str:
    """Returns why a run cannot begin, '' where it can."""
    for name in entry.needs:
      state = self.find(self.entries[name])
      if state.settled and (state.finished or entry.is_analysis):
        continue
      remedy = '' if state.settled else f': run that first (--only={name})'
      verb = 'needs' if entry.is_analysis else 'starts from'
      return f'{entry.name} {verb} {name}, which {state.state}{remedy}'
    return ''

  def _here(self, entry: Entry) -> None:
    """Makes a run in this process. Its error is logged and kept in `failed`."""
    try:
      blocked = self._blocked(entry)
      if blocked:
        raise ValueError(blocked)
      self._make_room(entry)
      folder = self._folder(entry.name)
      if self._own_logs:
        metrics.start_log(str(folder))
      began = time.monotonic()
      if entry.is_analysis:
        self._analyze(entry, folder)
      else:
        self._train(entry, folder)
      logging.info('%s took %.0f s', entry.name, time.monotonic() - began)
    except (ValueError, OSError, FloatingPointError) as error:
      self._fail(entry, str(error))
    except Exception as error:
      logging.exception('%s ended by an error', entry.name)
      self._fail(entry, f'{type(error).__name__}: {error}')

  def _fail(self, entry: Entry, message: str) -> None:
    self.failed[entry.name] = message
    logging.error('%s failed: %s', entry.name, message)

  def _make_room(self, entry: Entry) -> None:
    """Moves the folder of another run aside."""
    found = self.find(entry)
    if found.other:
      folder = self._folder(entry.name)
      with WorkdirLock(str(folder)):
        pass  # nobody is writing there, or this raises ValueError
      target = files.move_aside(folder)
      logging.warning('%s is of %s: moved to %s, and run again', folder, found.other, target)

  def _train(self, entry: Entry, folder: Any) -> None:
    built_in_data.render_if_missing(entry.what, self.data_dir)
    before = self.find(entry).record
    classes = checkpoint.classes_of(checkpoint.run_in(str(folder)))
    experiment = build.experiment(entry.what, self.data_dir, classes=classes)
    record = {
      'kind': 'run',
      'id': before.get('id') or uuid.uuid4().hex,
      'workdir': self.workdir,
      'from': {n: self.find(self.entries[n]).record.get('id', '') for n in entry.needs},
    }
    # A run that continues under --accept_code stays one of older code.
    kept = before.get('code', {'unknown': ''} if (folder / 'meta.json').exists() else {})
    seconds, began = before.get('seconds', 0.0), time.monotonic()

    def write(**more: Any) -> None:
      record['code'] = {**sources.imported(), **kept}
      checkpoint.write_json(folder / RECORD, {**record, **more})

    write(seconds=seconds)
    spent = lambda: seconds + time.monotonic() - began
    try:
      train.run(experiment, str(folder))
    except FloatingPointError as error:
      write(seconds=spent(), diverged=str(error))
      raise
    write(seconds=spent())

  def _analyze(self, entry: Entry, folder: Any) -> None:
    inputs, began = self._inputs(entry), time.monotonic()
    result = entry.what(self.results(entry.needs), self.data_dir)
    try:
      json.dumps(result)
    except TypeError as error:
      raise ValueError(
        f'analysis {entry.name} returns what JSON cannot hold ({error}): return numbers, text, '
        'lists and dicts'
      ) from error
    checkpoint.write_json(folder / 'result.json', result)
    record = {'kind': 'analysis', 'id': uuid.uuid4().hex, 'inputs': inputs}
    study_file = sources.hashes([self._source] if self._source else [])
    code = {**sources.imported(), **study_file}
    record |= {'code': code, 'seconds': time.monotonic() - began}
    checkpoint.write_json(folder / RECORD, record)

  def _command(self, entry: Entry, python: str) -> list[str]:
    return [
      python, '-m', 'vjax.study', self._source, f'--only={entry.name}', f'--workdir={self.workdir}',
      f'--data_dir={self.data_dir}', '--no_report', *(['--accept_code'] if self._accept else []),
      *(['--tiny'] if self._tiny else []),
    ]  # fmt: skip

  def _in_processes(self, todo: Sequence[Entry]) -> None:
    """Makes runs in processes of their own, each when those that it needs are finished."""
    waiting, running = list(todo), dict[str, subprocess.Popen]()
    with _forwarded(running) as stopped:
      while waiting or running:
        if stopped:
          raise SystemExit(train.STOPPED)
        for name in [n for n, process in running.items() if process.poll() is not None]:
          self._ended(self.entries[name], running.pop(name).returncode)
        for entry in list(waiting):
          unfinished = [n for n in entry.needs if n in running or n in {e.name for e in waiting}]
          if len(running) >= self._jobs or unfinished:
            continue
          if stopped:
            break
          waiting.remove(entry)
          if self.find(entry).settled:
            self._begun += 1
            continue
          self._announce(entry)
          blocked = self._blocked(entry)
          if blocked:
            self._fail(entry, blocked)
            self._begun += 1
            continue
          if not entry.is_analysis:
            with _told(self, entry):
              built_in_data.render_if_missing(entry.what, self.data_dir)
          running[entry.name] = _start(entry.name, self._command(entry, sys.executable))
          self._begun += 1
        time.sleep(_POLL_S)

  def _ended(self, entry: Entry, status: int) -> None:
    found = self.find(entry)
    if status == train.STOPPED:
      logging.warning('%s was stopped; the same command continues it', entry.name)
      raise SystemExit(train.STOPPED)
    if found.diverged:
      self.failed[entry.name] = found.diverged
    elif not found.finished:
      self._fail(entry, f'its process ended with status {status}; see {self._folder(entry.name)}')


_HERE = '<study>'  # stands for the workdir of a study in paths of its configs


def _placed(config: Mapping[str, Any], workdir: str) -> dict[str, Any]:
  """Returns a plain config whose init.path is relative to the study's workdir where it lies there,
  so that a study may be moved."""
  config = dict(config)
  path = (config.get('init') or {}).get('path') or ''
  if path:
    inside = None
    if path.startswith(f'{workdir}/'):
      inside = path.removeprefix(f'{workdir}/')
    else:
      there, root = str(files.path(path)), str(files.path(workdir))
      inside = there.removeprefix(f'{root}/') if there.startswith(f'{root}/') else None
    if inside is not None:
      config['init'] = {**config['init'], 'path': f'{_HERE}/{inside}'}
  return config


def _read(file: Any) -> Any:
  return checkpoint.read_json(file, 'remove it; the study makes it anew')


def _place(error: Exception) -> str:
  """Returns file and line of a study's `runs` where an error came from."""
  frames = traceback.extract_tb(error.__traceback__)
  outside = [frame for frame in frames if frame.filename != __file__]
  return f'{outside[0].filename}:{outside[0].lineno}' if outside else 'runs(workdir)'


def _generator(runs: Iterable[Any]) -> Any:
  """Returns a generator of what any iterable yields."""
  yield from runs


@contextlib.contextmanager
def _told(study: Study, entry: Entry) -> Iterator[None]:
  """Leaves an error of preparing a run's data to the process of the run, which meets it too."""
  try:
    yield
  except (ValueError, OSError) as error:
    logging.debug('%s: %s', entry.name, error)


@contextlib.contextmanager
def _forwarded(running: Mapping[str, subprocess.Popen]) -> Iterator[list[int]]:
  """Ends the processes of runs with this one: SIGTERM lets them save first.

  Yields a list that is filled by SIGTERM. The handler does not raise: an error between the start of
  a process and its entry in `running` would leave that process behind.
  """
  stopped: list[int] = []
  main_thread = threading.current_thread() is threading.main_thread()
  before = None
  if main_thread:
    before = signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
  try:
    yield stopped
  finally:
    for process in running.values():
      process.terminate()
    for process in running.values():
      process.wait()
    if main_thread:
      signal.signal(signal.SIGTERM, before)


def _start(name: str, command: Sequence[str]) -> subprocess.Popen:
  """Starts a process whose lines are logged under the name of its run."""
  process = subprocess.Popen(
    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )

  def read() -> None:
    for line in process.stdout or ():
      logging.info('%s: %s', name, line.rstrip())

  threading.Thread(target=read, daemon=True).start()
  return process


def run_all(
  runs: Mapping[str, Any], workdir: str, data_dir: str, only: str = '*', **options: Any
) -> Results:
  """Returns {name: result} of {name: config}, making what is not finished among the names that
  match `only`; options: see Study."""
  return Study(runs.items(), workdir, data_dir, only=only, **options).run()


def share_compiled(workdir: str) -> None:
  """Keeps compiled programs in the study's workdir, for all runs; a cache that is set already
  stays."""
  if jax.config.values.get('jax_compilation_cache_dir') is None:
    folder = str(files.path(workdir) / _COMPILED)
    jax.config.update('jax_compilation_cache_dir', folder)


def report(module: Any, study: Study) -> str:
  """Writes table.md, CSV, PNG and report.html; returns tables and outcome as text."""
  older, name = study.older(), Path(module.__file__).stem
  results = study.results()
  tables = study_report.named(module.table(results))
  newer = None
  if older:
    with contextlib.suppress(ValueError):  # a table may need all results
      newer = study_report.named(module.table(study.results(newer=True)))
    newer = newer or {}
  pictures = module.figures(results) if hasattr(module, 'figures') else {}
  outcome = module.outcome(results) if hasattr(module, 'outcome') else ()
  about = (module.__doc__ or name).strip()
  rows = [_row(entry, study) for entry in study.entries.values()]
  return study_report.write(study.workdir, about, tables, newer, pictures, outcome, older, rows)


def _row(entry: Entry, study: Study) -> dict[str, Any]:
  found = study.find(entry)
  code = {}
  if isinstance(found.result, dict) and isinstance(found.result.get('training'), dict):
    code = found.result['training'].get('code') or {}
  seconds, failed = found.record.get('seconds'), study.failed.get(entry.name)
  return {
    'run': entry.name,
    'state': f'failed: {failed}' if failed and not found.diverged else found.state,
    'minutes': None if seconds is None else seconds / 60,
    'commit': str(code.get('commit') or '')[:10] or None,
  }


def main(argv: list[str] | None = None) -> None:
  """Runs, prints, and writes the report. Exits with 1 and one message for what the user can
  mend."""
  args = _parser().parse_args(argv)
  workdir = args.workdir or f'runs/{Path(args.study).stem}{"_tiny" if args.tiny else ""}'
  printing = args.print_commands is not None
  if args.jobs > 1 or printing:
    jax.config.update('jax_platforms', 'cpu')  # the accelerators are for the runs
  try:
    if args.jobs < 1:
      raise ValueError(f'--jobs={args.jobs}: it must be 1 or more')
    if args.no_report or printing:
      logging.basicConfig(level=logging.INFO, format='%(message)s', force=True)
    else:
      metrics.start_log(workdir)
    share_compiled(workdir)
    module = load(args.study)
    study = Study(
      runs_of(module, workdir, args.tiny), workdir, args.data_dir, only=args.only, jobs=args.jobs,
      accept_code=args.accept_code, source=args.study, own_logs=args.no_report, tiny=args.tiny,
    )  # fmt: skip
    if printing:
      _print_commands(study, args.print_commands)
      return
    study.run()
    if args.only not in study.entries and not any(map(study.selected, study.entries)):
      known = study_report.shortened(list(study.entries))
      raise ValueError(f'--only={args.only}: no run has such a name; the runs are {known}')
  except (ValueError, OSError) as error:
    logging.error('%s', error)
    sys.exit(1)
  failed = dict(study.failed)
  for name, entry in study.entries.items():
    found = study.find(entry)
    if study.selected(name) and found.settled and found.diverged and not found.finished:
      failed[name] = found.diverged
  if not args.no_report:
    _finish(module, study, failed)
  sys.exit(1 if failed else 0)


def _finish(module: Any, study: Study, failed: Mapping[str, str]) -> None:
  """Writes the report and prints it, with what is missing."""
  try:
    text = report(module, study)
  except ValueError as error:
    text = f'no table: {error}'
  left = len(study.results())
  print(f'\n{(module.__doc__ or "").strip()}\n\n{text}\n')
  print(f'{left} of {len(study.entries)} runs are finished.')
  if study.waits_for:
    names = study_report.shortened(study.waits_for)
    print(f'Further runs depend on results that are not there yet: {names}.')
  for name, message in failed.items():
    print(f'FAILED {name}: {message}')


def _print_commands(study: Study, level: int) -> None:
  """Prints a line for each run; level: 0 = of all levels, with a comment above each."""
  last = 0
  for number, line in study.commands():
    if level == 0 and number > last:
      after = f', after all of level {number - 1}' if number > 1 else ''
      print(f'# level {number}: these may run at the same time{after}')
      last = number
    if level in (0, number):
      print(line)
  todo = {}
  for name, entry in study.entries.items():
    if not entry.is_analysis:
      with _told(study, entry):
        built_in_data.render_if_missing(entry.what, study.data_dir)
      if study.selected(name) and not study.find(entry).finished:
        todo[name] = entry.what
  starts = [name for name in todo if study.entries[name].needs]
  for line in study_needs.missing(todo, starts, study.data_dir):
    logging.warning('missing: %s', line)
  if study.waits_for and level == 0:
    print('# further runs depend on these results: print the commands again when they are there')


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('study', help='configs/studies/NAME.py')
  parser.add_argument('--tiny', action='store_true', help="the study's miniature")
  parser.add_argument(
    '--workdir', help='local or on an object store; default runs/NAME, or runs/NAME_tiny'
  )
  parser.add_argument(
    '--data_dir', default=build.default_data_dir(), help='folder of prepared datasets'
  )
  parser.add_argument(
    '--only',
    default='*',
    help='name, or pattern of names, of the runs to make; the table shows all that are finished',
  )
  parser.add_argument(
    '--jobs', type=int, default=1, help='so many runs at a time, each in a process of its own'
  )
  parser.add_argument(
    '--accept_code',
    action='store_true',
    help='keep results of other code than is here now; the table marks them',
  )
  parser.add_argument(
    '--print_commands',
    type=int,
    nargs='?',
    const=0,
    metavar='LEVEL',
    help='print a command line for each run that is missing, in levels; or those of one level',
  )
  parser.add_argument('--no_report', action='store_true', help='runs alone: no tables, no figures')
  return parser


if __name__ == '__main__':
  main()
