"""Writes docs/config.md, the reference of every config key, from the schema's docstrings.

python -m vjax.config_docs
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from pathlib import Path
from typing import Any

from vjax import config, registry

PAGE = Path(__file__).parent.parent / 'docs' / 'config.md'
_SECTIONS = {
  'data': config.DataConfig,
  'datasets.ALIAS': config.DatasetConfig,
  'clip': config.ClipConfig,
  'augment': config.AugmentConfig,
  'optim': config.OptimConfig,
  'train': config.TrainConfig,
  'init': config.InitConfig,
}
_INTRODUCTION = """# Config keys

Made from the docstrings of `vjax/config.py` by `python -m vjax.config_docs`. Every key can be set
on the command line, `--config.clip.num_frames=16`. A key without a default is given by each config;
one whose default is `None` is open: its value is the model's, or there is none.
"""


def described(thing: Any) -> dict[str, str]:
  """Returns {name: description} of the `Attributes:` or `Args:` of a docstring. A line may name
  several."""
  text = inspect.getdoc(thing) or ''
  part = re.split(r'^(?:Attributes|Args):\n', text, maxsplit=1, flags=re.M)[1:]
  found: dict[str, str] = {}
  names: list[str] = []
  for line in part[0].splitlines() if part else ():
    if match := re.match(r'  ([\w, ]+): (.*)', line):
      names = [name.strip() for name in match[1].split(',')]
      found |= dict.fromkeys(names, match[2])
    elif line.startswith('    '):
      found |= {name: f'{found[name]} {line.strip()}' for name in names}
    elif line.strip():
      break
  bases = inspect.getmro(thing)[1:-1] if inspect.isclass(thing) else ()
  inherited = {name: text for base in reversed(bases) for name, text in described(base).items()}
  return {**inherited, **found}


def attributes(kind: type) -> dict[str, str]:
  """Returns the descriptions of a section's fields. Raises ValueError for a field without one."""
  found = described(kind)
  if missing := [f.name for f in dataclasses.fields(kind) if f.name not in found]:
    raise ValueError(f'{kind.__name__} does not describe {", ".join(missing)}')
  return found


def reference() -> str:
  """Returns the page."""
  parts = [_INTRODUCTION]
  for name, kind in _SECTIONS.items():
    parts += [f'\n## {name}\n\n{_summary(kind)}\n\n', _table(_fields(kind))]
  views = {name: row for name, row in _fields(config.ViewsConfig).items() if 'repeat' not in name}
  entry = {'name': ('str', '', 'File in vjax/evals.')}
  entry['dataset'] = ('str', "''", attributes(config.EvalConfig)['dataset'])
  entry['batch_size'] = ('int', '', attributes(config.EvalConfig)['batch_size'])
  parts += [
    f'\n## evals.NAME\n\n{_summary(config.EvalConfig)}',
    ' The keys of the clip default to ',
  ]
  parts += ['those of `clip`. The keys of each file follow below.\n\n', _table({**entry, **views})]
  for room, function in (
    ('models', lambda module: module.Backbone),
    ('heads', lambda module: module.Head),
    ('objectives', lambda module: module.OBJECTIVE.loss),
    ('evals', lambda module: module.EVALUATION.run),
  ):
    section = {'evals': 'evals.NAME'}.get(room, room.removesuffix('s'))
    for name in registry.names(room):
      module = registry.find(room, name)
      found, title = function(module), f"name='{name}'"
      if room == 'models':
        title = f'family {name}: {", ".join(module.MODELS)}'
      parts.append(f'\n## {section}, {title}\n\n{_summary(found)}\n\n')
      parts.append(_settings(found, room))
  return ''.join(parts)


def _summary(thing: Any) -> str:
  return ' '.join((inspect.getdoc(thing) or '').split('\n\n')[0].split())


def _fields(kind: type) -> dict[str, tuple[str, str, str]]:
  """{key: (type, default, description)} of a section."""
  hints, texts = typing.get_type_hints(kind), attributes(kind)
  rows = {}
  for field in dataclasses.fields(kind):
    default = '' if field.default is dataclasses.MISSING else repr(field.default)
    rows[field.name] = (_type(hints[field.name]), default, texts[field.name])
  return rows


def _settings(function: Any, room: str) -> str:
  """Table of the arguments that a config may set."""
  rows, texts = {}, described(function)
  for name, parameter in config.parameters(function).items():
    given = parameter.kind is not inspect.Parameter.KEYWORD_ONLY and room not in ('models', 'heads')
    if (
      given or name == 'name' or name.endswith('batches') or parameter.kind is parameter.VAR_KEYWORD
    ):
      continue
    default = '' if parameter.default is parameter.empty else _short(parameter.default)
    annotation = '' if parameter.annotation is parameter.empty else _type(parameter.annotation)
    rows[name] = (annotation, default, texts.get(name, ''))
  if not rows:
    return 'No keys of its own.\n'
  return _table(rows)


def _short(value: Any) -> str:
  text = repr(value)
  return text if ' at 0x' not in text and len(text) < 60 else type(value).__name__


def _type(hint: Any) -> str:
  text = hint if isinstance(hint, str) else getattr(hint, '__name__', str(hint))
  text = str(hint) if '[' in str(hint) and not isinstance(hint, str) else text
  return re.sub(r'(typing|collections\.abc|vjax\.\w+(\.\w+)*)\.', '', text)


def _table(rows: dict[str, tuple[str, str, str]]) -> str:
  escape = lambda text: text.replace('|', '\\|')
  lines = ['| key | type | default | meaning |', '| --- | --- | --- | --- |']
  for name, (kind, default, text) in rows.items():
    default = f'`{escape(default)}`' if default else ''
    lines.append(f'| `{name}` | {escape(kind)} | {default} | {escape(text)} |')
  return '\n'.join(lines) + '\n'


if __name__ == '__main__':
  if not PAGE.exists():
    raise SystemExit(f'no {PAGE}: this command is for a clone of the repository')
  PAGE.write_text(reference())
  print(PAGE)
