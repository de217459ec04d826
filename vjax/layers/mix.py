"""MixUp and CutMix on the device, and the soft targets that they and label smoothing need."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

_STREAM = 0x6D6978  # keeps these draws apart from others of the same clip's key


def soft_targets(label: Int[Array, ' b'], classes: int, smoothing: float) -> Float[Array, 'b k']:
  """Returns targets (B, K): smoothing / K everywhere, plus 1 - smoothing at the label. A label
  outside [0, K) adds nothing. (Szegedy et al. 2016, sec. 7)"""
  return jax.nn.one_hot(label, classes) * (1 - smoothing) + smoothing / classes


def mix(
  video: Float[Array, 'b t h w c'],
  targets: PyTree[Float[Array, 'b ...']],
  keys: Key[Array, ' b'],
  *,
  mixup: float,
  cutmix: float,
  switch: float,
  group: int,
) -> tuple[Float[Array, 'b t h w c'], PyTree[Float[Array, 'b ...']]]:
  """Returns clips and targets, each blended with those of its partner: `draw`, then `blend`.
  Without MixUp and CutMix, both stay as they are."""
  if not mixup and not cutmix:
    return video, targets
  pixels, weights = draw(
    keys, *video.shape[2:4], mixup=mixup, cutmix=cutmix, switch=switch, group=group
  )
  return blend_video(video, pixels), jax.tree.map(lambda x: blend(x, weights), targets)


def draw(
  keys: Key[Array, ' b'],
  height: int,
  width: int,
  *,
  mixup: float,
  cutmix: float,
  switch: float,
  group: int,
) -> tuple[Float[Array, 'g h w'], Float[Array, ' g']]:
  """Returns the weight of a clip's own pixels (G, H, W) and of its own targets (G,), for every
  group of clips. The rest belongs to its partner, the clip at the mirrored place in the group.

  Each group has one weight and one box. The box, the same on all frames, is clipped at the border
  and its weight recomputed. Draws come from the key of a group's first clip, so they do not depend
  on devices, nor on gradient accumulation as long as groups stay whole.

  (Zhang et al. 2018; Yun et al. 2019; groups as in the code of Feichtenhofer et al. 2022)

  Args:
    keys: (B,), one a clip.
    height, width: of the frames, in pixels.
    mixup, cutmix: a of the Beta(a, a) that a weight is drawn from; 0 = off.
    switch: probability of CutMix where both are on.
    group: clips in a group, 0 = the whole batch.

  Raises:
    ValueError: where groups do not divide the batch.
  """
  size = group or len(keys)
  if len(keys) % size:
    raise ValueError(
      f'mix_group is {group}, which does not divide the {len(keys)} clips given: choose a divisor'
    )
  return jax.vmap(lambda key: _own_weight(key, height, width, mixup, cutmix, switch))(keys[::size])


def blend(x: Float[Array, 'b ...'], weights: Float[Array, ' g']) -> Float[Array, 'b ...']:
  """Returns weight * x + (1 - weight) * (x of the partner), for targets (B, ...) and one weight a
  group (G,)."""
  return _blend(x, weights.reshape(-1, *[1] * x.ndim))


def blend_video(
  video: Float[Array, 'b t h w c'], pixels: Float[Array, 'g h w']
) -> Float[Array, 'b t h w c']:
  """Blends like `blend`, with one weight a pixel (G, H, W)."""
  return _blend(video, pixels[:, None, None, :, :, None])


def _blend(x, weights):
  groups = x.reshape(len(weights), -1, *x.shape[1:])
  weights = weights.astype(x.dtype)
  return (weights * groups + (1 - weights) * groups[:, ::-1]).reshape(x.shape)


def _own_weight(key, height: int, width: int, mixup: float, cutmix: float, switch: float):
  """Returns the weight of a clip's own pixels (H, W), and its mean, which is the weight of its own
  targets."""
  choose, blend, place = jax.random.split(jax.random.fold_in(key, _STREAM), 3)
  probability = switch if mixup and cutmix else float(cutmix > 0)
  cut = jax.random.uniform(choose) < probability
  a = jnp.where(cut, cutmix or mixup, mixup or cutmix)
  share = jax.random.beta(blend, a, a)
  outside = _outside_box(place, share, height, width)
  return jnp.where(cut, outside, share), jnp.where(cut, outside.mean(), share)


def _outside_box(key, share, height: int, width: int):
  """Returns (H, W): 0 in a box of about 1 - share of the area around a uniform center, clipped at
  the border; 1 elsewhere."""
  y, x = jax.random.randint(key, (2,), 0, jnp.array([height, width]))

  def inside(center, size):
    half = jnp.floor(size * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
    place = jnp.arange(size)
    return (place >= center - half) & (place < center + half)

  return 1.0 - (inside(y, height)[:, None] & inside(x, width)[None, :]).astype(jnp.float32)
