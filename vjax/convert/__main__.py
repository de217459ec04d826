"""Published weights -> an ordinary vjax checkpoint: python -m vjax.convert --source=vmz --variant=r2plus1d_34 in out"""

import argparse

from vjax import ckpt, convert, rooms, tree


def main(arguments: list[str] | None = None) -> None:
  """Converts one file; errors list every name that does not fit."""
  parser = argparse.ArgumentParser(prog='python -m vjax.convert', description=__doc__)
  parser.add_argument('weights', help='.pth, .pyth, .pt, .pkl, .safetensors or .npz')
  parser.add_argument('out', help='folder of the checkpoint')
  parser.add_argument('--source', required=True, choices=rooms.names('convert'))
  parser.add_argument('--variant', required=True)
  parser.add_argument('--trained_on', default='', help='data sets, comma-separated (k700): they guard against leaks')
  chosen = parser.parse_args(arguments)
  try:
    _, variables = convert.load(chosen.source, chosen.weights, variant=chosen.variant)
  except ValueError as error:
    raise SystemExit(f'error: {error}') from error
  trained_on = [name for name in chosen.trained_on.split(',') if name]
  meta = {'source': chosen.source, 'variant': chosen.variant, 'weights': chosen.weights, 'trained_on': trained_on}
  ckpt.save_params(chosen.out, variables, meta)
  count = sum(array.size for name, array in tree.flatten(variables).items() if name.startswith('params/'))
  print(f'{chosen.out}: {count:,} parameters of {chosen.source} {chosen.variant}')


if __name__ == '__main__':
  main()
