"""Checks a published model's fixture: logits in float64, names both ways, and the stages on the
way."""

import jax
import jax.numpy as jnp
import numpy as np

from tests import golden_files
from vjax import convert

# Fixtures that are computed in float32 too: one for each kind of convolution and of network, since
# a formulation that loses digits shows there alone.
SINGLE = ('mm_tsm_resnet18', 'tv_r2plus1d_18', 'sf_X3D_S', 'ibm_i3d_resnet18', 'sf_MVITv2_S_16x4')
# Fixtures of which both clips are computed, one for each way that frames meet: shifts, blends, pools
# and attention could let a clip see its neighbor in the batch. Of the others, the first clip:
# convolutions in float64 are slow on CPUs.
BOTH_CLIPS = (*SINGLE, 'ibm_tam_resnet18', 'ibm_tsn_resnet18_ts', 'sf_I3D_NLN_8x8_R50')
# Fixtures that compute longer than LLVM's optimizations take.
OPTIMIZED = (
  'sf_SLOWFAST_4x16_R50', 'sts_slowfast_4x16_r50', 'ptv_slowfast_r50', 'mm_tsm_resnet18',
  'dense_resnet50_3x3x3', 'ibm_i3d_resnet18', 'tv_r2plus1d_18', 'tv_r3d_18', 'vmz_r2plus1d_34',
  'vmz_r2plus1d_34_pool1', 'sts_r2plus1d_r34',
)  # fmt: skip
# The parameters of another fixture under wrapped names, which one file of names cannot tell apart.
ONE_WAY = ('mm_tsm_resnet50_block',)


def check(source: str, variant: str, fixture_name: str, clip=None, **overrides) -> dict:
  """Compares a network with its original: the number of parameters, logits in float64 to 1e-9, and
  names and tensors of the file that `convert.to_source` makes of its variables. Fixtures of SINGLE
  also in float32, within ten times the original's own rounding.

  Args:
    source: of the weights.
    variant: of the source.
    fixture_name: in tests/golden.
    clip: makes (B, T, H, W, C) of the fixture's input.
    overrides: settings that weights cannot tell.

  Returns:
    The fixture.
  """
  fixture = golden_files.load(fixture_name)
  weights = golden_files.weights(fixture)
  x = (clip or channels_last)(golden_files.model_input(fixture['inputs'][0]['shape']))
  exact = np.reshape(fixture['float64']['logits'], fixture['logits']['shape'])
  if fixture_name not in BOTH_CLIPS:
    x, exact = x[:1], exact[:1]
  with jax.enable_x64(True):
    model, variables = convert.load(
      source, weights, variant=variant, dtype=jnp.float64, **overrides
    )
    doubled = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)
    options = {'xla_backend_optimization_level': 1} if fixture_name in OPTIMIZED else None
    run = jax.jit(lambda v, x: model.apply(v, x, train=False), compiler_options=options)
    logits = run(doubled, jnp.asarray(x, jnp.float64))
    assert logits.dtype == jnp.float64
    assert np.abs(np.asarray(logits) - exact).max() < 1e-9 * max(1, np.abs(exact).max())
  count = sum(int(np.size(a)) for a in jax.tree.leaves(variables['params']))
  assert count == fixture['parameters'], (
    f'{count} parameters, the original has {fixture["parameters"]}'
  )
  assert all(a.dtype == np.float32 for a in jax.tree.leaves(variables))
  if fixture_name not in ONE_WAY:
    check_names(source, variant, variables, weights)
  if fixture_name in SINGLE:
    model, _ = convert.load(source, weights, variant=variant, **overrides)
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, x)
    assert np.abs(np.asarray(logits) - exact).max() < 10 * fixture['float64']['max_abs_diff']
  return fixture


def check_names(source: str, variant: str, variables: dict, weights: dict) -> None:
  """Asserts that `convert.to_source` gives the original's file: every name, shape and value."""
  tensors = convert.to_source(source, variables, variant)
  assert sorted(tensors) == sorted(weights)
  for name, array in tensors.items():
    np.testing.assert_array_equal(array, weights[name], err_msg=name)


def check_maps(
  source: str, variant: str, fixture_name: str, probes: tuple[str, ...], **overrides
) -> None:
  """The backbone's maps have the shape, statistics and first values of the original's stages
  `probes`, in float64."""
  fixture = golden_files.load(fixture_name)
  video = channels_last(golden_files.model_input(fixture['inputs'][0]['shape']))
  with jax.enable_x64(True):
    model, variables = convert.load(
      source, golden_files.weights(fixture), variant=variant, dtype=jnp.float64, **overrides
    )
    variables = {kind: tree['backbone'] for kind, tree in variables.items()}
    variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)
    run = jax.jit(
      lambda v, x: model.backbone.apply(v, x, train=False),
      compiler_options={'xla_backend_optimization_level': 1},
    )
    features = run(variables, jnp.asarray(video, jnp.float64))
  assert len(features.maps) == len(probes)
  for ours, name in zip(features.maps, probes, strict=True):
    ours, probe = np.moveaxis(np.asarray(ours), -1, 1), fixture['probes'][name]
    noise = 10 * fixture['float64']['probe_max_abs_diff'][name]
    assert list(ours.shape) == probe['shape']
    np.testing.assert_allclose(ours.ravel()[:8], probe['first8'], atol=noise)
    assert abs(ours.mean() - probe['mean']) < noise and abs(ours.std() - probe['std']) < noise
    assert abs(np.abs(ours).max() - probe['absmax']) < noise


def channels_last(x):
  """(B, C, T, H, W) -> (B, T, H, W, C)."""
  return np.moveaxis(x, 1, -1)


def frame_major(x):
  """(B, T * 3, H, W) -> (B, T, H, W, 3)."""
  return np.moveaxis(x.reshape(len(x), -1, 3, *x.shape[2:]), 2, -1)


def segments(frames: int):
  """(B * T, 3, H, W) -> (B, T, H, W, 3)."""
  return lambda x: np.moveaxis(x.reshape(-1, frames, *x.shape[1:]), 2, -1)
