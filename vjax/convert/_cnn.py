"""What the converters of convolutional networks share."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import flax.linen as nn

from vjax import convert


def backbone(module: ModuleType, settings: Mapping[str, Any]) -> nn.Module:
  """The Backbone of a file of models/ with these settings. frames and crop may be among them, as
  transformers need them, and change nothing: no parameter of these networks depends on the clip.
  Raises ValueError for other settings it lacks."""
  return convert.make(
    module.Backbone, {k: v for k, v in settings.items() if k not in ('frames', 'crop')}
  )
