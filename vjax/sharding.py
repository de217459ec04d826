"""The mesh and every PartitionSpec. Only this file names a mesh axis.

Batches are split over both axes; parameters and optimizer state over 'fsdp' alone (in scaling-book
notation a kernel is W[I, O_fsdp] and a batch X[B_(data,fsdp), ...]). On one device it is a mesh of
one.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_ROWS = ('data', 'fsdp')
_SMALLEST_SPLIT = 2**14  # elements; below, a gather costs more than the memory it saves


def mesh(fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Mesh (devices / fsdp, fsdp) over `devices`, None = all of all hosts. Raises ValueError where
  fsdp does not divide their number."""
  count = jax.device_count() if devices is None else len(devices)
  if fsdp < 1 or count % fsdp:
    raise ValueError(
      f'config.train.fsdp is {fsdp}, but there are {count} devices: set it to a divisor of {count}'
    )
  # Auto: linen's Dropout and plain indexing fail on explicit-sharding meshes, which are the
  # default.
  return jax.make_mesh(
    (count // fsdp, fsdp), _ROWS, axis_types=(AxisType.Auto,) * 2, devices=devices
  )


def rows(mesh: Mesh) -> NamedSharding:
  """Sharding of a batch: its first axis over all devices."""
  return NamedSharding(mesh, PartitionSpec(_ROWS))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def state_shardings(mesh: Mesh, shapes: Any) -> Any:
  """Shardings for a tree of arrays or ShapeDtypeStructs: the longest axis that 'fsdp' divides is
  split, if the array is worth it; the last such axis where several are equal."""
  size = mesh.shape['fsdp']

  def spec(x) -> NamedSharding:
    axes = [i for i, n in enumerate(x.shape) if n % size == 0 and n >= size]
    if size == 1 or not axes or np.prod(x.shape) < _SMALLEST_SPLIT:
      return replicated(mesh)
    longest = max(axes, key=lambda i: (x.shape[i], i))
    return NamedSharding(
      mesh, PartitionSpec(*('fsdp' if i == longest else None for i in range(len(x.shape))))
    )

  return jax.tree.map(spec, shapes)


def to_global(mesh: Mesh, batch: Mapping[str, Any]) -> Any:
  """This host's rows -> arrays split over all devices of all hosts. Raises ValueError where rows do
  not divide."""
  devices = len(mesh.local_devices)
  for name, x in batch.items():
    if len(x) % devices:
      raise ValueError(
        f'batch[{name!r}] has {len(x)} rows on this host, which its {devices} devices cannot '
        f'share: set config.data.batch_size (in training) or config.evals.NAME.batch_size (in an '
        f'evaluation) so that each host has a multiple of {devices}'
      )
  return {name: jax.make_array_from_process_local_data(rows(mesh), x) for name, x in batch.items()}


@functools.cache
def _largest(mesh: Mesh):
  return jax.jit(jnp.max, out_shardings=replicated(mesh))


def any_host(mesh: Mesh, here: bool) -> jax.Array:
  """1.0 where `here` is true on any host, else 0.0: the same on all. Not waited for; all hosts must
  ask alike often."""
  flags = np.full(len(mesh.local_devices), here, np.float32)
  return _largest(mesh)(jax.make_array_from_process_local_data(rows(mesh), flags))


def local_rows(x: jax.Array) -> np.ndarray:
  """This host's rows of an array that is split over its first axis, in order."""
  if jax.process_count() == 1:
    return np.asarray(x)
  shards = {s.index[0].start or 0: s.data for s in x.addressable_shards}
  return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def microbatches(mesh: Mesh, batch: Any, count: int) -> Any:
  """Leaves (B, ...) -> (count, B / count, ...), for gradient accumulation.

  Every device contributes neighboring rows of its own to each microbatch: nothing moves between
  devices, and groups of neighboring clips (BatchNorm's, MixUp's) stay together.
  """
  devices = mesh.size

  def split(x):
    if x.shape[0] % (devices * count):
      raise ValueError(
        f'{x.shape[0]} clips a step cannot be split over {devices} devices and '
        f'config.train.grad_accumulation={count}: make config.data.batch_size times '
        f'config.clip.num_repeats a multiple of {devices * count}'
      )
    rest = x.shape[1:]
    x = x.reshape(devices, count, x.shape[0] // (devices * count), *rest).swapaxes(0, 1)
    x = x.reshape(count, -1, *rest)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(None, _ROWS)))

  return jax.tree.map(split, batch)


def by_rows(mesh: Mesh, function: Callable) -> Callable:
  """Returns `function` applied by every device to its own rows of the arguments. Loops over rows
  within it are then of few rows on every device, not of all rows on one device after the other."""
  spec = PartitionSpec(_ROWS)
  return jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec)


def wait_for_all(name: str) -> None:
  """Returns when all processes have called this with the same name."""
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)
