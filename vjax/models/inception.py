"""InceptionV1 over clips: per frame (TSN), with TAM or TSM, as I3D and as S3D.

(Szegedy et al. 2015 with batch norm; Carreira & Zisserman 2017; Xie et al. 2018; in the form of
Chen et al. 2021, sec. 3, which is torchvision's: the branch called 5x5 has 3x3 kernels.)
"""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax import types
from vjax.kernels.conv import Triple
from vjax.kernels.pool import max_pool
from vjax.layers import temporal
from vjax.layers.conv import Conv3D
from vjax.layers.norm import BatchNorm
from vjax.layers.resnet import check_choices, make_norm
from vjax.layers.settings import Norm, TemporalModule
from vjax.types import Features, Mask

# Widths of each module: 1x1; (1x1 before the first 3x3, first 3x3); (1x1 before the second 3x3,
# second 3x3); 1x1 after the pool.
MODULES = {
  '3a': (64, (96, 128), (16, 32), 32),
  '3b': (128, (128, 192), (32, 96), 64),
  '4a': (192, (96, 208), (16, 48), 64),
  '4b': (160, (112, 224), (24, 64), 64),
  '4c': (128, (128, 256), (24, 64), 64),
  '4d': (112, (144, 288), (32, 64), 64),
  '4e': (256, (160, 320), (32, 128), 128),
  '5a': (256, (160, 320), (32, 128), 128),
  '5b': (384, (192, 384), (48, 128), 128),
}
KINDS = ('2d', 'i3d', 's3d')
MODELS: dict[str, dict[str, Any]] = {
  # Chen et al. 2021, sec. 3 and table 10.
  'tsn_inception': dict(kind='2d'),
  'tam_inception': dict(kind='2d', temporal=TemporalModule('tam')),
  'tam_dense_inception': dict(kind='2d', temporal=TemporalModule('tam', dense=True)),
  'tsm_inception': dict(kind='2d', temporal=TemporalModule('tsm')),
  'i3d_inception': dict(kind='i3d'),
  's3d_inception': dict(kind='s3d'),
  's3d_dw_inception': dict(kind='s3d', depthwise=True),
  # With pooling through time.
  'tsn_tp_inception': dict(kind='2d', pool_time='max'),
  'tam_tp_inception': dict(kind='2d', temporal=TemporalModule('tam'), pool_time='max'),
  'tam_dense_tp_inception': dict(
    kind='2d', temporal=TemporalModule('tam', dense=True), pool_time='max',
  ),
  'tsm_tp_inception': dict(kind='2d', temporal=TemporalModule('tsm'), pool_time='max'),
  'i3d_tp_inception': dict(kind='i3d', pool_time='max'),
  's3d_tp_inception': dict(kind='s3d', pool_time='max'),
  's3d_dw_tp_inception': dict(kind='s3d', depthwise=True, pool_time='max'),
}  # fmt: skip
HEAD: dict[str, Any] = {}
CLIP = (8, 224)


class Unit(nn.Module):
  """Convolution, norm and ReLU.

  With kind 's3d', a 3x3x3 convolution is split into 1x3x3 and 3x1x1, each followed by norm and
  ReLU. The 3x1x1 has a bias, as in the released S3D.
  """

  features: int
  kernel: Triple
  kind: str
  strides: Triple = (1, 1, 1)
  depthwise: bool = False
  conv: Any = Conv3D
  norm: Any = BatchNorm

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b u v z d']:
    t, h, w = self.kernel
    split = self.kind == 's3d' and h == 3
    kernel = (1, h, w) if split or self.kind == '2d' else self.kernel
    padding = tuple(k // 2 for k in kernel)
    x = self.conv(self.features, kernel, strides=self.strides, padding=padding, name='conv')(x)
    x = nn.relu(self.norm(name='norm')(x, train=train))
    if split:
      groups = self.features if self.depthwise else 1
      x = self.conv(
        self.features, (t, 1, 1), padding=(t // 2, 0, 0), groups=groups, bias=True, name='conv_t'
      )(x)
      x = nn.relu(self.norm(name='norm_t')(x, train=train))
    return x


class Module(nn.Module):
  """Inception module: four branches, concatenated along the channels."""

  widths: tuple
  unit: Any
  kind: str

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c'], train: bool) -> Float[Array, 'b t h w d']:
    one, two, three, four = self.widths
    point = lambda width, name: self.unit(width, (1, 1, 1), name=name)
    wide = lambda width, name: self.unit(width, (3, 3, 3), name=name)
    branches = [point(one, 'branch1')(x, train)]
    for name, (narrow, width) in (('branch2', two), ('branch3', three)):
      y = point(narrow, f'{name}_reduce')(x, train)
      branches.append(wide(width, name)(y, train))
    frames = 1 if self.kind == '2d' else 3
    pooled = max_pool(x, (frames, 3, 3), (1, 1, 1), ((frames // 2,) * 2, (1, 1), (1, 1)))
    branches.append(point(four, 'branch4')(pooled, train))
    return jnp.concatenate(branches, axis=-1)


class Backbone(types.Backbone):
  """InceptionV1.

  Attributes:
    kind: '2d', 'i3d' or 's3d'.
    pool_time: halves the frames three times, '' = not at all. Kind '2d' has pools of its own for
      this, 'max' or 'avg'; the 3D kinds use the strides of the last three pools, 'max'.
    pool: 'max' or 'avg', for all four pools of the 3D kinds, in space too, with and without
      pool_time (as released).
    temporal: TAM (kind 'tam') after conv1 to conv3 and after every module, TSM (kind 'tsm') before
      every module, or none; see layers.settings.
    depthwise: S3D's temporal convolutions are depthwise.
    legacy_pool4: I3D's last pool is two frames long and drops one frame (the paper's 33.6 GMACs).
    width: multiplies every width, for tiny models.
    norm: see layers.settings.

  DIFFERS(paper): S3D's last pool is two frames long without padding, so without pool_time the last
  stage has a frame less, as released. TSM on InceptionV1, which no release has, shifts the input of
  each module.
  """

  kind: str = '2d'
  pool_time: str = ''
  pool: str = 'max'
  temporal: TemporalModule = TemporalModule()
  depthwise: bool = False
  legacy_pool4: bool = False
  width: float = 1.0
  norm: Norm = Norm(eps=1e-3)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, video: Float[Array, 'b t h w c'], *, train: bool, token_mask: Mask | None = None
  ) -> Features:
    """Returns features: maps, the last module's (B, T', H / 32, W / 32, D); pooled, its mean (B,
    D), float32 at least.

    Raises ValueError for a mask, for unknown settings, and for a number of frames that the pools
    cannot halve or would reduce to none.
    """
    self._check(token_mask, video.shape[1])
    scale = lambda width: max(1, round(width * self.width))
    norm = make_norm(self.norm, self.dtype)
    conv = functools.partial(Conv3D, dtype=self.dtype)
    unit = functools.partial(Unit, kind=self.kind, depthwise=self.depthwise, conv=conv, norm=norm)
    first = {'2d': 1, 'i3d': 7, 's3d': 3}[self.kind]
    x = unit(scale(64), (first, 7, 7), strides=(1, 2, 2), name='conv1')(
      video.astype(self.dtype), train
    )
    x = self._pool(self._mixed(x, 'tam1'), 1)
    x = self._mixed(unit(scale(64), (1, 1, 1), name='conv2')(x, train), 'tam2')
    x = self._mixed(unit(scale(192), (3, 3, 3), name='conv3')(x, train), 'tam3')
    x = self._pool(x, 2)
    for name, widths in MODULES.items():
      widths = tuple(tuple(map(scale, w)) if isinstance(w, tuple) else scale(w) for w in widths)
      x = temporal.shift(x, self.temporal.fraction) if self.temporal.kind == 'tsm' else x
      x = self._mixed(
        Module(widths, unit, self.kind, name=f'inception{name}')(x, train), f'tam{name}'
      )
      if name in ('3b', '4e'):
        x = self._pool(x, 3 if name == '3b' else 4)
    return Features(
      maps=(x,), pooled=x.astype(jnp.promote_types(jnp.float32, x.dtype)).mean((1, 2, 3))
    )

  def _mixed(self, x, name: str):
    t = self.temporal
    if t.kind != 'tam':
      return x
    settings = dict(taps=t.taps, blend=t.blend, dense=t.dense, start=t.init)
    return temporal.TAM(**settings, dtype=self.dtype, name=name)(x)

  def _pool(self, x, number: int):
    """Applies the pool of this number, 1 to 4."""
    if self.kind == '2d':
      size = 2 if number == 4 else 3
      x = _ceil_max_pool(x, size)
      return temporal.pool_frames(x, self.pool_time) if self.pool_time and number > 1 else x
    pool = nn.avg_pool if self.pool == 'avg' else max_pool
    if number == 1:
      return pool(x, (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))
    strides = (2 if self.pool_time else 1, 2, 2)
    if number == 4 and self.kind == 's3d':
      return pool(x, (2, 2, 2), strides, ((0, 0),) * 3)
    if number == 4 and self.legacy_pool4:
      return pool(x, (2, 3, 3), strides, ((0, 0), (1, 1), (1, 1)))
    return pool(x, (3, 3, 3), strides, ((1, 1),) * 3)

  def _check(self, token_mask: Mask | None, frames: int):
    if token_mask is not None:
      raise ValueError(
        'token_mask is given, but InceptionV1 has no tokens to leave out: use models/vit.py'
      )
    check_choices(self, kind=KINDS, pool_time=('', 'max', 'avg'), pool=('max', 'avg'))
    check_choices(self.temporal, kind=('', 'tam', 'tsm'))
    if self.temporal.where != 'all' or self.temporal.in_shortcut or self.temporal.whole_block:
      raise ValueError(
        f'temporal={self.temporal}: where, in_shortcut and whole_block are for ResNets, leave them'
      )
    flat = self.kind == '2d'
    if (
      self.temporal.kind
      and not flat
      or self.pool == 'avg'
      and flat
      or self.pool_time == 'avg'
      and not flat
    ):
      raise ValueError(
        f'kind={self.kind!r}, temporal.kind={self.temporal.kind!r}, pool={self.pool!r}, '
        f'pool_time={self.pool_time!r}: temporal.kind and '
        "pool_time='avg' are for kind='2d', pool='avg' for the others; to average there, give "
        "pool='avg', pool_time='max'"
      )
    if flat and self.pool_time and frames % 8 and frames > 1:
      raise ValueError(
        f'video has {frames} frames, which three poolings through time cannot halve each: give a '
        'multiple of 8, or one frame'
      )
    short = self.kind == 's3d' or (
      self.kind == 'i3d' and self.legacy_pool4
    )  # the last pool is two frames long
    least = (5 if self.pool_time else 2) if short else 1
    if frames < least:
      raise ValueError(
        f'video has {frames} frames, of which the last pool leaves none: give {least} or more'
      )


def _ceil_max_pool(x, size: int):
  """Max pool of stride 2 that covers every pixel: the last window may reach beyond the edge, but
  starts inside."""
  beyond = []
  for length in x.shape[2:4]:
    count = -(-(length - size) // 2) + 1
    count -= (count - 1) * 2 >= length
    beyond.append((0, max(0, (count - 1) * 2 + size - length)))
  return max_pool(x, (1, size, size), (1, 2, 2), ((0, 0), *beyond))
