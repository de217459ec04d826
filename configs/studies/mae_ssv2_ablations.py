"""Ablations of masked pre-training where motion counts: masks and decoder.  Feichtenhofer et al.
(NeurIPS 2022), table 12.

ViT-L is pre-trained for 200 epochs on Something-Something V2 and fine-tuned there; one seed. Expect
random masks to be best and tubes to be worst, and a decoder of 256 channels to do: on Kinetics-400
(table 2) whole frames are worst. The paper's text calls four blocks of the decoder best, its table
one.

The miniature of these rows is that of mae_ablations.py; mae_masks.py compares masks.

Command:  python -m vjax.study configs/studies/mae_ssv2_ablations.py
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs.papers import FACTS
from configs.studies import _mae
from vjax.analysis import claims

BASE = 'mae_ssv2_L_200'
ROWS: dict[str, tuple[str, dict[str, Any], str]] = {  # run -> (description, changes, fact)
  BASE: ('random masks 90 %, decoder 512 wide, 4 blocks', {}, 'mae/ssv2_random_90'),
  'ssv2_tube_90': (
    'tubes, 90 %', {'objective.kind': 'tube', 'objective.ratio': 0.9}, 'mae/ssv2_tubes_90',
  ),
  'ssv2_frame_75': (
    'whole frames, 75 %', {'objective.kind': 'frame', 'objective.ratio': 0.75},
    'mae/ssv2_frames_75',
  ),
  'ssv2_width_128': ('decoder 128 wide', {'head.width': 128}, 'mae/ssv2_width_128'),
  'ssv2_width_256': ('decoder 256 wide', {'head.width': 256}, 'mae/ssv2_width_256'),
  'ssv2_depth_1': ('decoder of 1 block', {'head.depth': 1}, 'mae/ssv2_depth_1'),
  'ssv2_depth_2': ('decoder of 2 blocks', {'head.depth': 2}, 'mae/ssv2_depth_2'),
  'ssv2_depth_8': ('decoder of 8 blocks', {'head.depth': 8}, 'mae/ssv2_depth_8'),
}  # fmt: skip


def runs(workdir: str) -> Iterator[tuple[str, ConfigDict]]:
  for name, (_, changes, _) in ROWS.items():
    yield name, _mae.pretraining(False, changes, epochs=200, data='ssv2')
    yield f'{name}_tuned', _mae.finetuning(False, f'{workdir}/{name}', ssv2=True)


def table(results: _mae.Results) -> list[dict[str, Any]]:
  """Returns the top-1 of fine-tuning."""
  return [
    {
      'pre-training': what,
      'fine-tuned, top-1 %': _mae.percent(results, f'{name}_tuned'),
      'paper': FACTS[fact],
    }
    for name, (what, _, fact) in ROWS.items()
  ]


def outcome(results: _mae.Results) -> list[str]:
  """Returns how many pairs of rows are in the paper's order."""
  return [claims.ordered('Masks and decoders', table(results), 'fine-tuned, top-1 %')]
