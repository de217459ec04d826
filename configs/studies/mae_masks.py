"""Which tokens to hide?  Feichtenhofer et al. (NeurIPS 2022), table 2 and, in brackets, table 12, in miniature.

Three seeds on the motion view of the built-in data: random masks and tubes at 90 %, whole frames at 50 %, because the tiny
grid has but two slots in time. The probe is on motions that only time tells apart.
Command:  python -m vjax.study configs/studies/mae_masks.py
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs import mae_k400, probe_k400

SEEDS = (0, 1, 2)
STEPS, WARMUP, RATE = 1000, 100, 4e-3  # a third of the steps of mae_pretraining.py at twice the rate
MASKS = {  # kind -> (ratio, what the paper saw with ViT-L on Kinetics-400, fine-tuned)
  'random': (0.9, '84.4 (63.4)'),
  'tube': (0.9, '83.5 (59.5)'),
  'frame': (0.5, '79.1 (61.9) at 75 %'),
}


def runs(workdir: str) -> Iterator[tuple[str, ConfigDict]]:
  for seed in SEEDS:
    untrained = probe_k400.get_config('tiny')
    untrained.seed = seed
    yield f'untrained_{seed}', untrained
    for kind, (ratio, _) in MASKS.items():
      config = mae_k400.get_config('tiny')
      with config.unlocked():
        config.seed = seed
        # Normalised targets, as in the paper; the tiny recipe has raw pixels.
        config.objective.update(kind=kind, ratio=ratio, normalise=True)
        config.optim.update(total_steps=STEPS, warmup_steps=WARMUP, rate=RATE)
      yield f'{kind}_{seed}', config


def table(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
  """Top-1 of the probe over seeds."""
  top1 = lambda run: [100 * results[f'{run}_{s}']['probe']['top1'] for s in SEEDS if f'{run}_{s}' in results]
  rows = [('chance', 100 / 12, None), ('untrained', top1('untrained'), None)]
  rows += [(f'{kind}, {100 * ratio:.0f} % hidden', top1(kind), paper) for kind, (ratio, paper) in MASKS.items()]
  return [{'mask': what, 'probe, top-1 %': seen, 'paper, top-1 %': paper} for what, seen, paper in rows]
