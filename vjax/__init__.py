"""vjax: video-recognition research in JAX."""

import os

# TensorFlow only reads image sets of TFDS here; without this it prints what its CPU could do.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')


def __getattr__(name: str):
  """Imports `create_model` and `list_models`, and with them JAX, on first use; `__version__`."""
  if name in ('create_model', 'list_models'):
    from vjax import factory

    return getattr(factory, name)
  if name == '__version__':
    from importlib import metadata

    return metadata.version('vjax')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
