"""meta.json of a checkpoint folder: everything that is needed to build the model again."""

import json
import os
from typing import Any

from vjax import files
from vjax.config import SCHEMA, translate


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes `value` so that readers see either the old file or the new one."""
  files.write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + '\n').encode())


def read_json(path: str | os.PathLike, remedy: str) -> Any:
  """Returns the content of a JSON file, None where there is none. Raises ValueError that names the
  file and the remedy where it is damaged."""
  file = files.path(path)
  try:
    return json.loads(file.read_text())
  except FileNotFoundError:
    return None
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{file} is damaged ({error}): {remedy}') from error


class Meta(dict):
  """Contents of meta.json. Access to a missing entry raises ValueError naming file and entry."""

  path = ''

  def __missing__(self, name: str) -> Any:
    raise ValueError(
      f'{self.path} has no {name!r}, only {", ".join(sorted(self)) or "nothing"}: this needs the '
      'workdir of a training run, or weights converted by `python -m vjax.convert` since it '
      'writes a config'
    )


def read_meta(path: str | os.PathLike) -> Meta:
  """Returns meta.json of a checkpoint folder, its config under today's names.

  Raises FileNotFoundError that describes the expected folder, ValueError where the file is damaged
  or something else.
  """
  file = files.path(path) / 'meta.json'
  if not file.is_file():
    raise FileNotFoundError(
      f'no meta.json in {files.path(path)}: give the --workdir of a training run, or a folder '
      'written by `python -m vjax.convert`'
    )
  try:
    content = json.loads(file.read_text())
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f'{file} is damaged: {error}. The command of the training run writes it anew when it '
      'continues'
    ) from error
  if not isinstance(content, dict) or not isinstance(content.get('config', {}), dict):
    raise ValueError(
      f'{file} is no description of a checkpoint: need an object with config, classes and versions'
    )
  if 'config' in content and (schema := content.get('schema', 1)) < SCHEMA:
    content = {**content, 'config': translate(content['config'], schema)}
  meta = Meta(content)
  meta.path = str(file)
  return meta
