"""Training steps as `vjax.train` runs them, on clips that are made once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vjax import factory, optim, sharding, train_step
from vjax.heads import linear
from vjax.heads import mae as mae_head
from vjax.models import vit
from vjax.objectives import classify, mae
from vjax.types import Batch, VideoModel

CLASSES = 400
OPTIMIZER = dict(name='adamw', b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.05)


def pixels(batch: Batch) -> jax.Array:
  """Normalized clips of uint8 ones."""
  return (batch['video'].astype(jnp.float32) / 255 - 0.45) / 0.225


@dataclass
class Training:
  """A model under training on one device.

  Args:
    model: backbone and head.
    objective: see `vjax/objectives`, its settings filled in.
    clip: (T, H, W).
    learning_rate: constant.
    optimizer: arguments of `optim.make`.
  """

  model: VideoModel
  objective: Callable
  clip: tuple[int, int, int]
  learning_rate: float = 1e-4
  optimizer: dict[str, Any] | None = None

  def __post_init__(self):
    self.mesh = sharding.mesh(1, jax.devices()[:1])
    video = jax.ShapeDtypeStruct((1, *self.clip, 3), jnp.float32)
    shapes = jax.eval_shape(partial(self.model.init, train=False), jax.random.key(0), video)[
      'params'
    ]
    schedule = optax.constant_schedule(self.learning_rate)
    tx = optim.make(shapes, schedule=schedule, **(self.optimizer or OPTIMIZER))
    self.update = train_step.Update(self.model, tx, schedule, self.clip, pixels)

  def state(self) -> Any:
    """The initial state on the device."""
    return train_step.init_state(self.update, self.mesh, jax.random.key(0))[0]()

  def shapes(self) -> Any:
    """ShapeDtypeStructs of the state, with shardings."""
    return train_step.init_state(self.update, self.mesh, jax.random.key(0))[1]

  def batch(self, clips: int, seed: int = 0) -> dict[str, jax.Array]:
    """Random clips with labels, on the device."""
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 256, (clips, *self.clip, 3), np.uint8)
    label = rng.integers(0, CLASSES, clips).astype(np.int32)
    return sharding.to_global(
      self.mesh, {'video': video, 'label': label, 'valid': np.ones(clips, np.float32)}
    )

  def step(self, state: Any) -> Callable:
    """The jitted step (state, batch, rng) -> (state, metrics), which uses up its state."""
    return train_step.compiled_step(self.update, self.mesh, state, self.objective)

  def compiled(self, clips: int) -> tuple[Any, float]:
    """(compiled step for batches of so many clips, seconds of tracing and compilation); nothing is
    computed."""
    shapes = self.shapes()
    spec = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
    batch = jax.tree.map(spec, self.batch(self.mesh.size))
    rows = lambda x: jax.ShapeDtypeStruct((clips, *x.shape[1:]), x.dtype, sharding=x.sharding)
    start = time.perf_counter()
    step = self.step(shapes).lower(shapes, jax.tree.map(rows, batch), jax.random.key(1)).compile()
    return step, time.perf_counter() - start


def masked(
  name: str,
  ratio: float | None,
  clip: tuple[int, int, int] = (16, 224, 224),
  dtype: Any = jnp.bfloat16,
  **sizes: Any,
) -> Training:
  """Masked pre-training of a ViT. ratio=None: dense, where the encoder sees every token, hidden
  ones as a learned one."""
  shape = {'frames': clip[0], 'crop': clip[1], **sizes}
  backbone = factory.create_backbone(name, **shape, keep_mask_tokens=ratio is None, dtype=dtype)
  objective = partial(mae.loss, ratio=0.9 if ratio is None else ratio)
  return Training(VideoModel(backbone, mae_head.Head(dtype=dtype)), objective, clip)


def classifier(backbone: Any, clip: tuple[int, int, int], **settings: Any) -> Training:
  """Training of a classifier with 400 classes."""
  return Training(VideoModel(backbone, linear.Head(CLASSES)), classify.loss, clip, **settings)


def small(name: str, width: int = 1, dtype: Any = jnp.float32) -> Training:
  """The small networks that are compared between devices; width multiplies theirs.

  SGD: an update is then the gradient itself, where Adam's first one is its sign.
  """
  sgd = dict(
    learning_rate=0.1, optimizer=dict(name='sgd', momentum=0.9, nesterov=False, weight_decay=1e-4)
  )
  if name == 'vit':
    backbone = vit.Backbone(64 * width, 2, 2, frames=8, crop=32, patch=(2, 8, 8), dtype=dtype)
    return classifier(backbone, (8, 32, 32), **sgd)
  if name == 'mvit':
    model, sizes = 'mvit_v2_s_16x4', {'width': 32 * width, 'frames': 8, 'crop': 64}
  else:
    model = {'r2plus1d': 'r2plus1d_18', 'csn': 'ir_csn_r50'}[name]
    sizes = {'width': 0.25 * width}
  backbone = factory.create_backbone(model, depths=(1, 1, 1, 1), **sizes, dtype=dtype)
  return classifier(backbone, (8, 64, 64), **sgd)
