"""Every metric of saved predictions, offline:  python -m vjax.evaluate --predictions=FILE.npz

As a library it runs the evaluations of a config: every video counts once, whatever batches and
devices. A checkpoint is evaluated by `python -m vjax.main --config=... --mode=evaluate`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from vjax import build, checkpoint, files, inference, registry, sharding, tree
from vjax.build import Experiment
from vjax.config import EvalConfig, ViewsConfig
from vjax.evals import views
from vjax.lock import WorkdirLock
from vjax.types import Batch, Predictions, Report, TrainState


class Interrupted(Exception):
  """An evaluation was left between two batches, because `Evaluator.leave` said so."""


@dataclasses.dataclass
class Evaluator:
  """Runs the evaluations of an experiment.

  Attributes:
    exp: data and settings.
    model: what is evaluated.
    leave: asked before each batch; True ends the evaluation with Interrupted.
    workdir: where predictions.npz files go, '' = nowhere.
    suffix: of their names.
  """

  exp: Experiment
  model: inference.InferenceModel
  leave: Callable[[], bool] = lambda: False
  workdir: str = ''
  suffix: str = ''

  def using(self, state: TrainState) -> Evaluator:
    """Returns this evaluator with the parameters of `state`, or their moving average."""
    self.model.params = state.params if state.ema is None else state.ema
    self.model.stats = state.stats
    return self

  def batches(
    self, split: str, *, num_clips: int = 1, num_crops: int = 1, batch_size: int = 64
  ) -> Iterator[Batch]:
    """Returns batches of views of a split of the dataset trained on, for notebooks."""
    clip = ViewsConfig(**vars(self.exp.clip), num_clips=num_clips, num_crops=num_crops)
    entry = EvalConfig('', '', clip, batch_size, False, {}, {})
    return self.batches_of(entry, split)

  def run(self, *, log: Any = None, step: int = 0) -> dict[str, Any]:
    """Returns {evaluation: its numbers} for every entry of config.evals, and the step.

    Figures go to TensorBoard, predictions to files.
    """
    results: dict[str, Any] = {}
    for name in self.exp.evals:
      report = self.run_one(name)
      if log is not None:
        log.write(step, name, {**report.numbers, **report.figures})
      if report.numbers:
        results[name] = report.numbers
        if log is None:
          logging.info('%s: %s', name, report.numbers)
      if report.predictions is not None and self.workdir and jax.process_index() == 0:
        self._save(name, report.predictions, step)
    return {'step': step, **results, **self._mean(results)}

  def _mean(self, results: dict[str, Any]) -> dict[str, Any]:
    """Returns {'mean': ...} of a network of several datasets: the unweighted mean of top-1 over
    them; {} for any other, and where a name is taken."""
    entries = self.exp.evals.items()
    names = [n for n, entry in entries if entry.name == 'views' and 'top1' in results.get(n, {})]
    if not self.exp.joint or len(names) < 2 or 'mean' in results:
      return {}
    return {'mean': {'top1': sum(results[name]['top1'] for name in names) / len(names)}}

  def run_one(self, name: str) -> Report:
    """Returns the report of config.evals[name]."""
    entry = self.exp.evals[name]
    evaluation = registry.find('evals', entry.name).EVALUATION
    batches = {
      key.replace('split', 'batches'): self.batches_of(entry, split)
      for key, split in entry.splits.items()
    }
    facts = {
      'num_classes': len(self.exp.eval_classes(entry)), 'seed': self.exp.seed,
      'mean': self.model.mean,
      'std': self.model.std, 'multi_label': self.exp.labels == 'multi_label',
    }  # fmt: skip
    run = partial(evaluation.run, self._function(evaluation.needs, entry))
    return build.make(run, {**entry.settings, **batches}, f'evals.{name}', **facts)

  def _function(self, needs: str, entry: EvalConfig) -> Callable:
    """Function that an evaluation is given: one of batches, but for reconstructions."""
    model = self.model
    if self.exp.joint and 'logits' in needs:
      model = model.serving(entry.dataset)
    function = getattr(model, needs)
    if needs in ('logits', 'features', 'projected_logits'):
      return lambda batch: function(batch['video'])
    return function

  def batches_of(self, entry: EvalConfig, split: str) -> Iterator[Batch]:
    """Returns batches of a split for an entry of config.evals; their size is rounded up so that
    devices share it evenly, which padding makes harmless."""
    devices = self.model.mesh.size
    for part in self.exp.eval_batches(entry, split, -(-entry.batch_size // devices) * devices):
      if self.leave():
        raise Interrupted
      yield part

  def _save(self, name: str, found: Predictions, step: int) -> None:
    entry = self.exp.evals[name]
    path = f'{self.workdir}/{name}{self.suffix}.predictions.npz'
    save_predictions(
      path,
      found,
      names=self.exp.video_names(entry, entry.splits['split'], found.video_id),
      classes=self.exp.eval_classes(entry),
      average=entry.settings.get('average', 'probabilities'),
      num_crops=entry.clip.num_crops,
      step=step,
    )
    logging.info('%s: logits of %d videos in %s', name, len(found.video_id), path)


def load(workdir: str, data_dir: str, *, data: str = '') -> Evaluator:
  """Returns the newest checkpoint of a run with its own config and data, for notebooks.

  Args:
    workdir: of a run, or a folder written by `python -m vjax.convert`.
    data_dir: folder of prepared datasets.
    data: another dataset of vjax/data/datasets, or a folder of your own under data_dir, to take
      features of; '' = the one that the run was trained on.

  Raises:
    ValueError: for converted weights without `data`.
  """
  meta = checkpoint.read_meta(workdir)
  if data:
    return _on_other_data(workdir, data_dir, data)
  if not meta['config'].get('data', {}).get('name', 'its own'):
    raise ValueError(
      f'{workdir} holds converted weights, which belong to no dataset here: name one by data=, or '
      f'a folder under {data_dir}'
    )
  exp = build.experiment(meta['config'], data_dir, classes=checkpoint.classes_of(meta))
  return _evaluator(exp, workdir)


def _on_other_data(workdir: str, data_dir: str, data: str) -> Evaluator:
  model = inference.load(workdir)
  known = data in registry.names('data.datasets') and data != 'custom'
  names = {'name': data, 'folder': ''} if known else {'name': 'custom', 'folder': data}
  config = {**model.config.plain, 'evals': {}, 'datasets': {}, 'optim': {}, 'init': {}}
  config['train'] = {**config['train'], 'keep_best': ''}  # there is no evaluation
  config['data'] = {**config['data'], **names, 'split': 'train', 'videos_per_class': None}
  return Evaluator(build.experiment(config, data_dir), model)


def newest(exp: Experiment, workdir: str) -> dict[str, Any]:
  """Evaluates the newest checkpoint in workdir, and returns the result.

  The result goes to result.json. With settings that change the numbers (other crops, splits, ...)
  it goes to result-2.json, ..., together with these.
  """
  before, labeled = checkpoint.read_meta(workdir), exp.objective.needs_labels
  changed = checkpoint.check_evaluated(before, exp.meta, workdir, labeled=labeled)
  lead = jax.process_index() == 0
  with WorkdirLock(workdir) if lead else contextlib.nullcontext():
    name = checkpoint.other_result(workdir, changed)
    file = files.path(workdir) / name
    kept = checkpoint.read_json(file, 'remove it, and evaluate again') or {}
    evaluator = _evaluator(exp, workdir)
    evaluator.workdir, evaluator.suffix = workdir, name.removeprefix('result').partition('.')[0]
    result = evaluator.run(step=evaluator.model.step)
    if lead:
      result |= {key: kept[key] for key in ('training',) if key in kept}
      result |= {'settings': checkpoint.settings_of(changed)} if changed else {}
      checkpoint.write_json(file, result)
      logging.info('result in %s', file)
  return result


def of_experiment(exp: Experiment, mesh: Any, params: Any = None, stats: Any = None, step: int = 0):
  """Returns the evaluator of an experiment's model."""
  model = inference.InferenceModel(
    exp.model, params, stats, mean=exp.data.mean, std=exp.data.std, mesh=mesh,
    objective=exp.objective, classes=exp.classes, step=step,
  )  # fmt: skip
  return Evaluator(exp, model)


def _evaluator(exp: Experiment, workdir: str) -> Evaluator:
  mesh = sharding.mesh(exp.training.fsdp)
  variables, meta = checkpoint.load_params(workdir)
  checkpoint.check_fits(exp.model, exp.clip, variables, workdir)
  checkpoint.check_finite(tree.flatten(variables), workdir)
  variables = jax.device_put(variables, sharding.state_shardings(mesh, variables))
  return of_experiment(exp, mesh, variables.pop('params'), variables, meta['step'])


def save_predictions(
  path: str,
  found: Predictions,
  *,
  names: Sequence[str],
  classes: Sequence[str],
  average: str,
  num_crops: int = 1,
  step: int = 0,
) -> None:
  """Writes predictions.npz: video_id (N,), name (N,), label, logits (N, V, K), classes (K,),
  average, num_crops of each clip, step of the checkpoint. View v is crop * clips + clip."""
  buffer = io.BytesIO()
  text = lambda values: np.array(list(values), dtype=np.str_)
  arrays = {
    **vars(found),
    'name': text(names),
    'classes': text(classes),
    'average': average,
    'num_crops': num_crops,
    'step': step,
  }
  np.savez(buffer, **arrays)
  files.write_bytes(path, buffer.getvalue())


def load_predictions(path: str) -> tuple[Predictions, dict[str, np.ndarray]]:
  """Returns the predictions of a file, and its name, classes, average, num_crops (0 = the file is
  older and does not say) and step (-1 = likewise). Raises ValueError where it is no such file."""
  needed = ('video_id', 'label', 'logits', 'name', 'classes', 'average')
  try:
    with np.load(io.BytesIO(files.path(path).read_bytes()), allow_pickle=False) as file:
      found = {name: file[name] for name in needed}
      for name, unknown in (('num_crops', 0), ('step', -1)):
        found[name] = file[name] if name in file.files else np.array(unknown)
    count = len(found['video_id'])
    if found['logits'].ndim != 3 or any(
      len(found[n]) != count for n in ('label', 'logits', 'name')
    ):
      raise ValueError('arrays of different lengths')
  except (ValueError, KeyError, EOFError, OSError) as error:
    why = {FileNotFoundError: 'there is no such file', IsADirectoryError: 'it is a folder'}.get(
      type(error), 'it is another file, or damaged'
    )
    raise ValueError(
      f'{path} holds no predictions ({why}): an evaluation with --config.evals.NAME.'
      'save_predictions=True writes WORKDIR/NAME.predictions.npz'
    ) from error
  return Predictions(*(found.pop(name) for name in needed[:3])), found


def describe(path: str, *, average: str = '', mistakes: int = 10) -> str:
  """Returns every metric of a predictions.npz as text.

  Args:
    path: of the file.
    average: 'probabilities' or 'logits', '' = that of the evaluation.
    mistakes: how many of the worst to list.
  """
  found, more = load_predictions(path)
  average, classes = average or str(more['average']), more['classes']
  multi_label = found.label.ndim == 2
  settings: dict[str, Any] = dict(average=average, multi_label=multi_label)
  numbers = views.scores_of(found, num_classes=len(classes), **settings)
  n, v, k = found.logits.shape
  step = f' after step {more["step"]}' if more['step'] >= 0 else ''
  lines = [
    f'{path}: predictions{step}, {n} videos, {v} views, {k} classes, mean of {average} over views'
  ]
  lines += [f'{name:20} {value:.6g}' for name, value in numbers.items()]
  known = np.flatnonzero(found.label >= 0) if found.label.ndim == 1 else np.array([], int)
  if not len(known):
    return '\n'.join(lines)
  probabilities = views.averaged(found.logits[known], average)
  labels = found.label[known]
  lines.append(f'\n{"class":32} videos  recall  precision  most often taken for')
  table = views.confusion(probabilities, labels)
  for c, row in enumerate(views.per_class(probabilities, labels)):
    others = np.where(np.arange(k) == c, 0, table[c])
    taken = f'{classes[others.argmax()]} ({others.max()})' if others.any() else ''
    lines.append(
      f'{classes[c]:32} {row["videos"]:6}  {row["recall"]:6.1%}  {row["precision"]:9.1%}  {taken}'
    )
  lines.append('\nworst mistakes: video, its class and probability, the answer and probability')
  for i in views.worst(probabilities, labels, mistakes):
    said = probabilities[i].argmax()
    lines.append(
      f'{more["name"][known[i]]}: {classes[labels[i]]} {probabilities[i, labels[i]]:.1%}, '
      f'{classes[said]} {probabilities[i, said]:.1%}'
    )
  return '\n'.join(lines)


def main(argv: list[str] | None = None) -> int:
  """Prints the metrics of saved predictions; 1 where the file cannot be used."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--predictions', required=True, help="an evaluation's .predictions.npz")
  parser.add_argument('--average', default='', choices=['', *views.AVERAGES], help='over views')
  parser.add_argument('--mistakes', type=int, default=10, help='how many of the worst to list')
  parser.add_argument('--confusion', default='', help='PNG to draw the confusion matrix into')
  parser.add_argument('--overwrite', action='store_true', help='replace the file of --confusion')
  args: Any = parser.parse_args(argv)
  if args.mistakes < 0:
    parser.error(f'--mistakes is {args.mistakes}; it must be 0 or more')
  try:
    if args.confusion:
      files.check_new('--confusion', [args.confusion], overwrite=args.overwrite)
    print(describe(args.predictions, average=args.average, mistakes=args.mistakes))
    if args.confusion:
      _draw_confusion(args.predictions, args.average, args.confusion)
  except (ValueError, OSError) as error:
    print(error, file=sys.stderr)
    return 1
  return 0


def _draw_confusion(path: str, average: str, out: str) -> None:
  from vjax import figures

  found, more = load_predictions(path)
  if found.label.ndim == 2 or (found.label < 0).all():
    raise ValueError(f'{path}: a confusion matrix needs one known label a video')
  known = found.label >= 0
  probabilities = views.averaged(found.logits[known], average or str(more['average']))
  figure = figures.confusion(found.label[known], probabilities.argmax(1), list(more['classes']))
  files.write_bytes(out, figures.png(figure))
  print(f'confusion matrix: {out}')


if __name__ == '__main__':
  sys.exit(main())
