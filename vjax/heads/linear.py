"""The linear classifier on pooled features, and its fully convolutional form for larger test crops."""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.types import Features


def uniform_fan_in() -> Callable:
  """Uniform within +-sqrt(3 / fan_in), as Caffe2 starts classifiers (VMZ)."""
  return nn.initializers.variance_scaling(1.0, 'fan_in', 'uniform')


class Head(nn.Module):
  """Dropout, then one linear layer, 'linear', to num_classes scores.

  kernel_std: weights start as N(0, kernel_std^2), e.g. 2e-5 to fine-tune a masked autoencoder (Feichtenhofer et al.
  2022); None: uniform within +-sqrt(3 / fan_in) (VMZ). Biases start at 0.
  window: (t, h, w) of the average pool of the fully convolutional form: the classifier looks at every position of
  the pooled map, and at test time the *probabilities* of the positions are averaged (VMZ: 7x7 pixels, T / 8 frames).
  hidden: width of a layer without bias, 'hidden', and a ReLU before the dropout (X3D: 2048).
  """

  num_classes: int
  dropout: float = 0.0
  kernel_std: float | None = None
  window: Sequence[int] | None = None
  hidden: int = 0

  @nn.compact
  def __call__(self, features: Features, *, train: bool) -> Float[Array, 'b k']:
    """Scores (B, K) before softmax, float32 at least. With a window and train=False they are logarithms of the averaged
    probabilities, so that their softmax is that average. Raises ValueError if the map is smaller than the window."""
    x = features.pooled if self.window is None else self._positions(features)  # (B, D) or (B, P, D)
    x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
    if self.hidden:
      start = nn.initializers.he_normal()
      x = nn.relu(nn.Dense(self.hidden, use_bias=False, dtype=x.dtype, kernel_init=start, name='hidden')(x))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    init = uniform_fan_in() if self.kernel_std is None else nn.initializers.normal(self.kernel_std)
    scores = nn.Dense(self.num_classes, dtype=x.dtype, kernel_init=init, name='linear')(x)
    if self.window is None:
      return scores
    if train:
      return scores.mean(1)
    return jax.nn.logsumexp(jax.nn.log_softmax(scores), axis=1) - math.log(scores.shape[1])

  def _positions(self, features: Features) -> Float[Array, 'b p d']:
    """Means over every window of the map."""
    if len(features.maps) != 1:
      raise ValueError(f'window={self.window} needs a backbone with one map, this one has {len(features.maps)}')
    x = features.maps[0]
    if any(size < n for size, n in zip(x.shape[1:4], self.window)):
      raise ValueError(
        f'the map is {x.shape[1:4]} (time, height, width), smaller than window={self.window}: test with more frames '
        'or pixels, or set window=None for the plain mean'
      )
    x = x.astype(jnp.promote_types(jnp.float32, x.dtype))
    return nn.avg_pool(x, self.window).reshape(x.shape[0], -1, x.shape[-1])
