"""ResNets of the unified framework: TSN, TAM, TSM, non-local networks, I3D and S3D.

TSN has 2D convolutions alone. TAM, TSM and non-local networks mix frames between 2D convolutions.
I3D and S3D have temporal kernels in every 3x3 convolution.

(Chen et al., CVPR 2021, sec. 3; TSN: Wang et al., ECCV 2016; TAM: Fan et al., NeurIPS 2019; TSM:
Lin et al., ICCV 2019; S3D: Xie et al., ECCV 2018.)
"""

import functools
from collections.abc import Sequence
from typing import Any

from vjax.layers import temporal
from vjax.layers.resnet import (
  ResNet,
  check_choices,
  check_nonlocals,
  check_pools,
  check_stages,
  make_non_local,
  pool_stage,
)
from vjax.layers.settings import NonLocal, TemporalModule

MODELS: dict[str, dict[str, Any]] = {
  # The unified framework (Chen et al. 2021, sec. 3). Its I3D inflates the 3x3 convolutions.
  'tsn_r18': dict(depths=(2, 2, 2, 2), bottleneck=False, pool1=True),
  'tsn_r34': dict(depths=(3, 4, 6, 3), bottleneck=False, pool1=True),
  'tsn_r50': dict(depths=(3, 4, 6, 3), bottleneck=True, pool1=True),
  'tsn_r101': dict(depths=(3, 4, 23, 3), bottleneck=True, pool1=True),
  'tsn_r152': dict(depths=(3, 8, 36, 3), bottleneck=True, pool1=True),
  'tam_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, temporal=TemporalModule('tam'),
  ),
  'tam_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, temporal=TemporalModule('tam'),
  ),
  'tam_r50': dict(depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tam')),
  'tam_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tam'),
  ),
  'tam_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tam'),
  ),
  'tam_dense_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, temporal=TemporalModule('tam', dense=True),
  ),
  'tam_dense_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, temporal=TemporalModule('tam', dense=True),
  ),
  'tam_dense_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tam', dense=True),
  ),
  'tam_dense_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tam', dense=True),
  ),
  'tam_dense_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tam', dense=True),
  ),
  'tsm_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, temporal=TemporalModule('tsm'),
  ),
  'tsm_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, temporal=TemporalModule('tsm'),
  ),
  'tsm_r50': dict(depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tsm')),
  'tsm_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tsm'),
  ),
  'tsm_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tsm'),
  ),
  'nln_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True,
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())),
  ),
  'nln_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True,
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())),
  ),
  'nln_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True,
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())),
  ),
  'nln_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True,
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())),
  ),
  'i3d_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
  ),
  'i3d_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
  ),
  'i3d_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
  ),
  'i3d_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
  ),
  'i3d_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
  ),
  's3d_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same',
  ),
  's3d_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same',
  ),
  's3d_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same',
  ),
  's3d_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same',
  ),
  's3d_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same',
  ),
  's3d_dw_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', depthwise=True,
  ),
  's3d_dw_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', depthwise=True,
  ),
  's3d_dw_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', depthwise=True,
  ),
  's3d_dw_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', depthwise=True,
  ),
  's3d_dw_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', depthwise=True,
  ),
  # Squeeze-and-excitation at the end of each branch.
  'i3d_se_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
    se=16,
  ),
  'i3d_se_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
    se=16,
  ),
  'i3d_se_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'), se=16,
  ),
  'i3d_se_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
    se=16,
  ),
  'i3d_se_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
    se=16,
  ),
  # With pooling through time.
  'tsn_tp_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, pools=('max', 'max', 'max', ''),
  ),
  'tsn_tp_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, pools=('max', 'max', 'max', ''),
  ),
  'tsn_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, pools=('max', 'max', 'max', ''),
  ),
  'tsn_tp_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, pools=('max', 'max', 'max', ''),
  ),
  'tsn_tp_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, pools=('max', 'max', 'max', ''),
  ),
  'tam_tp_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, temporal=TemporalModule('tam'),
    pools=('max', 'max', 'max', ''),
  ),
  'tam_tp_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, temporal=TemporalModule('tam'),
    pools=('max', 'max', 'max', ''),
  ),
  'tam_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tam'),
    pools=('max', 'max', 'max', ''),
  ),
  'tam_tp_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tam'),
    pools=('max', 'max', 'max', ''),
  ),
  'tam_tp_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tam'),
    pools=('max', 'max', 'max', ''),
  ),
  'tam_dense_tp_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, temporal=TemporalModule('tam', dense=True),
    pools=('max', 'max', 'max', ''),
  ),
  'tam_dense_tp_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, temporal=TemporalModule('tam', dense=True),
    pools=('max', 'max', 'max', ''),
  ),
  'tam_dense_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tam', dense=True),
    pools=('max', 'max', 'max', ''),
  ),
  'tam_dense_tp_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tam', dense=True),
    pools=('max', 'max', 'max', ''),
  ),
  'tam_dense_tp_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tam', dense=True),
    pools=('max', 'max', 'max', ''),
  ),
  'tsm_tp_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, temporal=TemporalModule('tsm'),
    pools=('max', 'max', 'max', ''),
  ),
  'tsm_tp_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, temporal=TemporalModule('tsm'),
    pools=('max', 'max', 'max', ''),
  ),
  'tsm_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tsm'),
    pools=('max', 'max', 'max', ''),
  ),
  'tsm_tp_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tsm'),
    pools=('max', 'max', 'max', ''),
  ),
  'tsm_tp_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tsm'),
    pools=('max', 'max', 'max', ''),
  ),
  'nln_tp_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True,
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())), pools=('max', 'max', 'max', ''),
  ),
  'nln_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True,
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())), pools=('max', 'max', 'max', ''),
  ),
  'nln_tp_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True,
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())), pools=('max', 'max', 'max', ''),
  ),
  'nln_tp_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True,
    non_local=NonLocal(((), (1, 3), (1, 3, 5), ())), pools=('max', 'max', 'max', ''),
  ),
  'i3d_tp_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
    time_strides=(1, 2, 2, 2),
  ),
  'i3d_tp_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
    time_strides=(1, 2, 2, 2),
  ),
  'i3d_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
    time_strides=(1, 2, 2, 2),
  ),
  'i3d_tp_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
    time_strides=(1, 2, 2, 2),
  ),
  'i3d_tp_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, stem=3, convs=('3d', '3d', '3d', '3d'),
    time_strides=(1, 2, 2, 2),
  ),
  's3d_tp_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', time_strides=(1, 2, 2, 2),
  ),
  's3d_tp_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', time_strides=(1, 2, 2, 2),
  ),
  's3d_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', time_strides=(1, 2, 2, 2),
  ),
  's3d_tp_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', time_strides=(1, 2, 2, 2),
  ),
  's3d_tp_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', time_strides=(1, 2, 2, 2),
  ),
  's3d_dw_tp_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', depthwise=True,
    time_strides=(1, 2, 2, 2),
  ),
  's3d_dw_tp_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', depthwise=True,
    time_strides=(1, 2, 2, 2),
  ),
  's3d_dw_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', depthwise=True,
    time_strides=(1, 2, 2, 2),
  ),
  's3d_dw_tp_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', depthwise=True,
    time_strides=(1, 2, 2, 2),
  ),
  's3d_dw_tp_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, stem=3,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), middle='same', depthwise=True,
    time_strides=(1, 2, 2, 2),
  ),
  # MMAction: one pool through time, after res2; non-local blocks pool after the projections and do
  # not scale.
  'mm_tsm_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tsm'),
    pools=('max', '', '', ''),
  ),
  'tsm_nl_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal=TemporalModule('tsm'),
    non_local=NonLocal(((), (0, 2), (0, 2, 4), ()), pool='after', scaled=False),
  ),
}  # fmt: skip
HEAD: dict[str, Any] = {}
CLIP = (8, 224)


class Backbone(ResNet):
  """A ResNet of the unified framework; see MODELS for the published settings and
  layers.resnet.ResNet for those that all ResNets share.

  Attributes:
    middle, depthwise, se: see layers.resnet.BlockConfig.
    pools: pool through time after each stage, see layers.resnet.pool_stage.
    temporal: layer that mixes frames before the first convolution of blocks, see
      layers.settings.TemporalModule.
    non_local: see layers.settings.NonLocal.
  """

  middle: str = 'conv'
  depthwise: bool = False
  se: int = 0
  pools: Sequence[str] = ('', '', '', '')
  temporal: TemporalModule = TemporalModule()
  non_local: NonLocal = NonLocal()

  def block_settings(self) -> dict[str, Any]:
    """Returns the fields of BlockConfig that the family sets."""
    t = self.temporal
    tam = functools.partial(
      temporal.TAM, taps=t.taps, blend=t.blend, dense=t.dense, start=t.init, dtype=self.dtype
    )
    tsm = lambda name: functools.partial(temporal.shift, fraction=t.fraction)
    mix, mix_shortcut = {
      'tam': (tam, 'projection' if t.in_shortcut else ''),
      'tsm': (tsm, 'all' if t.whole_block else ''),
      '': (None, ''),
    }[t.kind]
    return dict(
      middle=self.middle,
      depthwise=self.depthwise,
      se=self.se,
      mix=mix,
      mix_shortcut=mix_shortcut,
    )

  def stage_settings(self, stage: int) -> dict[str, Any]:
    """Returns the fields of Stage that the family sets, for stage 0 (res2) to 3 (res5)."""
    return dict(
      mixed=self.mixed()[stage],
      nonlocals=self.non_local.blocks[stage],
      attend=make_non_local(self.non_local, self.dtype),
    )

  def after_stage(self, stage: int, x):
    return pool_stage(x, self.pools[stage])

  def mixed(self) -> list[list[bool]]:
    """Returns, per stage and block, whether the block mixes frames.

    Where res4 has 23 blocks or more, TSM shifts in every second block of each stage, as released;
    with whole_block in all. Raises ValueError for block numbers that do not exist.
    """
    total, rest = sum(self.depths), iter(range(sum(self.depths)))
    halves = {
      'all': range(total),
      'bottom': range(total // 2),
      'top': range(total // 2, total),
      'uniform': range(0, total, 2),
    }
    t = self.temporal
    chosen = halves[t.where] if isinstance(t.where, str) else t.where
    if beyond := sorted(set(chosen) - set(range(total))):
      raise ValueError(
        f'temporal.where={tuple(chosen)}: there is no block {beyond[0]}, give numbers from 0 to '
        f'{total - 1}'
      )
    every = 2 if t.kind == 'tsm' and self.depths[2] >= 23 and not t.whole_block else 1
    return [
      [bool(t.kind) and next(rest) in chosen and i % every == 0 for i in range(depth)]
      for depth in self.depths
    ]

  def check(self, token_mask, frames: int) -> None:
    """Raises ValueError for a token mask, and for settings of stages that are not four values."""
    super().check(token_mask, frames)
    check_stages(self, 'pools')
    check_choices(self, middle=('conv', 'block', 'same'))
    where = ('all', 'bottom', 'top', 'uniform')
    check_choices(self.temporal, kind=('', 'tam', 'tsm'), where=where)
    check_nonlocals(self.non_local.blocks, self.depths)
    check_pools(self.pools, frames)
