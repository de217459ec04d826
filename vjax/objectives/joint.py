"""Joint classification of several datasets: cross-entropy of each dataset's clips, projections
between label spaces, and the informative loss, which keeps features apart (Liang et al. 2022,
MultiTrain; variance and covariance as in Bardes et al. 2022, VICReg)."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vjax.layers import mix
from vjax.types import Batch, JointOutputs, Mean, Metrics, Objective

PROJECTIONS = ('add', 'separate', 'none')
REDUCTIONS = ('batch', 'dataset')
_EPS = 1e-4  # in the root of the variance


def informative(
  embedding: Float[Array, 'b d'],
  valid: Float[Array, ' b'],
  *,
  divisor: str = 'clips',
) -> tuple[Float[Array, ''], Float[Array, '']]:
  """Returns the variance loss, the mean over features of max(0, 1 - standard deviation), and the
  covariance loss, the sum of the squared covariances of different features over their number
  (equations 1 to 3).

  Args:
    embedding: of the clips of all datasets.
    valid: 1 = a clip that counts; at least two must.
    divisor: of variances: 'clips', n - 1; 'features', d - 1, as the paper prints.
  """
  # DIFFERS(paper): variances are divided by the number of clips less one, and the small constant
  # is inside the root, as in the released code: printed are d - 1, of which `divisor` knows, and a
  # constant outside, where the gradient at variance 0 is infinite.
  x = embedding.astype(jnp.promote_types(jnp.float32, embedding.dtype))
  weights = valid.astype(x.dtype)[:, None]
  count, width = weights.sum(), x.shape[-1]
  x = (x - (weights * x).sum(0) / jnp.maximum(count, 1)) * weights
  others = jnp.maximum(count - 1, 1)
  covariance = x.T @ x / others
  spread = jnp.diagonal(covariance) * (1 if divisor == 'clips' else others / (width - 1))
  variance_loss = jnp.maximum(0, 1 - jnp.sqrt(spread + _EPS)).mean()
  squares = jnp.square(covariance)
  return variance_loss, (squares.sum() - jnp.diagonal(squares).sum()) / width


def class_losses(
  logits: Mapping[str, Float[Array, 'b k']],
  projected: Mapping[str, Mapping[str, Float[Array, 'b k']]],
  targets: Mapping[str, Float[Array, 'b k']],
  masks: Mapping[str, Float[Array, ' b']],
  *,
  projection: str,
  projection_weight: float = 1.0,
) -> dict[str, Float[Array, ' b']]:
  """Returns {dataset: cross-entropy of each clip, times its mask}.

  Args:
    logits: of every clip for every dataset.
    projected: {target: {source: projected logits}}.
    targets: soft; their mass need not be 1.
    masks: 1 = the clip counts for the dataset.
    projection: 'add': projected logits are added to the dataset's own (equation 5); 'separate':
      the mean of their own cross-entropies is added to the loss (released code); 'none'.
    projection_weight: of either.
  """
  found = {}
  for name, scores in logits.items():
    other = list(projected.get(name, {}).values())
    if projection == 'add' and other:
      scores = scores + projection_weight * sum(other)
    losses = optax.softmax_cross_entropy(scores, targets[name])
    if projection == 'separate' and other:
      each = [optax.softmax_cross_entropy(x, targets[name]) for x in other]
      losses = losses + projection_weight * sum(each) / len(each)
    found[name] = losses * masks[name]
  return found


def total_of_classes(
  losses: Mapping[str, Float[Array, ' b']],
  counts: Mapping[str, Float[Array, '']],
  *,
  reduction: str,
  weights: Mapping[str, float] | None = None,
  log_variances: Float[Array, ' n'] | None = None,
) -> Float[Array, '']:
  """Returns the sum over datasets of their losses.

  Args:
    losses: of the clips, by dataset.
    counts: clips of each dataset; those mixed in count in part.
    reduction: 'batch': sums over clips are divided by the clips of all datasets, so that a dataset
      weighs by its share; 'dataset': by its own clips, or by 1 where only a part of one is there.
    weights: of the datasets, 1 where there is none.
    log_variances: learned s = log sigma^2 of each dataset: L / (2 sigma^2) + log sigma (equation
      6); datasets without clips in the batch do not count. None = weights alone.
  """
  all_clips = jnp.maximum(sum(counts.values()), 1)
  total = jnp.zeros(())
  for i, (name, values) in enumerate(losses.items()):
    value = values.sum() / (all_clips if reduction == 'batch' else jnp.maximum(counts[name], 1))
    value = value * (weights or {}).get(name, 1.0)
    if log_variances is not None:
      s = log_variances[i]
      value = jnp.where(counts[name] > 0, 0.5 * jnp.exp(-s) * value + 0.5 * s, 0)
    total = total + value
  return total


def loss(
  model: Any,
  params: Any,
  stats: Any,
  batch: Batch,
  rng: Any,
  *,
  train: bool,
  projection: str = 'add',
  projection_weight: float = 1.0,
  projection_l1: float = 0.0,
  variance_weight: float = 2.5,
  covariance_weight: float = 0.1,
  variance_divisor: str = 'clips',
  learned_weights: bool = False,
  reduction: str = 'batch',
  weights: tuple[float, ...] = (),
  label_smoothing: float = 0.0,
  smoothing_classes: int = 0,
  mixup: float = 0.0,
  cutmix: float = 0.0,
  mix_switch: float = 0.5,
  mix_group: int = 0,
  mix_datasets: bool = True,
) -> tuple[Float[Array, ''], tuple[Metrics, Any]]:
  """Returns the loss of a batch of clips of several datasets, and (metrics, stats).

  All statistics are over the whole batch of all devices. Label smoothing and mixing act in training
  only; the partner of a clip may be of another dataset, and each counts for its own dataset by its
  share. Metrics are loss, variance and covariance (losses without weight), and of each dataset
  NAME_loss and NAME_top1, by its own classifier alone, as it will be used.

  Args:
    model: backbone and a head of heads/joint.py.
    params: parameters.
    stats: other collections of variables.
    batch: label (B,), of the clip's own dataset; dataset (B,), its number in the order of
      config.datasets.
    rng: key of dropout.
    train: whether the network is in training mode.
    projection, projection_weight: see class_losses.
    projection_l1: weight of the mean absolute weight of the projections (released code: 1e-4,
      unused).
    variance_weight, covariance_weight: of the informative loss. Paper: 1 and 1; released code and
      here: 2.5 and 0.1. 0 and 0 = no informative loss.
    variance_divisor: 'clips' or 'features', see informative.
    learned_weights: weigh datasets by learned variances (paper); needs reduction='dataset'.
    reduction: 'batch' or 'dataset', see total_of_classes.
    weights: of the datasets in alphabetical order, () = 1 each.
    label_smoothing: share of a target that is spread evenly over all classes, the true one too.
    mixup, cutmix: a of the Beta(a, a) that shares of two clips are drawn from, 0 = off.
    smoothing_classes: classes that smoothing is shared by, 0 = those of each dataset (released
      code: 700 for all).
    mix_switch: probability of CutMix where MixUp is on as well.
    mix_group: number of clips that are mixed with the same weight, see layers/mix.py.
    mix_datasets: a partner of another dataset keeps its dataset and label; False = it is lost, as
      in the released code.
  """
  _check(projection, reduction, variance_divisor, learned=learned_weights)
  head = model.head
  if not isinstance(getattr(head, 'num_classes', None), Mapping):
    raise ValueError(
      f'config.head.name is {type(head).__module__.split(".")[-1]!r}; the objective joint needs '
      "the head 'joint'"
    )
  names = tuple(head.num_classes)
  if weights and len(weights) != len(names):
    raise ValueError(
      f'config.objective.weights has {len(weights)} numbers for {len(names)} datasets '
      f'({", ".join(names)}): give one for each'
    )
  video, valid = batch['video'], batch['valid'].astype(jnp.float32)
  number = batch.get('dataset', jnp.zeros(len(valid), jnp.int32))
  own = {name: valid * (number == i) for i, name in enumerate(names)}
  truth = {name: jax.nn.one_hot(batch['label'], k) for name, k in head.num_classes.items()}
  smoothing = label_smoothing if train else 0.0
  off = {name: smoothing / (smoothing_classes or k) for name, k in head.num_classes.items()}
  targets = {name: x * (1 - smoothing) + off[name] for name, x in truth.items()}
  masks = own
  if train and (mixup or cutmix):
    pixels, shares = mix.draw(
      batch['rng'], *video.shape[2:4], mixup=mixup, cutmix=cutmix, switch=mix_switch,
      group=mix_group,
    )  # fmt: skip
    video = mix.blend_video(video, pixels)
    targets, masks = mixed(targets, own, shares, None if mix_datasets else off)
  out, stats = _apply(model, params, stats, video, rng, train)
  losses = class_losses(
    out.logits, out.projected, targets, {n: jnp.sign(m) for n, m in masks.items()},
    projection=projection, projection_weight=projection_weight,
  )  # fmt: skip
  total = total_of_classes(
    losses,
    {name: mask.sum() for name, mask in masks.items()},
    reduction=reduction,
    weights=dict(zip(names, weights)) if weights else None,
    log_variances=out.log_variances if learned_weights else None,
  )
  variance, covariance = informative(out.embedding, valid, divisor=variance_divisor)
  total = total + variance_weight * variance + covariance_weight * covariance
  if projection_l1:
    kernels = jax.tree.leaves(params['head'].get('projections', {}))
    count = sum(x.size for x in kernels) or 1
    total = total + projection_l1 * sum(jnp.abs(x).sum() for x in kernels) / count
  metrics = {
    'loss': Mean.of(total), 'variance': Mean.of(variance), 'covariance': Mean.of(covariance)
  }  # fmt: skip
  for i, name in enumerate(names):
    hits = (out.logits[name].argmax(-1) == batch['label']).astype(jnp.float32)
    metrics[f'{name}_top1'] = Mean.of(hits, own[name])
    metrics[f'{name}_loss'] = Mean(losses[name].sum(), masks[name].sum())
    if learned_weights:
      metrics[f'{name}_sigma'] = Mean.of(jnp.exp(out.log_variances[i] / 2))
  return total, (metrics, stats)


def _check(projection: str, reduction: str, divisor: str, *, learned: bool) -> None:
  for key, value, known in (
    ('projection', projection, PROJECTIONS),
    ('reduction', reduction, REDUCTIONS),
    ('variance_divisor', divisor, ('clips', 'features')),
  ):
    if value not in known:
      raise ValueError(f'config.objective.{key} is {value!r}; it must be one of {", ".join(known)}')
  if learned and reduction != 'dataset':
    raise ValueError(
      f'config.objective.learned_weights is True and reduction is {reduction!r}: variances are '
      "learned of the mean loss of each dataset; set reduction='dataset'"
    )


def mixed(
  targets: Mapping[str, Float[Array, 'b k']],
  own: Mapping[str, Float[Array, ' b']],
  shares: Float[Array, ' g'],
  lost: Mapping[str, float] | None,
) -> tuple[dict[str, Float[Array, 'b k']], dict[str, Float[Array, ' b']]]:
  """Returns targets, and how much each clip counts for each dataset, of clips that are mixed with
  their partners.

  Args:
    targets: soft targets of each clip, by dataset.
    own: 1 = the clip is of the dataset.
    shares: of a clip's own pixels, one a group.
    lost: None: both clips count, each for its own dataset, by its share. Else, as in the released
      code, a clip counts for its own dataset alone; where the partner is of another one, each class
      has this as its target.
  """
  found, masks = {}, {}
  for name, target in targets.items():
    mine = own[name][:, None]
    if lost is None:
      found[name], masks[name] = mix.blend(mine * target, shares), mix.blend(own[name], shares)
    else:
      found[name] = mix.blend(mine * target + (1 - mine) * lost[name], shares)
      masks[name] = own[name]
  return found, masks


def _apply(model, params, stats, video, rng, train: bool) -> tuple[JointOutputs, Any]:
  variables = {'params': params, **stats}
  if not train:
    return model.apply(variables, video, train=False), stats
  return model.apply(variables, video, train=True, mutable=list(stats), rngs={'dropout': rng})


OBJECTIVE = Objective(
  loss,
  needs_labels=True,
  ranges={
    'projection_weight': (0, math.inf),
    'projection_l1': (0, math.inf),
    'variance_weight': (0, math.inf),
    'covariance_weight': (0, math.inf),
    'weights': (0, math.inf),
    'label_smoothing': (0, 1),
    'smoothing_classes': (0, math.inf),
    'mixup': (0, math.inf),
    'cutmix': (0, math.inf),
    'mix_switch': (0, 1),
    'mix_group': (0, math.inf),
  },
)
