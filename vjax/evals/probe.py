"""The fc-only probe: extracts features once, then fits L2-regularized multinomial logistic
regression to convergence.

(Ghadiyaram et al. 2019, sec. 4: "fc-only". The paper does not give the regressor; the objective,
solver and grid are ours.)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int
from scipy import special
from scipy.optimize import minimize

from vjax.evals import views
from vjax.types import Batch, Evaluation, Report

_GRID = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def run(
  features: Callable[[Batch], Any],
  *,
  train_batches: Iterable[Batch],
  test_batches: Iterable[Batch],
  num_classes: int,
  seed: int,
  grid: Sequence[float] = _GRID,
  held_out: float = 0.1,
  standardize: bool = True,
  block_size: int = 0,
) -> Report:
  """Fits a linear probe on frozen features of the training videos, and evaluates it on the test
  videos.

  Each view of a training video is an example; test probabilities are averaged over views. After
  lambda is chosen on held-out videos, the probe is fitted again on all training videos.

  Args:
    features: returns frozen features (b, V, D) of this host's videos of a batch; each is extracted
      once.
    train_batches, test_batches: of the two splits.
    num_classes: K.
    seed: of the draw of held-out videos.
    grid: values of lambda to choose from.
    held_out: share of the training videos on which lambda is chosen.
    standardize: subtract the training mean of every feature and divide by its standard deviation.
      Without this, values of lambda cannot be compared across networks: pooled features of a ReLU
      network and of a ViT differ in scale by orders of magnitude.
    block_size: videos whose features are on the device, and in float64, at a time; the others wait
      in float32 in the memory of the host. 0 = all. For large sets: a million of videos with 2048
      features are 8 GB so, and 17 GB on the device else.

  Returns:
    {top1, top5, loss, mean_class_accuracy, count} of the test videos, with train_top1, lambda,
      converged and gradient_norm of the fit.
  """
  x, y, _ = views.collect(features, train_batches)
  x_test, y_test, _ = views.collect(features, test_batches)
  for name, array in (('train', x), ('test', x_test)):
    if array.ndim != 3 or array.shape[2:] != x.shape[2:] or not np.isfinite(array).all():
      raise ValueError(
        f'features of the {name} videos are {array.shape}; need finite (N, V, {x.shape[-1]}), '
        'views apart'
      )
  if standardize:
    x, x_test = standardized(x, x_test, block_size=block_size)
  rows = block_size * x.shape[1]
  best = select(x, y, num_classes, grid=grid, held_out=held_out, seed=seed, block_size=rows)
  weights, bias, info = fit(*_examples(x, y), num_classes, best, block_size=rows)
  train_top1 = 0.0
  for part in _blocks(len(x), block_size):
    found = probabilities(x[part], weights, bias)
    share = len(found) / len(x)
    train_top1 += share * views.scores(found, y[part], num_classes=num_classes)['top1']
  numbers = {
    **views.scores(probabilities(x_test, weights, bias), y_test, num_classes=num_classes),
    'train_top1': train_top1,
    'lambda': best,
    'converged': float(info['converged']),
    'gradient_norm': info['gradient_norm'],
  }
  return Report(numbers)


def fit(
  x: Float[np.ndarray, 'n d'],
  y: Int[np.ndarray, ' n'],
  num_classes: int,
  l2: float,
  *,
  start: tuple[np.ndarray, np.ndarray] | None = None,
  tolerance: float = 1e-7,
  max_steps: int = 5000,
  block_size: int = 0,
) -> tuple[Float[np.ndarray, 'd k'], Float[np.ndarray, ' k'], dict[str, Any]]:
  """Returns W (D, K), b (K,), and {converged, gradient_norm, loss, steps}, at the minimum of mean
  cross-entropy + l2/2 |W|^2.

  The bias is not penalized. The solver is full-batch L-BFGS in float64, from `start` or zeros, with
  block_size rows of x on the default device at a time, 0 = all. gradient_norm: largest element of
  the gradient; converged: whether that is at most `tolerance`.
  """
  if l2 <= 0:
    raise ValueError(f'l2 is {l2}; it must be above 0, or separable classes have no minimum')
  views.check_labels(y, num_classes)
  shape = (x.shape[1] + 1, num_classes)
  first = np.zeros(shape) if start is None else np.concatenate([start[0], start[1][None]])
  with jax.enable_x64(True):
    on_device = lambda part: (jnp.asarray(x[part], jnp.float64), jnp.asarray(y[part]))
    parts = _blocks(len(x), block_size)
    whole = on_device(parts[0]) if len(parts) == 1 else None

    def loss(flat):
      weights = jnp.asarray(flat.reshape(shape))
      if whole is not None:
        value, gradient = _loss_and_gradient(weights, *whole, jnp.float64(l2))
        return float(value), np.asarray(gradient).ravel()
      total, slope = l2 / 2 * float((flat.reshape(shape)[:-1] ** 2).sum()), l2 * flat.reshape(shape)
      slope[-1] = 0
      for part in parts:
        value, gradient = _loss_and_gradient(weights, *on_device(part), jnp.float64(0))
        share = (part.stop - part.start) / len(x)
        total, slope = total + share * float(value), slope + share * np.asarray(gradient)
      return total, slope.ravel()

    # ftol=0: only a small gradient stops the solver, not a flat stretch.
    options = {
      'maxiter': max_steps,
      'maxfun': 2 * max_steps,
      'gtol': tolerance,
      'ftol': 0.0,
      'maxcor': 20,
    }
    found = minimize(loss, first.ravel(), jac=True, method='L-BFGS-B', options=options)
    value, gradient = loss(found.x)
  weights = found.x.reshape(shape)
  steepest = float(np.abs(gradient).max())
  info = {
    'converged': steepest <= tolerance,
    'gradient_norm': steepest,
    'loss': value,
    'steps': int(found.nit),
  }
  return weights[:-1], weights[-1], info


@jax.jit
@jax.value_and_grad
def _loss_and_gradient(weights, x, y, l2):
  """Returns the loss and its gradient. weights: (D + 1, K), the bias last."""
  logits = x @ weights[:-1] + weights[-1]
  return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean() + l2 / 2 * jnp.sum(
    weights[:-1] ** 2
  )


def select(
  x: Float[np.ndarray, 'n v d'],
  y: Int[np.ndarray, ' n'],
  num_classes: int,
  *,
  grid: Sequence[float],
  held_out: float,
  seed: int,
  block_size: int = 0,
) -> float:
  """Returns the l2 of `grid` with the best top-1 on held-out videos; of equal ones, the one with
  the lowest loss.

  All views of a video are on one side. block_size: see `fit`. Raises ValueError where a side would
  be empty.
  """
  if len(grid) == 1:
    return float(grid[0])
  order = np.random.default_rng(seed).permutation(len(y))
  count = round(held_out * len(y))
  if not grid or not 0 < count < len(y):
    raise ValueError(
      f'grid is {tuple(grid)} and held_out {held_out} of {len(y)} videos: both sides need some'
    )
  held, kept = order[:count], order[count:]
  results, start = [], None
  for l2 in sorted(
    grid, reverse=True
  ):  # strongest first: each fit starts at the minimum of the one before
    examples = _examples(x[kept], y[kept])
    weights, bias, _ = fit(*examples, num_classes, l2, start=start, block_size=block_size)
    start = weights, bias
    score = views.scores(probabilities(x[held], *start), y[held], num_classes=num_classes)
    results.append((-score['top1'], score['loss'], l2))
  return float(min(results)[-1])


def probabilities(
  x: Float[np.ndarray, 'n v d'], weights: Float[np.ndarray, 'd k'], bias: Float[np.ndarray, ' k']
) -> Float[np.ndarray, 'n k']:
  """Returns the softmax of x W + b, averaged over views."""
  return special.softmax(x @ weights + bias, axis=-1).mean(1)


def standardized(
  x: Float[np.ndarray, 'n v d'], *others: Float[np.ndarray, 'm v d'], block_size: int = 0
) -> tuple[np.ndarray, ...]:
  """Returns x and others, minus the mean of x over examples, divided by its standard deviation.
  Constant features become 0. block_size: videos that are in float64 at a time, and the result is
  float32; 0 = all, and it is float64."""
  if not block_size:
    x = np.asarray(x, np.float64)
  parts = _blocks(len(x), block_size)
  wide = lambda a, part: np.asarray(a[part], np.float64)
  share = [(part.stop - part.start) / len(x) for part in parts]
  mean = np.sum([s * wide(x, part).mean((0, 1)) for s, part in zip(share, parts)], axis=0)
  if block_size:
    squares = [s * ((wide(x, p) - mean) ** 2).mean((0, 1)) for s, p in zip(share, parts)]
    std = np.sqrt(np.sum(squares, axis=0))
  else:
    std = x.std((0, 1))
  scale = np.where(std > 1e-6 * np.abs(mean), 1 / np.maximum(std, np.finfo(np.float64).tiny), 0.0)
  if not block_size:
    return tuple((np.asarray(a, np.float64) - mean) * scale for a in (x, *others))
  found = tuple(np.empty(a.shape, np.float32) for a in (x, *others))
  for new, old in zip(found, (x, *others)):
    for part in _blocks(len(old), block_size):
      new[part] = (wide(old, part) - mean) * scale
  return found


def _blocks(count: int, size: int) -> list[slice]:
  """Returns the first and last row, as slices, of every block of `size` rows; of all for 0."""
  size = size or max(count, 1)
  return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _examples(x, y):
  """Returns views as examples: (N * V, D) and (N * V,)."""
  return x.reshape(-1, x.shape[-1]), np.repeat(y, x.shape[1])


def check(settings: Mapping[str, Any]) -> None:
  """Raises ValueError for a grid or a share out of range."""
  grid, share = settings.get('grid', _GRID), settings.get('held_out', 0.1)
  if not grid or min(grid) <= 0:
    raise ValueError(f'grid is {tuple(grid)}; it needs weights of the penalty above 0')
  if settings.get('block_size', 0) < 0:
    raise ValueError(f'block_size is {settings["block_size"]}; it must be 0 (all) or more')
  if not 0 < share < 1:
    raise ValueError(f'held_out is {share}; it must be a share of the videos, above 0 and below 1')


METRICS = (
  'top1', 'top5', 'loss', 'mean_class_accuracy', 'count', 'train_top1', 'lambda', 'converged',
  'gradient_norm',
)  # fmt: skip
EVALUATION = Evaluation(run, needs='features', needs_labels=True, check=check, metrics=METRICS)
