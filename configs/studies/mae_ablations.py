"""Ablations of masked pre-training: masks, targets, augmentation, repeats, decoder.  Feichtenhofer
et al. (NeurIPS 2022), table 2 and the sweep of the masking ratio.

Every run is the recipe with one change, then fine-tuned: ViT-L on Kinetics-400, 800 epochs, one
seed. Expect 90 % of random tokens to be best, whole frames to be five points behind, and the rest
within a point, but for narrow decoders. mae_mask_tokens.py has table 1, mae_ssv2_ablations.py
table 12.

The miniature is on the motion labels of the built-in data, with a linear probe, too. Its grid has
two slots in time, so that whole frames can only be halved, which its base run does;
mae_masks.py compares masks on a larger grid. Its base decoder is 96 wide and of two blocks.

Some at a time:
Command:  python -m vjax.study configs/studies/mae_ablations.py --only='*mask*'
          python -m vjax.study configs/studies/mae_ablations.py --tiny --only='*mask*'
"""

from collections.abc import Generator
from typing import Any, NamedTuple

from configs.papers import FACTS, Fact, Text, cell
from configs.studies import _mae
from vjax import registry
from vjax.analysis import claims

STEPS = 3000  # of the miniature
BASE = 'mae_k400_L_800'
CLIPS = 4  # of each decoded video, in the recipe
CODES = 512


class Row(NamedTuple):
  """A run: description, changes at full size and in miniature (None = not in this size), paper."""

  what: str
  full: dict[str, Any] | None
  tiny: dict[str, Any] | None
  paper: Fact | Text | None = None


def _mask(kind: str, ratio: float) -> dict[str, Any]:
  return {'objective.kind': kind, 'objective.ratio': ratio}


def _repeats(clips: int, batch: int) -> dict[str, Any]:
  """As many clips a step, so that the learning rate is the same."""
  return {
    'clip.num_repeats': clips,
    'data.batch_size': batch // clips,
    'optim.base_batch_size': batch // clips,
  }


# The largest central square: a window of the whole area and aspect 1 fits no wide frame.
CENTER = {'augment.area': (1.0, 1.0), 'augment.aspect': (1.0, 1.0)}
JITTER = {'augment.color_jitter': (0.4, 0.4, 0.4)}
RESIZED = {'augment.crop': 'resized', 'augment.area': (0.5, 1.0)}
RUNS = {
  BASE: Row(
    'the recipe: 90 % of random tokens; in miniature half of the frames',
    {},
    {},
    cell('{} (frames, 75 %: {})', 'mae/random_90', 'mae/frames_75'),
  ),
  'mask_random_98': Row('random mask 98 %', _mask('random', 0.98), None),
  'mask_random_95': Row('random mask 95 %', _mask('random', 0.95), None),
  'mask_random_90': Row('random mask 90 %', None, _mask('random', 0.9), FACTS['mae/random_90']),
  'mask_random_75': Row('random mask 75 %', _mask('random', 0.75), _mask('random', 0.75)),
  'mask_random_50': Row('random mask 50 %', _mask('random', 0.5), _mask('random', 0.5)),
  'mask_tube_90': Row(
    'tubes, 90 %', _mask('tube', 0.9), _mask('tube', 0.9), FACTS['mae/tubes_90']
  ),
  'mask_tube_50': Row('tubes, 50 %', None, _mask('tube', 0.5)),
  'mask_frame_75': Row(
    'whole frames, 75 %', _mask('frame', 0.75), None, FACTS['mae/frames_75']
  ),
  'mask_block_75': Row('blocks, 75 %', _mask('block', 0.75), None, FACTS['mae/blocks_75']),
  'mask_block_50': Row('blocks, 50 %', None, _mask('block', 0.5)),
  'target_raw': Row(
    'raw pixels',
    {'objective.normalize': False},
    {'objective.normalize': False},
    cell('{} (normalized: {})', 'mae/raw_pixels', 'mae/normalized_pixels'),
  ),
  'target_one_frame': Row(
    'one frame of each patch', None, {'head.pred_frames': None}, FACTS['mae/normalized_pixels']
  ),
  'target_hog': Row(
    'histograms of oriented gradients',
    {'objective.predict': 'hog'},
    {'objective.predict': 'hog'},
    FACTS['mae/hog'],
  ),
  'crop_center': Row(
    'the central square', CENTER, {**RESIZED, **CENTER}, FACTS['mae/crop_center']
  ),
  'crop_half': Row(
    'random crops of half the area and more', None, RESIZED, FACTS['mae/crop_resized']
  ),
  # The paper states neither area nor strength of these two: usual values.
  'crop_strong': Row(
    'random crops of 8 % of the area and more',
    {'augment.area': (0.08, 1.0)},
    {**RESIZED, 'augment.area': (0.08, 1.0)},
    FACTS['mae/crop_strong'],
  ),
  'crop_jitter': Row(
    'random crops and color jitter 0.4', JITTER, {**RESIZED, **JITTER}, FACTS['mae/jitter']
  ),
  'repeats_1': Row(
    '1 clip of each decoded video', _repeats(1, 2048), None, FACTS['mae/repeats_1']
  ),
  'repeats_2': Row(
    '2 clips of each decoded video', _repeats(2, 2048), _repeats(2, 32), FACTS['mae/repeats_2']
  ),
  'repeats_4': Row(
    '4 clips of each decoded video', None, _repeats(4, 32), FACTS['mae/repeats_4']
  ),
  'decoder_quarter': Row(
    'decoder of a quarter of the width', {'head.width': 128}, {'head.width': 24},
    FACTS['mae/width_128'],
  ),
  'decoder_half': Row(
    'decoder of half the width', {'head.width': 256}, {'head.width': 48}, FACTS['mae/width_256']
  ),
  'decoder_double': Row(
    'decoder of twice the width', {'head.width': 1024}, {'head.width': 192},
    FACTS['mae/width_1024'],
  ),
  'decoder_depth_1': Row(
    'decoder of 1 block', {'head.depth': 1}, {'head.depth': 1}, FACTS['mae/depth_1']
  ),
  'decoder_depth_2': Row('decoder of 2 blocks', {'head.depth': 2}, None, FACTS['mae/depth_2']),
  'decoder_depth_4': Row('decoder of 4 blocks', None, {'head.depth': 4}, FACTS['mae/depth_4']),
  'decoder_depth_8': Row(
    'decoder of 8 blocks', {'head.depth': 8}, {'head.depth': 8}, FACTS['mae/depth_8']
  ),
}  # fmt: skip
# Last, since all others would wait for the codebook.
# DIFFERS(paper): codes of k-means in place of a dVAE's, see vjax/targets/tokens.py.
TOKENS, TOKENS_WHAT = 'target_tokens', f'{CODES} codes of a codebook'


def runs(workdir: str, tiny: bool = False) -> Generator[Any, Any, None]:
  for name, row in RUNS.items():
    changes = row.tiny if tiny else row.full
    if changes is not None:
      yield name, _mae.pretraining(tiny, changes, steps=STEPS)
      yield f'{name}_tuned', _mae.finetuning(tiny, f'{workdir}/{name}')
  path = f'{workdir}/codebook.npy'
  changes = {'objective.predict': 'tokens', 'objective.codebook': path}
  tokens = _mae.pretraining(tiny, changes, steps=STEPS)
  yield 'codebook', lambda _, data_dir: _codebook(tokens, data_dir, path), ()
  yield
  yield TOKENS, tokens
  yield f'{TOKENS}_tuned', _mae.finetuning(tiny, f'{workdir}/{TOKENS}')


def _codebook(config: Any, data_dir: str, path: str) -> dict[str, float]:
  return registry.find('analysis', 'codebook').make(config, data_dir, path, codes=CODES)


def table(results: _mae.Results) -> list[dict[str, Any]]:
  """Returns the top-1 of fine-tuning and, in miniature, of the probe; the loss is of the masks and
  targets that the run trained with."""
  rows = []
  found = {name: (row.what, row.paper) for name, row in RUNS.items()}
  found[TOKENS] = (TOKENS_WHAT, FACTS['mae/tokens'])
  for name, (what, paper) in found.items():
    loss = results[name]['val']['loss'] if name in results else None
    rows.append(
      {
        'pre-training': what,
        'fine-tuned, top-1 %': _mae.percent(results, f'{name}_tuned'),
        'probe, top-1 %': _mae.percent(results, name, 'probe'),
        'loss': None if loss is None else f'{loss:.3f}',
        'paper': paper,
      }
    )
  return rows


def outcome(results: _mae.Results) -> list[str]:
  """Returns how many pairs of rows are in the paper's order: masks, and all other changes."""
  rows = dict(zip((*RUNS, TOKENS), table(results)))
  masks = {name: row for name, row in rows.items() if name == BASE or name.startswith('mask')}
  if any(name in results for name, row in RUNS.items() if row.full is None):
    masks[BASE] = {**masks[BASE], 'paper': FACTS['mae/frames_75']}  # the miniature's masks
  others = [row for name, row in rows.items() if name == BASE or name not in masks]
  return [
    claims.ordered('Masks, fine-tuning', list(masks.values()), 'fine-tuned, top-1 %'),
    claims.ordered('All other changes, fine-tuning', others, 'fine-tuned, top-1 %'),
  ]
