"""Trains or evaluates one config:  python -m vjax.main
--config=configs/mae_k400.py[:axis=value,tiny]"""

import importlib.util
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from vjax.config import check_flag

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'File in configs/, with :argument where it takes one.'
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Checkpoints and logs; default runs/<config name>.')
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, 'Folder of prepared datasets; default $VJAX_DATA, else data.'
)
_MODE = flags.DEFINE_enum(
  'mode', 'train', ['train', 'evaluate'], 'evaluate: the newest checkpoint of workdir.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  '',
  "Several processes: host:port of the first, or 'auto' on TPU pods and under SLURM, where JAX "
  'finds everything itself.',
)
_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'With --coordinator=host:port: how many processes there are.'
)
_PROCESS = flags.DEFINE_integer(
  'process_id', None, 'With --coordinator=host:port: which one this is, from 0.'
)
_SWEEP = flags.DEFINE_string(
  'sweep',
  None,
  "Number of one of the settings that the config file's function sweep() yields, from 0; 'list' "
  'prints them.',
)
flags.mark_flag_as_required('config')
_PARSERS = ('ml_collections', 'absl')  # whose errors speak of the command line


def default_workdir(config_flag: str) -> str:
  """'configs/mae_k400.py:variant=L,tiny' -> 'runs/mae_k400_variant-L_tiny'; slashes become '-'."""
  path, _, arg = config_flag.partition(':')
  axes = arg.replace('=', '-').replace('/', '-').split(',')
  return str(Path('runs', '_'.join([Path(path).stem, *filter(None, axes)])))


def main(argv: list[str]) -> None:
  """Runs the config that the flags name. Exits with 1 and one message for what the user can mend,
  with train.STOPPED after SIGTERM, with 130 after Ctrl-C."""
  if len(argv) > 1:
    raise app.UsageError(
      f'unexpected arguments {argv[1:]}: settings are given as --config.section.name=value'
    )
  import jax

  jax.config.update(
    'jax_enable_preemption_service', False
  )  # it would take SIGTERM away from train.run
  if _COORDINATOR.value == 'auto':
    jax.distributed.initialize()
  elif _COORDINATOR.value:
    jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
  from vjax import build, built_in_data, checkpoint, evaluate, metrics, train

  workdir = _WORKDIR.value or default_workdir(flags.FLAGS['config'].config_filename)
  if _SWEEP.value is not None and _WORKDIR.value is None:
    workdir += f'_sweep-{_SWEEP.value}'
  data_dir = _DATA_DIR.value or build.default_data_dir()
  try:
    metrics.start_log(workdir)
    built_in_data.render_if_missing(_CONFIG.value, data_dir)
    classes = checkpoint.classes_of(checkpoint.run_in(workdir))
    experiment = build.experiment(_CONFIG.value, data_dir, classes=classes)
    result = (train.run if _MODE.value == 'train' else evaluate.newest)(experiment, workdir)
  except (ValueError, OSError, FloatingPointError) as error:
    if flags.FLAGS.verbosity >= 1:
      raise
    logging.error('%s\n(--verbosity=1 shows where in the code)', error)
    _leave(1)
  except KeyboardInterrupt:
    logging.error('interrupted; the same command continues from the last checkpoint')
    _leave(130)
  logging.info('result: %s (in %s)', result, workdir)


def parse_flags(argv: list[str]) -> list[str]:
  """Reads the flags; what is wrong with them, or with a config's argument, is one message.

  `--config.section.key=None` leaves a key open again.
  """
  _check_order(argv[1:])
  last = {flag.partition('=')[0]: flag for flag in argv[1:]}  # the last of one key counts
  emptied = [f for k, f in last.items() if k.startswith('--config.') and f.endswith('=None')]
  keys = {flag.partition('=')[0] for flag in emptied}
  for flag in argv[1:]:
    if flag.startswith('--config='):
      file = Path(flag.partition('=')[2].partition(':')[0])
      if not file.is_file():
        there = sorted(
          p.name
          for p in Path('configs').glob('*.py')
          if p.stem not in ('__init__', 'common', 'papers')
        )
        known = ', '.join(f'configs/{name}' for name in there) or 'none here'
        sys.exit(f'{flag}: there is no file {file}; the configs are {known}')
    if flag.startswith('--config.'):
      try:
        check_flag(flag.partition('=')[0].removeprefix('--config.').split('.'))
      except ValueError as error:
        sys.exit(f'{flag}: {error}')
  try:
    rest = flags.FLAGS([f for f in argv if f.partition('=')[0] not in keys and not _is_empty(f)])
    for flag in emptied:
      _empty(flags.FLAGS['config'].value, flag)
    if _SWEEP.value is not None:
      _sweep(flags.FLAGS['config'], _SWEEP.value, keys | last.keys())
    return rest
  except (flags.Error, ValueError, KeyError, AttributeError, TypeError, OSError) as error:
    cause = error.__context__ if isinstance(error, flags.Error) and error.__context__ else error
    inside = traceback.extract_tb(cause.__traceback__)[-1].filename
    if not isinstance(cause, ValueError | OSError | flags.Error) and not any(
      part in inside for part in _PARSERS
    ):
      raise  # a mistake inside a config file: where it is matters
    sys.exit(_message(argv[1:], cause))


def sweep_of(file: str) -> list[dict[str, Any]]:
  """Returns the settings that a config file's sweep() yields, {'section.key': value} each. Raises
  ValueError for a file without."""
  spec = importlib.util.spec_from_file_location(Path(file).stem, file)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not callable(getattr(module, 'sweep', None)):
    raise ValueError(
      f'--sweep: {file} has no function sweep(); it would yield dicts such as '
      "{'optim.learning_rate': 0.1}"
    )
  return list(module.sweep())


def _sweep(config: Any, number: str, given: Iterable[str]) -> None:
  """Applies one of the settings of a sweep to the value of the config's flag; prints all of them
  and leaves for 'list'. given: flags on the command line, which a sweep does not overrule."""
  settings = sweep_of(config.config_filename.partition(':')[0])
  if number == 'list':
    for place, changes in enumerate(settings):
      print(f'{place}: {changes}')
    sys.exit(0)
  if not number.isdigit() or int(number) >= len(settings):
    raise ValueError(f"--sweep={number}: it must be 0 to {len(settings) - 1}, or 'list'")
  for key, value in settings[int(number)].items():
    if f'--config.{key}' in given:
      raise ValueError(f'--config.{key} is what --sweep={number} sets to {value}: leave one out')
    check_flag(key.split('.'))
    *path, name = key.split('.')
    section = config.value
    for part in path:
      section = section[part]
    if name not in section:
      raise KeyError(key)
    with section.unlocked():
      section[name] = value
  logging.info('sweep %s: %s', number, settings[int(number)])


def _message(argv: list[str], cause: BaseException) -> str:
  """The text of an error that absl or ml_collections raised about flags, in words of ours."""
  text, own = str(cause), [flag for flag in argv if flag.startswith('--config.')]
  if 'Traceback' in text and 'ValueError: ' in text:  # what a config says of its argument
    text = text.rpartition('ValueError: ')[2]
  quoted = [flag for flag in own if _is_value_of(flag, text)]
  kinds = {'to float': 'a number', 'for int': 'a whole number', 'boolean': 'True or False'}
  for sign, kind in kinds.items():
    if quoted and sign in text:
      return f'{quoted[0]}: it must be {kind}'
  if quoted and 'as a ConfigDict' in text:
    key, _, value = quoted[0].partition('=')
    return f'{quoted[0]}: {key[2:]} is a section; set its keys, such as {key}.name={value}'
  missing = text.strip('\'"')
  paths = [flag.partition('=')[0] for flag in own]
  whole = [path for path in paths if path.rpartition('.')[2] == missing]
  part = [path for path in paths if missing in path.split('.')]
  if whole:
    text = f'there is no {whole[0].removeprefix("--")} in this config'
  elif part and isinstance(cause, KeyError | AttributeError):
    text = (
      f'{part[0].removeprefix("--")}: this config has no entry {missing!r} there; entries are '
      'added in the config file, a flag sets keys of those there are'
    )
  elif isinstance(cause, KeyError | AttributeError):
    text = text.replace('\\n', '. ').replace('\n', '. ').replace("\\'", '')
    text = 'there is no ' + text.strip("'")
  return f'{" ".join(_concerned(argv, cause, text))}: {text.strip()}'


def _concerned(argv: list[str], cause: BaseException, text: str) -> list[str]:
  """Returns the flags that an error is about; all of them where its text does not tell."""
  if text.startswith('config argument '):
    return [flag for flag in argv if flag.startswith('--config=')] or argv
  named = re.match(r'there is no (\w+)', text)
  missing = getattr(cause, 'flagname', named[1] if named else '')
  name = lambda flag: flag.partition('=')[0].lstrip('-')
  settings = [f for f in argv if f.startswith('--config.') and text.startswith(f'{name(f)}: ')]
  return settings or [f for f in argv if missing in (name(f), *name(f).split('.')[1:])] or argv


def _check_order(argv: list[str]) -> None:
  """Exits with a message unless --config comes before the flags that change it."""
  files = [i for i, flag in enumerate(argv) if flag.partition('=')[0] in ('--config', '-config')]
  for i, flag in enumerate(argv):
    if flag.startswith('--config.') and (not files or files[0] > i):
      where = 'without --config' if not files else 'before --config'
      sys.exit(
        f'{flag}: {where}, which says what it changes: put the config in front, '
        f'--config=configs/NAME.py {flag}'
      )


def _is_empty(flag: str) -> bool:
  return flag.startswith('--config.') and flag.endswith('=None')


def _empty(config: Any, flag: str) -> None:
  """Leaves the key of `--config.section.key=None` open. Raises KeyError where there is none."""
  *path, key = flag.partition('=')[0].split('.')[1:]
  for name in path:
    config = config[name]
  if key not in config:
    raise KeyError('.'.join([*path, key]))
  with config.unlocked(), config.ignore_type():
    config[key] = None


def _is_value_of(flag: str, text: str) -> bool:
  """Returns whether an error's text quotes the value of a flag of the config."""
  value = flag.partition('=')[2]
  return flag.startswith('--config.') and any(f'{q}{value}{q}' in text for q in ('"', "'"))


def _leave(status: int) -> None:
  """Ends this process at once: the usual way out waits for threads of a save that failed, and in a
  pod for the other hosts, which wait for this one."""
  logging.shutdown()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
