"""Checksums of arrays, and errors for checkpoints that are damaged or of another model."""

import contextlib
import dataclasses
import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath


@dataclasses.dataclass(frozen=True)
class _Fault:
  """A fault of reading that says nothing of what is read.

  Attributes:
    remedy: for the message.
    kinds: types of its errors.
    numbers: of system errors, as an OSError has them, or the text of TensorStore.
    status: words of TensorStore, of Abseil's status codes.
  """

  remedy: str
  kinds: tuple[type[BaseException], ...] = ()
  numbers: frozenset[int] = frozenset()
  status: frozenset[str] = frozenset()


_FAULTS = (
  _Fault(
    'use a machine or accelerator with more memory, or end other programs',
    (MemoryError,),
    frozenset({errno.ENOMEM}),
    frozenset({'RESOURCE_EXHAUSTED'}),
  ),
  _Fault(
    'get permission to read its files, or log in to the store, and run the same command',
    (PermissionError,),
    frozenset({errno.EACCES, errno.EPERM, errno.EROFS}),
    frozenset({'PERMISSION_DENIED', 'UNAUTHENTICATED'}),
  ),
  _Fault(
    'make room on the disk, and run the same command',
    numbers=frozenset({errno.ENOSPC, errno.EDQUOT}),
  ),
  _Fault(
    'raise the number of files that may be open (ulimit -n 65536), and run the same command',
    numbers=frozenset({errno.EMFILE, errno.ENFILE}),
  ),
  _Fault(
    'run the same command when disk and network answer again',
    (TimeoutError, ConnectionError, InterruptedError),
    frozenset(
      {
        errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH,
        errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ENOLCK, errno.EAGAIN,
      }
    ),
    frozenset({'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'CANCELLED', 'ABORTED'}),
  ),
)  # fmt: skip
_SYSTEM_ERROR = re.compile(r'\bOS error (\d+)\b')  # in TensorStore's messages
_STATUS = re.compile(r'\b[A-Z]+_?[A-Z]+\b')


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
  """Turns errors inside into one that names the checkpoint.

  That is a ValueError which names a usable checkpoint where this one is damaged: bytes that are
  missing, cannot be decoded or have a wrong checksum. It is an OSError with the cause and its own
  remedy where the machine, its memory, its disk or its network is at fault (`fault`): then the
  checkpoint may be whole. An error of the accelerator or of a missing package stays as it is.
  """
  try:
    yield
  except Exception as error:
    cause = error if fault(error) else _unreadable(folder / str(step))  # Orbax hides some causes
    if cause is not None and (found := fault(cause)):
      raise OSError(
        f'checkpoint {step} in {folder} could not be read: {reason(cause)}. The checkpoint itself '
        f'may be whole, keep it: {found}'
      ) from error
    if isinstance(error, ImportError | jax.errors.JaxRuntimeError):
      raise
    earlier = [s for s in complete_steps(folder) if s < step]
    remedy = (
      f'remove {folder / str(step)} to use that of step {earlier[-1]}'
      if earlier
      else 'there is no earlier one'
    )
    raise ValueError(
      f'checkpoint {step} in {folder} is damaged: {reason(error)}; {remedy}'
    ) from error


def fault(error: BaseException) -> str:
  """Returns the remedy where an error of reading, or one that caused it, is a fault of memory,
  permissions, disk or network; '' where it may be damage of what was read."""
  found: BaseException | None = error
  while found is not None:
    numbers = {int(number) for number in _SYSTEM_ERROR.findall(str(found))}
    numbers |= {found.errno} if isinstance(found, OSError) and found.errno else set()
    status = set(_STATUS.findall(str(found)))
    for faults in _FAULTS:
      if isinstance(found, faults.kinds) or numbers & faults.numbers or status & faults.status:
        return faults.remedy
    found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
  return ''


def _unreadable(folder: epath.Path) -> OSError | None:
  """Returns the first error of opening the files of a local folder, None where there is none."""
  errors: list[OSError] = []
  for place, _, names in os.walk(folder, onerror=errors.append):
    for name in names:
      try:
        with open(os.path.join(place, name), 'rb'):
          pass
      except OSError as error:
        errors.append(error)
    if errors:
      return errors[0]
  return None


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
