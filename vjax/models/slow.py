"""C2D, I3D and Slow: ResNets whose bottlenecks begin with a convolution over one or several frames,
with or without non-local blocks.

(Wang et al., CVPR 2018; Feichtenhofer et al., ICCV 2019; Carreira & Zisserman, CVPR 2017, in the
form of PySlowFast.)
"""

from collections.abc import Sequence
from typing import Any

from vjax.layers.resnet import (
  ResNet,
  check_nonlocals,
  check_pools,
  check_stages,
  make_non_local,
  pool_stage,
)
from vjax.layers.settings import STS, NonLocal

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
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())),
  ),
  'c2d_nln_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, zero_last=True, pools=('half', '', '', ''),
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())),
  ),
  'c2d_nln_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, zero_last=True, pools=('half', '', '', ''),
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())),
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
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())),
  ),
  'i3d_nln_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, zero_last=True, stem=5,
    first=((3,), (3, 1), (3, 1), (1, 3)), pools=('half', '', '', ''),
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())),
  ),
  'i3d_nln_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, zero_last=True, stem=5,
    first=((3,), (3, 1), (3, 1), (1, 3)), pools=('half', '', '', ''),
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())),
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
    first=((1,), (1,), (3,), (3,)), non_local=NonLocal(((), (1, 3), (1, 3, 5), ()), kind='dot'),
  ),
  'slow_nln_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,), (3,)), non_local=NonLocal(((), (1, 3), (1, 3, 5), ()), kind='dot'),
  ),
  'slow_nln_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,), (3,)), non_local=NonLocal(((), (1, 3), (1, 3, 5), ()), kind='dot'),
  ),
  # PySlowFast's "50_50": the first six blocks of res4 have temporal kernels.
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
  # MMAction: non-local blocks pool keys and values after their projections.
  'slow_nl_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, zero_last=True,
    first=((1,), (1,), (3,), (3,)), non_local=NonLocal(((), (0, 2), (0, 2, 4), ()), pool='after'),
  ),
  # Image pre-training (ECCV 2022, table 5): STS convolution.
  'sts_slow_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, first=((1,), (1,), (3,), (3,)),
    zero_last=True, sts=STS('sts'),
  ),
  'sts_3x1x1_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3, first=((3,), (3,), (3,), (3,)),
    sts=STS('sts'),
  ),
  'sts_3x3x3_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
    sts=STS('sts'),
  ),
}  # fmt: skip
HEAD: dict[str, Any] = {}
CLIP = (8, 224)


class Backbone(ResNet):
  """C2D, I3D or Slow, by `stem` and `first`; see MODELS for the published settings and
  layers.resnet.ResNet for those that all ResNets share.

  Attributes:
    first: per stage, temporal kernel sizes of the bottlenecks' first convolutions, a pattern that
      repeats over the blocks.
    dilations: of each stage, in space (detection: res5 at stride 1 and dilation 2).
    pools: pool through time after each stage, see layers.resnet.pool_stage.
    non_local: see layers.settings.NonLocal.
  """

  first: Sequence[Sequence[int]] = ((1,),) * 4
  dilations: Sequence[int] = (1, 1, 1, 1)
  pools: Sequence[str] = ('', '', '', '')
  non_local: NonLocal = NonLocal()

  def stage_settings(self, stage: int) -> dict[str, Any]:
    """Returns the fields of Stage that the family sets, for stage 0 (res2) to 3 (res5)."""
    return dict(
      first=self.first[stage],
      dilation=self.dilations[stage],
      nonlocals=self.non_local.blocks[stage],
      attend=make_non_local(self.non_local, self.dtype),
    )

  def after_stage(self, stage: int, x):
    return pool_stage(x, self.pools[stage])

  def check(self, token_mask, frames: int) -> None:
    """Raises ValueError for a token mask, and for settings of stages that are not four values."""
    super().check(token_mask, frames)
    check_stages(self, 'first', 'dilations', 'pools')
    check_nonlocals(self.non_local.blocks, self.depths)
    check_pools(self.pools, frames)
