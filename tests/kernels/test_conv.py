"""Every formulation of conv3d is the convolution that XLA computes."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from vjax import cost
from vjax.kernels import conv, table

# name of the kind: kernel (kT, kH, kW), C_in, C_out, groups
KERNELS = {
  'depthwise': ((2, 3, 1), 6, 6, 6),
  'depthwise_time': ((3, 1, 1), 6, 6, 6),
  'pointwise': ((1, 1, 1), 5, 7, 1),
  'spatial': ((1, 3, 3), 5, 7, 1),
  'spatial_wide': ((1, 3, 3), 65, 66, 1),
  'spatial_large': ((1, 7, 5), 3, 4, 1),
  'temporal': ((3, 1, 1), 5, 7, 1),
  'full': ((3, 2, 3), 5, 7, 1),
  'grouped': ((2, 3, 3), 6, 4, 2),
  'grouped_time': ((3, 1, 1), 6, 4, 2),
}
SETTINGS = [  # strides, padding, dilation
  ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
  ((2, 2, 2), (1, 1, 1), (1, 1, 1)),
  ((2, 1, 3), (2, 0, 1), (2, 1, 1)),
  ((1, 1, 1), (2, 2, 3), (2, 2, 2)),
]


def example(kernel, channels, features, groups, dtype):
  """Random clips and kernel; few pixels where channels are many, since float64 is slow without
  optimizations."""
  rng = np.random.default_rng(0)
  size = (2, 5, 9, 8) if channels < 64 else (2, 2, 5, 4)
  x = jnp.asarray(rng.standard_normal((*size, channels)), dtype)
  return x, jnp.asarray(rng.standard_normal((*kernel, channels // groups, features)), dtype)


def run(function, settings, x, weights):
  """Output and both gradients for a random output gradient."""
  convolve = lambda x, weights: conv.FORMULATIONS[function](x, weights, *settings)
  dy = np.random.default_rng(1).standard_normal(jax.eval_shape(convolve, x, weights).shape)

  def differentiate(x, weights, dy):
    y, pull = jax.vjp(convolve, x, weights)
    return y, *pull(dy)

  return jax.jit(differentiate)(x, weights, jnp.asarray(dy, x.dtype))


BY_FRAME = ('spatial', 'spatial_wide', 'temporal')  # whose gradients change where frames are large


@pytest.mark.parametrize(
  'name, large', [(n, conv.LARGE) for n in KERNELS] + [(n, 1) for n in BY_FRAME]
)
def test_formulation_equals_lax_forward_and_gradients(name, large, monkeypatch):
  monkeypatch.setattr(conv, 'LARGE', large)
  kernel, channels, features, groups = KERNELS[name]
  chosen = table.TABLE['cpu'][conv.kind((*kernel, channels // groups, features), channels, groups)]
  for dtype, tolerance, some in (
    (jnp.float64, 1e-11, SETTINGS),
    (jnp.float32, 3e-4, SETTINGS[1:2]),
  ):
    with jax.enable_x64(dtype == jnp.float64):
      x, weights = example(kernel, channels, features, groups, dtype)
      for setting in some:
        for a, b in zip(
          run(chosen, (*setting, groups), x, weights), run('lax', (*setting, groups), x, weights)
        ):
          assert a.dtype == dtype and a.shape == b.shape
          np.testing.assert_allclose(
            a, b, atol=tolerance, rtol=tolerance, err_msg=f'{name} {setting}'
          )


@pytest.mark.parametrize('name', ['depthwise', 'pointwise', 'spatial_wide', 'temporal', 'full'])
def test_bfloat16_differs_by_its_rounding(name, monkeypatch):
  monkeypatch.setattr(conv, 'LARGE', 1)
  kernel, channels, features, groups = KERNELS[name]
  chosen = table.TABLE['cpu'][conv.kind((*kernel, channels // groups, features), channels, groups)]
  half = example(kernel, channels, features, groups, jnp.bfloat16)
  exact = run('lax', (*SETTINGS[0], groups), *(x.astype(jnp.float32) for x in half))
  for a, b in zip(run(chosen, (*SETTINGS[0], groups), *half), exact):
    assert a.dtype == jnp.bfloat16
    np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.01 * float(jnp.abs(b).max()))


def test_kinds():
  assert [conv.kind((*k, c // g, d), c, g) for k, c, d, g in KERNELS.values()] == [
    'depthwise', 'depthwise', 'pointwise', 'spatial', 'spatial', 'spatial', 'temporal', 'full',
    'grouped', 'grouped'
  ]  # fmt: skip
  assert conv.kind((1, 1, 1, 1, 1), 1, 1) == 'pointwise'  # one channel is not depthwise


def test_unsuited_formulation_falls_back_to_lax():
  x, weights = example((3, 3, 3), 4, 4, 1, jnp.float32)
  wanted = conv.conv3d(x, weights, padding=(1, 1, 1))
  for name in conv.FORMULATIONS:
    with conv.formulation(name):
      np.testing.assert_allclose(conv.conv3d(x, weights, padding=(1, 1, 1)), wanted, atol=1e-4)


def test_padding_by_name_and_unknown_formulation_are_errors():
  x, weights = example((1, 1, 1), 4, 4, 1, jnp.float32)
  for padding in ('SAME', (1, 1)):
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match='padding'):
      conv.conv3d(x, weights, padding=padding)
  with (
    pytest.raises(ValueError, match="no formulation 'fft'; there are: lax"),
    conv.formulation('fft'),
  ):
    pass


@pytest.mark.parametrize('features', [7, 66])
def test_batch_split_over_devices_gives_the_same(features, monkeypatch):
  monkeypatch.setattr(conv, 'LARGE', 1)  # the wide kernel's gradient frame by frame
  x, weights = example((3, 3, 3), 5, features, 1, jnp.float32)
  x = jnp.concatenate([x] * 4)
  function = jax.jit(
    jax.value_and_grad(lambda w, x: jnp.square(conv.conv3d(x, w, padding=(1, 1, 1))).mean())
  )
  mesh = jax.make_mesh((8,), ('batch',), axis_types=(jax.sharding.AxisType.Auto,))
  spread = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('batch')))
  for a, b in zip(function(weights, x), function(weights, spread)):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_multiply_accumulates_are_those_meant():
  """Counted as written, through scans, branches and rematerialisation, whatever the formulation."""
  x, weights = example((3, 3, 3), 6, 6, 6, jnp.float32)  # depthwise; (2, 5, 9, 8, 6) in and out
  convolve = lambda x: conv.conv3d(x, weights, padding=(1, 1, 1), groups=6)
  assert cost.count(convolve, x) == x.size * 27
  assert cost.count(jax.checkpoint(convolve), x) == x.size * 27
  assert (
    cost.count(lambda x: jax.lax.scan(lambda c, _: (convolve(c), None), x, length=3), x)
    == 3 * x.size * 27
  )
  assert (
    cost.count(lambda x: jax.lax.cond(x[0, 0, 0, 0, 0] > 0, convolve, lambda x: x, x), x)
    == x.size * 27
  )
  a, b = jax.ShapeDtypeStruct((2, 3, 4), jnp.float32), jax.ShapeDtypeStruct((2, 4, 5), jnp.float32)
  assert cost.count(lambda a, b: jnp.einsum('bij,bjk->bik', a, b), a, b) == 2 * 3 * 4 * 5
  with pytest.raises(ValueError, match='while loop'):
    cost.count(lambda x: jax.lax.while_loop(lambda c: c[0, 0, 0, 0, 0] > 0, convolve, x), x)
