"""Weights as training scripts save them: prefixes, sections, classifiers in sequences or none."""

import re

import numpy as np
import pytest

from tests.convert.test_names import SMALL, original
from vjax import convert, tree


@pytest.fixture(scope='module')
def plain() -> dict[str, np.ndarray]:
  """A small ResNet-18 of torchvision."""
  return original('torchvision', 'resnet18')


def read(weights, **settings) -> convert.Converted:
  return convert.read('torchvision', weights, variant='resnet18', **SMALL, **settings)


def same(found: convert.Converted, plain: dict[str, np.ndarray]) -> bool:
  expected = tree.flatten(read(plain).variables)
  found = tree.flatten(found.variables)
  return found.keys() == expected.keys() and all(
    np.array_equal(found[name], expected[name]) for name in expected
  )


def prefixed(prefix: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  return {prefix + name: array for name, array in tensors.items()}


@pytest.mark.parametrize('prefix', [
  'module.', '_orig_mod.', 'model.', 'net.', 'module.model.net.', '_orig_mod.module.', 'backbone.',
  'model.encoder.resnet.',
])  # fmt: skip
def test_a_prefix_of_all_names_is_taken_off(prefix, plain):
  found = read(prefixed(prefix, plain))
  assert same(found, plain) and found.taken == f'prefix {prefix!r} taken off'


def test_the_counter_of_a_moving_average_is_no_weight(plain):
  for prefix, counter in (('module.', 'n_averaged'), ('model.module.', 'model.n_averaged')):
    assert same(read(prefixed(prefix, plain) | {counter: np.array(7)}), plain)
  with pytest.raises(ValueError, match='unexpected: n_averaged'):
    read(plain | {'n_averaged': np.array(7)})


def test_names_of_compiled_blocks(plain):
  inside = {re.sub(r'^(layer\d\.\d)\.', r'\1._orig_mod.', n): x for n, x in plain.items()}
  assert same(read(inside), plain)


def test_a_prefix_that_the_source_knows_stays():
  """All names of a PyTorchVideo file begin 'blocks.', those of an MMAction backbone 'backbone.'."""
  names = original('pytorchvideo', 'slow_r50')
  assert convert.read('pytorchvideo', names, variant='slow_r50', **SMALL).taken == ''
  names = {n: x for n, x in original('mmaction', 'tsn_r18').items() if 'cls_head' not in n}
  found = convert.read('mmaction', names, variant='tsn_r18', **SMALL)
  assert found.headless and not found.taken


def test_names_under_a_prefix_among_others(plain):
  """A Lightning module with weights of its loss."""
  mixed = prefixed('model.', plain) | {'criterion.weight': np.ones(5)}
  with pytest.raises(
    ValueError, match=rf"{len(plain)} of {len(mixed)} names begin 'model\.': --prefix=model\. takes"
  ):
    read(mixed)
  found = read(mixed, prefix='model.')
  assert same(found, plain) and '1 names without it left out' in found.taken
  with pytest.raises(
    ValueError, match=r"--prefix=net\. .*begins no name .*'model\.' \(\d+\).*: give"
  ):
    read(mixed, prefix='net.')


@pytest.mark.parametrize('section', ['state_dict', 'module', 'state_dict_ema', 'ema', 'a/b'])
def test_the_only_section_is_taken(section, plain):
  weights = plain
  for key in reversed(section.split('/')):
    weights = {key: weights, 'epoch': 3, 'args': {'lr': 0.1}}
  found = read(weights | {'rng_state': np.zeros(8, np.uint8)})
  assert same(found, plain) and found.taken == f'section {section!r}'


def test_several_sections_are_told_and_chosen(plain):
  average = {name: array + 1 for name, array in plain.items()}
  weights = {
    'model': plain,
    'model_ema': prefixed('module.', average),
    'optimizer': {'state': {0: 1}},
  }
  found = read(weights)
  assert same(found, plain)
  assert found.taken == "section 'model', other sections: 'model_ema'"
  found = read(weights, section='model_ema')
  assert same(found, average)
  assert found.taken == ("section 'model_ema', prefix 'module.' taken off, other sections: 'model'")
  with pytest.raises(
    ValueError,
    match=r'--section=ema .*is not in the file; there are --section=model, --section=model_',
  ):
    read(weights, section='ema')
  with pytest.raises(ValueError, match='choose one of --section=student, --section=teacher'):
    read({'student': plain, 'teacher': average})
  assert same(read({'student': plain, 'teacher': average}, section='teacher'), average)


def test_errors_say_what_was_taken_and_what_would_fit(plain):
  del (damaged := dict(plain))['bn1.bias']
  with pytest.raises(
    ValueError, match=r"(?s)missing: .*norm1/bias.*taken: section 'model', other sections: 'ema'"
  ):
    read({'model': damaged, 'ema': plain})
  with pytest.raises(
    ValueError, match=r"none of the \d+ names .* is one of slowfast slow_r50, such as 's1\.pathway0"
  ):
    convert.load('slowfast', plain, variant='slow_r50', **SMALL)


def sequence(plain: dict[str, np.ndarray], *places: int) -> dict[str, np.ndarray]:
  """The classifier inside a sequence, after square layers at all places but the last."""
  tensors = {name: array for name, array in plain.items() if not name.startswith('fc.')}
  width = plain['fc.weight'].shape[1]
  for place in places[:-1]:
    tensors |= {f'fc.{place}.weight': np.eye(width), f'fc.{place}.bias': np.zeros(width)}
  return tensors | {f'fc.{places[-1]}.{end}': plain[f'fc.{end}'] for end in ('weight', 'bias')}


@pytest.mark.parametrize('place', [0, 1])
def test_a_classifier_within_a_sequence(place, plain):
  assert same(read(sequence(plain, place)), plain)
  assert same(read(prefixed('model.', sequence(plain, place))), plain)


def test_a_classifier_of_several_layers(plain):
  with pytest.raises(
    ValueError, match=r"'fc' is a sequence of 2 layers with weights \(fc.0, fc.3\).*--headless"
  ):
    read(sequence(plain, 0, 3))
  assert read(sequence(plain, 0, 3), headless=True).headless


@pytest.mark.parametrize('headless', [False, True])
def test_a_backbone_without_classifier(headless, plain):
  """Weights that have none, and weights whose classifier is left out."""
  tensors = plain if headless else {n: x for n, x in plain.items() if not n.startswith('fc.')}
  found = read(tensors, headless=headless)
  assert found.headless and found.model.head.num_classes == 1
  given, expected = tree.flatten(found.variables), tree.flatten(read(plain).variables)
  assert given.keys() == expected.keys()
  for name, array in given.items():
    assert (array == (0 if '/head/' in name else expected[name])).all(), name


@pytest.mark.parametrize(('source', 'variant'), [
  ('slowfast', 'c2d_r50'), ('pytorchvideo', 'x3d_s'), ('vmz', 'r3d_18'), ('ibm', 'tsn_r18'),
])  # fmt: skip
def test_a_backbone_of_any_source(source, variant):
  found = convert.read(source, original(source, variant), variant=variant, headless=True, **SMALL)
  head = {n: x for n, x in tree.flatten(found.variables).items() if '/head/' in n}
  assert found.headless and head and not any(x.any() for x in head.values())


@pytest.mark.parametrize(('source', 'theirs', 'ours'), [
  ('pytorchvideo', 'csn_r101', 'ir_csn_r101'), ('pytorchvideo', 'slow_r50', 'slow_r50'),
  ('pytorchvideo', 'i3d_r50', 'i3d_3x1x1_r50'), ('pytorchvideo', 'r2plus1d_r50', 'ptv_r2plus1d_r50'),
  ('pytorchvideo', 'slowfast_r50', 'slowfast_r50_8x8'),
  ('pytorchvideo', 'slowfast_16x8_r101_50_50', 'slowfast_r101_16x8_50_50'),
  ('torchvision', 'r3d_18', 'tv_r3d_18'), ('slowfast', 'SLOWFAST_8x8_R50', 'slowfast_r50_8x8'),
  ('mmaction', 'slowonly_r50', 'slow_r50'),
])  # fmt: skip
def test_names_of_hubs(source, theirs, ours):
  assert convert.model_name(source, theirs) == ours
