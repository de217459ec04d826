"""Checksums of arrays, and errors for checkpoints that are damaged or of another model."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath


@jax.jit
def _checksum(x: jax.Array) -> jax.Array:
  """Returns a uint32 of an array's bits and their positions, the same on every mesh. Any change of
  one element changes the checksum, since all weights are odd."""
  bits = jnp.asarray(x)
  if bits.dtype != bool:
    width = min(bits.dtype.itemsize, 4)
    bits = jax.lax.bitcast_convert_type(bits, {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[width])
  bits = bits.astype(jnp.uint32)
  return (bits * (2 * jnp.arange(bits.size, dtype=jnp.uint32).reshape(bits.shape) + 1)).sum(
    dtype=jnp.uint32
  )


def checksums(x: Any) -> dict[str, int]:
  """Returns the checksum of every array in a tree, by name, the same on all hosts.

  For a replicated array, one device computes the checksum. Other arrays are summed one after
  another: on simulated devices, threads of many sums over a mesh at once wait for each other.
  """
  one = lambda leaf: (
    leaf.addressable_data(0) if isinstance(leaf, jax.Array) and leaf.is_fully_replicated else leaf
  )
  return {name: int(_checksum(one(leaf))) for name, leaf in _leaves(x).items()}


def check_sums(x: Any, wanted: dict[str, int]) -> None:
  """Raises ValueError naming the arrays of a tree that differ from the written ones."""
  found = checksums(x)
  differ = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
  if differ:
    raise ValueError(
      f'{len(differ)} of {len(found)} arrays are not what was written, {", ".join(differ[:5])}'
    )


def check_finite(arrays: Mapping[str, Any], where: object) -> None:
  """Raises ValueError naming the arrays of `where`, of {name: array}, that hold NaN or infinity:
  outputs computed from them are NaN, or of one class."""
  bad = []
  for name, leaf in arrays.items():
    array = np.asarray(leaf)
    count = 0 if array.dtype.kind in 'biu' else array.size - np.isfinite(array).sum()
    if count:
      bad.append(f'{name}: {count} of {array.size} values')
  if bad:
    raise ValueError(
      f'{len(bad)} of {len(arrays)} arrays in {where} hold NaN or infinity, from a training that '
      'diverged or damage; use an earlier checkpoint or get the file again:\n' + listed(bad)
    )


def kept_checksums(folder: epath.Path, step: int) -> list[str]:
  """Returns the name of the item with checksums, if the checkpoint has one: old checkpoints do
  not."""
  return ['checksums'] if (folder / str(step) / 'checksums').exists() else []


def complete_steps(folder: epath.Path) -> list[int]:
  """Returns the steps of the complete checkpoints below `folder`, rising."""
  from orbax.checkpoint import utils

  return sorted(utils.checkpoint_steps(folder)) if folder.is_dir() else []


@contextlib.contextmanager
def reading(folder: epath.Path, step: int) -> Iterator[None]:
  """Turns any error inside into a ValueError that names the damaged checkpoint and a usable one."""
  try:
    yield
  except (MemoryError, jax.errors.JaxRuntimeError):
    raise  # too large for this machine, not damaged
  except Exception as error:
    earlier = [s for s in complete_steps(folder) if s < step]
    remedy = (
      f'remove {folder / str(step)} to use that of step {earlier[-1]}'
      if earlier
      else 'there is no earlier one'
    )
    raise ValueError(
      f'checkpoint {step} in {folder} is damaged: {reason(error)}; {remedy}'
    ) from error


def reason(error: BaseException, longest: int = 400) -> str:
  """Returns an error as one line, without the additions of libraries about their own code.

  The middle of a long error is left out: its beginning names the failed action, its end the
  system's error.
  """
  text = ' '.join(f'{error}'.split(' [source locations')[0].split()) or type(error).__name__
  return text if len(text) <= longest else f'{text[: longest // 2]} ... {text[-longest // 2 :]}'


def _leaves(x: Any) -> dict[str, Any]:
  """Returns the arrays of a tree, or their descriptions, by name."""
  leaves = jax.tree_util.tree_flatten_with_path(x)[0]
  parts = lambda path: '/'.join(
    str(getattr(k, 'key', getattr(k, 'name', getattr(k, 'idx', k)))) for k in path
  )
  return {parts(path): leaf for path, leaf in leaves if hasattr(leaf, 'shape')}


def _names(x: Any) -> dict[str, tuple[int, ...]]:
  return {name: tuple(leaf.shape) for name, leaf in _leaves(x).items()}


def compare(wanted: Any, saved: Any) -> list[str]:
  """Returns a line for every name or shape in which two trees differ."""
  wanted, saved = _names(wanted), _names(saved)
  rows = [
    f'- {name} {saved[name]}: in the checkpoint only'
    for name in sorted(saved.keys() - wanted.keys())
  ]
  rows += [
    f'+ {name} {wanted[name]}: in the model only' for name in sorted(wanted.keys() - saved.keys())
  ]
  both = sorted(n for n in wanted.keys() & saved.keys() if wanted[n] != saved[n])
  return rows + [
    f'! {name}: {saved[name]} in the checkpoint, {wanted[name]} in the model' for name in both
  ]


def listed(rows: Sequence[str], most: int = 40) -> str:
  return '\n'.join(
    [*rows[:most], *([f'... and {len(rows) - most} more'] if len(rows) > most else [])]
  )
