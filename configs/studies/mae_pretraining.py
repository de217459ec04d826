"""Does masked pre-training help, and which tokens should be masked?  Feichtenhofer et al. (NeurIPS
2022), figure 5 and tables 2, 3 and 12, in miniature.

Three seeds on the motion labels of the built-in data.

Probe: autoencoders with masks of random tokens, tubes and whole frames, half of the tokens each,
against the same network untrained. The tiny grid has two slots in time, so that a mask of frames
masks one slot.

Fine-tuning: after random masks and after masks of frames, against training from scratch with
equally many steps, from all labels and from 25 a class, of other videos with each seed. Each has
its own learning rate, tried with seed 1 and random masks.

Command:  python -m vjax.study configs/studies/mae_pretraining.py
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs import mae_finetune_k400, mae_k400, probe_k400
from configs.papers import FACTS, cell
from vjax.analysis import claims

SEEDS = (0, 1, 2)
STEPS, WARMUP = 2000, 200  # of pre-training
FEW, FEW_STEPS = 25.0, 400
MASKS = {'mae': 'random', 'tube': 'tube', 'frame': 'frame'}


def runs(workdir: str) -> Iterator[tuple[str, ConfigDict]]:
  for seed in SEEDS:
    yield f'untrained_{seed}', _seeded(probe_k400.get_config('tiny'), seed)
    for name, kind in MASKS.items():
      mae = _seeded(mae_k400.get_config('tiny'), seed)
      with mae.unlocked():
        mae.objective.kind = kind
        mae.optim.update(total_steps=STEPS, warmup_steps=WARMUP)
      yield f'{name}_{seed}', mae
    starts = {'finetuned': 'mae', 'finetuned_frame': 'frame'}
    args = {
      'scratch': 'tiny',
      **{name: f'tiny,init={workdir}/{start}_{seed}' for name, start in starts.items()},
    }
    for name, arg in args.items():
      yield f'{name}_all_{seed}', _seeded(mae_finetune_k400.get_config(arg), seed)
      few = _seeded(mae_finetune_k400.get_config(arg), seed)
      with few.unlocked():
        few.data.update(videos_per_class=FEW, subset_seed=seed)
        few.optim.update(total_steps=FEW_STEPS, warmup_steps=FEW_STEPS // 10)
      yield f'{name}_few_{seed}', few


def _seeded(config: ConfigDict, seed: int) -> ConfigDict:
  config.seed = seed
  return config


def table(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns top-1 over seeds.

  Paper: ViT-L on Kinetics-400, table 3, and for masks table 2 (in brackets Something-Something V2,
  table 12), all fine-tuned; the paper has no probe.
  """
  top1 = lambda run, part: [*claims.by_seed(results, run, part).values()]
  row = lambda what, run, part, paper: {
    'motion view, top-1 %': what,
    'seen': top1(run, part),
    'paper': paper,
  }
  return [
    {'motion view, top-1 %': 'chance', 'seen': 100 / 12, 'paper': None},
    row('probe, untrained', 'untrained', 'probe', None),
    row(
      'probe, MAE, random masks',
      'mae',
      'probe',
      cell('{} ({}) at 90 %', 'mae/random_90', 'mae/ssv2_random_90'),
    ),
    row(
      'probe, MAE, tubes',
      'tube',
      'probe',
      cell('{} ({}) at 90 %', 'mae/tubes_90', 'mae/ssv2_tubes_90'),
    ),
    row(
      'probe, MAE, frames',
      'frame',
      'probe',
      cell('{} ({}) at 75 %', 'mae/frames_75', 'mae/ssv2_frames_75'),
    ),
    row('all labels, from scratch', 'scratch_all', 'test', FACTS['mae/scratch']),
    row('all labels, fine-tuned, random masks', 'finetuned_all', 'test', FACTS['mae/large_top1']),
    row('all labels, fine-tuned, frames', 'finetuned_frame_all', 'test', None),
    row(f'{FEW:.0f} labels a class, from scratch', 'scratch_few', 'test', None),
    row(f'{FEW:.0f} labels a class, fine-tuned, random masks', 'finetuned_few', 'test', None),
    row(f'{FEW:.0f} labels a class, fine-tuned, frames', 'finetuned_frame_few', 'test', None),
  ]


def outcome(results: dict[str, dict[str, Any]]) -> list[str]:
  """Returns whether pre-training helps, and whether random masks are better than others."""
  few = f'{FEW:.0f} labels a class'
  return [
    claims.better(claim, *(claims.by_seed(results, run, part) for run in (these, those)))
    for claim, these, those, part in (
      ('Probe: random masks are better than untrained', 'mae', 'untrained', 'probe'),
      ('Probe: random masks are better than tubes', 'mae', 'tube', 'probe'),
      ('Probe: random masks are better than frames', 'mae', 'frame', 'probe'),
      ('All labels: pre-training helps', 'finetuned_all', 'scratch_all', 'test'),
      (f'{few}: pre-training helps', 'finetuned_few', 'scratch_few', 'test'),
      (f'{few}: random masks are better than frames', 'finetuned_few', 'finetuned_frame_few',
       'test'),
    )
  ]  # fmt: skip
