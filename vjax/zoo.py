"""Every model by name: parameters and multiply-adds, beside published figures.  python -m vjax.zoo
[--match='*csn*']

One multiply-accumulate counts as one ("GMAC"), as the papers' "FLOPs" do; norms, activations and
pooling are free. Nothing is computed: the numbers are read from shapes, a second or so for a
network.
"""

import argparse
import fnmatch
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vjax import cost, factory
from vjax.types import VideoModel


class Figure(NamedTuple):
  """Published figures of a model on clips of `frames` x `crop` x `crop` with `classes` outputs.

  parameters, gmacs: of the authors' code, counted; None = unknown. paper: what is printed,
  parameters and cost. mmcv: GFLOPs where the paper counts norms, ReLUs and pooling too, see
  `cost.counts`.
  """

  model: str
  frames: int
  crop: int
  classes: int
  parameters: int | None
  gmacs: float | None
  paper: str = ''
  mmcv: float | None = None


FIGURES = [
  # Ghadiyaram et al. 2019, table 2, and VMZ's release.
  Figure('r2d_18', 1, 112, 400, 11_381_712, 1.725, '11.4 M'),
  Figure('r3d_18', 32, 112, 400, 33_371_472, 81.393, '33.4 M'),
  Figure('r2plus1d_18', 32, 112, 400, 33_370_839, 82.992, '33 M, 83 G'),
  Figure('r2plus1d_34', 32, 112, 400, 63_697_175, 152.356, '64 M, 152 G'),
  Figure('r2plus1d_101', 32, 112, 400, 86_050_785, 176.469, '86 M, 176 G'),
  Figure('r2plus1d_152', 32, 112, 400, 118_226_785, 251.997, '118 M, 252 G'),
  # PySlowFast's and PyTorchVideo's zoos; Chen et al. 2021, tables 2 and 8.
  Figure('c2d_r50', 8, 256, 400, 24_327_632, 25.46),
  Figure('c2d_nopool_r50', 8, 256, 400, 24_327_632, 42.71),
  Figure('i3d_3x1x1_r50', 8, 256, 400, 28_043_472, 37.11),
  Figure('i3d_nln_r50', 8, 256, 400, 35_401_936, 48.9),
  Figure('slow_r50', 8, 256, 400, 32_454_096, 54.52, '54.5 G'),
  Figure('slow_r50', 4, 256, 400, 32_454_096, 27.26),
  Figure('i3d_r50', 32, 256, 400, 46_980_944, 335.34, '335.3 G'),
  Figure('i3d_tp_r50', 32, 256, 400, 46_980_944, 153.92),
  Figure('i3d_se_r50', 32, 256, 400, 49_511_936, None),
  Figure('i3d_r101', 32, 256, 400, 86_027_088, 654.77, '654.7 G'),
  Figure('tam_r50', 32, 256, 400, 24_366_992, 171.56, '171.5 G'),
  Figure('tam_r101', 32, 256, 400, 43_411_344, 327.14, '327.1 G'),
  Figure('tsn_tp_r50', 32, 256, 400, 24_327_632, 73.86, '73.9 G'),
  Figure('ir_csn_r50', 32, 224, 400, 13_131_152, 42.31),
  Figure('ip_csn_r50', 32, 224, 400, 14_396_176, 47.65),
  Figure('ir_csn_r50', 32, 256, 400, 13_131_152, 55.26),
  Figure('ip_csn_r50', 32, 256, 400, 14_396_176, 62.24),
  Figure('ir_csn_r101', 32, 256, 400, 22_213_776, 73.76),
  Figure('ip_csn_r101', 32, 256, 400, 24_601_616, 83.02, '83 G'),
  Figure('ir_csn_r152', 32, 224, 400, 29_703_568, 74.05),
  Figure('ip_csn_r152', 32, 224, 400, 33_016_592, 83.29),
  Figure('ir_csn_r152', 32, 256, 400, 29_703_568, 96.72),
  Figure('ip_csn_r152', 32, 256, 400, 33_016_592, 108.80),
  # Feichtenhofer et al. 2019, table 5, as Chen et al. 2021 print it; R101 16x8 of the paper is
  # "50_50".
  Figure('slowfast_r50_4x16', 32, 256, 400, 34_480_216, 36.10, '36.1 G'),
  Figure('slowfast_r50_8x8', 32, 256, 400, 34_566_488, 65.71, '65.7 G'),
  Figure('slowfast_r50_16x8', 64, 256, 400, 34_566_488, 131.42, '124.5 G'),
  Figure('slowfast_r101_8x8', 32, 256, 400, 62_826_968, 125.91, '125.9 G'),
  Figure('slowfast_r101_8x8_50_50', 32, 256, 400, 53_774_808, 106.51, '106 G'),
  Figure('slowfast_r101_16x8_50_50', 64, 256, 400, 53_774_808, 213.02, '213 G'),
  # Feichtenhofer 2020, table 4: the costs of L and XL are those of test crops; they train on 312
  # px.
  Figure('x3d_xs', 4, 160, 400, 3_794_322, 0.605, '3.76 M, 0.60 G'),
  Figure('x3d_s', 13, 160, 400, 3_794_322, 1.963, '3.76 M, 1.96 G'),
  Figure('x3d_m', 16, 224, 400, 3_794_322, 4.733, '3.76 M, 4.73 G'),
  Figure('x3d_l', 16, 312, 400, 6_153_432, 18.37),
  Figure('x3d_xl', 16, 312, 400, 11_095_904, 35.84),
  Figure('x3d_l', 16, 356, 400, 6_153_432, 24.78, '6.08 M, 24.8 G'),
  Figure('x3d_xl', 16, 356, 400, 11_095_904, 48.42, '11.0 M, 48.4 G'),
  # Li et al. 2022 (image pre-training), table 4: 174 classes; its GFLOPs count norms, ReLUs and
  # pooling too. Released modules were counted to three digits of a million and two of a G.
  Figure('sts_slow_r50', 8, 256, 174, 31_991_022, 54.52, '32.0 M, 54.9 G', 54.86),
  Figure('sts_slowfast_r50_4x16', 32, 256, 174, 33_958_358, 36.10, '34.0 M, 36.4 G', 36.44),
  Figure('sts_slowfast_r50_8x8', 32, 256, 174, 34_044_630, 65.71),
  Figure('sts_r2plus1d_r34', 8, 256, 174, 63_643_343, 114.47, '63.6 M, 114.8 G', 114.82),
  Figure('sts_ir_csn_r50', 8, 256, 174, 12_668_078, 26.23, '12.7 M, 26.6 G', 26.58),
  Figure('sts_x3d_s', 8, 256, 174, 3_331_248, 3.09, '3.3 M, 3.2 G', 3.24),
  # Fan et al. 2019: 16 frames in pairs ("f8x2"), 174 classes.
  Figure('blresnet_50', 16, 224, 174, 25_020_142, 23.85, '25.0 M, 23.8 G'),
  Figure('blresnet_101', 16, 224, 174, 40_177_134, 32.15, '40.2 M, 32.1 G'),
  # Feichtenhofer et al. 2022, table 7: the classifier, 16 frames.
  Figure('vit_base', 16, 224, 400, 86_702_224, 180.5, '87 M, 180 G'),
  Figure('vit_large', 16, 224, 400, 304_506_256, 597.3, '304 M, 598 G'),
  Figure('vit_huge', 16, 224, 400, 632_424_080, 1191.9, '632 M, 1193 G'),
  Figure('vit_large', 40, 312, 400, None, 4755.0, '304 M, 4757 G'),
  Figure('vit_huge', 32, 312, 400, None, 6380.0, '632 M, 6382 G'),
  # Fan et al. 2021, table 4, and the zoo's with 24 blocks; Li et al. 2022, table 4; Liang et al.
  # 2022, table 1. L in PySlowFast's list of models: 217.6 M.
  Figure('mvit_v1_b_16x4', 16, 224, 400, 36_610_672, 70.6, '36.6 M, 70.5 G'),
  Figure('mvit_v1_b16_32x3', 32, 224, 400, 36_611_440, 170.0, '36.6 M, 170 G'),
  Figure('mvit_v1_b16_64x3', 64, 224, 400, 36_612_976, 455.1, '36.6 M, 455 G'),
  Figure('mvit_v1_b_32x3', 32, 224, 400, 53_115_280, 235.8),
  Figure('mvit_v2_s_16x4', 16, 224, 400, 34_537_744, 64.2, '34.5 M, 64 G'),
  Figure('mvit_v2_b_32x3', 32, 224, 400, 51_230_128, 224.5, '51.2 M, 225 G'),
  Figure('mvit_v2_b_32x3', 32, 312, 400, 51_293_872, 615.5),
  Figure('mvit_v2_l_40x3', 40, 312, 400, 213_390_112, 2823.4, '217.6 M, 2828 G'),
  Figure('mvit_multitrain_b_32x3', 32, 224, 400, 51_293_776, 223.1, '224 G'),
  Figure('mvit_multitrain_b_32x3', 32, 312, 400, 51_576_784, 612.4, '614 G'),
  Figure('mvit_multitrain_b_16x4', 16, 224, 400, 34_709_296, 63.9),
  Figure('mvit_multitrain_half_b_16x4', 16, 224, 305, 34_600_049, 63.6),
  # Chen et al. 2021, table 10 and log: 8 frames of 224 px, 87 classes; GMACs without and with (_tp)
  # pooling through time.
  Figure('tsn_inception', 8, 224, 87, 5_689_079, 11.98, '5.7 M, 12.0 G'),
  Figure('tsn_tp_inception', 8, 224, 87, 5_689_079, 6.52),
  Figure('tam_inception', 8, 224, 87, 5_706_503, 12.05, '5.7 M, 12.0 G'),
  Figure('tam_tp_inception', 8, 224, 87, 5_706_503, 6.57),
  Figure('i3d_inception', 8, 224, 87, 12_376_439, 33.81, '12.4 M, 33.6 G (with legacy_pool4)'),
  Figure('i3d_tp_inception', 8, 224, 87, 12_376_439, 21.41),
  Figure('s3d_inception', 8, 224, 87, 7_992_503, 19.78),
  Figure('s3d_tp_inception', 8, 224, 87, 7_992_503, 12.26),
  Figure('tam_dense_inception', 8, 224, 87, 17_206_775, 32.18, '17.2 M, 32.2 G ("Conv.")'),
  Figure('tsn_r18', 8, 224, 87, 11_221_143, 14.51),
  Figure('tsn_tp_r18', 8, 224, 87, 11_221_143, 7.52),
  Figure('tam_r18', 8, 224, 87, 11_225_559, 14.53),
  Figure('tam_tp_r18', 8, 224, 87, 11_225_559, 7.54),
  Figure('i3d_r18', 8, 224, 87, 33_210_903, 43.22),
  Figure('i3d_tp_r18', 8, 224, 87, 33_210_903, 22.47),
  Figure('s3d_r18', 8, 224, 87, 15_425_559, 21.33),
  Figure('s3d_tp_r18', 8, 224, 87, 15_425_559, 12.13),
  Figure('tsn_r50', 8, 224, 87, 23_686_295, 32.7, '23.7 M, 32.7 G'),
  Figure('tsn_tp_r50', 8, 224, 87, 23_686_295, 14.14),
  Figure('tam_r50', 8, 224, 87, 23_725_655, 32.83, '23.7 M, 32.8 G'),
  Figure('tam_tp_r50', 8, 224, 87, 23_725_655, 14.21),
  Figure('i3d_r50', 8, 224, 87, 46_339_607, 64.18, '46.3 M, 64.2 G'),
  Figure('i3d_tp_r50', 8, 224, 87, 46_339_607, 29.46),
  Figure('s3d_r50', 8, 224, 87, 27_485_079, 39.52),
  Figure('s3d_tp_r50', 8, 224, 87, 27_485_079, 19.67),
  Figure('tam_dense_r50', 8, 224, 87, 71_474_327, 106.99, '71.5 M, 107.0 G ("Conv.")'),
  Figure('tsm_r50', 8, 224, 87, 23_686_295, 32.7, '23.7 M, 32.7 G'),
  Figure('tsm_tp_r50', 8, 224, 87, 23_686_295, 14.14),
  Figure('nln_r50', 8, 224, 87, 31_044_759, 54.9, '31.0 M, 196 G'),
  Figure('tsn_r101', 8, 224, 87, 42_678_423, 62.4),
  Figure('tsn_tp_r101', 8, 224, 87, 42_678_423, 21.56),
  Figure('tam_r101', 8, 224, 87, 42_770_007, 62.61),
  Figure('tam_tp_r101', 8, 224, 87, 42_770_007, 21.66),
  Figure('i3d_r101', 8, 224, 87, 85_385_751, 125.32),
  Figure('i3d_tp_r101', 8, 224, 87, 85_385_751, 44.75),
  Figure('s3d_r101', 8, 224, 87, 49_828_247, 74.46),
  Figure('s3d_tp_r101', 8, 224, 87, 49_828_247, 28.41),
]


class Measured(NamedTuple):
  """Cost of a model on one clip.

  parameters: their number. gmacs: multiply-adds. mmcv: GFLOPs as MMCV counts them.
  """

  parameters: int
  gmacs: float
  mmcv: float


def measure(net: VideoModel, frames: int, crop: int) -> Measured:
  """Returns the cost of one clip, from shapes alone."""
  video = jax.ShapeDtypeStruct((1, frames, crop, crop, 3), jnp.float32)
  found = {}

  def call(rng: jax.Array, x: jax.Array) -> jax.Array:
    """The output for fresh variables, whose shapes are kept: a network is traced once for all
    numbers."""
    y, found['variables'] = net.init_with_output(rng, x, train=False)
    return y

  macs, mmcv = cost.counts(call, jax.random.key(0), video)
  parameters = sum(x.size for x in jax.tree.leaves(found['variables']['params']))
  return Measured(parameters, macs / 1e9, mmcv / 1e9)


def rows(match: str = '*') -> Iterator[tuple[str, ...]]:
  """A row of the table for every figure, then for every model without one, of the models that
  `match` names, with wildcards as in `list_models`."""
  found = [f for f in FIGURES if fnmatch.fnmatch(f.model, match)]
  known = {f.model for f in FIGURES}
  for name in factory.list_models(match):
    if name not in known:
      family, _ = factory.find_model(name)
      found.append(Figure(name, *family.CLIP, 400, None, None))
  for f in found:
    net = factory.create_model(f.model, f.classes, frames=f.frames, crop=f.crop)
    parameters, gmacs, mmcv = measure(net, f.frames, f.crop)
    counted = [f'{f.parameters:,}'] if f.parameters else []
    counted += [f'{f.gmacs} G'] if f.gmacs else []
    clip = f'{f.frames}x{f.crop}x{f.crop}'
    ours = (f'{parameters:,}', f'{gmacs:.3f}' + (f' (MMCV: {mmcv:.2f})' if f.mmcv else ''))
    yield f.model, clip, str(f.classes), *ours, ', '.join(counted), f.paper


def main() -> None:
  """Prints the table, row by row."""
  parser = argparse.ArgumentParser(prog='python -m vjax.zoo', description=__doc__)
  parser.add_argument(
    '--match', default='*', help="names of models, with wildcards: 'x3d_*', '*csn*', vit_base"
  )
  match = parser.parse_args().match
  if not factory.list_models(match):
    near = f"'*{match}*'" if match and factory.list_models(f'*{match}*') else "'*', for all"
    parser.error(f'--match={match!r} names no model: wildcards stand for the rest, try {near}')
  title = ('model', 'clip', 'classes', 'parameters', 'GMACs', "authors' code", 'paper')
  print('| ' + ' | '.join(title) + ' |\n|' + ' --- |' * len(title), flush=True)
  for row in rows(match):
    print('| ' + ' | '.join(row) + ' |', flush=True)


if __name__ == '__main__':
  main()
