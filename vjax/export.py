"""Writes one classifier of a network of several datasets as a model of its own:
python -m vjax.export WORKDIR OUT --head=DATASET

OUT is a checkpoint like that of any classifier: predictions, pictures, evaluations and trainings
start from it. What only joint training needs is left out.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import jax

from vjax import checkpoint, files, inference, tree


def export(workdir: str, out: str, head: str) -> int:
  """Writes the backbone and one classifier of a run; returns the number of parameters.

  Args:
    workdir: of the run.
    out: new folder.
    head: alias of the dataset.

  Raises:
    ValueError: where the run has no such classifier, or `out` holds something.
  """
  folder = files.path(out)
  if folder.exists() and any(folder.iterdir()):
    raise ValueError(f'{out} is not empty: give a new folder for the model')
  model = inference.load(workdir)
  served, config = model.serving(head), model.config
  assert config is not None  # of a checkpoint
  meta, entry = checkpoint.read_meta(workdir), config.datasets[head]
  variables = jax.device_get({'params': model.params, **model.stats})
  params = dict(variables['params'])
  params['head'] = params['head']['classifiers'][head]
  given = dict(config.plain)
  settings = model.model.head
  kind = {'name': 'mlp', 'hidden': settings.hidden} if settings.hidden else {'name': 'linear'}
  keys = ('name', 'split', 'folder', 'videos_per_class')
  data = {key: getattr(entry, key) for key in keys}
  alone = {
    **given,
    'head': {**kind, 'dropout': settings.dropout},
    'objective': {'name': 'classify'},
    'data': {**given['data'], **data},
    'clip': vars(entry.clip),
    'augment': vars(entry.augment),
    'optim': {},
    'init': {},
    'train': {**given['train'], 'keep_best': ''},  # may be of another dataset's evaluation
    'datasets': _space(head, entry.label_space),
    'evals': {
      name: {key: value for key, value in entry.items() if key != 'dataset'}
      for name, entry in given['evals'].items()
      if entry.get('dataset') == head and entry['name'] != 'projected'
    },
  }
  meta = {**meta, 'config': alone, 'classes': list(served.classes), 'exported': head}
  checkpoint.save_params(out, {**variables, 'params': params}, meta)
  return sum(x.size for x in tree.flatten(params).values())


def _space(alias: str, label_space: str) -> dict[str, Any]:
  """Returns config.datasets of one dataset; {} where `data` says everything."""
  return {alias: {'label_space': label_space}} if label_space else {}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line; returns 1 with one message for what the user can mend."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n\n')[0])
  parser.add_argument('workdir', help='of a run of configs/multitrain.py, or one like it')
  parser.add_argument('out', help='new folder')
  parser.add_argument('--head', required=True, help='alias of the dataset, as in config.datasets')
  args = parser.parse_args(argv)
  try:
    count = export(args.workdir, args.out, args.head)
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  print(f'{args.out}: {count:,} parameters, backbone and classifier of {args.head}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
