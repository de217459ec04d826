"""Counts multiply-accumulates from a function's jaxpr: convolutions and matrix products, as the
papers' tables do."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

from vjax.kernels import conv


def count(function: Callable, *args: Any) -> int:
  """Multiply-accumulates of function(*args); args may be shapes (`jax.ShapeDtypeStruct`), nothing
  is computed.

  Convolutions count as written, whichever formulation the backend would get, zeros of the padding
  included; norms, activations and pooling are free. A scan counts its length, a branch its dearest
  arm. Raises ValueError at a while loop, whose length a jaxpr does not tell.
  """
  with conv.formulation('lax'):
    # A new function: JAX would find again a trace that was made of `function` with another
    # formulation.
    fresh = lambda *args: function(*args)  # noqa: PLW0108
    return _count(jax.make_jaxpr(fresh)(*args).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
  return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: core.JaxprEqn) -> int:
  name, params = equation.primitive.name, equation.params
  if name == 'conv_general_dilated':
    kernel = equation.invars[1].aval.shape
    features = kernel[params['dimension_numbers'].rhs_spec[0]]
    return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // features
  if name == 'dot_general':
    contracted, _ = params['dimension_numbers'][0]
    shape = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
  inner = [_count(jaxpr) for jaxpr in _jaxprs(params)]
  if name == 'while' and any(inner):
    raise ValueError(
      'multiply-accumulates inside a while loop cannot be counted: use jax.lax.scan or fori_loop '
      'of fixed length'
    )
  if name == 'cond':
    return max(inner)
  return sum(inner) * params.get('length', 1)


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
