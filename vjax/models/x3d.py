"""X3D: one network expanded along several axes (Feichtenhofer, CVPR 2020, tables 2 and 3), in
PySlowFast's form."""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax import types
from vjax.layers.drop import DropPath, staged_rates
from vjax.layers.resnet import BlockConfig, block_config
from vjax.layers.settings import STS, Norm
from vjax.layers.temporal import SqueezeExcite
from vjax.types import Features, Mask

# The network does not depend on frames, stride and crop: the configs have them.
MODELS: dict[str, dict[str, Any]] = {
  # Feichtenhofer 2020, table 4; PySlowFast's model zoo.
  'x3d_xs': dict(wide=2.0, deep=2.2),
  'x3d_s': dict(wide=2.0, deep=2.2),
  'x3d_m': dict(wide=2.0, deep=2.2),
  'x3d_l': dict(wide=2.0, deep=5.0),
  'x3d_xl': dict(wide=2.9, deep=5.0),
  # PyTorchVideo's model zoo.
  'ptv_x3d_xs': dict(wide=2.0, deep=2.2, shortcut_norm=False),
  'ptv_x3d_s': dict(wide=2.0, deep=2.2, shortcut_norm=False),
  'ptv_x3d_m': dict(wide=2.0, deep=2.2, shortcut_norm=False),
  'ptv_x3d_l': dict(wide=2.0, deep=5.0, shortcut_norm=False),
  'ptv_x3d_xl': dict(wide=2.9, deep=5.0, shortcut_norm=False),
  # Image pre-training (ECCV 2022, table 5): STS convolution.
  'sts_x3d_s': dict(wide=2.0, deep=2.2, sts=STS('sts')),
}  # fmt: skip
HEAD: dict[str, Any] = {'hidden': 2048}  # width of the layer before the classifier
CLIP = (8, 224)
DEPTHS, BASE = (1, 2, 5, 3), 12
SQUEEZE = 1 / 16  # of the inner width, rounded to eights


def rounded(width: int | float, divisor: int = 8) -> int:
  """Returns the nearest multiple of `divisor`, at least `divisor`, and never less than nine tenths
  of the width."""
  near = max(divisor, int(width + divisor / 2) // divisor * divisor)
  return near + divisor if near < 0.9 * width else near


def widths(wide: float) -> list[int]:
  """Returns the output widths of res2 to res5."""
  base = [BASE]
  for _ in DEPTHS[1:]:
    base.append(rounded(base[-1] * 2))
  return [rounded(width * wide) for width in base]


class Block(nn.Module):
  """Residual block: 1x1x1 to an inner width, depthwise 3x3x3, squeeze-and-excitation in every
  second block, swish, 1x1x1."""

  out: int
  inner: int
  stride: int
  squeezed: bool
  shortcut_norm: bool
  config: BlockConfig
  drop_path: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b t u v d']:
    config, s = self.config, self.stride
    y = config.conv(self.inner, (1, 1, 1), name='conv1')(x)
    y = nn.relu(config.norm(name='norm1')(y, train=train))
    y = config.through_time(self.inner, (3, 3, 3), (1, s, s), self.inner, name='conv2')(y)
    y = config.norm(name='norm2')(y, train=train)
    if self.squeezed:
      y = SqueezeExcite(rounded(self.inner * SQUEEZE), config.conv.keywords['dtype'], name='se')(y)
    y = config.conv(self.out, (1, 1, 1), name='conv3')(nn.swish(y))
    y = config.norm(name='norm3', scale_init=config.last_scale)(y, train=train)
    if self.drop_path:
      y = DropPath(self.drop_path, name='drop')(y, train)
    if s != 1 or x.shape[-1] != self.out:
      changes = x.shape[-1] != self.out
      x = config.conv(self.out, (1, 1, 1), strides=(1, s, s), name='shortcut')(x)
      if changes or self.shortcut_norm:
        x = config.norm(name='shortcut_norm')(x, train=train)
    return nn.relu(x + y)


class Stage(nn.Module):
  """`depth` blocks at one resolution; the first one strides."""

  depth: int
  out: int
  inner: int
  shortcut_norm: bool
  config: BlockConfig
  remat: bool
  drop_path: Sequence[float]

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b t u v d']:
    block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
    for i in range(self.depth):
      settings = (self.out, self.inner, 1 if i else 2, i % 2 == 0, self.shortcut_norm, self.config)
      x = block(*settings, self.drop_path[i], name=f'block{i}')(x, train)
    return x


class Backbone(types.Backbone):
  """X3D up to the last inner width, pooled; the head holds the remaining layers (heads.linear with
  `hidden`).

  Attributes:
    wide, deep: factors of widths and depths.
    expansion: inner width over outer width.
    shortcut_norm: norm on the first shortcut, which changes no width (in PySlowFast, not in
      PyTorchVideo).
    norm, sts: see layers.settings.
    width: multiplies every width, for tiny models.
    drop_path: stochastic depth rate of the last block; the rate rises linearly from 0.
  """

  wide: float = 2.0
  deep: float = 2.2
  expansion: float = 2.25
  shortcut_norm: bool = True
  sts: STS = STS()
  zero_last: bool = True
  width: float = 1.0
  norm: Norm = Norm()
  remat: bool = False
  drop_path: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, video: Float[Array, 'b t h w c'], *, train: bool, token_mask: Mask | None = None
  ) -> Features:
    """Returns features: maps, conv5 (B, T, H / 32, W / 32, D); pooled, its mean (B, D), float32 at
    least.

    Raises ValueError for a mask.
    """
    if token_mask is not None:
      raise ValueError(
        'token_mask is given, but X3D has no tokens to leave out: use models/vit.py for masked '
        'training'
      )
    config = block_config(self, self.sts)
    scale = lambda width: max(8, round(width * self.width / 8) * 8) if self.width != 1 else width
    stem = scale(rounded(BASE * self.wide))
    x = config.conv(stem, (1, 3, 3), strides=(1, 2, 2), padding=(0, 1, 1), name='stem_space')(
      video.astype(self.dtype)
    )
    x = config.conv(stem, (5, 1, 1), padding=(2, 0, 0), groups=stem, name='stem_time')(x)
    x = nn.relu(config.norm(name='stem_norm')(x, train=train))
    inner, depths = 0, [math.ceil(depth * self.deep) for depth in DEPTHS]
    rates = staged_rates(self.drop_path, depths)
    for i, (depth, out) in enumerate(zip(depths, map(scale, widths(self.wide)))):
      inner = int(self.expansion * out)
      settings = (depth, out, inner, self.shortcut_norm, config, self.remat, rates[i])
      x = Stage(*settings, name=f'res{i + 2}')(x, train)
    x = nn.relu(
      config.norm(name='norm5')(config.conv(inner, (1, 1, 1), name='conv5')(x), train=train)
    )
    return Features(
      maps=(x,), pooled=x.astype(jnp.promote_types(jnp.float32, x.dtype)).mean((1, 2, 3))
    )
