"""The nouns every room shares. Axes: B batch, V views, T H W time height width, C channels, N
tokens, D width, K classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NotRequired, Protocol, TypedDict

import flax.linen as nn
import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

Metrics = dict[str, 'Mean']


class Batch(TypedDict):
  """Clips of a step or of an evaluation. B counts clips, repeats of a video
  adjacent or config.clip.repeat_distance places apart.

  Attributes:
    video: uint8 (B, T, H, W, 3) in training, (B, V, T, H, W, 3) in evaluations; objectives are
      given normalized float32 (B, T, H, W, 3).
    label: int32 (B,), -1 = hidden; or float32 (B, K), multi-hot.
    dataset: int32 (B,), number of the dataset in config.datasets, where there are several.
    valid: (B,), 1 = real, 0 = a row that only fills the batch.
    video_id: int32 (B,), record number; -1 in rows that are not valid.
    epoch: int32 (B,), in training.
    window: int32 (B, 4), (y, x, height, width) of the crop, where the host sends whole frames.
    mirror: bool (B,), with `window`.
    color: float32 (B, 3), brightness, contrast and saturation, with `window`.
    frame_size: int32 (B, 2), height and width of the real pixels of the frames, with `ops`.
    ops: int32 (B, N), RandAugment's operations (config.RAND_AUGMENT), with `window`.
    values: float32 (B, N), arguments of `ops`.
    erased: int32 (B, 4), (y, x, height, width) of the erased box in the crop, with `window`.
    noise: int32 (B, 2), seed of the erased pixels.
    rng: (B,) one random key a clip, added by the training step.
  """

  video: Any
  label: Any
  valid: Any
  video_id: Any
  dataset: NotRequired[Any]
  epoch: NotRequired[Any]
  window: NotRequired[Any]
  mirror: NotRequired[Any]
  color: NotRequired[Any]
  frame_size: NotRequired[Any]
  ops: NotRequired[Any]
  values: NotRequired[Any]
  erased: NotRequired[Any]
  noise: NotRequired[Any]
  rng: NotRequired[Any]


@dataclass(frozen=True)
class Objective:
  """Training objective: what a file of vjax/objectives exports as OBJECTIVE.

  Attributes:
    loss: function (model, params, stats, batch, rng, *, train, **settings) -> (loss, (metrics,
      stats)). Its keyword arguments are the keys of config.objective.
    needs_labels: every clip needs a label.
    at: function (progress, **settings) -> settings that change with the progress of the training,
      0 to 1; None = none change.
    reconstruct: function (model, params, video, *, stats, **settings) -> (original, masked,
      reconstruction), each (B, T, H, W, C); None = nothing is reconstructed.
    can_reconstruct: function (**settings) -> whether `reconstruct` works with these settings; None
      = with all.
    head_settings: function (patch, **settings) -> settings that the head may ask for; None = none.
    ranges: {setting: (least, most)} of numbers, ends included.
    settings: of config.objective.
  """

  loss: Callable
  needs_labels: bool = False
  at: Callable[..., dict[str, Any]] | None = None
  reconstruct: Callable | None = None
  can_reconstruct: Callable[..., bool] | None = None
  head_settings: Callable[..., dict[str, Any]] | None = None
  ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
  settings: Mapping[str, Any] = field(default_factory=dict)

  def __call__(self, model, params, stats, batch, rng, *, train: bool, **changes: Any):
    """Returns the loss with `settings`, of which `changes` replace some."""
    settings = {**self.settings, **changes}
    return self.loss(model, params, stats, batch, rng, train=train, **settings)

  def changes(self, progress: float) -> dict[str, Any]:
    """Returns the settings that differ at `progress` through the training, 0 to 1."""
    return self.at(progress, **self.settings) if self.at else {}

  def setting(self, name: str) -> Any:
    """Returns a setting, or its default."""
    default = inspect.signature(self.loss).parameters[name].default
    return self.settings.get(name, default)


@dataclass(frozen=True)
class Target:
  """Target of a masked autoencoder, which it predicts of a removed patch: what a file of
  vjax/targets exports as TARGET.

  Attributes:
    error: function (predictions (B, N, V), normalized clips, patch, *, normalize, target, codebook)
      -> error of each token (B, N). Settings of config.objective that it does not need go to **_.
    values: function (patch, *, codebook) -> V; None = as many as the head's pred_frames make.
    pixels: whether predictions are pixels, which can be shown.
  """

  error: Callable[..., Any]
  values: Callable[..., int | None]
  pixels: bool = False


@dataclass(frozen=True)
class Evaluation:
  """Way to evaluate a model: what a file of vjax/evals exports as EVALUATION.

  Attributes:
    run: function (what `needs` names, *, batches, **settings) -> Report. An argument `X_batches`
      gets the batches of the split that the config's key `X_split` names. Its other keyword
      arguments are keys of the config's entry, or facts: num_classes, multi_label, seed, mean, std.
    needs: method of InferenceModel that `run` is given: 'logits', 'projected_logits', 'features',
      'metrics' or 'reconstructions'.
    needs_labels: clips without labels cannot be evaluated.
    needs_classes: logits must be of the classes that the evaluated dataset has.
    check: function (settings) that raises ValueError for wrong ones before the training, or None.
    metrics: names of all numbers that it may report of clips with one label, () = they depend on
      the objective.
    multi_label_metrics: the same of clips with several labels.
  """

  run: Callable[..., Report]
  needs: str
  needs_labels: bool = False
  needs_classes: bool = False
  check: Callable[[Mapping[str, Any]], None] | None = None
  metrics: tuple[str, ...] = ()
  multi_label_metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Predictions:
  """Logits of videos, for predictions.npz.

  Attributes:
    video_id: (N,) record numbers.
    label: (N,), -1 = hidden; or (N, K), 1 = true.
    logits: (N, V, K) float32 of V views.
  """

  video_id: Any
  label: Any
  logits: Any


@dataclass(frozen=True)
class Report:
  """Result of an evaluation.

  Attributes:
    numbers: for result.json, metrics.jsonl and TensorBoard.
    figures: pictures (H, W, 3) uint8 for TensorBoard.
    predictions: logits of all videos, None where they were not asked for.
  """

  numbers: dict[str, float]
  figures: dict[str, Any] = field(default_factory=dict)
  predictions: Predictions | None = None


@flax.struct.dataclass
class Mask:
  """Tokens that a masked autoencoder sees: keep (B, K) indices in the order they enter the
  encoder, restore (B, N) the place of every token in (kept, removed) order, removed (B, N) 1 =
  removed."""

  keep: Any
  restore: Any
  removed: Any


@flax.struct.dataclass
class Mean:
  """Sum and number of values, so that the mean over microbatches, hosts and steps is exact."""

  total: Any
  count: Any

  @classmethod
  def of(cls, values: Array, mask: Array | None = None) -> Mean:
    """Mean of one value, or of the values (B,) where `mask` (B,) is not 0."""
    values = jnp.atleast_1d(values)
    real = jnp.ones(values.shape, bool) if mask is None else mask.astype(bool)
    return cls(jnp.where(real, values, 0).sum(), real.sum(dtype=jnp.int32))

  def merge(self, other: Mean) -> Mean:
    """Mean over both."""
    return Mean(self.total + other.total, self.count + other.count)

  def compute(self) -> Array:
    """The mean itself."""
    return self.total / self.count


@flax.struct.dataclass
class Features:
  """Output of every backbone.

  maps: tuple of (B, T', H', W', D), one per pathway; None when masked. pooled: (B, D), what the
  paper feeds its
  classifier. tokens: (B, 1 + K, D) for a masked ViT, class token first where there is one;
  token_mask: the Mask given.
  grid: (T', H', W') of the token grid, for heads that need positions.
  """

  maps: Any
  pooled: Any
  tokens: Any = None
  token_mask: Any = None
  grid: tuple[int, int, int] | None = flax.struct.field(pytree_node=False, default=None)


@flax.struct.dataclass
class JointOutputs:
  """Output of a head of several datasets, float32 at least.

  Attributes:
    logits: {dataset: (B, K)}, of every clip for every dataset.
    projected: {target: {source: (B, K of the target)}}: logits of one dataset, projected to the
      classes of another.
    embedding: (B, D), what the informative loss acts on.
    log_variances: (number of datasets,), log sigma^2 of their losses, in the order of `logits`.
  """

  logits: Any
  projected: Any
  embedding: Any
  log_variances: Any


@flax.struct.dataclass
class TrainState:
  """State of a training run: all that a resume needs. stats: collections other than params
  (BatchNorm averages)."""

  step: Any
  params: Any
  stats: Any
  opt_state: Any
  ema: Any = None


class Backbone(nn.Module):
  """Base of all backbones: what trainer, heads and objectives may ask of one.

  A backbone is called with a video (B, T, H, W, C), `train` and, where it has a token grid, a
  `token_mask`; it returns Features.
  """

  @nn.nowrap
  def clip_frames(self) -> int | None:
    """Returns the number of frames that position tables are made for; None = any number."""
    return None

  @nn.nowrap
  def grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """Returns the grid (t, h, w) of the tokens that a mask may hide, of clips (T, H, W); None for a
    network that cannot hide any."""
    return None

  @nn.nowrap
  def num_layers(self) -> int | None:
    """Returns the number of blocks for layer-wise learning rates; None for a network that has no
    order of layers."""
    return None

  @nn.nowrap
  def layer_of(self, name: str) -> int | None:
    """Returns the layer of a parameter: 0 = before the blocks, i + 1 = block i, num_layers() + 1 =
    after them, the head included. None for a network that has no order of layers."""
    return None


class Head(Protocol):
  """Head on a backbone: a flax module called with its Features."""

  def __call__(self, features: Features, *, train: bool) -> Any:
    """Returns an array, such as scores (B, K), or JointOutputs."""
    ...


class VideoModel(nn.Module):
  """A backbone and a head; params = {'backbone': ..., 'head': ...}."""

  backbone: Backbone
  head: Any  # a flax module that is a Head

  def __call__(
    self, video: Float[Array, 'b t h w c'], *, train: bool, token_mask: Mask | None = None
  ):
    """The head's output for normalized clips (B, T, H, W, C)."""
    return self.head(self.features(video, train=train, token_mask=token_mask), train=train)

  def features(
    self, video: Float[Array, 'b t h w c'], *, train: bool, token_mask: Mask | None = None
  ) -> Features:
    """The backbone's answer, for probes and heads."""
    if video.ndim != 5:
      raise ValueError(
        f'video has shape {jnp.shape(video)}; a model needs (B, T, H, W, C): add the batch axis'
      )
    if token_mask is None:
      return self.backbone(video, train=train)
    return self.backbone(video, train=train, token_mask=token_mask)
