"""Models under the names that config.model had before: a file of vjax/models and a variant, or a
file and all settings. Today a model has one name, that of `vjax.list_models()`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vjax import registry

# {file: {variant: name}} where the rule of _RULES does not hold.
_NAMES = {
  'vit': {
    'Ti': 'vit_tiny', 'S': 'vit_small', 'B': 'vit_base', 'L': 'vit_large', 'H': 'vit_huge',
  },
  'slowfast': {
    'mm_r50_4x16': 'mm_slowfast_r50_4x16', 'mm_r50_8x8': 'mm_slowfast_r50_8x8',
    'sts_r50_4x16': 'sts_slowfast_r50_4x16', 'sts_r50_8x8': 'sts_slowfast_r50_8x8',
  },
  'x3d': {'sts_s': 'sts_x3d_s'},
}  # fmt: skip
_RULES = {
  'resnet': '{}',
  'inception': '{}_inception',
  'blresnet': 'blresnet_{}',
  'slowfast': 'slowfast_{}',
  'x3d': 'x3d_{}',
  'mvit': 'mvit_{}',
}
# {key of config.model before: key of a section of it today}.
KEYS = {
  'eps': 'norm.eps',
  'inner_eps': 'norm.inner_eps',
  'bn_group_size': 'norm.group_size',
  'bn_decay': 'norm.decay',
  'sts': 'sts.variant',
  'sts_ratio': 'sts.ratio',
  'sts_dilation': 'sts.dilation',
  'sts_lines': 'sts.lines',
  'nonlocals': 'non_local.blocks',
  'nonlocal_kind': 'non_local.kind',
  'nonlocal_scaled': 'non_local.scaled',
  'nonlocal_pool': 'non_local.pool',
  'nonlocal_size': 'non_local.size',
  'temporal': 'temporal.kind',
  'where': 'temporal.where',
  'tam_taps': 'temporal.taps',
  'tam_blend': 'temporal.blend',
  'tam_dense': 'temporal.dense',
  'tam_init': 'temporal.init',
  'tam_in_shortcut': 'temporal.in_shortcut',
  'tsm_fraction': 'temporal.fraction',
  'tsm_block': 'temporal.whole_block',
}
# Files in which the models of an older file are now.
_FILES = {'resnet': ('r2plus1d', 'csn', 'slow', 'tsn')}
_GIVEN = ('parent', 'name', 'dtype', 'remat')  # by Flax or by config.train


def new_name(file: str, variant: str) -> str | None:
  """Returns the name of what was a variant of a file; None where there is none."""
  name = _NAMES.get(file, {}).get(variant) or _RULES.get(file, '').format(variant)
  return name if name in registry.models() else None


def refuse_variant(section: Mapping[str, Any]) -> None:
  """Raises ValueError with today's name for a config.model that has a variant."""
  if 'variant' in section:
    old, variant = section.get('name'), section['variant']
    name = new_name(old, variant)
    hint = f'write config.model.name={name!r}' if name else 'vjax.list_models() lists the names'
    raise ValueError(
      f'config.model has name={old!r} and variant={variant!r}, but a model has one name now: {hint}'
    )


def translate(section: Mapping[str, Any], clip: Mapping[str, Any]) -> dict[str, Any]:
  """Returns config.model under today's name and keys. clip: config.clip, for which a model with
  position tables was built."""
  file = section.get('name')
  if file not in _RULES and file not in _NAMES:
    return dict(section)
  section = _nested(section)
  settings = {key: _frozen(x) for key, x in section.items() if key != 'name' and x is not None}
  if 'variant' in settings:
    name = new_name(file, settings.pop('variant'))
    return {'name': name, **settings} if name else dict(section)
  return _nearest_row(file, settings, clip) or dict(section)


def _nearest_row(
  file: str, settings: dict[str, Any], clip: Mapping[str, Any]
) -> dict[str, Any] | None:
  """Returns the row of a file that differs least from all settings of a model, and these
  differences: together they build the same model."""
  found = []
  for name, family in registry.models().items():
    if family.__name__.rsplit('.', 1)[-1] not in _FILES.get(file, (file,)):
      continue
    defaults = {
      f.name: f.default for f in dataclasses.fields(family.Backbone) if f.name not in _GIVEN
    }
    facts = {'frames': clip.get('num_frames'), 'crop': clip.get('crop_size')}
    facts = {key: x for key, x in facts.items() if key in defaults and x is not None}
    if not settings.keys() <= defaults.keys():
      continue
    has = {**defaults, **facts, **family.MODELS[name]}
    wants = {**defaults, **facts}
    for key, x in settings.items():
      wants[key] = dataclasses.replace(defaults[key], **x) if isinstance(x, Mapping) else x
    found.append({'name': name, **changes(wants, has)})
  return min(found, key=_size, default=None)


def changes(wants: Mapping[str, Any], has: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what of `wants` differs from `has`; of a dataclass, a dict of the fields that do."""
  found = {}
  for key, x in wants.items():
    if x is dataclasses.MISSING:
      continue
    if dataclasses.is_dataclass(x):
      if inner := changes(vars(x), vars(has[key])):
        found[key] = inner
    elif _frozen(x) != _frozen(has[key]):
      found[key] = x
  return found


def _size(section: Mapping[str, Any]) -> int:
  return sum(len(x) if isinstance(x, Mapping) else 1 for x in section.values())


def _nested(section: Mapping[str, Any]) -> dict[str, Any]:
  """{'eps': 1e-3} -> {'norm': {'eps': 1e-3}}. bLResNet's old `tam` is the kind of its temporal
  module."""
  found: dict[str, Any] = {}
  for key, x in section.items():
    key, x = ('temporal.kind', 'tam' if x else '') if key == 'tam' else (key, x)
    outer, _, inner = KEYS.get(key, key).partition('.')
    if inner:
      found.setdefault(outer, {})[inner] = x
    else:
      found[key] = x
  return found


def _frozen(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {key: _frozen(x) for key, x in value.items() if x is not None}
  return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
