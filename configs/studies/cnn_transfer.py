"""Do networks that learned Kinetics-400 transfer?  Chen et al. (CVPR 2021), table 4.

I3D-R50, TAM-R50 and SlowFast-R50 8x8 of 32 frames, fine-tuned for 45 epochs.

Expected: SlowFast is best on HMDB51 and Jester, I3D on UCF101, TAM on Mini-SSV2; on Jester all are
within half a point.

The runs k400_... of configs/studies/cnn_full.py must be finished before, in runs/cnn_full.

Command:  python -m vjax.study configs/studies/cnn_transfer.py
Hardware: in the paper 6 GPUs for each training.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import cnn_study
from configs.papers import FACTS
from vjax.analysis import claims

START = 'runs/cnn_full/k400_{}'
MODELS = ('I3D-R50', 'TAM-R50', 'SF-R50-8x8')
DATASETS = ('ucf101', 'hmdb51', 'jester', 'mini_ssv2')


def runs(workdir: str) -> Iterator[tuple[str, ConfigDict]]:
  for data in DATASETS:
    for model in MODELS:
      arg = f'protocol=transfer,data={data},model={model},init={START.format(model)}'
      yield f'{data}_{model}', cnn_study.get_config(arg)


def table(results: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns a row for each network, two columns a dataset."""
  rows = []
  for model in MODELS:
    row: dict[str, Any] = {'network': model}
    for data in DATASETS:
      result = results.get(f'{data}_{model}')
      row[f'{data}, top-1 %'] = 100 * result['video']['top1'] if result else None
      row[f'paper: {data}'] = FACTS[f'chen/{data}_{model}']
    rows.append(row)
  return rows


def outcome(results: Mapping[str, Any]) -> list[str]:
  """Returns how many pairs of networks are in the paper's order on each dataset."""
  rows = table(results)
  return [claims.ordered(data, rows, f'{data}, top-1 %', f'paper: {data}') for data in DATASETS]
