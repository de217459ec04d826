"""Published weights -> an ordinary vjax checkpoint: python -m vjax.convert --source=vmz
--variant=r2plus1d_34 in out"""

import argparse
import ast
from typing import Any

from etils import epath

from vjax import checkpoint, convert, files, registry, tree
from vjax.config import SCHEMA
from vjax.convert import _config


def main(arguments: list[str] | None = None) -> None:
  """Converts one file; errors list every name that does not fit."""
  chosen = _parser().parse_args(arguments)
  try:
    stale = _stale(chosen.out, chosen.overwrite)
    overrides = dict(_override(text) for text in chosen.set)
    name = convert.model_name(chosen.source, chosen.variant)
    found = convert.read(
      chosen.source,
      chosen.weights,
      variant=name,
      section=chosen.section,
      prefix=chosen.prefix,
      headless=chosen.headless,
      **overrides,
    )
    config = _config.config(
      chosen.source, name, found.model, found.clip, vars(chosen), headless=found.headless
    )
    classes = _classes(chosen.classes, found)
  except ValueError as error:
    raise SystemExit(f'error: {error}') from error
  meta = {
    'source': chosen.source,
    'variant': name,
    'weights': chosen.weights,
    'taken': found.taken,
    'headless': found.headless,
    'trained_on': [name for name in chosen.trained_on.split(',') if name],
    'schema': SCHEMA,
    'overrides': overrides,
    'config': config,
    'classes': classes,
  }
  for path in stale:
    print(f'deleting {path}')
    path.rmtree() if path.is_dir() else path.unlink()
  checkpoint.save_params(chosen.out, found.variables, meta)
  count = sum(
    array.size
    for name, array in tree.flatten(found.variables).items()
    if name.startswith('params/') and not (found.headless and name.startswith('params/head/'))
  )
  if found.taken:
    print(f'{chosen.weights}: {found.taken}')
  print(f'{chosen.out}: {count:,} parameters of {chosen.source} {name}')
  print('clips: ' + ', '.join(f'{key} {value}' for key, value in config['clip'].items()))
  unknown = [
    f'--{key}' for key, value in {**config['clip'], **config['data']}.items() if value is None
  ]
  if unknown:
    print(f'unknown, and needed for predictions: {", ".join(unknown)}')
  if found.headless:
    print("no classifier: a backbone for warm starts (init.skip 'head/.*') and probes")
  elif not chosen.classes and config['objective']['name'] != 'mae':
    print(f'the {len(classes)} classes have numbers for names: --classes=FILE names them')


def _classes(path: str, found: convert.Converted) -> list[str]:
  """Names of the classes, none without a classifier. Raises ValueError for a file of names then."""
  if not found.headless:
    several = _config.joint_counts(found.model)
    if several:
      return _config.joint_classes(path, several)
    return _config.classes(path, _config.count(found.model))
  if path:
    raise ValueError(
      f'--classes={path}: the weights have no classifier whose classes it could name'
    )
  return []


def _stale(out: str, overwrite: bool) -> list[epath.Path]:
  """Returns the files and folders of converted weights in the folder `out` that others replace.

  Raises ValueError for a folder that holds anything, unless that is converted weights and
  `overwrite` is given.
  """
  folder = files.path(out)
  if not folder.exists():
    return []
  if not folder.is_dir():
    raise ValueError(f'{out} is a file: give a new folder for the checkpoint')
  paths = sorted(folder.iterdir(), key=str)
  names = [path.name for path in paths]
  if not paths:
    return []
  meta = checkpoint.read_meta(out) if 'meta.json' in names else {}
  holds = ', '.join(names[:5]) + (' ...' if len(names) > 5 else '')
  if not {'source', 'variant', 'weights'} <= set(meta) or 'metrics.jsonl' in names:
    kind = 'a training run' if 'config' in meta else 'other files'
    raise ValueError(
      f'{out} holds {kind} ({holds}), which a conversion does not touch: give a new folder'
    )
  if not overwrite:
    raise ValueError(
      f'{out} holds converted weights, {meta["source"]} {meta["variant"]} of {meta["weights"]} '
      f'({holds}): give a new folder, or --overwrite to replace them'
    )
  stale = lambda name: name in ('checkpoints', 'result.json') or name.endswith('.predictions.npz')
  return [path for path in paths if stale(path.name)]


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(prog='python -m vjax.convert', description=__doc__)
  add = parser.add_argument
  add('weights', help='.pth, .pyth, .pt, .pkl, .safetensors or .npz')
  add('out', help='folder of the checkpoint')
  add('--source', required=True, choices=registry.names('convert'))
  add('--variant', required=True, help="name of the model, or the source's own name of it")
  add(
    '--set',
    action='append',
    default=[],
    metavar='KEY=VALUE',
    help='override: frames=32, dataset=ssv2; may be repeated',
  )
  add('--section', help="keys on the way to the weights in the file, joined by '/': model_ema")
  add('--prefix', help='of the names to take, which is taken off: model.')
  add('--headless', action='store_true', help='leave the classifier out, convert the backbone')
  add('--overwrite', action='store_true', help='replace converted weights in the folder')
  add('--trained_on', default='', help='datasets, comma-separated (k700): they guard against leaks')
  add('--classes', default='', help='file with the name of a class on each line')
  for key in ('num_frames', 'frame_stride', 'crop_size', 'short_side'):
    add(
      f'--{key}',
      type=int,
      help='of the clips it is for, where the weights do not tell; see config.ClipConfig',
    )
  add('--sampling', help='rule of data/sampling.py by which the frames of a clip are chosen')
  for key in ('mean', 'std'):
    add(f'--{key}', type=float, nargs=3, help='of RGB in [0, 1], in place of the source’s')
  return parser


def _override(text: str) -> tuple[str, Any]:
  """('frames', 32) of 'frames=32'; what is no Python literal is a string. Raises ValueError without
  a '='."""
  key, given, value = text.partition('=')
  if not (key and given):
    raise ValueError(f'--set {text}: need KEY=VALUE, as in frames=32')
  try:
    return key, ast.literal_eval(value)
  except (ValueError, SyntaxError):
    return key, value


if __name__ == '__main__':
  main()
