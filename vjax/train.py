"""The training step and the loop around it. Knows no task: the objective is a function it is given."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu.metrics import Average

from vjax import ckpt, evaluate, optim, shard, tree
from vjax.build import Experiment
from vjax.metrics import Interval, Log, memory_gib
from vjax.types import Batch, Metrics, TrainState

STOPPED = 75  # exit status after SIGTERM: state is saved, start the same command again (EX_TEMPFAIL)


def train_step(
  state: TrainState, batch: Batch, rng: jax.Array, *, exp: Experiment, mesh
) -> tuple[TrainState, Metrics]:
  """One update. batch: global arrays, video uint8 (B, T, H, W, C). Randomness depends on (rng, step, row) alone, not on
  devices or accumulation."""
  clip_rng, dropout_rng = jax.random.split(jax.random.fold_in(rng, state.step))
  batch = {**batch, 'rng': jax.random.split(clip_rng, batch['video'].shape[0])}

  def gradients(part: Batch, dropout_rng: jax.Array):
    part = {**part, 'video': exp.normalise(part['video'])}
    loss = lambda params: exp.objective(exp.model, params, state.stats, part, dropout_rng, train=True)
    (_, (metrics, stats)), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    return grads, stats, metrics

  if exp.training.accumulate == 1:
    grads, stats, metrics = gradients(batch, dropout_rng)
  else:
    grads, stats, metrics = _accumulate(
      gradients, shard.microbatches(mesh, batch, exp.training.accumulate), dropout_rng
    )
  updates, opt_state = exp.tx.update(grads, state.opt_state, state.params)
  params = jax.tree.map(lambda p, u: p + u.astype(p.dtype), state.params, updates)
  ema = None if state.ema is None else optim.ema_update(state.ema, params, exp.training.ema)
  trained = {n: g for n, g in tree.flatten(grads).items() if not tree.matches(exp.freeze, n)}
  norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in trained.values()))
  metrics = {
    **metrics,
    'gradient_norm': Average.from_model_output(values=norm),
    'rate': Average.from_model_output(values=exp.schedule(state.step)),
  }
  return TrainState(step=state.step + 1, params=params, stats=stats, opt_state=opt_state, ema=ema), metrics


def compiled_step(exp: Experiment, mesh, state: TrainState) -> Callable:
  """train_step under jit on the mesh: (state, global batch, rng) -> (state, metrics). The given state is used up."""
  outputs = (shard.state_shardings(mesh, state), shard.replicated(mesh))
  return jax.jit(partial(train_step, exp=exp, mesh=mesh), donate_argnums=0, out_shardings=outputs)


def _accumulate(gradients: Callable, parts: Batch, rng: jax.Array):
  """Mean of gradients and statistics, merged metrics, over microbatches (count, B / count, ...). Statistics are an
  average of old and new, so their mean over microbatches is what one large batch gives."""
  count = parts['mask'].shape[0]
  rngs = jax.random.split(rng, count)
  at = lambda i: jax.tree.map(lambda x: x[i], parts)
  first = gradients(at(0), rngs[0])

  def add(total, i):
    grads, stats, metrics = gradients(at(i), rngs[i])
    merged = {name: total[2][name].merge(metric) for name, metric in metrics.items()}
    return (jax.tree.map(jnp.add, total[0], grads), jax.tree.map(jnp.add, total[1], stats), merged), None

  (grads, stats, metrics), _ = jax.lax.scan(add, first, jnp.arange(1, count))
  mean = lambda x: jax.tree.map(lambda y: y / count, x)
  return mean(grads), mean(stats), metrics


def init_state(exp: Experiment, mesh, rng: jax.Array) -> tuple[Callable[[], TrainState], TrainState]:
  """(function that makes the initial state on the mesh, the same state as ShapeDtypeStructs with shardings)."""
  video = jnp.zeros((1, exp.clip.frames, exp.clip.crop, exp.clip.crop, 3))

  def make() -> TrainState:
    variables = dict(exp.model.init({'params': rng}, video, train=False))
    params = variables.pop('params')
    ema = jax.tree.map(jnp.copy, params) if exp.training.ema else None
    return TrainState(step=jnp.int32(0), params=params, stats=variables, opt_state=exp.tx.init(params), ema=ema)

  shapes = jax.eval_shape(make)
  shardings = shard.state_shardings(mesh, shapes)
  struct = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
  return jax.jit(make, out_shardings=shardings), jax.tree.map(struct, shapes, shardings)


def _start(exp: Experiment, mesh, checkpoints: ckpt.Checkpoints, rng: jax.Array) -> tuple[TrainState, Interval]:
  """The newest checkpoint's state; else the initial one, warm-started where the config says so."""
  make, target = init_state(exp, mesh, rng)
  if checkpoints.latest is not None:
    state, sums = checkpoints.restore(target)
    logging.info('resuming after step %d', int(state.step))
    return state, Interval(sums)
  state = make()
  if exp.init_path:
    params, stats, report = ckpt.warm_start(
      state.params, state.stats, exp.init_path, skip=exp.init_skip, resize=exp.resize
    )
    logging.info('warm start from %s: %s', exp.init_path, {name: len(rows) for name, rows in report.items()})
    ema = jax.tree.map(np.copy, params) if exp.training.ema else None
    fresh = state.replace(params=params, stats=stats, ema=ema)
    state = jax.tree.map(lambda x, t: jax.device_put(x, t.sharding), fresh, target)
  return state, Interval()


class _Stop:
  """Whether to save and leave: SIGTERM here, or on any host of a pod."""

  def __init__(self):
    self.asked = False
    if threading.current_thread() is threading.main_thread():
      signal.signal(signal.SIGTERM, self._ask)

  def _ask(self, *_) -> None:
    self.asked = True

  def __call__(self, step: int) -> bool:
    if jax.process_count() == 1:
      return self.asked
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)


def check_finite(step: int, means: dict[str, float], ids: np.ndarray, checkpoints: ckpt.Checkpoints) -> None:
  """Raises FloatingPointError naming step, clips and the last good checkpoint where the loss is not finite."""
  if not np.isfinite(means['loss']):
    raise FloatingPointError(
      f'loss is {means["loss"]} at step {step}, on clips {ids.tolist()} of this host (record numbers of the training '
      f'split); the last good checkpoint is that of step {checkpoints.latest}. Lower optim.rate, raise '
      f'optim.warmup, or set optim.clip_norm'
    )


def run(exp: Experiment, workdir: str) -> dict[str, Any]:
  """Trains to the last step, saving and evaluating on the way; returns the result of the final evaluation.

  Exits with status STOPPED after SIGTERM, when everything is saved.
  """
  mesh = shard.mesh(exp.training.fsdp)
  rng = jax.random.key(exp.seed)
  checkpoints = ckpt.Checkpoints(workdir, keep=exp.training.keep)
  state, interval = _start(exp, mesh, checkpoints, jax.random.fold_in(rng, 0))
  start = int(state.step)
  if jax.process_index() == 0:
    ckpt.write_json(f'{workdir}/meta.json', exp.meta)
  step_fn = compiled_step(exp, mesh, state)
  served = evaluate.Served(exp, mesh)
  log = Log(workdir, resume_step=start, total_steps=exp.total_steps)
  stop = _Stop()
  step_rng = jax.random.fold_in(rng, 1)
  batches = exp.train_batches(start)
  began, waited, steps, pending = time.monotonic(), 0.0, 0, None
  try:
    for step in range(start + 1, exp.total_steps + 1):
      asked = time.monotonic()
      host_batch = next(batches)
      waited += time.monotonic() - asked
      ids = host_batch['video_id']
      state, metrics = step_fn(state, shard.to_global(mesh, host_batch), step_rng)
      steps += 1
      # The device works on this step while the host reads the numbers of the one before.
      if pending is not None:
        check_finite(pending[0], interval.add(pending[1]), pending[2], checkpoints)
      pending = (step, metrics, ids)
      last, leave = step == exp.total_steps, stop(step)
      logs, saves = last or step % exp.training.log_steps == 0, last or leave or step % exp.training.save_steps == 0
      evaluates = not last and exp.eval_steps and step % exp.eval_steps == 0
      if logs or saves or evaluates:
        check_finite(step, interval.add(metrics), ids, checkpoints)
        pending = None
      if logs:
        seconds = time.monotonic() - began
        clips = exp.clips_per_step * steps
        speed = {'clips_per_s': clips / seconds, 'data_wait': waited / seconds, 'memory_gib': memory_gib()}
        log.write(step, 'train', {**interval.means(), **speed})
        interval, began, waited, steps = Interval(), time.monotonic(), 0.0, 0
      log.progress(step)
      if saves:
        checkpoints.save(state, interval.sums)
      if evaluates:
        evaluate.run(served.using(state), log=log, step=step)
        began, waited, steps = time.monotonic(), 0.0, 0
      if leave and not last:
        checkpoints.wait()
        logging.warning('stopped by SIGTERM after step %d; saved. The same command continues.', step)
        sys.exit(STOPPED)
    result = evaluate.run(served.using(state), log=log, step=exp.total_steps)
    if jax.process_index() == 0:
      ckpt.write_json(f'{workdir}/result.json', result)
    return result
  finally:
    checkpoints.close()
    log.close()
