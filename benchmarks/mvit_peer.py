"""MViTv2 (Li et al. 2022) in PyTorch under PySlowFast's names, the other side of against_torch.py.
Needs PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers import CLASSES

SIZES = {'s': ((1, 2, 11, 2), 16), 'b': ((2, 3, 16, 3), 32)}  # depths, frames; 224 px, width 96


def pooled(x: Tensor, pool: nn.Conv3d, norm: nn.LayerNorm, grid: tuple) -> tuple[Tensor, tuple]:
  """(B, heads, 1 + N, d) -> the same of a coarser grid: a convolution of each channel of the patch
  tokens, then a norm."""
  b, heads, _, width = x.shape
  clip = x[:, :, 1:].reshape(b * heads, *grid, width).permute(0, 4, 1, 2, 3)
  y = pool(clip)
  grid = tuple(y.shape[2:])
  y = y.reshape(b, heads, width, -1).transpose(2, 3)
  return norm(torch.cat([x[:, :, :1], y], 2)), grid


def distances(table: Tensor, queries: int, keys: int) -> Tensor:
  """(Q, K, d) of a table of 2 * max(Q, K) - 1 rows."""
  i, j = (
    torch.arange(queries, device=table.device)[:, None],
    torch.arange(keys, device=table.device)[None],
  )
  rows = (
    i * max(keys / queries, 1) - j * max(queries / keys, 1) + (keys - 1) * max(queries / keys, 1)
  )
  return table[rows.long()]


class Attention(nn.Module):
  """Pooling attention with decomposed relative positions and the pooled queries added to its
  output."""

  def __init__(
    self, inputs: int, width: int, heads: int, grid: tuple, stride: int, key_stride: int
  ):
    super().__init__()
    self.heads, size = heads, width // heads
    self.qkv, self.proj = nn.Linear(inputs, 3 * width), nn.Linear(width, width)
    for name, step in (('q', stride), ('k', key_stride), ('v', key_stride)):
      pool = nn.Conv3d(size, size, 3, (1, step, step), 1, groups=size, bias=False)
      setattr(self, f'pool_{name}', pool)
      setattr(self, f'norm_{name}', nn.LayerNorm(size, eps=1e-6))
    side = max(grid[1] // stride, grid[1] // key_stride)
    for axis, rows in (('h', side), ('w', side), ('t', grid[0])):
      setattr(self, f'rel_pos_{axis}', nn.Parameter(torch.zeros(2 * rows - 1, size)))

  def forward(self, x: Tensor, grid: tuple) -> tuple[Tensor, tuple]:
    q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
    q, to = pooled(q, self.pool_q, self.norm_q, grid)
    k, of = pooled(k, self.pool_k, self.norm_k, grid)
    v, _ = pooled(v, self.pool_v, self.norm_v, grid)
    body = q[:, :, 1:].unflatten(2, to)
    t = torch.einsum('bnthwd,tkd->bnthwk', body, distances(self.rel_pos_t, to[0], of[0]))
    h = torch.einsum('bnthwd,hkd->bnthwk', body, distances(self.rel_pos_h, to[1], of[1]))
    w = torch.einsum('bnthwd,wkd->bnthwk', body, distances(self.rel_pos_w, to[2], of[2]))
    bias = t[..., :, None, None] + h[..., None, :, None] + w[..., None, None, :]
    bias = F.pad(bias.flatten(5).flatten(2, 4), (1, 0, 1, 0))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    y = torch.cat([y[:, :, :1], y[:, :, 1:] + q[:, :, 1:]], 2)
    return self.proj(y.transpose(1, 2).flatten(2)), to


class Block(nn.Module):
  """Attention and MLP around skips; the first of a stage widens and halves the grid."""

  def __init__(
    self, inputs: int, width: int, heads: int, grid: tuple, stride: int, key_stride: int
  ):
    super().__init__()
    self.norm1, self.norm2 = nn.LayerNorm(inputs, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
    self.attn = Attention(inputs, width, heads, grid, stride, key_stride)
    self.mlp = nn.ModuleDict(
      {'fc1': nn.Linear(width, 4 * width), 'fc2': nn.Linear(4 * width, width)}
    )
    self.proj = nn.Linear(inputs, width) if inputs != width else None
    self.stride = stride

  def forward(self, x: Tensor, grid: tuple) -> tuple[Tensor, tuple]:
    y = self.norm1(x)
    branch, to = self.attn(y, grid)
    skip = x if self.proj is None else self.proj(y)
    if self.stride > 1:
      clip = skip[:, 1:].unflatten(1, grid).permute(0, 4, 1, 2, 3)
      clip = F.max_pool3d(clip, (1, 3, 3), (1, 2, 2), (0, 1, 1)).flatten(2).transpose(1, 2)
      skip = torch.cat([skip[:, :1], clip], 1)
    x = skip + branch
    return x + self.mlp['fc2'](F.gelu(self.mlp['fc1'](self.norm2(x)))), to


class MViT(nn.Module):
  """Scores (B, 400) of clips (B, 3, T, 224, 224)."""

  def __init__(self, depths: tuple[int, ...], frames: int, crop: int = 224, width: int = 96):
    super().__init__()
    self.patch_embed = nn.ModuleDict({'proj': nn.Conv3d(3, width, (3, 7, 7), (2, 4, 4), (1, 3, 3))})
    self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
    self.blocks, inputs, grid, key_stride = (
      nn.ModuleList(),
      width,
      (frames // 2, crop // 4, crop // 4),
      8,
    )
    for stage, depth in enumerate(depths):
      for i in range(depth):
        stride = 2 if stage and not i else 1
        key_stride //= stride
        self.blocks.append(Block(inputs, width << stage, 1 << stage, grid, stride, key_stride))
        inputs, grid = width << stage, (grid[0], grid[1] // stride, grid[2] // stride)
    self.norm = nn.LayerNorm(inputs, eps=1e-6)
    self.head = nn.ModuleDict({'projection': nn.Linear(inputs, CLASSES)})

  def forward(self, video: Tensor) -> Tensor:
    x = self.patch_embed['proj'](video)
    grid, x = tuple(x.shape[2:]), x.flatten(2).transpose(1, 2)
    x = torch.cat([self.cls_token.to(x.dtype).expand(len(x), -1, -1), x], 1)
    for block in self.blocks:
      x, grid = block(x, grid)
    return self.head['projection'](self.norm(x)[:, 0])

  def loss(self, video: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy."""
    return F.cross_entropy(self(video).float(), label)
