"""The file system is the registry: a file's name in a room is the name a config calls it by."""

import importlib
import pkgutil
from types import ModuleType


def names(room: str) -> list[str]:
  """Names that `room` (e.g. 'models', 'data.datasets') offers, sorted."""
  package = importlib.import_module(f'vjax.{room}')
  return sorted(
    m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith('_')
  )


def find(room: str, name: str) -> ModuleType:
  """The module vjax/<room>/<name>.py. Raises ValueError listing the names the room has."""
  if name not in names(room):
    raise ValueError(
      f'no {name!r} in vjax/{room.replace(".", "/")}; it has: {", ".join(names(room))}'
    )
  return importlib.import_module(f'vjax.{room}.{name}')
