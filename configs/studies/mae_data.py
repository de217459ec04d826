"""Unlabeled data: how much, and for how long?  Feichtenhofer et al. (NeurIPS 2022), table 4.

ViT-L is pre-trained for 200, 400 and 800 epochs on Kinetics-400, and on videos without labels, then
fine-tuned on Kinetics-400; one seed. Expect longer to be better, and a million of uncurated videos
to be as good as Kinetics-400. Epochs are of each set.

The paper's Instagram videos are not public. FOLDERS are datasets of your own under --data_dir,
videos without labels beside a split to evaluate the loss on (python -m data_prep.write
--manifest=train:LIST --manifest=val:LIST, the column label left out, see README.md). Runs whose
folder is missing fail, and the others go on.

Pre-training needs no labels: the recipe evaluates the loss and shows reconstructions. A probe needs
them: a run with one on videos without labels is refused before its first step (`unlabeled` of
mae_k400 leaves the probe of `tiny` out).

The miniature has shares of the built-in data in their place.

Command:  python -m vjax.study configs/studies/mae_data.py
          python -m vjax.study configs/studies/mae_data.py --tiny
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs.papers import FACTS
from configs.studies import _mae
from vjax.analysis import claims

EPOCHS = (200, 400, 800)
K400 = 'k400'
FOLDERS = {  # set -> description; its folder has the same name
  K400: 'Kinetics-400, 240k videos',
  'curated_240k': 'curated, 240k',
  'curated_512k': 'curated, 512k',
  'curated_1m': 'curated, 1M',
  'uncurated_1m': 'uncurated, 1M',
}
SHARES = {K400: 0.25, 'curated_240k': 0.25, 'curated_512k': 0.5, 'curated_1m': 1.0}


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  for number, folder in enumerate(SHARES if tiny else FOLDERS):
    for epochs in EPOCHS:
      data = '' if tiny or folder == K400 else folder
      config = _mae.pretraining(tiny, epochs=epochs, data=data)
      if tiny and SHARES[folder] < 1:
        subset = {'data.videos_per_class': SHARES[folder], 'data.subset_seed': number}
        config = _mae.changed(config, subset)
      name = name_of(folder, epochs)
      yield name, config
      yield f'{name}_tuned', _mae.finetuning(tiny, f'{workdir}/{name}')


def name_of(folder: str, epochs: int) -> str:
  return f'mae_{folder}_L_{epochs}'


def table(results: _mae.Results) -> list[dict[str, Any]]:
  """Returns the top-1 of fine-tuning by set and epochs."""
  return [
    {
      'pre-training set': what,
      'epochs': str(epochs),
      'fine-tuned, top-1 %': _mae.percent(results, f'{name_of(folder, epochs)}_tuned'),
      'probe, top-1 %': _mae.percent(results, name_of(folder, epochs), 'probe'),
      'paper': FACTS[f'mae/data_{folder}_{epochs}'],
    }
    for folder, what in FOLDERS.items()
    for epochs in EPOCHS
  ]


def figures(results: _mae.Results) -> dict[str, Any]:
  """Returns the top-1 of fine-tuning by epochs, a line for each set."""
  lines = {
    what: [
      (epochs, _mae.percent(results, name))
      for epochs in EPOCHS
      if (name := f'{name_of(folder, epochs)}_tuned') in results
    ]
    for folder, what in FOLDERS.items()
  }
  found = {what: points for what, points in lines.items() if points}
  axes = {'x': 'epochs', 'y': 'fine-tuned, top-1 %', 'log_x': True}
  return {'By epochs': {'lines': found, **axes}} if found else {}


def outcome(results: _mae.Results) -> list[str]:
  """Returns how many pairs of rows are in the paper's order."""
  return [claims.ordered('Sets and epochs', table(results), 'fine-tuned, top-1 %')]
