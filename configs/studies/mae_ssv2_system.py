"""Masked autoencoders on Something-Something V2.  Feichtenhofer et al. (NeurIPS 2022), table 9.

ViT-L and H, pre-trained for 1600 epochs on Kinetics-400, -600 or -700, fine-tuned by the recipe of
table 6b; 3 crops x 1 clip, no intermediate fine-tuning. Expect H to be two points above L, and each
larger set half a point above the one before.

The miniature trains ViT-L's chain once, on the built-in data.

Command:  python -m vjax.study configs/studies/mae_ssv2_system.py
          python -m vjax.study configs/studies/mae_ssv2_system.py --tiny
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs.papers import FACTS
from configs.studies import _mae
from vjax.analysis import claims

SETS = {'k400': 'Kinetics-400', 'k600': 'Kinetics-600', 'k700': 'Kinetics-700'}
PAPER = {
  ('k400', 'L'): 'mae/large_ssv2', ('k400', 'H'): 'mae/huge_ssv2',
  ('k600', 'L'): 'mae/large_ssv2_k600', ('k600', 'H'): 'mae/huge_ssv2_k600',
  ('k700', 'L'): 'mae/large_ssv2_k700', ('k700', 'H'): 'mae/huge_ssv2_k700',
}  # fmt: skip


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  for data, variant in [('k400', 'L')] if tiny else PAPER:
    start = f'mae_{data}_{variant}_1600'
    yield start, _mae.pretraining(tiny, variant=variant, epochs=1600, data=data)
    tuned = _mae.finetuning(tiny, f'{workdir}/{start}', variant=variant, ssv2=True)
    yield f'ssv2_from_{data}_{variant}', tuned


def table(results: _mae.Results) -> list[dict[str, Any]]:
  """Returns top-1 and top-5 on Something-Something V2."""
  return [
    {
      'network': f'ViT-{variant}',
      'pre-trained on': SETS[data],
      'top-1 %': _mae.percent(results, f'ssv2_from_{data}_{variant}'),
      'top-5 %': _mae.percent(results, f'ssv2_from_{data}_{variant}', metric='top5'),
      'paper': FACTS[fact],
    }
    for (data, variant), fact in PAPER.items()
  ]


def outcome(results: _mae.Results) -> list[str]:
  """Returns how many pairs of rows are in the paper's order."""
  return [claims.ordered('Networks and data', table(results), 'top-1 %')]
