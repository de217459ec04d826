"""Image networks and video networks: kernels out of one another."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.networks import variables_of
from vjax import checkpoint, factory, inflate, tree
from vjax.kernels import conv
from vjax.layers.sts import static_outputs

SMALL = dict(width=0.125, depths=(1, 1, 1, 1))


def kernel(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_modes():
  k = kernel(1, 3, 3, 2, 4)
  np.testing.assert_allclose(inflate.inflate(k, 5).sum(0), k[0], rtol=1e-6)
  np.testing.assert_array_equal(inflate.inflate(k, 3, 'repeat'), np.concatenate([k, k, k]))
  np.testing.assert_array_equal(inflate.inflate(k, 3, 'center'), np.concatenate([0 * k, k, 0 * k]))
  np.testing.assert_allclose(
    inflate.inflate(k, 3, (1 / 9, 1 / 3, 1 / 9)), np.concatenate([k / 9, k / 3, k / 9]), rtol=1e-6
  )
  np.testing.assert_array_equal(inflate.inflate(k, 5, (1 / 9, 1 / 3, 1 / 9))[[0, 1, 3, 4]], 0)


@pytest.mark.parametrize(
  ('shape', 'frames', 'mode', 'message'),
  [((3, 1, 1, 2, 2), 3, 'mean', 'single frame'), ((1, 1, 1, 2, 2), 2, 'center', 'no middle'),
   ((1, 1, 1, 2, 2), 3, 'average', 'mean, repeat, center')],
)  # fmt: skip
def test_refusals(shape, frames, mode, message):
  with pytest.raises(ValueError, match=message):
    inflate.inflate(kernel(*shape), frames, mode)


def test_more_inputs_become_zeros():
  fitted = inflate.fit('conv', kernel(1, 1, 1, 4, 6), (3, 1, 1, 7, 6), 'mean')
  np.testing.assert_allclose(fitted[:, :, :, :4].sum(0), kernel(1, 1, 1, 4, 6)[0], rtol=1e-6)
  assert fitted.shape == (3, 1, 1, 7, 6) and not fitted[:, :, :, 4:].any()
  with pytest.raises(ValueError, match='not the kernel of a frame'):
    inflate.fit('conv', kernel(1, 1, 1, 4, 6), (3, 1, 1, 4, 8))


def answer(net, variables, video, **settings):
  return jax.jit(lambda v, x: net.apply(v, x, train=False, **settings))(variables, video)


def inflated(image, video_shapes, mode):
  fit = lambda name, x: inflate.fit(name, x, video_shapes[name].shape, mode) if x.ndim == 5 else x
  return tree.map_named(fit, image)


@pytest.mark.parametrize(('mode', 'middle_only'), [('center', False), ('mean', True)])
@pytest.mark.slow
def test_a_still_clip_is_answered_like_its_picture(mode, middle_only):
  """I3D out of TSN: with 'center' in all frames; with 'mean' in those that no padding reaches."""
  still = jnp.broadcast_to(
    jax.random.normal(jax.random.key(3), (1, 1, 32, 32, 3)), (1, 24, 32, 32, 3)
  )
  image, video = (factory.create_model(f'{kind}_r18', 5, **SMALL) for kind in ('tsn', 'i3d'))
  variables = variables_of(image, still)
  shapes = tree.flatten(jax.eval_shape(lambda: video.init(jax.random.key(0), still, train=False)))
  expected = answer(image, variables, still, method='features').maps[0]
  found = answer(video, inflated(variables, shapes, mode), still, method='features').maps[0]
  frames = slice(9, 15) if middle_only else slice(None)  # nine convolutions through time
  np.testing.assert_allclose(found[:, frames], expected[:, frames], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_repeat_equals_mean_under_batch_statistics():
  clip = jax.random.normal(jax.random.key(3), (4, 8, 32, 32, 3))
  image, video = (factory.create_model(f'{kind}_r18', 5, **SMALL) for kind in ('tsn', 'i3d'))
  variables = variables_of(image, clip)
  shapes = tree.flatten(jax.eval_shape(lambda: video.init(jax.random.key(0), clip, train=False)))
  train = jax.jit(lambda v: video.apply(v, clip, train=True, mutable=['batch_stats'])[0])
  logits = [train(inflated(variables, shapes, mode)) for mode in ('mean', 'repeat')]
  np.testing.assert_allclose(*logits, rtol=2e-2, atol=2e-3)


@pytest.mark.slow
def test_slices_of_a_video_network_are_image_networks():
  """The middle slice answers one frame as the whole network does; every slice goes back to where it
  came from."""
  net = factory.create_model('i3d_r18', 5, **SMALL)
  image = factory.create_model('tsn_r18', 5, **SMALL)
  frame = jax.random.normal(jax.random.key(3), (2, 1, 32, 32, 3))
  variables = variables_of(net, frame)
  middle = inflate.temporal_slice(variables, 1)
  np.testing.assert_allclose(
    answer(image, middle, frame), answer(net, variables, frame), rtol=1e-5, atol=1e-6
  )
  for index in (0, 1, 2):
    one_hot = tuple(float(i == index) for i in range(3))
    cut = inflate.temporal_slice({'a': {'kernel': kernel(3, 3, 3, 2, 2)}}, index)['a']['kernel']
    back = inflate.inflate(cut, 3, one_hot)
    np.testing.assert_array_equal(back[index], kernel(3, 3, 3, 2, 2)[index])
  with pytest.raises(ValueError, match='index=3'):
    inflate.temporal_slice(variables, 3)


NETWORKS = (
  'sts_ir_csn_r50',
  'sts_slow_r50',
  'sts_3x1x1_r50',
  'sts_3x3x3_r50',
  'sts_r2plus1d_r34',
  'sts_x3d_s',
  'sts_slowfast_r50_8x8',
)


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_sts_with_zeroed_side_slices_is_the_plain_network_and_sees_frames_alone(name):
  small = dict(width=0.5, deep=0.2) if name == 'sts_x3d_s' else SMALL
  sts = factory.create_model(name, 5, **small)
  plain = factory.create_model(name, 5, **small, sts={'variant': ''})
  clip = jax.random.normal(jax.random.key(3), (2, 4, 32, 32, 3))
  variables = inflate.middle_only(variables_of(sts, clip))
  whole = answer(sts, variables, clip)
  if (
    name == 'sts_slowfast_r50_8x8'
  ):  # its slow pathway leaves out frames: a still clip is answered like its picture
    still = jnp.broadcast_to(clip[:, :1], clip.shape)
    np.testing.assert_allclose(
      answer(sts, variables, still), answer(sts, variables, clip[:, :1]), rtol=1e-4, atol=1e-5
    )
  elif name != 'sts_x3d_s':  # X3D's head is not linear
    frames = answer(sts, variables, clip.reshape(8, 1, 32, 32, 3)).reshape(2, 4, -1)
    np.testing.assert_allclose(whole, frames.mean(1), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(whole, answer(plain, variables, clip), rtol=1e-4, atol=1e-5)


def test_static_outputs_may_keep_their_side_slices():
  cleared = inflate.middle_only({'a': {'kernel': kernel(3, 3, 3, 2, 4)}}, static={'a/kernel': 2})[
    'a'
  ]['kernel']
  np.testing.assert_array_equal(cleared[..., :2], kernel(3, 3, 3, 2, 4)[..., :2])
  assert not cleared[[0, 2]][..., 2:].any() and cleared[1].all()


def test_rates_of_slices():
  three, five = kernel(3, 1, 1, 2, 4), kernel(5, 1, 1, 2, 4)
  found = inflate.reweight(
    {'a': {'kernel': three}, 'b': {'kernel': five}}, (1 / 9, 1 / 3, 1 / 9), static={'a/kernel': 1}
  )
  expected = np.stack([three[1] / 9, three[1] / 3, three[1] / 9])
  np.testing.assert_allclose(found['a']['kernel'][..., 1:], expected[..., 1:], rtol=1e-6)
  np.testing.assert_array_equal(found['a']['kernel'][..., :1], three[..., :1])
  np.testing.assert_array_equal(found['b']['kernel'], inflate.inflate(five[2:3], 5, 'center'))
  with pytest.raises(ValueError, match='give three'):
    inflate.reweight({'b': {'kernel': five}}, (0, 0, 1, 0, 0))


def shapes_of(name, frames):
  video = jax.ShapeDtypeStruct((1, frames, 32, 32, 3), jnp.float32)
  net = factory.create_model(name, 5)
  with conv.formulation('lax'):  # traces faster
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), video)
  return tree.flatten(shapes)


@pytest.mark.parametrize(('source', 'target', 'new'), [
  ('tsn_r18', 's3d_r18', r'backbone/res\d/block\d/(conv\d/temporal/kernel|norm\d/\w+)'),
  ('tsn_r50', 's3d_r50', r'backbone/res\d/block\d/(conv2/temporal/kernel|norm2/\w+)'),
  ('tsn_r50', 'i3d_r50', ''),
  ('tsn_r50', 'tam_r50', r'backbone/res\d/block\d/mix/kernel'),
  ('tsn_r50', 'slowfast_r50_4x16', r'backbone/(fast|lateral).*|head/linear/kernel'),
])  # fmt: skip
def test_where_an_image_network_goes(source, target, new):
  """Every tensor finds a place of its shape, up to frames and inputs; only `new` names are left
  over."""
  old, wanted = shapes_of(source, 8), shapes_of(target, 8)
  places = inflate.renames(old, wanted)
  taken = [places[name] for name in old]
  assert len(set(taken)) == len(taken)
  for name, shape in ((name, x.shape) for name, x in old.items()):
    there = wanted[places[name]].shape
    assert shape == there or inflate.fits(shape, there) or name == 'params/head/linear/kernel'
  left = {name.split('/', 1)[1] for name in wanted if name not in taken}
  assert all(
    re.fullmatch(new, name) for name in left - {'head/linear/kernel', 'head/linear/bias'}
  ) and bool(new) == bool(left)
  if 's3d' in target:
    assert (
      places['params/backbone/res2/block0/conv2/kernel']
      == 'params/backbone/res2/block0/conv2/spatial/kernel'
    )
    assert (
      places['batch_stats/backbone/res2/block0/norm2/mean']
      == 'batch_stats/backbone/res2/block0/conv2/norm/mean'
    )
  assert inflate.renames(wanted, wanted) == {name: name for name in wanted}


@pytest.mark.slow
def test_warm_start_from_an_image_network(tmp_path):
  """init.inflate: kernels through time are made of the checkpoint's; the rest is loaded as it
  is."""
  from vjax import build

  image, video = (factory.create_model(f'{kind}_r18', 5, **SMALL) for kind in ('tsn', 'i3d'))
  clip = jnp.zeros((1, 4, 32, 32, 3))
  variables = variables_of(image, clip)
  checkpoint.save_params(tmp_path, variables, {'config': {}, 'classes': []})
  wanted = variables_of(video, clip, seed=1)
  resize = lambda *args: build.resize(video, None, 'mean', *args)
  params, stats, report = checkpoint.warm_start(
    wanted['params'], {'batch_stats': wanted['batch_stats']}, tmp_path, resize=resize
  )
  old, new = tree.flatten(variables['params']), tree.flatten(params)
  assert len(report['resized']) == 9 and not report['skipped']
  for name, array in old.items():
    np.testing.assert_allclose(
      new[name].sum(0) if array.ndim == 5 else new[name],
      array[0] if array.ndim == 5 else array,
      rtol=1e-5,
    )
  with pytest.raises(ValueError, match='in the model'):
    checkpoint.warm_start(wanted['params'], {'batch_stats': wanted['batch_stats']}, tmp_path)


@pytest.mark.slow
def test_warm_start_of_split_convolutions_and_by_rates(tmp_path):
  """config.init: an image network goes to the spatial halves of S3D; rates spread a middle slice,
  static outputs kept."""
  from vjax import build
  from vjax.config import ClipConfig, InitConfig

  spec = ClipConfig(num_frames=4, frame_stride=1, crop_size=32, short_side=32)
  clip = jnp.zeros((1, 4, 32, 32, 3))
  start = lambda net, wanted, **init: checkpoint.warm_start(
    wanted['params'],
    {'batch_stats': wanted['batch_stats']},
    tmp_path,
    **build.warm(net, spec, InitConfig(path=str(tmp_path), **init)),
  )
  image, video = (factory.create_model(f'{kind}_r18', 5, **SMALL) for kind in ('tsn', 's3d'))
  variables, wanted = variables_of(image, clip), variables_of(video, clip, seed=1)
  checkpoint.save_params(tmp_path, variables, {'config': {}, 'classes': []})
  anew = (r'backbone/.*/temporal/kernel', r'backbone/.*/norm\d/.*')
  params, _, report = start(video, wanted, inflate='mean', skip=anew)
  old, new = tree.flatten(variables['params']), tree.flatten(params)
  np.testing.assert_array_equal(
    new['backbone/res2/block0/conv1/spatial/kernel'], old['backbone/res2/block0/conv1/kernel']
  )
  np.testing.assert_array_equal(
    new['backbone/res2/block0/conv1/norm/scale'], old['backbone/res2/block0/norm1/scale']
  )
  assert 'backbone/res2/block0/conv1/temporal/kernel' in report['skipped']

  network = factory.create_model('sts_3x3x3_r50', 5, **SMALL)
  variables = variables_of(network, clip)
  checkpoint.save_params(tmp_path / 'sts', variables, {'config': {}, 'classes': []})
  tmp_path = tmp_path / 'sts'
  params, _, _ = start(network, variables_of(network, clip, seed=1), rates=(0.25, 0.5, 0.125))
  old, new = tree.flatten(variables['params']), tree.flatten(params)
  name = next(n for n, x in old.items() if n.endswith('kernel') and x.ndim == 5 and x.shape[0] == 3)
  static = static_outputs(network, clip)[name]
  assert 0 < static < old[name].shape[-1]
  np.testing.assert_array_equal(new[name][..., :static], old[name][..., :static])
  for i, rate in enumerate((0.25, 0.5, 0.125)):
    np.testing.assert_allclose(
      new[name][i, ..., static:], rate * old[name][1, ..., static:], rtol=1e-6
    )


def test_a_slice_in_the_middle():
  """Of three frames each; of five the neighbors of the middle one; other arrays stay."""
  rng = np.random.default_rng(0)
  three, five = rng.normal(size=(3, 1, 1, 2, 2)), rng.normal(size=(5, 1, 1, 2, 2))
  still, bias = rng.normal(size=(1, 3, 3, 2, 2)), rng.normal(size=2)
  variables = {
    'params': {
      'a': {'kernel': three}, 'b': {'kernel': five}, 'c': {'kernel': still}, 'd': {'bias': bias},
    }
  }  # fmt: skip
  for index in (0, 1, 2):
    found = inflate.in_the_middle(variables, index)['params']
    a, b = found['a']['kernel'], found['b']['kernel']
    np.testing.assert_array_equal(a[1], three[index])
    np.testing.assert_array_equal(b[2], five[1 + index])
    assert not a[[0, 2]].any() and not b[[0, 1, 3, 4]].any()
    np.testing.assert_array_equal(found['c']['kernel'], still)
    np.testing.assert_array_equal(found['d']['bias'], bias)
