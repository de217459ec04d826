"""May tokens be masked in fine-tuning, too?  Feichtenhofer et al. (NeurIPS 2022), table 11.

The share of masked tokens falls from 0, 50 or 75 % to 0 along half a cosine; tests see all tokens.
ViT-L, 800 epochs of pre-training on Kinetics-400, one seed. Expect 1.2 and 1.3 times the speed of
fine-tuning, for 0.3 and 0.6 points.

Command:  python -m vjax.study configs/studies/mae_masked_finetuning.py
          python -m vjax.study configs/studies/mae_masked_finetuning.py --tiny
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs.papers import cell
from configs.studies import _mae
from vjax.analysis import claims

MAE = 'mae_k400_L_800'
ROWS = {  # run -> (share of masked tokens at first, paper)
  f'{MAE}_tuned': (0.0, cell('{}', 'mae/finetuned_masked_0')),
  'tuned_mask_50': (0.5, cell('{}, 1.2 times the speed', 'mae/finetuned_masked_50')),
  'tuned_mask_75': (0.75, cell('{}, 1.3 times the speed', 'mae/finetuned_masked_75')),
}


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  yield MAE, _mae.pretraining(tiny)
  for name, (share, _) in ROWS.items():
    yield name, _mae.finetuning(tiny, f'{workdir}/{MAE}', f'mask={share}' if share else '')


def table(results: _mae.Results) -> list[dict[str, Any]]:
  """Returns top-1, and the speed of training over that without masks."""
  base = _mae.cost(results, next(iter(ROWS)), 'train_s')
  rows = []
  for name, (share, paper) in ROWS.items():
    seconds = _mae.cost(results, name, 'train_s')
    rows.append(
      {
        'masked at first': f'{100 * share:g} %',
        'top-1 %': _mae.percent(results, name),
        'speed': f'{base / seconds:.2f}' if base and seconds else None,
        'paper': paper,
      }
    )
  return rows


def outcome(results: _mae.Results) -> list[str]:
  """Returns how many pairs of rows are in the paper's order."""
  rows = table(results)
  return [claims.ordered('Shares by top-1', rows, 'top-1 %')]
