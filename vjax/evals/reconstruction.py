"""Reconstructions of a masked autoencoder for TensorBoard: original, masked and reconstructed
frames of a few test clips."""

from collections.abc import Callable, Iterable

from vjax import figures
from vjax.types import Batch, Evaluation, Report


def run(
  reconstructions: Callable,
  batches: Iterable[Batch],
  *,
  mean: tuple[float, ...],
  std: tuple[float, ...],
  count: int = 2,
  ratios: tuple[float, ...] = (),
) -> Report:
  """Returns images {'clip0': (H, W, 3) uint8, ...} of the first `count` clips of this host, with
  two rows for each of `ratios` (shares of removed tokens; () = the objective's own).

  For normalized targets, the image states that each patch's mean and deviation are the original's.
  (Feichtenhofer et al. 2022, figures 2 and 7: 0.9, 0.95, 0.98.)
  """
  video = next(iter(batches))['video'][:count, 0]
  sheets, oracle = [{} for _ in video], True
  for ratio in ratios or (None,):
    found, own, oracle = reconstructions(video, ratio)
    for sheet, rows in zip(sheets, found):
      sheet[own] = rows
  drawn = (figures.reconstruction_sheet(sheet, mean, std, oracle) for sheet in sheets)
  return Report({}, {f'clip{i}': figures.array(figure) for i, figure in enumerate(drawn)})


EVALUATION = Evaluation(run, needs='reconstructions')
