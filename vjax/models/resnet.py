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

MODELS: dict[str, dict[str, Any]] = {
  # VMZ's Caffe2 and PyTorch releases (Ghadiyaram et al. 2019, table 2).
  'r2d_18': dict(depths=(2, 2, 2, 2), bottleneck=False, eps=1e-3, time_strides=(1, 2, 2, 2)),
  'r3d_18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, eps=1e-3, time_strides=(1, 2, 2, 2), stem=3,
    convs=('3d', '3d', '3d', '3d'),
  ),
  'r3d_34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, eps=1e-3, time_strides=(1, 2, 2, 2), stem=3,
    convs=('3d', '3d', '3d', '3d'),
  ),
  'r3d_101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, eps=1e-3, time_strides=(1, 2, 2, 2), stem=3,
    convs=('3d', '3d', '3d', '3d'),
  ),
  'r3d_152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, eps=1e-3, time_strides=(1, 2, 2, 2), stem=3,
    convs=('3d', '3d', '3d', '3d'),
  ),
  'r2plus1d_18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, eps=1e-3, time_strides=(1, 2, 2, 2), stem='2plus1d',
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'),
  ),
  'r2plus1d_34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, eps=1e-3, time_strides=(1, 2, 2, 2), stem='2plus1d',
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'),
  ),
  'r2plus1d_101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, eps=1e-3, time_strides=(1, 2, 2, 2), stem='2plus1d',
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'),
  ),
  'r2plus1d_152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, eps=1e-3, time_strides=(1, 2, 2, 2), stem='2plus1d',
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'),
  ),
  # torchvision (Tran et al. 2018).
  'tv_r3d_18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, middle='block', time_strides=(1, 2, 2, 2), stem=3,
    convs=('3d', '3d', '3d', '3d'),
  ),
  'tv_mc3_18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, middle='block', time_strides=(1, 2, 2, 2), stem=3,
    convs=('3d', '2d', '2d', '2d'),
  ),
  'tv_r2plus1d_18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, middle='block', time_strides=(1, 2, 2, 2),
    stem='2plus1d', convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'),
  ),
  # PyTorchVideo.
  'ptv_r2plus1d_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'),
    middle='same', time_first=True, time_strides=(1, 1, 2, 2), space_strides=(2, 2, 2, 2),
  ),
  # MMAction.
  'mm_r2plus1d_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, stem='2plus1d', stem_middle=83,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), split_shortcut=True, eps=1e-3,
    inner_eps=1e-5, time_strides=(1, 2, 2, 2),
  ),
  # Image pre-training (ECCV 2022, table 5): MMAction's without stride in time, with its
  # convolution.
  'sts_r2plus1d_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, stem='2plus1d', stem_middle=83,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), split_shortcut=True, eps=1e-3,
    inner_eps=1e-5, sts='sts',
  ),
  # PyTorchVideo (Tran et al. 2019).
  'ir_csn_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, stem=3, convs=('ir', 'ir', 'ir', 'ir'),
    time_strides=(1, 2, 2, 2), pool1=True,
  ),
  'ir_csn_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, stem=3, convs=('ir', 'ir', 'ir', 'ir'),
    time_strides=(1, 2, 2, 2), pool1=True,
  ),
  'ir_csn_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, stem=3, convs=('ir', 'ir', 'ir', 'ir'),
    time_strides=(1, 2, 2, 2), pool1=True,
  ),
  'ip_csn_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, stem=3, convs=('ip', 'ip', 'ip', 'ip'),
    time_strides=(1, 2, 2, 2), pool1=True,
  ),
  'ip_csn_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, stem=3, convs=('ip', 'ip', 'ip', 'ip'),
    time_strides=(1, 2, 2, 2), pool1=True,
  ),
  'ip_csn_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, stem=3, convs=('ip', 'ip', 'ip', 'ip'),
    time_strides=(1, 2, 2, 2), pool1=True,
  ),
  # VMZ's, whose weights MMAction's are: another eps.
  'vmz_ir_csn_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, stem=3, convs=('ir', 'ir', 'ir', 'ir'),
    time_strides=(1, 2, 2, 2), pool1=True, eps=1e-3,
  ),
  'vmz_ir_csn_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, stem=3, convs=('ir', 'ir', 'ir', 'ir'),
    time_strides=(1, 2, 2, 2), pool1=True, eps=1e-3,
  ),
  'vmz_ir_csn_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, stem=3, convs=('ir', 'ir', 'ir', 'ir'),
    time_strides=(1, 2, 2, 2), pool1=True, eps=1e-3,
  ),
  'vmz_ip_csn_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, stem=3, convs=('ip', 'ip', 'ip', 'ip'),
    time_strides=(1, 2, 2, 2), pool1=True, eps=1e-3,
  ),
  'vmz_ip_csn_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, stem=3, convs=('ip', 'ip', 'ip', 'ip'),
    time_strides=(1, 2, 2, 2), pool1=True, eps=1e-3,
  ),
  'vmz_ip_csn_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, stem=3, convs=('ip', 'ip', 'ip', 'ip'),
    time_strides=(1, 2, 2, 2), pool1=True, eps=1e-3,
  ),
  # Image pre-training (ECCV 2022, table 5): no stride in time, STS convolution.
  'sts_ir_csn_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3, convs=('ir', 'ir', 'ir', 'ir'),
    eps=1e-3, sts='sts',
  ),
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
  # The unified framework (Chen et al. 2021, sec. 3). Its I3D inflates the 3x3 convolutions.
  'tsn_r18': dict(depths=(2, 2, 2, 2), bottleneck=False, pool1=True),
  'tsn_r34': dict(depths=(3, 4, 6, 3), bottleneck=False, pool1=True),
  'tsn_r50': dict(depths=(3, 4, 6, 3), bottleneck=True, pool1=True),
  'tsn_r101': dict(depths=(3, 4, 23, 3), bottleneck=True, pool1=True),
  'tsn_r152': dict(depths=(3, 8, 36, 3), bottleneck=True, pool1=True),
  'tam_r18': dict(depths=(2, 2, 2, 2), bottleneck=False, pool1=True, temporal='tam'),
  'tam_r34': dict(depths=(3, 4, 6, 3), bottleneck=False, pool1=True, temporal='tam'),
  'tam_r50': dict(depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal='tam'),
  'tam_r101': dict(depths=(3, 4, 23, 3), bottleneck=True, pool1=True, temporal='tam'),
  'tam_r152': dict(depths=(3, 8, 36, 3), bottleneck=True, pool1=True, temporal='tam'),
  'tam_dense_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, temporal='tam', tam_dense=True,
  ),
  'tam_dense_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, temporal='tam', tam_dense=True,
  ),
  'tam_dense_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal='tam', tam_dense=True,
  ),
  'tam_dense_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, temporal='tam', tam_dense=True,
  ),
  'tam_dense_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, temporal='tam', tam_dense=True,
  ),
  'tsm_r18': dict(depths=(2, 2, 2, 2), bottleneck=False, pool1=True, temporal='tsm'),
  'tsm_r34': dict(depths=(3, 4, 6, 3), bottleneck=False, pool1=True, temporal='tsm'),
  'tsm_r50': dict(depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal='tsm'),
  'tsm_r101': dict(depths=(3, 4, 23, 3), bottleneck=True, pool1=True, temporal='tsm'),
  'tsm_r152': dict(depths=(3, 8, 36, 3), bottleneck=True, pool1=True, temporal='tsm'),
  'nln_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, nonlocals=((), (1, 3), (1, 3, 5), ()),
  ),
  'nln_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, nonlocals=((), (1, 3), (1, 3, 5), ()),
  ),
  'nln_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, nonlocals=((), (1, 3), (1, 3, 5), ()),
  ),
  'nln_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, nonlocals=((), (1, 3), (1, 3, 5), ()),
  ),
  'nln_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, nonlocals=((), (1, 3), (1, 3, 5), ()),
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
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, temporal='tam',
    pools=('max', 'max', 'max', ''),
  ),
  'tam_tp_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, temporal='tam',
    pools=('max', 'max', 'max', ''),
  ),
  'tam_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal='tam',
    pools=('max', 'max', 'max', ''),
  ),
  'tam_tp_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, temporal='tam',
    pools=('max', 'max', 'max', ''),
  ),
  'tam_tp_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, temporal='tam',
    pools=('max', 'max', 'max', ''),
  ),
  'tam_dense_tp_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, temporal='tam', tam_dense=True,
    pools=('max', 'max', 'max', ''),
  ),
  'tam_dense_tp_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, temporal='tam', tam_dense=True,
    pools=('max', 'max', 'max', ''),
  ),
  'tam_dense_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal='tam', tam_dense=True,
    pools=('max', 'max', 'max', ''),
  ),
  'tam_dense_tp_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, temporal='tam', tam_dense=True,
    pools=('max', 'max', 'max', ''),
  ),
  'tam_dense_tp_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, temporal='tam', tam_dense=True,
    pools=('max', 'max', 'max', ''),
  ),
  'tsm_tp_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, temporal='tsm',
    pools=('max', 'max', 'max', ''),
  ),
  'tsm_tp_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, temporal='tsm',
    pools=('max', 'max', 'max', ''),
  ),
  'tsm_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal='tsm',
    pools=('max', 'max', 'max', ''),
  ),
  'tsm_tp_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, temporal='tsm',
    pools=('max', 'max', 'max', ''),
  ),
  'tsm_tp_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, temporal='tsm',
    pools=('max', 'max', 'max', ''),
  ),
  'nln_tp_r18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, pool1=True, nonlocals=((), (1, 3), (1, 3, 5), ()),
    pools=('max', 'max', 'max', ''),
  ),
  'nln_tp_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, nonlocals=((), (1, 3), (1, 3, 5), ()),
    pools=('max', 'max', 'max', ''),
  ),
  'nln_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, nonlocals=((), (1, 3), (1, 3, 5), ()),
    pools=('max', 'max', 'max', ''),
  ),
  'nln_tp_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, pool1=True, nonlocals=((), (1, 3), (1, 3, 5), ()),
    pools=('max', 'max', 'max', ''),
  ),
  'nln_tp_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, pool1=True, nonlocals=((), (1, 3), (1, 3, 5), ()),
    pools=('max', 'max', 'max', ''),
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
  # MMAction: one pool through time, after res2; non-local blocks pooled and scaled in its way.
  'mm_tsm_tp_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal='tsm', pools=('max', '', '', ''),
  ),
  'tsm_nl_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, temporal='tsm',
    nonlocals=((), (0, 2), (0, 2, 4), ()), nonlocal_pool='after', nonlocal_scaled=False,
  ),
}  # fmt: skip
HEAD: dict[str, Any] = {}  # of heads.linear, beside the number of classes
CLIP = (8, 224)  # frames and side of the clips that the size table measures by default


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
