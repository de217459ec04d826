"""Fixtures that the tests of converters share."""

import functools

import pytest

from vjax import convert


@pytest.fixture(autouse=True, scope='session')
def traced_once():
  """Shapes that `convert.load` compares with are traced once for equal networks: most of what a
  file of names costs."""
  trace = convert._shapes
  cached = functools.cache(trace)

  def shapes(model, clip):
    try:
      return cached(model, clip)
    except TypeError:  # settings that cannot be hashed
      return trace(model, clip)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(convert, '_shapes', shapes)
    yield
