"""MViT's published weights: PySlowFast's and MultiTrain's, resized, and with the head of one
dataset of several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden_files
from tests.convert import zoo
from vjax import convert, tree
from vjax.objectives import joint

FIXTURES = {  # fixture -> source, variant
  'sf_MVIT_B_16x4_CONV': ('slowfast', 'mvit_v1_b_16x4'),
  'sf_MVITv2_S_16x4': ('slowfast', 'mvit_v2_s_16x4'),
  'mt_MVITV2_FULL_B_16x4': ('multitrain', 'b_16x4'),
}


@pytest.mark.parametrize('name', FIXTURES)
@pytest.mark.slow
def test_logits_and_names_both_ways(name):
  zoo.check(*FIXTURES[name], name)


SEVERAL = ('mt_multi_FULL_B_16x4', 'mt_multi_FULL_B_16x4_addpred')


@pytest.fixture(scope='module')
def body():
  """(variables of the backbone, features of the clip in float64) of the fixtures of several data
  sets: their networks differ in the heads alone, and drop nothing in training."""
  fixtures = [golden_files.load(name) for name in SEVERAL]
  shape, other = (fixture['inputs'][0]['shape'] for fixture in fixtures)
  assert shape == other
  model, variables = convert.load(
    'multitrain', golden_files.weights(fixtures[0]), variant='b_16x4', dataset='all',
    dtype=jnp.float64,
  )  # fmt: skip
  assert model.backbone.drop_path == 0
  video = zoo.channels_last(golden_files.model_input(shape))
  with jax.enable_x64(True):
    run = jax.jit(lambda v, x: model.apply(v, x, train=False, method='features'))
    doubled = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)
    return variables['params']['backbone'], run(doubled, jnp.asarray(video, jnp.float64))


@pytest.mark.parametrize('name', SEVERAL)
@pytest.mark.slow
def test_heads_of_several_data_sets(name, body):
  """One at a time; the fixture holds the scores of all, side by side."""
  fixture = golden_files.load(name)
  weights = golden_files.weights(fixture)
  scores, (backbone, features) = [], body
  with jax.enable_x64(True):
    for dataset in ('kinetics', 'ssv2'):
      model, variables = convert.load(
        'multitrain', weights, variant='b_16x4', dataset=dataset, dtype=jnp.float64
      )
      jax.tree.map(np.testing.assert_array_equal, backbone, variables['params']['backbone'])
      head = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables['params']['head'])
      scores.append(model.head.apply({'params': head}, features, train=False))
  exact = np.reshape(fixture['float64']['logits'], fixture['logits']['shape'])
  np.testing.assert_allclose(np.concatenate(scores, axis=1), exact, atol=1e-9)


@pytest.mark.parametrize('name', SEVERAL)
@pytest.mark.slow
def test_all_of_a_model_of_several_data_sets(name, body):
  """Scores, projected scores, and the losses in training mode with the fixture's soft targets."""
  fixture = golden_files.load(name)
  weights, outputs = golden_files.weights(fixture), fixture['outputs']
  model, variables = convert.load(
    'multitrain', weights, variant='b_16x4', dataset='all', dtype=jnp.float64
  )
  back = convert.to_source('multitrain', variables, 'b_16x4')
  assert set(back) == set(weights)
  for key, array in back.items():
    np.testing.assert_array_equal(array, weights[key], err_msg=key)
  backbone, features = body
  jax.tree.map(np.testing.assert_array_equal, backbone, variables['params']['backbone'])
  with jax.enable_x64(True):
    head = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables['params']['head'])
    out = model.head.clone(dropout=0.0).apply({'params': head}, features, train=True)
    exact = np.reshape(fixture['float64']['logits'], fixture['logits']['shape'])
    add = outputs['loss_settings']['cross_proj_add_to_pred']
    if not add:
      own = np.concatenate([out.logits[d] for d in ('kinetics', 'ssv2')], axis=1)
      np.testing.assert_allclose(own, exact, atol=1e-9)
    for key, found in outputs['train_mode_predictions'].items():
      if 'values' not in found:
        continue
      source, _, target = key.partition('_')
      got = out.projected[target][source] if target else out.logits[source]
      np.testing.assert_allclose(got.ravel(), np.ravel(found['values']), atol=1e-5, err_msg=key)
    np.testing.assert_allclose(
      out.embedding.ravel()[:8],
      outputs['train_mode_predictions']['informative_feature_probe']['first8'],
      atol=1e-5,
    )
    targets, masks = (
      jax.tree.map(jnp.asarray, outputs[n], is_leaf=lambda x: isinstance(x, list))
      for n in ('labels', 'masks')
    )
    losses = joint.class_losses(
      out.logits, out.projected, targets, masks, projection='add' if add else 'separate'
    )
    counts = {d: m.sum() for d, m in masks.items()}
    total = joint.total_of_classes(losses, counts, reduction='batch')
    variance, covariance = joint.informative(out.embedding, jnp.ones(4))
    expected = outputs['losses_float64']
    assert total == pytest.approx(expected['multi_head_loss'], abs=1e-8)
    assert 25 * variance + covariance == pytest.approx(expected['informative_loss'], abs=1e-7)
    whole = total + 2.5 * variance + 0.1 * covariance
    assert whole == pytest.approx(expected['total_loss'], abs=1e-7)


def test_a_head_must_be_named():
  weights = golden_files.weights(golden_files.load('mt_multi_FULL_B_16x4_addpred'))
  with pytest.raises(
    ValueError, match='no dataset was named: .* heads for kinetics, ssv2; .*--set dataset=kin'
  ):
    convert.load('multitrain', weights, variant='b_16x4')
  single = golden_files.weights(golden_files.load('mt_MVITV2_FULL_B_16x4'))
  with pytest.raises(ValueError, match='--set dataset=kinetics: .* of one dataset'):
    convert.load('multitrain', single, variant='b_16x4', dataset='kinetics')
  with pytest.raises(
    ValueError,
    match='pool queries in every block, unlike the model: choose another .*--set add_query=True',
  ):
    convert.load('multitrain', single, variant='half_b_16x4')


@pytest.mark.slow
def test_positions_are_resized_for_other_clips():
  single = golden_files.weights(golden_files.load('mt_MVITV2_FULL_B_16x4'))
  model, variables = convert.load('multitrain', single, variant='b_16x4', crop=96, frames=32)
  assert model.backbone.crop == 96
  flat = tree.flatten(variables)
  assert flat['params/backbone/position_spatial'].shape == (1, 24 * 24, 96)
  assert flat['params/backbone/position_temporal'].shape == (1, 16, 96)
  official = golden_files.weights(golden_files.load('sf_MVITv2_S_16x4'))
  _, variables = convert.load('slowfast', official, variant='mvit_v2_s_16x4', crop=96)
  flat = tree.flatten(variables)
  assert flat['params/backbone/block0/attn/relative_h'].shape == (47, 96)
  assert flat['params/backbone/block0/attn/relative_t'].shape == (15, 96)
  old = official['blocks.0.attn.rel_pos_h']
  np.testing.assert_allclose(
    flat['params/backbone/block0/attn/relative_h'][23], old[15], atol=1e-6
  )  # the same place
