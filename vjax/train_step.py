"""One update: gradients, gradient accumulation, the optimizer, and skipping of updates that are not
finite."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from vjax import optim, sharding, tree
from vjax.layers.norm import statistics_of_the_batch
from vjax.types import Batch, Mean, Metrics, TrainState, VideoModel


@dataclass(frozen=True)
class Update:
  """Settings of one update, beside state, batch and objective.

  Attributes:
    model: backbone and head.
    tx: optimizer.
    schedule: learning rate of a step, for the log.
    clip: (T, H, W) of the clips that the model is made for.
    pixels: makes normalized clips (B, T, H, W, 3) float32 of a batch, each of its own row.
    freeze: regular expressions of parameters that are not trained; their gradients do not count in
      the norm.
    grad_accumulation: number of microbatches.
    ema_decay: weight of the old moving average of parameters, 0 = no average is kept.
    skip_nonfinite: skip an update whose loss or gradient is not finite.
  """

  model: VideoModel
  tx: optax.GradientTransformation
  schedule: optax.Schedule
  clip: tuple[int, int, int]
  pixels: Callable[[Batch], jax.Array]
  freeze: tuple[str, ...] = ()
  grad_accumulation: int = 1
  ema_decay: float = 0.0
  skip_nonfinite: bool = False


def train_step(
  state: TrainState,
  batch: Batch,
  rng: jax.Array,
  *,
  update: Update,
  mesh: Mesh,
  objective: Callable,
) -> tuple[TrainState, Metrics]:
  """Updates the state once by `objective`.

  Randomness depends on (rng, step, row) alone, not on devices or gradient accumulation.

  Args:
    state: before the update.
    batch: global arrays, video uint8 (B, T, H, W, C).
    rng: key of the run.
    update: model, optimizer and settings.
    mesh: of the devices.
    objective: see `vjax/objectives`.

  Returns:
    The state after the update, and the means of this step.
  """
  clip_rng, dropout_rng = jax.random.split(jax.random.fold_in(rng, state.step))
  batch = {**batch, 'rng': jax.random.split(clip_rng, batch['video'].shape[0])}

  def gradients(part: Batch, dropout_rng: jax.Array):
    part = {**part, 'video': sharding.by_rows(mesh, update.pixels)(part)}
    loss = lambda params: objective(
      update.model, params, state.stats, part, dropout_rng, train=True
    )
    (_, (metrics, stats)), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    return grads, stats, metrics

  if update.grad_accumulation == 1:
    grads, stats, metrics = gradients(batch, dropout_rng)
  else:
    parts = sharding.microbatches(mesh, batch, update.grad_accumulation)
    grads, stats, metrics = _accumulate(gradients, parts, dropout_rng)
  stats = keep_frozen(state.stats, stats, update.freeze)
  updates, opt_state = update.tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  ema = None if state.ema is None else optim.ema_update(state.ema, params, update.ema_decay)
  trained = {n: g for n, g in tree.flatten(grads).items() if not tree.matches(update.freeze, n)}
  norm = optax.global_norm(trained)
  metrics = {
    **metrics,
    'gradient_norm': Mean.of(norm),
    'learning_rate': Mean.of(update.schedule(state.step)),
  }
  new = TrainState(step=state.step + 1, params=params, stats=stats, opt_state=opt_state, ema=ema)
  return _skip_nonfinite(state, new, metrics) if update.skip_nonfinite else (new, metrics)


def batch_statistics(
  state: TrainState,
  batch: Batch,
  rng: jax.Array,
  number: jax.Array,
  *,
  update: Update,
  mesh: Mesh,
  objective: Callable,
) -> Any:
  """Returns the statistics of a training batch by itself, of the network that is evaluated: the
  parameters of `state`, or their moving average. Nothing is trained.

  Randomness depends on (rng, step, number, row) alone; number: of the batch among those that
  statistics are averaged over. The other arguments are those of `train_step`.
  """
  params = state.params if state.ema is None else state.ema
  key = jax.random.fold_in(jax.random.fold_in(rng, state.step), number)
  clip_rng, dropout_rng = jax.random.split(key)
  batch = {**batch, 'rng': jax.random.split(clip_rng, batch['video'].shape[0])}

  def statistics(part: Batch, dropout_rng: jax.Array) -> Any:
    part = {**part, 'video': sharding.by_rows(mesh, update.pixels)(part)}
    with statistics_of_the_batch():
      return objective(update.model, params, state.stats, part, dropout_rng, train=True)[1][1]

  count = update.grad_accumulation
  if count == 1:
    return statistics(batch, dropout_rng)
  parts, rngs = sharding.microbatches(mesh, batch, count), jax.random.split(dropout_rng, count)
  found = jax.lax.map(lambda pair: statistics(*pair), (parts, rngs))
  return jax.tree.map(lambda x: x.mean(0), found)


def compiled_statistics(
  update: Update, mesh: Mesh, state: TrainState, objective: Callable
) -> Callable:
  """Returns batch_statistics under jit on the mesh: (state, global batch, rng, number) -> stats."""
  outputs = sharding.state_shardings(mesh, state.stats)
  step = partial(batch_statistics, update=update, mesh=mesh, objective=objective)
  return jax.jit(step, out_shardings=outputs)


def keep_frozen(old: Any, new: Any, freeze: Sequence[str]) -> Any:
  """Returns `new` with the old running averages of layers whose parameters are frozen:
  'backbone/.*' freezes those of all its norms."""
  if not freeze:
    return new
  before = tree.flatten(old)
  frozen = lambda name: tree.matches(
    freeze, name.partition('/')[2]
  )  # a name begins with its collection
  return tree.map_named(lambda name, x: before[name] if frozen(name) else x, new)


def _skip_nonfinite(
  old: TrainState, new: TrainState, metrics: Metrics
) -> tuple[TrainState, Metrics]:
  """Returns (new, metrics) where loss and gradient norm are finite; else the old state one step
  further, and metrics that count nothing but the skipped step. Means in the log are then over the
  updates made, not over the steps."""
  finite = jnp.isfinite(metrics['loss'].total) & jnp.isfinite(metrics['gradient_norm'].total)
  choose = lambda x, y: jnp.where(finite, x, y)
  metrics = jax.tree.map(lambda x: choose(x, jnp.zeros_like(x)), metrics)
  metrics = {**metrics, 'skipped': Mean.of(1.0 - finite)}
  return jax.tree.map(choose, new, old.replace(step=new.step)), metrics


def compiled_step(update: Update, mesh: Mesh, state: TrainState, objective: Callable) -> Callable:
  """Returns train_step under jit on the mesh: (state, global batch, rng) -> (state, metrics). The
  given state is donated: do not use it again."""
  outputs = (sharding.state_shardings(mesh, state), sharding.replicated(mesh))
  step = partial(train_step, update=update, mesh=mesh, objective=objective)
  return jax.jit(step, donate_argnums=0, out_shardings=outputs)


def _accumulate(gradients: Callable, parts: Batch, rng: jax.Array):
  """Returns the mean of gradients and statistics, and merged metrics, over microbatches (count, B /
  count, ...).

  Statistics are an average of old and new, so their mean over microbatches equals that of one large
  batch.
  """
  count = parts['valid'].shape[0]
  rngs = jax.random.split(rng, count)
  at = lambda i: jax.tree.map(lambda x: x[i], parts)
  first = gradients(at(0), rngs[0])

  def add(total, i):
    grads, stats, metrics = gradients(at(i), rngs[i])
    merged = {name: total[2][name].merge(metric) for name, metric in metrics.items()}
    return (
      jax.tree.map(jnp.add, total[0], grads),
      jax.tree.map(jnp.add, total[1], stats),
      merged,
    ), None

  (grads, stats, metrics), _ = jax.lax.scan(add, first, jnp.arange(1, count))
  mean = lambda x: jax.tree.map(lambda y: y / count, x)
  return mean(grads), mean(stats), metrics


def init_state(
  update: Update, mesh: Mesh, rng: jax.Array
) -> tuple[Callable[[], TrainState], TrainState]:
  """Returns a function that makes the initial state on the mesh, and the same state as
  ShapeDtypeStructs with shardings."""
  video = jnp.zeros((1, *update.clip, 3))

  def make() -> TrainState:
    variables = dict(update.model.init({'params': rng}, video, train=False))
    params = variables.pop('params')
    ema = jax.tree.map(jnp.copy, params) if update.ema_decay else None
    return TrainState(
      step=jnp.int32(0), params=params, stats=variables, opt_state=update.tx.init(params), ema=ema
    )

  shapes = jax.eval_shape(make)
  shardings = sharding.state_shardings(mesh, shapes)
  struct = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
  # It runs once: on a CPU, LLVM takes longer to optimize the drawing of many parameters than it
  # saves.
  options = {'xla_backend_optimization_level': 1} if jax.default_backend() == 'cpu' else None
  return (
    jax.jit(make, out_shardings=shardings, compiler_options=options),
    jax.tree.map(struct, shapes, shardings),
  )
