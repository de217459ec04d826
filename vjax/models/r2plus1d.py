"""R2D, R3D, MC3 and R(2+1)D: residual networks of 3D, 2D and factorized convolutions.

(Tran et al., CVPR 2018; Ghadiyaram et al., CVPR 2019.)
"""

from typing import Any

from vjax.layers.resnet import ResNet, check_choices
from vjax.layers.settings import STS, Norm

MODELS: dict[str, dict[str, Any]] = {
  # VMZ's Caffe2 and PyTorch releases (Ghadiyaram et al. 2019, table 2).
  'r2d_18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, norm=Norm(eps=1e-3), time_strides=(1, 2, 2, 2),
  ),
  'r3d_18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, norm=Norm(eps=1e-3), time_strides=(1, 2, 2, 2), stem=3,
    convs=('3d', '3d', '3d', '3d'),
  ),
  'r3d_34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, norm=Norm(eps=1e-3), time_strides=(1, 2, 2, 2), stem=3,
    convs=('3d', '3d', '3d', '3d'),
  ),
  'r3d_101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, norm=Norm(eps=1e-3), time_strides=(1, 2, 2, 2), stem=3,
    convs=('3d', '3d', '3d', '3d'),
  ),
  'r3d_152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, norm=Norm(eps=1e-3), time_strides=(1, 2, 2, 2), stem=3,
    convs=('3d', '3d', '3d', '3d'),
  ),
  'r2plus1d_18': dict(
    depths=(2, 2, 2, 2), bottleneck=False, norm=Norm(eps=1e-3), time_strides=(1, 2, 2, 2),
    stem='2plus1d', convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'),
  ),
  'r2plus1d_34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, norm=Norm(eps=1e-3), time_strides=(1, 2, 2, 2),
    stem='2plus1d', convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'),
  ),
  'r2plus1d_101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, norm=Norm(eps=1e-3), time_strides=(1, 2, 2, 2),
    stem='2plus1d', convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'),
  ),
  'r2plus1d_152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, norm=Norm(eps=1e-3), time_strides=(1, 2, 2, 2),
    stem='2plus1d', convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'),
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
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), split_shortcut=True,
    norm=Norm(eps=1e-3, inner_eps=1e-5), time_strides=(1, 2, 2, 2),
  ),
  # Image pre-training (ECCV 2022, table 5): MMAction's without stride in time, with STS
  # convolution.
  'sts_r2plus1d_r34': dict(
    depths=(3, 4, 6, 3), bottleneck=False, pool1=True, stem='2plus1d', stem_middle=83,
    convs=('2plus1d', '2plus1d', '2plus1d', '2plus1d'), split_shortcut=True,
    norm=Norm(eps=1e-3, inner_eps=1e-5), sts=STS('sts'),
  ),
}  # fmt: skip
HEAD: dict[str, Any] = {}
CLIP = (8, 224)


class Backbone(ResNet):
  """R2D, R3D, MC3 or R(2+1)D, by `stem` and `convs`; see MODELS for the published settings and
  layers.resnet.ResNet for those that all ResNets share.

  Attributes:
    stem_middle: channels between the two convolutions of the stem '2plus1d'. VMZ and torchvision
      have 45; layers.resnet.middle_width gives 83.
    middle, time_first, split_shortcut: of (2+1)D convolutions, see layers.resnet.BlockConfig.
  """

  stem_middle: int = 45
  middle: str = 'conv'
  time_first: bool = False
  split_shortcut: bool = False

  def stem_width(self) -> int:
    return self.stem_middle

  def block_settings(self) -> dict[str, Any]:
    return dict(middle=self.middle, time_first=self.time_first, split_shortcut=self.split_shortcut)

  def check(self, token_mask, frames: int) -> None:
    super().check(token_mask, frames)
    check_choices(self, middle=('conv', 'block', 'same'))
