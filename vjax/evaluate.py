"""Checkpoint -> evaluations -> result.json. Every clip counts once, whatever the batch size and the
devices."""

import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjax import build, ckpt, registry, shard
from vjax.build import Experiment
from vjax.config import ViewsConfig
from vjax.types import Batch, TrainState


class Interrupted(Exception):
  """An evaluation was left between two batches, because Served.leave said so."""


class Served:
  """A model answering host batches with video uint8 (b, V, T, H, W, 3): views are folded for the
  network and come back as an axis."""

  def __init__(self, exp: Experiment, mesh):
    self.exp, self.mesh = exp, mesh
    self.params = self.stats = None
    self.leave: Callable[[], bool] = lambda: False
    self._reconstruct = cache(self._reconstructor)

  def using(self, state: TrainState) -> 'Served':
    """The same model with the parameters (or their moving average) of `state`."""
    self.params, self.stats = state.params if state.ema is None else state.ema, state.stats
    return self

  def logits(self, batch: Batch) -> np.ndarray:
    """Head output (b, V, K)."""
    return shard.local_rows(self._logits(self.params, self.stats, self._global(batch)['video']))

  def features(self, batch: Batch) -> np.ndarray:
    """What the backbone feeds a classifier (b, V, D)."""
    return shard.local_rows(self._features(self.params, self.stats, self._global(batch)['video']))

  def objective(self, batch: Batch) -> dict[str, Any]:
    """The objective's metrics on the first view, as sums and counts over all hosts."""
    return self._objective(self.params, self.stats, self._global(batch))

  def reconstructions(
    self, video: np.ndarray, ratio: float | None = None
  ) -> tuple[list[tuple], float, bool]:
    """([(original, masked, reconstruction) of every clip of `video` uint8 (b, T, H, W, 3), in
    normalized colors], the ratio of removed tokens, None = the objective's own, whether patches
    have the mean and deviation of the original). Raises ValueError for an objective that
    reconstructs nothing."""
    objective = self.exp.objective
    module = sys.modules[objective.func.__module__]
    if not hasattr(module, 'reconstruct'):
      raise ValueError(f'{module.__name__} reconstructs nothing: this needs a masked autoencoder')
    defaults = inspect.signature(module.reconstruct).parameters
    of = lambda name: (
      objective.keywords[name] if name in objective.keywords else defaults[name].default
    )
    ratio = of('ratio') if ratio is None else ratio
    spare = -len(video) % len(self.mesh.local_devices)
    clips = np.concatenate([video, np.repeat(video[-1:], spare, axis=0)])
    clips = shard.to_global(self.mesh, {'video': clips})['video']
    sheets = [
      shard.local_rows(rows) for rows in self._reconstruct(ratio)(self.params, self.stats, clips)
    ]
    return [tuple(rows[i] for rows in sheets) for i in range(len(video))], ratio, of('normalize')

  def batches(
    self, split: str, *, num_clips: int, num_crops: int, batch_size: int
  ) -> Iterator[Batch]:
    """Batches of a split; `batch_size` is rounded up so that devices share it evenly, which padding
    makes harmless."""
    devices = self.mesh.size
    views = ViewsConfig(**vars(self.exp.clip), num_clips=num_clips, num_crops=num_crops)
    for part in self.exp.eval_batches(split, views, -(-batch_size // devices) * devices):
      if self.leave():
        raise Interrupted
      yield part

  def _global(self, batch: Batch) -> dict[str, jax.Array]:
    return shard.to_global(
      self.mesh, {k: v for k, v in batch.items() if k in ('video', 'label', 'mask', 'video_id')}
    )

  def _fold(self, video: jax.Array) -> jax.Array:
    return self.exp.normalize(video.reshape(-1, *video.shape[2:]))

  def _apply(self, params: Any, stats: Any, video: jax.Array, method: str):
    out = self.exp.model.apply(
      {'params': params, **stats}, self._fold(video), train=False, method=method
    )
    out = out.pooled if method == 'features' else out
    return out.astype(jnp.float32).reshape(*video.shape[:2], -1)

  @cached_property
  def _logits(self):
    return jax.jit(
      lambda p, s, video: self._apply(p, s, video, '__call__'), out_shardings=shard.rows(self.mesh)
    )

  @cached_property
  def _features(self):
    return jax.jit(
      lambda p, s, video: self._apply(p, s, video, 'features'), out_shardings=shard.rows(self.mesh)
    )

  def _reconstructor(self, ratio: float):
    objective = self.exp.objective
    function = sys.modules[objective.func.__module__].reconstruct
    settings = {
      k: v for k, v in objective.keywords.items() if k in inspect.signature(function).parameters
    }
    settings['ratio'] = ratio
    rebuilt = lambda p, s, video: function(
      self.exp.model, p, self.exp.normalize(video), stats=s, **settings
    )
    return jax.jit(rebuilt, out_shardings=shard.rows(self.mesh))

  @cached_property
  def _objective(self):
    def score(params, stats, batch):
      part = {**batch, 'video': self._fold(batch['video'][:, :1])}
      rng = jax.random.key(0)
      return self.exp.objective(self.exp.model, params, stats, part, rng, train=False)[1][0]

    return jax.jit(score, out_shardings=shard.replicated(self.mesh))


def run(served: Served, *, log=None, step: int = 0) -> dict[str, Any]:
  """{evaluation: its numbers} for every entry of config.evals, and the step. Pictures go to
  TensorBoard."""
  results = {}
  for name in served.exp.evals:
    found = run_one(served, name)
    if log is not None:
      log.write(step, name, found)
    numbers = {key: value for key, value in found.items() if not isinstance(value, np.ndarray)}
    if numbers:
      results[name] = numbers
      if log is None:
        logging.info('%s: %s', name, numbers)
  return {'step': step, **results}


def run_one(served: Served, name: str) -> dict[str, float]:
  """Numbers of config.evals[name]: its file's `evaluate` is handed what READS names, its splits and
  its settings."""
  entry = served.exp.evals[name]
  module = registry.find('evals', entry.name)
  views = dict(num_clips=entry.num_clips, num_crops=entry.num_crops, batch_size=entry.batch_size)
  batches = {
    key.replace('split', 'batches'): served.batches(split, **views)
    for key, split in entry.splits.items()
  }
  evaluate = partial(module.evaluate, getattr(served, module.READS))
  data = served.exp.data
  facts = {
    'num_classes': len(served.exp.classes),
    'seed': served.exp.seed,
    'mean': data.mean,
    'std': data.std,
  }
  facts['multi_label'] = served.exp.labels == 'multi_label'
  return build.make(evaluate, {**entry.settings, **batches}, f'evals.{name}', **facts)


def load(workdir: str, data_dir: str) -> Served:
  """The newest checkpoint of a run, with its own config and data: for looking at it, in a colab
  say."""
  return _serve(build.experiment(ckpt.read_meta(workdir)['config'], data_dir), workdir)[0]


def newest(exp: Experiment, workdir: str) -> dict[str, Any]:
  """Evaluates the newest checkpoint in workdir, writes result.json, returns it."""
  served, step = _serve(exp, workdir)
  result = run(served, step=step)
  if jax.process_index() == 0:
    ckpt.write_json(f'{workdir}/result.json', result)
  return result


def _serve(exp: Experiment, workdir: str) -> tuple[Served, int]:
  mesh = shard.mesh(exp.training.fsdp)
  variables, meta = ckpt.load_params(workdir)
  ckpt.check_fits(exp.model, exp.clip, variables, workdir)
  variables = jax.device_put(variables, shard.state_shardings(mesh, variables))
  served = Served(exp, mesh)
  served.params, served.stats = variables.pop('params'), variables
  return served, meta['step']
