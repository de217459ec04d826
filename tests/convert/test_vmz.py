"""VMZ's R(2+1)D from PyTorch names and from Caffe2 blobs; names, counts, command line."""

import math
import pickle

import numpy as np
import pytest

from tests.convert import zoo
from vjax import checkpoint, convert, factory, tree
from vjax.convert import __main__ as command
from vjax.convert import _table, torchvision, vmz


@pytest.mark.slow
@pytest.mark.parametrize('name', ['vmz_r2plus1d_34', 'vmz_r2plus1d_34_pool1'])
def test_logits(name):
  zoo.check('vmz', 'r2plus1d_34', name, pool1=name.endswith('pool1'))


def variables_of(variant: str, classes: int, width: float = 1.0) -> dict[str, np.ndarray]:
  """Flat variables of a variant, every number different from its neighbors."""
  settings = {} if width == 1 else {'width': width}
  model = factory.create_model(convert.model_name('vmz', variant), classes, **settings)
  number = np.arange(2**23, dtype=np.float32)
  shapes = convert._shapes(model, torchvision.CLIP)
  return {
    name: number[i : i + math.prod(shape)].reshape(shape)
    for i, (name, shape) in enumerate(shapes.items())
  }


@pytest.mark.parametrize(
  'variant, entries',
  [
    ('r2plus1d_18', 224),
    ('r2plus1d_34', 416),
    ('r2plus1d_101', 830),
    ('r2plus1d_152', 1238),
    ('r3d_18', 122),
    ('r2d_18', 122),
    ('r3d_34', 218),
    pytest.param('r3d_101', 626, marks=pytest.mark.slow),
    pytest.param('ir_csn_152', 932, marks=pytest.mark.slow),
    pytest.param('ip_csn_152', 1232, marks=pytest.mark.slow),
  ],
)
def test_state_dict_entries(variant, entries):
  """6 per BatchNorm, the convolutions with them, and 2 of the classifier."""
  names = convert.to_source('vmz', tree.unflatten(variables_of(variant, 5)), variant)
  assert len(names) == entries


def test_names_of_a_bottleneck():
  names = convert.to_source('vmz', tree.unflatten(variables_of('r2plus1d_101', 5)), 'r2plus1d_101')
  assert names['layer1.0.conv1.0.weight'].shape == (64, 64, 1, 1, 1)
  assert names['layer1.0.conv2.0.0.weight'].shape == (144, 64, 1, 3, 3)
  assert names['layer1.0.conv2.0.3.weight'].shape == (64, 144, 3, 1, 1)
  assert names['layer1.0.conv3.0.weight'].shape == (256, 64, 1, 1, 1)
  assert names['layer1.0.downsample.0.weight'].shape == (256, 64, 1, 1, 1)
  assert names['stem.0.weight'].shape == (45, 3, 1, 7, 7) and names['fc.weight'].shape == (5, 2048)


@pytest.mark.parametrize(
  'variant', ['r2plus1d_18', 'r3d_18', 'r2plus1d_101', 'ir_csn_50', 'ip_csn_50']
)
def test_caffe2_blobs_give_the_same_variables(variant, tmp_path):
  variables = variables_of(variant, 487, width=0.125)
  blobs = _table.backward(variables, vmz.caffe2_table(convert.model_name('vmz', variant), 487))
  assert blobs['last_out_L487_w'].shape[0] == 487
  if variant == 'r2plus1d_101':  # block 3 is the first of res3
    assert blobs['comp_3_conv_2_middle_w'].shape == (36, 16, 1, 3, 3)
    assert blobs['shortcut_projection_3_w'].shape == (64, 32, 1, 1, 1)
  if variant == 'ir_csn_50':  # the depthwise convolution counts twice
    assert blobs['comp_0_conv_3_w'].shape == (8, 1, 3, 3, 3) and blobs['comp_0_conv_4_w'].shape == (
      32,
      8,
      1,
      1,
      1,
    )
  if variant == 'ip_csn_50':
    assert blobs['comp_0_conv_2_middle_w'].shape == (8, 8, 1, 1, 1) and blobs[
      'comp_0_conv_2_w'
    ].shape == (
      8,
      1,
      3,
      3,
      3,
    )
  source = blobs
  if variant == 'r2plus1d_18':
    source = tmp_path / 'blobs.pkl'
    source.write_bytes(pickle.dumps({'blobs': blobs, 'lr': 0.1}, protocol=2))
  model, found = convert.load('vmz', source, variant=variant, width=0.125)
  assert model.head.num_classes == 487
  found = tree.flatten(found)
  assert found.keys() == variables.keys()
  assert all(np.array_equal(found[name], variables[name]) for name in variables)


def test_errors_list_names_and_variants():
  names = [(name, a.shape) for name, a in variables_of('r3d_18', 5).items()]
  weights = convert.to_source(
    'vmz', tree.unflatten({n: np.zeros(s, np.float32) for n, s in names}), 'r3d_18'
  )
  with pytest.raises(
    ValueError,
    match=r'(?s)missing: .*res2/block0/conv1/spatial/kernel.*unexpected: .*layer1.0.conv1',
  ):
    convert.load('vmz', weights, variant='r2plus1d_18')
  with pytest.raises(
    ValueError, match=r"--variant=r3d: source 'vmz' .*mean 'r3d_34'.* it has .*r2plus1d_34"
  ):
    convert.load('vmz', weights, variant='r3d')
  with pytest.raises(ValueError, match='no .nowhere.'):
    convert.load('nowhere', weights, variant='r3d_18')
  with pytest.raises(ValueError, match="poool=True is unknown: did you mean 'pool1'"):
    convert.load('vmz', weights, variant='r3d_18', poool=True)
  weights['extra.weight'] = weights.pop('stem.1.bias')
  with pytest.raises(
    ValueError,
    match=r'(?s)missing: params/backbone/stem/norm1/bias.*unexpected: extra.weight \(64,\)',
  ):
    convert.load('vmz', weights, variant='r3d_18')


def test_middle_widths_tell_vmz_from_torchvision():
  """Both are called r2plus1d_18; the weights of one do not fit the other."""
  weights = convert.to_source('vmz', tree.unflatten(variables_of('r2plus1d_18', 5)), 'r2plus1d_18')
  with pytest.raises(ValueError, match=r'(?s)another shape.*res3/block0/conv2/spatial/kernel'):
    convert.load('torchvision', weights, variant='r2plus1d_18')


def test_every_row_of_the_table_is_reachable():
  """No row hides behind an earlier one."""
  rows = torchvision.table()
  for original, here in rows:
    example = original.format(block=1, i=2)
    assert _table.rename(example, rows)[1] == (here and here.format(block=1, i=2))


def test_command_writes_a_checkpoint(tmp_path, capsys):
  variables = variables_of('r2d_18', 3)
  np.savez(tmp_path / 'in.npz', **convert.to_source('vmz', tree.unflatten(variables), 'r2d_18'))
  out = tmp_path / 'out'
  command.main(['--source=vmz', '--variant=r2d_18', str(tmp_path / 'in.npz'), str(out)])
  assert f'{11_381_712 - 397 * 513:,} parameters' in capsys.readouterr().out
  found, meta = checkpoint.load_params(out)
  assert meta['variant'] == 'r2d_18'
  assert all(np.array_equal(array, variables[name]) for name, array in tree.flatten(found).items())
