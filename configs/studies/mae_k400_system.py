"""Masked autoencoders at full length on Kinetics-400.  Feichtenhofer et al. (NeurIPS 2022), table
7.

ViT-B, L and H after 1600 epochs of pre-training on Kinetics-400; L and H with longer and larger
clips; and by way of Kinetics-600, with intermediate fine-tuning. 3 crops x 7 clips. Expect larger
networks, larger clips and more data to be better each.

The miniature has the two chains, of one network.

Command:  python -m vjax.study configs/studies/mae_k400_system.py
          python -m vjax.study configs/studies/mae_k400_system.py --tiny
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs.papers import FACTS
from configs.studies import _mae
from vjax.analysis import claims

LARGER = {'L': 40, 'H': 32}  # frames of clips of 312 px
ROWS = {  # run -> (network, input, pre-training set, name of the paper's fact)
  'tuned_k400_B': ('ViT-B', '16 x 224', 'Kinetics-400', 'mae/base'),
  'tuned_k400_L': ('ViT-L', '16 x 224', 'Kinetics-400', 'mae/large'),
  'tuned_k400_H': ('ViT-H', '16 x 224', 'Kinetics-400', 'mae/huge'),
  'tuned_k400_L_40x312': ('ViT-L', '40 x 312', 'Kinetics-400', 'mae/large_40x312'),
  'tuned_k400_H_32x312': ('ViT-H', '32 x 312', 'Kinetics-400', 'mae/huge_32x312'),
  'tuned_k600_k400_L': ('ViT-L', '16 x 224', 'Kinetics-600', 'mae/large_k600'),
  'tuned_k600_k400_H': ('ViT-H', '16 x 224', 'Kinetics-600', 'mae/huge_k600'),
}


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  for variant in ('L',) if tiny else ('B', 'L', 'H'):
    start = f'mae_k400_{variant}_1600'
    yield start, _mae.pretraining(tiny, variant=variant, epochs=1600)
    yield f'tuned_k400_{variant}', _mae.finetuning(tiny, f'{workdir}/{start}', variant=variant)
    frames = LARGER.get(variant)
    if frames and not tiny:
      axes = f'frames={frames},crop=312'
      larger = _mae.finetuning(tiny, f'{workdir}/{start}', axes, variant=variant)
      yield f'tuned_k400_{variant}_{frames}x312', larger
  for variant in ('L',) if tiny else ('L', 'H'):
    start, middle = f'mae_k600_{variant}_1600', f'tuned_k600_{variant}'
    yield start, _mae.pretraining(tiny, variant=variant, epochs=1600, data='k600')
    yield middle, _mae.finetuning(tiny, f'{workdir}/{start}', 'data=k600', variant=variant)
    last = _mae.finetuning(tiny, f'{workdir}/{middle}', 'intermediate', variant=variant)
    yield f'tuned_k600_k400_{variant}', last


def table(results: _mae.Results) -> list[dict[str, Any]]:
  """Returns top-1 and top-5 on Kinetics-400, and the multiply-adds of a clip."""
  return [
    {
      'network': network,
      'clip': clip,
      'pre-trained on': data,
      'top-1 %': _mae.percent(results, run),
      'top-5 %': _mae.percent(results, run, metric='top5'),
      'multiply-adds, G': _mae.cost(results, run, 'gmacs_per_clip'),
      'paper': FACTS[fact],
    }
    for run, (network, clip, data, fact) in ROWS.items()
  ]


def outcome(results: _mae.Results) -> list[str]:
  """Returns how many pairs of rows are in the paper's order."""
  return [claims.ordered('Networks and data', table(results), 'top-1 %')]
