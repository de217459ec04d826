"""vjax beside PyTorch: the same weights and inputs, a training step and inference, PyTorch as it is
and compiled."""

from __future__ import annotations

import dataclasses
import gc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import against_torch
from benchmarks.gpu_cases.profile import kernels
from benchmarks.gpu_cases.recorder import Recorder, seconds_of

PROFILED = ('slow_r50', 'csn_50', 'r2plus1d_18', 'vit_b', 'mvit_s')  # one of each kind of network


def compare(
  record: Recorder,
  name: str,
  batch: int,
  dtype: str,
  clip: tuple[int, int] | None = None,
  sizes: dict[str, int] | None = None,
) -> None:
  """Milliseconds of a step and of inference by vjax, PyTorch and compiled PyTorch.

  Args:
    record: of the results.
    name: of the model, see `against_torch.case`.
    batch: clips a call.
    dtype: of activations; on a CPU float32.
    clip: (frames, side), None = the model's.
    sizes: of the masked autoencoder, where it is not the published one.
  """
  dtype = dtype if record.full else 'float32'
  device = 'cuda' if record.full else 'cpu'
  torch.backends.cuda.matmul.allow_tf32 = True  # as JAX does by itself
  torch.backends.cudnn.benchmark = record.full  # XLA chooses among kernels, too
  case = against_torch.case(name, **(sizes or {}))
  case = dataclasses.replace(case, clip=clip) if clip else case
  data = against_torch.inputs(case, batch, *case.clip)
  lines = {'step/vjax', 'inference/vjax', 'difference', *(['profile'] if name in PROFILED else [])}
  if not lines <= set(record.known):
    ours = against_torch.Ours(case, data, jnp.dtype(dtype))
    record.measure('difference', lambda: _difference(ours, case, data, dtype, device))
    record.measure('step/vjax', lambda: _values(ours.start_step, batch, jax.block_until_ready))
    record.measure(
      'inference/vjax', lambda: _values(ours.start_infer, batch, jax.block_until_ready)
    )
    if name in PROFILED:
      record.measure('profile', lambda: kernels(ours.start_step))
    del ours
    gc.collect()
  rows = [('pytorch', False, False)]
  if case.optimizer['name'] == 'sgd':
    rows.append(('pytorch_channels_last', False, True))
  for who, compiled, last in rows:
    _measure(record, case, data, (dtype, device, compiled, last), who)
  if record.full:
    eager = {
      last: record.known[f'step/{who}'].get('ms')
      for who, _, last in rows
      if f'step/{who}' in record.known
    }
    eager = {last: ms for last, ms in eager.items() if ms}
    last = min(eager, key=eager.get) if eager else False  # the layout that was faster as it is
    _measure(record, case, data, (dtype, device, True, last), 'compiled')


def _difference(ours: Any, case: Any, data: dict, dtype: str, device: str) -> dict:
  """Outputs of the same weights: largest difference relative to the largest value."""
  output = np.asarray(ours.infer(), np.float32)
  theirs = against_torch.Theirs(case, data, dtype, device, compiled=False)
  return {'output': against_torch.difference(output, theirs.infer())}


def _measure(
  record: Recorder, case: Any, data: dict, how: tuple[str, str, bool, bool], who: str
) -> None:
  """A step and inference of PyTorch; how: dtype, device, whether compiled, whether channels are
  last."""
  dtype, device, compiled, last = how

  def values(what: str) -> dict:
    side = against_torch.Theirs(case, data, dtype, device, compiled, channels_last=last)
    call = side.start_infer if what == 'inference' else side.start_step
    if device == 'cuda':
      torch.cuda.reset_peak_memory_stats()
    found = {**_values(call, len(data['video']), lambda _: side.wait()), 'channels_last': last}
    return (
      {**found, 'peak_gib': torch.cuda.max_memory_allocated() / 2**30}
      if device == 'cuda'
      else found
    )

  for what in ('step', 'inference'):
    record.measure(f'{what}/{who}', lambda what=what: values(what))


def _values(call: Any, batch: int, wait: Any) -> dict:
  seconds = seconds_of(call, wait, at_least_s=0.5)
  return {'ms': 1e3 * seconds, 'clips_per_s': batch / seconds}
