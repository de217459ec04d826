"""Published PyTorch and Caffe2 weights -> models and variables of vjax, and back.

One file per source, each with an ordered table of names; it exports SOURCE, a `Source`.
"""

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjax import registry, tree
from vjax.convert import _read, _table
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
    names: function (variables, name, ...) -> table.
    aliases: {the source's own name of a model: ours}.
    restore: function (tensors, name) -> tensors in the form of the source; None = as they are.
  """

  models: Sequence[str]
  build: Callable[[dict[str, np.ndarray], str, dict[str, Any]], SourceModel]
  names: Callable
  aliases: Mapping[str, str] = field(default_factory=dict)
  restore: Callable | None = None


def load(
  source: str, weights: str | os.PathLike | Mapping[str, Any], *, variant: str, **overrides: Any
) -> tuple[VideoModel, dict[str, Any]]:
  """The model and its variables {'params': ..., 'batch_stats': ...}, float32 NumPy, ready for
  `model.apply`.

  Args:
    source: file of this room (torchvision, vmz, mae_st, ...).
    weights: path (.pth, .pyth, .pt, .pkl, .safetensors, .npz) or mapping of the original's names to
      arrays; nothing in a file is executed. The number of classes is read from the weights.
    variant: name of the model, ours or the source's own.
    overrides: settings of the backbone that weights cannot tell (pool1, dtype, remat, ...).

  Raises ValueError listing every name that is missing, unexpected or of another shape.
  """
  return load_with_clip(source, weights, variant=variant, **overrides)[:2]


def load_with_clip(
  source: str, weights: str | os.PathLike | Mapping[str, Any], *, variant: str, **overrides: Any
) -> tuple[VideoModel, dict[str, Any], tuple[int, int, int]]:
  """As `load`, and the clip shape (T, H, W) that the positions of a transformer are for."""
  tensors = _read.tensors(weights)
  name = model_name(source, variant)
  built = registry.find('convert', source).SOURCE.build(tensors, name, overrides)
  found = _table.forward(built.tensors, built.table, _shapes(built.model, built.clip))
  return built.model, tree.unflatten(found), built.clip


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
  raise ValueError(f'variant={variant!r}: {hint}this source has {", ".join(found.models)}')


def sides(crop: int | Sequence[int]) -> tuple[int, int]:
  """(rows, columns) of a crop given by one side or both."""
  return (crop, crop) if isinstance(crop, int) else tuple(crop)


def num_classes(tensors: Mapping[str, np.ndarray], *names: str) -> int:
  """Rows of the classifier's weight, found under one of `names`."""
  for name in names:
    if name in tensors and tensors[name].ndim == 2:
      return tensors[name].shape[0]
  raise ValueError(
    f'the weights have no classifier: none of {names} is a matrix; they have {list(tensors)[:5]} '
    '...'
  )


def _shapes(model: VideoModel, clip: tuple[int, int, int]) -> _table.Shapes:
  video = jax.ShapeDtypeStruct((1, *clip, 3), jnp.float32)
  variables = jax.eval_shape(
    lambda rng, x: model.init(rng, x, train=False), jax.random.key(0), video
  )
  return {name: tuple(leaf.shape) for name, leaf in tree.flatten(variables).items()}
