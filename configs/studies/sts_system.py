"""Image pre-training with STS convolutions for six networks.  Li, Wei, Kim, Khanna, Yuille, Xie: In
Defense of Image Pre-Training for Spatiotemporal Recognition (ECCV 2022), tables 3 and 4.

Table 3, Kinetics-400: 300 epochs of images, then 50 of videos (X3D-S 100), against training from
scratch, accuracy beside hours. Table 4, Something-Something V2: from scratch 100 epochs, against
100 of images and 50 of videos, without STS and with it. Expect image pre-training to win with every
network, by 0.3 to 7.5 points on Kinetics in half of the hours, by 3 to 6 on Something-Something V2,
where STS adds about one.

The miniature is of one network, on domain B of the built-in data as images and the motions of the
built-in data as videos, in both tables: it shows that every run works.

Command:  python -m vjax.study configs/studies/sts_system.py
          python -m vjax.study configs/studies/sts_system.py --tiny
Hardware: in the paper 4 GPUs; table 3 took 2,071 GPU hours from images and 4,241 from scratch.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import sts_image, sts_video
from configs.papers import FACTS
from vjax.analysis import claims

MODELS = {
  'slowonly': 'SlowOnly',
  'slowfast_4x16': 'SlowFast 4x16',
  'slowfast_8x8': 'SlowFast 8x8',
  'r2plus1d': 'R(2+1)D',
  'csn': 'CSN',
  'x3d_s': 'X3D-S',
}
# Of table 4, with frames where they are not the recipe's.
SSV2 = {'slowonly': 8, 'slowfast_4x16': 32, 'r2plus1d': 8, 'csn': 8, 'x3d_s': 8}
# From scratch on Kinetics. DIFFERS(paper): its networks are published ones, tested again; its hours
# are those of as many epochs.
SCRATCH = {model: 300 if model == 'x3d_s' else 256 for model in MODELS}
WAYS = {'scratch': 'from scratch', 'plain': 'images', 'sts': 'images, STS'}
TINY_MODEL = 'csn'
TINY_IMAGE_STEPS, TINY_STEPS, TINY_SCRATCH_STEPS = 400, 100, 150


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  """Yields image stages, then the networks of Kinetics and of Something-Something V2."""
  models = (TINY_MODEL,) if tiny else tuple(MODELS)
  end = ',tiny' if tiny else ''
  for model in models:
    axes = f'model={model},conv=sts,recipe=300{end}'
    yield f'image_{model}_sts_300', _short(sts_image.get_config(axes), TINY_IMAGE_STEPS, tiny)
    start = f'model={model},conv=sts,init={workdir}/image_{model}_sts_300{end}'
    yield f'{model}_sts_k400', _short(sts_video.get_config(start), TINY_STEPS, tiny)
    scratch = f'model={model},conv=plain,epochs={SCRATCH[model]}{end}'
    yield f'{model}_scratch_k400', _short(sts_video.get_config(scratch), TINY_SCRATCH_STEPS, tiny)
  for model in models if tiny else SSV2:
    data = f',frames={SSV2[model]}' + (end or ',data=ssv2')
    scratch = sts_video.get_config(f'model={model},conv=plain{data}')
    yield f'{model}_scratch_ssv2', _short(scratch, TINY_SCRATCH_STEPS, tiny)
    for conv in ('plain', 'sts'):
      image = f'image_{model}_{conv}'
      config = sts_image.get_config(f'model={model},conv={conv}{end}')
      yield image, _short(config, TINY_IMAGE_STEPS, tiny)
      axes = f'model={model},conv={conv},init={workdir}/{image}{data}'
      yield f'{model}_{conv}_ssv2', _short(sts_video.get_config(axes), TINY_STEPS, tiny)


def _short(config: ConfigDict, steps: int, tiny: bool) -> ConfigDict:
  """Returns the config; in miniature with so many steps."""
  if tiny:
    with config.unlocked():
      config.optim.update(total_steps=steps, warmup_steps=steps // 10)
      config.train.save_steps = steps
  return config


def table(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
  """Returns top-1, and the device hours of both stages beside the paper's GPU hours."""
  kinetics = [
    {
      'network': f'{name}, {WAYS[way]}',
      'Kinetics-400, top-1 %': _top1(results, f'{model}_{way}_k400'),
      'device hours': _hours(results, f'{model}_{way}_k400'),
      'paper': FACTS[f'sts/3_{model}_{way}_k400'],
      'paper: GPU hours': FACTS[f'sts/3_{model}_{way}_hours'],
    }
    for model, name in MODELS.items()
    for way in ('scratch', 'sts')
  ]
  motion = [
    {
      'network': f'{MODELS[model]}, {words}',
      'Something-Something V2, top-1 %': _top1(results, f'{model}_{way}_ssv2'),
      'device hours': _hours(results, f'{model}_{way}_ssv2'),
      'paper': FACTS[f'sts/4_{model}_{way}_ssv2'],
    }
    for model in SSV2
    for way, words in WAYS.items()
  ]
  return {'Table 3: Kinetics-400': kinetics, 'Table 4: Something-Something V2': motion}


def _top1(results: Mapping[str, Any], run: str) -> float | None:
  return 100 * results[run]['test']['top1'] if run in results else None


def _hours(results: Mapping[str, Any], run: str) -> float | None:
  """Returns the device hours of all stages of a run."""
  if run not in results:
    return None
  training = results[run]['training']
  total = training.get('total', training)
  return None if total is None else total['device_hours']


def outcome(results: Mapping[str, Any]) -> list[str]:
  """Returns how many pairs of rows are in the paper's order."""
  seen = ('Kinetics-400, top-1 %', 'Something-Something V2, top-1 %')
  tables = table(results).items()
  return [claims.ordered(title, rows, column) for (title, rows), column in zip(tables, seen)]
