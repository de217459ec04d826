"""Running a trained model: logits, features, metrics and reconstructions of clips.

Evaluation, prediction, pictures and notebooks all go through `InferenceModel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, UInt8

from vjax import build, checkpoint, preprocess, sharding, tree
from vjax.config import Config, parse, plain
from vjax.types import Batch, Objective, VideoModel

_CLIP_FACTS = {
  'clip': ('num_frames', 'frame_stride', 'crop_size', 'short_side', 'sampling'),
  'data': ('mean', 'std'),
}


class InferenceModel:
  """Jitted functions of a model and its variables, on clips uint8 (b, V, T, H, W, 3).

  Views are folded into the batch for the network and come back as an axis. Every host gives and
  receives its own rows.

  Attributes:
    model: backbone and head.
    params, stats: variables on the mesh; may be set.
    mean, std: of RGB in [0, 1], for normalization.
    mesh: of the devices.
    objective: of the training, for `metrics` and `reconstructions`.
    classes: names, in label order; () for converted weights without a classifier, whose logits mean
      nothing.
    labels: 'single_label' or 'multi_label', of the data it was trained on; '' = unknown.
    config: of the run, None where the model was made by hand.
    dataset: alias, where this is one classifier of a network of several, see `serving`.
    step: of the checkpoint.
  """

  def __init__(
    self,
    model: VideoModel,
    params: Any,
    stats: Any,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    mesh: Mesh,
    objective: Objective | None = None,
    classes: Sequence[str] = (),
    labels: str = '',
    config: Config | None = None,
    dataset: str = '',
    step: int = 0,
  ):
    self.model, self.params, self.stats = model, params, stats
    self.mean, self.std, self.mesh = tuple(mean), tuple(std), mesh
    self.objective, self.classes, self.labels = objective, tuple(classes), labels
    self.config, self.dataset, self.step = config, dataset, step
    self._served: dict[Any, InferenceModel] = {}
    rows = sharding.rows(mesh)
    self._logits = jax.jit(partial(self._apply, method='__call__'), out_shardings=rows)
    self._features = jax.jit(partial(self._apply, method='features'), out_shardings=rows)
    self._metrics = jax.jit(self._measure, out_shardings=sharding.replicated(mesh))
    self._reconstruct = cache(self._reconstructor)

  def serving(self, dataset: str, *, projected: bool = False) -> InferenceModel:
    """Returns this network with the classifier of one of its datasets, and its variables as they
    are now.

    Args:
      dataset: alias.
      projected: the projected logits of the other datasets are added.

    Raises:
      ValueError: for a network of one dataset, and for a dataset that it has no classifier for.
    """
    head = self.model.head
    if not hasattr(head, 'serving'):
      raise ValueError(f'dataset {dataset!r}: this network has one classifier alone')
    key = dataset, projected
    if key not in self._served:
      inside = f'{dataset}/'
      self._served[key] = InferenceModel(
        self.model.clone(head=head.serving(dataset, projected=projected)),
        self.params,
        self.stats,
        mean=self.mean,
        std=self.std,
        mesh=self.mesh,
        objective=self.objective,
        classes=[x.removeprefix(inside) for x in self.classes if x.startswith(inside)],
        labels=self.labels,
        config=self.config,
        dataset=dataset,
        step=self.step,
      )
    found = self._served[key]
    found.params, found.stats = self.params, self.stats
    return found

  def check_chosen(self) -> None:
    """Raises ValueError for a network of several datasets of which none was chosen."""
    head = self.model.head
    if hasattr(head, 'serving') and not self.dataset:
      raise ValueError(
        f'this network has classifiers for {", ".join(head.num_classes)}: choose one by '
        'serving(DATASET), or write it as a model of its own, python -m vjax.export WORKDIR OUT '
        '--head=DATASET'
      )

  def logits(self, video: UInt8[np.ndarray, 'b v t h w 3']) -> Float[np.ndarray, 'b v k']:
    """Returns the outputs of the head for every view. Raises ValueError for a network of several
    datasets of which none was chosen."""
    self.check_chosen()
    return self._views(self._logits, video)

  def projected_logits(self, video: UInt8[np.ndarray, 'b v t h w 3']) -> Float[np.ndarray, 'b v k']:
    """Returns the logits of `dataset` plus the projected ones of the other datasets, by the weight
    that training adds them with."""
    both, weight = self.serving(self.dataset, projected=True).logits(video), 1.0
    if self.objective is not None and self.objective.settings.get('projection', 'add') == 'add':
      weight = self.objective.settings.get('projection_weight', 1.0)
    if weight == 1:
      return both
    own = self.logits(video)
    return own + weight * (both - own)

  def features(self, video: UInt8[np.ndarray, 'b v t h w 3']) -> Float[np.ndarray, 'b v d']:
    """Returns the pooled features of the backbone for every view."""
    return self._views(self._features, video)

  def metrics(self, batch: Batch) -> dict[str, Any]:
    """Returns the objective's metrics on the first views, as sums and counts over all hosts."""
    if hasattr(self.model.head, 'serving') and 'dataset' not in batch:
      raise ValueError(
        'a batch for a network of several datasets needs `dataset`, the number of the dataset of '
        'each clip'
      )
    keys = ('video', 'label', 'valid', 'video_id', 'dataset')
    part = {name: batch[name] for name in keys if name in batch}
    return self._metrics(self.params, self.stats, sharding.to_global(self.mesh, part))

  def reconstructions(
    self, video: UInt8[np.ndarray, 'b t h w 3'], ratio: float | None = None
  ) -> tuple[list[tuple[np.ndarray, ...]], float, bool]:
    """Reconstructs clips from a part of their tokens.

    Args:
      video: clips.
      ratio: share of the tokens that is removed, None = that of the training.

    Returns:
      (original, masked, reconstruction) of every clip, each (T, H, W, 3) in normalized colors; the
      ratio; and whether patches got mean and deviation of the original, which the model of
      normalized targets cannot know.

    Raises:
      ValueError: for an objective that reconstructs nothing.
    """
    objective = self.objective
    if objective is None or objective.reconstruct is None:
      raise ValueError(
        'this model reconstructs nothing: only masked autoencoders (mae) of pixels do'
      )
    ratio = objective.setting('ratio') if ratio is None else ratio
    clips = self._padded(video)
    parts = self._reconstruct(ratio)(self.params, self.stats, clips)
    sheets = [sharding.local_rows(rows) for rows in parts]
    found = [tuple(rows[i] for rows in sheets) for i in range(len(video))]
    return found, ratio, objective.setting('normalize')

  def _views(self, function: Any, video: np.ndarray) -> np.ndarray:
    clips = self._padded(video)
    return sharding.local_rows(function(self.params, self.stats, clips))[: len(video)]

  def _padded(self, video: np.ndarray) -> jax.Array:
    """Returns the rows on the devices, the last one repeated until they share evenly."""
    spare = -len(video) % len(self.mesh.local_devices)
    rows = np.concatenate([video, np.repeat(video[-1:], spare, axis=0)]) if spare else video
    return sharding.to_global(self.mesh, {'video': rows})['video']

  def _apply(self, params: Any, stats: Any, video: jax.Array, method: str) -> jax.Array:
    x = self._normalized(video.reshape(-1, *video.shape[2:]))
    out = self.model.apply({'params': params, **stats}, x, train=False, method=method)
    out = out.pooled if method == 'features' else out
    return out.astype(jnp.float32).reshape(*video.shape[:2], -1)

  def _measure(self, params: Any, stats: Any, batch: Batch) -> dict[str, Any]:
    part = {**batch, 'video': self._normalized(batch['video'][:, 0])}
    return self.objective(self.model, params, stats, part, jax.random.key(0), train=False)[1][0]

  def _reconstructor(self, ratio: float):
    def function(params: Any, stats: Any, video: jax.Array):
      settings = {**self.objective.settings, 'ratio': ratio}
      x = self._normalized(video)
      return self.objective.reconstruct(self.model, params, x, stats=stats, **settings)

    return jax.jit(function, out_shardings=sharding.rows(self.mesh))

  def _normalized(self, video: jax.Array) -> jax.Array:
    return preprocess.normalize(video, self.mean, self.std)


def load(workdir: str, *, mesh: Mesh | None = None) -> InferenceModel:
  """Loads the newest checkpoint of a run, or a converted one, with its own config; needs no data.

  Args:
    workdir: of a training run, or written by `python -m vjax.convert`.
    mesh: None = the first device alone.

  Raises:
    ValueError: where config and weights do not fit, weights are not finite, or a converted
      checkpoint does not say for what clips its weights are.
  """
  variables, meta = checkpoint.load_params(workdir)
  given = plain(meta['config'])
  unknown = [
    f'--{key}' for section, keys in _CLIP_FACTS.items() for key in keys if key not in given[section]
  ]
  if unknown:
    raise ValueError(
      f'{workdir} lacks clip settings ({", ".join(unknown)}): convert the weights again, '
      f'python -m vjax.convert --overwrite, with {", ".join(unknown)}'
    )
  # Nothing is differentiated through blocks.
  config = parse({**given, 'train': {**given['train'], 'remat': False}})
  # Weights converted without a classifier have a head of one class of zeros, and no names.
  model = build.model(config, build.outputs(config, meta['classes']) or 1)
  checkpoint.check_fits(model, config.clip, variables, workdir)
  checkpoint.check_finite(tree.flatten(variables), workdir)
  mesh = mesh or sharding.mesh(devices=jax.local_devices()[:1])
  variables = jax.device_put(variables, sharding.state_shardings(mesh, variables))
  return InferenceModel(
    model,
    variables.pop('params'),
    variables,
    mean=config.data.mean,
    std=config.data.std,
    mesh=mesh,
    objective=build.objective(config),
    classes=meta['classes'],
    labels=meta.get('labels', ''),
    config=config,
    step=meta['step'],
  )
