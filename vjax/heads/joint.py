"""Classifiers of several datasets on one backbone, with what joint training needs beside them
(Liang et al. 2022, MultiTrain): projections between label spaces, the expander of the informative
loss, and a weight for each dataset's loss."""

from collections.abc import Collection, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vjax.heads import linear, mlp
from vjax.layers import attention
from vjax.types import Features, JointOutputs

_NORMAL = nn.initializers.normal(0.02)
_LOG_VARIANCES = 'head/log_variances'


class Head(nn.Module):
  """Classifier for each dataset: 'classifiers/NAME'. Beside them, for training alone:
  'projections/TARGET/SOURCE' from the logits of one dataset to the classes of another, without
  bias, for every ordered pair; 'expander', two layers with an exact GELU; 'log_variances', which
  start at 0. Other weights start as N(0, 0.02^2), biases at 0.

  Attributes:
    num_classes: by the alias of the dataset.
    hidden: width of the hidden layer of a classifier (paper and released code: 2048), 0 = linear.
    expander: hidden width of the expander (paper: 2048, released code: 4096), 0 = the pooled
      features themselves are the embedding.
    dropout: rate, before the last layer of a classifier.
    logit_dropout: drop logits with the same rate too, as the released code does.
    projections: whether there are projections.
    dataset: alias of the dataset whose logits (B, K) alone are answered, '' = JointOutputs.
    projected: with `dataset`: add the projections of the other datasets' logits.
  """

  num_classes: Mapping[str, int]
  hidden: int = 2048
  expander: int = 2048
  dropout: float = 0.5
  logit_dropout: bool = False
  projections: bool = True
  dataset: str = ''
  projected: bool = False

  def serving(self, dataset: str, *, projected: bool = False) -> 'Head':
    """Returns this head answering logits of one dataset, with the same parameters. Raises
    ValueError for a dataset that it has no classifier for, and for projections that it lacks."""
    if dataset not in self.num_classes:
      raise ValueError(
        f'dataset {dataset!r} has no classifier; there are those of {", ".join(self.num_classes)}'
      )
    if projected and not self.projections:
      raise ValueError('config.head.projections is False: there are no projected logits to add')
    return self.clone(dataset=dataset, projected=projected)

  @nn.compact
  def __call__(self, features: Features, *, train: bool) -> JointOutputs | Float[Array, 'b k']:
    """Returns JointOutputs, or the logits of `dataset`."""
    x = features.pooled.astype(jnp.promote_types(jnp.float32, features.pooled.dtype))
    features = Features(maps=None, pooled=x)
    if self.dataset and not self.projected:
      wanted = {self.dataset: self.num_classes[self.dataset]}
      return _Classifiers(wanted, self.hidden, name='classifiers')(features, train)[self.dataset]
    logits = _Classifiers(self.num_classes, self.hidden, self.dropout, name='classifiers')(
      features, train
    )
    if self.logit_dropout:
      drop = nn.Dropout(self.dropout, deterministic=not train)
      logits = {name: drop(scores) for name, scores in logits.items()}
    projected = {name: {} for name in logits}
    if self.projections:
      projected = _Projections(self.num_classes, name='projections')(logits)
    if self.dataset:
      return logits[self.dataset] + sum(projected[self.dataset].values())
    embedding = _Expander(self.expander, name='expander')(x) if self.expander else x
    count = len(self.num_classes)
    log_variances = self.param('log_variances', nn.initializers.zeros, (count,))
    return JointOutputs(logits, projected, embedding, log_variances)


def align(given: dict[str, Any], wanted: Collection[str]) -> tuple[dict[str, Any], set[str]]:
  """Fits the parameters of a network with this head to one with other datasets, of which they share
  some, by alias: see checkpoint.warm_start.

  Args:
    given: parameters by name.
    wanted: names of the other network's.

  Returns:
    `given` without the classifiers and projections of datasets that only it has, 'log_variances' of
    the other network's datasets, 0 for new ones; and the names of the classifiers and projections
    of the new ones. Networks of the same datasets, or of none in common, are left as they are.
  """
  theirs, ours = _aliases(given), _aliases(wanted)
  shared = theirs & ours
  if not shared or theirs == ours:
    return given, set()
  taken = {name: value for name, value in given.items() if _datasets_of(name) <= shared}
  if _LOG_VARIANCES in given:
    known = dict(zip(sorted(theirs), np.asarray(given[_LOG_VARIANCES])))
    taken[_LOG_VARIANCES] = np.array([known.get(alias, 0) for alias in sorted(ours)], np.float32)
  return taken, {name for name in wanted if not _datasets_of(name) <= shared}


def _aliases(names: Collection[str]) -> set[str]:
  """Returns the aliases of the datasets that have a classifier among parameters of these names."""
  return {name.split('/')[2] for name in names if name.startswith('head/classifiers/')}


def _datasets_of(name: str) -> set[str]:
  """Returns the aliases of the datasets that a parameter is for, none where it is for all."""
  parts = name.split('/')
  count = {'classifiers': 1, 'projections': 2}.get(parts[1], 0) if parts[0] == 'head' else 0
  return {*parts[2 : 2 + count]}


class _Classifiers(nn.Module):
  """{dataset: logits}; attributes: see Head."""

  num_classes: Mapping[str, int]
  hidden: int
  dropout: float = 0.0

  @nn.compact
  def __call__(self, features: Features, train: bool) -> dict[str, jax.Array]:
    found = {}
    for name, count in self.num_classes.items():
      if self.hidden:
        classifier = mlp.Head(count, hidden=self.hidden, dropout=self.dropout, name=name)
      else:
        classifier = linear.Head(count, dropout=self.dropout, kernel_std=0.02, name=name)
      found[name] = classifier(features, train=train)
    return found


class _Projections(nn.Module):
  """{target: {source: projected logits}}."""

  num_classes: Mapping[str, int]

  @nn.compact
  def __call__(self, logits: dict[str, jax.Array]) -> dict[str, dict[str, jax.Array]]:
    return {
      target: _Projection(count, name=target)({s: x for s, x in logits.items() if s != target})
      for target, count in self.num_classes.items()
    }


class _Projection(nn.Module):
  """{source: logits projected to `count` classes}."""

  count: int

  @nn.compact
  def __call__(self, logits: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {
      source: nn.Dense(self.count, use_bias=False, dtype=x.dtype, kernel_init=_NORMAL, name=source)(
        x
      )
      for source, x in logits.items()
    }


class _Expander(nn.Module):
  """Two layers with an exact GELU, from and to the width of the features."""

  hidden: int

  @nn.compact
  def __call__(self, x: Float[Array, 'b d']) -> Float[Array, 'b d']:
    dense = lambda width, name: nn.Dense(width, dtype=x.dtype, kernel_init=_NORMAL, name=name)
    return dense(x.shape[-1], 'fc2')(attention.gelu(dense(self.hidden, 'fc1')(x)))
