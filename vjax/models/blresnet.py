"""bLResNet with TAM: of every two frames, one passes a big branch at half the resolution, the other
a thin branch at full resolution.

(Fan et al., More is less, NeurIPS 2019; Chen et al., Big-Little Net, ICLR 2019; alpha = 2, beta = 4
as released.)
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax import types
from vjax.layers.resnet import BlockConfig, Stage, block_config, check_choices
from vjax.layers.settings import Norm, TemporalModule
from vjax.layers.temporal import TAM
from vjax.types import Features, Mask

MODELS: dict[str, dict[str, Any]] = {
  # Fan et al. 2019, table 1; the authors' repository.
  'blresnet_50': dict(depths=(3, 4, 6, 3)),
  'blresnet_101': dict(depths=(4, 8, 18, 3)),
  'blresnet_152': dict(depths=(5, 12, 30, 3)),
}  # fmt: skip
HEAD: dict[str, Any] = {}
CLIP = (8, 224)


class BigLittle(nn.Module):
  """Big-little stage: makes one map of each pair of frames.

  Frames are mixed. The second frame of each pair passes depth - 1 bottlenecks at half the
  resolution, the first frame a few thin ones. Their sum passes one more bottleneck, which strides.
  """

  depth: int
  out: int
  stride: int
  alpha: int
  beta: int
  mix: Callable
  config: BlockConfig
  remat: bool

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    stage = functools.partial(
      Stage, kind='2d', bottleneck=True, config=self.config, remat=self.remat
    )
    x, thin = self.mix(name='mix')(x), self.out // self.alpha
    big = stage(
      self.depth - 1,
      features=self.out // 4,
      out=self.out,
      strides=(1, 2),
      last_relu=False,
      name='big',
    )
    few = max(1, self.depth // self.beta - 1)
    little = stage(few, features=thin // 4, out=thin, strides=(1, 1), name='little')
    y = self.config.conv(self.out, (1, 1, 1), name='widen')(little(x[:, ::2], train))
    y = self.config.norm(name='widen_norm')(y, train=train)
    y = nn.relu(nearest(big(x[:, 1::2], train), y.shape[2:4]) + y)
    return stage(1, features=self.out // 4, out=self.out, strides=(1, self.stride), name='fusion')(
      y, train
    )


class Backbone(types.Backbone):
  """bLResNet: three big-little stages with TAM before each, then a stage of bottlenecks with TAM in
  each block. Every two frames become one map.

  Attributes:
    depths: blocks of the four stages.
    alpha: the width of the little branch is divided by this.
    beta: the depth of the little branch is divided by this.
    temporal: TAM, or kind '' for none; see layers.settings.
    norm: see layers.settings.
    width: multiplies every width, for tiny models.
  """

  depths: Sequence[int]
  alpha: int = 2
  beta: int = 4
  temporal: TemporalModule = TemporalModule('tam')
  zero_last: bool = True
  base: int = 64
  width: float = 1.0
  norm: Norm = Norm()
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, video: Float[Array, 'b t h w c'], *, train: bool, token_mask: Mask | None = None
  ) -> Features:
    """Returns features: maps, the last stage's (B, T / 2, H / 32, W / 32, D); pooled, its mean (B,
    D), float32 at least.

    Raises ValueError for a mask, and for an odd number of frames.
    """
    if token_mask is not None:
      raise ValueError(
        'token_mask is given, but bLResNet has no tokens to leave out: use models/vit.py for '
        'masked training'
      )
    if video.shape[1] % 2:
      raise ValueError(
        f'video has {video.shape[1]} frames: bLResNet takes them in pairs, give an even number'
      )
    base = max(8, round(self.base * self.width / 8) * 8)
    t = self.temporal
    check_choices(t, kind=('', 'tam'))
    tam = functools.partial(
      TAM, taps=t.taps, blend=t.blend, dense=t.dense, start=t.init, dtype=self.dtype
    )
    mix = tam if t.kind else lambda name: lambda x: x
    config = block_config(self, mix=mix, mix_shortcut='projection', pooled_shortcut=True)
    x = self._stem(video.astype(self.dtype), base, mix, config, train)
    for i, (depth, stride) in enumerate(zip(self.depths[:3], (2, 2, 1))):
      settings = dict(
        stride=stride, alpha=self.alpha, beta=self.beta, mix=mix, config=config, remat=self.remat
      )
      x = BigLittle(depth, 4 * base * 2**i, **settings, name=f'stage{i + 1}')(twice(x), train)
    mixed = (bool(t.kind),) * self.depths[3]
    stage = functools.partial(
      Stage, kind='2d', bottleneck=True, config=config, mixed=mixed, remat=self.remat
    )
    x = stage(self.depths[3], features=8 * base, out=32 * base, strides=(1, 2), name='stage4')(
      x, train
    )
    return Features(
      maps=(x,), pooled=x.astype(jnp.promote_types(jnp.float32, x.dtype)).mean((1, 2, 3))
    )

  def _stem(self, x, base: int, mix: Callable, config: BlockConfig, train: bool):
    """Returns one map of a quarter of the resolution for each pair of frames."""

    def unit(x, width, kernel, stride, name, relu=True):
      x = config.conv(
        width,
        (1, kernel, kernel),
        strides=(1, stride, stride),
        padding=(0, kernel // 2, kernel // 2),
        name=name,
      )(x)
      x = config.norm(name=f'{name}_norm')(x, train=train)
      return nn.relu(x) if relu else x

    x = mix(name='mix')(unit(x, base, 7, 2, 'conv1'))
    big = unit(x[:, 1::2], base, 3, 2, 'big', relu=False)
    little = unit(x[:, ::2], base // self.alpha, 3, 1, 'little0')
    little = unit(
      unit(little, base // self.alpha, 3, 2, 'little1'), base, 1, 1, 'little2', relu=False
    )
    return unit(nn.relu(big + little), base, 1, 1, 'join')


def twice(x: Float[Array, 'b t h w c']) -> Float[Array, 'b u h w c']:
  """Returns the clip with every frame repeated once."""
  return jnp.repeat(x, 2, axis=1)


def nearest(x: Float[Array, 'b t h w c'], size: tuple[int, int]) -> Float[Array, 'b t v z c']:
  """Returns frames (H, W) enlarged to `size` by nearest-neighbor upsampling: output pixel i is
  input pixel floor(i H / size)."""
  rows, columns = (jnp.arange(n) * old // n for n, old in zip(size, x.shape[2:4]))
  return x[:, :, rows][:, :, :, columns]
