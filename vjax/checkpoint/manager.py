"""Saves and resumes a run through Orbax.

A checkpoint folder (a run's workdir, or the output of `python -m vjax.convert`) holds
  meta.json                      the config, class names and versions
  checkpoints/<step>/model       params, stats and, where kept, their moving average
  checkpoints/<step>/optimizer   optimizer state and step
  checkpoints/<step>/interval    sums of the logging interval in progress
  checkpoints/<step>/checksums   of every array, so that a flipped bit is found
"""

import contextlib
import copy
import logging
import math
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath

from vjax import files, sharding
from vjax.checkpoint.integrity import (
  check_sums,
  checksums,
  compare,
  complete_steps,
  kept_checksums,
  listed,
  reading,
  reason,
)
from vjax.checkpoint.meta import Meta, read_json, read_meta, write_json
from vjax.types import TrainState

SAVE_TIMEOUT_S = (
  7200  # Orbax measures it by the time of day, which may be set an hour ahead while it waits
)


class Checkpoints:
  """The checkpoints of one workdir.

  Saves are asynchronous. A later run never restores an interrupted save, and removes its files.
  Errors of saving are OSErrors, raised by the next call of any method.
  """

  def __init__(self, workdir: str | os.PathLike, *, keep: int):
    import orbax.checkpoint as ocp

    self._ocp = ocp
    if str(workdir).startswith('s3://'):
      raise ValueError(
        f'workdir is {workdir}: Orbax cannot write to s3://; mount the bucket, or use a folder or '
        'gs://'
      )
    self._folder = files.path(workdir) / 'checkpoints'
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        enable_async_checkpointing=True,
        cleanup_tmp_directories=True,
        async_options=ocp.AsyncOptions(timeout_secs=SAVE_TIMEOUT_S),
      ),
      # without these, metadata cannot be read before the first save or restore
      item_handlers={
        'model': ocp.StandardCheckpointHandler(),
        'optimizer': ocp.StandardCheckpointHandler(),
        'interval': ocp.JsonCheckpointHandler(),
        'checksums': ocp.JsonCheckpointHandler(),
      },
    )
    self._saving: int | None = None

  @property
  def latest(self) -> int | None:
    """Step of the newest complete checkpoint, or None."""
    steps = complete_steps(self._folder)
    return steps[-1] if steps else None

  def last_good(self) -> str:
    """Returns a text that names the checkpoint from which a failed run continues."""
    step = self.latest
    return (
      'there is no checkpoint yet'
      if step is None
      else f'the last good checkpoint is that of step {step}'
    )

  def save(self, state: TrainState, progress: dict[str, Any]) -> None:
    """Starts writing `state` and the run's `progress`: sums of the current logging interval
    ('sums'), seconds and videos so far ('totals')."""
    self.wait()
    progress = copy.deepcopy(progress)  # written in the background, while the run counts on
    args, step = self._ocp.args, int(state.step)
    self._saving = step
    model = {'params': state.params, 'stats': state.stats, 'ema': state.ema or {}}
    optimizer = {'opt_state': state.opt_state, 'step': state.step}
    items = {'model': args.StandardSave(model), 'optimizer': args.StandardSave(optimizer)}
    items['interval'] = args.JsonSave(progress)
    items['checksums'] = args.JsonSave(
      {'model': checksums(model), 'optimizer': checksums(optimizer)}
    )
    with self._writing():
      self._manager.save(step, args=args.Composite(**items), force=True)

  def check(self) -> None:
    """Raises errors of background saves since the last call; does not wait."""
    if not self._manager.is_saving_in_progress():
      self.wait()

  def wait(self) -> None:
    """Waits until all is written."""
    with self._writing():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, and ends the threads."""
    self.wait()
    self._manager.close()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    """Turns errors of writing inside into OSErrors with a plain text. Orbax and its store raise
    many kinds."""
    try:
      yield
    except Exception as error:
      raise OSError(
        f'the checkpoint of step {self._saving} could not be written to {self._folder}: '
        f'{reason(error)}; {self.last_good()}. Make room or mend the folder, then start the same '
        'command again: it continues from there'
      ) from error

  def restore(self, target: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """Returns the newest state, laid out like `target` (a tree of ShapeDtypeStructs with
    shardings), and the run's progress {'sums', 'totals'}.

    Raises ValueError listing the names that differ where the checkpoint is of another model or
    optimizer.
    """
    step, args = self.latest, self._ocp.args
    model = {'params': target.params, 'stats': target.stats, 'ema': target.ema or {}}
    optimizer = {'opt_state': target.opt_state, 'step': target.step}
    with reading(self._folder, step):
      saved = self._manager.item_metadata(step)
      saved = [saved[name].tree for name in ('model', 'optimizer')]
    differences = compare(model, saved[0]) + compare(optimizer, saved[1])
    if differences:
      raise ValueError(
        f'checkpoint {step} in {self._folder} is of another model or optimizer; use another '
        '--workdir, or the config it '
        f'was made with:\n' + listed(differences)
      )
    with reading(self._folder, step):
      items = {'model': args.StandardRestore(model), 'optimizer': args.StandardRestore(optimizer)}
      items |= {
        name: args.JsonRestore() for name in ('interval', *kept_checksums(self._folder, step))
      }
      got = self._manager.restore(step, args=args.Composite(**items))
      model, optimizer, interval = got['model'], got['optimizer'], got['interval']
      for name, item in (
        (('model', model), ('optimizer', optimizer)) if 'checksums' in items else ()
      ):
        check_sums(item, got['checksums'][name])
      if int(optimizer['step']) != step:
        raise ValueError(f'it holds the state after step {int(optimizer["step"])}')
      if 'sums' not in interval:  # written before seconds were kept
        interval = {'sums': interval, 'totals': {}}
      sums = {name: [float(a), float(b)] for name, (a, b) in interval['sums'].items()}
      totals = {name: float(total) for name, total in interval['totals'].items()}
    state = TrainState(
      step=optimizer['step'],
      params=model['params'],
      stats=model['stats'],
      opt_state=optimizer['opt_state'],
      ema=None if target.ema is None else model['ema'],
    )
    return state, {'sums': sums, 'totals': totals}


class Best:
  """The best checkpoint of a run, in workdir/best: a checkpoint folder like any other.

  Args:
    workdir: of the run.
    metric: 'EVALUATION/METRIC' of its results. A loss is best where it is lowest.
    meta: for meta.json.
    continues: the run continues from a checkpoint; else there must be no best one yet.

  Raises:
    ValueError: where the folder holds the best checkpoint of a run that is gone, or is damaged.
  """

  def __init__(
    self, workdir: str | os.PathLike, metric: str, meta: dict[str, Any], *, continues: bool = True
  ):
    self._folder, self._metric, self._meta = files.path(workdir) / 'best', metric, meta
    self._sign = -1.0 if metric.rpartition('/')[2] == 'loss' else 1.0
    record = read_json(self._folder / 'best.json', f'remove {self._folder}') or {}
    if record and not continues:
      raise ValueError(
        f'{self._folder} holds the best checkpoint of a run whose other checkpoints are gone: move '
        'or remove it, or give another --workdir'
      )
    self._value = record.get('value')
    if record and record.get('metric') != metric:
      logging.warning(
        'config.train.keep_best was %s, and is %s from now on: the best checkpoint so far counts '
        'no more',
        record.get('metric'), metric,
      )  # fmt: skip
      self._value = None

  def offer(self, state: TrainState, result: dict[str, Any]) -> bool:
    """Keeps the parameters of `state`, or their moving average, if `result` is the best so far.

    Collective in a pod. Raises ValueError where the result has no such metric.
    """
    evaluation, _, name = self._metric.rpartition('/')
    if name not in result.get(evaluation, {}):
      known = [f'{e}/{n}' for e, found in result.items() if isinstance(found, dict) for n in found]
      raise ValueError(
        f'config.train.keep_best is {self._metric!r}; the evaluations give '
        f'{", ".join(known) or "nothing"}: name one of these'
      )
    value, step = float(result[evaluation][name]), int(state.step)
    worse = self._value is not None and not self._sign * value > self._sign * self._value
    if math.isnan(value) or worse:  # NaN is never the best
      return False
    params = state.params if state.ema is None else state.ema
    if step in complete_steps(self._folder / 'checkpoints'):  # of a run killed before best.json
      sharding.wait_for_all('best')
      if jax.process_index() == 0:
        (self._folder / 'checkpoints' / str(step)).rmtree()
      sharding.wait_for_all('best removed')
    _write_model(self._folder, step, {'params': params, 'stats': state.stats, 'ema': {}}, keep=1)
    if jax.process_index() == 0:
      write_json(self._folder / 'meta.json', self._meta)
      write_json(self._folder / 'best.json', {'metric': self._metric, 'value': value, 'step': step})
    self._value = value
    return True


def _write_model(folder: epath.Path, step: int, model: Any, keep: int | None = None) -> None:
  """Writes a checkpoint without optimizer, and waits for it."""
  import orbax.checkpoint as ocp

  options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
  with ocp.CheckpointManager(folder / 'checkpoints', options=options) as manager:
    items = {
      'model': ocp.args.StandardSave(model),
      'checksums': ocp.args.JsonSave({'model': checksums(model)}),
    }
    manager.save(step, args=ocp.args.Composite(**items), force=True)
    manager.wait_until_finished()


def save_params(path: str | os.PathLike, variables: dict[str, Any], meta: dict[str, Any]) -> None:
  """Writes an ordinary checkpoint folder: variables {'params': ..., other collections} as step 0,
  and meta.json."""
  stats = {name: value for name, value in variables.items() if name != 'params'}
  model = jax.tree.map(np.asarray, {'params': variables['params'], 'stats': stats, 'ema': {}})
  _write_model(files.path(path), 0, model)
  write_json(f'{path}/meta.json', meta)


def load_params(path: str | os.PathLike, *, average: bool = True) -> tuple[dict[str, Any], Meta]:
  """Returns ({'params': ..., **stats} as NumPy arrays, meta) of the newest checkpoint. With
  `average`, the parameters are the moving average, if the checkpoint has one.

  Raises FileNotFoundError where the folder holds no complete checkpoint, ValueError where the
  checkpoint is damaged.
  """
  import orbax.checkpoint as ocp

  meta = read_meta(path)
  folder = files.path(path) / 'checkpoints'
  steps = complete_steps(folder)
  if not steps:
    raise FileNotFoundError(f'no complete checkpoint in {folder}: the run has not saved yet')
  step = steps[-1]
  with reading(folder, step), ocp.StandardCheckpointer() as checkpointer:
    shapes = checkpointer.metadata(folder / str(step) / 'model').item_metadata.tree
    target = jax.tree.map(
      lambda x: np.zeros(x.shape, x.dtype), shapes, is_leaf=lambda x: hasattr(x, 'shape')
    )
    model = checkpointer.restore(folder / str(step) / 'model', target)
    found = sorted(model)
    if not {'params', 'stats', 'ema'} <= set(found):
      raise ValueError(f'its model holds {found}, not params, stats and ema')
    for name in kept_checksums(folder, step):
      with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as sums:
        check_sums(model, sums.restore(folder / str(step) / name)['model'])
  meta['step'] = step
  params = model['ema'] if average and model['ema'] else model['params']
  return {'params': params, **model['stats']}, meta


def check_fits(model: Any, clip: Any, variables: dict[str, Any], path: str | os.PathLike) -> None:
  """Raises ValueError listing the names in which the variables of `path` differ from those of
  `model`."""
  video = jax.ShapeDtypeStruct((1, clip.num_frames, clip.crop_size, clip.crop_size, 3), np.float32)
  wanted = jax.eval_shape(lambda rng, x: model.init(rng, x, train=False), jax.random.key(0), video)
  differences = compare(wanted, variables)
  if differences:
    raise ValueError(
      f'the checkpoint in {path} is of another model than the config: use the config that it was '
      f'made with (config.model and config.head in {path}/meta.json), or the --workdir of a run '
      'with this model:\n' + listed(differences)
    )
