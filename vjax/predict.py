"""Predicts labels for video files:  python -m vjax.predict --workdir=runs/x clip.mp4 [...]

Uses the run's newest checkpoint, its own preprocessing and test views, and its class names. With
--window_s=10, a long film gets labels by time; memory does not grow with its length. With
--out=FILE, a .csv, .json or .jsonl, the labels go to a file as well: video, start_s and end_s (with
--window_s), rank, class, probability.
"""

import argparse
import csv
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from vjax import files, inference
from vjax.config import ViewsConfig
from vjax.data import clips, video_file
from vjax.data.specs import frame_size
from vjax.evals.views import averaged

ENDINGS = ('.csv', '.json', '.jsonl')  # of --out


class Predictor:
  """Classifier of video files.

  Attributes:
    model: of the run.
    clip: test views of the run's evaluation, or one center view where the run has no evaluation.
    average: average over views, of 'probabilities' or 'logits'.
    batch_size: views in one call of the network.

  Raises ValueError for a run without labels.
  """

  def __init__(self, workdir: str, *, batch_size: int = 8):
    self.model = inference.load(workdir)
    config = self.model.config
    self.model.check_chosen()
    if config.objective.name != 'classify':
      raise ValueError(
        f'{workdir} was trained with objective {config.objective.name!r} and knows no labels: '
        'predict with a classifier, such as a fine-tuned run'
      )
    if not self.model.classes:
      raise ValueError(
        f'{workdir} is converted weights without a classifier, which know no labels: train one on '
        'them (config.init.path, or configs/probe_k400.py) and predict with that run'
      )
    entry = next((entry for entry in config.evals.values() if entry.name == 'views'), None)
    self.clip = entry.clip if entry else ViewsConfig(**vars(config.clip))
    self.size = frame_size(config.augment, entry)
    self.average = entry.settings.get('average', 'probabilities') if entry else 'probabilities'
    # By the labels of the data, as in evaluations; older runs say only what they were trained with.
    trained = bool(config.objective.settings.get('multi_label', False))
    self.multi_label = self.model.labels == 'multi_label' if self.model.labels else trained
    self.batch_size = batch_size

  def probabilities(self, path: str) -> np.ndarray:
    """Returns probabilities (K,), averaged over the test views of a video file. Raises ValueError
    where the file cannot be decoded."""
    return self._of_views(views(path, self.clip, self.size))

  def windows(self, path: str, seconds: float) -> Iterator[tuple[float, float, np.ndarray]]:
    """Yields (start_s, end_s, probabilities (K,)) of consecutive windows of a video, each predicted
    like a whole video. Only the frames of one window are kept at a time."""
    side, frames, starts = _short_side(self.clip), [], []
    first, last = 0.0, 0.0
    try:
      for start, end, frame in video_file.read_frames(
        path, short_side=side, max_duration_s=float('inf')
      ):
        if frames and start >= first + seconds:
          yield first, start, self._of_frames(frames, starts)
          first, frames, starts = start, [], []
        frames.append(frame)
        starts.append(start)
        last = end
    except video_file.VideoError as error:
      raise ValueError(f'{path}: {error}') from error
    yield first, last, self._of_frames(frames, starts)

  def _of_frames(self, frames: list[np.ndarray], starts: list[float]) -> np.ndarray:
    orders = clips.test_orders(len(frames), _rate(starts), self.clip)
    chosen = (frames[t] for t in np.unique(orders))
    return self._of_views(clips.test_views(chosen, orders, self.clip, self.size))

  def _of_views(self, found: np.ndarray) -> np.ndarray:
    n, parts = self.batch_size, []
    for start in range(0, len(found), n):
      part = found[start : start + n]
      spare = (n if len(found) > n else len(found)) - len(part)  # one shape, so one compilation
      part = np.concatenate([part, np.repeat(part[-1:], spare, axis=0)])
      parts.append(self.model.logits(part[:, None])[: n - spare, 0])
    return averaged(np.concatenate(parts)[None], self.average, self.multi_label)[0]


def views(path: str, clip: ViewsConfig, size: tuple[int, int] | None) -> np.ndarray:
  """Returns the test views (V, T, H, W, 3) uint8 of a video file. size: see `frame_size`.

  The file is decoded twice, for the number of its frames and for the frames of the views: memory
  does not grow with its length. Raises ValueError where the file cannot be decoded.
  """
  try:
    times = video_file.frame_times(path)
    orders = clips.test_orders(len(times), _rate(times), clip)
    frames = video_file.read_frames(
      path,
      short_side=_short_side(clip),
      max_duration_s=float('inf'),
      only=set(np.unique(orders).tolist()),
    )
    shown = (frame for _, _, frame in frames)
    return clips.test_views(shown, orders, clip, size)
  except video_file.VideoError as error:
    raise ValueError(f'{path}: {error}') from error


def _rate(starts: list[float]) -> float:
  """Returns frames per second, 0 = unknown."""
  return (len(starts) - 1) / (starts[-1] - starts[0]) if len(starts) > 1 else 0.0


def _short_side(clip: ViewsConfig) -> int:
  return clip.short_side if isinstance(clip.crop_size, str) else max(clip.short_side, *clip.crop)


def main(argv: list[str] | None = None) -> int:
  """Prints the most probable labels of each video; returns 1 if a video could not be read."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--workdir', required=True, help='of a training run, or converted weights')
  parser.add_argument('--top', type=int, default=5, help='labels a video')
  parser.add_argument('--batch_size', type=int, default=8, help='views at once')
  parser.add_argument(
    '--window_s', type=float, default=0.0, help='labels for every so many seconds; 0 = the whole'
  )
  parser.add_argument(
    '--out',
    default='',
    help=f'file for the labels, {", ".join(ENDINGS)}: of the videos that were read',
  )
  parser.add_argument('--overwrite', action='store_true', help='replace the file of --out')
  parser.add_argument('videos', nargs='+', help='video files')
  args: Any = parser.parse_args(argv)
  for name in ('top', 'batch_size'):
    if getattr(args, name) < 1:
      parser.error(f'--{name} is {getattr(args, name)}; it must be 1 or more')
  if not args.window_s >= 0:
    parser.error(f'--window_s is {args.window_s}; it must be 0 (the whole video) or more')
  if args.out and not args.out.lower().endswith(ENDINGS):
    parser.error(
      f'--out={args.out}: the file must end with {", ".join(ENDINGS)}, which is its form'
    )
  logging.getLogger('absl').setLevel(logging.ERROR)  # Orbax warns of files that it does not need
  failed, rows = 0, []
  try:
    if args.out:
      files.check_new('--out', [args.out], overwrite=args.overwrite)
    predictor = Predictor(args.workdir, batch_size=args.batch_size)
  except (ValueError, OSError) as error:
    print(error, file=sys.stderr)
    return 1
  for path in args.videos:
    try:
      if args.window_s:
        print(path)
        for start, end, found in predictor.windows(path, args.window_s):
          best = ', '.join(_labels(predictor, found, args.top))
          times = {'start_s': round(start, 6), 'end_s': round(end, 6)}
          rows += _rows({'video': path, **times}, predictor, found, args.top)
          print(f'  {_clock(start)} to {_clock(end)}  {best}', flush=True)
      else:
        found = predictor.probabilities(path)
        print('\n  '.join([path, *_labels(predictor, found, args.top)]))
        rows += _rows({'video': path}, predictor, found, args.top)
    except ValueError as error:
      print(error, file=sys.stderr)
      failed += 1
  if failed and len(args.videos) > 1:
    print(f'{failed} of {len(args.videos)} videos were not read, see above', file=sys.stderr)
  if args.out:
    try:
      files.write_bytes(args.out, encode(rows, args.out).encode())
    except OSError as error:
      print(f'--out={args.out} could not be written: {error}', file=sys.stderr)
      return 1
  return int(failed > 0)


def _labels(predictor: Predictor, found: np.ndarray, top: int) -> list[str]:
  return [f'{found[k]:6.1%}  {predictor.model.classes[k]}' for k in _best(found, top)]


def _rows(
  of: dict[str, Any], predictor: Predictor, found: np.ndarray, top: int
) -> list[dict[str, Any]]:
  """Returns `of` with rank, class and probability for each of the most probable labels."""
  classes = predictor.model.classes
  return [
    {**of, 'rank': rank, 'class': classes[k], 'probability': float(found[k])}
    for rank, k in enumerate(_best(found, top), 1)
  ]


def _best(found: np.ndarray, top: int) -> np.ndarray:
  return np.argsort(-found, kind='stable')[:top]


def encode(rows: list[dict[str, Any]], name: str) -> str:
  """Returns rows as text, in the form that a file's name ends with: CSV with a header, a JSON list
  of objects, or an object a line."""
  if name.lower().endswith('.csv'):
    text = io.StringIO(newline='')
    writer = csv.DictWriter(
      text, list(rows[0]) if rows else ['video', 'rank', 'class', 'probability']
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
  lines = [json.dumps(row, ensure_ascii=False) for row in rows]
  if name.lower().endswith('.jsonl'):
    return ''.join(f'{line}\n' for line in lines)
  return '[' + ',\n '.join(lines) + ']\n'


def _clock(seconds: float) -> str:
  return f'{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{seconds % 60:04.1f}'


if __name__ == '__main__':
  sys.exit(main())
