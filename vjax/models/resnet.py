"""Video ResNets of one pathway: R2D, R3D, R(2+1)D, C2D, I3D, Slow, CSN, and the unified framework's
TSN, TAM, TSM, S3D and non-local networks. Sources beside the tables."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.layers import temporal
from vjax.layers.pool import max_pool
from vjax.layers.residual import KINDS, Parts, Stage, Stem, parts_of
from vjax.types import Features, Mask

_DEPTHS = {
  18: (2, 2, 2, 2),
  34: (3, 4, 6, 3),
  50: (3, 4, 6, 3),
  101: (3, 4, 23, 3),
  152: (3, 8, 36, 3),
}


def _size(depth: int, **settings: Any) -> dict[str, Any]:
  return {'depths': _DEPTHS[depth], 'bottleneck': depth >= 50, **settings}


# VMZ's Caffe2 and PyTorch releases (Ghadiyaram et al. 2019, table 2), and torchvision's.
_VMZ = dict(eps=1e-3, time_strides=(1, 2, 2, 2))
_TORCHVISION = dict(middle='block', time_strides=(1, 2, 2, 2))
VARIANTS = {
  'r2d_18': _size(18, **_VMZ),
  **{f'r3d_{d}': _size(d, **_VMZ, stem=3, convs=('3d',) * 4) for d in (18, 34, 101, 152)},
  **{
    f'r2plus1d_{d}': _size(d, **_VMZ, stem='2plus1d', convs=('2plus1d',) * 4)
    for d in (18, 34, 101, 152)
  },
  'tv_r3d_18': _size(18, **_TORCHVISION, stem=3, convs=('3d',) * 4),
  'tv_mc3_18': _size(18, **_TORCHVISION, stem=3, convs=('3d', '2d', '2d', '2d')),
  'tv_r2plus1d_18': _size(18, **_TORCHVISION, stem='2plus1d', convs=('2plus1d',) * 4),
}
# PySlowFast's and PyTorchVideo's zoo (Feichtenhofer et al. 2019; Wang et al. 2018; Tran et al.
# 2019).
_ZOO = dict(pool1=True, zero_last=True)
for _d in (50, 101, 152):
  _long = (3,) * 6 + (1,) * (
    _DEPTHS[_d][2] - 6
  )  # PySlowFast's "50_50": the first six blocks of res4
  _nln = dict(nonlocals=((), (1, 3), (1, 3, 5), ()))
  _i3d = dict(stem=5, first=((3,), (3, 1), (3, 1), (1, 3)), pools=('half', '', '', ''))
  VARIANTS |= {
    f'c2d_r{_d}': _size(_d, **_ZOO, pools=('half', '', '', '')),
    f'c2d_nln_r{_d}': _size(_d, **_ZOO, pools=('half', '', '', ''), **_nln),
    f'c2d_nopool_r{_d}': _size(_d, **_ZOO),
    f'i3d_3x1x1_r{_d}': _size(_d, **_ZOO, **_i3d),
    f'i3d_nln_r{_d}': _size(_d, **_ZOO, **_i3d, **_nln),
    f'slow_r{_d}': _size(_d, **_ZOO, first=((1,), (1,), (3,), (3,))),
    f'slow_nln_r{_d}': _size(
      _d, **_ZOO, first=((1,), (1,), (3,), (3,)), **_nln, nonlocal_kind='dot'
    ),
    f'slow_50_50_r{_d}': _size(_d, **_ZOO, first=((1,), (1,), _long, (3,))),
  }
  for _kind in ('ir', 'ip'):  # eps: PyTorchVideo's; VMZ's, whose weights MMAction's are
    _csn = dict(stem=3, convs=(_kind,) * 4, time_strides=(1, 2, 2, 2), pool1=True)
    VARIANTS |= {
      f'{_kind}_csn_r{_d}': _size(_d, **_csn),
      f'vmz_{_kind}_csn_r{_d}': _size(_d, **_csn, eps=1e-3),
    }
VARIANTS['ptv_r2plus1d_r50'] = _size(
  50,
  convs=('2plus1d',) * 4,
  middle='same',
  time_first=True,
  time_strides=(1, 1, 2, 2),
  space_strides=(2, 2, 2, 2),
)
# The unified framework (Chen et al. 2021, sec. 3); _tp: pooling through time. Its I3D inflates the
# 3x3 convolutions.
for _d in (18, 34, 50, 101, 152):
  _frames = dict(pool1=True)
  _space = dict(pool1=True, stem=3, convs=('3d',) * 4)
  _split = dict(pool1=True, stem=3, convs=('2plus1d',) * 4, middle='same')
  _2d = {
    'tsn': {}, 'tam': dict(temporal='tam'), 'tsm': dict(temporal='tsm'),
    'tam_dense': dict(temporal='tam', tam_dense=True),
    'nln': dict(nonlocals=((), (1, 3), (1, 3, 5), ())),
  }  # fmt: skip
  VARIANTS |= {f'{name}_r{_d}': _size(_d, **_frames, **settings) for name, settings in _2d.items()}
  VARIANTS |= {
    f'{name}_tp_r{_d}': _size(_d, **_frames, **settings, pools=('max', 'max', 'max', ''))
    for name, settings in _2d.items()
  }
  for _name, _settings in {
    'i3d': _space,
    's3d': _split,
    's3d_dw': dict(_split, depthwise=True),
  }.items():
    VARIANTS[f'{_name}_r{_d}'] = _size(_d, **_settings)
    VARIANTS[f'{_name}_tp_r{_d}'] = _size(_d, **_settings, time_strides=(1, 2, 2, 2))
  VARIANTS[f'i3d_se_r{_d}'] = _size(_d, **_space, se=16)
# MMAction's non-local blocks, pooled and scaled in its way.
_NL = dict(nonlocals=((), (0, 2), (0, 2, 4), ()), nonlocal_pool='after')
VARIANTS |= {
  'tsm_nl_r50': dict(VARIANTS['tsm_r50'], **_NL, nonlocal_scaled=False),
  'slow_nl_r50': dict(VARIANTS['slow_r50'], **_NL),
}
# Image pre-training (ECCV 2022, table 5); with sts='sts' its convolution. No temporal stride.
_PLAIN = dict(pool1=True)
VARIANTS |= {
  'sts_slow_r50': _size(50, **_PLAIN, first=((1,), (1,), (3,), (3,)), zero_last=True, sts='sts'),
  'sts_3x1x1_r50': _size(50, **_PLAIN, stem=3, first=((3,),) * 4, sts='sts'),
  'sts_3x3x3_r50': _size(50, **_PLAIN, stem=3, convs=('3d',) * 4, sts='sts'),
  'sts_ir_csn_r50': _size(50, **_PLAIN, stem=3, convs=('ir',) * 4, eps=1e-3, sts='sts'),
  'sts_r2plus1d_r34': _size(
    34,
    **_PLAIN,
    stem='2plus1d',
    stem_middle=83,
    convs=('2plus1d',) * 4,
    split_shortcut=True,
    eps=1e-3,
    inner_eps=1e-5,
    sts='sts',
  ),
}
VARIANTS['mm_r2plus1d_r34'] = dict(VARIANTS['sts_r2plus1d_r34'], sts='', time_strides=(1, 2, 2, 2))


class Backbone(nn.Module):
  """A post-activation ResNet over clips; see VARIANTS for the published settings.

  depths: blocks of res2 to res5. stem: frames of the first convolution, or '2plus1d', with
  stem_middle channels between.
  convs: kind of convolution of each stage, see layers.residual.KINDS. first: per stage, the frames
  that the first
  convolutions of bottlenecks look at, a pattern over its blocks. time_strides, space_strides,
  dilations: per stage.
  middle, depthwise, time_first, split_shortcut, se: see layers.residual.Parts. pool1: max pool
  after the stem.
  pools: per stage, what follows it: 'max' or 'avg' of three frames at stride 2, 'half', the larger
  of two, or nothing.
  temporal: 'tam', 'tsm' or none, before the first convolution of the blocks `where`: 'all',
  'bottom' or 'top' half, 'uniform' (every second), or their numbers. tam_*: of layers.temporal.TAM;
  tsm_block: the shortcut is shifted too;
  tam_in_shortcut: a projection shortcut sees what TAM made (first releases). nonlocals: per stage,
  the blocks after which a non-local block follows; nonlocal_*: of layers.temporal.NonLocal.
  sts: variant of layers.sts.STSConv in place of convolutions through time, '' = none; sts_*: its
  settings.
  zero_last: branches start as zero. base: channels of the stem; width: multiplies every width, for
  tiny models.
  bn_group_size: clips that share BatchNorm statistics (0 = the batch). remat: recompute each block
  in the backward pass.
  """

  depths: Sequence[int]
  bottleneck: bool
  stem: int | str = 1
  stem_middle: int = 45  # VMZ's and torchvision's constant; the rule for middle widths says 83
  convs: Sequence[str] = ('2d',) * 4
  first: Sequence[Sequence[int]] = ((1,),) * 4
  time_strides: Sequence[int] = (1, 1, 1, 1)
  space_strides: Sequence[int] = (1, 2, 2, 2)
  dilations: Sequence[int] = (1, 1, 1, 1)
  middle: str = 'conv'
  depthwise: bool = False
  time_first: bool = False
  split_shortcut: bool = False
  se: int = 0
  pool1: bool = False
  pools: Sequence[str] = ('', '', '', '')
  temporal: str = ''
  where: str | Sequence[int] = 'all'
  tam_taps: int = 3
  tam_blend: str = 'sum'
  tam_dense: bool = False
  tam_init: str = 'ibm'
  tam_in_shortcut: bool = False
  tsm_fraction: int = 8
  tsm_block: bool = False
  nonlocals: Sequence[Sequence[int]] = ((), (), (), ())
  nonlocal_kind: str = 'softmax'
  nonlocal_scaled: bool = True
  nonlocal_pool: str = 'before'
  nonlocal_size: Sequence[int] = (1, 2, 2)
  sts: str = ''
  sts_ratio: tuple[int, int] = (1, 1)
  sts_dilation: int = 2
  sts_lines: str = 'flat'
  zero_last: bool = False
  base: int = 64
  width: float = 1.0
  eps: float = 1e-5
  inner_eps: float | None = None
  bn_group_size: int = 0
  bn_decay: float = 0.9
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, video: Float[Array, 'b t h w c'], *, train: bool, mask: Mask | None = None
  ) -> Features:
    """maps: res5 (B, T', H', W', D); pooled: its mean (B, D), float32 at least. Raises ValueError
    for a mask, settings it does not know, blocks that there are not, or frames that the poolings
    through time cannot halve."""
    self._check(mask, video.shape[1])
    parts, mixed = self.parts(), self.mixed()
    scale = lambda width: max(1, round(width * self.width))
    attend = functools.partial(
      temporal.NonLocal,
      kind=self.nonlocal_kind,
      scaled=self.nonlocal_scaled,
      pool=self.nonlocal_pool,
      size=tuple(self.nonlocal_size),
      dtype=self.dtype,
    )
    split = self.stem == '2plus1d'
    frames, middle = (3, scale(self.stem_middle)) if split else (self.stem, 0)
    x = Stem(frames, scale(self.base), middle, parts, name='stem')(video.astype(self.dtype), train)
    if self.pool1:
      x = max_pool(x, (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))
    for i, depth in enumerate(self.depths):
      features = scale(self.base * 2**i)
      x = Stage(
        depth=depth,
        kind=self.convs[i],
        features=features,
        out=features * (4 if self.bottleneck else 1),
        strides=(self.time_strides[i], self.space_strides[i]),
        bottleneck=self.bottleneck,
        parts=parts,
        first=self.first[i],
        dilation=self.dilations[i],
        mixed=mixed[i],
        nonlocals=self.nonlocals[i],
        attend=attend,
        remat=self.remat,
        name=f'res{i + 2}',
      )(x, train)
      if self.pools[i] == 'half':
        x = max_pool(x, (2, 1, 1), (2, 1, 1))
      elif self.pools[i]:
        x = temporal.pool_frames(x, self.pools[i])
    return Features(
      maps=(x,), pooled=x.astype(jnp.promote_types(jnp.float32, x.dtype)).mean((1, 2, 3))
    )

  def parts(self) -> Parts:
    """What the blocks are made of."""
    mixes = {
      'tam': functools.partial(
        temporal.TAM,
        taps=self.tam_taps,
        blend=self.tam_blend,
        dense=self.tam_dense,
        start=self.tam_init,
        dtype=self.dtype,
      ),
      'tsm': lambda name: functools.partial(temporal.shift, fraction=self.tsm_fraction),
      '': None,
    }
    return parts_of(
      self,
      middle=self.middle,
      depthwise=self.depthwise,
      time_first=self.time_first,
      split_shortcut=self.split_shortcut,
      mix=mixes[self.temporal],
      mix_shortcut={
        'tam': 'projection' * self.tam_in_shortcut,
        'tsm': 'all' * self.tsm_block,
        '': '',
      }[self.temporal],
      se=self.se,
    )

  def mixed(self) -> list[list[bool]]:
    """Per stage and block, whether it mixes frames. TSM shifts in every second block of each stage
    where res4 has 23 of them or more, as released; with tsm_block in all. Raises ValueError for
    block numbers that there are not."""
    total, rest = sum(self.depths), iter(range(sum(self.depths)))
    halves = {
      'all': range(total),
      'bottom': range(total // 2),
      'top': range(total // 2, total),
      'uniform': range(0, total, 2),
    }
    chosen = halves[self.where] if isinstance(self.where, str) else self.where
    if beyond := sorted(set(chosen) - set(range(total))):
      raise ValueError(
        f'where={tuple(chosen)}: there is no block {beyond[0]}, give numbers from 0 to {total - 1}'
      )
    every = 2 if self.temporal == 'tsm' and self.depths[2] >= 23 and not self.tsm_block else 1
    return [
      [bool(self.temporal) and next(rest) in chosen and i % every == 0 for i in range(depth)]
      for depth in self.depths
    ]

  def _check(self, mask: Mask | None, frames: int):
    if mask is not None:
      raise ValueError(
        'mask is given, but a ResNet has no tokens to leave out: use models/vit.py for masked '
        'training'
      )
    per_stage = (
      'depths',
      'convs',
      'first',
      'time_strides',
      'space_strides',
      'dilations',
      'pools',
      'nonlocals',
    )
    for name in per_stage:
      if len(getattr(self, name)) != 4:
        raise ValueError(f'{name}={getattr(self, name)}: give four values, for res2 to res5')
    if not set(KINDS).issuperset(self.convs):
      raise ValueError(f'convs={self.convs}: there are {", ".join(KINDS)}')
    choices = {
      'middle': ('conv', 'block', 'same'),
      'temporal': ('', 'tam', 'tsm'),
      'where': ('all', 'bottom', 'top', 'uniform'),
      'stem': ('2plus1d',),
    }
    for name, allowed in choices.items():
      value = getattr(self, name)
      if isinstance(value, str) and value not in allowed:
        raise ValueError(f'{name}={value!r}: it must be one of {allowed}')
    check_nonlocals(self.nonlocals, self.depths)
    halvings = sum(pool in ('max', 'avg') for pool in self.pools)
    if frames % 2**halvings and frames > 1:
      raise ValueError(
        f'video has {frames} frames, which {halvings} poolings through time cannot halve each: '
        'give a multiple of '
        f'{2**halvings}, or one frame'
      )
    if 'half' in self.pools and frames == 1:
      raise ValueError(
        "video has 1 frame, which pools='half' leaves none of: give two or more, or pools=('',) * 4"
      )


def check_nonlocals(nonlocals: Sequence[Sequence[int]], depths: Sequence[int]) -> None:
  """Raises ValueError where a stage of so many blocks has none of the numbers after which non-local
  blocks follow."""
  for stage, (places, depth) in enumerate(zip(nonlocals, depths), start=2):
    if beyond := sorted(set(places) - set(range(depth))):
      raise ValueError(
        f'nonlocals={nonlocals}: res{stage} has no block {beyond[0]}, give numbers from 0 to '
        f'{depth - 1}'
      )
