"""MultiTrain's MViT (Liang et al. 2022): trained on one dataset, or the backbone of several with
the head of one.

What only training needs (projections between datasets, the expander of the informative loss) is
left out.
"""

import re
from typing import Any

import numpy as np

from vjax import convert
from vjax.convert import _mvit, _table
from vjax.heads import linear, mlp
from vjax.models import mvit
from vjax.types import VideoModel

MODELS = (
  'mvit_multitrain_b_16x4', 'mvit_multitrain_b_32x3', 'mvit_multitrain_half_b_16x4',
)  # fmt: skip
ALIASES = {  # The source's own names.
  'b_16x4': 'mvit_multitrain_b_16x4',
  'b_32x3': 'mvit_multitrain_b_32x3',
  'half_b_16x4': 'mvit_multitrain_half_b_16x4',
}


def table() -> list[_table.Row]:
  """The rename table."""
  return [
    *_mvit.table('proj_max_pool'),
    *_table.dense('head.fc1', 'head/fc1'),
    *_table.dense('head.fc2', 'head/fc2'),
  ]


def build(
  tensors: dict[str, np.ndarray], name: str, overrides: dict[str, Any]
) -> convert.SourceModel:
  """The model that the weights are for, and how they fit into it.

  overrides: also `dataset`, whose head to take, needed where there are several, and what
  `_mvit.backbone` takes. Raises ValueError listing them.
  """
  overrides = dict(overrides)
  tensors = _one_head(tensors, overrides.pop('dataset', None))
  if 'head.fc2.weight' in tensors:
    head = mlp.Head(
      convert.num_classes(tensors, 'head.fc2.weight'), hidden=len(tensors['head.fc1.weight'])
    )
  else:
    head = linear.Head(convert.num_classes(tensors, 'head.projection.weight'))
  backbone, tensors = _mvit.backbone(tensors, mvit.MODELS[name], overrides)
  clip = (backbone.frames, backbone.crop, backbone.crop)
  return convert.SourceModel(VideoModel(backbone, head), clip=clip, table=table(), tensors=tensors)


def names(variables: dict[str, np.ndarray], name: str) -> list[_table.Row]:
  """The table for `convert.to_source`."""
  return table()


def restore(tensors: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """Brings tensors into the original's form."""
  return _table.join_qkv(tensors)


def _one_head(tensors: dict[str, np.ndarray], dataset: str | None) -> dict[str, np.ndarray]:
  """The tensors with the head of one dataset, called 'head.fc1' and 'head.fc2', or
  'head.projection' where it is linear."""
  found = {
    name: re.fullmatch(r'head\.heads\.([^.]+)(\.fc\d)?\.(weight|bias)', name) for name in tensors
  }
  datasets = sorted({match[1] for match in found.values() if match})
  if not datasets:
    if dataset is not None:
      raise ValueError(f'--set dataset={dataset}: these weights are of one dataset, leave it out')
    return tensors
  if dataset not in datasets:
    given = 'no dataset was named' if dataset is None else f'--set dataset={dataset}'
    raise ValueError(
      f'{given}: the weights have heads for {", ".join(datasets)}; name one of them: '
      f'--set dataset={datasets[0]}'
    )
  kept = {}
  for name, array in tensors.items():
    match = found[name]
    if match and match[1] == dataset:
      kept[f'head{match[2] or ".projection"}.{match[3]}'] = array
    elif not match and not name.startswith(('head.cross_dataset_heads.', 'expander.')):
      kept[name] = array
  return kept


SOURCE = convert.Source(MODELS, build, names, ALIASES, restore)
