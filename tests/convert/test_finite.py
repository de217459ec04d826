"""Weights with NaN or infinity are named, and neither converted, started from nor predicted with."""

import numpy as np
import pytest

from tests.convert.test_mae_st import dictionary
from tests.convert.test_names import SMALL, original
from vjax import checkpoint, convert, predict
from vjax.convert import __main__ as command


@pytest.mark.parametrize(('value', 'kind'), [
  (np.nan, 'float32'), (np.inf, 'float32'), (1e300, 'float64'),
])  # fmt: skip
def test_weights_that_are_not_finite_are_named(value, kind):
  """Among them those too large for float32."""
  plain = original('torchvision', 'resnet18')
  bad = plain['layer1.0.conv2.weight'].astype(kind)
  bad[0, 1, 2, 0] = value
  with pytest.raises(
    ValueError,
    match=r'(?s)1 of \d+ arrays in the file hold NaN or infinity.*use an earlier checkpoint.*'
    r'layer1.0.conv2.weight \(params/backbone/res2/block0/conv2/kernel\): 1 of 576 values',
  ):
    convert.load('torchvision', plain | {'layer1.0.conv2.weight': bad}, variant='resnet18', **SMALL)


def test_a_checkpoint_that_is_not_finite_starts_and_predicts_nothing(tmp_path):
  """One made elsewhere: the converter refuses such weights."""
  np.savez(tmp_path / 'weights.npz', **dictionary('repo', classes=3))
  command.main(['--source=mae_st', '--variant=Ti', f'{tmp_path}/weights.npz', f'{tmp_path}/good'])
  variables, meta = checkpoint.load_params(tmp_path / 'good')
  kernel = variables['params']['backbone']['block3']['mlp']['fc1']['kernel'] = np.array(
    variables['params']['backbone']['block3']['mlp']['fc1']['kernel']
  )
  kernel[0, 0] = np.nan
  meta.pop('step')
  checkpoint.save_params(tmp_path / 'bad', variables, meta)
  message = r'(?s)1 of \d+ arrays in .*bad hold NaN or infinity.*block3/mlp/fc1/kernel: 1 of '
  with pytest.raises(ValueError, match=message):
    predict.Predictor(str(tmp_path / 'bad'))
  clean = variables['params']
  with pytest.raises(ValueError, match=message):
    checkpoint.warm_start(clean, {}, tmp_path / 'bad')
  skip = ['backbone/block3/mlp/fc1/kernel']
  _, _, report = checkpoint.warm_start(clean, {}, tmp_path / 'bad', skip=skip)
  assert report['skipped'] == skip
