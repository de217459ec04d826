"""SlowFast: a slow pathway that sees, a fast narrow one that moves (Feichtenhofer et al., ICCV 2019, table 1)."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vjax.layers.pool import max_pool
from vjax.layers.residual import Parts, Stage, Stem, parts_of
from vjax.types import Features, Mask

_R50, _R101 = dict(depths=(3, 4, 6, 3)), dict(depths=(3, 4, 23, 3))
# Names: slow frames x stride of the slow pathway. R101: with `long=6` only the first six blocks of res4 look through time
# ("50_50" of PySlowFast's files), with 0 all 23 do.
VARIANTS = {
  'r50_4x16': dict(_R50, alpha=8, fusion=5),
  'r50_8x8': dict(_R50, alpha=4, fusion=7),
  'r50_16x8': dict(_R50, alpha=4, fusion=7),
  'r101_8x8': dict(_R101, alpha=4, fusion=5),
  'r101_8x8_50_50': dict(_R101, alpha=4, fusion=5, long=6),
  'r101_16x8': dict(_R101, alpha=4, fusion=5),
  'r101_16x8_50_50': dict(_R101, alpha=4, fusion=5, long=6),
}
_MM = dict(fusion_norm=False, slow_frames='stride', fast_first=True, sts='sts')
VARIANTS |= {
  'sts_r50_4x16': dict(_R50, alpha=8, fusion=5, **_MM),
  'sts_r50_8x8': dict(_R50, alpha=4, fusion=7, **_MM),
}
RATIO = 8  # of slow to fast channels


def slow_indices(frames: int, alpha: int, rule: str) -> np.ndarray:
  """Frames of the slow pathway among those of the fast one: 'linspace' from the first to the last, cut to whole numbers
  (PySlowFast, e.g. 0 4 8 13 17 22 26 31), or 'stride', every alpha-th (MMAction).

  Raises ValueError where alpha does not divide the frames."""
  if frames % alpha or rule not in ('linspace', 'stride'):
    raise ValueError(
      f"frames={frames}, alpha={alpha}, slow_frames={rule!r}: need a multiple, and 'linspace' or 'stride'"
    )
  count = frames // alpha
  return np.linspace(0, frames - 1, count).astype(int) if rule == 'linspace' else np.arange(count) * alpha


class Lateral(nn.Module):
  """Slow features beside the fast ones of every alpha-th frame, made twice as wide by a convolution through time."""

  alpha: int
  frames: int
  normed: bool
  parts: Parts

  @nn.compact
  def __call__(self, slow: Float[Array, 'b t h w c'], fast: Float[Array, 'b u h w d'], train: bool):
    kernel, padding = (self.frames, 1, 1), (self.frames // 2, 0, 0)
    y = self.parts.conv(2 * fast.shape[-1], kernel, strides=(self.alpha, 1, 1), padding=padding, name='conv')(fast)
    if self.normed:
      y = nn.relu(self.parts.norm(name='norm')(y, train=train))
    return jnp.concatenate([slow, y], axis=-1)


class Backbone(nn.Module):
  """Two bottleneck ResNets with laterals from fast to slow after the stem and res2 to res4.

  depths: blocks of res2 to res5. alpha: fast frames for one slow frame; clip.frames are the fast ones. fusion: frames that
  a lateral looks at; fusion_norm: norm and ReLU after it. long: blocks of res4 that look through time, 0 = all.
  slow_frames: see slow_indices. fast_first: the order of the pooled features (MMAction's head). space_strides, dilations:
  of the stages (detection: res5 at stride 1 and dilation 2). sts: see models.resnet. width: multiplies every width, for
  tiny models.
  """

  depths: Sequence[int]
  alpha: int
  fusion: int
  fusion_norm: bool = True
  long: int = 0
  slow_frames: str = 'linspace'
  fast_first: bool = False
  space_strides: Sequence[int] = (1, 2, 2, 2)
  dilations: Sequence[int] = (1, 1, 1, 1)
  sts: str = ''
  sts_ratio: tuple[int, int] = (1, 1)
  sts_lines: str = 'flat'
  zero_last: bool = True
  width: float = 1.0
  eps: float = 1e-5
  bn_group_size: int = 0
  bn_decay: float = 0.9
  remat: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: Float[Array, 'b t h w c'], *, train: bool, mask: Mask | None = None) -> Features:
    """maps: res5 of slow (B, T / alpha, H', W', 2048) and fast (B, T, H', W', 256), or the other way round with fast_first;
    pooled: their means side by side (B, 2304), float32 at least. Raises ValueError for a mask, or frames that alpha does not
    divide."""
    if mask is not None:
      raise ValueError(
        'mask is given, but SlowFast has no tokens to leave out: use models/vit.py for masked training'
      )
    parts = parts_of(self)
    base = max(RATIO, round(64 * self.width / RATIO) * RATIO)
    video = video.astype(self.dtype)
    indices = slow_indices(video.shape[1], self.alpha, self.slow_frames)
    pool = lambda x: max_pool(x, (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))
    slow = pool(Stem(1, base, 0, parts, name='slow_stem')(video[:, indices], train))
    fast = pool(Stem(5, base // RATIO, 0, parts, name='fast_stem')(video, train))
    slow = Lateral(self.alpha, self.fusion, self.fusion_norm, parts, name='lateral1')(slow, fast, train)
    for i, depth in enumerate(self.depths):
      through = (3,) * (self.long or depth) + (1,) * (depth - (self.long or depth)) if i == 2 else (3,)
      stage = functools.partial(
        Stage,
        depth=depth,
        kind='2d',
        strides=(1, self.space_strides[i]),
        bottleneck=True,
        parts=parts,
        dilation=self.dilations[i],
        remat=self.remat,
      )
      features = base * 2**i
      first = through if i > 1 else (1,)
      slow = stage(features=features, out=4 * features, first=first, name=f'slow_res{i + 2}')(slow, train)
      features //= RATIO
      fast = stage(features=features, out=4 * features, first=through, name=f'fast_res{i + 2}')(fast, train)
      if i < 3:
        slow = Lateral(self.alpha, self.fusion, self.fusion_norm, parts, name=f'lateral{i + 2}')(slow, fast, train)
    mean = lambda x: x.astype(jnp.promote_types(jnp.float32, x.dtype)).mean((1, 2, 3))
    maps = (fast, slow) if self.fast_first else (slow, fast)
    return Features(maps=maps, pooled=jnp.concatenate([mean(x) for x in maps], axis=-1))
