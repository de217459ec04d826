"""The unified framework's networks compute what the authors' do."""

import pytest

from tests.convert import zoo

FIXTURES = {  # fixture -> variant, settings
  'ibm_tsn_resnet18': ('tsn_r18', {}),
  'ibm_tsn_resnet18_ts': ('tsn_tp_r18', {}),
  'ibm_tsn_resnet50': ('tsn_r50', {}),
  'ibm_tsn_resnet50_ts': ('tsn_tp_r50', {}),
  'ibm_tam_resnet18': ('tam_r18', {}),
  'ibm_tam_resnet18_ts': ('tam_tp_r18', {}),
  'ibm_tam_resnet18_alldense': ('tam_dense_r18', {}),
  'ibm_tam_resnet18_b5_max_ts_avg': ('tam_tp_r18', {'tam_blend': 'max', 'pools': ('avg', 'avg', 'avg', '')}),
  'ibm_tam_resnet50': ('tam_r50', {}),
  'ibm_tam_resnet50_ts': ('tam_tp_r50', {}),
  'ibm_i3d_resnet18': ('i3d_r18', {}),
  'ibm_i3d_resnet18_ts': ('i3d_tp_r18', {}),
  'ibm_i3d_resnet50': ('i3d_r50', {}),
  'ibm_i3d_resnet50_ts': ('i3d_tp_r50', {}),
  'ibm_s3d_resnet18': ('s3d_r18', {}),
  'ibm_s3d_resnet18_ts': ('s3d_tp_r18', {}),
  'ibm_s3d_resnet50': ('s3d_r50', {}),
  'ibm_s3d_resnet50_dw': ('s3d_dw_r50', {}),
  'ibm_tsn_inception': ('tsn_inception', {}),
  'ibm_tsn_inception_ts': ('tsn_tp_inception', {}),
  'ibm_tam_inception': ('tam_inception', {}),
  'ibm_tam_inception_ts': ('tam_tp_inception', {}),
  'ibm_i3d_inception': ('i3d_inception', {}),
  'ibm_i3d_inception_ts': ('i3d_tp_inception', {}),
  'ibm_s3d_inception': ('s3d_inception', {}),
  'ibm_s3d_inception_dw': ('s3d_dw_inception', {}),
}
QUICK = ('ibm_tam_resnet18_b5_max_ts_avg', 'ibm_s3d_resnet18_ts', 'ibm_tam_inception_ts', 'ibm_s3d_inception')


@pytest.mark.parametrize('name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FIXTURES])
def test_logits(name):
  variant, settings = FIXTURES[name]
  clip = zoo.frame_major if variant.startswith(('tsn', 'tam')) else zoo.channels_last
  zoo.check('ibm', variant, name, clip, **settings)


@pytest.mark.parametrize('name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FIXTURES])
def test_back_to_the_originals_names(name):
  variant, settings = FIXTURES[name]
  zoo.check_names('ibm', variant, name, **settings)
