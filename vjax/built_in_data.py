"""Renders the built-in datasets where a config wants them and they are missing."""

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
  """Renders under `data_dir` the built-in datasets that the config trains on or evaluates, where
  they are not there yet; in a pod the first host does, and the others wait."""
  config = parse(config)
  evaluated = [entry.dataset for entry in config.evals.values() if entry.dataset]
  folders = [specs.spec_of(config, alias).records for alias in (*config.datasets, *evaluated)]
  styles = {name: synthetic.FOLDERS.get(name) for name in folders}
  styles |= {name: 'motions' for name in folders if Path(name).name == 'motions'}
  wanted = {Path(data_dir, name): style for name, style in styles.items() if style}
  if not wanted or files.is_remote(data_dir):
    return
  missing = {folder: s for folder, s in wanted.items() if not (folder / 'manifest.json').exists()}
  if jax.process_index() == 0 and missing:
    build.check(config)
    for folder, style in missing.items():
      logging.info('rendering a built-in dataset into %s (once; a few minutes)', folder)
      synthetic.prepare(str(folder), style=style)
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices('rendered')
