"""Parameter names <-> pytrees. A name is the path joined by '/', e.g.
'backbone/block0/attn/q/kernel'."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from flax import traverse_util


def flatten(tree: Any) -> dict[str, Any]:
  """{'a/b': leaf} of nested dicts, in sorted order of names."""
  return dict(sorted(traverse_util.flatten_dict(dict(tree), sep='/').items()))


def unflatten(flat: dict[str, Any]) -> dict[str, Any]:
  """Nested dicts of {'a/b': leaf}."""
  return traverse_util.unflatten_dict(flat, sep='/')


def map_named(function: Callable[[str, Any], Any], tree: Any) -> Any:
  """Tree of function(name, leaf)."""
  return unflatten({name: function(name, leaf) for name, leaf in flatten(tree).items()})


def matches(patterns: Sequence[str], name: str) -> bool:
  """Returns whether any regular expression in `patterns` matches the whole of `name`.

  Raises ValueError for one that is none.
  """
  try:
    return any(re.fullmatch(pattern, name) for pattern in patterns)
  except re.error as error:
    raise ValueError(
      f'{error.pattern!r} is no regular expression: {error}; put a backslash before a bracket or '
      'sign that stands for itself'
    ) from error
