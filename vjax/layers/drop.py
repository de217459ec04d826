"""Stochastic depth."""

import itertools
from collections.abc import Sequence

import flax.linen as nn
import jax
from jaxtyping import Array, Float


class DropPath(nn.Module):
  """Stochastic depth of a residual branch (B, ...) (Huang et al. 2016).

  In training, the branch is zero for a random `rate` of the samples and scaled by 1 / (1 - rate)
  for the others (per sample, as in timm and PySlowFast). Needs the random stream 'dropout'.
  """

  rate: float

  @nn.compact
  def __call__(self, x: Float[Array, 'b ...'], train: bool) -> Float[Array, 'b ...']:
    if not 0 <= self.rate < 1:
      raise ValueError(
        f'drop_path is {self.rate}; it must lie in [0, 1): it is the share of samples that skip a '
        'block'
      )
    if not train or self.rate == 0:
      return x
    keep = 1 - self.rate
    alive = jax.random.bernoulli(
      self.make_rng('dropout'), keep, (x.shape[0],) + (1,) * (x.ndim - 1)
    )
    return x * alive.astype(x.dtype) / keep


def staged_rates(rate: float, depths: Sequence[int]) -> list[tuple[float, ...]]:
  """Returns the drop rates of the blocks of each stage, linear over all blocks."""
  rates = iter(linear_rates(rate, sum(depths)))
  return [tuple(itertools.islice(rates, depth)) for depth in depths]


def linear_rates(rate: float, depth: int) -> list[float]:
  """Returns the drop rate of each of `depth` blocks: 0 in the first, `rate` in the last, linear in
  between."""
  return [rate * i / max(depth - 1, 1) for i in range(depth)]
