"""PyTorch peers of vjax's models, with the parameter names that `vjax.convert` reads; the other
side of against_torch.py.

R2Plus1D18: R(2+1)D-18 (Tran et al. 2018) under torchvision's names. MAE: masked autoencoder of
clips (Feichtenhofer et al. 2022) under the names of the authors' stand-alone code. Videos are (B,
3, T, H, W). Needs PyTorch: pip install -e '.[bench]'
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 400


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
  """The model with random weights under which activations keep their size, and running statistics
  that are not 0 and 1."""
  torch.manual_seed(seed)
  with torch.no_grad():
    for name, tensor in model.state_dict().items():
      if name.endswith('running_var') or (name.endswith('weight') and tensor.ndim == 1):
        tensor.uniform_(0.5, 1.5)
      elif name.endswith('weight'):
        tensor.normal_(
          std=(2 / tensor[0].numel()) ** 0.5 if tensor.ndim > 2 else tensor.shape[1] ** -0.5
        )
      elif tensor.is_floating_point():
        tensor.normal_(std=0.1)
  return model


def convolution(
  inputs: int, outputs: int, kernel: tuple, stride: tuple, bias: bool = False
) -> nn.Conv3d:
  """A convolution that keeps the size at stride 1."""
  return nn.Conv3d(inputs, outputs, kernel, stride, [k // 2 for k in kernel], bias=bias)


def factored(
  inputs: int, middle: int, outputs: int, stride: int = 1, side: int = 3, space: int = 0
) -> list[nn.Module]:
  """1 x side x side, norm, ReLU, 3x1x1; stride in time and space, or `space` in space alone."""
  steps = (1, space, space) if space else (1, stride, stride)
  spatial = convolution(inputs, middle, (1, side, side), steps)
  return [
    spatial,
    nn.BatchNorm3d(middle),
    nn.ReLU(),
    convolution(middle, outputs, (3, 1, 1), (stride, 1, 1)),
  ]


class Residual(nn.Module):
  """Two (2+1)D convolutions and a shortcut; both have the middle width that the first one asks
  for."""

  def __init__(self, inputs: int, outputs: int, stride: int):
    super().__init__()
    middle = 27 * inputs * outputs // (9 * inputs + 3 * outputs)
    first, second = factored(inputs, middle, outputs, stride), factored(outputs, middle, outputs)
    self.conv1 = nn.Sequential(nn.Sequential(*first), nn.BatchNorm3d(outputs), nn.ReLU())
    self.conv2 = nn.Sequential(nn.Sequential(*second), nn.BatchNorm3d(outputs))
    self.downsample = None
    if stride != 1 or inputs != outputs:
      shortcut = convolution(inputs, outputs, (1, 1, 1), (stride,) * 3)
      self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(outputs))

  def forward(self, x: Tensor) -> Tensor:
    shortcut = x if self.downsample is None else self.downsample(x)
    return F.relu(shortcut + self.conv2(self.conv1(x)))


class R2Plus1D18(nn.Module):
  """Scores (B, 400) of clips."""

  def __init__(self):
    super().__init__()
    self.stem = nn.Sequential(*factored(3, 45, 64, side=7, space=2), nn.BatchNorm3d(64), nn.ReLU())
    inputs = 64
    for number in (1, 2, 3, 4):
      outputs = 32 * 2**number
      blocks = Residual(inputs, outputs, 1 if number == 1 else 2), Residual(outputs, outputs, 1)
      setattr(self, f'layer{number}', nn.Sequential(*blocks))
      inputs = outputs
    self.fc = nn.Linear(512, CLASSES)

  def forward(self, video: Tensor) -> Tensor:
    x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(video)))))
    return self.fc(x.mean((2, 3, 4)))

  def loss(self, video: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy."""
    return F.cross_entropy(self(video).float(), label)


class Attention(nn.Module):
  """Self-attention by PyTorch's fused kernel."""

  def __init__(self, width: int, heads: int):
    super().__init__()
    self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))
    self.heads = heads

  def forward(self, x: Tensor) -> Tensor:
    q, k, v = (
      layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v)
    )
    return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
  """Pre-norm transformer block, inner width four times the width."""

  def __init__(self, width: int, heads: int):
    super().__init__()
    self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
    self.attn = Attention(width, heads)
    self.mlp = nn.ModuleDict(
      {'fc1': nn.Linear(width, 4 * width), 'fc2': nn.Linear(4 * width, width)}
    )

  def forward(self, x: Tensor) -> Tensor:
    x = x + self.attn(self.norm1(x))
    return x + self.mlp['fc2'](F.gelu(self.mlp['fc1'](self.norm2(x))))


class ViT(nn.Module):
  """Scores (B, 400) of clips: the encoder of a masked autoencoder on all tokens, their mean, a
  norm, a linear layer."""

  def __init__(self, width: int, depth: int, heads: int, *, frames: int = 16, crop: int = 224):
    super().__init__()
    self.patch_embed = nn.ModuleDict({'proj': nn.Conv3d(3, width, (2, 16, 16), (2, 16, 16))})
    for name, rows in (('spatial', (crop // 16) ** 2), ('temporal', frames // 2), ('class', 1)):
      setattr(self, f'pos_embed_{name}', nn.Parameter(torch.zeros(1, rows, width)))
    self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
    self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
    self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, CLASSES)

  def forward(self, video: Tensor) -> Tensor:
    x = self.patch_embed['proj'](video).flatten(2).transpose(1, 2)
    x = x + (self.pos_embed_temporal[:, :, None] + self.pos_embed_spatial[:, None]).flatten(1, 2)
    x = self.blocks(_prepend(self.cls_token + self.pos_embed_class, x))
    return self.head(self.norm(x[:, 1:].mean(1)))

  def loss(self, video: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy."""
    return F.cross_entropy(self(video).float(), label)


class MAE(nn.Module):
  """Masked autoencoder of clips (B, 3, frames, crop, crop): predicted pixels (B, N, patch^2 * 3), a
  frame a slot.

  Which tokens stay is decided by noise (B, N): those with the smallest. dense: the encoder sees all
  tokens, the removed ones as a learned token.
  """

  def __init__(
    self, width: int, depth: int, heads: int, *, ratio: float, dense: bool = False,
    frames: int = 16, crop: int = 224,
    patch: tuple[int, int, int] = (2, 16, 16), decoder_width: int = 512, decoder_depth: int = 4,
    decoder_heads: int = 16,
  ):  # fmt: skip
    super().__init__()
    slots, places = frames // patch[0], (crop // patch[1]) ** 2
    self.patch, self.tokens, self.dense = patch, slots * places, dense
    self.keep = max(1, int(self.tokens * (1 - ratio)))
    self.patch_embed = nn.ModuleDict({'proj': nn.Conv3d(3, width, patch, patch)})
    for prefix, size in (('', width), ('decoder_', decoder_width)):
      for name, rows in (('spatial', places), ('temporal', slots), ('class', 1)):
        setattr(self, f'{prefix}pos_embed_{name}', nn.Parameter(torch.zeros(1, rows, size)))
      setattr(self, f'{prefix}cls_token', nn.Parameter(torch.zeros(1, 1, size)))
    self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
    if dense:
      self.encoder_mask_token = nn.Parameter(torch.zeros(1, 1, width))
    self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
    self.norm = nn.LayerNorm(width, eps=1e-6)
    self.decoder_embed = nn.Linear(width, decoder_width)
    self.decoder_blocks = nn.Sequential(
      *(Block(decoder_width, decoder_heads) for _ in range(decoder_depth))
    )
    self.decoder_norm = nn.LayerNorm(decoder_width, eps=1e-6)
    self.decoder_pred = nn.Linear(decoder_width, patch[1] * patch[2] * 3)

  def positions(self, prefix: str) -> Tensor:
    """(1, N, D), time plus space."""
    space, time = (
      getattr(self, f'{prefix}pos_embed_spatial'),
      getattr(self, f'{prefix}pos_embed_temporal'),
    )
    return (time[:, :, None] + space[:, None]).flatten(1, 2)

  def forward(self, video: Tensor, noise: Tensor) -> Tensor:
    order = noise.argsort(dim=1, stable=True)
    restore = order.argsort(dim=1)
    x = self.patch_embed['proj'](video).flatten(2).transpose(1, 2)  # (B, N, D)
    if self.dense:
      x = torch.where(
        (restore >= self.keep)[..., None], self.encoder_mask_token.to(x.dtype), x
      ) + self.positions('')
    else:
      x = _gather(x + self.positions(''), order[:, : self.keep])
    x = self.norm(self.blocks(_prepend(self.cls_token + self.pos_embed_class, x)))
    x = self.decoder_embed(x)[:, 1:]
    if not self.dense:
      blank = self.mask_token.to(x.dtype).expand(len(x), self.tokens - self.keep, -1)
      x = _gather(torch.cat([x, blank], 1), restore)
    x = _prepend(
      self.decoder_cls_token + self.decoder_pos_embed_class, x + self.positions('decoder_')
    )
    return self.decoder_pred(self.decoder_norm(self.decoder_blocks(x)))[:, 1:]

  def loss(self, video: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the removed tokens, targets standardized per token: the first frame of
    every slot."""
    removed = (noise.argsort(dim=1, stable=True).argsort(dim=1) >= self.keep).float()
    _, rows, columns = self.patch
    x = video[:, :, :: self.patch[0]]
    x = x.unflatten(4, (-1, columns)).unflatten(3, (-1, rows))  # (B, 3, t, h, rows, w, columns)
    x = x.permute(0, 2, 3, 5, 4, 6, 1).flatten(4).flatten(1, 3)
    target = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-6).sqrt()
    error = (self(video, noise).float() - target).square().mean(-1)
    return (error * removed).sum() / removed.sum()


def _gather(x: Tensor, index: Tensor) -> Tensor:
  return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def _prepend(token: Tensor, x: Tensor) -> Tensor:
  return torch.cat([token.to(x.dtype).expand(len(x), -1, -1), x], 1)
