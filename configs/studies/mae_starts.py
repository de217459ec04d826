"""From which weights should fine-tuning start?  Feichtenhofer et al. (NeurIPS 2022), table 3.

ViT-L from scratch, from an image classifier of ImageNet-1K, from an image autoencoder, from a
classifier of Kinetics-400 and from the autoencoder of Kinetics-400 videos; fine-tuned on
Kinetics-400 and on Something-Something V2, one seed. Expect the order of these words, on both.

The image weights are not trained here. Convert them once into checkpoints/vit_large_in1k_supervised
and checkpoints/vit_large_in1k_mae (python -m vjax.convert --source=mae_image, see README.md); runs
whose weights are missing fail, and the others go on. The paper's column AVA is not built.

The miniature has the starts that are trained on the built-in data: none, its classifier, its
autoencoder; its second dataset is the same one with the other recipe.

Command:  python -m vjax.study configs/studies/mae_starts.py
          python -m vjax.study configs/studies/mae_starts.py --tiny
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs.papers import FACTS
from configs.studies import _mae
from vjax.analysis import claims

MAE = 'mae_k400_L_1600'
IMAGES = {  # start -> converted weights
  'image_supervised': 'checkpoints/vit_large_in1k_supervised',
  'image_mae': 'checkpoints/vit_large_in1k_mae',
}
WHAT = {
  'scratch': 'none',
  'image_supervised': 'ImageNet-1K, supervised',
  'image_mae': 'ImageNet-1K, autoencoder',
  'k400_supervised': 'Kinetics-400, supervised',
  'k400_mae': 'Kinetics-400, autoencoder',
}
# The classifier of Kinetics-400 is the run from scratch, and is no start for Kinetics-400 itself.
K400 = ('scratch', 'image_supervised', 'image_mae', 'k400_mae')
SSV2 = ('image_supervised', 'image_mae', 'k400_supervised', 'k400_mae')


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  yield MAE, _mae.pretraining(tiny, epochs=1600)
  starts = {'scratch': '', 'k400_supervised': f'{workdir}/to_k400_scratch'}
  starts |= {'k400_mae': f'{workdir}/{MAE}', **({} if tiny else IMAGES)}
  for data, names in {'k400': K400, 'ssv2': SSV2}.items():
    for name in names:
      if name in starts:
        yield f'to_{data}_{name}', _mae.finetuning(tiny, starts[name], ssv2=data == 'ssv2')


def table(results: _mae.Results) -> list[dict[str, Any]]:
  """Returns the top-1 of both datasets for each start."""
  rows = []
  for start, what in WHAT.items():
    papers = {'k400': FACTS.get(f'mae/{start}'), 'ssv2': FACTS.get(f'mae/{start}_ssv2')}
    row: dict[str, Any] = {'start': what}
    for data, title in {'k400': 'Kinetics-400', 'ssv2': 'Something-Something V2'}.items():
      row[f'{title}, top-1 %'] = _mae.percent(results, f'to_{data}_{start}')
      row[f'paper, {title}'] = papers[data]
    rows.append(row)
  return rows


def outcome(results: _mae.Results) -> list[str]:
  """Returns how many pairs of starts are in the paper's order on each dataset."""
  rows = table(results)
  return [
    claims.ordered(f'Starts, {title}', rows, f'{title}, top-1 %', f'paper, {title}')
    for title in ('Kinetics-400', 'Something-Something V2')
  ]
