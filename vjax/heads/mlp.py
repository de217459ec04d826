"""A classifier of two layers (Liang et al. 2022, MultiTrain: one for each dataset)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.layers import attention
from vjax.types import Features


class Head(nn.Module):
  """Two-layer classifier: linear layer 'fc1' to `hidden`, exact GELU, dropout, linear layer 'fc2'
  to num_classes logits. Weights start as N(0, 0.02^2), biases at 0."""

  num_classes: int
  hidden: int = 2048
  dropout: float = 0.0

  @nn.compact
  def __call__(self, features: Features, *, train: bool) -> Float[Array, 'b k']:
    """Returns logits (B, K), float32 at least."""
    x = features.pooled.astype(jnp.promote_types(jnp.float32, features.pooled.dtype))
    dense = lambda width, name: nn.Dense(
      width, dtype=x.dtype, kernel_init=nn.initializers.normal(0.02), name=name
    )
    x = attention.gelu(dense(self.hidden, 'fc1')(x))
    return dense(self.num_classes, 'fc2')(nn.Dropout(self.dropout, deterministic=not train)(x))
