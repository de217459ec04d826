"""The set that most tests of damaged records damage."""

import pathlib

import pytest

from tests.data import make


@pytest.fixture
def folder(tmp_path):
  """Two shards of two clips, 2 or 3 frames of 24x32 px each, every label once."""
  return pathlib.Path(
    make.dataset(tmp_path / 'set', clips=4, frames=2, shards=2, height=24, width=32)
  )
