"""Renames by an ordered table of (name in the original, name here), read in both directions.

A name is a pattern: {i} stands for the same number on both sides. The first row that matches a name
counts. Names here are 'collection/path', e.g. 'params/backbone/res2/block0/conv1/kernel'. A row
with None here is a tensor of the original that carries nothing.
"""

import functools
import re
from collections.abc import Sequence

import numpy as np

from vjax.checkpoint import integrity

Row = tuple[str, str | None]
Shapes = dict[str, tuple[int, ...]]


def norm(original: str, here: str) -> list[Row]:
  """Rows of a BatchNorm of PyTorch."""
  return [
    (f'{original}.weight', f'params/{here}/scale'),
    (f'{original}.bias', f'params/{here}/bias'),
    (f'{original}.running_mean', f'batch_stats/{here}/mean'),
    (f'{original}.running_var', f'batch_stats/{here}/var'),
    (f'{original}.num_batches_tracked', None),
  ]


def dense(original: str, here: str, weight: str = 'kernel') -> list[Row]:
  """Rows of a layer with weight and bias; weight='scale' for a LayerNorm."""
  return [
    (f'{original}.weight', f'params/{here}/{weight}'),
    (f'{original}.bias', f'params/{here}/bias'),
  ]


def forward(
  tensors: dict[str, np.ndarray], table: Sequence[Row], shapes: Shapes
) -> dict[str, np.ndarray]:
  """{name here: float32 array} for exactly the names in `shapes`.

  Kernels go from (O, I, T, H, W) to (T, H, W, I, O) and from (O, I) to (I, O). Raises ValueError
  listing every name that is missing, unexpected, given twice or of another shape, and those of
  arrays that are not finite.
  """
  found, originals, unexpected, twice = {}, {}, [], []
  for name, array in tensors.items():
    matched, here = rename(name, table)
    if not matched or (here is not None and here not in shapes):
      unexpected.append(f'{name} {array.shape}')
    elif here in found:
      twice.append(f'{name} -> {here}')
    elif here is not None:
      found[here], originals[here] = _to_here(here, array), name
  missing = [f'{name} {shape}' for name, shape in shapes.items() if name not in found]
  other = [
    f'{name} {found[name].shape}, needs {shapes[name]}'
    for name in found
    if found[name].shape != shapes[name]
  ]
  lists = {
    'missing': missing,
    'unexpected': unexpected,
    'given twice': twice,
    'of another shape': other,
  }
  if any(lists.values()):
    text = ''.join(f'\n  {title}: {", ".join(names)}' for title, names in lists.items() if names)
    raise ValueError(
      f'the weights do not fit the model; choose the --variant they were trained with:{text}'
    )
  integrity.check_finite(
    {f'{originals[here]} ({here})': x for here, x in found.items()}, 'the file'
  )
  return found


def backward(arrays: dict[str, np.ndarray], table: Sequence[Row]) -> dict[str, np.ndarray]:
  """{name in the original: array in its layout}, the inverse of `forward`; counters of batches come
  back as zeros. Raises ValueError listing names without a row."""
  inverse = [(here, original) for original, here in table if here is not None]
  counters = [original for original, here in table if here is None]
  found, unknown = {}, []
  for name, array in arrays.items():
    matched, original = rename(name, inverse)
    if not matched:
      unknown.append(name)
      continue
    found[original] = _to_original(name, np.asarray(array))
    counter = re.sub(r'\.running_var$', '.num_batches_tracked', original)
    if counter != original and rename(counter, [(row, None) for row in counters])[0]:
      found[counter] = np.zeros((), np.int64)
  if unknown:
    raise ValueError(f'variables that the original does not have: {", ".join(unknown)}')
  return found


def matrices(tensors: dict[str, np.ndarray], pattern: str) -> dict[str, np.ndarray]:
  """Pointwise convolutions whose names match, as matrices (O, I)."""
  flat = lambda name, x: x.reshape(x.shape[:2]) if re.fullmatch(pattern, name) else x
  return {name: flat(name, np.asarray(array)) for name, array in tensors.items()}


def pointwise(tensors: dict[str, np.ndarray], pattern: str) -> dict[str, np.ndarray]:
  """The inverse of `matrices`."""
  return {
    name: x[:, :, None, None, None] if re.fullmatch(pattern, name) else x
    for name, x in tensors.items()
  }


def pictures(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Kernels of one frame without its axis, as image networks hold them."""
  return {name: x[:, :, 0] if x.ndim == 5 and x.shape[2] == 1 else x for name, x in tensors.items()}


def split_qkv(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Fused query, key and value layers taken apart."""
  split = {}
  for name, array in tensors.items():
    if '.attn.qkv.' in name and array.shape[0] % 3 == 0:
      for part, third in zip('qkv', np.split(array, 3)):
        split[name.replace('.qkv.', f'.{part}.')] = third
    else:
      split[name] = array
  return split


def join_qkv(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The inverse of `split_qkv`."""
  joined = {}
  for name, array in tensors.items():
    match = re.fullmatch(r'(.*\.attn\.)([qkv])(\.weight|\.bias)', name)
    if not match:
      joined[name] = array
    elif match[2] == 'q':
      joined[f'{match[1]}qkv{match[3]}'] = np.concatenate(
        [tensors[match[1] + part + match[3]] for part in 'qkv']
      )
  return joined


def rename(name: str, table: Sequence[Row]) -> tuple[bool, str | None]:
  """Returns whether a row matches, and the name on its other side."""
  for pattern, template in table:
    match = _regex(pattern).fullmatch(name)
    if match:
      return True, template and template.format(**match.groupdict())
  return False, None


@functools.cache
def _regex(pattern: str) -> re.Pattern:
  return re.compile(re.sub(r'\\\{(\w+)\\\}', r'(?P<\1>\\d+)', re.escape(pattern)))


def _to_here(name: str, array: np.ndarray) -> np.ndarray:
  with np.errstate(over='ignore'):  # the check for finite numbers names what is too large
    array = np.asarray(array, np.float32)
  return np.ascontiguousarray(_transpose(name, array, {5: (2, 3, 4, 1, 0), 2: (1, 0)}))


def _to_original(name: str, array: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(_transpose(name, array, {5: (4, 3, 0, 1, 2), 2: (1, 0)}))


def _transpose(name: str, array: np.ndarray, axes: dict[int, tuple[int, ...]]) -> np.ndarray:
  return (
    array.transpose(axes[array.ndim]) if name.endswith('/kernel') and array.ndim in axes else array
  )
