"""Masked pre-training: clips a second at the best batch, memory, and time by kernel."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import mae_step
from benchmarks.gpu_cases import training
from benchmarks.gpu_cases.profile import kernels
from benchmarks.gpu_cases.recorder import Recorder, seconds_of
from vjax.layers import mask as masks


def mae(
  record: Recorder,
  name: str,
  batches: tuple[int, ...],
  ratio: float | None = 0.9,
  frames: int = 16,
  crop: int = 224,
  sizes: dict[str, int] | None = None,
) -> None:
  """Training steps in bfloat16 (float32 on a CPU) at several batches; the best one's profile at the
  end.

  Args:
    record: of the results.
    name: of the ViT.
    batches: clips a step, the likeliest first; after one that memory does not hold no larger one is
      tried.
    ratio: of hidden tokens; None = dense.
    frames, crop: of the clip.
    sizes: settings of the ViT other than the name's, for tests.
  """
  dtype = jnp.bfloat16 if record.full else jnp.float32
  run = training.masked(name, ratio, (frames, crop, crop), dtype, **(sizes or {}))
  compiled: dict[int, Any] = {}
  too_large = None
  for clips in batches:
    if too_large is not None and clips > too_large:
      continue
    if not record.measure(
      f'batch={clips}', lambda clips=clips: _speed(run, name, ratio, clips, compiled)
    ):
      too_large = clips
  done = {line: values for line, values in record.known.items() if 'clips_per_s' in values}
  if done:
    best = max(done, key=lambda line: done[line]['clips_per_s'])
    record.measure(
      'profile', lambda: {'of': best, **_profile(run, int(best.removeprefix('batch=')), compiled)}
    )


def _speed(
  run: training.Training, name: str, ratio: float | None, clips: int, compiled: dict[int, Any]
) -> dict[str, Any]:
  tokens = run.clip[0] // 2 * (run.clip[1] // 16) ** 2
  kept = tokens if ratio is None else masks.kept(tokens, ratio)
  flop = (
    2 * 3 * clips * mae_step.step_macs(name, kept, tokens)
  )  # a multiply-add is two; backward twice forward
  step, compile_s = run.compiled(clips)
  largest = clips >= max(compiled, default=0)
  compiled[clips] = step
  call = _steps(run, step, clips)
  seconds = seconds_of(call, jax.block_until_ready, at_least_s=1.0)
  stats = jax.devices()[0].memory_stats() or {}
  return {
    'clips_per_s': clips / seconds,
    'ms': 1e3 * seconds,
    'tflop_per_s': flop / seconds / 1e12,
    'compile_s': compile_s,
    # The peak of this process: of a smaller batch than one before nothing is known.
    'peak_gib': stats.get('peak_bytes_in_use', 0) / 2**30 if largest else None,
    'planned_gib': step.memory_analysis().temp_size_in_bytes / 2**30,
  }


def _steps(run: training.Training, step: Any, clips: int) -> Any:
  held, batch = [run.state()], run.batch(clips)

  def call() -> Any:
    held[0], metrics = step(held[0], batch, jax.random.key(1))
    return metrics

  return call


def _profile(run: training.Training, clips: int, compiled: dict[int, Any]) -> dict[str, Any]:
  step = compiled[clips] if clips in compiled else run.compiled(clips)[0]
  return kernels(_steps(run, step, clips))
