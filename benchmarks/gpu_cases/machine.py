"""The device, versions, and the rates that all other figures are compared with."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess

import jax
import jax.numpy as jnp

from benchmarks.gpu_cases.recorder import Recorder, seconds_of

PACKAGES = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'numpy',
  'torch',
  'pytorchvideo',
  'nvidia-cudnn-cu13',
)


def facts(record: Recorder, side: int) -> None:
  """Device and versions; rates of a matrix product of `side` rows and columns; bandwidth of device
  memory."""
  record.measure('versions', _versions)
  for dtype in ('bfloat16', 'float32'):
    record.measure(f'product/{dtype}', lambda dtype=dtype: _product(side, dtype))
  record.measure('bandwidth', lambda: _bandwidth(side))


def _versions() -> dict:
  device = jax.devices()[0]
  found = {'device': device.device_kind, 'backend': jax.default_backend(), 'cores': os.cpu_count()}
  for package in PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      found[package] = 'not installed'
  query = [
    'nvidia-smi',
    '--query-gpu=name,driver_version,memory.total,clocks.max.sm',
    '--format=csv,noheader',
  ]
  try:
    found['nvidia-smi'] = subprocess.run(
      query, check=True, capture_output=True, text=True, timeout=20
    ).stdout.strip()
  except (OSError, subprocess.SubprocessError):
    found['nvidia-smi'] = 'not found'
  return found


def _product(side: int, dtype: str) -> dict:
  x = jax.random.normal(
    jax.random.key(0), (side, side), dtype
  )  # zeros would be faster than real numbers
  product = jax.jit(jnp.matmul)
  seconds = seconds_of(lambda: product(x, x), jax.block_until_ready)
  return {'side': side, 'ms': 1e3 * seconds, 'tflop_per_s': 2 * side**3 / seconds / 1e12}


def _bandwidth(side: int) -> dict:
  x = jnp.zeros(max(2**20, side * side * 4), jnp.float32)
  add = jax.jit(lambda x: x + 1)
  seconds = seconds_of(lambda: add(x), jax.block_until_ready)
  return {'mib': x.nbytes / 2**20, 'gb_per_s': 2 * x.nbytes / seconds / 1e9}
