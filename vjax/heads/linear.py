"""The linear classifier on pooled features, and its fully convolutional form for larger test
crops."""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.types import Features


def uniform_fan_in() -> Callable:
  """Returns the initializer of Caffe2's classifiers (VMZ): uniform within +-sqrt(3 / fan_in)."""
  return nn.initializers.variance_scaling(1.0, 'fan_in', 'uniform')


class Head(nn.Module):
  """Dropout, then one linear layer, 'linear', to num_classes logits.

  Attributes:
    num_classes: K.
    dropout: rate.
    kernel_std: weights start as N(0, kernel_std^2), e.g. 2e-5 to fine-tune a masked autoencoder
      (Feichtenhofer et al. 2022); None: uniform within +-sqrt(3 / fan_in) (VMZ).
    window: (t, h, w) of the average pool of the fully convolutional form, 0 = the whole axis.
      Dropout and classifier act on every position of the pooled maps, and the positions are
      averaged. None: the pooled features are classified.
    average: average over positions at test time, of 'probabilities' (VMZ: T / 8 frames, 7x7;
      PySlowFast: all frames, 7x7) or of 'logits' (Chen et al. 2021: every frame by itself, (1, 0,
      0)).
    hidden: width of a layer, 'hidden', without bias, with a ReLU, before the dropout (X3D: 2048); 0
      = none.
    bias_start: initial biases; PySlowFast's transformers have 0.02.
  """

  num_classes: int
  dropout: float = 0.0
  kernel_std: float | None = None
  window: Sequence[int] | None = None
  average: str = 'probabilities'
  hidden: int = 0
  bias_start: float = 0.0

  @nn.compact
  def __call__(self, features: Features, *, train: bool) -> Float[Array, 'b k']:
    """Returns logits (B, K), float32 at least.

    With a window, train=False and average='probabilities', these are the logarithms of the averaged
    probabilities: their softmax is that average.

    Raises ValueError if a map is smaller than the window, if maps have different numbers of
    positions, or for an unknown average.
    """
    if self.average not in ('probabilities', 'logits'):
      raise ValueError(f"average={self.average!r}: it must be 'probabilities' or 'logits'")
    if not 0 <= self.dropout < 1:
      raise ValueError(f'dropout is {self.dropout}; it must be 0 or more, and below 1')
    x = features.pooled if self.window is None else self._positions(features)  # (B, D) or (B, P, D)
    x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
    if self.hidden:
      start = nn.initializers.he_normal()
      x = nn.relu(
        nn.Dense(self.hidden, use_bias=False, dtype=x.dtype, kernel_init=start, name='hidden')(x)
      )
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    init = uniform_fan_in() if self.kernel_std is None else nn.initializers.normal(self.kernel_std)
    bias = nn.initializers.constant(self.bias_start)
    scores = nn.Dense(
      self.num_classes, dtype=x.dtype, kernel_init=init, bias_init=bias, name='linear'
    )(x)
    if self.window is None:
      return scores
    if train or self.average == 'logits':
      return scores.mean(1)
    return jax.nn.logsumexp(jax.nn.log_softmax(scores), axis=1) - math.log(scores.shape[1])

  def _positions(self, features: Features) -> Float[Array, 'b p d']:
    """Returns the means over every window of the maps, the maps side by side."""
    means = []
    for x in features.maps:
      window = tuple(n or size for n, size in zip(self.window, x.shape[1:4]))
      if any(size < n for size, n in zip(x.shape[1:4], window)):
        raise ValueError(
          f'the map is {x.shape[1:4]} (time, height, width), smaller than window={self.window}: '
          'test with more frames or pixels, or set window=None for the plain mean'
        )
      x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
      means.append(nn.avg_pool(x, window).reshape(x.shape[0], -1, x.shape[-1]))
    if len({x.shape[1] for x in means}) > 1:
      raise ValueError(
        f'window={self.window} fits {[x.shape[1] for x in means]} times into the maps of the '
        'pathways: their positions must correspond, give 0 for the axis of time'
      )
    return jnp.concatenate(means, axis=-1)
