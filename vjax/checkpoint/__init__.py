"""Checkpoints: save, resume, warm start."""

from vjax.checkpoint.integrity import checksums, complete_steps
from vjax.checkpoint.manager import (
  SAVE_TIMEOUT_S,
  Best,
  Checkpoints,
  check_fits,
  load_params,
  save_params,
)
from vjax.checkpoint.meta import Meta, read_meta, write_json
from vjax.checkpoint.warm_start import warm_start

__all__ = [
  'SAVE_TIMEOUT_S', 'Best', 'Checkpoints', 'Meta', 'check_fits', 'checksums', 'complete_steps',
  'load_params', 'read_meta', 'save_params', 'warm_start', 'write_json',
]  # fmt: skip
