"""Does a video CNN learn better from images first, at an equal budget, and does STS help?  Li, Wei,
Kim, Khanna, Yuille, Xie: In Defense of Image Pre-Training for Spatiotemporal Recognition (ECCV
2022), tables 1, 6 and 7, in miniature.

Three seeds of a small CSN on domain B of the built-in data, whose frames are easy to tell: images
are single frames with their video's appearance label (as table 8), videos are clips of 8 frames
with the same labels. Training from scratch sees as many images as both stages of the others. Expect
images first to win over from scratch, and STS over plain by less than the spread of seeds. Of the
networks that are trained from scratch, the network of each temporal slice is frozen and probed: the
middle slice is the image-like one in the paper.

Command:  python -m vjax.study configs/studies/sts_image_pretraining.py
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import common, sts_image, sts_slices, sts_video
from configs.papers import FACTS
from vjax.analysis import claims
from vjax.config import complete, plain

SEEDS = (0, 1, 2)
DATA = 'domain_b_appearance'
FRAMES, BATCH = 8, 32
IMAGE_STEPS, TUNING_STEPS = 800, 200
# As many images as both stages: an image step has one frame of each row, a video step eight.
SCRATCH_STEPS = IMAGE_STEPS // FRAMES + TUNING_STEPS
CROP = 32
WIDTH = 0.25  # of the network
CONVS = ('plain', 'sts')


def runs(workdir: str) -> Iterator[tuple[str, ConfigDict]]:
  for seed in SEEDS:
    for conv in CONVS:
      image = sts_image.get_config(f'model=csn,conv={conv},tiny')
      yield f'image_{conv}_{seed}', _sized(image, seed, IMAGE_STEPS)
      for name, start, steps in (
        ('tuned', f',init={workdir}/image_{conv}_{seed},rule=sts', TUNING_STEPS),
        ('scratch', '', SCRATCH_STEPS),
      ):
        video = sts_video.get_config(f'model=csn,conv={conv},tiny{start}')
        yield f'{name}_{conv}_{seed}', _sized(video, seed, steps)
    for index in (0, 1, 2):
      yield f'slice_{index}_{seed}', _slice(f'{workdir}/scratch_plain_{seed}', index, seed)


def _sized(config: ConfigDict, seed: int, steps: int) -> ConfigDict:
  """Sets data, seed, steps and size, without data that change with the seed."""
  with config.unlocked():
    config.seed = seed
    config.data.name = DATA
    config.model.width = WIDTH
    config.clip.update(crop_size=CROP, short_side=CROP * 9 // 8)
    config.optim.update(total_steps=steps, warmup_steps=steps // 10)
    config.train.save_steps = steps
    if config.augment.crop == 'fixed':
      config.augment.size = (CROP * 9 // 8,) * 2
    for entry in config.evals.values():
      if entry.short_side is not None:
        entry.short_side = CROP * 9 // 8
  return config


def _slice(start: str, index: int, seed: int) -> ConfigDict:
  """Returns the probe of a slice of the network that `start` will hold."""
  config = ConfigDict(plain(sts_slices.get_config(f'slice={index},tiny')))
  network = plain(_sized(sts_video.get_config('model=csn,conv=plain,tiny'), seed, 1))
  config.seed = seed
  config.model = network['model']
  config.data.name = DATA
  config.clip.update(crop_size=CROP, short_side=CROP * 9 // 8)
  config.init = {**common.warm_start(start), 'time_slice': index}
  config.evals.probe.update(short_side=CROP * 9 // 8, grid=(1e-3,))
  return complete(config)


def table(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
  """Returns top-1 over seeds, with the images seen; and that of the probes of slices."""
  top1 = lambda run, part='test': [*claims.by_seed(results, run, part).values()]
  row = lambda what, run, fact: {
    'appearance of videos, top-1 %': what,
    'seen': top1(run),
    'images, thousands': _seen(results.get(f'{run}_{SEEDS[0]}')),
    'paper': FACTS[f'sts/{fact}'],
  }
  videos = [
    row('from scratch', 'scratch_plain', '6_csn_scratch_k400'),
    row('from scratch, STS', 'scratch_sts', '7_8_frames_scratch_k400'),
    row('images first', 'tuned_plain', '6_csn_plain_k400'),
    row('images first, STS', 'tuned_sts', '6_csn_sts_k400'),
  ]
  images = [
    {'appearance of frames, top-1 %': f'image stage, {conv}', 'seen': top1(f'image_{conv}')}
    for conv in CONVS
  ]
  for image, fact in zip(images, ('10_plain_imagenet', '10_sts_imagenet')):
    image['paper'] = FACTS[f'sts/{fact}']
  images += [
    {
      'appearance of frames, top-1 %': f'slice {index} of a video network, probe',
      'seen': top1(f'slice_{index}', 'probe'),
      'paper': FACTS[f'sts/1_csn_slice_{index}_imagenet'],
    }
    for index in (0, 1, 2)
  ]
  return {'Images first': videos, 'Images': images}


def _seen(result: Any) -> float | None:
  """Returns the thousands of images that all stages of a run saw."""
  if not result:
    return None
  training = result['training']
  return training.get('total', training)['images_seen'] / 1e3


def figures(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Returns the probes of the slices as a line: slices before, at and after the middle."""
  points = [
    (index, [100 * results[n]['probe']['top1'] for n in names])
    for index in (0, 1, 2)
    if (names := [f'slice_{index}_{seed}' for seed in SEEDS if f'slice_{index}_{seed}' in results])
  ]
  lines = {'probe of appearance': points}
  return {'Slices': {'lines': lines, 'x': 'slice', 'y': 'top-1 %'}} if points else {}


def outcome(results: Mapping[str, Any]) -> list[str]:
  """Returns whether images first help, STS, and whether the middle slice is the image-like one."""
  of = lambda run, part='test': claims.by_seed(results, run, part)
  middle = of('slice_1', 'probe')
  return [
    claims.better('Images first are better', of('tuned_plain'), of('scratch_plain')),
    claims.better('Images first are better, STS', of('tuned_sts'), of('scratch_sts')),
    claims.better('STS is better, images first', of('tuned_sts'), of('tuned_plain')),
    claims.better('STS is better, from scratch', of('scratch_sts'), of('scratch_plain')),
    claims.better('The middle slice is better than the one before', middle, of('slice_0', 'probe')),
    claims.better('The middle slice is better than the one after', middle, of('slice_2', 'probe')),
  ]
