"""Labels for videos of one's own:  python -m vjax.predict --workdir=runs/x clip.mp4 [...]

Uses the run's newest checkpoint, its own preprocessing and test views, and its class names.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vjax import build, ckpt
from vjax.config import ViewsConfig, parse, plain


class Loaded:
  """The newest checkpoint of a workdir with its own config: model, params, stats, classes, and
  clips of video files as it wants them. Raises ValueError where config and weights do not fit, or a
  converted checkpoint lacks what nobody knew."""

  def __init__(self, workdir: str):
    variables, meta = ckpt.load_params(workdir)
    given = plain(meta['config'])
    needed = {
      'clip': ('num_frames', 'frame_stride', 'crop_size', 'short_side', 'sampling'),
      'data': ('mean', 'std'),
    }
    if unknown := [
      f'--{key}' for section, keys in needed.items() for key in keys if key not in given[section]
    ]:
      raise ValueError(
        f'{workdir} does not say for what clips its weights are: convert them again, python -m '
        'vjax.convert, with '
        f'{", ".join(unknown)}'
      )
    # Nothing is differentiated through blocks.
    self.config, self.classes = (
      parse({**given, 'train': {**given['train'], 'remat': False}}),
      list(meta['classes']),
    )
    self.model = build.model(self.config, len(self.classes))
    self.clip = self.config.clip
    ckpt.check_fits(self.model, self.clip, variables, workdir)
    self.stats = jax.device_put(variables)
    self.params = self.stats.pop('params')

  def views(self, path: str, *, num_clips: int, num_crops: int) -> np.ndarray:
    """Normalized test views (V, T, H, W, 3) float32 of a video file. Raises ValueError where it
    cannot be decoded."""
    from vjax.data import pipeline, video_file

    augment, data = self.config.augment, self.config.data
    size = augment.size if augment.crop == 'fixed' else None
    clip = ViewsConfig(**vars(self.clip), num_clips=num_clips, num_crops=num_crops)
    try:
      frames, times = [], []
      for start, _, frame in video_file.read_frames(
        path, short_side=max(clip.short_side, clip.crop_size)
      ):
        frames.append(frame)
        times.append(start)
    except video_file.VideoError as error:
      raise ValueError(f'{path}: {error}') from error
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
    views = pipeline.test_views(np.stack(frames), rate, clip, size)
    return np.float32((views / 255 - np.array(data.mean)) / np.array(data.std))


class Predictor(Loaded):
  """A classifier that answers video files. Raises ValueError for a run that knows no labels."""

  def __init__(self, workdir: str):
    super().__init__(workdir)
    if self.config.objective.name != 'classify':
      raise ValueError(
        f'{workdir} was trained with objective {self.config.objective.name!r} and knows no labels: '
        'predict with a '
        f'classifier, such as a fine-tuned run'
      )
    found = [entry for entry in self.config.evals.values() if entry.name == 'views']
    self._views = dict(num_clips=found[0].num_clips, num_crops=found[0].num_crops) if found else {}
    self._average = found[0].settings.get('average', 'probabilities') if found else 'probabilities'
    self._apply = jax.jit(
      lambda view: self.model.apply({'params': self.params, **self.stats}, view, train=False)
    )

  def probabilities(self, path: str) -> np.ndarray:
    """(K,) for a video file: mean over the test views. Raises ValueError where it cannot be
    decoded."""
    views = self.views(path, **{'num_clips': 1, 'num_crops': 1, **self._views})
    logits = np.concatenate([self._apply(view[None]) for view in views])
    if self._average == 'logits':
      return np.asarray(jax.nn.softmax(logits.mean(0)))
    return np.asarray(jax.nn.softmax(logits, axis=-1)).mean(0)


def main(argv: list[str] | None = None) -> int:
  """Prints the most probable labels of each video; 1 if one could not be read."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument(
    '--workdir', required=True, help='of a training run, or a converted checkpoint'
  )
  parser.add_argument('--top', type=int, default=5, help='labels a video')
  parser.add_argument('videos', nargs='+', help='video files')
  args: Any = parser.parse_args(argv)
  logging.getLogger('absl').setLevel(logging.ERROR)  # Orbax warns of files that it does not need
  failed = 0
  try:
    predictor = Predictor(args.workdir)
  except (ValueError, OSError) as error:
    print(error, file=sys.stderr)
    return 1
  for path in args.videos:
    try:
      probabilities = predictor.probabilities(path)
    except ValueError as error:
      print(error, file=sys.stderr)
      failed = 1
      continue
    print(Path(path).name)
    for k in np.argsort(-probabilities)[: args.top]:
      print(f'  {probabilities[k]:6.1%}  {predictor.classes[k]}')
  return failed


if __name__ == '__main__':
  sys.exit(main())
