"""Parameters and multiply-adds of training on several datasets at once, and of one dataset's model:

  python -m vjax.analysis.joint_cost configs/multitrain.py[:axis=value]

Nothing is computed: the numbers are read from shapes. The first table has what MultiTrain (Liang et
al., NeurIPS 2022) adds to a network with a classifier for each dataset ("vanilla" joint training):
projections between label spaces, the expander, and the covariance of the informative loss. The
second table compares what is served of it, backbone and one classifier, with a network for that
dataset alone: with the same classifier it is the same network; MultiTrain's own baselines have a
linear one.

Multiply-adds are those of a forward pass on one clip; norms, activations and sums are free. Numbers
of classes are those known of the datasets, and 2 for folders of your own.
"""

import argparse
import functools
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vjax import build, cost, study_report
from vjax.config import parse
from vjax.data.specs import is_joint
from vjax.heads import linear, mlp
from vjax.objectives import joint
from vjax.types import Features

Cost = tuple[int, int]  # parameters, multiply-adds of a clip


def of_backbone(config: Any) -> tuple[Cost, Features]:
  """Returns the cost of a config's backbone, and the shapes of its features of one clip."""
  clip = parse(config).clip
  shape = (1, clip.num_frames, clip.crop_size, clip.crop_size, 3)
  net, found = build.model(config, build.known_outputs(config)).backbone, {}

  def call(rng: jax.Array, video: jax.Array) -> Features:
    features, found['variables'] = net.init_with_output(rng, video, train=False)
    found['features'] = jax.eval_shape(lambda: features)
    return features

  macs = cost.count(call, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
  return (_size(found['variables']['params']), macs), found['features']


def of_head(head: Any, pooled: jax.ShapeDtypeStruct, *, informative: bool = False) -> Cost:
  """Returns the cost of a head on pooled features (1, D). informative: with the statistics of the
  informative loss."""
  found = {}

  def call(rng: jax.Array, x: jax.Array) -> Any:
    features = Features(maps=None, pooled=x)
    out, found['variables'] = head.init_with_output(rng, features, train=False)
    return joint.informative(out.embedding, jnp.ones(1)) if informative else out

  macs = cost.count(call, jax.random.key(0), pooled)
  return _size(found['variables']['params']), macs


def tables(config: Any) -> dict[str, list[dict[str, str]]]:
  """Returns both tables of a config of several datasets. Raises ValueError for one dataset."""
  config = parse(config)
  if not is_joint(config):
    raise ValueError(
      f"config.head.name is {config.head.name!r}: give a config with the head 'joint', such as "
      'configs/multitrain.py'
    )
  head = build.model(config, build.known_outputs(config)).head
  backbone, features = of_backbone(config)
  measure = functools.partial(of_head, pooled=features.pooled)
  add = lambda *parts: tuple(sum(numbers) for numbers in zip(backbone, *parts))
  vanilla = add(*(measure(head.serving(dataset)) for dataset in head.num_classes))
  whole = add(measure(head, informative=True))
  more = tuple(b - a for a, b in zip(vanilla, whole))
  percent = {key: f'{100 * a / b:.2g}' for key, a, b in zip(_COLUMNS, more, vanilla)}
  training = [
    {'training': 'vanilla joint', **_cells(vanilla)},
    {'training': 'MultiTrain', **_cells(whole)},
    {'training': 'MultiTrain adds', **_cells(more)},
    {'training': 'MultiTrain adds, %', **percent},
  ]
  served = []
  for dataset, count in head.num_classes.items():
    own = mlp.Head(count, hidden=head.hidden) if head.hidden else linear.Head(count)
    networks = {
      'one classifier of several': head.serving(dataset),
      'alone, the same classifier': own,
      'alone, a linear classifier': linear.Head(count),
    }
    for what, one in networks.items():
      served.append({'dataset': dataset, 'network': what, **_cells(add(measure(one)))})
  return {'Training': training, 'Served': served}


_COLUMNS = ('parameters', 'GMACs of a clip')


def _cells(found: Sequence[int]) -> dict[str, str]:
  return dict(zip(_COLUMNS, (f'{found[0]:,}', f'{found[1] / 1e9:.4f}')))


def _size(params: Any) -> int:
  return sum(x.size for x in jax.tree.leaves(params))


def _config(where: str) -> Any:
  """Returns the config of FILE[:ARGUMENT]. Raises ValueError where there is no such file."""
  path, _, argument = where.partition(':')
  if not Path(path).is_file():
    raise ValueError(f'there is no file {path}: give configs/multitrain.py, or one like it')
  return runpy.run_path(path)['get_config'](argument)


def main(argv: Sequence[str] | None = None) -> int:
  """Prints both tables; returns 1 with one message for a config that has none."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('config', help='of several datasets: FILE, or FILE:ARGUMENT')
  args = parser.parse_args(argv)
  try:
    for title, rows in tables(_config(args.config)).items():
      print(f'{title}\n\n{study_report.markdown(rows)}\n')
  except (ValueError, OSError) as error:
    print(error, file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
