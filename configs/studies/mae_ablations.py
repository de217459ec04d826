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
from configs.papers import FACTS, Fact, Text, cell

STEPS, WARMUP = 3000, 300
BASE = 'frame_50'
# run -> (description, changes, paper). The tiny grid has two slots in time, so that whole frames
# can only be halved.
RUNS: dict[str, tuple[str, dict[str, Any], Fact | Text | None]] = {
  BASE: (
    'whole frames 50 %, normalized pixels of all frames, decoder 96 x 2',
    {},
    cell('{} ({}) at 75 %', 'mae/frames_75', 'mae/ssv2_frames_75'),
  ),
  'mask_random_90': (
    'random mask 90 %',
    {'objective.kind': 'random', 'objective.ratio': 0.9},
    cell('{} ({})', 'mae/random_90', 'mae/ssv2_random_90'),
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
    cell('{} ({})', 'mae/tubes_90', 'mae/ssv2_tubes_90'),
  ),
  'mask_tube_50': ('tubes, 50 %', {'objective.kind': 'tube'}, None),
  'mask_block_50': ('blocks, 50 %', {'objective.kind': 'block'}, FACTS['mae/blocks_75']),
  'target_raw': (
    'raw pixels',
    {'objective.normalize': False},
    cell('{} (normalized: {})', 'mae/raw_pixels', 'mae/normalized_pixels'),
  ),
  'target_one_frame': (
    'one frame of each patch',
    {'head.pred_frames': None},
    FACTS['mae/normalized_pixels'],
  ),
  'decoder_width_24': (
    'decoder 24 wide',
    {'head.width': 24},
    cell('{} at 128 ({})', 'mae/width_128', 'mae/ssv2_width_128'),
  ),
  'decoder_width_48': (
    'decoder 48 wide',
    {'head.width': 48},
    cell('{} at 256 ({})', 'mae/width_256', 'mae/ssv2_width_256'),
  ),
  'decoder_width_192': (
    'decoder 192 wide',
    {'head.width': 192},
    cell('{} at 1024', 'mae/width_1024'),
  ),
  'decoder_depth_1': (
    'decoder of 1 block',
    {'head.depth': 1},
    cell('{} ({})', 'mae/depth_1', 'mae/ssv2_depth_1'),
  ),
  'decoder_depth_4': (
    'decoder of 4 blocks',
    {'head.depth': 4},
    cell('{} ({})', 'mae/depth_4', 'mae/ssv2_depth_4'),
  ),
  'decoder_depth_8': (
    'decoder of 8 blocks',
    {'head.depth': 8},
    cell('{} ({})', 'mae/depth_8', 'mae/ssv2_depth_8'),
  ),
  'repeats_2': (
    '2 clips of each decoded video',
    {'clip.num_repeats': 2, 'data.batch_size': 16},
    cell('{} (1 clip: {})', 'mae/repeats_2', 'mae/repeats_1'),
  ),
  'repeats_4': (
    '4 clips of each decoded video',
    {'clip.num_repeats': 4, 'data.batch_size': 8},
    FACTS['mae/repeats_4'],
  ),
  'crop_resized': (
    'random crops of half the area and more',
    {'augment': dict(crop='resized', area=(0.5, 1.0), flip=0.0)},
    FACTS['mae/crop_resized'],
  ),
  'mask_tokens': (
    'the encoder sees mask tokens',
    {'model.keep_mask_tokens': True},
    FACTS['mae/mask_tokens'],
  ),
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
