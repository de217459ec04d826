"""MultiTrain's MViT (Liang et al. 2022): trained on one dataset, or on several, of which the
classifier of one is taken, or everything.

With the classifier of one dataset, what only training needs (projections between datasets, the
expander of the informative loss) is left out. `--set dataset=all` keeps it.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from vjax import convert
from vjax.convert import _mvit, _table
from vjax.heads import joint, linear, mlp
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


ALL = 'all'  # in place of a dataset: everything
_HEADS = re.compile(r'head\.heads\.([^.]+)(\.fc\d)?\.(weight|bias)')


def table(datasets: Sequence[str] = ()) -> list[_table.Row]:
  """The rename table. datasets: of a model of several."""
  rows = [
    *_mvit.table('proj_max_pool'),
    *_table.dense('head.fc1', 'head/fc1'),
    *_table.dense('head.fc2', 'head/fc2'),
    *_table.dense('expander.fc1', 'head/expander/fc1'),
    *_table.dense('expander.fc2', 'head/expander/fc2'),
    ('log_variances', 'params/head/log_variances'),
  ]
  for name in datasets:
    for part in ('.fc1', '.fc2'):
      here = f'head/classifiers/{name}{part.replace(".", "/")}'
      rows += _table.dense(f'head.heads.{name}{part}', here)
    rows += _table.dense(f'head.heads.{name}', f'head/classifiers/{name}/linear')
    rows += [
      (
        f'head.cross_dataset_heads.{name}_{target}.weight',
        f'params/head/projections/{target}/{name}/kernel',
      )
      for target in datasets
      if target != name
    ]
  return rows


def build(
  tensors: dict[str, np.ndarray], name: str, overrides: dict[str, Any]
) -> convert.SourceModel:
  """The model that the weights are for, and how they fit into it.

  overrides: also `dataset`, whose classifier to take, or ALL, needed where there are several, and
  what `_mvit.backbone` takes. Raises ValueError listing them.
  """
  overrides = dict(overrides)
  dataset = overrides.pop('dataset', None)
  datasets = sorted({m[1] for m in map(_HEADS.fullmatch, tensors) if m})
  if dataset == ALL and datasets:
    head, tensors = _all_heads(tensors, datasets)
    backbone, tensors = _mvit.backbone(tensors, mvit.MODELS[name], overrides)
    clip = (backbone.frames, backbone.crop, backbone.crop)
    model = VideoModel(backbone, head)
    return convert.SourceModel(model, clip=clip, table=table(datasets), tensors=tensors)
  tensors = _one_head(tensors, dataset, datasets)
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
  inside = 'params/head/classifiers/'
  found = (x.removeprefix(inside).split('/')[0] for x in variables if x.startswith(inside))
  return table(list(dict.fromkeys(found)))


def restore(tensors: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """Brings tensors into the original's form, which has no learned weights of the datasets."""
  return _table.join_qkv({key: x for key, x in tensors.items() if key != 'log_variances'})


def _all_heads(
  tensors: dict[str, np.ndarray], datasets: Sequence[str]
) -> tuple[joint.Head, dict[str, np.ndarray]]:
  """The head of several datasets, and the tensors with what it has beside the file's."""
  hidden = f'head.heads.{datasets[0]}.fc1.weight'
  last = '' if hidden not in tensors else '.fc2'
  classes = {
    name: convert.num_classes(tensors, f'head.heads.{name}{last}.weight') for name in datasets
  }
  expander = tensors.get('expander.fc1.weight')
  head = joint.Head(
    classes,
    hidden=len(tensors[hidden]) if last else 0,
    expander=0 if expander is None else len(expander),
    projections=any(name.startswith('head.cross_dataset_heads.') for name in tensors),
  )
  return head, {**tensors, 'log_variances': np.zeros(len(datasets), np.float32)}


def _one_head(
  tensors: dict[str, np.ndarray], dataset: str | None, datasets: Sequence[str]
) -> dict[str, np.ndarray]:
  """The tensors with the head of one dataset, called 'head.fc1' and 'head.fc2', or
  'head.projection' where it is linear."""
  if not datasets:
    if dataset is not None:
      raise ValueError(f'--set dataset={dataset}: these weights are of one dataset, leave it out')
    return tensors
  if dataset not in datasets:
    given = 'no dataset was named' if dataset is None else f'--set dataset={dataset}'
    raise ValueError(
      f'{given}: the weights have heads for {", ".join(datasets)}; name one of them, or all: '
      f'--set dataset={datasets[0]}'
    )
  kept = {}
  for name, array in tensors.items():
    match = _HEADS.fullmatch(name)
    if match and match[1] == dataset:
      kept[f'head{match[2] or ".projection"}.{match[3]}'] = array
    elif not match and not name.startswith(('head.cross_dataset_heads.', 'expander.')):
      kept[name] = array
  return kept


SOURCE = convert.Source(MODELS, build, names, ALIASES, restore)
