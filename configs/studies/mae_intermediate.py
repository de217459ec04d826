"""Does supervised fine-tuning on the pre-training set help what follows?  Feichtenhofer et al.
(NeurIPS 2022), table 10.

ViT-L, 1600 epochs of pre-training on Kinetics-400, -600 or -700; then straight to Kinetics-400 and
Something-Something V2, or by way of a classifier of the pre-training set ("intermediate"). Expect a
gain of 1.6 points on Kinetics-400 and of less than half a point on Something-Something V2.
Kinetics-700 has test videos of Kinetics-400 and is left out there. The paper's column AVA is not
built.

The miniature has the two chains to the second dataset, all on the built-in data.

Command:  python -m vjax.study configs/studies/mae_intermediate.py
          python -m vjax.study configs/studies/mae_intermediate.py --tiny
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs.papers import FACTS, Fact
from configs.studies import _mae
from vjax.analysis import claims

SETS = {'k400': 'Kinetics-400', 'k600': 'Kinetics-600', 'k700': 'Kinetics-700'}
PAPER: dict[str, Fact] = {  # run -> fact
  'tuned_k400_L': FACTS['mae/large_top1'],
  'tuned_k600_to_k400_L': FACTS['mae/k600_to_k400'],
  'tuned_k600_k400_L': FACTS['mae/k600_tuned_to_k400'],
  'ssv2_from_k400_L': FACTS['mae/k400_to_ssv2'],
  'ssv2_from_tuned_k400_L': FACTS['mae/k400_tuned_to_ssv2'],
  'ssv2_from_k600_L': FACTS['mae/k600_to_ssv2'],
  'ssv2_from_tuned_k600_L': FACTS['mae/k600_tuned_to_ssv2'],
  'ssv2_from_k700_L': FACTS['mae/k700_to_ssv2'],
  'ssv2_from_tuned_k700_L': FACTS['mae/k700_tuned_to_ssv2'],
}


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  at = lambda name: f'{workdir}/{name}'
  for data in ('k400',) if tiny else SETS:
    start, middle = f'mae_{data}_L_1600', f'tuned_{data}_L'
    yield start, _mae.pretraining(tiny, epochs=1600, data=data)
    axes = '' if data == 'k400' else f'data={data}'
    yield middle, _mae.finetuning(tiny, at(start), axes)
    if data == 'k600':
      yield f'tuned_{data}_to_k400_L', _mae.finetuning(tiny, at(start))
      yield f'tuned_{data}_k400_L', _mae.finetuning(tiny, at(middle), 'intermediate')
    yield f'ssv2_from_{data}_L', _mae.finetuning(tiny, at(start), ssv2=True)
    yield f'ssv2_from_{middle}', _mae.finetuning(tiny, at(middle), ssv2=True)


def table(results: _mae.Results) -> list[dict[str, Any]]:
  """Returns top-1 without and with intermediate fine-tuning."""
  rows = []
  chains = {
    'Kinetics-400': [
      ('k400', 'tuned_k400_L', ''),
      ('k600', 'tuned_k600_to_k400_L', 'tuned_k600_k400_L'),
    ],
    'Something-Something V2': [
      (data, f'ssv2_from_{data}_L', f'ssv2_from_tuned_{data}_L') for data in SETS
    ],
  }
  for test, lines in chains.items():
    for data, straight, intermediate in lines:
      rows.append(
        {
          'tested on': test,
          'pre-trained on': SETS[data],
          'straight, top-1 %': _mae.percent(results, straight),
          'intermediate, top-1 %': _mae.percent(results, intermediate),
          'paper': PAPER[straight],
          'paper, intermediate': PAPER.get(intermediate),
        }
      )
  return rows


def outcome(results: _mae.Results) -> list[str]:
  """Returns whether intermediate fine-tuning helps on each dataset."""
  said = []
  for row in table(results):
    if row['paper, intermediate'] is None:  # no such run
      continue
    straight, between = (
      {} if (top1 := row[f'{way}, top-1 %']) is None else {0: top1}
      for way in ('straight', 'intermediate')
    )
    claim = f'{row["tested on"]} after {row["pre-trained on"]}: intermediate fine-tuning helps'
    said.append(claims.better(claim, between, straight))
  return said
