"""Variables of networks for tests."""

import jax
import numpy as np

from vjax import tree
from vjax.kernels import conv


def variables_of(net, video, seed: int = 0) -> dict:
  """Variables of the network's shapes, made without compiling it: kernels and biases random, scales
  and statistics near those of the start, but no two alike."""
  with conv.formulation('lax'):  # traces faster
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), video)
  rng = np.random.default_rng(seed)

  def draw(name, x):
    values = rng.standard_normal(x.shape).astype(np.float32)
    if name.endswith('kernel'):
      return values * (2 / np.prod(x.shape[:-1])) ** 0.5
    return 0.1 * values if name.endswith(('bias', 'mean')) else 1 + 0.1 * np.abs(values)

  return tree.map_named(draw, shapes)
