"""Every variant of every model: parameters and multiply-adds, beside published figures.  python -m
vjax.zoo [--match=csn]

One multiply-accumulate counts as one ("GMAC"), as the papers' "FLOPs" do; norms, activations and
pooling are free. Nothing is computed: the numbers are read from shapes, a second or so for a
network.
"""

import argparse
import re
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vjax import macs, registry
from vjax.heads import linear
from vjax.types import VideoModel


class Figure(NamedTuple):
  """What is published of a variant on clips of `frames` x `crop` x `crop` with `classes` outputs.

  parameters, gmacs: of the authors' code, counted; None = unknown. paper: what is printed,
  parameters and cost.
  """

  model: str
  variant: str
  frames: int
  crop: int
  classes: int
  parameters: int | None
  gmacs: float | None
  paper: str = ''


def _framework() -> Iterator[Figure]:
  """Chen et al. 2021, table 10 and log: 8 frames of 224 px, 87 classes; GMACs without and with
  pooling through time."""
  counts = {
    'inception': {
      'tsn': (5_689_079, 11.98, 6.52, '5.7 M, 12.0 G'),
      'tam': (5_706_503, 12.05, 6.57, '5.7 M, 12.0 G'),
      'i3d': (12_376_439, 33.81, 21.41, '12.4 M, 33.6 G (with legacy_pool4)'),
      's3d': (7_992_503, 19.78, 12.26, ''),
      'tam_dense': (17_206_775, 32.18, None, '17.2 M, 32.2 G ("Conv.")'),
    },
    'r18': {
      'tsn': (11_221_143, 14.51, 7.52, ''), 'tam': (11_225_559, 14.53, 7.54, ''),
      'i3d': (33_210_903, 43.22, 22.47, ''), 's3d': (15_425_559, 21.33, 12.13, ''),
    },
    'r50': {
      'tsn': (23_686_295, 32.70, 14.14, '23.7 M, 32.7 G'),
      'tam': (23_725_655, 32.83, 14.21, '23.7 M, 32.8 G'),
      'i3d': (46_339_607, 64.18, 29.46, '46.3 M, 64.2 G'), 's3d': (27_485_079, 39.52, 19.67, ''),
      'tam_dense': (71_474_327, 106.99, None, '71.5 M, 107.0 G ("Conv.")'),
      'tsm': (23_686_295, 32.70, 14.14, '23.7 M, 32.7 G'),
      'nln': (31_044_759, 54.9, None, '31.0 M, 196 G'),
    },
    'r101': {
      'tsn': (42_678_423, 62.40, 21.56, ''), 'tam': (42_770_007, 62.61, 21.66, ''),
      'i3d': (85_385_751, 125.32, 44.75, ''), 's3d': (49_828_247, 74.46, 28.41, ''),
    },
  }  # fmt: skip
  for backbone, kinds in counts.items():
    model, name = ('inception', '{}') if backbone == 'inception' else ('resnet', '{}_' + backbone)
    for kind, (parameters, plain, pooled, paper) in kinds.items():
      yield Figure(model, name.format(kind), 8, 224, 87, parameters, plain, paper)
      if pooled:
        yield Figure(model, name.format(f'{kind}_tp'), 8, 224, 87, parameters, pooled)


FIGURES = [
  # Ghadiyaram et al. 2019, table 2, and VMZ's release.
  Figure('resnet', 'r2d_18', 1, 112, 400, 11_381_712, 1.725, '11.4 M'),
  Figure('resnet', 'r3d_18', 32, 112, 400, 33_371_472, 81.393, '33.4 M'),
  Figure('resnet', 'r2plus1d_18', 32, 112, 400, 33_370_839, 82.992, '33 M, 83 G'),
  Figure('resnet', 'r2plus1d_34', 32, 112, 400, 63_697_175, 152.356, '64 M, 152 G'),
  Figure('resnet', 'r2plus1d_101', 32, 112, 400, 86_050_785, 176.469, '86 M, 176 G'),
  Figure('resnet', 'r2plus1d_152', 32, 112, 400, 118_226_785, 251.997, '118 M, 252 G'),
  # PySlowFast's and PyTorchVideo's zoos; Chen et al. 2021, tables 2 and 8.
  Figure('resnet', 'c2d_r50', 8, 256, 400, 24_327_632, 25.46),
  Figure('resnet', 'c2d_nopool_r50', 8, 256, 400, 24_327_632, 42.71),
  Figure('resnet', 'i3d_3x1x1_r50', 8, 256, 400, 28_043_472, 37.11),
  Figure('resnet', 'i3d_nln_r50', 8, 256, 400, 35_401_936, 48.9),
  Figure('resnet', 'slow_r50', 8, 256, 400, 32_454_096, 54.52, '54.5 G'),
  Figure('resnet', 'slow_r50', 4, 256, 400, 32_454_096, 27.26),
  Figure('resnet', 'i3d_r50', 32, 256, 400, 46_980_944, 335.34, '335.3 G'),
  Figure('resnet', 'i3d_tp_r50', 32, 256, 400, 46_980_944, 153.92),
  Figure('resnet', 'i3d_se_r50', 32, 256, 400, 49_511_936, None),
  Figure('resnet', 'i3d_r101', 32, 256, 400, 86_027_088, 654.77, '654.7 G'),
  Figure('resnet', 'tam_r50', 32, 256, 400, 24_366_992, 171.56, '171.5 G'),
  Figure('resnet', 'tam_r101', 32, 256, 400, 43_411_344, 327.14, '327.1 G'),
  Figure('resnet', 'tsn_tp_r50', 32, 256, 400, 24_327_632, 73.86, '73.9 G'),
  Figure('resnet', 'ir_csn_r50', 32, 224, 400, 13_131_152, 42.31),
  Figure('resnet', 'ip_csn_r50', 32, 224, 400, 14_396_176, 47.65),
  Figure('resnet', 'ir_csn_r50', 32, 256, 400, 13_131_152, 55.26),
  Figure('resnet', 'ip_csn_r50', 32, 256, 400, 14_396_176, 62.24),
  Figure('resnet', 'ir_csn_r101', 32, 256, 400, 22_213_776, 73.76),
  Figure('resnet', 'ip_csn_r101', 32, 256, 400, 24_601_616, 83.02, '83 G'),
  Figure('resnet', 'ir_csn_r152', 32, 224, 400, 29_703_568, 74.05),
  Figure('resnet', 'ip_csn_r152', 32, 224, 400, 33_016_592, 83.29),
  Figure('resnet', 'ir_csn_r152', 32, 256, 400, 29_703_568, 96.72),
  Figure('resnet', 'ip_csn_r152', 32, 256, 400, 33_016_592, 108.80),
  # Feichtenhofer et al. 2019, table 5, as Chen et al. 2021 print it; r101_16x8 of the paper is
  # "50_50".
  Figure('slowfast', 'r50_4x16', 32, 256, 400, 34_480_216, 36.10, '36.1 G'),
  Figure('slowfast', 'r50_8x8', 32, 256, 400, 34_566_488, 65.71, '65.7 G'),
  Figure('slowfast', 'r50_16x8', 64, 256, 400, 34_566_488, 131.42, '124.5 G'),
  Figure('slowfast', 'r101_8x8', 32, 256, 400, 62_826_968, 125.91, '125.9 G'),
  Figure('slowfast', 'r101_8x8_50_50', 32, 256, 400, 53_774_808, 106.51, '106 G'),
  Figure('slowfast', 'r101_16x8_50_50', 64, 256, 400, 53_774_808, 213.02, '213 G'),
  # Feichtenhofer 2020, table 4: the costs of L and XL are those of test crops; they train on 312
  # px.
  Figure('x3d', 'xs', 4, 160, 400, 3_794_322, 0.605, '3.76 M, 0.60 G'),
  Figure('x3d', 's', 13, 160, 400, 3_794_322, 1.963, '3.76 M, 1.96 G'),
  Figure('x3d', 'm', 16, 224, 400, 3_794_322, 4.733, '3.76 M, 4.73 G'),
  Figure('x3d', 'l', 16, 312, 400, 6_153_432, 18.37),
  Figure('x3d', 'xl', 16, 312, 400, 11_095_904, 35.84),
  Figure('x3d', 'l', 16, 356, 400, 6_153_432, 24.78, '6.08 M, 24.8 G'),
  Figure('x3d', 'xl', 16, 356, 400, 11_095_904, 48.42, '11.0 M, 48.4 G'),
  # Li et al. 2022 (image pre-training), table 4: 174 classes; its GFLOPs count norms and ReLUs too.
  Figure('resnet', 'sts_slow_r50', 8, 256, 174, 31_991_022, 54.52, '32.0 M, 54.9 G'),
  Figure('slowfast', 'sts_r50_4x16', 32, 256, 174, None, 36.10, '34.0 M, 36.4 G'),
  Figure('resnet', 'sts_r2plus1d_r34', 8, 256, 174, None, 114.47, '63.6 M, 114.8 G'),
  Figure('resnet', 'sts_ir_csn_r50', 8, 256, 174, None, 26.23, '12.7 M, 26.6 G'),
  Figure('x3d', 'sts_s', 8, 256, 174, None, 3.09, '3.3 M, 3.2 G'),
  # Fan et al. 2019: 16 frames in pairs ("f8x2"), 174 classes.
  Figure('blresnet', '50', 16, 224, 174, 25_020_142, 23.85, '25.0 M, 23.8 G'),
  Figure('blresnet', '101', 16, 224, 174, 40_177_134, 32.15, '40.2 M, 32.1 G'),
  # Feichtenhofer et al. 2022, table 7: the classifier, 16 frames.
  Figure('vit', 'B', 16, 224, 400, 86_702_224, 180.5, '87 M, 180 G'),
  Figure('vit', 'L', 16, 224, 400, 304_506_256, 597.3, '304 M, 598 G'),
  Figure('vit', 'H', 16, 224, 400, 632_424_080, 1191.9, '632 M, 1193 G'),
  Figure('vit', 'L', 40, 312, 400, None, 4755.0, '304 M, 4757 G'),
  Figure('vit', 'H', 32, 312, 400, None, 6380.0, '632 M, 6382 G'),
  # Fan et al. 2021, table 4, and the zoo's with 24 blocks; Li et al. 2022, table 4; Liang et al.
  # 2022, table 1. L in PySlowFast's list of models: 217.6 M.
  Figure('mvit', 'v1_b_16x4', 16, 224, 400, 36_610_672, 70.6, '36.6 M, 70.5 G'),
  Figure('mvit', 'v1_b16_32x3', 32, 224, 400, 36_611_440, 170.0, '36.6 M, 170 G'),
  Figure('mvit', 'v1_b16_64x3', 64, 224, 400, 36_612_976, 455.1, '36.6 M, 455 G'),
  Figure('mvit', 'v1_b_32x3', 32, 224, 400, 53_115_280, 235.8),
  Figure('mvit', 'v2_s_16x4', 16, 224, 400, 34_537_744, 64.2, '34.5 M, 64 G'),
  Figure('mvit', 'v2_b_32x3', 32, 224, 400, 51_230_128, 224.5, '51.2 M, 225 G'),
  Figure('mvit', 'v2_b_32x3', 32, 312, 400, 51_293_872, 615.5),
  Figure('mvit', 'v2_l_40x3', 40, 312, 400, 213_390_112, 2823.4, '217.6 M, 2828 G'),
  Figure('mvit', 'multitrain_b_32x3', 32, 224, 400, 51_293_776, 223.1, '224 G'),
  Figure('mvit', 'multitrain_b_32x3', 32, 312, 400, 51_576_784, 612.4, '614 G'),
  Figure('mvit', 'multitrain_b_16x4', 16, 224, 400, 34_709_296, 63.9),
  Figure('mvit', 'multitrain_half_b_16x4', 16, 224, 305, 34_600_049, 63.6),
  *_framework(),
]
_DEFAULT = {
  'slowfast': (32, 224, 400),
  'vit': (16, 224, 400),
}  # frames, crop, classes; of others (8, 224, 400)


def network(
  model: str, variant: str, frames: int, crop: int, classes: int, **settings
) -> VideoModel:
  """The classifier of a variant. Raises ValueError listing what there is for an unknown one."""
  module = registry.find('models', model)
  if variant not in module.VARIANTS:
    raise ValueError(f'variant={variant!r}: {model} has {", ".join(module.VARIANTS)}')
  if model in ('vit', 'mvit'):  # position tables are for one clip
    settings = dict(frames=frames, crop=crop, **settings)
  head = linear.Head(classes, hidden=getattr(module, 'HIDDEN', 0))
  return VideoModel(module.Backbone(**{**module.VARIANTS[variant], **settings}), head)


def measure(net: VideoModel, frames: int, crop: int) -> tuple[int, float]:
  """(parameters, GMACs) of one clip, from shapes alone."""
  video = jax.ShapeDtypeStruct((1, frames, crop, crop, 3), jnp.float32)
  found = {}

  def call(rng: jax.Array, x: jax.Array) -> jax.Array:
    """The output for fresh variables, whose shapes are kept: a network is traced once for both
    numbers."""
    y, found['variables'] = net.init_with_output(rng, x, train=False)
    return y

  count = macs.count(call, jax.random.key(0), video)
  return sum(x.size for x in jax.tree.leaves(found['variables']['params'])), count / 1e9


def rows(match: str = '') -> Iterator[tuple[str, ...]]:
  """A row of the table for every figure, then for every variant without one, whose 'model/variant'
  has `match` in it."""
  found = [f for f in FIGURES if re.search(match, f'{f.model}/{f.variant}')]
  known = {(f.model, f.variant) for f in FIGURES}
  for model in registry.names('models'):
    for variant in registry.find('models', model).VARIANTS:
      if (model, variant) not in known and re.search(match, f'{model}/{variant}'):
        found.append(Figure(model, variant, *_DEFAULT.get(model, (8, 224, 400)), None, None))
  for f in found:
    parameters, gmacs = measure(network(*f[:5]), f.frames, f.crop)
    code = ', '.join([f'{f.parameters:,}'] * bool(f.parameters) + [f'{f.gmacs} G'] * bool(f.gmacs))
    clip = f'{f.frames}x{f.crop}x{f.crop}'
    yield f.model, f.variant, clip, str(f.classes), f'{parameters:,}', f'{gmacs:.3f}', code, f.paper


def main() -> None:
  """Prints the table, row by row."""
  parser = argparse.ArgumentParser(prog='python -m vjax.zoo', description=__doc__)
  parser.add_argument(
    '--match', default='', help="regular expression for 'model/variant', e.g. x3d or r50$"
  )
  title = ('model', 'variant', 'clip', 'classes', 'parameters', 'GMACs', "authors' code", 'paper')
  print('| ' + ' | '.join(title) + ' |\n|' + ' --- |' * len(title), flush=True)
  for row in rows(parser.parse_args().match):
    print('| ' + ' | '.join(row) + ' |', flush=True)


if __name__ == '__main__':
  main()
