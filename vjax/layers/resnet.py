"""Video ResNets: stem, block and stage, and the network that the families of vjax/models share.

Every published 3D ResNet is a row of settings over these.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax import types
from vjax.kernels.conv import Triple
from vjax.kernels.pool import max_pool
from vjax.layers import temporal
from vjax.layers.conv import Conv3D
from vjax.layers.drop import DropPath, staged_rates
from vjax.layers.norm import BatchNorm
from vjax.layers.settings import STS, NonLocal, Norm
from vjax.layers.sts import STSConv
from vjax.types import Features, Mask

KINDS = ('2d', '3d', '2plus1d', 'ir', 'ip')


@dataclass(frozen=True)
class BlockConfig:
  """Settings that all blocks of a network share.

  Attributes:
    conv, norm: make convolutions and norms.
    inner_norm: makes the norms inside (2+1)D convolutions, None = norm.
    middle: width between the halves of a (2+1)D convolution: 'conv', from its own input and output
      (VMZ), 'block', from those of the block's first convolution (torchvision), or 'same', its
      output width (S3D).
    time_first: the temporal half of a (2+1)D convolution comes first (PyTorchVideo).
    depthwise: the temporal half of a (2+1)D convolution is depthwise.
    split_shortcut: a projection shortcut is two pointwise convolutions (MMAction).
    pooled_shortcut: a strided shortcut begins with a 3x3 average pool, and has no projection where
      the width stays (bLResNet).
    sts: settings of STSConv for every convolution of a block with a temporal kernel, None = plain
      convolutions.
    mix: makes the layer that mixes frames before the first convolution.
    mix_shortcut: shortcuts that take the mixed frames too: 'all', a 'projection', or none ('').
    se: reduction of the squeeze-and-excitation at the end of the branch, 0 = none.
    last_scale: initializer of the scale of a branch's last norm.
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
    """Returns a convolution padded to keep its size; an STS convolution, where set, if the kernel
    is longer than a frame."""
    if kernel[0] > 1 and self.sts is not None:
      settings = {'dtype': self.conv.keywords['dtype'], **self.sts}
      return STSConv(features, kernel, strides, groups, name=name, **settings)
    padding = tuple(k // 2 for k in kernel)
    return self.conv(features, kernel, strides=strides, padding=padding, groups=groups, name=name)


def block_config(net: nn.Module, sts: STS | None = None, **special: Any) -> BlockConfig:
  """Returns the BlockConfig of a backbone: its norm, dtype and zero_last, and the `special`
  settings."""
  norm = make_norm(net.norm, net.dtype)
  inner = functools.partial(norm, eps=net.norm.inner_eps) if net.norm.inner_eps else None
  return BlockConfig(
    conv=functools.partial(Conv3D, dtype=net.dtype),
    norm=norm,
    inner_norm=inner,
    sts=dataclasses.asdict(sts) if sts and sts.variant else None,
    last_scale=nn.initializers.zeros if net.zero_last else nn.initializers.ones,
    **special,
  )


def make_norm(norm: Norm, dtype: Any) -> Callable:
  """Returns a function that makes BatchNorm layers."""
  settings = dict(eps=norm.eps, group_size=norm.group_size, bn_decay=norm.decay)
  return functools.partial(BatchNorm, **settings, dtype=dtype)


def middle_width(inputs: int, outputs: int) -> int:
  """Returns the width M between the halves of a (2+1)D convolution with as many parameters as the
  3x3x3 convolution in its place. (Tran et al. 2018, sec. 3.5.)"""
  return 27 * inputs * outputs // (9 * inputs + 3 * outputs)


class Conv2Plus1D(nn.Module):
  """(2+1)D convolution: 1x3x3, norm, ReLU, 3x1x1 (or the other way round), with `middle` channels
  between; strides in (time, space)."""

  features: int
  strides: tuple[int, int]
  middle: int
  config: BlockConfig

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    (t, s), config = self.strides, self.config
    space = lambda width: config.conv(
      width, (1, 3, 3), strides=(1, s, s), padding=(0, 1, 1), name='spatial'
    )
    time = lambda width: config.through_time(
      width, (3, 1, 1), (t, 1, 1), width if config.depthwise else 1, name='temporal'
    )
    halves = (time, space) if config.time_first else (space, time)
    x = nn.relu(
      (config.inner_norm or config.norm)(name='norm')(halves[0](self.middle)(x), train=train)
    )
    return halves[1](self.features)(x)


class Interaction(nn.Module):
  """1x1x1 convolution, norm, then a depthwise 3x3x3. The 1x1x1 of ip-CSN keeps the interaction of
  channels (Tran et al. 2019, sec. 3.3)."""

  features: int
  strides: tuple[int, int]
  config: BlockConfig

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    t, s = self.strides
    x = self.config.norm(name='norm')(
      self.config.conv(self.features, (1, 1, 1), name='pointwise')(x), train=train
    )
    return self.config.through_time(
      self.features, (3, 3, 3), (t, s, s), self.features, name='depthwise'
    )(x)


class Block(nn.Module):
  """Residual block: two convolutions of kind `kind`, or, with bottleneck=True, one between two
  pointwise ones. A projection shortcut is there where shape or width change.

  Attributes:
    kind: '2d' 1x3x3, which never strides in time; '3d' 3x3x3; '2plus1d'; 'ir' depthwise 3x3x3; 'ip'
      the same after a 1x1x1.
    features: width inside.
    out: width of the output.
    strides: (time, space).
    bottleneck: three convolutions instead of two.
    first: temporal kernel size of a bottleneck's first convolution.
    dilation: in space, of kind '2d'.
    mixed: whether config.mix comes before the first convolution.
    config: shared settings.
    last_relu: a ReLU after the sum.
    drop_path: rate of stochastic depth of the residual branch.
  """

  kind: str
  features: int
  out: int
  strides: tuple[int, int]
  bottleneck: bool
  first: int
  dilation: int
  mixed: bool
  config: BlockConfig
  last_relu: bool = True
  drop_path: float = 0.0

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    """Returns relu(shortcut + residual)."""
    config, y = self.config, x
    t, s = (1 if self.kind == '2d' else self.strides[0]), self.strides[1]
    projects = (t, s) != (1, 1) or x.shape[-1] != self.out
    if self.mixed:
      y = config.mix(name='mix')(y)
      if config.mix_shortcut == 'all' or (projects and config.mix_shortcut == 'projection'):
        x = y
    middle = middle_width(x.shape[-1], self.features) if config.middle == 'block' else 0
    if self.bottleneck:
      kernel = (self.first, 1, 1)
      y = self._normed(
        config.through_time(self.features, kernel, name='conv1')(y), 'norm1', train, relu=True
      )
      y = self._normed(
        self._conv(self.features, self.strides, middle, 'conv2')(y, train),
        'norm2',
        train,
        relu=True,
      )
      y = self._normed(config.conv(self.out, (1, 1, 1), name='conv3')(y), 'norm3', train, last=True)
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
    if config.se:
      y = temporal.SqueezeExcite(self.out // config.se, config.conv.keywords['dtype'], name='se')(y)
    if self.drop_path:
      y = DropPath(self.drop_path, name='drop')(y, train)
    y = self._shortcut(x, (t, s, s), train) + y if projects else x + y
    return nn.relu(y) if self.last_relu else y

  def _shortcut(self, x, strides: Triple, train: bool):
    config, (t, s, _) = self.config, strides
    if config.split_shortcut:
      middle = 3 * x.shape[-1] * self.out // (x.shape[-1] + 3 * self.out)
      x = config.conv(middle, (1, 1, 1), strides=(1, s, s), name='shortcut_spatial')(x)
      x = nn.relu((config.inner_norm or config.norm)(name='shortcut_middle_norm')(x, train=train))
      strides = (t, 1, 1)
    if config.pooled_shortcut and s > 1:
      x = nn.avg_pool(x, (1, 3, 3), (1, s, s), ((0, 0), (1, 1), (1, 1)))
      strides = (t, 1, 1)
      if x.shape[-1] == self.out:
        return x
    x = config.conv(self.out, (1, 1, 1), strides=strides, name='shortcut')(x)
    return config.norm(name='shortcut_norm')(x, train=train)

  def _normed(self, y, name: str, train: bool, relu: bool = False, last: bool = False):
    start = {'scale_init': self.config.last_scale} if last else {}
    y = self.config.norm(name=name, **start)(y, train=train)
    return nn.relu(y) if relu else y

  def _conv(self, width: int, strides: tuple[int, int], middle: int, name: str) -> Callable:
    """Returns the convolution of the block's kind, as function(x, train)."""
    t, s = strides
    if self.kind == '2plus1d':
      same = width if self.config.middle == 'same' else middle
      return lambda x, train: Conv2Plus1D(
        width, strides, same or middle_width(x.shape[-1], width), self.config, name=name
      )(x, train)
    if self.kind == 'ip':
      return Interaction(width, strides, self.config, name=name)
    if self.kind == '2d':
      d = self.dilation
      settings = dict(strides=(1, s, s), padding=(0, d, d), dilation=(1, d, d))
      module = self.config.conv(width, (1, 3, 3), name=name, **settings)
    else:
      groups = width if self.kind == 'ir' else 1
      module = self.config.through_time(width, (3, 3, 3), (t, s, s), groups, name=name)
    return lambda x, train: module(x)


class Stage(nn.Module):
  """`depth` blocks at one resolution; the first one strides.

  Attributes:
    first: temporal kernel sizes of the bottlenecks' first convolutions, a pattern that repeats over
      the blocks.
    mixed: per block, whether it mixes frames.
    nonlocals: numbers of the blocks that are followed by a non-local block.
    attend: makes non-local blocks.
    last_relu: whether the last block ends in a ReLU.
    remat: recompute each block in the backward pass.
    drop_path: rates of stochastic depth of the blocks, () = none.
    depth, kind, features, out, strides, bottleneck, config, dilation: see Block.
  """

  depth: int
  kind: str
  features: int
  out: int
  strides: tuple[int, int]
  bottleneck: bool
  config: BlockConfig
  first: Sequence[int] = (1,)
  dilation: int = 1
  mixed: Sequence[bool] = ()
  nonlocals: Sequence[int] = ()
  attend: Callable = temporal.NonLocal
  last_relu: bool = True
  remat: bool = False
  drop_path: Sequence[float] = ()

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    """Returns x after all blocks."""
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
        config=self.config,
        last_relu=self.last_relu or i < self.depth - 1,
        drop_path=self.drop_path[i] if self.drop_path else 0.0,
        name=f'block{i}',
      )(x, train)
      if i in self.nonlocals:
        x = self.attend(norm=self.config.norm, name=f'nonlocal{i}')(x, train)
    return x


class Stem(nn.Module):
  """Stem: 7x7 convolution with spatial stride 2, `frames` long; with `middle` channels, 1x7x7 then
  3x1x1. Norm and ReLU follow."""

  frames: int
  features: int
  middle: int
  config: BlockConfig

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b t v z d']:
    """Returns (B, T, H / 2, W / 2, features)."""
    config, frames = self.config, 1 if self.middle else self.frames
    norm = (config.inner_norm or config.norm) if self.middle else config.norm
    kernel, padding = (frames, 7, 7), (frames // 2, 3, 3)
    x = config.conv(
      self.middle or self.features, kernel, strides=(1, 2, 2), padding=padding, name='conv1'
    )(x)
    x = nn.relu(norm(name='norm1')(x, train=train))
    if self.middle:
      x = config.through_time(self.features, (3, 1, 1), name='conv2')(x)
      x = nn.relu(config.norm(name='norm2')(x, train=train))
    return x


class ResNet(types.Backbone):
  """A post-activation ResNet over clips; the Backbone of a family adds the settings that only its
  networks have.

  Attributes:
    depths: blocks of res2 to res5.
    bottleneck: whether blocks have three convolutions, or two.
    stem: temporal kernel size of the stem, or '2plus1d'.
    convs: kind of convolution of each stage, see KINDS.
    time_strides, space_strides: of each stage.
    pool1: max pool after the stem.
    norm, sts: see layers.settings.
    zero_last: branches start as zero.
    base: channels of the stem.
    width: multiplies every width, for tiny models.
    remat: recompute each block in the backward pass.
    drop_path: stochastic depth rate of the last block; the rate rises linearly from 0.
    dtype: of activations.
  """

  depths: Sequence[int]
  bottleneck: bool
  stem: int | str = 1
  convs: Sequence[str] = ('2d',) * 4
  time_strides: Sequence[int] = (1, 1, 1, 1)
  space_strides: Sequence[int] = (1, 2, 2, 2)
  pool1: bool = False
  sts: STS = STS()
  zero_last: bool = False
  base: int = 64
  width: float = 1.0
  norm: Norm = Norm()
  remat: bool = False
  drop_path: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, video: Float[Array, 'b t h w c'], *, train: bool, token_mask: Mask | None = None
  ) -> Features:
    """Returns features: maps, res5 (B, T', H', W', D); pooled, its mean (B, D), float32 at least.

    Raises ValueError for a mask, for settings that do not exist, and for a number of frames that
    the poolings through time cannot halve.
    """
    self.check(token_mask, video.shape[1])
    config = block_config(self, self.sts, **self.block_settings())
    split = self.stem == '2plus1d'
    frames, middle = (3, self.scaled(self.stem_width())) if split else (self.stem, 0)
    stem = Stem(frames, self.scaled(self.base), middle, config, name='stem')
    x = stem(video.astype(self.dtype), train)
    if self.pool1:
      x = max_pool(x, (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))
    rates = staged_rates(self.drop_path, self.depths)
    for i, depth in enumerate(self.depths):
      features = self.scaled(self.base * 2**i)
      x = Stage(
        depth=depth,
        kind=self.convs[i],
        features=features,
        out=features * (4 if self.bottleneck else 1),
        strides=(self.time_strides[i], self.space_strides[i]),
        bottleneck=self.bottleneck,
        config=config,
        remat=self.remat,
        drop_path=rates[i],
        name=f'res{i + 2}',
        **self.stage_settings(i),
      )(x, train)
      x = self.after_stage(i, x)
    pooled = x.astype(jnp.promote_types(jnp.float32, x.dtype)).mean((1, 2, 3))
    return Features(maps=(x,), pooled=pooled)

  def scaled(self, channels: int) -> int:
    """Returns a number of channels times `width`, rounded."""
    return max(1, round(channels * self.width))

  def stem_width(self) -> int:
    """Returns the channels between the two convolutions of the stem '2plus1d'. VMZ and torchvision
    have 45; `middle_width` gives 83."""
    return 45

  def block_settings(self) -> dict[str, Any]:
    """Returns the fields of BlockConfig that the family sets."""
    return {}

  def stage_settings(self, stage: int) -> dict[str, Any]:
    """Returns the fields of Stage that the family sets, for stage 0 (res2) to 3 (res5)."""
    return {}

  def after_stage(self, stage: int, x: Float[Array, 'b t h w c']) -> Float[Array, 'b u h w c']:
    """Applies the layer after a stage: none, or a pool through time."""
    return x

  def check(self, token_mask: Mask | None, frames: int) -> None:
    """Raises ValueError for a token_mask and for settings that do not exist."""
    if token_mask is not None:
      raise ValueError(
        'token_mask is given, but a ResNet has no tokens to leave out: use models/vit.py for '
        'masked training'
      )
    check_stages(self, 'depths', 'convs', 'time_strides', 'space_strides')
    if not set(KINDS).issuperset(self.convs):
      raise ValueError(f'convs={self.convs}: there are {", ".join(KINDS)}')
    check_choices(self, stem=('2plus1d',))


def check_stages(net: nn.Module, *names: str) -> None:
  """Raises ValueError where a setting does not have four values, one for each stage."""
  for name in names:
    if len(getattr(net, name)) != 4:
      raise ValueError(f'{name}={getattr(net, name)}: give four values, for res2 to res5')


def check_choices(settings: Any, **choices: Sequence[str]) -> None:
  """Raises ValueError where a setting is a string that is none of its choices."""
  for name, allowed in choices.items():
    value = getattr(settings, name)
    if isinstance(value, str) and value not in allowed:
      raise ValueError(f'{name}={value!r}: it must be one of {allowed}')


def make_non_local(settings: NonLocal, dtype: Any) -> Callable:
  """Returns a function that makes non-local blocks."""
  return functools.partial(
    temporal.NonLocal,
    kind=settings.kind,
    scaled=settings.scaled,
    pool=settings.pool,
    size=tuple(settings.size),
    dtype=dtype,
  )


def pool_stage(x: Float[Array, 'b t h w c'], pool: str) -> Float[Array, 'b u h w c']:
  """Returns the frames pooled after a stage: 'max' or 'avg' of three at stride 2, 'half', the
  maximum of two at stride 2, or '', no pool."""
  if pool == 'half':
    return max_pool(x, (2, 1, 1), (2, 1, 1))
  return temporal.pool_frames(x, pool) if pool else x


def check_pools(pools: Sequence[str], frames: int) -> None:
  """Raises ValueError for a number of frames that the pools after stages cannot halve."""
  halvings = sum(pool in ('max', 'avg') for pool in pools)
  if frames % 2**halvings and frames > 1:
    raise ValueError(
      f'video has {frames} frames, which {halvings} poolings through time cannot halve each: '
      f'give a multiple of {2**halvings}, or one frame'
    )
  if 'half' in pools and frames == 1:
    raise ValueError(
      "video has 1 frame, which pools='half' leaves none of: give two or more, or pools=('',) * 4"
    )


def check_nonlocals(blocks: Sequence[Sequence[int]], depths: Sequence[int]) -> None:
  """Raises ValueError where non-local blocks should follow a block that its stage does not have."""
  if len(blocks) != 4:
    raise ValueError(f'non_local.blocks={blocks}: give four values, for res2 to res5')
  for stage, (places, depth) in enumerate(zip(blocks, depths), start=2):
    if beyond := sorted(set(places) - set(range(depth))):
      raise ValueError(
        f'non_local.blocks={blocks}: res{stage} has no block {beyond[0]}, give numbers from 0 to '
        f'{depth - 1}'
      )
