"""Guards of a training run, against preemption and against numbers that are not finite."""

import logging
import signal
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vjax import checkpoint, sharding
from vjax.types import TrainState

MAX_SKIPPED = 20  # steps in a row that train.skip_nonfinite leaves out before the run ends


class PreemptionGuard:
  """Turns SIGTERM, on any host of a pod, into a flag that the loop reads.

  Outside of the main thread no signal can be handled: the flag then stays False.
  """

  def __init__(self, mesh: Mesh):
    self._mesh, self._asked, self._answer = mesh, False, None
    self._handles = threading.current_thread() is threading.main_thread()
    self._before: Any = None
    if self._handles:
      self._before = signal.signal(signal.SIGTERM, self._ask)

  def _ask(self, *_) -> None:
    self._asked = True

  def any_host(self) -> bool:
    """Returns whether to save and stop, the same on all hosts.

    Collective: call once per step on every host. In a pod the result lags by one call, so that no
    step waits for the result.
    """
    if jax.process_count() == 1:
      return self._asked
    answer = self._answer is not None and float(self._answer) > 0
    self._answer = sharding.any_host(self._mesh, self._asked)
    return answer

  def alone(self) -> bool:
    """Returns whether this process got SIGTERM and is the only one, so that it may stop at once."""
    return self._asked and jax.process_count() == 1

  def close(self) -> None:
    """Restores the signal's handler. While the run is stopping, a further signal has no effect."""
    if self._handles:
      after = signal.SIG_IGN if self._asked else self._before or signal.SIG_DFL
      signal.signal(signal.SIGTERM, after)


class NonFiniteGuard:
  """Ends a run whose numbers are not finite.

  Args:
    checkpoints: of the run; messages name the last good one.
    skips: single steps that are not finite are skipped (train.skip_nonfinite); the run ends after
      MAX_SKIPPED of them in a row. optax.apply_if_finite would leave BatchNorm statistics
      unguarded, so `train_step` skips these steps.
  """

  def __init__(self, checkpoints: checkpoint.Checkpoints, skips: bool):
    self._checkpoints, self._skips, self._in_a_row = checkpoints, skips, 0
    finite = lambda state: jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(state)]).all()
    self._finite = jax.jit(finite)

  def check_step(self, step: int, means: dict[str, float], ids: np.ndarray) -> None:
    """Raises FloatingPointError that names the step, its clips and the last good checkpoint."""
    clips = f'on clips {ids.tolist()} of this host (record numbers of the training split)'
    if self._skips:
      self._in_a_row = self._in_a_row + 1 if means['skipped'] else 0
      if means['skipped']:
        logging.warning('step %d was skipped: loss or gradient is not finite, %s', step, clips)
      if self._in_a_row == MAX_SKIPPED:
        self._end(f'{MAX_SKIPPED} steps in a row were skipped, the last being step {step}, {clips}')
      return
    for name in ('loss', 'gradient_norm'):
      if not np.isfinite(means[name]):
        self._end(f'{name} is {means[name]} at step {step}, {clips}')

  def check_state(self, state: TrainState) -> None:
    """Raises FloatingPointError for a state that is not finite."""
    if not bool(self._finite(state)):
      self._end(f'parameters or optimizer state are not finite after step {int(state.step)}')

  def _end(self, what: str) -> None:
    self._checkpoints.wait()
    raise FloatingPointError(
      f'{what}; {self._checkpoints.last_good()}. Lower config.optim.learning_rate, lengthen its '
      'warm-up, set config.optim.clip_norm, or have single bad steps left out by '
      'config.train.skip_nonfinite'
    )
