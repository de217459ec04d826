"""Pictures of what a checkpoint does with videos.

python -m vjax.look reconstruct --workdir=runs/mae_k400 clip.mp4 [...]     original, masked, reconstruction; a PNG a video
python -m vjax.look heatmap --workdir=runs/mine clip.mp4 [...]             where the score of a class comes from; an MP4
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjax import pictures, predict
from vjax.objectives import mae
from vjax.types import Features


def reconstruct(loaded: predict.Loaded, path: str, ratios: list[float]) -> Any:
  """Figure of the middle clip of a video, three rows for each ratio of removed tokens; the objective's own where there are
  none.  (Feichtenhofer et al. 2022, figures 2 and 7.) Raises ValueError where the run is no masked autoencoder."""
  name, settings = loaded.config['objective']['name'], dict(loaded.config['objective'])
  if name != 'mae':
    raise ValueError(f'the run was trained with objective {name!r}: only masked autoencoders (mae) reconstruct')
  del settings['name']
  ratios = ratios or [settings['ratio'] if 'ratio' in settings else 0.9]
  clip = jnp.asarray(loaded.views(path, clips=1, crops=1))
  rows = {}
  for ratio in ratios:
    parts = mae.reconstruct(loaded.model, loaded.params, clip, stats=loaded.stats, **{**settings, 'ratio': ratio})
    rows[ratio] = [np.asarray(part[0]) for part in parts]
  data = loaded.config['data']
  oracle = 'normalise' not in settings or settings['normalise']
  return pictures.reconstruction_sheet(rows, data['mean'], data['std'], oracle)


def heatmap(loaded: predict.Loaded, path: str, label: str = '') -> tuple[np.ndarray, np.ndarray, str]:
  """(frames (T, H, W, 3) uint8 of the middle clip, heat (T, H, W) in 0..1, label): where the score of `label` comes
  from, the most probable one if ''. Raises ValueError for a label that the run does not know.

  Gradient-weighted class activation of the backbone's last maps (Selvaraju et al. 2017): the mean over positions of their
  mean's effect on the score weighs the channels; what is negative counts as nothing. The head is applied to the mean over
  positions, which is what it is given but by the transformers that read out a class token.
  """
  if label and label not in loaded.classes:
    raise ValueError(f'label is {label!r}; the run knows {", ".join(loaded.classes)}')
  clip = jnp.asarray(loaded.views(path, clips=1, crops=1))
  variables = {'params': loaded.params, **loaded.stats}
  maps, scores = jax.jit(lambda v, x: _maps(loaded.model, v, x))(variables, clip)
  chosen = loaded.classes.index(label) if label else int(scores[0].argmax())
  frames = np.asarray(
    clip[0] * jnp.asarray(loaded.config['data']['std']) + jnp.asarray(loaded.config['data']['mean'])
  )
  heat = np.asarray(_heat(loaded.model, variables, maps, chosen, frames.shape[:3]))
  return np.uint8(np.clip(frames, 0, 1) * 255), heat, loaded.classes[chosen]


def _maps(model: Any, variables: Any, clip: jax.Array) -> tuple[tuple[jax.Array, ...], jax.Array]:
  features = model.apply(variables, clip, train=False, method='features')
  return features.maps, model.apply(variables, clip, train=False)


def _heat(model: Any, variables: Any, maps: tuple, chosen: int, size: tuple[int, ...]) -> jax.Array:
  """(T, H, W) of `size`, in 0..1."""
  inner = {name: tree['head'] for name, tree in variables.items() if 'head' in tree}

  def score(maps):
    pooled = jnp.concatenate([x.astype(jnp.float32).mean((1, 2, 3)) for x in maps], axis=-1)
    return model.head.apply(inner, Features(maps=maps, pooled=pooled), train=False)[0, chosen]

  total = 0.0
  for values, slopes in zip(maps, jax.grad(score)(maps)):
    one = jax.nn.relu((values[0] * slopes[0].mean((0, 1, 2))).sum(-1).astype(jnp.float32))
    total = total + jax.image.resize(one, size, 'linear')
  return total / jnp.maximum(total.max(), 1e-12)


def main(argv: list[str] | None = None) -> int:
  """Writes a file for every video; 1 if one could not be read."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('what', choices=('reconstruct', 'heatmap'))
  parser.add_argument('--workdir', required=True, help='of a training run')
  parser.add_argument('--out', default='.', help='folder of the pictures')
  parser.add_argument(
    '--ratios', type=float, nargs='*', default=[], help='reconstruct: 0.9 0.95 0.98; default the run’s own'
  )
  parser.add_argument(
    '--label', default='', help='heatmap: class whose score is explained; default the most probable'
  )
  parser.add_argument('videos', nargs='+', help='video files')
  args: Any = parser.parse_args(argv)
  logging.getLogger('absl').setLevel(logging.ERROR)
  failed = 0
  try:
    loaded = predict.Loaded(args.workdir)
  except (ValueError, OSError) as error:
    print(error, file=sys.stderr)
    return 1
  Path(args.out).mkdir(parents=True, exist_ok=True)
  for path in args.videos:
    try:
      if args.what == 'reconstruct':
        file = Path(args.out, f'{Path(path).stem}_reconstruction.png')
        pictures.write(file, pictures.png(reconstruct(loaded, path, args.ratios)))
        print(file)
      else:
        frames, heat, label = heatmap(loaded, path, args.label)
        file = Path(args.out, f'{Path(path).stem}_heat.mp4')
        pictures.write(file, pictures.mp4(pictures.overlaid(frames, heat)))
        print(f'{file}: {label}')
    except ValueError as error:
      print(error, file=sys.stderr)
      failed = 1
  return failed


if __name__ == '__main__':
  sys.exit(main())
