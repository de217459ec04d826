"""Counts multiply-accumulates from a function's jaxpr: convolutions and matrix products, as most
papers' tables do; and with norms, ReLUs and pooling, as MMCV's counter does."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax.extend import core

from vjax.kernels import conv, table
from vjax.layers.norm import BatchNorm


def count(function: Callable, *args: Any) -> int:
  """Multiply-accumulates of function(*args); args may be shapes (`jax.ShapeDtypeStruct`), nothing
  is computed.

  Convolutions count as written, whichever formulation the backend would get, zeros of the padding
  included; norms, activations and pooling are free. A scan counts its length, a branch its dearest
  arm. Raises ValueError at a while loop, whose length a jaxpr does not tell.
  """
  return _count(_traced(function, args), _products)


def counts(function: Callable, *args: Any) -> tuple[int, int]:
  """Returns the multiply-accumulates of `count`, and what MMCV's counter calls FLOPs, of one trace.

  MMCV adds 2 for every element that batch normalization gives, 1 for every element of a ReLU, and
  the number of elements that pooling reads, the mean over a clip included. Sums, sigmoids and swish
  are free there too. (mmcv/cnn/utils/flops_counter.py; Li et al. 2022, table 4.)
  """
  norms = 0

  def note(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
    nonlocal norms
    y = call(*args, **kwargs)
    if isinstance(context.module, BatchNorm) and context.method_name == '__call__':
      norms += 2 * y.size
    return y

  with nn.intercept_methods(note), table.using(max_pool='derived'):
    jaxpr = _traced(function, args)
  products = _count(jaxpr, _products)
  return products, products + norms + _count(jaxpr, _elements)


def _traced(function: Callable, args: Any) -> core.Jaxpr:
  with conv.formulation('lax'):
    # A new function: JAX would find again a trace that was made of `function` with another
    # formulation.
    fresh = lambda *args: function(*args)  # noqa: PLW0108
    return jax.make_jaxpr(fresh)(*args).jaxpr


def _count(jaxpr: core.Jaxpr, own: Callable[[core.JaxprEqn], int | None]) -> int:
  """Returns the sum over all equations. own: what an equation counts itself; None = what is in
  it."""
  return sum(_equation(equation, own) for equation in jaxpr.eqns)


def _equation(equation: core.JaxprEqn, own: Callable[[core.JaxprEqn], int | None]) -> int:
  counted = own(equation)
  if counted is not None:
    return counted
  name, params = equation.primitive.name, equation.params
  inner = [_count(jaxpr, own) for jaxpr in _jaxprs(params)]
  if name == 'while' and any(inner):
    raise ValueError(
      'multiply-accumulates inside a while loop cannot be counted: use jax.lax.scan or fori_loop '
      'of fixed length'
    )
  if name == 'cond':
    return max(inner)
  return sum(inner) * params.get('length', 1)


def _elements(equation: core.JaxprEqn) -> int | None:
  """Returns what MMCV counts of ReLUs and pooling."""
  name, params = equation.primitive.name, equation.params
  shape = lambda variable: variable.aval.shape
  if name.startswith('reduce_window'):
    return math.prod(shape(equation.invars[0]))
  if name == 'reduce_sum':  # of the mean over time, height and width
    read = shape(equation.invars[0])
    return math.prod(read) if len(read) == 5 and tuple(params['axes']) == (1, 2, 3) else 0
  if params.get('name') == 'relu':
    return math.prod(shape(equation.outvars[0]))
  return None


def _products(equation: core.JaxprEqn) -> int | None:
  """Returns the multiply-accumulates of a convolution or a matrix product."""
  name, params = equation.primitive.name, equation.params
  if name == 'conv_general_dilated':
    kernel = equation.invars[1].aval.shape
    features = kernel[params['dimension_numbers'].rhs_spec[0]]
    return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // features
  if name == 'dot_general':
    contracted, _ = params['dimension_numbers'][0]
    shape = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
  return None


def _jaxprs(params: dict[str, Any]) -> list[core.Jaxpr]:
  """The jaxprs inside an equation: of calls, scans, branches, rematerialisation and custom
  gradients."""
  found = []
  for value in params.values():
    for item in value if isinstance(value, list | tuple) else [value]:
      if isinstance(item, core.ClosedJaxpr):
        found.append(item.jaxpr)
      elif isinstance(item, core.Jaxpr):
        found.append(item)
  return found
