"""Published PyTorch and Caffe2 weights -> models and variables of vjax, and back.

One file per source, each with an ordered table of names; it exports SOURCE, a `Source`.
"""

import difflib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjax import registry, tree
from vjax.convert import _config, _read, _table, _wrapped
from vjax.heads import linear
from vjax.types import VideoModel


@dataclass(frozen=True)
class SourceModel:
  """Model that a source's weights are for, and how they fit into it: what `Source.build` returns.

  Attributes:
    model: backbone and head of the weights' sizes.
    clip: shape (T, H, W) of clips that the model takes: of a transformer those of its positions, of
      a CNN any.
    table: of (name in the original, name here).
    tensors: the original's, under names that the table has, and in another form where the model
      holds them so.
  """

  model: VideoModel
  clip: tuple[int, int, int]
  table: Sequence[_table.Row]
  tensors: dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
  """Source of published weights: what a file of this room exports as SOURCE.

  How its test code treats videos stands in `_config.TABLE`.

  Attributes:
    models: names of the models that the source has weights of, as in `vjax.list_models()`.
    build: function (tensors, name, overrides) -> SourceModel.
    names: function (variables, name, ...) -> table; that of no variables, {}, is the one by which
      wrapped names are known.
    aliases: {the source's own name of a model: ours}.
    restore: function (tensors, name) -> tensors in the form of the source; None = as they are.
  """

  models: Sequence[str]
  build: Callable[[dict[str, np.ndarray], str, dict[str, Any]], SourceModel]
  names: Callable
  aliases: Mapping[str, str] = field(default_factory=dict)
  restore: Callable | None = None


@dataclass(frozen=True)
class Converted:
  """Published weights as a model of vjax.

  Attributes:
    model: backbone and head.
    variables: {'params': ..., 'batch_stats': ...}, float32 NumPy.
    clip: shape (T, H, W) of clips, see SourceModel.
    headless: the weights have no classifier, or it was left out: the head is one class of zeros.
    taken: section and prefix of the file that the weights were found under, and what sections were
      left, in words; '' where there was neither.
  """

  model: VideoModel
  variables: dict[str, Any]
  clip: tuple[int, int, int]
  headless: bool = False
  taken: str = ''


def load(
  source: str, weights: str | os.PathLike | Mapping[str, Any], *, variant: str, **settings: Any
) -> tuple[VideoModel, dict[str, Any]]:
  """The model and its variables {'params': ..., 'batch_stats': ...}, float32 NumPy, ready for
  `model.apply`. Arguments and errors are those of `read`."""
  found = read(source, weights, variant=variant, **settings)
  return found.model, found.variables


def read(
  source: str,
  weights: str | os.PathLike | Mapping[str, Any],
  *,
  variant: str,
  section: str | None = None,
  prefix: str | None = None,
  headless: bool = False,
  **overrides: Any,
) -> Converted:
  """Published weights as a model.

  Args:
    source: file of this room (torchvision, vmz, mae_st, ...).
    weights: path (.pth, .pyth, .pt, .pkl, .safetensors, .npz) or mapping of the original's names to
      arrays; nothing in a file is executed. The number of classes is read from the weights; those
      without any classifier give a backbone, see Converted.
    variant: name of the model, ours or the source's own.
    section: keys on the way to the weights, joined by '/'; None = found by `_read.SECTIONS`.
    prefix: of the names that are taken, which is taken off; None = what all names share and the
      source does not know.
    headless: leave the classifier of the weights out.
    overrides: settings of the backbone that weights cannot tell (pool1, dtype, remat, ...). crop is
      the side of the clips in px: position tables are resized for it, and a head that pools windows
      of the training crop (`_config.Preprocessing.window`) gets them.

  Raises ValueError listing every name that is missing, unexpected or of another shape, and arrays
  that are not finite.
  """
  name, kind = model_name(source, variant), registry.find('convert', source).SOURCE
  file, rows = _read.read(weights, section=section, prefix=prefix), kind.names({}, name)
  if prefix is None:
    file = file.without(_wrapped.own_prefix(file.tensors, rows))
  logging.info('weights of %s %s: %s', source, name, file.described() or 'names as they are')
  tensors = file.tensors
  tensors = (_wrapped.without_classifier if headless else _wrapped.flat_classifier)(tensors, rows)
  try:
    built = kind.build(tensors, name, overrides)
    shapes, tensors = _shapes(built.model, built.clip), built.tensors
    _check_source(source, name, tensors, built.table)
    of_head = {key for key in tensors if _wrapped.is_of_head(key, built.table)}
    if headless and hasattr(built.model.head, 'num_classes'):  # not a decoder
      tensors, of_head = {key: x for key, x in tensors.items() if key not in of_head}, set()
    head = [here for here in shapes if here.startswith(_wrapped.HEAD) and not of_head]
    wanted = {here: shape for here, shape in shapes.items() if here not in head}
    found = _table.forward(tensors, built.table, wanted)
  except ValueError as error:
    hint = _wrapped.hint(file.tensors, rows) if prefix is None else ''
    taken = f'\n  taken: {file.described()}' if file.described() else ''
    raise ValueError(f'{error}{hint}{taken}') from error
  found |= {here: np.zeros(shapes[here], np.float32) for here in head}
  model, crop = built.model, overrides.get('crop')
  if isinstance(crop, int) and isinstance(model.head, linear.Head):
    settings = _config.preprocessing(source, name, model.head.num_classes).head(crop)
    model = VideoModel(model.backbone, model.head.clone(**settings))
  return Converted(model, tree.unflatten(found), built.clip, bool(head), file.described())


def _check_source(
  source: str, name: str, tensors: Mapping[str, np.ndarray], table: Sequence[_table.Row]
) -> None:
  """Raises ValueError for weights of which the table knows no name."""
  if tensors and not any(_table.rename(key, table)[0] for key in tensors):
    raise ValueError(
      f'none of the {len(tensors)} names of the weights is one of {source} {name}, such as '
      f'{table[0][0]!r}; they begin {_read.begin(tensors)}: choose the source they are from, or '
      'the part of their names by --prefix'
    )


def to_source(
  source: str, variables: Mapping[str, Any], variant: str, **told: Any
) -> dict[str, np.ndarray]:
  """{name in the original: array in its layout} of variables, the inverse of `load`. told: what
  variables cannot tell of the names, such as mae_st's scheme='released'."""
  arrays = {name: np.asarray(array) for name, array in tree.flatten(variables).items()}
  found, name = registry.find('convert', source).SOURCE, model_name(source, variant)
  tensors = _table.backward(arrays, found.names(arrays, name, **told))
  return found.restore(tensors, name) if found.restore else tensors


def model_name(source: str, variant: str) -> str:
  """Our name of a model that a source has weights of, given by that name or by the source's own.
  Raises ValueError listing the models there are for any other."""
  found = registry.find('convert', source).SOURCE
  if variant in found.models:
    return variant
  if variant in found.aliases:
    return found.aliases[variant]
  close = difflib.get_close_matches(variant, (*found.models, *found.aliases), n=1)
  hint = f'did you mean {close[0]!r}? ' if close else ''
  raise ValueError(
    f'--variant={variant}: source {source!r} has no model of this name; {hint}it has '
    f'{", ".join(found.models)}'
  )


def sides(crop: int | Sequence[int]) -> tuple[int, int]:
  """(rows, columns) of a crop given by one side or both."""
  return (crop, crop) if isinstance(crop, int) else tuple(crop)


def num_classes(tensors: Mapping[str, np.ndarray], *names: str) -> int:
  """Rows of the classifier's weight, found under one of `names`; 1 where the weights have none of
  them, see Converted.headless. Raises ValueError for a weight that is no matrix."""
  found = {name: tensors[name].shape for name in names if name in tensors}
  for shape in found.values():
    if len(shape) == 2:
      return shape[0]
  if found:
    raise ValueError(
      f'the classifier is no matrix: {found}; need one linear layer, or leave it out '
      '(--headless, headless=True)'
    )
  return 1


def _shapes(model: VideoModel, clip: tuple[int, int, int]) -> _table.Shapes:
  video = jax.ShapeDtypeStruct((1, *clip, 3), jnp.float32)
  variables = jax.eval_shape(
    lambda rng, x: model.init(rng, x, train=False), jax.random.key(0), video
  )
  return {name: tuple(leaf.shape) for name, leaf in tree.flatten(variables).items()}
