"""The unified framework's networks compute what the authors' do."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.convert import zoo
from vjax import convert, factory, tree

FIXTURES = {  # fixture -> variant, settings
  'ibm_tsn_resnet18': ('tsn_r18', {}),
  'ibm_tsn_resnet18_ts': ('tsn_tp_r18', {}),
  'ibm_tsn_resnet50': ('tsn_r50', {}),
  'ibm_tsn_resnet50_ts': ('tsn_tp_r50', {}),
  'ibm_tam_resnet18': ('tam_r18', {}),
  'ibm_tam_resnet18_ts': ('tam_tp_r18', {}),
  'ibm_tam_resnet18_alldense': ('tam_dense_r18', {}),
  'ibm_tam_resnet18_b5_max_ts_avg': (
    'tam_tp_r18',
    {'temporal': {'blend': 'max'}, 'pools': ('avg', 'avg', 'avg', '')},
  ),
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


@pytest.mark.slow
@pytest.mark.parametrize('name', FIXTURES)
def test_logits_and_names_both_ways(name):
  variant, settings = FIXTURES[name]
  clip = zoo.frame_major if variant.startswith(('tsn', 'tam')) else zoo.channels_last
  zoo.check('ibm', variant, name, clip, **settings)


def test_blresnet_tam_there_and_back():
  """Names of the release: pairs of frames before stages, taps of their own, averages before strided
  shortcuts."""
  settings = dict(width=0.125)
  net = factory.create_model('blresnet_50', 5, **settings)
  video = jnp.zeros((1, 8, 64, 64, 3))
  shapes = jax.eval_shape(lambda rng, x: net.init(rng, x, train=False), jax.random.key(0), video)
  rng = np.random.default_rng(0)
  variables = tree.map_named(lambda name, x: rng.normal(size=x.shape).astype(np.float32), shapes)
  tensors = convert.to_source('ibm', variables, 'blresnet_50')
  expected = {
    'b_conv0.weight': (8, 8, 3, 3), 'l_conv0.weight': (4, 8, 3, 3), 'bl_init.weight': (8, 8, 1, 1),
    'tam.prev.weight': (8, 1, 1, 1), 'layer1.tam.next.weight': (8, 1, 1, 1),
    'layer1.little_e.0.weight': (32, 16, 1, 1),
    'layer4.0.tam.curr.weight': (128, 1, 1, 1), 'layer4.0.downsample.1.weight': (256, 128, 1, 1),
    'layer1.little.0.downsample.0.weight': (16, 8, 1, 1),
  }  # fmt: skip
  expected = {f'baseline_model.{name}': shape for name, shape in expected.items()} | {
    'new_fc.weight': (5, 256)
  }
  assert {name: tensors[name].shape for name in expected} == expected
  assert not any(
    re.search(r'(big|layer4)\.0\.downsample\.0', name) for name in tensors
  )  # a pool without weights
  for form in (tensors, {f'module.{name}': array for name, array in tensors.items()}):
    _, back = convert.load('ibm', form, variant='blresnet_50', **settings)
    for name, array in tree.flatten(variables).items():
      np.testing.assert_array_equal(tree.flatten(back)[name], array)
