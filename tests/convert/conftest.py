"""Fixtures that the tests of converters share."""

import functools

import pytest

from vjax import convert
from vjax.kernels import conv


@pytest.fixture(autouse=True, scope='session')
def traced_once():
  """Shapes that `convert.load` compares with are traced once for equal networks, and with XLA's
  convolutions, which trace faster than those of a CPU: most of what a file of names costs."""
  original = convert._shapes

  def trace(model, clip):
    with conv.formulation('lax'):
      return original(model, clip)

  cached = functools.cache(trace)

  def shapes(model, clip):
    try:
      return cached(model, clip)
    except TypeError:  # settings that cannot be hashed
      return trace(model, clip)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(convert, '_shapes', shapes)
    yield
