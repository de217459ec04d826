"""The file system is the registry: a file's name in a room is the name a config calls it by. Models
are called by the name of their row, in whichever file of vjax/models it stands."""

import difflib
import functools
import importlib
import pkgutil
from types import ModuleType
from typing import Any


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


@functools.cache
def models() -> dict[str, ModuleType]:
  """{name of a model: the file of vjax/models in whose MODELS it stands}. Raises ValueError where
  two files have the same name."""
  found: dict[str, ModuleType] = {}
  for family in (find('models', name) for name in names('models')):
    for name in family.MODELS:
      if name in found:
        raise ValueError(f'{found[name].__name__} and {family.__name__} both have {name!r}')
      found[name] = family
  return found


def find_model(name: str) -> tuple[ModuleType, dict[str, Any]]:
  """Returns the family (file of vjax/models) of a model and its row, the settings of the family's
  Backbone. Raises ValueError with the nearest names for one that does not exist."""
  known = models()
  if name not in known:
    low = str(name).lower().replace('-', '_')
    close = difflib.get_close_matches(low, known, n=3) or [n for n in known if low in n]
    hint = f'did you mean {", ".join(map(repr, close[:3]))}? ' if close else ''
    raise ValueError(
      f'there is no model {name!r}: {hint}vjax.list_models() and `python -m vjax.zoo` list all'
    )
  return known[name], dict(known[name].MODELS[name])
