"""The unified framework's networks compute what the authors' do."""

import pytest

from tests.convert import zoo

FIXTURES = {  # fixture -> variant, settings
  'ibm_tsn_resnet18': ('tsn_r18', {}),
  'ibm_tam_resnet18_b5_max_ts_avg': ('tam_tp_r18', {'tam_blend': 'max', 'pools': ('avg', 'avg', 'avg', '')}),
  'ibm_s3d_resnet18_ts': ('s3d_tp_r18', {}),
  'ibm_tam_inception_ts': ('tam_tp_inception', {}),
  'ibm_s3d_inception': ('s3d_inception', {}),
}
QUICK = ('ibm_tam_resnet18_b5_max_ts_avg', 'ibm_s3d_resnet18_ts', 'ibm_tam_inception_ts', 'ibm_s3d_inception')


@pytest.mark.parametrize('name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FIXTURES])
def test_logits(name):
  variant, settings = FIXTURES[name]
  clip = zoo.frame_major if variant.startswith(('tsn', 'tam')) else zoo.channels_last
  zoo.check('ibm', variant, name, clip, **settings)
