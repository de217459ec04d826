"""Strict warm starts: every name must fit, and a report lists the loaded names."""

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vjax import tree
from vjax.checkpoint.integrity import check_finite, listed
from vjax.checkpoint.manager import load_params


def warm_start(
  params: Any,
  stats: Any,
  path: str | os.PathLike,
  *,
  skip: Sequence[str] = (),
  resize: Callable[[str, np.ndarray, tuple[int, ...], dict[str, Any]], np.ndarray | None]
  | None = None,
  rename: Callable[[Collection[str], Collection[str]], dict[str, str]] | None = None,
  align: Callable[[dict[str, Any], Collection[str]], tuple[dict[str, Any], set[str]]] | None = None,
  adapt: Callable[[Any], Any] | None = None,
  model: str = '',
) -> tuple[Any, Any, dict[str, list[str]]]:
  """Returns parameters and statistics from the checkpoint in `path`, and a report {loaded, resized,
  skipped, initialized, left_out}.

  Every name must match in both directions, unless a regular expression of `skip` matches it whole,
  or `align` leaves it out or has it initialized, which is logged.

  Args:
    params: initial parameters of the model.
    stats: its other collections.
    path: checkpoint folder.
    skip: regular expressions of names that are not loaded.
    resize: resize(name, array, shape, meta) returns an array of another shape (position tables,
      kernels of images) in the wanted shape, or None.
    rename: rename(names, wanted) returns {name in the checkpoint: name here} for another kind of
      network.
    align: align(given, wanted) returns the parameters of the checkpoint without those that are left
      out, and the names here that keep their initial values; for networks of other datasets.
    adapt: adapt(params) changes the loaded parameters; the others stay as they are.
    model: name of the model in the config, for messages.

  Raises:
    ValueError: with the lists of names that do not fit, or of arrays that are not finite.
    FileNotFoundError: where the folder holds no checkpoint.
  """
  try:
    loaded, meta = load_params(path)
  except FileNotFoundError as error:
    raise FileNotFoundError(f'config.init.path is {str(path)!r}: {error}') from error
  source = tree.flatten(loaded.pop('params'))
  source_stats = tree.flatten(loaded)
  kinds = ('loaded', 'resized', 'skipped', 'initialized', 'left_out')
  report: dict[str, list[str]] = {kind: [] for kind in kinds}
  aligned, initial = align(source, tree.flatten(params)) if align else (source, set())
  left_out = source.keys() - aligned.keys()
  source = {**source, **aligned}
  wrong: list[str] = []

  def take(wanted: dict[str, Any], given: dict[str, Any], prefix: str) -> dict[str, Any]:
    result = dict(wanted)
    if rename is not None:
      here = rename(given.keys(), wanted.keys())
      given = {here[name]: value for name, value in given.items()}
    for name in sorted(wanted.keys() | given.keys()):
      plain = (
        name.split('/', 1)[1] if prefix else name
      )  # statistics: 'batch_stats/backbone/...' is skipped as its module
      if tree.matches(skip, plain):
        report['skipped'].append(name)
      elif not prefix and name in left_out:
        report['left_out'].append(name)
      elif not prefix and name in initial:
        report['initialized'].append(name)
      elif name not in given:
        wrong.append(f'+ {name} {tuple(wanted[name].shape)}: missing in the checkpoint')
      elif name not in wanted:
        wrong.append(f'- {name} {tuple(given[name].shape)}: the model has no such parameter')
      elif tuple(given[name].shape) == tuple(wanted[name].shape):
        result[name] = np.asarray(given[name], wanted[name].dtype)
        report['loaded'].append(name)
      elif (
        resize is not None
        and (fitted := resize(name, given[name], tuple(wanted[name].shape), meta)) is not None
      ):
        result[name] = np.asarray(fitted, wanted[name].dtype)
        report['resized'].append(name)
      else:
        wrong.append(
          f'! {name}: {tuple(given[name].shape)} in the checkpoint, {tuple(wanted[name].shape)} in '
          'the model'
        )
    return result

  new_params = take(tree.flatten(params), source, '')
  new_stats = take(tree.flatten(stats), source_stats, 'stats')
  if wrong:
    raise ValueError(
      f'{_other_model(meta, model, path)}the checkpoint in {path} does not fit the model; name '
      "what may differ in config.init.skip (regular expressions such as 'head/.*'):\n"
      + listed(wrong)
    )
  _check_used(skip, report['skipped'], path)
  for kind in ('initialized', 'left_out'):
    if layers := sorted({name.rpartition('/')[0] for name in report[kind]}):
      logging.warning('warm start from %s: %s: %s', path, kind.replace('_', ' '), ', '.join(layers))
  arrays = {**new_params, **new_stats}
  taken = {name: arrays[name] for name in [*report['loaded'], *report['resized']]}
  check_finite(taken, f'the checkpoint in {path}')
  if adapt is not None:
    adapted = tree.flatten(adapt(tree.unflatten(new_params)))
    new_params = {name: adapted[name] if name in taken else x for name, x in new_params.items()}
  return tree.unflatten(new_params), tree.unflatten(new_stats), report


def _other_model(meta: Mapping[str, Any], model: str, path: str | os.PathLike) -> str:
  """Returns a sentence that says so where the checkpoint is of another model, else ''."""
  theirs = meta.get('config', {}).get('model', {}).get('name', '')
  if not (model and theirs) or theirs == model:
    return ''
  return (
    f'the checkpoint in {path} is of model {theirs}, the config has {model}: set '
    f'config.model.name={theirs}, or config.init.path to weights of {model}. Otherwise: '
  )


def _check_used(skip: Sequence[str], skipped: Sequence[str], path: str | os.PathLike) -> None:
  """Raises ValueError naming patterns of init.skip that match nothing."""
  unused = [
    p for p in skip if not any(tree.matches([p], n.removeprefix('batch_stats/')) for n in skipped)
  ]
  if unused:
    raise ValueError(
      f'config.init.skip has {unused}, which match no parameter of the model or of {path}: remove '
      'or correct them'
    )
