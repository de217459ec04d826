"""Masked autoencoding: predict the pixels of removed patches.  (Feichtenhofer et al. 2022, sec. 3
and appendix A.)"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.layers import mask as masks
from vjax.layers.position import patchify, unpatchify
from vjax.types import Batch, Mask, Mean, Metrics, Objective, VideoModel

VARIANCE_EPSILON = 1e-6
RATIO = 0.9  # share of removed tokens


def loss(
  model: VideoModel,
  params: Any,
  stats: Any,
  batch: Batch,
  rng: Array,
  *,
  train: bool,
  ratio: float = RATIO,
  kind: str = 'random',
  normalize: bool = True,
  target: str = 'stride',
) -> tuple[Array, tuple[Metrics, Any]]:
  """Returns the loss and ({'loss'}, stats): squared error per value over the removed tokens, mean
  over the batch's real clips.

  In training each clip's mask is drawn from batch['rng']; at evaluation from its video_id, so that
  the loss of a checkpoint is a constant.

  Args:
    model: backbone and head.
    params: parameters.
    stats: other collections of variables.
    batch: normalized clips.
    rng: key of dropout.
    train: whether the network is in training mode.
    ratio, kind: of the mask, see layers/mask.py.
    normalize: standardize the targets per token.
    target: rule for the predicted frames, see `target_frames`; the head sets their number.

  Raises:
    ValueError: when the ratio removes no token, or the backbone has no tokens.
  """
  video = batch['video']
  grid = model.backbone.grid(video.shape[1:4])
  if grid is None:
    raise ValueError(
      f'{type(model.backbone).__module__} has no tokens to hide: masked autoencoding needs a vit'
    )
  keys = batch['rng'] if train else _keys(batch['video_id'])
  mask = masks.make(keys, grid, ratio, kind)
  if mask.keep.shape[1] == mask.removed.shape[1]:
    raise ValueError(
      f'mask ratio {ratio} removes none of the {mask.keep.shape[1]} tokens: nothing is left to '
      'predict'
    )
  predictions, new = model.apply(
    {'params': params, **stats},
    video,
    train=train,
    token_mask=mask,
    mutable=list(stats) if train else [],
    rngs={'dropout': rng} if train else None,
  )
  wanted, _, _ = targets(model, video, predictions.shape[-1], normalize, target)
  error = jnp.mean(jnp.square(predictions - wanted), axis=-1)  # (B, N)
  clip_loss = jnp.sum(error * mask.removed, axis=1) / jnp.sum(mask.removed, axis=1)
  real = batch['valid'].astype(clip_loss.dtype)
  # Every clip removes as many tokens, so the mean over clips is the mean over removed tokens.
  mean_loss = jnp.sum(clip_loss * real) / jnp.maximum(jnp.sum(real), 1)
  return mean_loss, (
    {'loss': Mean.of(clip_loss, real)},
    {**stats, **new} if train else stats,
  )


def _keys(video_id: Array) -> Array:
  # The id of padding, -1, becomes an ordinary unsigned number.
  return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(video_id.astype(jnp.uint32))


def target_frames(frames: int, predicted: int, rule: str) -> list[int]:
  """Returns the indices, among `frames`, of the `predicted` target frames.

  'stride': every (frames / predicted)-th from 0, as PySlowFast and the released weights (0, 2, ..
  14 of 16).
  'linspace': from the first to the last, rounded down, as the authors' stand-alone code (0, 2, 4,
  .. 12, 15).
  """
  if rule == 'stride':
    return list(range(0, frames, frames // predicted))[:predicted]
  if rule == 'linspace':
    return [i * (frames - 1) // max(predicted - 1, 1) for i in range(predicted)]
  raise ValueError(f"target is {rule!r}; it must be 'stride' or 'linspace'")


def targets(
  model: VideoModel, video: Float[Array, 'b t h w c'], values: int, normalize: bool, rule: str
) -> tuple[Array, Array | float, Array | float]:
  """Returns (targets (B, N, values), mean, deviation) for each token of `video`.

  targets * deviation + mean are pixels again. Statistics are per token, over its predicted values
  of all channels, with the unbiased variance. Without `normalize`, mean and deviation are 0 and 1.
  """
  patch = _target_patch(model, video, values)
  frames = target_frames(video.shape[1], video.shape[1] // model.backbone.patch[0] * patch[0], rule)
  pixels = patchify(jnp.take(video, jnp.array(frames), axis=1), patch)
  pixels = pixels.astype(jnp.promote_types(pixels.dtype, jnp.float32))
  if not normalize:
    return pixels, 0.0, 1.0
  mean = jnp.mean(pixels, axis=-1, keepdims=True)
  deviation = jnp.sqrt(jnp.var(pixels, axis=-1, keepdims=True, ddof=1) + VARIANCE_EPSILON)
  return (pixels - mean) / deviation, mean, deviation


def _target_patch(model: VideoModel, video: Array, values: int) -> tuple[int, int, int]:
  """Returns (frames per slot, rows, columns) of a prediction of `values` values per token."""
  _, rows, columns = model.backbone.patch
  per_frame = rows * columns * video.shape[-1]
  if values % per_frame:
    raise ValueError(
      f'the head predicts {values} values a token, no multiple of '
      f'{rows}x{columns}x{video.shape[-1]}'
    )
  return values // per_frame, rows, columns


def reconstruct(
  model: VideoModel,
  params: Any,
  video: Float[Array, 'b t h w c'],
  mask: Mask | None = None,
  *,
  stats: Any = None,
  ratio: float = RATIO,
  kind: str = 'random',
  normalize: bool = True,
  target: str = 'stride',
) -> tuple[Array, Array, Array]:
  """Returns (original, masked, reconstruction), each (B, T', H', W', C): the predicted frames of
  normalized clips `video`.

  masked: removed patches are 0, the mean color. reconstruction: predictions where removed, the
  original elsewhere. Colors stay normalized. A model of normalized targets does not predict a
  patch's mean and deviation: these are taken from the original ("oracle statistics": captions
  should say so). Without `mask`, a mask of `ratio` and `kind` is drawn.
  """
  if mask is None:
    mask = masks.make(
      _keys(jnp.arange(len(video))), model.backbone.grid(video.shape[1:4]), ratio, kind
    )
  predictions = model.apply(
    {'params': params, **(stats or {})}, video, train=False, token_mask=mask
  )
  wanted, mean, deviation = targets(model, video, predictions.shape[-1], normalize, target)
  pixels = wanted * deviation + mean
  removed = mask.removed[..., None] > 0
  rows = (
    pixels,
    jnp.where(removed, 0, pixels),
    jnp.where(removed, predictions * deviation + mean, pixels),
  )
  grid, patch = (
    model.backbone.grid(video.shape[1:4]),
    _target_patch(model, video, predictions.shape[-1]),
  )
  original, masked, reconstruction = (unpatchify(row, grid, patch) for row in rows)
  return original, masked, reconstruction


OBJECTIVE = Objective(loss, reconstruct=reconstruct, ranges={'ratio': (0, 1)})
