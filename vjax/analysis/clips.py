"""Accuracy and cost over the number of clips of a video (Chen et al., CVPR 2021, figures 5, 8, 9):
python -m vjax.analysis.clips NAME.predictions.npz ... [--gmacs=64.2] [--out=a.png]

There are two protocols. 'prefix': of an evaluation with M clips, the first m are averaged, for
every m; one file is enough. 'm-clip': an evaluation of its own for every m, whose clips are spread
anew (`test=clips` of configs/cnn_study.py); give its files, from which the table takes all views.
They differ: the first three of ten uniform clips are not the three clips of an evaluation with
three.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vjax import evaluate, figures, files
from vjax.evals import views

PROTOCOLS = ('prefix', 'm-clip')


def prefix_top1(
  logits: Float[np.ndarray, 'n v k'],
  labels: Int[np.ndarray, ' n'],
  *,
  num_crops: int = 1,
  average: str = 'logits',
) -> list[float]:
  """Returns the top-1 of the first m clips, in all their crops, for m = 1 to V / num_crops.

  View v is crop * clips + clip, as evaluations order them. Raises ValueError where num_crops does
  not divide V.
  """
  n, v, k = logits.shape
  if num_crops < 1 or v % num_crops:
    raise ValueError(f'num_crops is {num_crops}; it must divide the {v} views of every video')
  by_clip = logits.reshape(n, num_crops, v // num_crops, k)

  def top1(clips: int) -> float:
    first = by_clip[:, :, :clips].reshape(n, -1, k)
    return views.scores(views.averaged(first, average), labels, num_classes=k)['top1']

  return [top1(m) for m in range(1, v // num_crops + 1)]


def rows(
  paths: Sequence[str], protocol: str, *, num_crops: int = 0, gmacs: float = 0.0
) -> list[dict[str, Any]]:
  """Returns {clips, top1, gmacs} by rising number of clips.

  Args:
    paths: of predictions.
    protocol: of PROTOCOLS.
    num_crops: of each clip, 0 = as the file says, or 1.
    gmacs: of one view; those returned are of all views.

  Raises ValueError for files with hidden or several labels, for 'prefix' of several files, and for
  other crops than a file says.
  """
  if protocol == 'prefix' and len(paths) != 1:
    raise ValueError(f'protocol prefix takes one file, not {len(paths)}: or give --protocol=m-clip')
  found = []
  for path in paths:
    predictions, more = evaluate.load_predictions(path)
    if predictions.label.ndim != 1 or (predictions.label < 0).any():
      raise ValueError(f'{path}: accuracy over clips needs one known label a video')
    said = int(more['num_crops'])
    if said and num_crops not in (0, said):
      raise ValueError(f'{path} has {said} crops a clip, not {num_crops}: leave --num_crops out')
    crops = said or num_crops or 1
    average = str(more['average'])
    top1 = prefix_top1(predictions.logits, predictions.label, num_crops=crops, average=average)
    first = 1 if protocol == 'prefix' else len(top1)
    found += [
      {'clips': m, 'top1': top1[m - 1], 'gmacs': gmacs * m * crops}
      for m in range(first, len(top1) + 1)
    ]
  return sorted(found, key=lambda row: row['clips'])


def main(argv: Sequence[str] | None = None) -> int:
  """Prints the table and draws the curve; 1 where a file cannot be used."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('predictions', nargs='+', help="an evaluation's .predictions.npz")
  parser.add_argument('--protocol', default='prefix', choices=PROTOCOLS)
  parser.add_argument('--num_crops', type=int, default=0, help='where a file does not say it')
  parser.add_argument('--gmacs', type=float, default=0.0, help='of one view, see vjax.zoo')
  parser.add_argument('--out', default='', help='PNG for the curve')
  parser.add_argument('--overwrite', action='store_true', help='replace the file of --out')
  args = parser.parse_args(argv)
  try:
    if args.out:
      files.check_new('--out', [args.out], overwrite=args.overwrite)
    found = rows(args.predictions, args.protocol, num_crops=args.num_crops, gmacs=args.gmacs)
    print(f'| clips ({args.protocol}) | top-1 % | GMACs |\n| --- | --- | --- |')
    for row in found:
      print(f'| {row["clips"]} | {100 * row["top1"]:.2f} | {row["gmacs"]:.1f} |')
    if args.out:
      points = [(row['clips'], 100 * row['top1']) for row in found]
      figure = figures.scatter({args.protocol: {'top-1': points}}, 'clips', 'top-1 %')
      files.write_bytes(args.out, figures.png(figure))
  except (ValueError, OSError) as error:
    print(error, file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
