"""Residual blocks of video networks, from one set of parts: every published 3D ResNet is a table
over these."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from vjax.layers.conv import Conv3D, Triple
from vjax.layers.norm import BatchNorm
from vjax.layers.sts import STSConv
from vjax.layers.temporal import NonLocal, SqueezeExcite

KINDS = ('2d', '3d', '2plus1d', 'ir', 'ip')


@dataclass(frozen=True)
class Parts:
  """What all blocks of a network share.

  conv, norm: makers of convolutions and norms; inner_norm: of those inside a (2+1)D convolution.
  middle: width between the halves of a (2+1)D convolution: 'conv', from its own input and output
  (VMZ), 'block', from those of the block's first (torchvision), or 'same', its output's (S3D).
  time_first: the temporal half comes first (PyTorchVideo). depthwise: it
  has one group a channel. split_shortcut: a projection is two pointwise convolutions too
  (MMAction). pooled_shortcut: one that strides averages 3x3 pixels first, and is no more than that
  where the width stays (bLResNet).
  sts: settings of STSConv for every convolution of a block that looks through time, None = plain.
  mix: makes what mixes
  frames before the first convolution. mix_shortcut: whether 'all' shortcuts see mixed frames too, a
  'projection', or none (''). se: squeeze-excitation at the end of the branch, to a part of so many
  of its width. last_scale: how the scale of a branch's last norm starts.
  """

  conv: Callable
  norm: Callable
  inner_norm: Callable | None = None
  middle: str = 'conv'
  time_first: bool = False
  depthwise: bool = False
  split_shortcut: bool = False
  pooled_shortcut: bool = False
  sts: dict[str, Any] | None = None
  mix: Callable | None = None
  mix_shortcut: str = ''
  se: int = 0
  last_scale: Callable = field(default=nn.initializers.ones)

  def through_time(
    self, features: int, kernel: Triple, strides: Triple = (1, 1, 1), groups: int = 1, *, name: str
  ):
    """A convolution padded to keep its size, STS where asked for."""
    if kernel[0] > 1 and self.sts is not None:
      settings = {'dtype': self.conv.keywords['dtype'], **self.sts}
      return STSConv(features, kernel, strides, groups, name=name, **settings)
    padding = tuple(k // 2 for k in kernel)
    return self.conv(features, kernel, strides=strides, padding=padding, groups=groups, name=name)


def parts_of(net: nn.Module, **special: Any) -> Parts:
  """Parts by the settings that backbones share: eps (inner_eps inside (2+1)D convolutions),
  bn_group_size, bn_decay, dtype, zero_last, and sts with sts_ratio, sts_lines, sts_dilation; and
  what is special to one of them."""
  norm = functools.partial(
    BatchNorm, group_size=net.bn_group_size, bn_decay=net.bn_decay, eps=net.eps, dtype=net.dtype
  )
  kinds = {'variant': 'sts', 'ratio': 'sts_ratio', 'lines': 'sts_lines', 'dilation': 'sts_dilation'}
  sts = {name: getattr(net, ours) for name, ours in kinds.items() if hasattr(net, ours)}
  return Parts(
    conv=functools.partial(Conv3D, dtype=net.dtype),
    norm=norm,
    inner_norm=functools.partial(norm, eps=net.inner_eps)
    if getattr(net, 'inner_eps', None)
    else None,
    sts=sts if sts.get('variant') else None,
    last_scale=nn.initializers.zeros if net.zero_last else nn.initializers.ones,
    **special,
  )


def middle_width(inputs: int, outputs: int) -> int:
  """Width M between the halves of a (2+1)D convolution that gives it the parameters of the 3x3x3 it
  replaces. (Tran et al. 2018, sec. 3.5.)"""
  return 27 * inputs * outputs // (9 * inputs + 3 * outputs)


class Conv2Plus1D(nn.Module):
  """1x3x3, norm, ReLU, 3x1x1 (or the other way round), with `middle` channels between; strides in
  (time, space)."""

  features: int
  strides: tuple[int, int]
  middle: int
  parts: Parts

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    (t, s), parts = self.strides, self.parts
    space = lambda width: parts.conv(
      width, (1, 3, 3), strides=(1, s, s), padding=(0, 1, 1), name='spatial'
    )
    time = lambda width: parts.through_time(
      width, (3, 1, 1), (t, 1, 1), width if parts.depthwise else 1, name='temporal'
    )
    halves = (time, space) if parts.time_first else (space, time)
    x = nn.relu(
      (parts.inner_norm or parts.norm)(name='norm')(halves[0](self.middle)(x), train=train)
    )
    return halves[1](self.features)(x)


class Interaction(nn.Module):
  """1x1x1, norm, then depthwise 3x3x3: ip-CSN keeps the interaction of channels (Tran et al. 2019,
  sec. 3.3)."""

  features: int
  strides: tuple[int, int]
  parts: Parts

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    t, s = self.strides
    x = self.parts.norm(name='norm')(
      self.parts.conv(self.features, (1, 1, 1), name='pointwise')(x), train=train
    )
    return self.parts.through_time(
      self.features, (3, 3, 3), (t, s, s), self.features, name='depthwise'
    )(x)


class Block(nn.Module):
  """Residual block: two convolutions of kind `kind`, or with bottleneck=True one between two
  pointwise ones.

  kind: '2d' 1x3x3, which never strides in time; '3d' 3x3x3; '2plus1d'; 'ir' depthwise 3x3x3; 'ip'
  the same after a 1x1x1.
  features: width inside; out: of the result. strides: (time, space). first: frames that a
  bottleneck's first convolution
  looks at. dilation: in space, of '2d'. mixed: whether parts.mix is there. last_relu: a ReLU after
  the sum. The projection shortcut is there when shape or width change.
  """

  kind: str
  features: int
  out: int
  strides: tuple[int, int]
  bottleneck: bool
  first: int
  dilation: int
  mixed: bool
  parts: Parts
  last_relu: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    """relu(shortcut + residual)."""
    parts, y = self.parts, x
    t, s = (1 if self.kind == '2d' else self.strides[0]), self.strides[1]
    projects = (t, s) != (1, 1) or x.shape[-1] != self.out
    if self.mixed:
      y = parts.mix(name='mix')(y)
      x = (
        y if parts.mix_shortcut == 'all' or (projects and parts.mix_shortcut == 'projection') else x
      )
    middle = middle_width(x.shape[-1], self.features) if parts.middle == 'block' else 0
    if self.bottleneck:
      kernel = (self.first, 1, 1)
      y = self._normed(
        parts.through_time(self.features, kernel, name='conv1')(y), 'norm1', train, relu=True
      )
      y = self._normed(
        self._conv(self.features, self.strides, middle, 'conv2')(y, train),
        'norm2',
        train,
        relu=True,
      )
      y = self._normed(parts.conv(self.out, (1, 1, 1), name='conv3')(y), 'norm3', train, last=True)
    else:
      y = self._normed(
        self._conv(self.features, self.strides, middle, 'conv1')(y, train),
        'norm1',
        train,
        relu=True,
      )
      y = self._normed(
        self._conv(self.out, (1, 1), middle, 'conv2')(y, train), 'norm2', train, last=True
      )
    if parts.se:
      y = SqueezeExcite(self.out // parts.se, parts.conv.keywords['dtype'], name='se')(y)
    y = self._shortcut(x, (t, s, s), train) + y if projects else x + y
    return nn.relu(y) if self.last_relu else y

  def _shortcut(self, x, strides: Triple, train: bool):
    parts, (t, s, _) = self.parts, strides
    if parts.split_shortcut:
      middle = 3 * x.shape[-1] * self.out // (x.shape[-1] + 3 * self.out)
      x = parts.conv(middle, (1, 1, 1), strides=(1, s, s), name='shortcut_spatial')(x)
      x = nn.relu((parts.inner_norm or parts.norm)(name='shortcut_middle_norm')(x, train=train))
      strides = (t, 1, 1)
    if parts.pooled_shortcut and s > 1:
      x = nn.avg_pool(x, (1, 3, 3), (1, s, s), ((0, 0), (1, 1), (1, 1)))
      strides = (t, 1, 1)
      if x.shape[-1] == self.out:
        return x
    x = parts.conv(self.out, (1, 1, 1), strides=strides, name='shortcut')(x)
    return parts.norm(name='shortcut_norm')(x, train=train)

  def _normed(self, y, name: str, train: bool, relu: bool = False, last: bool = False):
    start = {'scale_init': self.parts.last_scale} if last else {}
    y = self.parts.norm(name=name, **start)(y, train=train)
    return nn.relu(y) if relu else y

  def _conv(self, width: int, strides: tuple[int, int], middle: int, name: str) -> Callable:
    """The convolution that the kind stands for, as function(x, train)."""
    t, s = strides
    if self.kind == '2plus1d':
      same = width if self.parts.middle == 'same' else middle
      return lambda x, train: Conv2Plus1D(
        width, strides, same or middle_width(x.shape[-1], width), self.parts, name=name
      )(x, train)
    if self.kind == 'ip':
      return Interaction(width, strides, self.parts, name=name)
    if self.kind == '2d':
      d = self.dilation
      settings = dict(strides=(1, s, s), padding=(0, d, d), dilation=(1, d, d))
      module = self.parts.conv(width, (1, 3, 3), name=name, **settings)
    else:
      groups = width if self.kind == 'ir' else 1
      module = self.parts.through_time(width, (3, 3, 3), (t, s, s), groups, name=name)
    return lambda x, train: module(x)


class Stage(nn.Module):
  """`depth` blocks at one resolution; the first one strides. first: frames of the first
  convolutions, a pattern that repeats over the blocks. mixed: which blocks mix frames. nonlocals:
  blocks after which a non-local block follows, made by `attend`. last_relu: whether the last block
  ends in a ReLU. remat: recompute each block in the backward pass."""

  depth: int
  kind: str
  features: int
  out: int
  strides: tuple[int, int]
  bottleneck: bool
  parts: Parts
  first: Sequence[int] = (1,)
  dilation: int = 1
  mixed: Sequence[bool] = ()
  nonlocals: Sequence[int] = ()
  attend: Callable = NonLocal
  last_relu: bool = True
  remat: bool = False

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    """The blocks one after another."""
    block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
    for i in range(self.depth):
      x = block(
        kind=self.kind,
        features=self.features,
        out=self.out,
        strides=(1, 1) if i else self.strides,
        bottleneck=self.bottleneck,
        first=self.first[i % len(self.first)],
        dilation=self.dilation,
        mixed=bool(self.mixed) and self.mixed[i],
        parts=self.parts,
        last_relu=self.last_relu or i < self.depth - 1,
        name=f'block{i}',
      )(x, train)
      if i in self.nonlocals:
        x = self.attend(norm=self.parts.norm, name=f'nonlocal{i}')(x, train)
    return x


class Stem(nn.Module):
  """7x7 convolution with spatial stride 2, `frames` long; or with `middle` channels, 1x7x7 then
  3x1x1. Norm, ReLU."""

  frames: int
  features: int
  middle: int
  parts: Parts

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b t v z d']:
    """(B, T, H / 2, W / 2, features)."""
    parts, frames = self.parts, 1 if self.middle else self.frames
    norm = (parts.inner_norm or parts.norm) if self.middle else parts.norm
    kernel, padding = (frames, 7, 7), (frames // 2, 3, 3)
    x = parts.conv(
      self.middle or self.features, kernel, strides=(1, 2, 2), padding=padding, name='conv1'
    )(x)
    x = nn.relu(norm(name='norm1')(x, train=train))
    if self.middle:
      x = parts.through_time(self.features, (3, 1, 1), name='conv2')(x)
      x = nn.relu(parts.norm(name='norm2')(x, train=train))
    return x
