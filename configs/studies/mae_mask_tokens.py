"""Mask tokens in the encoder: their cost and their use.  Feichtenhofer et al. (NeurIPS 2022), table
1.

The encoder sees the visible tenth of the tokens, or all places with a mask token in those that are
removed. Expect the same accuracy, 7.7 times the multiply-adds, and by the paper 4.1 times the hours
with data loading. tests/test_objective_mae.py holds the multiply-adds.

Multiply-adds are of one clip's forward pass. Ours without mask tokens are 2 % below the paper's,
since only visible patches are embedded.

Command:  python -m vjax.study configs/studies/mae_mask_tokens.py           (ViT-L, Kinetics-400)
          python -m vjax.study configs/studies/mae_mask_tokens.py --tiny    (built-in data)
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs.papers import cell
from configs.studies import _mae
from vjax.analysis import claims

SPARSE, DENSE = 'mae_k400_L_800', 'mask_tokens'
WORDS = '{}; {} G; {} h of 128 A100'
ROWS = {  # run -> (description, whether the encoder keeps mask tokens, paper)
  SPARSE: (
    'without', False, cell(WORDS, 'mae/sparse', 'mae/sparse_gmacs', 'mae/sparse_hours'),
  ),
  DENSE: (
    'with', True, cell(WORDS, 'mae/mask_tokens', 'mae/mask_tokens_gmacs', 'mae/mask_tokens_hours'),
  ),
}  # fmt: skip


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  for name, (_, keep, _) in ROWS.items():
    yield name, _mae.pretraining(tiny, {'model.keep_mask_tokens': True} if keep else {})
    more = {'init.skip': ('head/.*', 'backbone/mask_token')} if keep else {}
    yield f'{name}_tuned', _mae.finetuning(tiny, f'{workdir}/{name}', changes=more)


def table(results: _mae.Results) -> list[dict[str, Any]]:
  """Returns accuracy and cost, and the costs with mask tokens over those without."""
  rows: list[dict[str, Any]] = []
  for name, (what, _, paper) in ROWS.items():
    macs = _mae.cost(results, name, 'gmacs_per_clip')
    rows.append(
      {
        'mask tokens in the encoder': what,
        'fine-tuned, top-1 %': _mae.percent(results, f'{name}_tuned'),
        'multiply-adds, G': macs and f'{macs:.4g}',
        'pre-training, h': _mae.hours(results, name) and f'{_mae.hours(results, name):.3g}',
        'paper': paper,
      }
    )
  if SPARSE in results and DENSE in results:
    of = lambda key: _mae.cost(results, DENSE, key) / _mae.cost(results, SPARSE, key)  # pyright: ignore
    rows.append(
      {
        'mask tokens in the encoder': 'with : without',
        'multiply-adds, G': f'{of("gmacs_per_clip"):.2f}',
        'pre-training, h': f'{of("train_s"):.2f}',
      }
    )
  return rows


def outcome(results: _mae.Results) -> list[str]:
  """Returns whether mask tokens in the encoder hurt, and what they cost."""
  dense, sparse = (claims.by_seed(results, f'{run}_tuned', 'test') for run in (DENSE, SPARSE))
  said = [claims.better('Mask tokens in the encoder help, the paper: no', dense, sparse)]
  if SPARSE in results and DENSE in results:
    more = _mae.cost(results, DENSE, 'train_s') / _mae.cost(results, SPARSE, 'train_s')  # pyright: ignore
    said.append(f'Mask tokens in the encoder take {more:.1f} times as long')
  return said
