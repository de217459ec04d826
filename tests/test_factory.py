"""Models by name: one namespace, created with a head, errors that name the nearest."""

import dataclasses
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import vjax
from vjax import factory, registry, tree
from vjax.models import x3d


def test_list_models_has_the_names_that_papers_use():
  names = vjax.list_models()
  assert names == sorted(names) and len(names) > 150
  wanted = {'r2plus1d_34', 'tam_r50', 'slowfast_r50_8x8', 'mvit_v2_s_16x4', 'vit_large'}
  assert wanted <= set(names)
  assert vjax.list_models('vit_*') == ['vit_base', 'vit_huge', 'vit_large', 'vit_small', 'vit_tiny']


@pytest.mark.parametrize('family', registry.names('models'))
def test_rows_are_settings_of_the_familys_backbone(family):
  module = registry.find('models', family)
  known = {f.name for f in dataclasses.fields(module.Backbone)}
  for name, row in module.MODELS.items():
    assert re.fullmatch(r'[a-z0-9_]+', name) and row.keys() <= known, name
    assert factory.find_model(name) == (module, row)


def test_rows_are_literal():
  """Each name stands in its file as it is, so that a search finds it."""
  for name, module in registry.models().items():
    assert f"'{name}'" in open(module.__file__).read(), name


def test_find_model_gives_a_row_of_its_own():
  factory.find_model('vit_base')[1]['depth'] = 1
  assert factory.find_model('vit_base')[1]['depth'] == 12


def test_create_model_makes_backbone_and_head():
  model = vjax.create_model('r2plus1d_18', num_classes=7, width=0.125, head={'dropout': 0.5})
  assert model.backbone.depths == (2, 2, 2, 2) and model.backbone.width == 0.125
  assert (model.head.num_classes, model.head.dropout, model.head.hidden) == (7, 0.5, 0)
  video = jax.ShapeDtypeStruct((2, 8, 32, 32, 3), jnp.float32)
  scores, variables = jax.eval_shape(
    lambda rng, x: model.init_with_output(rng, x, train=False), jax.random.key(0), video
  )
  assert scores.shape == (2, 7)
  assert tree.flatten(variables['params'])['head/linear/kernel'].shape == (64, 7)


def test_create_model_knows_the_head_of_a_family():
  assert vjax.create_model('x3d_s').head.hidden == x3d.HEAD['hidden'] == 2048


def test_frames_and_crop_reach_position_tables_only():
  assert vjax.create_model('vit_large', frames=40, crop=312).backbone.frames == 40
  assert not hasattr(vjax.create_model('c2d_r50', frames=8, crop=256).backbone, 'frames')


@pytest.mark.parametrize(('name', 'hint'), [
  ('vit_lage', "did you mean 'vit_large'"), ('slowfast_r50', "'slowfast_r50_8x8'"),
  ('mvit', "did you mean 'mvit_"), ('ViT-Base', "did you mean 'vit_base'"), ('zzz', 'list_models'),
])  # fmt: skip
def test_an_unknown_name_is_answered_with_the_nearest(name, hint):
  with pytest.raises(ValueError, match=f'there is no model {name!r}: .*{hint}'):
    vjax.create_model(name)


@pytest.mark.parametrize(('override', 'message'), [
  ({'poool1': True}, r"poool1=True is unknown: did you mean 'pool1'\? there are"),
  ({'num_class': 7}, "num_class=7 is unknown: did you mean 'num_classes'"),
  ({'head': {'drop': 0.5}}, "head.drop=0.5 is unknown: did you mean 'dropout'"),
  ({'pretrained': True}, 'python -m vjax.convert'),
  ({'num_classes': 0}, 'num_classes is 0; it must be a whole number, 1 or more'),
  ({'head': 'linear'}, "head is 'linear'; it must be a mapping"),
  ({'head': {'num_classes': 7}}, 'head.num_classes=7 is unknown'),
  ({'dtype': 'bf16'}, "dtype is 'bf16'; it must be one of float32, bfloat16"),
  ({'width': 'a'}, "config.model.width is 'a'; it must be a number"),
])  # fmt: skip
def test_an_unknown_override_is_answered_with_the_nearest(override, message):
  with pytest.raises(ValueError, match=message):
    vjax.create_model('r3d_18', **override)


def test_overrides_of_a_section_change_what_they_name():
  net = factory.create_backbone('vmz_ir_csn_r50', norm={'group_size': 4}, sts={'variant': 'sts'})
  assert (net.norm.eps, net.norm.group_size, net.sts.lines) == (1e-3, 4, 'flat')
  with pytest.raises(ValueError, match="norm.grup_size=4 is unknown: did you mean 'group_size'"):
    factory.create_backbone('vmz_ir_csn_r50', norm={'grup_size': 4})
  with pytest.raises(ValueError, match="sts='sts': give a mapping of variant, ratio"):
    factory.create_backbone('vmz_ir_csn_r50', sts='sts')


def test_import_of_vjax_alone_imports_no_jax():
  code = "import sys, vjax; print('jax' in sys.modules, callable(vjax.create_model))"
  run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert run.stdout.split() == ['False', 'True']
  with pytest.raises(AttributeError, match="no attribute 'create_modl'"):
    _ = vjax.create_modl
