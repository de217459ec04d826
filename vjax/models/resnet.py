"""Video ResNets: R3D, MC3, R(2+1)D and frame-wise R2D (Tran et al. 2018; Ghadiyaram et al. 2019, sec. 3)."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.layers.conv import Conv3D
from vjax.layers.norm import BatchNorm
from vjax.types import Features, Mask

# Published sizes. r*: VMZ's Caffe2 and PyTorch releases (Ghadiyaram et al. 2019, table 2); tv_*: torchvision's.
_VMZ = dict(eps=1e-3, middle='conv')
_TORCHVISION = dict(eps=1e-5, middle='block', depths=(2, 2, 2, 2), bottleneck=False)
VARIANTS = {
  'r2d_18': dict(_VMZ, depths=(2, 2, 2, 2), bottleneck=False, convs=('2d',) * 5),
  'r3d_18': dict(_VMZ, depths=(2, 2, 2, 2), bottleneck=False, convs=('3d',) * 5),
  'r2plus1d_18': dict(_VMZ, depths=(2, 2, 2, 2), bottleneck=False, convs=('2plus1d',) * 5),
  'r2plus1d_34': dict(_VMZ, depths=(3, 4, 6, 3), bottleneck=False, convs=('2plus1d',) * 5),
  'r2plus1d_101': dict(_VMZ, depths=(3, 4, 23, 3), bottleneck=True, convs=('2plus1d',) * 5),
  'r2plus1d_152': dict(_VMZ, depths=(3, 8, 36, 3), bottleneck=True, convs=('2plus1d',) * 5),
  'tv_r3d_18': dict(_TORCHVISION, convs=('3d',) * 5),
  'tv_mc3_18': dict(_TORCHVISION, convs=('3d', '3d', '2d', '2d', '2d')),
  'tv_r2plus1d_18': dict(_TORCHVISION, convs=('2plus1d',) * 5),
}


def middle_width(inputs: int, outputs: int) -> int:
  """Width M between the halves of a (2+1)D convolution that gives it the parameters of the 3x3x3 it replaces.
  (Tran et al. 2018, sec. 3.5.)"""
  return 27 * inputs * outputs // (9 * inputs + 3 * outputs)


class Conv2Plus1D(nn.Module):
  """1x3x3, norm, ReLU, 3x1x1; `middle` channels between (0: what middle_width says for this convolution)."""

  features: int
  stride: int
  middle: int
  conv: Callable
  norm: Callable

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    """The convolved clip; stride in time and space."""
    s, middle = self.stride, self.middle or middle_width(x.shape[-1], self.features)
    x = self.conv(middle, (1, 3, 3), strides=(1, s, s), padding=(0, 1, 1), name='spatial')(x)
    x = nn.relu(self.norm(name='norm')(x, train=train))
    return self.conv(self.features, (3, 1, 1), strides=(s, 1, 1), padding=(1, 0, 0), name='temporal')(x)


class Block(nn.Module):
  """Residual block: two convolutions of kind `kind`, or with bottleneck=True one between two 1x1x1.

  features: width inside; out: width of the result. The projection shortcut is there when shape or width change.
  """

  kind: str
  features: int
  out: int
  stride: int
  bottleneck: bool
  middle: str
  conv: Callable
  norm: Callable

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    """relu(shortcut + residual)."""
    if self.bottleneck:
      widths = ((None, self.features, 1), (self.kind, self.features, self.stride), (None, self.out, 1))
    else:
      widths = ((self.kind, self.features, self.stride), (self.kind, self.out, 1))
    middle = middle_width(x.shape[-1], self.features) if self.middle == 'block' else 0
    y = x
    for i, (kind, width, stride) in enumerate(widths, start=1):
      y = self._conv(kind, width, stride, middle, f'conv{i}')(y, train)
      y = self.norm(name=f'norm{i}')(y, train=train)
      y = nn.relu(y) if i < len(widths) else y
    if self.stride != 1 or x.shape[-1] != self.out:
      strides = (1 if self.kind == '2d' else self.stride, self.stride, self.stride)
      x = self.conv(self.out, (1, 1, 1), strides=strides, name='shortcut')(x)
      x = self.norm(name='shortcut_norm')(x, train=train)
    return nn.relu(x + y)

  def _conv(self, kind: str | None, width: int, s: int, middle: int, name: str) -> Callable:
    """The convolution a kind stands for, as function(x, train)."""
    if kind == '2plus1d':
      return Conv2Plus1D(width, s, middle, self.conv, self.norm, name=name)
    kernel, strides, padding = {
      None: ((1, 1, 1), (1, 1, 1), (0, 0, 0)),
      '2d': ((1, 3, 3), (1, s, s), (0, 1, 1)),
      '3d': ((3, 3, 3), (s, s, s), (1, 1, 1)),
    }[kind]
    module = self.conv(width, kernel, strides=strides, padding=padding, name=name)
    return lambda x, train: module(x)


class Stage(nn.Module):
  """`depth` blocks at one resolution; the first one strides. remat: recompute each block in the backward pass."""

  depth: int
  kind: str
  features: int
  out: int
  stride: int
  bottleneck: bool
  middle: str
  conv: Callable
  norm: Callable
  remat: bool

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    """The blocks one after another."""
    block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
    for i in range(self.depth):
      stride = 1 if i else self.stride
      settings = (self.kind, self.features, self.out, stride, self.bottleneck, self.middle, self.conv, self.norm)
      x = block(*settings, name=f'block{i}')(x, train)
    return x


class Stem(nn.Module):
  """7x7 convolution with spatial stride 2: 3x7x7 ('3d'), 1x7x7 ('2d'), or 1x7x7 then 3x1x1 ('2plus1d')."""

  kind: str
  features: int
  middle: int
  conv: Callable
  norm: Callable

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    """(B, T, H / 2, W / 2, features) after norm and ReLU."""
    frames = 3 if self.kind == '3d' else 1
    width = self.middle if self.kind == '2plus1d' else self.features
    padding = (frames // 2, 3, 3)
    x = self.conv(width, (frames, 7, 7), strides=(1, 2, 2), padding=padding, name='conv1')(x)
    x = nn.relu(self.norm(name='norm1')(x, train=train))
    if self.kind == '2plus1d':
      x = self.conv(self.features, (3, 1, 1), padding=(1, 0, 0), name='conv2')(x)
      x = nn.relu(self.norm(name='norm2')(x, train=train))
    return x


class Backbone(nn.Module):
  """A post-activation ResNet over clips; see VARIANTS for the published settings.

  depths: blocks of res2 to res5. convs: kind of convolution of the stem and of each stage, '2d' | '3d' | '2plus1d';
  '2d' keeps its frames apart and never strides in time. middle: whether a (2+1)D convolution takes its middle width
  from its own input and output ('conv', VMZ) or from those of the block's first ('block', torchvision).
  pool1: max pool after the stem (inputs of 224 px). width: multiplies every width, for tiny models.
  bn_group_size: clips that share BatchNorm statistics (0 = the batch). remat: recompute each block in the backward pass.
  """

  depths: Sequence[int]
  bottleneck: bool
  convs: Sequence[str]
  middle: str
  eps: float
  pool1: bool = False
  width: float = 1.0
  bn_group_size: int = 0
  bn_decay: float = 0.9
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: Float[Array, 'b t h w c'], *, train: bool, mask: Mask | None = None) -> Features:
    """maps: res5 (B, T', H', W', D); pooled: its mean (B, D), float32 at least. Raises ValueError for a mask, or a
    `convs` or `middle` it does not know."""
    self._check(mask)
    conv = functools.partial(Conv3D, dtype=self.dtype)
    norm = functools.partial(
      BatchNorm, group_size=self.bn_group_size, bn_decay=self.bn_decay, eps=self.eps, dtype=self.dtype
    )
    scale = lambda width: max(1, round(width * self.width))
    # 45 is VMZ's and torchvision's constant; the rule for middle widths would say 83.
    x = Stem(self.convs[0], scale(64), scale(45), conv, norm, name='stem')(video.astype(self.dtype), train)
    if self.pool1:
      x = nn.max_pool(x, (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))
    for i, (depth, kind) in enumerate(zip(self.depths, self.convs[1:])):
      features = scale(64 * 2**i)
      x = Stage(
        depth=depth,
        kind=kind,
        features=features,
        out=features * (4 if self.bottleneck else 1),
        stride=2 if i else 1,
        bottleneck=self.bottleneck,
        middle=self.middle,
        conv=conv,
        norm=norm,
        remat=self.remat,
        name=f'res{i + 2}',
      )(x, train)
    return Features(maps=(x,), pooled=x.astype(jnp.promote_types(jnp.float32, x.dtype)).mean((1, 2, 3)))

  def _check(self, mask: Mask | None):
    if mask is not None:
      raise ValueError(
        'mask is given, but a ResNet has no tokens to leave out: use models/vit.py for masked training'
      )
    if len(self.depths) != 4 or len(self.convs) != 5 or not {'2d', '3d', '2plus1d'}.issuperset(self.convs):
      raise ValueError(
        f'depths={self.depths} and convs={self.convs}: give four numbers of blocks, and for the stem and each of the '
        "four stages '2d', '3d' or '2plus1d'"
      )
    if self.middle not in ('conv', 'block'):
      raise ValueError(f"middle={self.middle!r}: give 'conv' (VMZ) or 'block' (torchvision)")
