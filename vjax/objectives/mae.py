"""Masked autoencoding: predict removed patches, their pixels or what another file of vjax/targets
says.  (Feichtenhofer et al. 2022, sec. 3 and appendix A.)"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax import registry
from vjax.layers import mask as masks
from vjax.layers.position import unpatchify
from vjax.targets import pixels
from vjax.types import Batch, Mask, Mean, Metrics, Objective, VideoModel

RATIO = 0.9  # share of removed tokens
PIXELS = 'pixels'


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
  predict: str = PIXELS,
  normalize: bool = True,
  target: str = 'stride',
  codebook: str = '',
) -> tuple[Array, tuple[Metrics, Any]]:
  """Returns the loss and ({'loss'}, stats): the error of the removed tokens, of pixels squared and
  per value, mean over the batch's real clips.

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
    predict: file of vjax/targets: 'pixels'; 'hog', histograms of oriented gradients; 'tokens',
      codes of a codebook.
    normalize: standardize pixels per token, those of which tokens are made, too.
    target: rule for the predicted frames, 'stride' (0, 2, .. 14 of 16) or 'linspace' (0, 2, .. 12,
      15); of pixels the head sets their number.
    codebook: file of the vectors of predict='tokens', see vjax/targets/tokens.py.

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
  error = registry.find('targets', predict).TARGET.error(
    predictions,
    video,
    model.backbone.patch,
    normalize=normalize,
    target=target,
    codebook=codebook,
  )  # (B, N)
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


target_frames = pixels.frames


def targets(
  model: VideoModel, video: Float[Array, 'b t h w c'], values: int, normalize: bool, rule: str
) -> tuple[Array, Array | float, Array | float]:
  """Returns (targets (B, N, values), mean, deviation) of pixels for each token of `video`, see
  `pixels.of_tokens`."""
  patch = model.backbone.patch
  each = pixels.frames_each(values, patch, video.shape[-1])
  return pixels.of_tokens(video, patch, each, normalize, rule)


def head_settings(
  patch: tuple[int, int, int], *, predict: str = PIXELS, codebook: str = '', **_: Any
) -> dict[str, Any]:
  """Returns what the head is told: the values that it predicts of a token, None = pixels of its
  pred_frames."""
  return {'values': registry.find('targets', predict).TARGET.values(patch, codebook=codebook)}


def can_reconstruct(*, predict: str = PIXELS, **_: Any) -> bool:
  """Returns whether predictions are pixels."""
  return registry.find('targets', predict).TARGET.pixels


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
  **_: Any,
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
  colors = wanted * deviation + mean
  removed = mask.removed[..., None] > 0
  rows = (
    colors,
    jnp.where(removed, 0, colors),
    jnp.where(removed, predictions * deviation + mean, colors),
  )
  grid, patch = model.backbone.grid(video.shape[1:4]), model.backbone.patch
  each = pixels.frames_each(predictions.shape[-1], patch, video.shape[-1])
  original, masked, reconstruction = (unpatchify(row, grid, (each, *patch[1:])) for row in rows)
  return original, masked, reconstruction


OBJECTIVE = Objective(
  loss,
  reconstruct=reconstruct,
  can_reconstruct=can_reconstruct,
  head_settings=head_settings,
  ranges={'ratio': (0, 1)},
)
