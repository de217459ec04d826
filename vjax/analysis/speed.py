"""Speed of a network at the largest batch that fits into a device (Chen et al., CVPR 2021, table
8): the batch is doubled until memory is out, then bisected."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vjax import cost, factory

OUT_OF_MEMORY = ('RESOURCE_EXHAUSTED', 'out of memory')
CPU_LIMIT = 4  # clips; the memory of a CPU is that of the whole machine
LIMIT = 4096


def largest_batch(fits: Callable[[int], bool], limit: int) -> int:
  """Returns the largest batch up to `limit` that fits, 0 where not even one clip does.

  Args:
    fits: whether a batch fits; where one does, all smaller ones do.
    limit: of the search.
  """
  good, bad = 0, 1
  while bad <= limit and fits(bad):
    good, bad = bad, min(2 * bad, limit) if bad < limit else limit + 1
  while bad - good > 1:
    middle = (good + bad) // 2
    good, bad = (middle, bad) if fits(middle) else (good, middle)
  return good


def without_memory_error(run: Callable[[int], Any], batch: int) -> bool:
  """Returns whether run(batch) ends without running out of the device's memory. Other errors are
  raised."""
  try:
    run(batch)
  except Exception as error:
    if any(words in str(error) for words in OUT_OF_MEMORY):
      return False
    raise
  return True


def measure(
  name: str,
  *,
  frames: int = 32,
  crop: int = 256,
  num_classes: int = 400,
  dtype: str = 'float32',
  limit: int = 0,
  repeats: int = 10,
) -> dict[str, Any]:
  """Returns {device, batch, clips_per_s, gmacs} of forward passes at the largest batch that fits.

  Args:
    name: of `vjax.list_models()`.
    frames, crop, num_classes, dtype: of the network and its clips.
    limit: of the batch; 0 = CPU_LIMIT on a CPU, else LIMIT.
    repeats: passes that are timed, after one that is not.
  """
  model = factory.create_model(name, num_classes, dtype=dtype, frames=frames, crop=crop)
  shape = (frames, crop, crop, 3)
  apply = functools.partial(model.apply, train=False)
  one = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  init = functools.partial(model.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), one)
  gmacs = cost.count(apply, shapes, one) / 1e9
  # Zeros instead of random weights: their drawing takes longer than the passes.
  variables = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  forward = jax.jit(apply)

  def run(batch: int, times: int = 1) -> float:
    """Returns the seconds of `times` passes, compilation not counted."""
    clips = jnp.zeros((batch, *shape), jnp.float32)
    jax.block_until_ready(forward(variables, clips))
    began = time.monotonic()
    for _ in range(times):
      logits = forward(variables, clips)
    jax.block_until_ready(logits)
    return time.monotonic() - began

  device = jax.devices()[0]
  limit = limit or (CPU_LIMIT if device.platform == 'cpu' else LIMIT)
  batch = largest_batch(functools.partial(without_memory_error, run), limit)
  speed = batch * repeats / run(batch, repeats) if batch else 0.0
  return {'device': device.device_kind, 'batch': batch, 'clips_per_s': speed, 'gmacs': gmacs}
