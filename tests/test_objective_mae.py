"""The objective of the masked autoencoder, its targets and its reconstructions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import mae_k400
from tests.experiments import shrunk
from tests.models.test_vit import filled
from vjax import build, tree
from vjax.config import parse
from vjax.heads import mae as mae_head
from vjax.layers import mask as masks
from vjax.models import vit
from vjax.objectives import mae
from vjax.types import Features, VideoModel

BACKBONE = {'width': 32, 'depth': 1, 'heads': 4, 'frames': 4, 'crop': 16, 'patch': (2, 4, 4)}
DECODER = {'width': 16, 'depth': 1, 'heads': 2, 'patch': (2, 4, 4)}


def make(**head):
  return VideoModel(vit.Backbone(**BACKBONE), mae_head.Head(**{**DECODER, **head}))


@pytest.fixture(scope='module')
def batch():
  video = jax.random.normal(jax.random.key(1), (4, 4, 16, 16, 3)) * 0.5 + 1
  return {
    'video': video,
    'valid': jnp.array([1, 1, 1, 0]),
    'video_id': jnp.array([7, 3, 9, -1]),
    'rng': jax.random.split(jax.random.key(2), 4),
  }


@pytest.fixture(scope='module')
def params(batch):
  return init(make(), batch['video'])


@partial(jax.jit, static_argnames='train')
def run(params, batch, train=True):
  return mae.loss(make(), params, {}, batch, jax.random.key(5), train=train, ratio=0.75)


def apply(model, params, video, mask=None):
  return jax.jit(lambda p, x: model.apply({'params': p}, x, train=False, token_mask=mask))(
    params, video
  )


def init(model, video):
  return filled(model, video)['params']


def predicted(model, video) -> tuple[int, ...]:
  return jax.eval_shape(
    lambda: model.init_with_output(jax.random.key(0), video, train=False)[0]
  ).shape


def test_target_frames():
  assert mae.target_frames(16, 8, 'stride') == [0, 2, 4, 6, 8, 10, 12, 14]
  assert mae.target_frames(16, 8, 'linspace') == [0, 2, 4, 6, 8, 10, 12, 15]
  assert mae.target_frames(8, 4, 'linspace') == [0, 2, 4, 7]
  assert (
    mae.target_frames(16, 16, 'stride') == mae.target_frames(16, 16, 'linspace') == list(range(16))
  )
  with pytest.raises(ValueError, match='target is'):
    mae.target_frames(16, 8, 'last')


def test_targets_have_unbiased_unit_variance(batch):
  wanted, mean, deviation = mae.targets(make(), batch['video'], 48, True, 'stride')
  assert wanted.shape == (4, 2 * 4 * 4, 48)
  np.testing.assert_allclose(wanted.mean(-1), 0, atol=1e-5)
  np.testing.assert_allclose(wanted.var(-1, ddof=1), 1, atol=1e-4)
  raw, _, _ = mae.targets(make(), batch['video'], 48, False, 'stride')
  np.testing.assert_allclose(wanted * deviation + mean, raw, atol=1e-5)
  np.testing.assert_array_equal(raw[0, 0], batch['video'][0, 0, :4, :4].ravel())
  np.testing.assert_array_equal(
    raw[0, 16], batch['video'][0, 2, :4, :4].ravel()
  )  # second slot: frame 2
  last, _, _ = mae.targets(make(), batch['video'], 48, False, 'linspace')
  np.testing.assert_array_equal(last[0, 16], batch['video'][0, 3, :4, :4].ravel())


def test_all_frames_as_target(batch):
  model = make(pred_frames=4)
  assert predicted(model, batch['video']) == (4, 32, 96)
  wanted, _, _ = mae.targets(model, batch['video'], 96, False, 'stride')
  np.testing.assert_array_equal(wanted[0, 0], batch['video'][0, :2, :4, :4].ravel())
  for wrong in (1, 3):
    with pytest.raises(ValueError, match='pred_frames'):
      predicted(make(pred_frames=wrong), batch['video'])


def test_loss_is_that_of_removed_tokens_of_real_clips(params, batch):
  loss, (metrics, stats) = run(params, batch)
  mask = masks.make(batch['rng'], (2, 4, 4), 0.75, 'random')
  out = apply(make(), params, batch['video'], mask)
  wanted, _, _ = mae.targets(make(), batch['video'], 48, True, 'stride')
  error = np.square(np.asarray(out - wanted)).mean(-1)[:3]
  removed = np.asarray(mask.removed)[:3]
  assert float(loss) == pytest.approx((error * removed).sum() / removed.sum(), rel=1e-5)
  assert float(metrics['loss'].compute()) == pytest.approx(float(loss), rel=1e-5) and stats == {}
  assert int(metrics['loss'].count) == 3


def test_padding_carries_no_loss(params, batch):
  other = {**batch, 'video': batch['video'].at[3].add(5.0)}
  assert float(run(params, batch)[0]) == float(run(params, other)[0])
  other = {**batch, 'video': batch['video'].at[0].add(jnp.linspace(0, 5, 3))}
  assert float(run(params, batch)[0]) != float(run(params, other)[0])
  nothing = run(params, {**batch, 'valid': jnp.zeros(4)}, train=False)
  assert float(nothing[0]) == 0 and int(nothing[1][0]['loss'].count) == 0


def test_evaluation_depends_on_the_videos_alone(params, batch):
  loss = float(run(params, batch, train=False)[0])
  other = {**batch, 'rng': jax.random.split(jax.random.key(9), 4)}
  assert float(run(params, other, train=False)[0]) == loss
  turned = {k: v[::-1] for k, v in batch.items()}
  assert float(run(params, turned, train=False)[0]) == pytest.approx(loss, rel=1e-5)
  assert float(run(params, other)[0]) != float(run(params, batch)[0])


def test_ratio_that_removes_nothing(params, batch):
  with pytest.raises(ValueError, match='nothing is left to predict'):
    mae.loss(make(), params, {}, batch, jax.random.key(0), train=True, ratio=0.0)


def test_training_lowers_the_loss(params, batch):
  @jax.jit
  def step(params):
    f = lambda p: mae.loss(
      make(), p, {}, batch, jax.random.key(5), train=True, ratio=0.75, normalize=False
    )[0]
    loss, gradient = jax.value_and_grad(f)(params)
    return loss, gradient, jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient)

  losses, first = [], step(params)[1]
  for _ in range(20):
    loss, _, params = step(params)
    losses.append(float(loss))
  assert losses[-1] < 0.5 * losses[0]
  # Every parameter learns, but the softmax is blind to what is added to all keys, up to rounding.
  still = [
    name
    for name, g in tree.flatten(first).items()
    if not np.abs(g).max() > 0 and 'k/bias' not in name
  ]
  assert still == []


def test_head_needs_tokens(batch):
  with pytest.raises(ValueError, match='no tokens'):
    mae_head.Head().init(
      jax.random.key(0), Features(maps=None, pooled=jnp.zeros((1, 4))), train=False
    )
  with pytest.raises(ValueError, match='preset'):
    predicted(make(preset='paper'), batch['video'])


def test_class_token_of_the_encoder(batch):
  """'released' passes the encoder's class token on, 'repo' has one of its own."""
  mask = masks.make(batch['rng'], (2, 4, 4), 0.75, 'random')
  for preset, passes in (('released', True), ('repo', False)):
    model = make(preset=preset, depth=1)
    params = init(model, batch['video'])
    features = jax.jit(
      lambda p, x, m=model: m.backbone.apply({'params': p}, x, train=False, token_mask=mask)
    )(params['backbone'], batch['video'])
    head = jax.jit(lambda f, m=model, p=params: m.head.apply({'params': p['head']}, f, train=False))
    other = features.replace(tokens=features.tokens.at[:, 0].add(jnp.linspace(-3, 3, 32)))
    assert (np.abs(head(features) - head(other)).max() > 1e-4) == passes


def test_reconstruction(params, batch):
  mask = masks.make(batch['rng'], (2, 4, 4), 0.75, 'random')
  rebuild = jax.jit(partial(mae.reconstruct, make()), static_argnames='normalize')
  original, masked, reconstruction = rebuild(params, batch['video'], mask)
  np.testing.assert_allclose(original, batch['video'][:, ::2], atol=1e-5)
  removed = np.asarray(mask.removed).reshape(4, 2, 4, 4).repeat(4, 2).repeat(4, 3)[..., None] > 0
  np.testing.assert_allclose(masked, np.where(removed, 0, original), atol=1e-6)
  np.testing.assert_array_equal(
    np.where(removed, 0, reconstruction), np.where(removed, 0, original)
  )
  # With the true statistics every removed patch has nearly the right mean.
  blocks = lambda x: np.asarray(x).reshape(4, 2, 4, 4, 4, 4, 3).mean((3, 5, 6))
  assert np.abs(blocks(reconstruction) - blocks(original)).max() < 1
  raw = rebuild(params, batch['video'], mask, normalize=False)[2]
  out = apply(make(), params, batch['video'], mask)
  first = int(np.flatnonzero(mask.removed[0])[0])
  t, h, w = np.unravel_index(first, (2, 4, 4))
  np.testing.assert_array_equal(
    raw[0, t, 4 * h : 4 * h + 4, 4 * w : 4 * w + 4].ravel(), out[0, first]
  )


@pytest.mark.parametrize(('predict', 'values'), [('pixels', 48), ('hog', 27), ('tokens', 5)])
def test_what_is_predicted_sets_the_width_of_the_head(predict, values, tmp_path):
  np.save(tmp_path / 'codes.npy', np.eye(5, 48))
  config = shrunk('mae_k400', **{'objective.predict': predict, 'head.pred_frames': None})
  config['objective'] |= {'codebook': f'{tmp_path}/codes.npy'} if predict == 'tokens' else {}
  config['model'] |= {'patch': (4, 4, 4)}
  config['clip'] |= {'crop_size': 8, 'short_side': 9}
  model, objective = build.model(config, 3), build.objective(config)
  video = jax.random.normal(jax.random.key(1), (2, 8, 8, 8, 3))
  assert predicted(model, video) == (2, 8, values)
  assert (objective.reconstruct is None) == (predict != 'pixels')
  batch = {'video': video, 'valid': jnp.ones(2), 'video_id': jnp.arange(2)}
  loss = jax.eval_shape(
    lambda p: objective(model, p, {}, batch, None, train=False)[0],
    jax.eval_shape(lambda: model.init(jax.random.key(0), video, train=False)['params']),
  )
  assert loss.shape == ()


def test_reconstructions_of_what_is_no_pixels_are_refused(data_dir):
  config = shrunk('mae_k400', **{'objective.predict': 'hog'})
  with pytest.raises(ValueError, match="config.evals.pictures.*predict='hog' rebuilds no pixels"):
    build.experiment(config, str(data_dir))
  config['objective']['predict'] = 'hogs'
  with pytest.raises(ValueError, match="no 'hogs' in vjax/targets; it has: hog, pixels, tokens"):
    build.experiment(config, str(data_dir))


def test_mask_tokens_in_the_encoder_cost_the_papers_multiply_adds():
  """Feichtenhofer et al. 2022, table 1: ViT-L at 16x224. Every block costs the same, so that two
  depths tell of all 24.

  DIFFERS(code): only visible patches are embedded; the code embeds the 1412 others too.
  """

  def cost(depth: int, *, mask_tokens: bool) -> float:
    config = mae_k400.get_config('variant=L')
    config.model.update(depth=depth, keep_mask_tokens=mask_tokens)
    net, clip = build.model(config, 400), parse(config).clip
    return build.objective_macs(build.objective(config), net, clip, 400) / 1e9

  sparse, dense = (
    [cost(depth, mask_tokens=mask_tokens) for depth in (1, 2)] for mask_tokens in (False, True)
  )
  whole = lambda one, two: one + 23 * (two - one)
  assert whole(*dense) == pytest.approx(628.6, abs=0.05)
  assert whole(*sparse) + 1412 * 1536 * 1024 / 1e9 == pytest.approx(81.6, abs=0.05)
  assert whole(*dense) / 81.6 == pytest.approx(7.7, abs=0.05)
