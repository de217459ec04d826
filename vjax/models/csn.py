"""Channel-separated networks (CSN), whose 3x3x3 convolutions are depthwise: 'ir' alone, 'ip' after
a 1x1x1 convolution that keeps the interaction of channels.

(Tran et al., ICCV 2019.)
"""

from typing import Any

from vjax.layers.resnet import ResNet
from vjax.layers.settings import STS, Norm

MODELS: dict[str, dict[str, Any]] = {
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
  # VMZ, with another eps. MMAction's weights are VMZ's.
  'vmz_ir_csn_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, stem=3, convs=('ir', 'ir', 'ir', 'ir'),
    time_strides=(1, 2, 2, 2), pool1=True, norm=Norm(eps=1e-3),
  ),
  'vmz_ir_csn_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, stem=3, convs=('ir', 'ir', 'ir', 'ir'),
    time_strides=(1, 2, 2, 2), pool1=True, norm=Norm(eps=1e-3),
  ),
  'vmz_ir_csn_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, stem=3, convs=('ir', 'ir', 'ir', 'ir'),
    time_strides=(1, 2, 2, 2), pool1=True, norm=Norm(eps=1e-3),
  ),
  'vmz_ip_csn_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, stem=3, convs=('ip', 'ip', 'ip', 'ip'),
    time_strides=(1, 2, 2, 2), pool1=True, norm=Norm(eps=1e-3),
  ),
  'vmz_ip_csn_r101': dict(
    depths=(3, 4, 23, 3), bottleneck=True, stem=3, convs=('ip', 'ip', 'ip', 'ip'),
    time_strides=(1, 2, 2, 2), pool1=True, norm=Norm(eps=1e-3),
  ),
  'vmz_ip_csn_r152': dict(
    depths=(3, 8, 36, 3), bottleneck=True, stem=3, convs=('ip', 'ip', 'ip', 'ip'),
    time_strides=(1, 2, 2, 2), pool1=True, norm=Norm(eps=1e-3),
  ),
  # Image pre-training (ECCV 2022, table 5): no stride in time, STS convolution.
  'sts_ir_csn_r50': dict(
    depths=(3, 4, 6, 3), bottleneck=True, pool1=True, stem=3, convs=('ir', 'ir', 'ir', 'ir'),
    norm=Norm(eps=1e-3), sts=STS('sts'),
  ),
}  # fmt: skip
HEAD: dict[str, Any] = {}
CLIP = (8, 224)


class Backbone(ResNet):
  """ir-CSN or ip-CSN, by `convs`; see MODELS for the published settings and layers.resnet.ResNet
  for their meaning."""
