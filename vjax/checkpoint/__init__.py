"""Checkpoints: save, resume, warm start."""

from vjax.checkpoint.integrity import check_finite, checksums, complete_steps
from vjax.checkpoint.manager import (
  SAVE_TIMEOUT_S,
  Best,
  Checkpoints,
  check_fits,
  load_params,
  save_params,
)
from vjax.checkpoint.meta import Meta, read_json, read_meta, write_json
from vjax.checkpoint.same_run import (
  check_classes,
  check_continues,
  check_evaluated,
  classes_of,
  other_result,
  run_in,
  settings_of,
)
from vjax.checkpoint.warm_start import warm_start

__all__ = [
  'SAVE_TIMEOUT_S', 'Best', 'Checkpoints', 'Meta', 'check_classes', 'check_continues',
  'check_evaluated', 'check_finite', 'check_fits', 'checksums', 'classes_of', 'complete_steps',
  'load_params', 'other_result', 'read_json', 'read_meta', 'run_in', 'save_params', 'settings_of',
  'warm_start',
  'write_json',
]  # fmt: skip
