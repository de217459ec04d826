"""What configs share: the typed one-string argument, and the shrinking to the built-in data set."""

from typing import Any

from ml_collections import ConfigDict


def parse_arg(arg: str | None, **defaults: Any) -> ConfigDict:
  """'variant=L,tiny' -> {'variant': 'L', 'tiny': True}, typed like `defaults`, which name every axis there is.

  A bare word is True. Raises ValueError naming the axes for a word that is none of them.
  """
  parsed = ConfigDict({'tiny': False, **defaults})
  for item in filter(None, (arg or '').split(',')):
    name, given, text = item.partition('=')
    if name not in parsed:
      raise ValueError(f'config argument {item!r}: there is no axis {name!r}; there are {sorted(parsed)}')
    kind = type(parsed[name])
    if kind is bool:
      if given and text.lower() not in ('true', 'false', '1', '0'):
        raise ValueError(f'config argument {item!r}: {name} is a switch: write {name}, {name}=true or {name}=false')
      parsed[name] = not given or text.lower() in ('true', '1')
    elif not given:
      raise ValueError(f'config argument {item!r}: {name} needs a value, as in {name}={defaults[name]}')
    else:
      try:
        parsed[name] = kind(text)
      except ValueError:
        raise ValueError(f'config argument {item!r}: {name} must be a {kind.__name__}') from None
  return parsed


# The built-in data set at a size that two cores finish in minutes: 8 frames of 48 px.
TINY_CLIP = dict(frames=8, stride=3, crop=48, short_side=54)
