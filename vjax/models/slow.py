"""C2D, I3D and Slow: bottlenecks whose first convolutions look through time or not, with non-local
blocks or without.

(Wang et al., CVPR 2018; Feichtenhofer et al., ICCV 2019; Carreira & Zisserman, CVPR 2017, in the
form of PySlowFast.)
"""

import functools
from collections.abc import Sequence
from typing import Any

from vjax.layers import temporal
from vjax.layers.resnet import ResNet, check_nonlocals, check_pools, check_stages, pool_stage

MODELS: dict[str, dict[str, Any]] = {
  # PySlowFast and PyTorchVideo (Wang et al. 2018; Feichtenhofer et al. 2019).
  'c2d_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, zero_last=True, pools=('half', '', '', ''),
  ),
  'c2d_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, zero_last=True, pools=('half', '', '', ''),
  ),
  'c2d_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, zero_last=True, pools=('half', '', '', ''),
  ),
  'c2d_nln_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, zero_last=True, pools=('half', '', '', ''),
    nonlocals=((), (1, 3), (1, 3, 5), ()),
  ),
  'c2d_nln_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, zero_last=True, pools=('half', '', '', ''),
    nonlocals=((), (1, 3), (1, 3, 5), ()),
  ),
  'c2d_nln_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, zero_last=True, pools=('half', '', '', ''),
    nonlocals=((), (1, 3), (1, 3, 5), ()),
  ),
  'c2d_nopool_r50': dict(depths=(3, 4, 6, 3), bottleneck=True, pool1=True, zero_last=True),
  'c2d_nopool_r101': dict(depths=(3, 4, 23, 3), bottleneck=True, pool1=True, zero_last=True),
  'c2d_nopool_r152': dict(depths=(3, 8, 36, 3), bottleneck=True, pool1=True, zero_last=True),
  'i3d_3x1x1_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, zero_last=True, stem=5,
    first=((3,), (3, 1), (3, 1), (1, 3)), pools=('half', '', '', ''),
  ),
  'i3d_3x1x1_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, zero_last=True, stem=5,
    first=((3,), (3, 1), (3, 1), (1, 3)), pools=('half', '', '', ''),
  ),
  'i3d_3x1x1_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, zero_last=True, stem=5,
    first=((3,), (3, 1), (3, 1), (1, 3)), pools=('half', '', '', ''),
  ),
  'i3d_nln_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, zero_last=True, stem=5,
    first=((3,), (3, 1), (3, 1), (1, 3)), pools=('half', '', '', ''),
    nonlocals=((), (1, 3), (1, 3, 5), ()),
  ),
  'i3d_nln_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, zero_last=True, stem=5,
    first=((3,), (3, 1), (3, 1), (1, 3)), pools=('half', '', '', ''),
    nonlocals=((), (1, 3), (1, 3, 5), ()),
  ),
  'i3d_nln_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, zero_last=True, stem=5,
    first=((3,), (3, 1), (3, 1), (1, 3)), pools=('half', '', '', ''),
    nonlocals=((), (1, 3), (1, 3, 5), ()),
  ),
  'slow_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,), (3,)),
  ),
  'slow_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,), (3,)),
  ),
  'slow_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,), (3,)),
  ),
  'slow_nln_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,), (3,)), nonlocals=((), (1, 3), (1, 3, 5), ()), nonlocal_kind='dot',
  ),
  'slow_nln_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,), (3,)), nonlocals=((), (1, 3), (1, 3, 5), ()), nonlocal_kind='dot',
  ),
  'slow_nln_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,), (3,)), nonlocals=((), (1, 3), (1, 3, 5), ()), nonlocal_kind='dot',
  ),
  # PySlowFast's "50_50": the first six blocks of res4 look through time.
  'slow_50_50_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,) * 6, (3,)),
  ),
  'slow_50_50_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,) * 6 + (1,) * 17, (3,)),
  ),
  'slow_50_50_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,) * 6 + (1,) * 30, (3,)),
  ),
  # MMAction: non-local blocks pooled in its way.
  'slow_nl_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,), (3,)), nonlocals=((), (0, 2), (0, 2, 4), ()), nonlocal_pool='after',
  ),
  # Image pre-training (ECCV 2022, table 5): STS convolution.
  'sts_slow_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, first=((1,), (1,), (3,), (3,)),
    zero_last=True, sts='sts',
  ),
  'sts_3x1x1_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3, first=((3,), (3,), (3,), (3,)),
    sts='sts',
  ),
  'sts_3x3x3_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
    sts='sts',
  ),
}  # fmt: skip
HEAD: dict[str, Any] = {}
CLIP = (8, 224)


class Backbone(ResNet):
  """C2D, I3D or Slow, by `stem` and `first`; see MODELS for the published settings and
  layers.resnet.ResNet for those that all ResNets share.

  Attributes:
    first: per stage, the frames that the first convolutions of bottlenecks look at, a pattern over
      its blocks.
    dilations: of each stage, in space (detection: res5 at stride 1 and dilation 2).
    pools: what follows each stage, see layers.resnet.pool_stage.
    nonlocals: per stage, the blocks after which a non-local block follows.
    nonlocal_kind, nonlocal_scaled, nonlocal_pool, nonlocal_size: of layers.temporal.NonLocal.
  """

  first: Sequence[Sequence[int]] = ((1,),) * 4
  dilations: Sequence[int] = (1, 1, 1, 1)
  pools: Sequence[str] = ('', '', '', '')
  nonlocals: Sequence[Sequence[int]] = ((), (), (), ())
  nonlocal_kind: str = 'softmax'
  nonlocal_scaled: bool = True
  nonlocal_pool: str = 'before'
  nonlocal_size: Sequence[int] = (1, 2, 2)

  def stage_settings(self, stage: int) -> dict[str, Any]:
    attend = functools.partial(
      temporal.NonLocal,
      kind=self.nonlocal_kind,
      scaled=self.nonlocal_scaled,
      pool=self.nonlocal_pool,
      size=tuple(self.nonlocal_size),
      dtype=self.dtype,
    )
    return dict(
      first=self.first[stage],
      dilation=self.dilations[stage],
      nonlocals=self.nonlocals[stage],
      attend=attend,
    )

  def after_stage(self, stage: int, x):
    return pool_stage(x, self.pools[stage])

  def check(self, mask, frames: int) -> None:
    super().check(mask, frames)
    check_stages(self, 'first', 'dilations', 'pools', 'nonlocals')
    check_nonlocals(self.nonlocals, self.depths)
    check_pools(self.pools, frames)
