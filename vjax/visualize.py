"""Pictures of what a checkpoint does with videos.

python -m vjax.visualize reconstruct --workdir=runs/mae a.mp4   a PNG: original, masked, rebuilt
python -m vjax.visualize heatmap --workdir=runs/mine a.mp4      an MP4: evidence for a class
python -m vjax.visualize slices --workdir=runs/mine a.mp4       a PNG: that of each temporal slice
"""

import argparse
import copy
import logging
import math
import re
import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vjax import figures, files, inference, inflate, predict, preprocess
from vjax.config import ViewsConfig, nearest
from vjax.data.specs import frame_size
from vjax.layers import mask
from vjax.types import Features

STEPS = 32  # of the integral of a heat map


def reconstruct(model: inference.InferenceModel, path: str, ratios: list[float]) -> Any:
  """Draws the middle clip of a video: original, masked, reconstruction.

  Three rows for each ratio of removed tokens, that of the training where `ratios` is empty.
  (Feichtenhofer et al. 2022, figures 2 and 7.) Raises ValueError where the run is no masked
  autoencoder, or two ratios remove the same number of tokens, as those of whole frames may.
  """
  if model.objective.reconstruct is None:
    name = model.config.objective.name
    raise ValueError(
      f'the run was trained with objective {name!r}: only masked autoencoders (mae) of '
      'pixels reconstruct'
    )
  clip, rows, oracle = _middle_clip(model, path), {}, True
  kind, grid = model.objective.setting('kind'), model.model.backbone.grid(clip.shape[1:4])
  for ratio in ratios or [model.objective.setting('ratio')]:
    share = mask.removed_share(grid, ratio, kind)
    if share in rows:
      raise ValueError(
        f'--ratios {" ".join(map(str, ratios))}: masks of kind {kind!r} over {grid} tokens remove '
        f'the same share, {share:.0%}, for two of them: give ratios further apart'
      )
    (parts,), _, oracle = model.reconstructions(clip, ratio)
    rows[share] = list(parts)
  return figures.reconstruction_sheet(rows, model.mean, model.std, oracle)


def heatmap(
  model: inference.InferenceModel, path: str, label: str = ''
) -> tuple[np.ndarray, np.ndarray, str]:
  """Shows where the score of a class comes from in the middle clip of a video.

  Args:
    model: a classifier.
    path: of the video.
    label: the class, '' = the most probable.

  Returns:
    Frames (T, H, W, 3) uint8; heat (T, H, W) in 0..1, of which what counts against the class is 0;
    and the label.

  Raises:
    ValueError: for a label that the run does not know, and for a run that knows none.
  """
  model.check_chosen()
  name = model.config.objective.name
  if name != 'classify':
    raise ValueError(
      f'the run was trained with objective {name!r}: heat maps are of the scores of a classifier'
    )
  if not model.classes:
    raise ValueError('the weights were converted without a classifier: there are no scores to show')
  if label and label not in model.classes:
    close = nearest(label, model.classes)
    hint = f' (did you mean {close!r}?)' if close else ''
    raise ValueError(
      f'--label is {label!r}, which is no class of the run{hint}: choose one of '
      f'{", ".join(model.classes)}'
    )
  pixels = _middle_clip(model, path)
  clip = preprocess.normalize(jnp.asarray(pixels), model.mean, model.std)
  variables = {'params': model.params, **model.stats}
  chosen = model.classes.index(label) if label else int(model.logits(pixels[:, None]).argmax())
  total = 0.0
  for part in contributions(model.model, variables, clip, chosen):
    total = total + np.asarray(jax.image.resize(np.maximum(part, 0), clip.shape[1:4], 'linear'))
  return pixels[0], total / max(total.max(), 1e-12), model.classes[chosen]


def slice_heatmaps(
  model: inference.InferenceModel, path: str, label: str = ''
) -> tuple[dict[str, np.ndarray], str]:
  """Shows what the networks of single temporal slices look at, beside the whole network.

  Every kernel through time keeps one slice, in its middle, so that each frame is answered by
  itself.  (Li et al. 2022, figure 1.)

  Returns:
    Frames under their heat, (T, H, W, 3) uint8, for the rows of a figure; and the label.

  Raises:
    ValueError: as `heatmap`.
  """
  frames, heat, label = heatmap(model, path, label)
  rows = {'frames': frames, 'network': figures.overlaid(frames, heat)}
  for index in (0, 1, 2):
    part = copy.copy(model)
    part.params = jax.tree.map(jnp.asarray, inflate.in_the_middle(model.params, index))
    rows[f'slice {index}'] = figures.overlaid(frames, heatmap(part, path, label)[1])
  return rows, label


def _middle_clip(model: inference.InferenceModel, path: str) -> np.ndarray:
  """The center view (1, T, H, W, 3) uint8 of a video file."""
  size = frame_size(model.config.augment, None)
  return predict.views(path, ViewsConfig(**vars(model.config.clip)), size)


def contributions(model: Any, variables: Any, clip: jax.Array, chosen: int) -> list[np.ndarray]:
  """Contribution of every place to score `chosen` of a clip (1, T, H, W, 3): one (T', H', W')
  float32 for each pathway.

  Transformers: integrated gradients (Sundararajan et al. 2017) over the tokens that the last block
  is given, from their mean to what they are. So the readout may be any (class token, norm of the
  mean, mean of norms), and the sum is how much
  the score rises. Gradient times token alone would not do: a norm comes next, which does not see a
  token's length.
  Others: gradient-weighted class activation (Selvaraju et al. 2017) of the last maps, the mean of
  which is what the head is given.
  """
  block = _last_block(model, variables, clip)
  if block is None:
    return jax.jit(lambda v, x: _of_maps(model, v, x, chosen))(variables, clip)
  return [
    np.asarray(jax.jit(lambda v, x: _of_tokens(model, v, x, chosen, *block))(variables, clip))
  ]


def _last_block(
  model: Any, variables: Any, clip: jax.Array
) -> tuple[tuple[str, ...], tuple[int, int, int]] | None:
  """(path, grid of the tokens it is given) of the last of the blocks 'block0', ... of a
  transformer."""
  found = []

  def watch(call, args, kwargs, context):
    path = context.module.path
    if context.method_name == '__call__' and len(path) == 2 and re.fullmatch(r'block\d+', path[1]):
      found.append(
        (path, next((x for x in args if isinstance(x, tuple)), None))
      )  # MViT's are told the grid
    return call(*args, **kwargs)

  with nn.intercept_methods(watch):
    features = jax.eval_shape(
      lambda v, x: model.apply(v, x, train=False, method='features'), variables, clip
    )
  if features.grid is None or not found:
    return None
  path, grid = found[-1]
  return path, grid or features.grid


def _of_tokens(
  model: Any, variables: Any, clip: jax.Array, chosen: int, path: tuple, grid: tuple
) -> jax.Array:
  def run(tokens):
    """(the score, the tokens that the block at `path` was given), in place of which it gets
    `tokens`, where given."""
    seen = []

    def put(call, args, kwargs, context):
      if context.module.path == path and context.method_name == '__call__':
        seen.append(args[0])
        args = args if tokens is None else (tokens.astype(args[0].dtype), *args[1:])
      return call(*args, **kwargs)

    with nn.intercept_methods(put):
      score = model.apply(variables, clip, train=False)[0, chosen]
    return score, seen[0]

  tokens = run(None)[1].astype(jnp.float32)
  first, body = tokens[:, : -math.prod(grid)], tokens[:, -math.prod(grid) :]
  mean = body.mean(1, keepdims=True)
  at = lambda share: jnp.concatenate([first, mean + share * (body - mean)], axis=1)
  # Steps are closer where the tokens are alike: there their mean may be short, and the norm turns
  # fast.
  places = (jnp.arange(STEPS) + 0.5) / STEPS
  slope = lambda u: 3 * u**2 * jax.grad(lambda x: run(x)[0])(at(u**3))
  slopes = jax.lax.map(slope, places).mean(0)
  return (slopes[0, -math.prod(grid) :] * (body - mean)[0]).sum(-1).reshape(grid)


def _of_maps(model: Any, variables: Any, clip: jax.Array, chosen: int) -> list[jax.Array]:
  maps = model.apply(variables, clip, train=False, method='features').maps
  inner = {name: tree['head'] for name, tree in variables.items() if 'head' in tree}

  def score(maps):
    pooled = jnp.concatenate([x.astype(jnp.float32).mean((1, 2, 3)) for x in maps], axis=-1)
    return model.head.apply(inner, Features(maps=maps, pooled=pooled), train=False)[0, chosen]

  return [
    (values[0] * slopes[0].mean((0, 1, 2))).sum(-1).astype(jnp.float32)
    for values, slopes in zip(maps, jax.grad(score)(maps))
  ]


def _split_ratios(parser: argparse.ArgumentParser, args: Any) -> None:
  """Moves arguments after --ratios that are no numbers to the videos."""
  numbers = [x for x in args.ratios if re.fullmatch(r'\d*\.?\d+', x) and not Path(x).is_file()]
  args.videos += [x for x in args.ratios if x not in numbers]
  args.ratios = [float(x) for x in numbers]
  if wrong := [x for x in args.ratios if not 0 < x < 1]:
    parser.error(f'--ratios {wrong[0]}: it is a share of the tokens, above 0 and below 1')
  if not args.videos:
    parser.error('no video: give one or more files')


def main(argv: list[str] | None = None) -> int:
  """Writes a file for every video; 1 if one could not be read."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('what', choices=('reconstruct', 'heatmap', 'slices'))
  parser.add_argument('--workdir', required=True, help='of a training run')
  parser.add_argument('--out', default='.', help='folder of the pictures')
  parser.add_argument(
    '--ratios', nargs='*', default=[], help='reconstruct: 0.9 0.95 0.98; default the run’s own'
  )
  parser.add_argument(
    '--label',
    default='',
    help='heatmap, slices: class whose score is explained; default the most probable',
  )
  parser.add_argument('--overwrite', action='store_true', help='replace pictures in the folder')
  parser.add_argument('videos', nargs='*', help='video files')
  args: Any = parser.parse_intermixed_args(argv)  # videos before the options, or after
  _split_ratios(parser, args)
  logging.getLogger('absl').setLevel(logging.ERROR)
  endings = {'reconstruct': 'reconstruction.png', 'heatmap': 'heat.mp4', 'slices': 'slices.png'}
  failed, ending = 0, endings[args.what]
  pictures = [Path(args.out, f'{name}_{ending}') for name in _file_names(args.videos)]
  try:
    files.check_new('--out', pictures, overwrite=args.overwrite)
    Path(args.out).mkdir(parents=True, exist_ok=True)
    model = inference.load(args.workdir)
  except FileExistsError:
    print(f'--out={args.out} is a file: give a folder for the pictures', file=sys.stderr)
    return 1
  except (ValueError, OSError) as error:
    print(error, file=sys.stderr)
    return 1
  for path, file in zip(args.videos, pictures):
    try:
      if args.what == 'reconstruct':
        files.write_bytes(file, figures.png(reconstruct(model, path, args.ratios)))
        print(file)
      elif args.what == 'slices':
        rows, label = slice_heatmaps(model, path, args.label)
        files.write_bytes(file, figures.png(figures.frames(rows)))
        print(f'{file}: {label}')
      else:
        frames, heat, label = heatmap(model, path, args.label)
        files.write_bytes(file, figures.mp4(figures.overlaid(frames, heat)))
        print(f'{file}: {label}')
    except (ValueError, OSError) as error:
      print(error, file=sys.stderr)
      failed = 1
  return failed


def _file_names(videos: list[str]) -> list[str]:
  """Names of the files that are written of videos: theirs, with their folders where they share
  one."""
  stems = [Path(video).stem for video in videos]
  whole = ['-'.join(re.findall(r'[^/.][^/]*', video)) for video in videos]
  return [stem if stems.count(stem) == 1 else name for stem, name in zip(stems, whole, strict=True)]


if __name__ == '__main__':
  sys.exit(main())
