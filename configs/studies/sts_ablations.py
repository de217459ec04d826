"""Ablations of image pre-training of video CNNs.  Li, Wei, Kim, Khanna, Yuille, Xie: In Defense of
Image Pre-Training for Spatiotemporal Recognition (ECCV 2022), tables 6 to 10, appendices B.1 and
B.2.

Images of ImageNet, then Kinetics-400 and Something-Something V2; from scratch 100 epochs. Expect
image pre-training to win by 2 to 4 points over training from scratch, STS convolutions by another
half to one, the center of kernels to be as good a start as any, and the ratio of static outputs to
matter little.

The miniature has the appearance labels of domain B of the built-in data as images, and the motions
of the built-in data as videos in the columns of Kinetics, with one seed: it shows that every run
works; do not read a ranking from it. It has one length of clips and one source of images, so that
tables 7 and 8 stay nearly empty. configs/studies/sts_image_pretraining.py has a claim with three
seeds.

Command:  python -m vjax.study configs/studies/sts_ablations.py
          python -m vjax.study configs/studies/sts_ablations.py --tiny
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import sts_image, sts_video
from configs.papers import FACTS, cell
from vjax.analysis import claims

# Steps of the miniature: a video step sees eight times the images of an image step.
TINY_IMAGE_STEPS, TINY_STEPS, TINY_SCRATCH_STEPS = 400, 100, 150
# Beginnings of names of runs that the miniature leaves out: they would be those of other rows.
NOT_TINY = (
  'frames_16', 'frames_32', 'frames_csn', 'frames_x3d', 'image_csn_sts_150', 'image_csn_sts_300',
)  # fmt: skip
# Image stages: name -> axes of configs/sts_image.py.
IMAGES = {
  'image_slowonly_plain': 'model=slowonly,conv=plain',
  'image_slowonly_sts': 'model=slowonly,conv=sts',
  'image_csn_plain': 'model=csn,conv=plain',
  'image_csn_sts': 'model=csn,conv=sts',
  'image_csn_sts_1_2': 'model=csn,conv=sts_1_2',
  'image_csn_sts_2_1': 'model=csn,conv=sts_2_1',
  'image_csn_no_split': 'model=csn,conv=no_split',
  'image_csn_dilated_2': 'model=csn,conv=dilated_2',
  'image_csn_dilated_3': 'model=csn,conv=dilated_3',
  'image_csn_sts_150': 'model=csn,conv=sts,recipe=150',
  'image_csn_sts_300': 'model=csn,conv=sts,recipe=300',
  'image_x3d_sts_300': 'model=x3d_s,conv=sts,recipe=300',
  'image_slowfast_sts': 'model=slowfast_4x16,conv=sts',
  'image_slowfast_sts_300': 'model=slowfast_4x16,conv=sts,recipe=300',
  # Frames of Kinetics as images: as many images as 100 and 300 epochs of ImageNet have.
  'frames_csn_sts': 'model=csn,conv=sts,data=k400',
  'frames_x3d_sts_300': 'model=x3d_s,conv=sts,recipe=300,data=k400',
}


class Video(NamedTuple):
  """A video stage.

  Attributes:
    arg: axes of configs/sts_video.py.
    start: image stage, '' = from scratch.
    data: datasets.
  """

  arg: str
  start: str = ''
  data: tuple[str, ...] = ('k400', 'ssv2')


K400 = ('k400',)
SHORT = 'frames=8'
VIDEOS = {
  # Table 6, with 8 frames.
  'slowonly_scratch': Video('model=slowonly,conv=plain'),
  'slowonly_plain': Video('model=slowonly,conv=plain', 'image_slowonly_plain'),
  'slowonly_sts': Video('model=slowonly,conv=sts', 'image_slowonly_sts'),
  'csn_scratch': Video(f'model=csn,conv=plain,{SHORT}'),
  'csn_plain': Video(f'model=csn,conv=plain,{SHORT}', 'image_csn_plain'),
  'csn_sts': Video(f'model=csn,conv=sts,{SHORT}', 'image_csn_sts'),
  # Table 7, by frames.
  'frames_8_scratch': Video('model=csn,conv=sts,frames=8', data=K400),
  'frames_16_scratch': Video('model=csn,conv=sts,frames=16', data=K400),
  'frames_16': Video('model=csn,conv=sts,frames=16', 'image_csn_sts_150', K400),
  'frames_32_scratch': Video('model=csn,conv=sts,frames=32', data=K400),
  'frames_32': Video('model=csn,conv=sts,frames=32', 'image_csn_sts_300', K400),
  # Table 8, by the source of images.
  'csn_from_frames': Video(f'model=csn,conv=sts,{SHORT}', 'frames_csn_sts', K400),
  'x3d_scratch': Video('model=x3d_s,conv=plain', data=K400),
  'x3d_from_images': Video('model=x3d_s,conv=sts', 'image_x3d_sts_300', K400),
  'x3d_from_frames': Video('model=x3d_s,conv=sts', 'frames_x3d_sts_300', K400),
  # Table 9, by the start of kernels through time.
  'slowonly_inflation_plain': Video(
    'model=slowonly,conv=plain,rule=inflation', 'image_slowonly_plain'
  ),
  'slowonly_inflation_sts': Video('model=slowonly,conv=sts,rule=inflation', 'image_slowonly_sts'),
  'csn_inflation_plain': Video(f'model=csn,conv=plain,{SHORT},rule=inflation', 'image_csn_plain'),
  'csn_inflation_sts': Video(f'model=csn,conv=sts,{SHORT},rule=inflation', 'image_csn_sts'),
  'csn_rates_3_3_9': Video(f'model=csn,conv=plain,{SHORT},rule=rates_3_3_9', 'image_csn_plain'),
  'csn_rates_9_3_9': Video(f'model=csn,conv=plain,{SHORT},rule=rates_9_3_9', 'image_csn_plain'),
  # Table 10, by splitting and ratio.
  'csn_no_split': Video(f'model=csn,conv=no_split,{SHORT}', 'image_csn_no_split'),
  'csn_sts_1_2': Video(f'model=csn,conv=sts_1_2,{SHORT}', 'image_csn_sts_1_2'),
  'csn_sts_2_1': Video(f'model=csn,conv=sts_2_1,{SHORT}', 'image_csn_sts_2_1'),
  # Appendix B.1: what images train of SlowFast. 90 epochs there, 100 here; then 100.
  'slowfast_scratch': Video('model=slowfast_4x16,conv=plain,epochs=256', data=K400),
  'slowfast_slow': Video(
    'model=slowfast_4x16,conv=plain,branch=slow,epochs=100', 'image_slowonly_plain', K400
  ),
  'slowfast_both': Video('model=slowfast_4x16,conv=sts,epochs=100', 'image_slowfast_sts', K400),
  'slowfast_both_300': Video(
    'model=slowfast_4x16,conv=sts,epochs=100', 'image_slowfast_sts_300', K400
  ),
  # Appendix B.2: dilated kernels in place of lines.
  'csn_dilated_2': Video(f'model=csn,conv=dilated_2,{SHORT}', 'image_csn_dilated_2'),
  'csn_dilated_3': Video(f'model=csn,conv=dilated_3,{SHORT}', 'image_csn_dilated_3'),
}
# Tables: title -> rows (words, video stage, name of the facts without the dataset).
TABLES = {
  'Table 6: image pre-training and STS, 8 frames': [
    ('SlowOnly, from scratch', 'slowonly_scratch', '6_slowonly_scratch'),
    ('SlowOnly, images', 'slowonly_plain', '6_slowonly_plain'),
    ('SlowOnly, images, STS', 'slowonly_sts', '6_slowonly_sts'),
    ('CSN, from scratch', 'csn_scratch', '6_csn_scratch'),
    ('CSN, images', 'csn_plain', '6_csn_plain'),
    ('CSN, images, STS', 'csn_sts', '6_csn_sts'),
  ],
  'Table 7: frames, CSN with STS': [
    ('8 frames, from scratch', 'frames_8_scratch', '7_8_frames_scratch'),
    ('8 frames, 100 epochs of images', 'csn_sts', '7_8_frames_sts'),
    ('16 frames, from scratch', 'frames_16_scratch', '7_16_frames_scratch'),
    ('16 frames, 150 epochs of images', 'frames_16', '7_16_frames_sts'),
    ('32 frames, from scratch', 'frames_32_scratch', '7_32_frames_scratch'),
    ('32 frames, 300 epochs of images', 'frames_32', '7_32_frames_sts'),
  ],
  'Table 8: source of images': [
    ('CSN, STS, from scratch', 'frames_8_scratch', '7_8_frames_scratch'),
    ('CSN, STS, images', 'csn_sts', '7_8_frames_sts'),
    ('CSN, STS, frames of the videos', 'csn_from_frames', '8_csn_frames'),
    ('X3D-S, from scratch', 'x3d_scratch', '3_x3d_s_scratch'),
    ('X3D-S, STS, images', 'x3d_from_images', '3_x3d_s_sts'),
    ('X3D-S, STS, frames of the videos', 'x3d_from_frames', '8_x3d_s_frames'),
  ],
  'Table 9: start of kernels through time': [
    ('SlowOnly, inflation', 'slowonly_inflation_plain', '9_slowonly_inflation_plain'),
    ('SlowOnly, inflation, STS', 'slowonly_inflation_sts', '9_slowonly_inflation_sts'),
    ('SlowOnly, center', 'slowonly_plain', '6_slowonly_plain'),
    ('SlowOnly, center, STS', 'slowonly_sts', '6_slowonly_sts'),
    ('CSN, inflation', 'csn_inflation_plain', '9_csn_inflation_plain'),
    ('CSN, inflation, STS', 'csn_inflation_sts', '9_csn_inflation_sts'),
    ('CSN, (1/3, 1/3, 1/9)', 'csn_rates_3_3_9', '9_csn_rates_3_3_9'),
    ('CSN, (1/9, 1/3, 1/9)', 'csn_rates_9_3_9', '9_csn_rates_9_3_9'),
    ('CSN, center', 'csn_plain', '6_csn_plain'),
    ('CSN, center, STS', 'csn_sts', '6_csn_sts'),
  ],
  'Table 10: splitting and ratio of CSN': [
    ('plain', 'csn_plain', '10_plain'),
    ('STS without splitting', 'csn_no_split', '10_no_split'),
    ('STS, static to dynamic 1:1', 'csn_sts', '10_sts'),
    ('STS, 1:2', 'csn_sts_1_2', '10_sts_1_2'),
    ('STS, 2:1', 'csn_sts_2_1', '10_sts_2_1'),
  ],
  'Appendix B.1: SlowFast 4x16': [
    ('from scratch', 'slowfast_scratch', 'B.1_scratch'),
    ('slow pathway from images', 'slowfast_slow', 'B.1_slow'),
    ('both from images, STS', 'slowfast_both', 'B.1_both'),
    ('both from 300 epochs of images, STS', 'slowfast_both_300', 'B.1_both_300'),
  ],
  'Appendix B.2: kernels of static outputs, CSN': [
    ('3x3', 'csn_plain', '6_csn_plain'),
    ('3x3 and 3x3 of dilation 2', 'csn_dilated_2', 'B.2_dilated_2'),
    ('3x3 and 3x3 of dilation 3', 'csn_dilated_3', 'B.2_dilated_3'),
    ('STS: 1x9, 3x3 and 9x1', 'csn_sts', '6_csn_sts'),
  ],
}


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  """Yields image stages, then video stages NAME_k400 and NAME_ssv2; the miniature has the former
  alone."""
  for name, arg in IMAGES.items():
    if tiny and name.startswith(NOT_TINY):
      continue
    config = sts_image.get_config(f'{arg},tiny' if tiny else arg)
    yield name, _short(config, TINY_IMAGE_STEPS) if tiny else config
  for name, video in VIDEOS.items():
    if tiny and (name.startswith(NOT_TINY) or video.start.startswith(NOT_TINY)):
      continue
    init = f',init={workdir}/{video.start}' if video.start else ''
    for data in K400 if tiny else video.data:
      if tiny:
        config = sts_video.get_config(f'{video.arg}{init},tiny')
        _short(config, TINY_STEPS if init else TINY_SCRATCH_STEPS)
      else:
        config = sts_video.get_config(f'{video.arg},data={data}{init}')
      yield f'{name}_{data}', config


def _short(config: ConfigDict, steps: int) -> ConfigDict:
  with config.unlocked():
    config.optim.update(total_steps=steps, warmup_steps=steps // 10)
    config.train.save_steps = steps
  return config


def table(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
  """Returns a table for each of the paper's: top-1, and millions of images seen by both stages."""
  return {title: [_row(results, *row) for row in rows] for title, rows in TABLES.items()}


def _row(results: Mapping[str, Any], what: str, name: str, fact: str) -> dict[str, Any]:
  top1 = lambda run: 100 * results[run]['test']['top1'] if run in results else None
  facts = [f for f in (f'sts/{fact}_{data}' for data in ('k400', 'ssv2')) if f in FACTS]
  images = f'sts/{fact}_imagenet'
  found = {
    'run': what,
    'ImageNet, top-1 %': top1(VIDEOS[name].start) if images in FACTS else None,
    'Kinetics, top-1 %': top1(f'{name}_k400'),
    'SSV2, top-1 %': top1(f'{name}_ssv2'),
    'images, M': _seen(results.get(f'{name}_k400')),
    'paper': cell(' / '.join(['{}'] * len(facts)), *facts),
  }
  if images in FACTS:
    found['paper'] = cell('{} / ' + ' / '.join(['{}'] * len(facts)), images, *facts)
  return found


def _seen(result: Any) -> float | None:
  """Returns the millions of images that all stages of a run saw."""
  if not result:
    return None
  training = result['training']
  total = training.get('total', training)
  return None if total is None else total['images_seen'] / 1e6


def outcome(results: Mapping[str, Any]) -> list[str]:
  """Returns how many pairs of rows are in the paper's order, by the accuracy on Kinetics."""
  said = []
  for title, rows in TABLES.items():
    facts = [FACTS.get(f'sts/{fact}_k400') for _, _, fact in rows]
    found = [{**_row(results, *row), 'paper': fact} for row, fact in zip(rows, facts)]
    said.append(claims.ordered(title, found, 'Kinetics, top-1 %'))
  return said
