"""The training loop: resume or start, step, log, save, evaluate. The loop depends on no task: the
objective is an argument."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vjax import budget, build, checkpoint, evaluate, sharding, train_step
from vjax.build import Experiment
from vjax.code_version import code_version
from vjax.feed import Feed
from vjax.guards import NonFiniteGuard, PreemptionGuard
from vjax.lock import WorkdirLock
from vjax.metrics import Interval, Log, Profiler, Totals, memory_gib, writing
from vjax.types import Batch, TrainState

STOPPED = (
  75  # exit status after SIGTERM: state is saved, start the same command again (EX_TEMPFAIL)
)


def run(exp: Experiment, workdir: str) -> dict[str, Any]:
  """Trains to the last step, saving and evaluating on the way.

  Returns:
    The result of the final evaluation with the cost of the training, as in result.json.

  Exits with status STOPPED after SIGTERM, when everything is saved.
  """
  mesh = sharding.mesh(exp.training.fsdp)
  before = checkpoint.run_in(workdir)
  if before is not None and 'config' in before:
    checkpoint.check_continues(before, exp.meta, workdir, labeled=exp.objective.needs_labels)
  lock = WorkdirLock(workdir) if jax.process_index() == 0 else contextlib.nullcontext()
  with lock:
    return _run(exp, workdir, mesh)


def _run(exp: Experiment, workdir: str, mesh: Mesh) -> dict[str, Any]:
  checkpoints = checkpoint.Checkpoints(workdir, keep=exp.training.keep)
  preemption = PreemptionGuard(mesh)
  log = None
  try:
    rng = jax.random.key(exp.seed)
    state, interval, totals = _start(exp, mesh, checkpoints, jax.random.fold_in(rng, 0))
    _write_json(workdir, 'meta.json', exp.meta)
    log = Log(workdir, resume_step=int(state.step), total_steps=exp.total_steps)
    clips = exp.total_steps * exp.clips_per_step
    frames = exp.clip.num_frames
    logging.info(
      '%s', budget.planned(clips / exp.clips_per_epoch, clips, frames, exp.frames_per_epoch)
    )
    loop = _Loop(exp, mesh, workdir, checkpoints, log, preemption, totals)
    with contextlib.closing(loop):
      result = loop.run(state, interval, jax.random.fold_in(rng, 1))
    checkpoints.wait()
    _write_json(workdir, 'result.json', result)
  except BaseException as error:
    # In a pod all hosts must close together, but an error here may be on this host alone.
    if jax.process_count() == 1 or isinstance(error, SystemExit):
      for open_one in filter(None, (checkpoints, log)):
        with contextlib.suppress(OSError):
          open_one.close()
    preemption.close()
    raise
  for open_one in (checkpoints, log, preemption):
    open_one.close()
  return result


def _start(
  exp: Experiment, mesh: Mesh, checkpoints: checkpoint.Checkpoints, rng: jax.Array
) -> tuple[TrainState, Interval, Totals]:
  """Returns the newest checkpoint's state; else the initial one, with a warm start where the config
  says so."""
  make, target = train_step.init_state(exp.update, mesh, rng)
  if checkpoints.latest is not None:
    state, progress = checkpoints.restore(target)
    if int(state.step) > exp.total_steps:
      raise ValueError(
        f'the run is at step {int(state.step)}, beyond the end of the training at step '
        f'{exp.total_steps}: make it longer (config.optim.total_steps, total_epochs or '
        'total_clips), or use another --workdir'
      )
    logging.info('resuming after step %d', int(state.step))
    counts = {'videos': exp.data.batch_size, 'clips': exp.clips_per_step}
    totals = Totals.resumed(progress['totals'], int(state.step), **counts)
    return state, Interval(progress['sums']), totals
  state = make()
  if exp.init_path:
    params, stats, report = checkpoint.warm_start(
      state.params, state.stats, exp.init_path, **exp.warm
    )
    counts = {name: len(rows) for name, rows in report.items()}
    logging.info('warm start from %s: %s', exp.init_path, counts)
    fresh, target = state.replace(params=params, stats=stats, ema=None), target.replace(ema=None)
    state = jax.tree.map(lambda x, t: jax.device_put(x, t.sharding), fresh, target)
    ema = jax.tree.map(jnp.copy, state.params) if exp.training.ema_decay else None
    state = state.replace(ema=ema)
  return state, Interval(), Totals()


class _Loop:
  """The loop from a state to the last step and its evaluation."""

  def __init__(
    self,
    exp: Experiment,
    mesh: Mesh,
    workdir: str,
    checkpoints: checkpoint.Checkpoints,
    log: Log,
    preemption: PreemptionGuard,
    totals: Totals,
  ):
    self.exp, self.mesh, self.checkpoints, self.log = exp, mesh, checkpoints, log
    self.preemption, self.totals = preemption, totals
    self.profiler = Profiler(exp.training.profile, workdir)
    self.finite = NonFiniteGuard(checkpoints, exp.training.skip_nonfinite)
    self.evaluator = evaluate.of_experiment(exp, mesh)
    self.evaluator.leave, self.evaluator.workdir = preemption.alone, workdir
    self.best = None
    if exp.training.keep_best:
      continues = checkpoints.latest is not None
      self.best = checkpoint.Best(workdir, exp.training.keep_best, exp.meta, continues=continues)
    self.feed: Feed | None = None
    self.compiled: dict[Any, Callable] = {}  # update by settings of the objective
    self.statistics: dict[Any, Callable] = {}  # precise_bn's pass, likewise

  def run(self, state: TrainState, interval: Interval, rng: jax.Array) -> dict[str, Any]:
    """Returns the result of the final evaluation, with the cost of the training."""
    exp, training, start = self.exp, self.exp.training, int(state.step)
    if training.profile and training.profile[1] <= start:
      logging.warning('train.profile is %s, but the run is at step %d', training.profile, start)
    self._check_statistics(state)
    if self._evaluates(start):  # the interrupted run saved this step, but may not have evaluated it
      state = self._with_statistics(state, rng)
      self._evaluate(state)
    self.feed = Feed(exp.train_batches(start), self._sent, exp.total_steps - start)
    speed, pending = _Speed(self.totals), None
    for step in range(start + 1, exp.total_steps + 1):
      self.profiler.before(step)
      with speed.waiting():
        batch, video_id = self._next(self.feed)
      state, metrics = self._step(state, step)(state, batch, rng)
      del batch
      speed.steps += 1
      self.totals.count_step(exp.data.batch_size, exp.clips_per_step)
      # The device computes this step while the host reads the numbers of the step before.
      if pending is not None:
        self.finite.check_step(pending[0], interval.add(pending[1]), pending[2])
      self.checkpoints.check()
      pending = (step, metrics, video_id)
      last, leaving = step == exp.total_steps, self.preemption.any_host()
      logs = last or step % training.log_steps == 0
      # An evaluation may be killed: its checkpoint is saved before.
      saves = last or leaving or self._evaluates(step) or step % training.save_steps == 0
      if logs or saves:
        self.finite.check_step(step, interval.add(metrics), pending[2])
        pending = None
        speed.count()
      if logs:
        self._log(step, interval, speed)
        interval, speed = Interval(), _Speed(self.totals)
      self.log.progress(step)
      if saves:
        self.finite.check_state(state)
        if last or not leaving:
          with speed.pausing():
            state = self._with_statistics(state, rng)
        self.checkpoints.save(state, {'sums': interval.sums, 'totals': vars(self.totals)})
        self.log.sync()
      if leaving and not last:
        self.profiler.close()
        self._leave(step)
      if self._evaluates(step):
        self._evaluate(state)
        speed = _Speed(self.totals)
    self.profiler.before(exp.total_steps + 1)
    result = self._evaluate(state)
    return {**result, 'training': _cost(exp, self.totals, state)}

  def _step(self, state: TrainState, step: int) -> Callable:
    """Returns the compiled update that leads to `step`."""
    objective, settings = self.exp.objective_at(step - 1)
    if settings not in self.compiled:
      update = train_step.compiled_step(self.exp.update, self.mesh, state, objective)
      self.compiled[settings] = update
    return self.compiled[settings]

  def _check_statistics(self, state: TrainState) -> None:
    """Raises ValueError where config.train.precise_bn has nothing to average."""
    if self.exp.training.precise_bn and 'batch_stats' not in state.stats:
      raise ValueError(
        f'config.train.precise_bn is {self.exp.training.precise_bn}, but the model has no batch '
        'normalization: set it to 0'
      )

  def _with_statistics(self, state: TrainState, rng: jax.Array) -> TrainState:
    """Returns the state with BatchNorm statistics averaged over the batches of the next
    train.precise_bn steps; without that setting the state itself.

    The average depends on parameters, step and seed alone, and training does not read statistics,
    so that a resumed run saves and evaluates what the unbroken one does. Where SIGTERM comes
    before the last step, the state is returned as it is.
    """
    count, step, began = self.exp.training.precise_bn, int(state.step), time.monotonic()
    if not count:
      return state
    objective, settings = self.exp.objective_at(step)
    if settings not in self.statistics:
      self.statistics[settings] = train_step.compiled_statistics(
        self.exp.update, self.mesh, state, objective
      )
    function, total = self.statistics[settings], None
    feed = Feed(self.exp.train_batches(step), self._sent, count)
    with contextlib.closing(feed):
      for number in range(count):
        if step < self.exp.total_steps and self.preemption.alone():
          return state
        found = function(state, self._next(feed)[0], rng, number)
        total = found if total is None else jax.tree.map(jnp.add, total, found)
    stats = jax.tree.map(lambda x: x / count, total)
    stats = train_step.keep_frozen(state.stats, stats, self.exp.update.freeze)
    jax.block_until_ready(stats)
    self.totals.eval_s += time.monotonic() - began
    return dataclasses.replace(state, stats=stats)

  def _evaluates(self, step: int) -> bool:
    """Returns whether an evaluation follows a step inside the loop; the evaluation of the last step
    comes after the loop."""
    every, total = self.exp.eval_steps, self.exp.total_steps
    return bool(every) and 0 < step < total and step % every == 0

  def _evaluate(self, state: TrainState) -> dict[str, Any]:
    step, began = int(state.step), time.monotonic()
    try:
      result = self.evaluator.using(state).run(log=self.log, step=step)
    except evaluate.Interrupted:
      self._leave(step)
    self.totals.eval_s += time.monotonic() - began
    if self.best is not None:
      self.best.offer(state, result)
    return result

  def _log(self, step: int, interval: Interval, speed: _Speed) -> None:
    count = {}
    if self.exp.training.skip_nonfinite:
      count['skipped'] = interval.sums['skipped'][0]
    rates = speed.rates(self.exp.clips_per_step)
    values = {**interval.means(), **count, **rates, 'memory_gib': memory_gib()}
    self.log.write(step, 'train', {**values, 'seconds': self.totals.train_s})

  def close(self) -> None:
    """Ends the reading of batches."""
    if self.feed is not None:
      self.feed.close()

  def _sent(self, batch: Batch) -> tuple[Batch, np.ndarray]:
    """Returns a host's batch on the devices of all hosts, and the record numbers of this host's."""
    return sharding.to_global(self.mesh, batch), batch['video_id'].copy()

  def _next(self, feed: Feed) -> tuple[Batch, np.ndarray]:
    """Returns the next batch of a feed. An error of reading names the checkpoint from which the run
    continues."""
    try:
      return next(feed)
    except (OSError, ValueError) as error:
      self.checkpoints.wait()
      kind = OSError if isinstance(error, OSError) else ValueError
      raise kind(f'{error}; {self.checkpoints.last_good()}') from error

  def _leave(self, step: int) -> None:
    self.checkpoints.wait()
    logging.warning('stopped by SIGTERM after step %d; saved. The same command continues.', step)
    sys.exit(STOPPED)


class _Speed:
  """Counts steps, seconds, and seconds of waiting for data, since the last line of the log."""

  def __init__(self, totals: Totals):
    self.steps, self._waited, self._totals = 0, 0.0, totals
    self._began = self._counted = time.monotonic()

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Counts the time inside as waiting for data."""
    asked = time.monotonic()
    yield
    self._waited += time.monotonic() - asked

  @contextlib.contextmanager
  def pausing(self) -> Iterator[None]:
    """Leaves out the time inside."""
    asked = time.monotonic()
    yield
    spent = time.monotonic() - asked
    self._began += spent
    self._counted += spent

  def count(self) -> None:
    """Adds the seconds since the last call to the training time of the run."""
    now = time.monotonic()
    self._totals.train_s += now - self._counted
    self._counted = now

  def rates(self, clips_per_step: int) -> dict[str, float]:
    """Returns clips per second, and the share of the time that was spent waiting for data."""
    seconds = time.monotonic() - self._began
    return {
      'clips_per_s': clips_per_step * self.steps / seconds,
      'data_wait': self._waited / seconds,
    }


def _cost(exp: Experiment, totals: Totals, state: TrainState) -> dict[str, Any]:
  """Returns the cost of the whole training, for result.json.

  gmacs: multiply-adds of the objective's forward pass, in 1e9. epochs count repeats. device_hours:
  of training, over all devices. stages, total: this and the trainings that it starts from, one
  after the other (vjax/budget.py); left out from scratch. estimated_steps (see Totals) is left out
  where it is 0.
  """
  clips, per_clip = int(totals.clips), build.forward_macs(exp) / 1e9
  estimated = int(totals.estimated_steps)
  found = {
    'train_s': totals.train_s,
    'eval_s': totals.eval_s,
    'videos_seen': int(totals.videos),
    'clips_seen': clips,
    **({'estimated_steps': estimated} if estimated else {}),
    'images_seen': clips * exp.clip.num_frames,
    'parameters': sum(x.size for x in jax.tree.leaves(state.params)),
    'gmacs_per_clip': per_clip,
    'gmacs': per_clip * clips,
    'epochs': clips / exp.clips_per_epoch,
    'device_hours': totals.train_s * jax.device_count() / 3600,
    'memory_gib': memory_gib(),
    'devices': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'code': code_version(),
  }
  if exp.stages:
    stages = [*exp.stages, budget.stage(found)]
    found |= {'stages': stages, 'total': budget.total(stages)}
  logging.info('%s', budget.spent(found))
  return found


def _write_json(workdir: str, name: str, value: Any) -> None:
  if jax.process_index() == 0:
    with writing(workdir):
      checkpoint.write_json(f'{workdir}/{name}', value)
