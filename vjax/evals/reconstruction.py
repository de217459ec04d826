"""Reconstructions of a masked autoencoder for TensorBoard: a few test clips, original, masked, rebuilt."""

from collections.abc import Callable, Iterable

import numpy as np

from vjax import pictures
from vjax.types import Batch

READS = 'reconstructions'


def evaluate(
  reconstructions: Callable,
  batches: Iterable[Batch],
  *,
  mean: tuple[float, ...],
  std: tuple[float, ...],
  count: int = 2,
) -> dict[str, np.ndarray]:
  """{'clip0': picture (H, W, 3) uint8, ...} of the first `count` clips of this host."""
  found = reconstructions(next(iter(batches))['video'][:count, 0])
  return {f'clip{i}': pictures.array(pictures.reconstructions(*rows, mean, std)) for i, rows in enumerate(found)}
