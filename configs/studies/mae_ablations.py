"""Ablations of masked pre-training: masks, targets, decoder, repeats.  Feichtenhofer et al.
(NeurIPS 2022), tables 2 and 12.

One seed on the motion labels of the built-in data. Every run is the tiny pre-training with one
change, and its linear probe; the first row is without change. The paper's figures are of ViT-L on
Kinetics-400 (table 2) and, in brackets, on Something-Something V2 (table 12), fine-tuned.

Nineteen runs. Some at a time:
Command:  python -m vjax.study configs/studies/mae_ablations.py --only='*mask*'
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs import mae_k400

STEPS, WARMUP = 3000, 300
BASE = 'frame_50'
# run -> (description, changes, paper). The tiny grid has two slots in time, so that whole frames
# can only be halved.
RUNS: dict[str, tuple[str, dict[str, Any], str | None]] = {
  BASE: (
    'whole frames 50 %, normalized pixels of all frames, decoder 96 x 2',
    {},
    '79.1 (61.9) at 75 %',
  ),
  'mask_random_90': (
    'random mask 90 %',
    {'objective.kind': 'random', 'objective.ratio': 0.9},
    '84.4 (63.4)',
  ),
  'mask_random_75': (
    'random mask 75 %',
    {'objective.kind': 'random', 'objective.ratio': 0.75},
    None,
  ),
  'mask_random_50': ('random mask 50 %', {'objective.kind': 'random'}, None),
  'mask_tube_90': (
    'tubes, 90 %',
    {'objective.kind': 'tube', 'objective.ratio': 0.9},
    '83.5 (59.5)',
  ),
  'mask_tube_50': ('tubes, 50 %', {'objective.kind': 'tube'}, None),
  'mask_block_50': ('blocks, 50 %', {'objective.kind': 'block'}, '83.2'),
  'target_raw': ('raw pixels', {'objective.normalize': False}, '83.8 (normalized: 84.4)'),
  'target_one_frame': ('one frame of each patch', {'head.pred_frames': None}, '84.4'),
  'decoder_width_24': ('decoder 24 wide', {'head.width': 24}, '80.8 at 128 (59.4)'),
  'decoder_width_48': ('decoder 48 wide', {'head.width': 48}, '83.1 at 256 (63.2)'),
  'decoder_width_192': ('decoder 192 wide', {'head.width': 192}, '83.7 at 1024'),
  'decoder_depth_1': ('decoder of 1 block', {'head.depth': 1}, '83.2 (63.9)'),
  'decoder_depth_4': ('decoder of 4 blocks', {'head.depth': 4}, '84.4 (63.4)'),
  'decoder_depth_8': ('decoder of 8 blocks', {'head.depth': 8}, '84.3 (62.0)'),
  'repeats_2': (
    '2 clips of each decoded video',
    {'clip.num_repeats': 2, 'data.batch_size': 16},
    '84.3 (1 clip: 83.7)',
  ),
  'repeats_4': (
    '4 clips of each decoded video',
    {'clip.num_repeats': 4, 'data.batch_size': 8},
    '84.4',
  ),
  'crop_resized': (
    'random crops of half the area and more',
    {'augment': dict(crop='resized', area=(0.5, 1.0), flip=0.0)},
    '84.4',
  ),
  'mask_tokens': ('the encoder sees mask tokens', {'model.keep_mask_tokens': True}, '84.3'),
}


def runs(workdir: str) -> Iterator[tuple[str, ConfigDict]]:
  for name, (_, changes, _) in RUNS.items():
    config = mae_k400.get_config('tiny')
    with config.unlocked():
      config.optim.update(total_steps=STEPS, warmup_steps=WARMUP)
      for place, value in changes.items():
        section, _, key = place.partition('.')
        if key:
          config[section][key] = value
        else:
          config[section] = value
      if config.data.batch_size != config.optim.base_batch_size:
        config.optim.base_batch_size = (
          config.data.batch_size
        )  # as many clips a step, so the same learning rate
    yield name, config


def table(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns the top-1 of the probe; the loss is of the masks that the run trained with."""
  value = lambda name, part, key: results[name][part][key] if name in results else None
  rows = []
  for name, (what, _, paper) in RUNS.items():
    top1, loss = value(name, 'probe', 'top1'), value(name, 'val', 'loss')
    rows.append(
      {
        'pre-training': what,
        'probe, top-1 %': None if top1 is None else 100 * top1,
        'loss': None if loss is None else f'{loss:.3f}',
        'paper, top-1 %': paper,
      }
    )
  return rows
