"""Uniform or dense clips, and how many of a video?  Chen et al. (CVPR 2021), figures 5, 8 and 9 and
table 3.

A uniform clip takes its frames from the whole video, a dense one consecutive frames. Figure 5:
I3D-R18 and TAM-R18 on the mini sets, 8 to 64 frames. Figures 8 and 9 and table 3: I3D-R50, TAM-R50
and SlowFast-R50 8x8 on Kinetics-400, three crops. Every network is tested with 1 to 10 clips.

Expected: with one clip uniform is better, always. Ten dense clips instead of one add 6 to 15 points
on Mini-Kinetics and 5 to 20 on Mini-SSV2, most of it with the first four or five; uniform clips
add almost nothing. On Kinetics ten dense clips are as good as two uniform ones (table 3), but
SlowFast's, which are 4.6 points better.

In miniature: TAM and I3D of four blocks on the motion labels of the built-in data, clips of 8
frames of videos of 24 to 48, three seeds.

The image networks of configs/studies/cnn_grid.py must be there before.

Command:  python -m vjax.study configs/studies/cnn_sampling.py
          python -m vjax.study configs/studies/cnn_sampling.py --tiny
Hardware: in the paper 6 GPUs for each training of a mini set, 128 for Kinetics-400; the 12 runs of
the miniature, with their evaluations, 18 minutes on two cores.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import cnn_study
from configs.papers import FACTS
from vjax.analysis import claims

SAMPLINGS = ('uniform', 'dense')
MINI, MODULES = ('mini_k400', 'mini_ssv2'), ('tam', 'i3d')  # of figure 5, on ResNet-18
FULL = ('I3D-R50', 'TAM-R50', 'SF-R50-8x8')  # of figures 8 and 9 and table 3
IMAGES = 'checkpoints/tsn_{}'  # converted image networks
CLIPS = tuple(range(1, 11))
# Points, over both networks and all numbers of frames (figure 5).
ADDED = {('mini_k400', 'dense'): '6 to 15', ('mini_ssv2', 'dense'): '5 to 20'}
# Of the miniature.
SEEDS = (0, 1, 2)
STEPS = 600
TINY_CLIPS = (1, 2, 4, 10)


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  """Yields trainings with both kinds of clips, each tested with 1 to 10 of its kind."""
  if tiny:
    for seed, module, sampling in itertools.product(SEEDS, MODULES, SAMPLINGS):
      arg = f'module={module},sampling={sampling},test=clips'
      config = cnn_study.miniature(arg, 'motions', seed, STEPS)
      with config.unlocked():
        kept = {f'clips_{m}' for m in TINY_CLIPS}
        config.evals = {n: e for n, e in dict(config.evals).items() if n in kept}
      yield f'motions_{module}_{sampling}_f8_seed{seed}', config
    return
  for data, module, sampling in itertools.product(MINI, MODULES, SAMPLINGS):
    arg = f'data={data},module={module},backbone=resnet18,sampling={sampling},test=clips'
    name = f'{data}_{module}_{sampling}'
    yield from cnn_study.progressive(workdir, arg, IMAGES.format('r18'), name)
  for model in FULL:
    init = '' if model.startswith('SF') else f',init={IMAGES.format("r50")}'
    for sampling in SAMPLINGS:
      arg = f'protocol=full,model={model},sampling={sampling},test=clips{init}'
      yield f'k400_{model}_{sampling}', cnn_study.get_config(arg)


def _top1(results: Mapping[str, Any], network: str, sampling: str, frames: str, m: int) -> list:
  """Returns the top-1 (%) with m clips, over seeds."""
  return [*claims.by_seed(results, f'{network}_{sampling}{frames}', f'clips_{m}').values()]


def _networks(results: Mapping[str, Any]) -> list[tuple[str, str]]:
  """Returns (network, frames) of all that have a result; of the full size where none has."""
  known = [(f'{d}_{m}', f'_f{f}') for d in MINI for m in MODULES for f in cnn_study.FRAMES]
  known += [(f'k400_{model}', '') for model in FULL]
  found = [
    (network, frames)
    for network, frames in (*known, *((f'motions_{m}', '_f8') for m in MODULES))
    if any(_top1(results, network, s, frames, 1) for s in SAMPLINGS)
  ]
  return found or known


def table(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
  """Returns the accuracy by number of clips and what ten clips add to one; and table 3."""
  rows = []
  for network, frames in _networks(results):
    for sampling in SAMPLINGS:
      by_clips = {m: _top1(results, network, sampling, frames, m) for m in CLIPS}
      row = {'network': network + frames, 'clips': sampling}
      row |= {f'{m} clips' if m > 1 else '1 clip': x for m, x in by_clips.items() if x}
      row['10 clips add'] = [b - a for a, b in zip(by_clips[1], by_clips[10])]
      row['paper: 10 clips add'] = ADDED.get((network.rpartition('_')[0], sampling))
      rows.append(row)
  table3 = [
    {
      'Kinetics-400': model,
      'uniform, 3 x 2': _top1(results, f'k400_{model}', 'uniform', '', 2),
      'paper, uniform': FACTS[f'chen/uniform_{model.lower()}'],
      'dense, 3 x 10': _top1(results, f'k400_{model}', 'dense', '', 10),
      'paper, dense': FACTS[f'chen/dense_{model.lower()}'],
    }
    for model in FULL
  ]
  tables = {'Accuracy by number of clips (figures 5, 8 and 9)': rows}
  if not any(name.startswith('motions') for name in results):
    tables['Table 3'] = table3
  return tables


def figures(results: Mapping[str, Any]) -> dict[str, Any]:
  """Returns lines over the number of clips, a figure for each network."""
  found = {}
  for network, frames in _networks(results):
    lines = {
      sampling: [(m, x) for m in CLIPS if (x := _top1(results, network, sampling, frames, m))]
      for sampling in SAMPLINGS
    }
    found[network + frames] = {'lines': lines, 'x': 'clips', 'y': 'top-1 %'}
  return found


def outcome(results: Mapping[str, Any]) -> list[str]:
  """Returns whether one uniform clip is better than a dense one, and what further clips add."""
  said = []
  for network, frames in _networks(results):
    one, ten = (
      {s: claims.by_seed(results, f'{network}_{s}{frames}', f'clips_{m}') for s in SAMPLINGS}
      for m in (CLIPS[0], CLIPS[-1])
    )
    name = network + frames
    said += [
      claims.better(f'{name}: one uniform clip is better than a dense one', *one.values()),
      claims.better(f'{name}: 10 dense clips are better than one', ten['dense'], one['dense']),
      claims.better(
        f'{name}: 10 uniform clips are better than one, the paper: hardly',
        ten['uniform'],
        one['uniform'],
      ),
    ]
  return said
