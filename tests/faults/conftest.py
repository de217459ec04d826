"""Runs of one experiment over and over compile it once."""

import os

import jax
import pytest


@pytest.fixture(scope='session')
def compiled(tmp_path_factory) -> str:
  return str(tmp_path_factory.mktemp('compiled'))


@pytest.fixture(scope='module', autouse=True)
def compiled_once(compiled):
  """JAX's cache on disk is on for the tests of this folder alone."""
  settings = {
    'jax_compilation_cache_dir': compiled,
    'jax_persistent_cache_min_compile_time_secs': 0.0,
    'jax_persistent_cache_min_entry_size_bytes': -1,
  }
  before = {name: getattr(jax.config, name) for name in settings}
  for name, value in settings.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)  # for the processes that tests start
  yield
  for name, value in before.items():
    jax.config.update(name, value)
    del os.environ[name.upper()]
  from jax.experimental.compilation_cache import compilation_cache

  compilation_cache.reset_cache()
