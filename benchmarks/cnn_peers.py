"""PyTorch peers of the CNN zoo: PyTorchVideo's networks, its Slow with STS convolution, and
TAM-ResNet-50 under its authors' names (theirs are no packages).

Videos are (B, 3, T, H, W). Needs PyTorch and PyTorchVideo: pip install -e '.[bench]'
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers import CLASSES

I3D = ((3, 1, 1), [(3, 1, 1), (1, 1, 1)], [(3, 1, 1), (1, 1, 1)], [(1, 1, 1), (3, 1, 1)])


class Setting(NamedTuple):
  """Settings of a comparison: vjax's name of the network, the clip (frames, side), the bar for
  vjax's time over PyTorch's, and what the backbone has besides."""

  source: str
  variant: str
  clip: tuple[int, int]
  bar: float
  backbone: dict[str, Any] = {}


SETTINGS = {
  'x3d_s': Setting('pytorchvideo', 'ptv_x3d_s', (13, 160), 1.0),
  'x3d_m': Setting('pytorchvideo', 'ptv_x3d_m', (16, 224), 1.0),
  'csn_50': Setting('pytorchvideo', 'ir_csn_r50', (8, 224), 1.0),
  'tam_r50': Setting('ibm', 'tam_r50', (8, 224), 1.0),
  'slow_r50': Setting('pytorchvideo', 'slow_r50', (8, 224), 1.3),
  'sts_slow_r50': Setting('pytorchvideo', 'slow_r50', (8, 224), 1.3, {'sts': {'variant': 'sts'}}),
  'slowfast_4x16': Setting('pytorchvideo', 'slowfast_r50_4x16', (32, 224), 1.3),
  'slowfast_8x8': Setting('pytorchvideo', 'slowfast_r50_8x8', (32, 224), 1.3),
  'i3d_r50': Setting('pytorchvideo', 'i3d_3x1x1_r50', (8, 224), 1.3),
}


class Classifier(nn.Module):
  """One of PyTorchVideo's networks with a loss; its parameters keep their names.

  alpha: the slow pathway sees every alpha-th frame; 0: there is one pathway.
  """

  def __init__(self, network: nn.Module, alpha: int = 0):
    super().__init__()
    self.blocks, self.alpha = network.blocks, alpha

  def forward(self, video: Tensor) -> Tensor:
    x: Any = video
    if self.alpha:
      frames = np.linspace(0, video.shape[2] - 1, video.shape[2] // self.alpha).astype(int)
      x = [video[:, :, frames], video]
    for block in self.blocks:
      x = block(x)
    return x

  def loss(self, video: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy."""
    return F.cross_entropy(self(video).float(), label)


def make(name: str) -> nn.Module:
  """The peer of a name in SETTINGS, with the weights of its start."""
  frames, side = SETTINGS[name].clip
  if name == 'tam_r50':
    return TAM(frames)
  from pytorchvideo.models import create_csn, create_resnet, create_slowfast, x3d

  every = dict(model_num_class=CLASSES, dropout_rate=0.0)
  if name.startswith('x3d'):
    network = x3d.create_x3d(
      input_clip_length=frames, input_crop_size=side, head_activation=None, **every
    )
  elif name == 'csn_50':
    network = create_csn(model_depth=50, stem_pool=nn.MaxPool3d, **every)
  elif name.startswith('slowfast'):
    taps, stride = {'slowfast_4x16': (5, 8), 'slowfast_8x8': (7, 4)}[name]
    widths = dict(slowfast_channel_reduction_ratio=(8,), slowfast_conv_channel_fusion_ratio=2)
    fusion = dict(
      slowfast_fusion_conv_kernel_size=(taps, 1, 1), slowfast_fusion_conv_stride=(stride, 1, 1)
    )
    network = create_slowfast(**widths, **fusion, **every)
  elif name == 'i3d_r50':
    halve = dict(stage1_pool=nn.MaxPool3d, stage1_pool_kernel_size=(2, 1, 1))
    network = create_resnet(
      stem_conv_kernel_size=(5, 7, 7), stage_conv_a_kernel_size=I3D, **halve, **every
    )
  else:
    slow = ((1, 1, 1), (1, 1, 1), (3, 1, 1), (3, 1, 1))
    network = create_resnet(stem_conv_kernel_size=(1, 7, 7), stage_conv_a_kernel_size=slow, **every)
  for module in list(network.modules()):
    for child, part in list(module.named_children()):
      if isinstance(part, nn.AvgPool3d):  # made for one size; now of any clip
        setattr(module, child, nn.AdaptiveAvgPool3d(1))
      elif name == 'sts_slow_r50' and child == 'conv_a' and part.kernel_size == (3, 1, 1):
        setattr(module, child, STS(part.in_channels, part.out_channels))
  for (
    module
  ) in network.modules():  # PyTorchVideo leaves NumPy's integers, which torch.compile does not take
    for key in ('stride', 'kernel_size', 'padding', 'dilation'):
      if isinstance(getattr(module, key, None), tuple):
        setattr(module, key, tuple(int(n) for n in getattr(module, key)))
  return Classifier(network, alpha={'slowfast_4x16': 8, 'slowfast_8x8': 4}.get(name, 0))


class STS(nn.Conv3d):
  """3x1x1 convolution whose first quarter of outputs runs along rows, the second along columns,
  lines end to end."""

  def __init__(self, inputs: int, outputs: int):
    super().__init__(inputs, outputs, (3, 1, 1), padding=(1, 0, 0), bias=False)

  def forward(self, x: Tensor) -> Tensor:
    quarter, turned = self.out_channels // 4, x.transpose(3, 4)
    rows = self._along(x, self.weight[:quarter]).reshape(x.shape[0], quarter, *x.shape[2:])
    columns = self._along(turned, self.weight[quarter : 2 * quarter]).reshape(
      x.shape[0], quarter, *turned.shape[2:]
    )
    dynamic = F.conv3d(x, self.weight[2 * quarter :], padding=(1, 0, 0))
    return torch.cat([rows, columns.transpose(3, 4), dynamic], 1)

  @staticmethod
  def _along(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x.flatten(3), weight[..., 0].transpose(2, 3), padding=(0, 1))


class Tap(nn.Module):
  """One weight a channel."""

  def __init__(self, channels: int):
    super().__init__()
    self.fc1 = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)


class Blend(nn.Module):
  """ReLU of three neighboring frames, weighted by channel; frames are folded into the batch."""

  def __init__(self, channels: int, frames: int):
    super().__init__()
    self.frames = frames
    self.prev_se, self.curr_se, self.next_se = Tap(channels), Tap(channels), Tap(channels)

  def forward(self, x: Tensor) -> Tensor:
    x = x.unflatten(0, (-1, self.frames))
    none = torch.zeros_like(x[:, :1])
    earlier, later = torch.cat([none, x[:, :-1]], 1), torch.cat([x[:, 1:], none], 1)
    taps = ((self.prev_se, earlier), (self.curr_se, x), (self.next_se, later))
    return F.relu(sum(tap.fc1(y.flatten(0, 1)) for tap, y in taps))


class Bottleneck(nn.Module):
  """TAM, then 1x1, 3x3 with the stride, 1x1; the shortcut sees what came in."""

  def __init__(self, inputs: int, inner: int, stride: int, frames: int):
    super().__init__()
    self.tam = Blend(inputs, frames)
    self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
    self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
    self.conv3, self.bn3 = nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner)
    self.downsample = None
    if stride != 1 or inputs != 4 * inner:
      shortcut = nn.Conv2d(inputs, 4 * inner, 1, stride, bias=False)
      self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * inner))

  def forward(self, x: Tensor) -> Tensor:
    shortcut = x if self.downsample is None else self.downsample(x)
    y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(self.tam(x)))))))
    return F.relu(shortcut + self.bn3(self.conv3(y)))


class TAM(nn.Module):
  """ResNet-50 on frames with TAM in every block; scores are the mean over frames."""

  def __init__(self, frames: int):
    super().__init__()
    self.frames = frames
    self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
    inputs = 64
    for number, depth in enumerate((3, 4, 6, 3), start=1):
      inner, blocks = 32 * 2**number, []
      for i in range(depth):
        blocks.append(Bottleneck(inputs, inner, 2 if number > 1 and i == 0 else 1, frames))
        inputs = 4 * inner
      setattr(self, f'layer{number}', nn.Sequential(*blocks))
    self.fc = nn.Linear(inputs, CLASSES)

  def forward(self, video: Tensor) -> Tensor:
    x = video.transpose(1, 2).flatten(0, 1)
    x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
    x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
    return self.fc(x.mean((2, 3))).unflatten(0, (-1, self.frames)).mean(1)

  def loss(self, video: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy."""
    return F.cross_entropy(self(video).float(), label)
