"""Durations, learning-rate schedules and optimizers.

Arguments are plain values. Regular expressions choose parameters by their whole names
('backbone/block0/.*'). Every argument that a recipe must state is required, and an argument without
use is an error. Errors name the key of config.optim that gives an argument.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vjax import tree

_UNITS = ('steps', 'epochs', 'clips')
_CURVES = {
  'cosine': ('end_lr',),
  'polynomial': ('end_lr', 'power'),
  'step': ('boundaries', 'factor'),
  'halving': ('halvings',),
  'constant': (),
}
_RULES = {
  'sgd': ('momentum', 'nesterov'),
  'adamw': ('b1', 'b2', 'eps'),
  'lamb': ('b1', 'b2', 'eps'),
}
_DECAYED = ('kernels', 'kernels_and_scales', 'all')
# Keys of the config that give an argument of another name.
_KEYS = {'boundaries': 'boundary_steps (or boundary_epochs, boundary_clips)'}


def to_steps(prefix: str, settings: Mapping[str, Any], *, batch: int, clips: int) -> int:
  """Returns the duration in whole steps; `settings` gives it as <prefix>_steps, <prefix>_epochs or
  <prefix>_clips.

  batch and clips: examples a step and an epoch, in the same unit. Where one decoded video gives
  several clips, papers that count "effective" epochs count clips: then both are clips. Rounds to
  the nearest step, once for the whole duration. Raises ValueError unless exactly one of the three
  is given, and is finite and not negative.
  """
  names = [f'{prefix}_{unit}' for unit in _UNITS]
  given = [name for name in names if settings.get(name) is not None]
  if len(given) != 1:
    raise ValueError(
      f'config.optim: the {prefix} duration is given by {", ".join(given) or "nothing"}: give '
      f'exactly one of {", ".join(names)}, and leave the others open '
      f'(--config.optim.{(given or names)[0]}=None)'
    )
  value = settings[given[0]]
  if not 0 <= value < math.inf:
    raise ValueError(f'config.optim.{given[0]} is {value}; it must be a finite number, 0 or more')
  if batch < 1 or clips < 1:
    raise ValueError(
      f'a step has {batch} clips (config.data.batch_size) and an epoch {clips}; both must be 1 or '
      f'more to count config.optim.{given[0]}'
    )
  examples_per_unit = {'steps': batch, 'epochs': clips, 'clips': 1}[
    given[0].removeprefix(f'{prefix}_')
  ]
  return round(value * examples_per_unit / batch)


def scaled_rate(rate: float, per_batch: int, batch: int) -> float:
  """Returns the learning rate for `batch` examples a step, proportional to a recipe's `rate` for
  `per_batch` examples.

  (Goyal et al. 2017, sec. 2.1)
  """
  if per_batch < 1 or batch < 1:
    raise ValueError(
      f'config.optim.base_batch_size is {per_batch} and config.data.batch_size is {batch}; both '
      'must be 1 or more'
    )
  return rate * batch / per_batch


def schedule(
  *,
  kind: str,
  peak: float,
  total_steps: int,
  warmup_steps: int,
  warmup_start_lr: float = 0.0,
  end_lr: float | None = None,
  power: float | None = None,
  boundaries: Sequence[int] | None = None,
  factor: float | None = None,
  halvings: int | None = None,
  curve_from_start: bool = False,
  warmup_factor: float | None = None,
  epoch_steps: float | None = None,
) -> optax.Schedule:
  """Returns the learning-rate schedule, a function step -> learning rate: linear from
  warmup_start_lr to the curve's value at warmup_steps, then the curve.

  Curves (`kind`):
    cosine: end_lr + (peak - end_lr) * (1 + cos(pi p)) / 2, with p = (step - warmup) / (total -
      warmup).  (Feichtenhofer et al. 2022, app. A)
    polynomial: end_lr + (peak - end_lr) * (1 - p)^power.
    step: peak, times `factor` from every step in `boundaries` on; one beyond the end has no effect.
    halving: halved `halvings` times at equal intervals of the whole training.  (Ghadiyaram et al.
      2019, sec. 3)
    constant: peak.

  curve_from_start: p = step / total, so that warm-up ends on the curve, below its peak, as in the
  SlowFast code. Steps and halvings always count from step 0, warm-up included.

  warmup_factor: warm-up multiplies the curve by a factor that rises linearly from this to 1,
  instead of rising from warmup_start_lr. (MMCV's.)

  epoch_steps: steps of an epoch; the learning rate is that of the first step of the epoch, as
  several released recipes have it. None: it changes at every step. The factor of warmup_factor
  changes at every step in either case.
  """
  options = {
    'end_lr': end_lr,
    'power': power,
    'boundaries': boundaries,
    'factor': factor,
    'halvings': halvings,
  }
  _check_options('schedule', kind, options, _CURVES)
  if not 0 <= warmup_steps <= total_steps or total_steps < 1:
    raise ValueError(
      f'config.optim: the warm-up has {warmup_steps} steps and the whole training {total_steps}; '
      'the training needs 1 step or more, and the warm-up no more than that: shorten the warm-up '
      '(config.optim.warmup_steps, warmup_epochs or warmup_clips), or lengthen the training '
      '(total_steps, total_epochs or total_clips)'
    )
  if halvings is not None:
    boundaries, factor = (
      [round(k * total_steps / (halvings + 1)) for k in range(1, halvings + 1)],
      0.5,
    )
  if boundaries is not None:
    drops = np.sort(np.asarray(boundaries, np.int32))
    stages = np.asarray(peak * factor ** np.arange(len(drops) + 1), np.float32)
  if warmup_factor is not None and warmup_start_lr:
    raise ValueError(
      f'config.optim.warmup_factor is {warmup_factor} and warmup_start_lr is {warmup_start_lr}: '
      'set warmup_start_lr to 0, or leave warmup_factor open (=None)'
    )
  # optax's schedules do not fit: `join_schedules` counts from the first step of each part, but
  # steps and halvings count from that of the run; its cosine states the end as a share of the peak.
  start = 0 if curve_from_start else warmup_steps

  def curve(step):
    if kind == 'constant':
      return jnp.full(jnp.shape(step), peak, jnp.float32)
    if boundaries is not None:
      return jnp.asarray(stages)[jnp.searchsorted(drops, step, side='right')]
    p = jnp.clip((step - start) / max(total_steps - start, 1), 0.0, 1.0)
    shape = (1 + jnp.cos(jnp.pi * p)) / 2 if kind == 'cosine' else (1 - p) ** power
    return end_lr + (peak - end_lr) * shape

  # First steps of the epochs, as whole numbers: float32 would miss some.
  count = math.ceil(total_steps / epoch_steps) + 1 if epoch_steps else 0
  epochs = np.ceil(np.arange(count) * (epoch_steps or 1) - 1e-6).astype(np.int32)

  def rate(step):
    step = jnp.asarray(step)
    shown = step
    if epoch_steps:
      shown = jnp.asarray(epochs)[jnp.searchsorted(epochs, step, side='right') - 1]
    done = jnp.minimum(step / max(warmup_steps, 1), 1.0) if warmup_steps else 1.0
    if warmup_factor is not None:
      return curve(shown) * (1 - (1 - done) * (1 - warmup_factor))
    warm = warmup_start_lr + (curve(warmup_steps) - warmup_start_lr) * shown / max(warmup_steps, 1)
    return jnp.where(shown < warmup_steps, warm, curve(shown))

  return rate


def layer_multipliers(
  params: Any, layer_of: Callable[[str], int], depth: int, decay: float
) -> dict[str, float]:
  """Returns {parameter name: decay^(depth + 1 - layer)} for layer-wise learning rates.  (Clark et
  al. 2020, sec. 3.2)

  layer_of(name): 0 = before the first block, i + 1 = block i, depth + 1 = final norm and head.
  """
  multipliers = {}
  for name in tree.flatten(params):
    layer = layer_of(name)
    if not 0 <= layer <= depth + 1:
      raise ValueError(
        f'layer_of({name!r}) is {layer}; a network of depth {depth} has layers 0 to {depth + 1}'
      )
    multipliers[name] = decay ** (depth + 1 - layer)
  return multipliers


def frozen(params: Any, patterns: Sequence[str]) -> dict[str, Any]:
  """Returns a tree of bool like `params`: True where a pattern matches, since those parameters need
  no gradient.

  Raises ValueError for a pattern that matches no parameter.
  """
  check_patterns('freeze', patterns, params)
  return tree.map_named(lambda name, _: tree.matches(patterns, name), params)


def make(
  params: Any,
  *,
  name: str,
  schedule: optax.Schedule,
  weight_decay: float,
  decayed: str = 'kernels',
  decay_skip: Sequence[str] = (),
  b1: float | None = None,
  b2: float | None = None,
  eps: float | None = None,
  momentum: float | None = None,
  nesterov: bool | None = None,
  clip_norm: float = 0.0,
  layer_decay: Mapping[str, Any] | None = None,
  freeze: Sequence[str] = (),
) -> optax.GradientTransformation:
  """Returns the optimizer of `params`.

  Args:
    params: arrays or their shapes.
    name: 'sgd' (momentum, nesterov): L2 decay joins the gradient, before momentum. 'adamw' or
      'lamb' (b1, b2, eps): decoupled decay, multiplied by the learning rate. lamb's trust ratio,
      too, acts only on decayed parameters.
    schedule: learning rate of a step.
    weight_decay: weight of the decay.
    decayed: 'kernels' = more than one axis and not a bias; 'kernels_and_scales' = all but biases
      (the Caffe2 code of Ghadiyaram et al. 2019); 'all'.
    decay_skip: patterns of parameters without decay.
    b1, b2, eps: of adamw and lamb.
    momentum, nesterov: of sgd.
    clip_norm: largest global L2 norm of the trainable gradients, clipped before anything else; 0 =
      no clipping.
    layer_decay: a multiplier for every parameter name, on the whole update, decay included (see
      layer_multipliers).
    freeze: patterns of parameters that are not trained and have no optimizer state.

  Raises:
    ValueError: for patterns that match nothing and for arguments that `name` needs or cannot use.
  """
  options = {'momentum': momentum, 'nesterov': nesterov, 'b1': b1, 'b2': b2, 'eps': eps}
  _check_options('name', name, options, _RULES)
  decay_mask = decay_mask_of(params, decayed, decay_skip)
  decay = optax.add_decayed_weights(weight_decay, decay_mask)
  steps = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
  if name == 'sgd':
    steps += [decay, optax.trace(momentum, nesterov)]
  else:
    steps += [optax.scale_by_adam(b1, b2, eps), decay]
  if name == 'lamb':
    steps.append(optax.masked(optax.scale_by_trust_ratio(), decay_mask))
  update = optax.chain(*steps, optax.scale_by_learning_rate(schedule))
  if freeze:
    is_frozen = frozen(params, freeze)
    if all(jax.tree.leaves(is_frozen)):
      raise ValueError(
        f'config.optim.freeze={tuple(freeze)} matches every parameter: nothing would be trained; '
        'leave out the pattern of those that are trained'
      )
    labels = jax.tree.map(lambda still: 'frozen' if still else 'trained', is_frozen)
    update = optax.partition({'trained': update, 'frozen': optax.set_to_zero()}, labels)
  return (
    optax.chain(update, _scale_by_name(params, layer_decay)) if layer_decay is not None else update
  )


def decay_mask_of(params: Any, decayed: str, decay_skip: Sequence[str]) -> dict[str, Any]:
  """Returns a tree of bool like `params`, True where weight decay acts; see make. A bias is a
  parameter named 'bias'."""
  if decayed not in _DECAYED:
    raise ValueError(
      f'config.optim.decayed is {decayed!r}; it must be one of {", ".join(_DECAYED)}'
    )
  check_patterns('decay_skip', decay_skip, params)

  def acts(name, x):
    bias = name.rsplit('/', 1)[-1] == 'bias'  # attention's has two axes
    chosen = {
      'kernels': len(x.shape) > 1 and not bias,
      'kernels_and_scales': not bias,
      'all': True,
    }[decayed]
    return chosen and not tree.matches(decay_skip, name)

  return tree.map_named(acts, params)


def check_patterns(argument: str, patterns: Sequence[str], params: Any) -> None:
  """Raises ValueError, with the closest names, for a pattern that matches no whole name of a
  parameter."""
  names = list(tree.flatten(params))
  for pattern in patterns:
    try:
      re.compile(pattern)
    except re.error as error:
      raise ValueError(
        f'config.optim.{argument} has {pattern!r}, no regular expression: {error}'
      ) from error
    if not any(tree.matches([pattern], name) for name in names):
      close = difflib.get_close_matches(pattern, names, n=5, cutoff=0.0)
      raise ValueError(
        f'config.optim.{argument} has {pattern!r}, which matches none of {len(names)} parameters '
        f'(whole names are matched); close names: {", ".join(close)}'
      )


def ema_update(ema: Any, params: Any, decay: float) -> Any:
  """Returns decay * ema + (1 - decay) * params."""
  return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, ema, params)


def _scale_by_name(params: Any, multipliers: Mapping[str, Any]) -> optax.GradientTransformation:
  given, names = tree.flatten(multipliers), tree.flatten(params).keys()
  lacking, unknown = sorted(names - given.keys()), sorted(given.keys() - names)
  if lacking or unknown:
    raise ValueError(
      f'layer_decay lacks {lacking[:5]} and has unknown {unknown[:5]}: give one multiplier for '
      'every parameter'
    )
  scales = tree.unflatten(given)
  return optax.stateless(lambda updates, _: jax.tree.map(lambda u, m: u * m, updates, scales))


def _check_options(
  key: str, name: str, options: dict[str, Any], table: dict[str, tuple[str, ...]]
) -> None:
  """Raises ValueError where config.optim.`key` is none of the table's names, or where options that
  it needs are None and those that it cannot use are not."""
  if name not in table:
    raise ValueError(f'config.optim.{key} is {name!r}; it must be one of {", ".join(table)}')
  given = {key for key, value in options.items() if value is not None}
  missing, unused = sorted(set(table[name]) - given), sorted(given - set(table[name]))
  if missing or unused:
    keys = lambda names: ', '.join(str(_KEYS.get(name, name)) for name in names)
    parts = [f'needs {keys(missing)}'] if missing else []
    parts += [f'cannot use {keys(unused)}, which must stay open (=None)'] if unused else []
    raise ValueError(
      f'config.optim.{key}={name!r} {" and ".join(parts)}: set them as config.optim.KEY'
    )
