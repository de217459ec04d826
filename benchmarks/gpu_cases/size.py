"""The largest batch that a device holds: planned from two compilations, then tried."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu_cases import training
from benchmarks.gpu_cases.recorder import Recorder, seconds_of
from vjax import factory

_MODELS = {  # name of the case: model, frames, crop
  'vit_ti': ('vit_tiny', 4, 64),
  'vit_l': ('vit_large', 16, 224),
  'vit_h': ('vit_huge', 16, 224),
  'mvit_l': ('mvit_v2_l_40x3', 40, 312),
}


def _training(name: str, remat: bool, dtype: Any) -> training.Training:
  model, frames, crop = _MODELS[name]
  sizes = {'depth': 1} if name == 'vit_ti' else {}  # of tests: compiles quickly
  backbone = factory.create_backbone(
    model, frames=frames, crop=crop, dtype=dtype, remat=remat, **sizes
  )
  return training.classifier(backbone, (frames, crop, crop))


def largest(record: Recorder, name: str, remat: bool, clips: tuple[int, int]) -> None:
  """The largest batch of full clips that trains in bfloat16 with AdamW.

  Args:
    record: of the results.
    name: 'vit_l', 'vit_h', 'mvit_l' or, for tests, 'vit_ti'.
    remat: whether blocks are computed again in the backward pass.
    clips: two batches whose planned memory tells that of a clip.
  """
  run = _training(name, remat, jnp.bfloat16 if record.full else jnp.float32)
  for count in clips:
    record.measure(f'plan/batch={count}', lambda count=count: _plan(run, count))
  plans = [record.known.get(f'plan/batch={count}', {}).get('bytes') for count in clips]
  if None in plans:
    return
  each = (plans[1] - plans[0]) / (clips[1] - clips[0])
  limit = (jax.devices()[0].memory_stats() or {}).get('bytes_limit', plans[1])
  guess = max(1, int((limit - plans[0]) / max(each, 1) + clips[0]))
  for count in sorted({max(1, int(share * guess)) for share in (0.97, 0.9, 0.8)}, reverse=True):
    if record.measure(f'batch={count}', lambda count=count: _try(run, count, each)):
      break


def _plan(run: training.Training, clips: int) -> dict[str, float]:
  step, compile_s = run.compiled(clips)
  plan = step.memory_analysis()
  state = sum(
    x.size * x.dtype.itemsize for x in jax.tree.leaves(run.shapes()) if hasattr(x.dtype, 'itemsize')
  )
  return {'bytes': plan.temp_size_in_bytes + state, 'state_bytes': state, 'compile_s': compile_s}


def _try(run: training.Training, clips: int, each: float) -> dict[str, float]:
  step, compile_s = run.compiled(clips)
  held: list[Any] = [run.state()]
  batch = run.batch(clips)

  def call() -> Any:
    held[0], metrics = step(held[0], batch, jax.random.key(1))
    return metrics

  seconds = seconds_of(call, jax.block_until_ready)
  peak = (jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use', 0)
  found = {'mib_a_clip': each / 2**20, 'peak_gib': peak / 2**30, 'compile_s': compile_s}
  return {'clips': clips, 'clips_per_s': clips / seconds, **found}
