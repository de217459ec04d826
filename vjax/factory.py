"""Models by name: `list_models`, `find_model`, `create_model`.

A name is the same in Python, in a config (`model.name`), in a converter and in the table of sizes.
"""

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Any

from vjax import registry
from vjax.config import DTYPES, check_settings, check_whole, nearest
from vjax.heads import linear
from vjax.types import Backbone, VideoModel

find_model = registry.find_model
_OF_CLIPS = ('frames', 'crop')  # only networks with position tables depend on them
_OF_FLAX = ('parent', 'name')
_OF_HEAD = (*_OF_FLAX, 'num_classes')


def list_models(pattern: str = '*') -> list[str]:
  """Names of the models, sorted. pattern: with wildcards, as in 'mvit_*' or '*csn*'."""
  return sorted(fnmatch.filter(registry.models(), pattern))


def create_model(
  name: str, num_classes: int = 400, *, head: Mapping[str, Any] | None = None, **overrides: Any
) -> VideoModel:
  """Returns a classifier: the backbone of a name, and a linear head.

  Args:
    name: of `list_models`.
    num_classes: outputs of the head.
    head: settings of `vjax.heads.linear.Head` in place of the family's, such as dropout.
    overrides: settings of the family's Backbone in place of the row's, such as dtype, remat,
      frames, crop, or norm={'group_size': 8}; networks that clips of any size fit ignore frames
      and crop.

  Raises ValueError for a name or an override that does not exist, with the nearest there is.
  """
  family, _ = find_model(name)
  check_whole('', 'num_classes', num_classes, 1)
  if not isinstance(head or {}, Mapping):
    raise ValueError(f'head is {head!r}; it must be a mapping of settings, such as dropout')
  known = {f.name: f.default for f in dataclasses.fields(linear.Head) if f.name not in _OF_HEAD}
  settings = {**family.HEAD, **_changes({**known, **family.HEAD}, head or {}, 'head.')}
  if 'pretrained' in overrides:
    raise ValueError(
      f'pretrained={overrides["pretrained"]!r}: a model is made without weights. Convert published '
      'ones by `python -m vjax.convert`; vjax.inference.load runs what is in a checkpoint'
    )
  return VideoModel(create_backbone(name, **overrides), linear.Head(num_classes, **settings))


def create_backbone(name: str, **overrides: Any) -> Backbone:
  """Returns the backbone of a name; arguments and errors are those of `create_model`."""
  family, row = find_model(name)
  return backbone_of(family.Backbone, row, overrides)


def backbone_of(
  kind: type[Backbone], row: Mapping[str, Any], overrides: Mapping[str, Any]
) -> Backbone:
  """Returns kind(**row) with overrides. Raises ValueError, with the nearest name and all there are,
  for one that the kind does not take; frames and crop it need not take.

  An override of a field that is a dataclass itself (norm, sts, ...) is such a dataclass, or a
  mapping of what changes in it.
  """
  defaults = {f.name: f.default for f in dataclasses.fields(kind) if f.name not in _OF_FLAX}
  given = {k: v for k, v in overrides.items() if k in defaults or k not in _OF_CLIPS}
  tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
  check_settings('model', tuples, kind)
  if isinstance(given.get('dtype'), str) and given['dtype'] not in DTYPES:
    raise ValueError(f'dtype is {given["dtype"]!r}; it must be one of {", ".join(DTYPES)}')
  return kind(**{**row, **_changes({**defaults, **row}, given, '')})


def _changes(values: Mapping[str, Any], overrides: Mapping[str, Any], where: str) -> dict[str, Any]:
  found = {}
  for key, value in overrides.items():
    if key not in values:
      close = nearest(key, [*values, *(() if where else ('num_classes', 'head'))])
      hint = f'did you mean {close!r}? ' if close else ''
      raise ValueError(
        f'override {where}{key}={value!r} is unknown: {hint}there are {", ".join(sorted(values))}'
      )
    old = values[key]
    if dataclasses.is_dataclass(old) and not isinstance(value, type(old)):
      if not isinstance(value, Mapping):
        raise ValueError(
          f'override {where}{key}={value!r}: give a mapping of {", ".join(vars(old))}'
        )
      value = dataclasses.replace(old, **_changes(vars(old), value, f'{where}{key}.'))
    found[key] = value
  return found
