"""The training loop: resume or start, step, log, save, evaluate. It knows no task: objectives are
values."""

import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjax import ckpt, evaluate, shard, train_step
from vjax.build import Experiment
from vjax.metrics import Interval, Log, memory_gib, writing
from vjax.types import Batch, TrainState

MAX_SKIPPED = 20  # steps in a row that train.skip_nonfinite leaves out before it gives up
STOPPED = (
  75  # exit status after SIGTERM: state is saved, start the same command again (EX_TEMPFAIL)
)


def _start(
  exp: Experiment, mesh, checkpoints: ckpt.Checkpoints, rng: jax.Array
) -> tuple[TrainState, Interval]:
  """The newest checkpoint's state; else the initial one, warm-started where the config says so."""
  make, target = train_step.init_state(exp.update, mesh, rng)
  if checkpoints.latest is not None:
    state, sums = checkpoints.restore(target)
    logging.info('resuming after step %d', int(state.step))
    return state, Interval(sums)
  state = make()
  if exp.init_path:
    params, stats, report = ckpt.warm_start(state.params, state.stats, exp.init_path, **exp.warm)
    logging.info(
      'warm start from %s: %s', exp.init_path, {name: len(rows) for name, rows in report.items()}
    )
    fresh, target = state.replace(params=params, stats=stats, ema=None), target.replace(ema=None)
    state = jax.tree.map(lambda x, t: jax.device_put(x, t.sharding), fresh, target)
    state = state.replace(
      ema=jax.tree.map(jnp.copy, state.params) if exp.training.ema_decay else None
    )
  return state, Interval()


class _Stop:
  """Whether to save and leave: SIGTERM here, or on any host of a pod."""

  def __init__(self, mesh):
    self.asked, self._mesh, self._before, self._answer = False, mesh, None, None
    self._handles = threading.current_thread() is threading.main_thread()
    if self._handles:
      self._before = signal.signal(signal.SIGTERM, self._ask)

  def _ask(self, *_) -> None:
    self.asked = True

  def __call__(self) -> bool:
    """The same on all hosts, which must ask alike often. In a pod it speaks of the time of the last
    question: the answer of this one is on its way while the device works."""
    if jax.process_count() == 1:
      return self.asked
    answer = self._answer is not None and float(self._answer) > 0
    self._answer = shard.any_host(self._mesh, self.asked)
    return answer

  def here(self) -> bool:
    """Whether this process can leave without asking others."""
    return self.asked and jax.process_count() == 1

  def close(self) -> None:
    """Gives the signal back; one that comes while we are leaving anyway does nothing."""
    if self._handles:
      signal.signal(
        signal.SIGTERM, signal.SIG_IGN if self.asked else self._before or signal.SIG_DFL
      )


class _Watch:
  """Stops a run whose numbers are no longer finite, or lets it go on where its steps skip what is
  not."""

  def __init__(self, checkpoints: ckpt.Checkpoints, skips: bool):
    self._checkpoints, self._skips, self._in_a_row = checkpoints, skips, 0
    self._finite = jax.jit(
      lambda state: jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(state)]).all()
    )

  def step(self, step: int, means: dict[str, float], ids: np.ndarray) -> None:
    """Raises FloatingPointError naming step, clips and the last good checkpoint."""
    clips = f'on clips {ids.tolist()} of this host (record numbers of the training split)'
    if self._skips:
      self._in_a_row = self._in_a_row + 1 if means['skipped'] else 0
      if means['skipped']:
        logging.warning('step %d was skipped: loss or gradient is not finite, %s', step, clips)
      if self._in_a_row == MAX_SKIPPED:
        self._stop(
          f'{MAX_SKIPPED} steps in a row were skipped, the last being step {step}, {clips}'
        )
      return
    for name in ('loss', 'gradient_norm'):
      if not np.isfinite(means[name]):
        self._stop(f'{name} is {means[name]} at step {step}, {clips}')

  def state(self, state: TrainState) -> None:
    """Raises FloatingPointError for a state that is not worth saving."""
    if not bool(self._finite(state)):
      self._stop(f'parameters or optimizer state are not finite after step {int(state.step)}')

  def _stop(self, what: str) -> None:
    self._checkpoints.wait()
    raise FloatingPointError(
      f'{what}; {self._checkpoints.last_good()}. Lower optim.learning_rate, lengthen its warm-up, '
      'set '
      f'optim.clip_norm, or have single bad steps left out by train.skip_nonfinite'
    )


def run(exp: Experiment, workdir: str) -> dict[str, Any]:
  """Trains to the last step, saving and evaluating on the way; returns the result of the final
  evaluation.

  Exits with status STOPPED after SIGTERM, when everything is saved.
  """
  mesh = shard.mesh(exp.training.fsdp)
  checkpoints = ckpt.Checkpoints(workdir, keep=exp.training.keep)
  stop, log = _Stop(mesh), None
  try:
    rng = jax.random.key(exp.seed)
    state, interval = _start(exp, mesh, checkpoints, jax.random.fold_in(rng, 0))
    if jax.process_index() == 0:
      with writing(workdir):
        ckpt.write_json(f'{workdir}/meta.json', exp.meta)
    log = Log(workdir, resume_step=int(state.step), total_steps=exp.total_steps)
    result = _loop(exp, mesh, state, interval, jax.random.fold_in(rng, 1), checkpoints, log, stop)
    checkpoints.wait()
    if jax.process_index() == 0:
      with writing(workdir):
        ckpt.write_json(f'{workdir}/result.json', result)
  except BaseException as error:
    # In a pod all hosts must close together; an error here may be nobody else's.
    if jax.process_count() == 1 or isinstance(error, SystemExit):
      for open_one in filter(None, (checkpoints, log)):
        with contextlib.suppress(OSError):
          open_one.close()
    stop.close()
    raise
  for open_one in (checkpoints, log, stop):
    open_one.close()
  return result


def _next(batches: Iterator, checkpoints: ckpt.Checkpoints) -> Batch:
  """The next batch. An error of reading says which checkpoint the run will continue from."""
  try:
    return next(batches)
  except (OSError, ValueError) as error:
    checkpoints.wait()
    kind = OSError if isinstance(error, OSError) else ValueError
    raise kind(f'{error}; {checkpoints.last_good()}') from error


def _loop(
  exp: Experiment,
  mesh,
  state: TrainState,
  interval: Interval,
  rng: jax.Array,
  checkpoints: ckpt.Checkpoints,
  log: Log,
  stop: _Stop,
) -> dict[str, Any]:
  """From `state` to the last step and its evaluation."""
  start = int(state.step)
  compiled: dict[Any, Callable] = {}  # one for each setting of an objective whose settings change
  served, watch = evaluate.Served(exp, mesh), _Watch(checkpoints, exp.training.skip_nonfinite)
  served.leave = stop.here
  due = lambda step: exp.eval_steps and 0 < step < exp.total_steps and step % exp.eval_steps == 0

  def leave(step: int) -> None:
    checkpoints.wait()
    logging.warning('stopped by SIGTERM after step %d; saved. The same command continues.', step)
    sys.exit(STOPPED)

  def evaluated(step: int) -> dict[str, Any]:
    try:
      return evaluate.run(served.using(state), log=log, step=step)
    except evaluate.Interrupted:
      leave(step)

  if due(start):  # the run before saved this step, and may have ended before the evaluation did
    evaluated(start)
  batches = exp.train_batches(start)
  began, waited, steps, pending = time.monotonic(), 0.0, 0, None
  for step in range(start + 1, exp.total_steps + 1):
    asked = time.monotonic()
    host_batch = _next(batches, checkpoints)
    waited += time.monotonic() - asked
    ids = host_batch['video_id']
    objective, settings = exp.objective_at(step - 1)
    if settings not in compiled:
      compiled[settings] = train_step.compiled_step(exp.update, mesh, state, objective)
    state, metrics = compiled[settings](state, shard.to_global(mesh, host_batch), rng)
    steps += 1
    # The device works on this step while the host reads the numbers of the one before.
    if pending is not None:
      watch.step(pending[0], interval.add(pending[1]), pending[2])
    checkpoints.check()
    pending = (step, metrics, ids)
    last, leaving = step == exp.total_steps, stop()
    logs, evaluates = last or step % exp.training.log_steps == 0, due(step)
    saves = (
      last or leaving or evaluates or step % exp.training.save_steps == 0
    )  # evaluations may be killed
    if logs or saves:
      watch.step(step, interval.add(metrics), ids)
      pending = None
    if logs:
      seconds = time.monotonic() - began
      speed = {'clips_per_s': exp.clips_per_step * steps / seconds, 'data_wait': waited / seconds}
      count = {'skipped': interval.sums['skipped'][0]} if exp.training.skip_nonfinite else {}
      log.write(step, 'train', {**interval.means(), **count, **speed, 'memory_gib': memory_gib()})
      interval, began, waited, steps = Interval(), time.monotonic(), 0.0, 0
    log.progress(step)
    if saves:
      watch.state(state)
      checkpoints.save(state, interval.sums)
      log.sync()
    if leaving and not last:
      leave(step)
    if evaluates:
      evaluated(step)
      began, waited, steps = time.monotonic(), 0.0, 0
  return evaluated(exp.total_steps)
