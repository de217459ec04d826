"""Kinds of masks, on a grid where random masking means something.  Feichtenhofer et al. (NeurIPS
2022), tables 2 and 12, small.

The paper: on Kinetics-400 random masks at 90 % are best, tubes are behind, and whole frames lose
five points; on Something-Something V2 tubes are worst.

Clips of 16 frames of 64 px on the motion labels of the built-in data, patches of 2x8x8: 512 tokens
in 8 slots of 8x8 places. At 87.5 % every kind of mask leaves 64 tokens visible (tubes: 8 places,
frames: one slot), at 75 % 128; random masks at 90 % leave 51. The other studies' miniatures have
two slots in time only. Each autoencoder is probed, and fine-tuned from 25 videos a class, beside
the untrained network and training from scratch. Scratch has two learning rates, of which the table
shows both; fine-tuning has the higher one.

One seed. A pre-training sees 64,000 clips, as those of mae_pretraining.py. Differences below 4
points are within the noise of 600 test clips. docs/claims.md (C4) has what was seen: from so few
labels this network learns nothing in FEW_STEPS, from any start.

Command:  python -m vjax.study configs/studies/mae_masks.py
Hardware: a pre-training with its probe took 17 minutes on one core, a fine-tuning 5.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from configs import common, mae_finetune_k400, mae_k400, probe_k400
from configs.papers import Fact, Text, cell
from vjax.analysis import claims

# In the order of interest: a study that is stopped has compared the kinds of mask at one ratio.
MASKS = (
  ('random', 0.9), ('tube', 0.875), ('frame', 0.875), ('random', 0.875),
  ('random', 0.75), ('tube', 0.75), ('frame', 0.75),
)  # fmt: skip
MODEL = {**common.TINY_VIT, 'width': 64, 'depth': 3, 'heads': 2, 'patch': (2, 8, 8)}
STEPS, BATCH, REPEATS = 4000, 8, 2  # of pre-training: videos a step, and clips of each
FEW, FEW_STEPS, FEW_BATCH = 25.0, 400, 16
RATES = {'scratch': 1e-3, 'scratch_fast': 4e-3}
PAPER: dict[str, Fact | Text] = {
  'random_90': cell('{} ({})', 'mae/random_90', 'mae/ssv2_random_90'),
  'tube_87': cell('{} ({}) at 90 %', 'mae/tubes_90', 'mae/ssv2_tubes_90'),
  'frame_75': cell('{} ({})', 'mae/frames_75', 'mae/ssv2_frames_75'),
}


def runs(workdir: str) -> Iterator[tuple[str, ConfigDict]]:
  for name, rate in RATES.items():
    yield name, few_labels('tiny', rate)
  untrained = probe_k400.get_config('tiny')
  with untrained.unlocked():
    _larger(untrained)
  yield 'untrained', untrained
  for kind, ratio in MASKS:
    name = name_of(kind, ratio)
    yield name, pretraining(kind, ratio)
    yield f'{name}_few', few_labels(f'tiny,init={workdir}/{name}', RATES['scratch_fast'])


def name_of(kind: str, ratio: float) -> str:
  return f'{kind}_{100 * ratio:.0f}' if ratio != 0.875 else f'{kind}_87'


def pretraining(kind: str, ratio: float) -> ConfigDict:
  config = mae_k400.get_config('tiny')
  with config.unlocked():
    _larger(config)
    config.head.update(width=32, depth=1, heads=1, pred_frames=16)
    config.objective.update(kind=kind, ratio=ratio)
    config.data.batch_size = config.optim.base_batch_size = BATCH
    config.clip.num_repeats = REPEATS
    config.optim.update(learning_rate=2e-3, total_steps=STEPS, warmup_steps=STEPS // 10)
    config.evals = dict(val=config.evals.val, probe=config.evals.probe)
  return config


def few_labels(arg: str, rate: float) -> ConfigDict:
  config = mae_finetune_k400.get_config(arg)
  with config.unlocked():
    _larger(config)
    config.data.videos_per_class = FEW
    config.data.batch_size = config.optim.base_batch_size = FEW_BATCH
    config.optim.update(learning_rate=rate, total_steps=FEW_STEPS, warmup_steps=FEW_STEPS // 10)
    config.evals.test.num_clips = 1
  return config


def _larger(config: ConfigDict) -> None:
  """Sets the network and the clips of this study."""
  config.model.update(MODEL)
  config.clip.update(num_frames=16, crop_size=64, short_side=72)
  config.augment.size = (72, 72)


def table(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns top-1 of the probe and of fine-tuning; the loss is of each run's own masks.

  Paper: ViT-L fine-tuned on Kinetics-400, and in brackets on Something-Something V2.
  """

  def number(run: str, part: str, key: str) -> float | None:
    return results[run][part][key] if run in results else None

  def percent(run: str, part: str) -> float | None:
    value = number(run, part, 'top1')
    return None if value is None else 100 * value

  few = f'{FEW:.0f} labels a class, top-1 %'
  rows: list[dict[str, Any]] = [
    {'masks': 'chance', 'probe, top-1 %': 100 / 12, few: 100 / 12},
    {'masks': 'none: untrained', 'probe, top-1 %': percent('untrained', 'probe')},
  ]
  rows += [
    {'masks': f'none: from scratch, learning rate {rate:g}', few: percent(name, 'test')}
    for name, rate in RATES.items()
  ]
  for kind, ratio in MASKS:
    name = name_of(kind, ratio)
    loss = number(name, 'val', 'loss')
    rows.append(
      {
        'masks': f'{kind}, {100 * ratio:g} %',
        'probe, top-1 %': percent(name, 'probe'),
        few: percent(f'{name}_few', 'test'),
        'loss': None if loss is None else f'{loss:.3f}',
        'paper': PAPER.get(name),
      }
    )
  columns = ('masks', 'probe, top-1 %', few, 'loss', 'paper')
  return [{column: row.get(column) for column in columns} for row in rows]


def figures(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Returns the probe's top-1 by the share of masked tokens, a line for each kind of mask."""
  lines: dict[str, list[tuple[float, float]]] = {}
  for kind, ratio in sorted(MASKS):
    name = name_of(kind, ratio)
    if name in results:
      lines.setdefault(kind, []).append((100 * ratio, 100 * results[name]['probe']['top1']))
  if not lines:
    return {}
  return {'Probe by masks': {'lines': lines, 'x': 'masked tokens, %', 'y': 'probe, top-1 %'}}


def outcome(results: dict[str, dict[str, Any]]) -> list[str]:
  """Returns whether anything was learned that can be compared, and the order of masks."""
  of = partial(claims.by_seed, results)
  said = []
  for kind, ratio in MASKS:
    what, name = f'{kind} masks of {100 * ratio:g} %', name_of(kind, ratio)
    claim = f'{what}: the probe is better than untrained'
    said.append(claims.better(claim, of(name, 'probe'), of('untrained', 'probe')))
    claim = f'{what}: fine-tuning is better than from scratch at the same rate'
    said.append(claims.better(claim, of(f'{name}_few', 'test'), of('scratch_fast', 'test')))
  order = 'Masks by the probe, in the order of fine-tuning on Kinetics-400'
  return [*said, claims.ordered(order, table(results), 'probe, top-1 %')]
