"""Names of networks that a training script holds in modules of its own: prefixes, and classifiers
in sequences or missing."""

import re
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from vjax.convert import _table

HEAD = 'params/head/'
MAX_PARTS = 4  # of a prefix


def own_prefix(names: Collection[str], rows: Sequence[_table.Row]) -> str:
  """Returns the first parts that all names share, where a source's table knows more of them
  without; '' = none."""
  best, prefix, most = '', '', _known(names, rows)
  for _ in range(MAX_PARTS):
    rest = [name[len(prefix) :] for name in names]
    first = {name.partition('.')[0] for name in rest}
    if len(first) != 1 or not all('.' in name for name in rest):
      break
    prefix += f'{first.pop()}.'
    count = _known([name[len(prefix) :] for name in names], rows)
    if count > most:
      best, most = prefix, count
  return best


def hint(names: Collection[str], rows: Sequence[_table.Row]) -> str:
  """Returns the flag that takes the names of one part alone, where the table knows more of those
  than of all as they are; '' = none."""
  most = _known(names, rows)
  for part, _ in Counter(name.partition('.')[0] for name in names).most_common(5):
    inner = [name for name in names if name.startswith(f'{part}.')]
    prefix = own_prefix(inner, rows)
    if prefix and _known([name.removeprefix(prefix) for name in inner], rows) > most:
      return f'; {len(inner)} of {len(names)} names begin {prefix!r}: --prefix={prefix} takes those'
  return ''


def flat_classifier(
  tensors: dict[str, np.ndarray], rows: Sequence[_table.Row]
) -> dict[str, np.ndarray]:
  """Tensors with the classifier's names where it is the one layer with weights of a sequence.

  Raises ValueError where the sequence has several such layers.
  """
  bases = [
    original.removesuffix('.weight') for original, here in rows if here == f'{HEAD}linear/kernel'
  ]
  if any(f'{base}.weight' in tensors for base in bases):
    return tensors
  for base in bases:
    inside = re.compile(rf'{re.escape(base)}\.(\d+(?:\.\d+)*)\.\w+')
    places = {name: match[1] for name in tensors if (match := inside.fullmatch(name))}
    layers = sorted({f'{base}.{place}' for place in places.values()})
    if len(layers) > 1:
      raise ValueError(
        f'the classifier {base!r} is a sequence of {len(layers)} layers with weights '
        f'({", ".join(layers)}); one linear layer is read: --headless (headless=True) leaves the '
        'classifier out and converts the backbone'
      )
    if layers:
      return {name.replace(f'{layers[0]}.', f'{base}.', 1): x for name, x in tensors.items()}
  return tensors


def without_classifier(
  tensors: dict[str, np.ndarray], rows: Sequence[_table.Row]
) -> dict[str, np.ndarray]:
  """Tensors but for those of the head, and of a sequence in its place."""
  head = {original.rpartition('.')[0] for original, here in rows if here and here.startswith(HEAD)}
  kept = lambda name: not any(name.startswith(f'{base}.') for base in head)
  return {name: array for name, array in tensors.items() if kept(name)}


def is_of_head(name: str, rows: Sequence[_table.Row]) -> bool:
  """Returns whether a name of the original is of the head."""
  return (_table.rename(name, rows)[1] or '').startswith(HEAD)


def _known(names: Collection[str], rows: Sequence[_table.Row]) -> int:
  return sum(_table.rename(name, rows)[0] for name in names)
