"""Classification: softmax or sigmoid cross-entropy, with label smoothing, MixUp, CutMix and masking
of tokens."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vjax.layers import mask as masks
from vjax.layers import mix
from vjax.types import Batch, Mean, Metrics, Objective

# Number of steps in the schedule of mask_ratio: each step of the schedule compiles another update.
MASK_LEVELS = 8


def settings_at(progress: float, *, mask_ratio: float = 0.0, **others: Any) -> dict[str, Any]:
  """Returns the mask_ratio at `progress` through the training, 0 to 1.

  The ratio falls along half a cosine, in MASK_LEVELS steps.  (Feichtenhofer et al. 2022, appendix
  B.3 and table 11.)
  """
  if not mask_ratio:
    return {}
  level = round(MASK_LEVELS * 0.5 * (1 + math.cos(math.pi * progress)))
  return {'mask_ratio': mask_ratio * level / MASK_LEVELS}


def loss(
  model: Any,
  params: Any,
  stats: Any,
  batch: Batch,
  rng: Any,
  *,
  train: bool,
  label_smoothing: float = 0.0,
  mixup: float = 0.0,
  cutmix: float = 0.0,
  mix_switch: float = 0.5,
  mix_group: int = 0,
  multi_label: bool = False,
  mask_ratio: float = 0.0,
) -> tuple[Float[Array, ''], tuple[Metrics, Any]]:
  """Returns the mean loss over real clips, and (metrics, stats).

  Label smoothing, mixing and masking act in training only. Metrics are loss, top1 and, for 5
  classes or more, top5: whether a true class is among the best k. While mixing, the clip's own
  label counts as the truth.

  Args:
    model: backbone and head.
    params: parameters.
    stats: other collections of variables.
    batch: label (B,) becomes one-hot targets; label (B, K), multi-hot or soft, is used as it is.
    rng: key of dropout.
    train: whether the network is in training mode.
    label_smoothing: share of a target that is spread evenly over all classes, the true one too.
    mixup, cutmix: a of the Beta(a, a) that shares of two clips are drawn from, 0 = off.
    mix_switch: probability of CutMix where MixUp is on as well.
    mix_group: number of clips that are mixed with the same weight, see layers/mix.py.
    multi_label: sigmoid cross-entropy, mean over classes (Wightman et al. 2021 use it for one label
      a clip, too); else softmax.
    mask_ratio: share of a ViT's tokens, drawn at random, that are left out.
  """
  label, video = batch['label'], batch['video']
  if label_smoothing and label.ndim == 2:
    raise ValueError(
      f'label_smoothing is {label_smoothing}, but label has shape {label.shape}: it needs one '
      'label a clip'
    )
  mixing = train and (mixup or cutmix)
  if mixing:
    pixels, weights = mix.draw(
      batch['rng'],
      *video.shape[2:4],
      mixup=mixup,
      cutmix=cutmix,
      switch=mix_switch,
      group=mix_group,
    )
    video = mix.blend_video(video, pixels)
  mask = None
  grid = model.backbone.grid(video.shape[1:4]) if mask_ratio else None
  if mask_ratio and grid is None:
    raise ValueError(
      f'config.objective.mask_ratio is {mask_ratio}, but {type(model.backbone).__module__} has no '
      'tokens to hide: set it to 0, or use a vit'
    )
  if train and mask_ratio:
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(
      batch['rng']
    )  # other keys than mixing's
    mask = masks.make(keys, grid, mask_ratio, 'random')
  logits, stats = _apply(model, params, stats, video, mask, rng, train)
  classes = logits.shape[-1]
  truth = jax.nn.one_hot(label, classes) if label.ndim == 1 else label.astype(jnp.float32)
  targets = (
    mix.soft_targets(label, classes, label_smoothing) if train and label.ndim == 1 else truth
  )
  if mixing:
    targets = mix.blend(targets, weights)
  losses = (
    optax.sigmoid_binary_cross_entropy(logits, targets).mean(-1)
    if multi_label
    else optax.softmax_cross_entropy(logits, targets)
  )
  real = batch['valid'].astype(jnp.float32)
  values = {'loss': losses, **{f'top{k}': _hits(logits, truth, k) for k in (1, 5) if classes >= k}}
  averages = {name: Mean.of(x, real) for name, x in values.items()}
  return jnp.sum(losses * real) / jnp.maximum(real.sum(), 1), (averages, stats)


def _apply(model, params, stats, video, mask, rng, train: bool):
  """Returns logits (B, K) in float32, and the collections after the call."""
  variables = {'params': params, **stats}
  if train:
    some = {} if mask is None else {'token_mask': mask}
    logits, stats = model.apply(
      variables, video, train=True, mutable=list(stats), rngs={'dropout': rng}, **some
    )
  else:
    logits = model.apply(variables, video, train=False)
  if jnp.ndim(logits) != 2:
    raise ValueError(
      f'the head answers shape {jnp.shape(logits)}; classification needs (B, K): choose another '
      'config.head'
    )
  return logits.astype(jnp.float32), stats


def _hits(logits, truth, k: int):
  """Returns 1.0 where one of the k best classes is true, else 0.0 (B,). Of equal logits the first
  class ranks higher."""
  _, best = jax.lax.top_k(logits, k)
  return (jnp.take_along_axis(truth, best, -1) > 0).any(-1).astype(jnp.float32)


OBJECTIVE = Objective(
  loss,
  needs_labels=True,
  at=settings_at,
  ranges={
    'label_smoothing': (0, 1),
    'mixup': (0, math.inf),
    'cutmix': (0, math.inf),
    'mix_switch': (0, 1),
    'mix_group': (0, math.inf),
    'mask_ratio': (0, 1),
  },
)
