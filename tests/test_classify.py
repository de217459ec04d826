"""The classification objective against its equations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjax.layers import mix
from vjax.models import vit
from vjax.objectives import classify
from vjax.objectives.classify import loss as objective
from vjax.types import Backbone, VideoModel

K = 6
LOGITS = np.random.default_rng(0).normal(size=(4, K)).astype(np.float32) * 2
# A video whose mean pixel is i, for a model that answers row i of its table.
VIDEO = jnp.broadcast_to(jnp.arange(4.0)[:, None, None, None, None], (4, 2, 3, 3, 3))
BATCH = {
  'video': VIDEO,
  'label': jnp.array([0, 2, 5, 3]),
  'valid': jnp.array([1.0, 1.0, 1.0, 0.0]),
  'rng': jax.random.split(jax.random.key(0), 4),
}


class Table(Backbone):
  """Linear interpolation in a table (4, K) by the mean pixel; counts its training calls as a
  statistic."""

  @nn.compact
  def __call__(self, video, *, train):
    table = self.param('table', lambda _: jnp.asarray(LOGITS))
    calls = self.variable('batch_stats', 'calls', lambda: jnp.zeros(()))
    if train:
      calls.value += 1
    place = video.mean((1, 2, 3, 4))
    weights = jnp.maximum(0, 1 - jnp.abs(place[:, None] - jnp.arange(4.0)))
    return weights @ table


def run(batch=BATCH, *, train=True, model=None, **settings):
  model = model or Table()
  variables = model.init(jax.random.key(0), VIDEO, train=False)
  params, stats = variables.pop('params'), variables
  call = jax.jit(
    lambda p, s, b: objective(model, p, s, b, jax.random.key(1), train=train, **settings)
  )
  loss, (metrics, stats) = call(params, stats, batch)
  return float(loss), {name: float(m.compute()) for name, m in metrics.items()}, stats


def log_softmax(x):
  return (
    x
    - x.max(-1, keepdims=True)
    - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))
  )


def test_plain_loss_counts_real_clips_only():
  loss, metrics, stats = run()
  rows, label = np.arange(3), np.array([0, 2, 5])
  want = -log_softmax(LOGITS)[rows, label].mean()
  assert loss == pytest.approx(want, rel=1e-5) and metrics['loss'] == pytest.approx(want, rel=1e-5)
  rank = (LOGITS[:3] > LOGITS[rows, label][:, None]).sum(1)
  assert metrics['top1'] == pytest.approx((rank < 1).mean()) and metrics['top5'] == pytest.approx(
    (rank < 5).mean()
  )
  assert float(stats['batch_stats']['calls']) == 1


def test_evaluation_mode_has_no_smoothing_no_mixing_and_keeps_statistics():
  plain = run(train=False)
  same = run(train=False, label_smoothing=0.1, mixup=0.8, cutmix=1.0)
  assert plain[:2] == same[:2] and float(same[2]['batch_stats']['calls']) == 0


def test_label_smoothing():
  targets = np.full((3, K), 0.1 / K)
  targets[np.arange(3), [0, 2, 5]] += 0.9
  want = -(targets * log_softmax(LOGITS[:3])).sum(1).mean()
  assert run(label_smoothing=0.1)[0] == pytest.approx(want, rel=1e-5)


def test_mixing_blends_video_and_targets_alike():
  batch = {**BATCH, 'valid': jnp.ones(4)}
  settings = dict(mixup=0.8, cutmix=1.0, switch=0.5, group=2)
  targets = mix.soft_targets(BATCH['label'], K, 0.1)
  video, targets = (np.asarray(x) for x in mix.mix(VIDEO, targets, BATCH['rng'], **settings))
  weights = np.maximum(0, 1 - np.abs(video.mean((1, 2, 3, 4))[:, None] - np.arange(4.0)))
  want = -(targets * log_softmax(weights @ LOGITS)).sum(1).mean()
  got, metrics, _ = run(batch, label_smoothing=0.1, mixup=0.8, cutmix=1.0, mix_group=2)
  assert got == pytest.approx(want, rel=1e-4) and metrics['loss'] == pytest.approx(want, rel=1e-4)


def test_sigmoid_loss_of_many_labels():
  label = np.zeros((4, K), np.float32)
  label[[0, 0, 1, 2], [1, 3, 0, 5]] = 1
  p = 1 / (1 + np.exp(-LOGITS))
  want = -(label * np.log(p) + (1 - label) * np.log(1 - p))[:3].mean()
  got, metrics, _ = run({**BATCH, 'label': jnp.asarray(label)}, multi_label=True)
  assert got == pytest.approx(want, rel=1e-5)
  assert metrics['top1'] == pytest.approx(np.mean([label[i, LOGITS[i].argmax()] for i in range(3)]))


def test_sigmoid_loss_of_one_label_is_that_of_its_one_hot_row():
  one_hot = {**BATCH, 'label': jax.nn.one_hot(BATCH['label'], K)}
  assert run(multi_label=True)[0] == pytest.approx(run(one_hot, multi_label=True)[0], rel=1e-6)


def test_a_constant_answer_is_not_rewarded_and_few_classes_have_no_top5():
  class Constant(Backbone):
    @nn.compact
    def __call__(self, video, *, train):
      return jnp.zeros((len(video), 4)) + self.param('x', nn.initializers.zeros, ())

  loss, metrics, stats = run(
    {**BATCH, 'label': jnp.array([0, 1, 2, 3]), 'valid': jnp.ones(4)}, model=Constant()
  )
  assert metrics == {'loss': pytest.approx(np.log(4)), 'top1': 0.25} and stats == {}
  assert loss == pytest.approx(np.log(4))


def test_padding_alone_gives_zero_not_nan():
  assert run({**BATCH, 'valid': jnp.zeros(4), 'label': jnp.full(4, -1)})[0] == 0


def test_errors():
  with pytest.raises(ValueError, match='label_smoothing is 0.1'):
    run({**BATCH, 'label': jnp.zeros((4, K))}, label_smoothing=0.1)

  class Dense(Backbone):
    @nn.compact
    def __call__(self, video, *, train):
      return nn.Dense(3)(video)

  with pytest.raises(ValueError, match='the head answers shape'):
    run(model=Dense())


def test_hidden_tokens_follow_half_a_cosine_in_eight_steps():
  """Feichtenhofer et al. 2022, table 11: from r0 to 0; in between r0 / 2."""
  at = lambda progress: classify.settings_at(progress, mask_ratio=0.75, mixup=0.8)['mask_ratio']
  assert at(0) == 0.75 and at(0.5) == 0.375 and at(1) == 0
  assert len({at(p / 100) for p in range(101)}) == 9
  assert classify.settings_at(0.3, mixup=0.8) == {}


class Count(Backbone):
  """The number of tokens that the backbone was shown as the score of the first of two classes."""

  def __call__(self, features, *, train):
    tokens = jnp.float32(features.tokens.shape[1] - 1)  # without the class token
    return jnp.tile(jnp.stack([tokens, 0.0])[None], (len(features.tokens), 1))


@pytest.mark.slow
def test_training_hides_tokens_and_evaluation_does_not():
  model = VideoModel(
    vit.Backbone(width=32, depth=1, heads=2, frames=4, crop=16, patch=(2, 4, 4)), Count()
  )
  batch = {**BATCH, 'video': jnp.zeros((4, 4, 16, 16, 3)), 'label': jnp.array([1, 1, 1, 1])}
  params = model.init(jax.random.key(0), batch['video'], train=False)['params']
  call = lambda train: objective(
    model, params, {}, batch, jax.random.key(0), train=train, mask_ratio=0.75
  )[0]
  assert float(call(True)) == pytest.approx(
    8.0, abs=1e-2
  )  # a quarter of 32 tokens speaks for the wrong class
  assert float(call(False)) == pytest.approx(32.0, abs=1e-2)


def test_networks_without_tokens_to_hide_say_so():
  from vjax.models import mvit
  from vjax.objectives import mae

  model = VideoModel(mvit.Backbone(flavor='v2', depths=(1,), frames=4, crop=16, width=8), Count())
  batch = {**BATCH, 'video': jnp.zeros((4, 4, 16, 16, 3)), 'video_id': jnp.arange(4)}
  with pytest.raises(
    ValueError, match=r'mask_ratio is 0.5, but vjax.models.mvit has no tokens to hide: set it to 0'
  ):
    objective(model, {}, {}, batch, jax.random.key(0), train=True, mask_ratio=0.5)
  with pytest.raises(ValueError, match='masked autoencoding needs a vit'):
    mae.loss(model, {}, {}, batch, jax.random.key(0), train=True)
