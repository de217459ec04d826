"""Vision transformers on space-time patches: encoder of the masked autoencoder, and classifier
backbone.

Feichtenhofer, Fan, Li, He: Masked Autoencoders As Spatiotemporal Learners (2022), sec. 3 and
appendix A.
"""

import re
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax import types
from vjax.layers import attention, drop, position
from vjax.types import Features, Mask

MODELS: dict[str, dict[str, Any]] = {
  # Touvron et al. 2021, table 1.
  'vit_tiny': dict(width=192, depth=12, heads=3),
  'vit_small': dict(width=384, depth=12, heads=6),
  # Dosovitskiy et al. 2021, table 1.
  'vit_base': dict(width=768, depth=12, heads=12),
  'vit_large': dict(width=1024, depth=24, heads=16),
  'vit_huge': dict(width=1280, depth=32, heads=16),
}  # fmt: skip
HEAD: dict[str, Any] = {}
CLIP = (16, 224)


class Patch(nn.Module):
  """Linear map of flattened patches (B, N, pt * ph * pw * 3) to tokens (B, N, D); 'kernel' is (pt,
  ph, pw, 3, D)."""

  patch: tuple[int, int, int]
  width: int
  released: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: Float[Array, 'b n v']) -> Float[Array, 'b n d']:
    values = x.shape[-1]
    # Xavier on the flattened matrix, not on the convolution's fan-out.
    kernel_init = attention.uniform((6 / (values + self.width)) ** 0.5)
    kernel_init = nn.initializers.normal(0.02) if self.released else kernel_init
    kernel = self.param(
      'kernel', kernel_init, (*self.patch, values // _product(self.patch), self.width)
    )
    bias = self.param('bias', attention.uniform(values**-0.5), (self.width,))
    kernel, bias = kernel.reshape(values, self.width).astype(self.dtype), bias.astype(self.dtype)
    rows = x.reshape(-1, values).astype(self.dtype)  # see attention.Dense
    return (rows @ kernel + bias).reshape(*x.shape[:-1], self.width)


def _product(patch: tuple[int, int, int]) -> int:
  return patch[0] * patch[1] * patch[2]


class Backbone(types.Backbone):
  """ViT on space-time patches, with pre-norm blocks and learned or fixed positions.

  Attributes:
    width, depth, heads: channels, blocks, and attention heads.
    frames, crop: frames and size of the clips that the position tables are for. The size is one
      side or (rows, columns), in pixels.
    patch: (frames, rows, columns) of a patch.
    mlp_ratio: inner width of the MLPs over `width`.
    positions: 'separable', 'joint' or 'sincos', see layers.position.table.
    class_token: whether a class token comes before the patch tokens.
    pool: 'mean' of the patch tokens, then the final norm (the paper's classifier; not the other way
      round), or 'class', the normed class token.
    drop_path: stochastic depth rate of the last block; the rate rises linearly from 0.
    keep_mask_tokens: masked tokens stay in the encoder as a learned token (the paper's slow
      ablation).
    init_style: 'repo' (Xavier) or 'released' (PySlowFast: normal 0.02, and biases of 0.02 in linear
      layers and block norms).
    relative: tables of relative positions in every block too (the paper's detector).
    drop_first: the mean leaves out the first token although there is no class token, as in the
      published classifier.
    qkv_bias: whether queries, keys and values have a bias.
  """

  width: int
  depth: int
  heads: int
  frames: int = 16
  crop: int | tuple[int, int] = 224
  patch: tuple[int, int, int] = (2, 16, 16)
  mlp_ratio: float = 4.0
  positions: str = 'separable'
  class_token: bool = True
  pool: str = 'mean'
  drop_path: float = 0.0
  keep_mask_tokens: bool = False
  init_style: str = 'repo'
  relative: bool = False
  drop_first: bool = False
  qkv_bias: bool = True
  dtype: Any = jnp.float32
  remat: bool = False

  @nn.nowrap
  def clip_frames(self) -> int:
    """Returns the frames that the position tables are for."""
    return self.frames

  @nn.nowrap
  def num_layers(self) -> int:
    """Returns the number of blocks."""
    return self.depth

  @nn.nowrap
  def layer_of(self, name: str) -> int:
    """Returns the layer of a parameter, see `layer_of` below."""
    return layer_of(name, self.depth)

  @nn.nowrap
  def grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns the token grid (t, h, w) of clips of `shape` (T, H, W).

    Raises ValueError when the position tables do not fit.
    """
    crop = (self.crop, self.crop) if isinstance(self.crop, int) else tuple(self.crop)
    grid, wanted = (
      position.grid_of(tuple(shape), self.patch),
      position.grid_of((self.frames, *crop), self.patch),
    )
    position.check_grid(shape, grid, wanted)
    return grid

  @nn.compact
  def __call__(
    self, video: Float[Array, 'b t h w c'], *, train: bool, token_mask: Mask | None = None
  ) -> Features:
    """Returns features of clips (B, T, H, W, 3). With a mask, only its kept tokens are embedded and
    encoded, in the order of the mask."""
    self._check(token_mask)
    grid = self.grid(video.shape[1:4])
    released = self.init_style == 'released'
    small = nn.initializers.normal(
      0.02
    )  # not truncated: torch's trunc_normal_(std=0.02) cuts at +-2, 100 sigma
    init = (
      attention.Init(small, *[nn.initializers.constant(0.02)] * 2) if released else attention.Init()
    )
    table, class_position = position.table(
      self, self.positions, grid, self.width, self.class_token, small
    )
    table = table.astype(self.dtype)

    x = position.patchify(video, self.patch)  # (B, N, values)
    if token_mask is not None and not self.keep_mask_tokens:
      x = jnp.take_along_axis(
        x, token_mask.keep[..., None], axis=1
      )  # before the embedding, for a tenth of its work at 90 %
      table = table[token_mask.keep]
    x = Patch(self.patch, self.width, released, self.dtype, name='patch')(x)
    if self.keep_mask_tokens:
      blank = self.param('mask_token', small, (1, 1, self.width)).astype(self.dtype)
      if token_mask is not None:
        x = jnp.where(token_mask.removed[..., None] > 0, blank, x)
        token_mask = _all_kept(token_mask)
    x = x + table
    if self.class_token:
      first = self.param('class_token', small, (1, 1, self.width)) + class_position
      x = jnp.concatenate(
        [jnp.broadcast_to(first, (len(x), 1, self.width)).astype(x.dtype), x], axis=1
      )
    rates = drop.linear_rates(self.drop_path, self.depth)
    x = attention.blocks(
      x, self.heads, rates, train, mlp_ratio=self.mlp_ratio, init=init, dtype=self.dtype,
      remat=self.remat,
      relative=grid if self.relative else None, qkv_bias=self.qkv_bias,
    )  # fmt: skip
    return self._features(x, token_mask, grid)

  def _features(
    self, x: Float[Array, 'b n d'], token_mask: Mask | None, grid: tuple[int, int, int]
  ) -> Features:
    norm = attention.norm('norm', self.dtype)
    tokens = norm(x)
    start = int(self.class_token)
    if self.pool == 'class':
      pooled = tokens[:, 0]
    else:
      # DIFFERS(code): the published classifier always drops token 0, a patch where there is no
      # class token; we drop the class token only, unless drop_first asks for the published numbers.
      mean = jnp.mean(
        x[:, max(start, int(self.drop_first)) :],
        axis=1,
        dtype=jnp.promote_types(x.dtype, jnp.float32),
      )
      pooled = norm(mean)
    tokens = tokens.astype(self.dtype)
    maps = tokens[:, start:].reshape(len(x), *grid, self.width) if token_mask is None else None
    return Features(
      maps=None if maps is None else (maps,),
      pooled=pooled,
      tokens=tokens,
      token_mask=token_mask,
      grid=grid,
    )

  def _check(self, token_mask: Mask | None) -> None:
    if self.relative and token_mask is not None and not self.keep_mask_tokens:
      raise ValueError(
        'relative=True needs all tokens of the grid: pre-train without it, or with keep_mask_tokens'
      )
    if self.pool not in ('mean', 'class') or (self.pool == 'class' and not self.class_token):
      raise ValueError(
        f"pool is {self.pool!r}; it must be 'mean', or 'class' together with class_token=True"
      )
    if self.init_style not in ('repo', 'released'):
      raise ValueError(f"init_style is {self.init_style!r}; it must be 'repo' or 'released'")


def _all_kept(token_mask: Mask) -> Mask:
  order = jnp.broadcast_to(jnp.arange(token_mask.removed.shape[1]), token_mask.removed.shape)
  return Mask(keep=order, restore=order, removed=token_mask.removed)


def layer_of(name: str, depth: int) -> int:
  """Returns the layer-decay group of a parameter of a ViT of `depth` blocks.

  0: patches, positions and tokens; i + 1: block i; depth + 1: the final norm and the head. The
  learning rate of a group is multiplied by decay ** (depth + 1 - group).

  `name` is as in 'backbone/block3/attn/q/kernel'; the prefix may be missing. Raises ValueError for
  a name of no group.
  """
  if name.startswith('head/') or re.fullmatch(r'(backbone/)?norm/.*', name):
    return depth + 1
  if re.fullmatch(r'(backbone/)?(patch/.*|position\w*|class_token|mask_token)', name):
    return 0
  block = re.fullmatch(r'(?:backbone/)?block(\d+)/.*', name)
  if block is None or int(block[1]) >= depth:
    raise ValueError(f'parameter {name!r} belongs to no layer of a ViT with {depth} blocks')
  return int(block[1]) + 1
