"""Renders the built-in dataset where a config wants it and it is missing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax

from data_prep import synthetic
from vjax import build, files
from vjax.config import parse
from vjax.data import specs


def render_if_missing(config: Any, data_dir: str) -> None:
  """Renders `motions` under `data_dir` if the config is of that dataset and it is not there yet; in
  a pod the first host does, and the others wait."""
  config = parse(config)
  folders = {specs.spec_of(config, alias).records for alias in config.datasets}
  wanted = [Path(data_dir, name) for name in folders if Path(name).name == 'motions']
  if not wanted or files.is_remote(data_dir):
    return
  folder = wanted[0]
  if jax.process_index() == 0 and not (folder / 'manifest.json').exists():
    build.check(config)
    logging.info('rendering the built-in dataset into %s (once; a few minutes)', folder)
    synthetic.prepare(str(folder), synthetic.TRAIN_CLIPS, synthetic.TEST_CLIPS, seed=0)
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices('rendered')
