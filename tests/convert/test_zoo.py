"""The zoos' networks of one pathway compute what the originals do."""

import pytest

from tests.convert import zoo

FIXTURES = {  # fixture -> source, variant, settings
  'sf_C2D_8x8_R50': ('slowfast', 'c2d_r50', {}),
  'sf_I3D_8x8_R50': ('slowfast', 'i3d_3x1x1_r50', {}),
  'sf_I3D_NLN_8x8_R50': ('slowfast', 'i3d_nln_r50', {}),
  'sf_SLOW_8x8_R50': ('slowfast', 'slow_r50', {}),
  'sf_SLOW_NLN_dot_8x8_R50': ('slowfast', 'slow_nln_r50', {'non_local': {'blocks': ((), (1,), (), ())}}),
  'sf_X3D_S': ('slowfast', 'x3d_s', {}),
  'sf_SLOWFAST_4x16_R50': ('slowfast', 'slowfast_r50_4x16', {}),
  'sts_slowfast_4x16_r50': ('sts', 'sts_slowfast_r50_4x16', {}),
  'sts_x3d_s': ('sts', 'sts_x3d_s', {}),
  'ptv_slow_r50': ('pytorchvideo', 'slow_r50', {}),
  'ptv_csn_r50': ('pytorchvideo', 'ir_csn_r50', {}),
  'ptv_r2plus1d_r50': ('pytorchvideo', 'ptv_r2plus1d_r50', {}),
  'ptv_slowfast_r50': ('pytorchvideo', 'slowfast_r50_8x8', {}),
  'ptv_x3d_s': ('pytorchvideo', 'x3d_s', {}),
  'mm_tsm_resnet18': ('mmaction', 'tsm_r18', {}),
  'mm_tsm_resnet50': ('mmaction', 'tsm_r50', {}),
  'mm_tsm_resnet50_block': ('mmaction', 'tsm_r50', {'temporal': {'whole_block': True}}),
  'mm_tsm_resnet50_tpool': ('mmaction', 'tsm_tp_r50', {}),
  'sts_slowonly_r50': ('sts', 'sts_slow_r50', {}),
  'sts_off_slowonly_r50': ('sts', 'sts_slow_r50', {'sts': {'variant': ''}}),
  'sts_resnet50_3x1x1': ('sts', 'sts_3x1x1_r50', {}),
  'dense_resnet50_3x3x3': ('sts', 'sts_3x3x3_r50', {'sts': {'variant': ''}}),
  'sts_ircsn_r50': ('sts', 'sts_ir_csn_r50', {}),
  'sts_off_ircsn_r50': ('sts', 'sts_ir_csn_r50', {'sts': {'variant': ''}}),
  'sts_r2plus1d_r34': ('sts', 'sts_r2plus1d_r34', {}),
}  # fmt: skip
QUICK = ('mm_tsm_resnet18',)


@pytest.mark.parametrize(
  'name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FIXTURES]
)
def test_logits_and_names_both_ways(name):
  source, variant, settings = FIXTURES[name]
  zoo.check(source, variant, name, zoo.segments(8) if source == 'mmaction' else None, **settings)


@pytest.mark.slow
def test_csn_of_mmaction():
  """The image pre-training paper's without STS is MMAction's, but for strides in time."""
  zoo.check('mmaction', 'ir_csn_r50', 'sts_off_ircsn_r50', time_strides=(1, 1, 1, 1))


@pytest.mark.parametrize(
  ('name', 'variant', 'probes'),
  [
    ('sf_AVA_SLOW_8x8_R50', 'slow_r50', ('s5[0]',)),
    ('sf_AVA_SLOWFAST_32x2_R50', 'slowfast_r50_8x8', ('s5[0]', 's5[1]')),
  ],
)
@pytest.mark.slow
def test_features_for_detection(name, variant, probes):
  """res5 keeps the resolution of res4, with dilation instead."""
  zoo.check_maps(
    'slowfast', variant, name, probes, space_strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)
  )
