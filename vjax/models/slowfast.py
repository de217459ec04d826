"""SlowFast: Slow and Fast pathways with lateral connections.

(Feichtenhofer et al., ICCV 2019, table 1.)
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vjax import types
from vjax.kernels.pool import max_pool
from vjax.layers.drop import staged_rates
from vjax.layers.resnet import (
  BlockConfig,
  Stage,
  Stem,
  block_config,
  check_nonlocals,
  make_non_local,
)
from vjax.layers.settings import STS, NonLocal, Norm
from vjax.types import Features, Mask

# Names: frames x frame stride of the slow pathway.
# 50_50: only the first six blocks of res4 have temporal kernels (`long=6`; without it, all 23).
# 50_101: this holds for the slow pathway alone. Both are names of PySlowFast's files.
# nln: non-local blocks on the slow pathway.
# ava: for detection, keys and values are pooled in time too, and res5 has the resolution of res4.
MODELS: dict[str, dict[str, Any]] = {
  # Feichtenhofer et al. 2019, table 5; PySlowFast's model zoo.
  'slowfast_r50_4x16': dict(depths=(3, 4, 6, 3), alpha=8, fusion=5),
  'slowfast_r50_8x8': dict(depths=(3, 4, 6, 3), alpha=4, fusion=7),
  'slowfast_r50_16x8': dict(depths=(3, 4, 6, 3), alpha=4, fusion=7),
  'slowfast_r101_8x8': dict(depths=(3, 4, 23, 3), alpha=4, fusion=5),
  'slowfast_r101_8x8_50_50': dict(depths=(3, 4, 23, 3), alpha=4, fusion=5, long=6),
  'slowfast_r101_8x8_50_101': dict(depths=(3, 4, 23, 3), alpha=4, fusion=5, long=(6, 0)),
  'slowfast_r101_16x8': dict(depths=(3, 4, 23, 3), alpha=4, fusion=5),
  'slowfast_r101_16x8_50_50': dict(depths=(3, 4, 23, 3), alpha=4, fusion=5, long=6),
  # PySlowFast's, with non-local blocks.
  'slowfast_nln_r50_4x16': dict(
    depths=(3, 4, 6, 3), alpha=8, fusion=5,
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ()), kind='dot'),
  ),
  'slowfast_nln_r50_8x8': dict(
    depths=(3, 4, 6, 3), alpha=4, fusion=5,
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ()), kind='dot'),
  ),
  'slowfast_nln_r101_16x8_50_50': dict(
    depths=(3, 4, 23, 3), fusion=5, non_local=NonLocal(((), (), (6, 13, 20), ()), kind='dot'),
    alpha=4, long=6,
  ),
  'slowfast_ava_nln_r101_50_50': dict(
    depths=(3, 4, 23, 3), fusion=5,
    non_local=NonLocal(((), (), (6, 13, 20), ()), kind='dot', size=(2, 2, 2)), alpha=4, long=6,
    space_strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2),
  ),
  # MMAction.
  'mm_slowfast_r50_4x16': dict(
    depths=(3, 4, 6, 3), alpha=8, fusion=5, fusion_norm=False, slow_frames='stride',
    fast_first=True,
  ),
  'mm_slowfast_r50_8x8': dict(
    depths=(3, 4, 6, 3), alpha=4, fusion=7, fusion_norm=False, slow_frames='stride',
    fast_first=True,
  ),
  # Image pre-training (ECCV 2022, table 5): MMAction's with STS convolution.
  'sts_slowfast_r50_4x16': dict(
    depths=(3, 4, 6, 3), alpha=8, fusion=5, fusion_norm=False, slow_frames='stride',
    fast_first=True, sts=STS('sts'),
  ),
  'sts_slowfast_r50_8x8': dict(
    depths=(3, 4, 6, 3), alpha=4, fusion=7, fusion_norm=False, slow_frames='stride',
    fast_first=True, sts=STS('sts'),
  ),
}  # fmt: skip
HEAD: dict[str, Any] = {}
CLIP = (32, 224)
RATIO = 8  # of slow to fast channels


def slow_indices(frames: int, alpha: int, rule: str) -> np.ndarray:
  """Returns the indices of the slow pathway's frames among those of the fast one.

  rule: 'linspace', from the first to the last, truncated (PySlowFast, e.g. 0 4 8 13 17 22 26 31),
  or 'stride', every alpha-th (MMAction). Raises ValueError where alpha does not divide the frames.
  """
  if frames % alpha or rule not in ('linspace', 'stride'):
    raise ValueError(
      f"frames={frames}, alpha={alpha}, slow_frames={rule!r}: need a multiple, and 'linspace' or "
      "'stride'"
    )
  count = frames // alpha
  return (
    np.linspace(0, frames - 1, count).astype(int)
    if rule == 'linspace'
    else np.arange(count) * alpha
  )


class Lateral(nn.Module):
  """Lateral connection: concatenates fast features to the slow ones. A convolution through time, of
  stride alpha, doubles the width of the fast features first."""

  alpha: int
  frames: int
  normed: bool
  config: BlockConfig

  @nn.compact
  def __call__(self, slow: Float[Array, 'b t h w c'], fast: Float[Array, 'b u h w d'], train: bool):
    kernel, padding = (self.frames, 1, 1), (self.frames // 2, 0, 0)
    y = self.config.conv(
      2 * fast.shape[-1], kernel, strides=(self.alpha, 1, 1), padding=padding, name='conv'
    )(fast)
    if self.normed:
      y = nn.relu(self.config.norm(name='norm')(y, train=train))
    return jnp.concatenate([slow, y], axis=-1)


class Backbone(types.Backbone):
  """SlowFast: two bottleneck ResNets, with lateral connections from fast to slow after the stem and
  res2 to res4.

  Attributes:
    depths: blocks of res2 to res5.
    alpha: fast frames for one slow frame; 1 for images (clips of one frame). Frames of a clip are
      the fast ones.
    fusion: temporal kernel size of the lateral connections.
    fusion_norm: norm and ReLU after each lateral convolution.
    long: number of blocks of res4 with temporal kernels, 0 = all; or two numbers, of the slow and
      the fast pathway.
    non_local: of the slow pathway, see layers.settings.
    slow_frames: rule of slow_indices.
    fast_first: the fast pathway comes first in the pooled features (MMAction's head).
    space_strides, dilations: of the stages (detection: res5 at stride 1 and dilation 2).
    norm, sts: see layers.settings.
    width: multiplies every width, for tiny models.
    drop_path: stochastic depth rate of the last block of each pathway; the rate rises linearly from
      0.
  """

  depths: Sequence[int]
  alpha: int
  fusion: int
  fusion_norm: bool = True
  long: int | tuple[int, int] = 0
  non_local: NonLocal = NonLocal()
  slow_frames: str = 'linspace'
  fast_first: bool = False
  space_strides: Sequence[int] = (1, 2, 2, 2)
  dilations: Sequence[int] = (1, 1, 1, 1)
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
    """Returns features: maps, res5 of slow (B, T / alpha, H', W', 2048) and fast (B, T, H', W',
    256), in reverse order with fast_first; pooled, their means side by side (B, 2304), float32 at
    least.

    Raises ValueError for a mask, for unknown settings, for block numbers that do not exist, and for
    frames that alpha does not divide.
    """
    if token_mask is not None:
      raise ValueError(
        'token_mask is given, but SlowFast has no tokens to leave out: use models/vit.py for '
        'masked training'
      )
    self._check()
    config = block_config(self, self.sts)
    attend = make_non_local(self.non_local, self.dtype)
    base = max(RATIO, round(64 * self.width / RATIO) * RATIO)
    video = video.astype(self.dtype)
    alpha = (
      self.alpha if video.shape[1] > 1 else 1
    )  # both pathways take an image (Li et al. 2022, sec. 3.2)
    indices = slow_indices(video.shape[1], alpha, self.slow_frames)
    pool = lambda x: max_pool(x, (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))
    slow = pool(Stem(1, base, 0, config, name='slow_stem')(video[:, indices], train))
    fast = pool(Stem(5, base // RATIO, 0, config, name='fast_stem')(video, train))
    slow = Lateral(alpha, self.fusion, self.fusion_norm, config, name='lateral1')(slow, fast, train)
    rates = staged_rates(self.drop_path, self.depths)
    for i, depth in enumerate(self.depths):
      stage = functools.partial(
        Stage,
        depth=depth,
        kind='2d',
        strides=(1, self.space_strides[i]),
        bottleneck=True,
        config=config,
        dilation=self.dilations[i],
        remat=self.remat,
        drop_path=rates[i],
      )
      features = base * 2**i
      first = self._through(0, i) if i > 1 else (1,)
      places: dict[str, Any] = dict(nonlocals=self.non_local.blocks[i], attend=attend)
      slow = stage(
        features=features, out=4 * features, first=first, **places, name=f'slow_res{i + 2}'
      )(slow, train)
      features //= RATIO
      first = self._through(1, i)
      fast = stage(features=features, out=4 * features, first=first, name=f'fast_res{i + 2}')(
        fast, train
      )
      if i < 3:
        slow = Lateral(alpha, self.fusion, self.fusion_norm, config, name=f'lateral{i + 2}')(
          slow, fast, train
        )
    mean = lambda x: x.astype(jnp.promote_types(jnp.float32, x.dtype)).mean((1, 2, 3))
    maps = (fast, slow) if self.fast_first else (slow, fast)
    return Features(maps=maps, pooled=jnp.concatenate([mean(x) for x in maps], axis=-1))

  def _through(self, pathway: int, stage: int) -> tuple[int, ...]:
    """Returns the temporal kernel sizes of the first convolutions of a stage. On the slow pathway,
    only res4 and res5 have temporal kernels."""
    long = (self.long, self.long)[pathway] if isinstance(self.long, int) else self.long[pathway]
    return (3,) * long + (1,) * (self.depths[stage] - long) if stage == 2 and long else (3,)

  def _check(self):
    for name in ('depths', 'space_strides', 'dilations'):
      if len(getattr(self, name)) != 4:
        raise ValueError(f'{name}={getattr(self, name)}: give four values, for res2 to res5')
    both = (self.long, self.long) if isinstance(self.long, int) else tuple(self.long)
    if len(both) != 2 or not all(0 <= blocks <= self.depths[2] for blocks in both):
      raise ValueError(
        f'long={self.long}: give the number of blocks of res4, 0 to {self.depths[2]}, or two, of '
        'slow and fast'
      )
    check_nonlocals(self.non_local.blocks, self.depths)
