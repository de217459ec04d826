"""Files under their original names become networks and come back, without a number computed: CNNs
that no fixture holds."""

import operator
import re

import numpy as np
import pytest

from vjax import convert, factory, registry, tree
from vjax.convert import torchvision

SMALL = dict(width=0.125)


def slowly(*values):
  """A parameter that is tried in the slow part."""
  return pytest.param(*values, marks=pytest.mark.slow)


def network(source: str, variant: str, **settings):
  """The classifier of five classes that `convert.load` builds."""
  return factory.create_model(convert.model_name(source, variant), 5, **{**SMALL, **settings})


def variables_of(source: str, variant: str, **settings) -> dict[str, np.ndarray]:
  """Flat variables, every number another."""
  rng = np.random.default_rng(0)
  clip = (
    (32, 64, 64) if 'slowfast' in variant else (8, 64, 64) if 'x3d' in variant else torchvision.CLIP
  )
  shapes = convert._shapes(network(source, variant, **settings), clip)
  return {name: rng.random(shape, np.float32) for name, shape in shapes.items()}


def original(source: str, variant: str, **settings) -> dict[str, np.ndarray]:
  return convert.to_source(
    source, tree.unflatten(variables_of(source, variant, **settings)), variant
  )


def check(
  source: str,
  variant: str,
  tensors: dict[str, np.ndarray],
  expected: dict[str, np.ndarray],
  **settings,
):
  _, found = convert.load(source, tensors, variant=variant, **SMALL, **settings)
  found = tree.flatten(found)
  assert found.keys() == expected.keys()
  for name, array in expected.items():
    np.testing.assert_array_equal(found[name], array, err_msg=name)


NAMES = {  # what the original's file has, beside what it has not
  ('mmaction', 'ip_csn_r50'): (
    {
      'backbone.layer2.0.conv2.0.conv.weight': (16, 16, 1, 1, 1), 'backbone.layer2.0.conv2.0.bn.running_var': (16,),
      'backbone.layer2.0.conv2.1.conv.weight': (16, 1, 3, 3, 3), 'backbone.layer2.0.conv2.1.bn.weight': (16,),
    },
    r'conv2\.(conv|bn|pointwise)',
  ),
  ('mmaction', 'tsm_r101'): (
    {'backbone.layer3.2.conv1.conv.net.weight': (32, 128, 1, 1), 'backbone.layer3.3.conv1.conv.weight': (32, 128, 1, 1)},
    r'layer\d\.\d*[13579]\.conv1\.conv\.net',
  ),
  ('mmaction', 'tsm_nl_r50'): (
    {
      'backbone.layer2.0.block.conv1.conv.net.weight': (16, 32, 1, 1),
      'backbone.layer2.2.non_local_block.g.0.conv.weight': (32, 64, 1, 1, 1),
      'backbone.layer2.2.non_local_block.phi.0.conv.bias': (32,),
      'backbone.layer3.4.non_local_block.theta.conv.weight': (64, 128, 1, 1, 1),
      'backbone.layer3.4.non_local_block.conv_out.bn.running_mean': (128,),
    },
    r'conv_out\.conv\.bias|layer[14].*\.block\.',
  ),
  ('mmaction', 'slow_nl_r50'): (
    {
      'backbone.layer2.0.conv1.conv.weight': (16, 32, 1, 1, 1),
      'backbone.layer2.0.non_local_block.g.0.conv.weight': (32, 64, 1, 1, 1),
    },
    r'conv_out\.conv\.bias|\.block\.',
  ),
  ('mmaction', 'r2plus1d_r34'): ({'backbone.layer2.0.downsample.conv.conv_s.weight': (6, 8, 1, 1,
  1)}, 'net'),
  ('mmaction', 'slowfast_r50_4x16'): (
    {'backbone.slow_path.layer1_lateral.conv.weight': (8, 4, 5, 1, 1)}, r'lateral\.bn',
  ),
  ('vmz', 'ir_csn_50'): ({'layer1.0.conv2.0.weight': (8, 1, 3, 3, 3),
  'layer1.0.conv2.1.weight': (8,)}, r'conv\d\.0\.\d'),
  ('vmz', 'ip_csn_50'): (
    {
      'layer1.0.conv2.0.0.weight': (8, 8, 1, 1, 1), 'layer1.0.conv2.0.1.running_mean': (8,),
      'layer1.0.conv2.0.2.weight': (8, 1, 3, 3, 3), 'layer1.0.conv2.1.weight': (8,),
    },
    r'conv[13]\.0\.\d',
  ),
  ('vmz', 'r3d_34'): ({'layer4.2.conv2.0.weight': (64, 64, 3, 3, 3)}, r'conv\d\.0\.\d'),
  ('slowfast', 'slowfast_nln_r50_4x16'): (
    {
      's3.pathway0_nonlocal3.conv_theta.weight': (32, 64, 1, 1, 1),
      's4.pathway0_nonlocal5.bn.running_var': (128,),
      's4_fuse.conv_f2s.weight': (32, 16, 5, 1, 1),
    },
    'pathway1_nonlocal',
  ),
  ('slowfast', 'c2d_nln_r50'): ({'s3.pathway0_nonlocal1.conv_out.bias': (64,)}, 'pathway1'),
  ('torchvision', 'resnet18'): ({'conv1.weight': (8, 3, 7, 7),
  'layer2.0.downsample.0.weight': (16, 8, 1, 1)}, 'stem'),
  ('ibm', 'blresnet_152'): (
    {
      'baseline_model.layer1.big.0.downsample.1.weight': (32, 8, 1, 1), 'new_fc.weight': (5, 256),
      'baseline_model.layer3.big.28.conv3.weight': (128, 32, 1, 1),
      'baseline_model.layer3.little.5.conv1.weight': (16, 64, 1, 1),
    },
    r'(big|layer4)\.0\.downsample\.0',
  ),
}  # fmt: skip


QUICK = ('ip_csn_50', 'tsm_nl_r50', 'resnet18', 'c2d_nln_r50')  # one of a source


@pytest.mark.parametrize(('source', 'variant'), [n if n[1] in QUICK else slowly(*n) for n in NAMES])
def test_there_and_back(source, variant):
  expected, absent = NAMES[source, variant]
  tensors = original(source, variant)
  assert {name: tensors[name].shape for name in expected} == expected
  assert not [name for name in tensors if re.search(absent, name)]
  variables = dict(variables_of(source, variant))
  for name in [
    n for n in variables if '_nl_' in variant and n.endswith('out/bias')
  ]:  # the norm behind it takes it over
    mean = name.replace('params/', 'batch_stats/').replace('out/bias', 'norm/mean')
    variables[mean], variables[name] = (
      variables[mean] - variables[name],
      np.zeros_like(variables[name]),
    )
  check(source, variant, tensors, variables)


@pytest.mark.parametrize(('source', 'variant', 'setting', 'value'), [
  ('mmaction', 'ir_csn_r50', 'norm.eps', 1e-3), ('vmz', 'ip_csn_152', 'norm.eps', 1e-3),
  ('pytorchvideo', 'ir_csn_r50', 'norm.eps', 1e-5),
  ('vmz', 'ir_csn_152', 'pool1', True), ('vmz', 'ir_csn_152', 'time_strides', (1, 2, 2, 2)),
  ('mmaction', 'tsm_tp_r50', 'pools', ('max', '', '', '')),
  ('mmaction', 'tsm_nl_r50', 'non_local.scaled', False),
  ('slowfast', 'slow_nln_r50', 'non_local.kind', 'dot'),
  ('slowfast', 'c2d_nln_r50', 'non_local.kind', 'softmax'),
  ('slowfast', 'slowfast_ava_nln_r101_50_50', 'non_local.size', (2, 2, 2)),
])  # fmt: skip
def test_settings_that_weights_do_not_tell(source, variant, setting, value):
  assert operator.attrgetter(setting)(network(source, variant).backbone) == value


@pytest.mark.parametrize(
  'image',
  [*(pytest.param(n, marks=pytest.mark.slow) for n in ('slowfast_r50_4x16', 'x3d_s')), 'slow_r50'],
)
def test_image_networks_of_the_image_pretraining_paper(image):
  """Prefixes of their own; SlowFast's classifier sees [slow, fast], not [fast, slow]; X3D has a
  bias more."""
  variant, tensors = f'sts_{image}', {}
  last = r'^cls_head\.fc2\.' if image == 'x3d_s' else r'^cls_head\.fc_cls\.'
  for name, array in original('sts', variant).items():
    if name == 'cls_head.fc_cls.weight' and image.startswith('slowfast'):
      array = np.concatenate([array[:, 32:], array[:, :32]], axis=1)  # 256 + 32 inputs
    name = re.sub(last, 'classifier.', name.replace('backbone.', 'get_feature.')).replace(
      'cls_head.fc1.', 'fc1.'
    )
    tensors[f'module.{name}'] = array
  if image == 'x3d_s':
    tensors['module.fc1.bias'] = np.ones(2048, np.float32)
  assert not [name for name in tensors if 'cls_head' in name or 'backbone' in name]
  check('sts', variant, tensors, variables_of('sts', variant))


def caffe2(name: str) -> str:
  """The Caffe2 blob of a tensor of PySlowFast's PyTorch files."""
  if match := re.fullmatch(r's1_fuse\.(conv_f2s|bn)\.(\w+)', name):
    blob = 't_pool1_subsample' + '_bn' * (match[1] == 'bn')
  elif match := re.fullmatch(r's(\d)_fuse\.(conv_f2s|bn)\.(\w+)', name):
    last = {'2': 2, '3': 3, '4': 5}[match[1]]
    blob = f't_res{match[1]}_{last}_branch2c_bn_subsample' + '_bn' * (match[2] == 'bn')
  elif match := re.fullmatch(r's1\.pathway(\d)_stem\.(conv_xy|conv|bn)\.(\w+)', name):
    part = {'conv': 'conv1', 'conv_xy': 'conv1_xy', 'bn': 'res_conv1_bn'}[match[2]]
    blob = 't_' * int(match[1]) + part
  elif match := re.fullmatch(
    r's(\d)\.pathway0_nonlocal(\d+)\.(?:conv_)?(theta|phi|g|out|bn)\.(\w+)', name
  ):
    blob = f'nonlocal_conv{match[1]}_{match[2]}_{match[3]}'
  elif match := re.fullmatch(r's(\d)\.pathway0_res(\d+)\.branch2\.se\.fc(\d)\.(\w+)', name):
    blob = f'res{match[1]}_{match[2]}_branch2b_bn_fc{match[3]}'
  elif match := re.fullmatch(r's(\d)\.pathway(\d)_res(\d+)\.branch(1|2\.[abc])(_bn)?\.(\w+)', name):
    blob = (
      't_' * int(match[2])
      + f'res{match[1]}_{match[3]}_branch{match[4].replace(".", "")}{match[5] or ""}'
    )
  else:
    match = re.fullmatch(r'head\.(projection|conv_5|conv_5_bn|lin_5)\.(\w+)', name)
    blob = match[1].replace('projection', 'pred')
  norm = blob.endswith('bn')
  ends = {'weight': 's' if norm else 'w', 'bias': 'b', 'running_mean': 'rm', 'running_var': 'riv'}
  return f'{blob}_{ends[match[match.lastindex]]}'


@pytest.mark.parametrize(
  'variant',
  [
    'slow_r50',
    *(
      pytest.param(n, marks=pytest.mark.slow)
      for n in ('i3d_nln_r50', 'slowfast_nln_r50_4x16', 'x3d_s')
    ),
  ],
)
def test_caffe2_blobs(variant):
  tensors = {
    name: a for name, a in original('slowfast', variant).items() if 'num_batches' not in name
  }
  blobs = {caffe2(name): array for name, array in tensors.items()}
  assert len(blobs) == len(tensors)
  known = {
    'slow_r50': 'res3_1_branch2a_bn_riv', 'i3d_nln_r50': 'nonlocal_conv4_5_theta_w',
    'slowfast_nln_r50_4x16': 't_res4_5_branch2c_bn_subsample_bn_rm',
    'x3d_s': 'res2_0_branch2b_bn_fc1_w',
  }  # fmt: skip
  assert known[variant] in blobs
  blobs |= {
    'lr': np.ones(1, np.float32),
    'model_iter': np.ones(1),
    'pred_w_momentum': np.ones((5, 5), np.float32),
  }
  check('slowfast', variant, blobs, variables_of('slowfast', variant))


@pytest.mark.slow
def test_laterals_tell_how_many_frames_they_see():
  """The same variant with laterals of seven frames, in both sources."""
  for source in ('slowfast', 'pytorchvideo'):
    tensors = original(source, 'slowfast_r50_4x16', fusion=7)
    check(source, 'slowfast_r50_4x16', tensors, variables_of(source, 'slowfast_r50_4x16', fusion=7))


@pytest.mark.parametrize(('source', 'variant', 'classifier'), [
  ('slowfast', 'slow_r50', 'head.projection.weight'),
  ('pytorchvideo', 'slow_r50', 'blocks.5.proj.weight'),
  ('vmz', 'ir_csn_50', 'fc.weight'), ('ibm', 'tsn_r18', 'fc.weight'),
  ('mmaction', 'tsm_r18', 'cls_head.fc_cls.weight'),
])  # fmt: skip
def test_classifiers_may_be_convolutions(source, variant, classifier):
  tensors = original(source, variant)
  tensors[classifier] = tensors[classifier][:, :, None, None, None]
  check(source, variant, tensors, variables_of(source, variant))


def test_googlenet_without_its_auxiliary_classifiers():
  tensors = original('torchvision', 'googlenet')
  assert tensors['inception3a.branch2.0.conv.weight'].shape == (12, 24, 1, 1)
  for part in ('aux1', 'aux2'):
    tensors |= {f'{part}.conv.conv.weight': np.ones((16, 64, 1, 1)), f'{part}.fc2.bias': np.ones(5)}
    tensors |= {
      f'{part}.conv.bn.{end}': np.ones(16)
      for end in ('weight', 'bias', 'running_mean', 'running_var')
    }
  check('torchvision', 'googlenet', tensors, variables_of('torchvision', 'googlenet'))
  with pytest.raises(ValueError, match='unexpected: aux3.fc2.bias'):
    convert.load(
      'torchvision', tensors | {'aux3.fc2.bias': np.ones(5)}, variant='googlenet', **SMALL
    )


@pytest.mark.slow
def test_blresnet_of_images_has_no_tam():
  """The ImageNet files: the trainer's prefix, no taps, 'fc'; and video files trained without
  dropout."""
  expected = variables_of('ibm', 'blresnet_50', temporal={'kind': ''})
  tensors = convert.to_source('ibm', tree.unflatten(expected), 'blresnet_50')
  plain = {
    name.removeprefix('baseline_model.').replace('new_fc', 'fc'): array
    for name, array in tensors.items()
  }
  for prefix in ('module.', 'module.baseline_model.'):
    check('ibm', 'blresnet_50', {prefix + name: array for name, array in plain.items()}, expected)


def test_blresnet_of_five_taps():
  tensors = original('ibm', 'blresnet_50', temporal={'taps': 5})
  assert tensors['baseline_model.tam.blending_layers.4.weight'].shape == (8, 1, 1, 1)
  check('ibm', 'blresnet_50', tensors, variables_of('ibm', 'blresnet_50', temporal={'taps': 5}))


@pytest.mark.parametrize('source', registry.names('convert'))
def test_models_of_a_source_exist(source):
  """Under our names and the source's own; none of its own names is another model of ours there."""
  module = registry.find('convert', source)
  assert set(module.MODELS) <= set(factory.list_models())
  assert set(module.ALIASES.values()) <= set(module.MODELS)
  assert not set(module.ALIASES) & set(module.MODELS)


@pytest.mark.parametrize('source', [s for s in registry.names('convert') if s != 'mae_image'])
def test_every_model_of_a_source_has_names(source):
  module = registry.find('convert', source)
  for name in module.MODELS:
    assert module.names({}, name), name
    if hasattr(module, 'restore'):
      assert module.restore({}, name) == {}, name


def test_ip_csn_is_not_pytorchvideos():
  """Its builder makes ir-CSN only."""
  with pytest.raises(
    ValueError, match=r"--variant=ip_csn_r50: source 'pytorchvideo' has no .*it has "
  ):
    convert.load('pytorchvideo', {}, variant='ip_csn_r50')


@pytest.mark.parametrize(('source', 'variant'), [
  ('mmaction', 'tsn_r18'), ('vmz', 'r3d_18'), ('ibm', 'tsn_r18'), ('torchvision', 'resnet18'),
  ('slowfast', 'c2d_r50'),
  ('pytorchvideo', 'c2d_r50'), ('torchvision', 'r3d_18'),
])  # fmt: skip
def test_frames_and_crop_change_nothing(source, variant):
  """Frames and crop, which transformers need, are accepted for CNNs too; other settings must
  exist."""
  tensors = original(source, variant)
  check(source, variant, tensors, variables_of(source, variant), frames=16, crop=320)
  with pytest.raises(ValueError, match='frame=16 is unknown'):
    convert.load(source, tensors, variant=variant, frame=16)
