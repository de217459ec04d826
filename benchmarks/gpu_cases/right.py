"""Correctness: published models' outputs, a training step against the CPU's, and resume."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu_cases import training
from benchmarks.gpu_cases.recorder import Recorder, end_with_parent, seconds_of
from vjax import checkpoint, convert, tree

FLOAT32 = (
  1e-4  # largest difference from the original's float64 logits, relative to the largest of these
)
# Relative: of the loss, and of the norm of an update, where signs that ReLUs turn on differ by
# rounding.
LOSS, STEP = 1e-5, 1e-2


def fixture(
  record: Recorder, fixture: str, source: str, variant: str, layout: str, overrides: dict[str, Any]
) -> None:
  """A published model's logits in float32 and bfloat16 beside the original's in float64.

  Args:
    record: of the results.
    fixture: file in tests/golden.
    source, variant, overrides: of `convert.load`.
    layout: of the fixture's input, see tests/convert/zoo.py.
  """
  from tests import golden_files
  from tests.convert import zoo

  golden = golden_files.load(fixture)
  weights = golden_files.weights(golden)
  layouts = {'clip': zoo.channels_last, 'frame_major': zoo.frame_major, 'segments': zoo.segments(8)}
  video = layouts[layout](golden_files.model_input(golden['inputs'][0]['shape']))
  exact = np.reshape(golden['float64']['logits'], golden['logits']['shape'])

  def differs(dtype: Any) -> float:
    model, variables = convert.load(source, weights, variant=variant, dtype=dtype, **overrides)
    with jax.default_matmul_precision('highest'):
      logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(
        variables, jnp.asarray(video, dtype)
      )
    return float(np.abs(np.asarray(logits, np.float64) - exact).max() / np.abs(exact).max())

  def single() -> dict:
    found = differs(jnp.float32)
    return {'difference': found, 'tolerance': FLOAT32, 'right': found <= FLOAT32}

  record.measure('float32', single)
  record.measure('bfloat16', lambda: {'difference': differs(jnp.bfloat16)})


def step(record: Recorder, name: str) -> None:
  """One training step of a small network here and on this machine's CPU, in float32 with full
  products."""
  record.measure('float32', lambda: _against_cpu(name))


def _against_cpu(name: str) -> dict:
  with tempfile.TemporaryDirectory() as folder:
    file = str(Path(folder, 'cpu.npz'))
    env = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''}
    subprocess.run(
      [sys.executable, '-m', 'benchmarks.gpu_cases.right', name, file], env=env, check=True
    )
    cpu = dict(np.load(file))
  start = {
    key.removeprefix('start/'): value for key, value in cpu.items() if key.startswith('start/')
  }
  here = _one_step(name, start)
  loss = abs(here['loss'] - cpu['loss']) / abs(cpu['loss'])
  names = sorted(start)
  moved = lambda found: np.concatenate([np.ravel(found[f'end/{n}'] - start[n]) for n in names])
  ours, theirs = moved(here), moved(cpu)
  apart = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
  right = bool(loss <= LOSS and apart <= STEP)
  return {'loss': float(loss), 'step': float(apart), 'tolerance': [LOSS, STEP], 'right': right}


def _one_step(name: str, start: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
  """{'loss', 'start/NAME', 'end/NAME'} of one step from the parameters `start`, None = initial
  ones."""
  run = training.small(name)
  state = run.state()
  if start is not None:
    state = state.replace(params=jax.tree.map(jnp.asarray, tree.unflatten(start)))
  before = {f'start/{n}': np.asarray(x) for n, x in tree.flatten(state.params).items()}
  with jax.default_matmul_precision('highest'):
    state, metrics = run.step(state)(state, run.batch(4), jax.random.key(1))
  after = {f'end/{n}': np.asarray(x) for n, x in tree.flatten(state.params).items()}
  return {**before, **after, 'loss': np.asarray(metrics['loss'].compute())}


def resume(record: Recorder, name: str, width: int) -> None:
  """Four steps against two, a checkpoint and two more; and the same four steps again; and what a
  step takes."""
  record.measure('steps', lambda: _resume(name, width))


def _resume(name: str, width: int) -> dict:
  run = training.small(name, width, jnp.bfloat16)
  batches = [run.batch(16, seed) for seed in range(4)]
  step = run.step(run.shapes())

  def after(state: Any, steps: range) -> Any:
    for i in steps:
      state, _ = step(state, batches[i], jax.random.key(1))
    return state

  whole, again = after(run.state(), range(4)), after(run.state(), range(4))
  with tempfile.TemporaryDirectory() as folder:
    kept = checkpoint.Checkpoints(folder, keep=1)
    kept.save(after(run.state(), range(2)), {})
    kept.wait()
    restored, _ = kept.restore(run.shapes())
    kept.close()
  resumed = after(restored, range(2, 4))
  held = [run.state()]

  def call() -> Any:
    held[0], metrics = step(held[0], batches[0], jax.random.key(1))
    return metrics

  return {
    'resumed_is_identical': _identical(whole, resumed),
    'repeated_is_identical': _identical(whole, again),
    'largest_difference': max(_largest(whole, resumed), _largest(whole, again)),
    'ms': 1e3 * seconds_of(call, jax.block_until_ready),
  }


def _identical(a: Any, b: Any) -> bool:
  same = lambda x, y: np.asarray(x).tobytes() == np.asarray(y).tobytes()
  return all(jax.tree.leaves(jax.tree.map(same, a, b)))


def _largest(a: Any, b: Any) -> float:
  apart = lambda x, y: float(
    np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max(initial=0)
  )
  return max(jax.tree.leaves(jax.tree.map(apart, a, b)))


if __name__ == '__main__':
  end_with_parent()
  np.savez(sys.argv[2], **_one_step(sys.argv[1]))
