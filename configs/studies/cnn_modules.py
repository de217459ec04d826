"""Temporal modules compared: their kind, the blocks that have one, their taps.  Chen et al. (CVPR
2021), tables 5, 6 and 10.

Table 5: no module, I3D, "Conv." (TAM with dense taps), TAM, TSM and non-local blocks on InceptionV1
and ResNet-50, 8 and 16 frames, one clip of the center, without pooling through time. Table 6:
TAM-R18 of 8 frames with its module in all blocks, in the top or bottom half, in every second one.
And, not in the paper, TAM-R18 of 5 taps, and with the maximum of the taps in place of their sum.

Expected: on Mini-SSV2 TAM is best, then TSM and I3D, then Conv.; non-local blocks are far behind,
since they do not see the order of frames. On Mini-Kinetics all are within four points. Modules in
the top half are enough (table 6); those in the bottom half lose three points on Mini-SSV2.

In miniature: networks of four blocks on the motion labels of the built-in data, three seeds.

The image networks of configs/studies/cnn_grid.py must be there before.

Command:  python -m vjax.study configs/studies/cnn_modules.py
          python -m vjax.study configs/studies/cnn_modules.py --tiny
Hardware: in the paper 6 GPUs for each training; the miniature was not run yet.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import cnn_study
from configs.papers import FACTS
from vjax.analysis import claims

IMAGES = 'checkpoints/tsn_{}'  # converted image networks
DATASETS = ('mini_ssv2', 'mini_k400')
MODULES = {
  'tsn': 'None', 'i3d': 'I3D', 'tam_dense': 'Conv.', 'tam': 'TAM', 'tsm': 'TSM', 'nln': 'NLN'
}  # fmt: skip
BACKBONES = ('inception_v1', 'resnet50')
ON_INCEPTION = ('tsn', 'i3d', 'tam_dense', 'tam')
FRAMES = (8, 16)
# Variants of TAM-R18 -> (description, settings of its module). 'all' is the framework's.
TAM = {
  'all': ('all blocks', {}),
  'top': ('top half', {'where': 'top'}),
  'bottom': ('bottom half', {'where': 'bottom'}),
  'uniform': ('every second block', {'where': 'uniform'}),
  'taps_5': ('all blocks, 5 taps', {'taps': 5}),
  'max': ('all blocks, maximum of the taps', {'blend': 'max'}),
}
SEEDS, STEPS = (0, 1, 2), 600  # of the miniature


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  if tiny:
    for seed in SEEDS:
      for module in MODULES:
        # Non-local blocks of ResNet-18 need a place: after the one block of res3, and of res4.
        arg = f'module={module}' if module != 'nln' else 'module=nln,backbone=resnet50'
        config = cnn_study.miniature(arg, 'motions', seed, STEPS)
        if module == 'nln':
          with config.unlocked():
            config.model.update(bottleneck=False)
            config.model.non_local.blocks = ((), (0,), (0,), ())
        yield f'motions_{module}_resnet18_f8_seed{seed}', config
      for variant in TAM:
        if variant != 'all':  # is the run above
          config = cnn_study.miniature('module=tam', 'motions', seed, STEPS)
          yield f'motions_tam_resnet18_{variant}_f8_seed{seed}', _tam(config, variant)
    return
  for data, backbone in itertools.product(DATASETS, BACKBONES):
    for module in MODULES if backbone == 'resnet50' else ON_INCEPTION:
      arg = f'data={data},module={module},backbone={backbone}'
      init = IMAGES.format(cnn_study.BACKBONES[backbone])
      chain = cnn_study.progressive(workdir, arg, init, f'{data}_{module}_{backbone}')
      yield from itertools.islice(chain, len(FRAMES))
  for data, variant in itertools.product(DATASETS, TAM):
    arg = f'data={data},module=tam,backbone=resnet18,init={IMAGES.format("r18")}'
    yield f'{data}_tam_resnet18_{variant}_f8', _tam(cnn_study.get_config(arg), variant)


def _tam(config: ConfigDict, variant: str) -> ConfigDict:
  with config.unlocked():
    config.model.temporal.update(TAM[variant][1])
  return config


def _row(results: Mapping[str, Any], name: str) -> dict[str, Any]:
  """Returns top-1 over seeds and cost of a run."""
  found = [results[n] for n in (name, *(f'{name}_seed{s}' for s in SEEDS)) if n in results]
  training = found[0]['training'] if found else {}
  return {
    'top-1 %': [100 * result['clip']['top1'] for result in found],
    'parameters, M': training['parameters'] / 1e6 if training else None,
    'GMACs': f'{training["gmacs_per_clip"]:.3g}' if training else None,
  }


def table(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
  """Returns tables 5 (with the cost of table 10) and 6."""
  modules = []
  for data, backbone, frames in itertools.product(
    (*DATASETS, 'motions'), (*BACKBONES, 'resnet18'), FRAMES
  ):
    for module, title in MODULES.items():
      name = f'{data}_{module}_{backbone}_f{frames}'
      row, paper = _row(results, name), FACTS.get(f'chen/{name}')
      if row['top-1 %'] or paper:
        where = {'dataset': data, 'backbone': backbone, 'frames': str(frames), 'module': title}
        modules.append({**where, **row, 'paper': paper})
  variants = []
  for data, (variant, (what, _)) in itertools.product((*DATASETS, 'motions'), TAM.items()):
    plain = data == 'motions' and variant == 'all'
    row = _row(results, f'{data}_tam_resnet18_' + ('f8' if plain else f'{variant}_f8'))
    paper = FACTS.get(f'chen/{data}_{variant}')
    if row['top-1 %'] or paper:
      variants.append({'dataset': data, 'TAM in': what, **row, 'paper': paper})
  return {'Tables 5 and 10': modules, 'Table 6': variants}


def outcome(results: Mapping[str, Any]) -> list[str]:
  """Returns what modules add to none, and how many rows are in the paper's order."""
  said = []
  grid = itertools.product((*DATASETS, 'motions'), (*BACKBONES, 'resnet18'), FRAMES, MODULES)
  for data, backbone, frames, module in grid:
    base, these = (
      claims.by_seed(results, f'{data}_{m}_{backbone}_f{frames}', 'clip') for m in ('tsn', module)
    )
    if base and module != 'tsn':
      claim = f'{data}, {backbone}, {frames} frames: {MODULES[module]} is better than none'
      said.append(claims.better(claim, these, base))
  for title, rows in table(results).items():
    for data in DATASETS:
      of_data = [row for row in rows if row['dataset'] == data]
      said.append(claims.ordered(f'{title}, {data}', of_data, 'top-1 %'))
  return said
