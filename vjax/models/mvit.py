"""Multiscale vision transformers (MViT): attention on pooled queries, keys and values. From stage
to stage the width grows and the token grid gets coarser.

Fan et al. 2021 (MViT), Li et al. 2022 (MViTv2), and the MViT without class token of Liang et al.
2022 (MultiTrain).
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax import types
from vjax.kernels import conv, pool
from vjax.kernels.attention import attend
from vjax.layers import attention, drop, position, relative
from vjax.layers.conv import Conv3D
from vjax.layers.position import Grid
from vjax.models import vit
from vjax.types import Features

PATCH = (2, 4, 4)  # strides of the patch embedding, whose kernel is 3x7x7


@dataclass(frozen=True)
class Flavor:
  """Differences between the papers' blocks.

  Attributes:
    positions: tables added to the tokens: 'separable', 'joint' or '' for none.
    relative: axes, of 'thw', of the tables of relative positions in every block; '' for none.
    widen: where a stage gets wider: in the 'attention' of its first block, or in the 'mlp' of the
      block before.
    raw_skip: a shortcut that widens projects x, not norm(x).
    pool_all: queries pass a convolution in every block, not only where the resolution drops.
    add_query: attention adds the pooled queries to its output.
    eps: of the norms after pooling.
    official: parameters are initialized as in PySlowFast.
  """

  positions: str
  relative: str
  widen: str
  raw_skip: bool
  pool_all: bool
  add_query: bool
  eps: float
  official: bool


FLAVORS = {
  'v1': Flavor('separable', '', 'mlp', False, False, False, 1e-6, True),
  'v2': Flavor('', 'thw', 'attention', False, True, True, 1e-6, True),
  'multitrain': Flavor('separable', '', 'attention', True, True, True, 1e-5, False),
  # DIFFERS(paper): the release's configs of MiT, ActivityNet and SSv2 leave two of MViTv2's changes
  # out
  'multitrain_half': Flavor('separable', '', 'attention', True, False, False, 1e-5, False),
}

MODELS: dict[str, dict[str, Any]] = {
  # Fan et al. 2021, table 4; PySlowFast's model zoo, whose 32x3 has 24 blocks, unlike the paper's
  # 16.
  'mvit_v1_b_16x4': dict(flavor='v1', depths=(1, 2, 11, 2), frames=16),
  'mvit_v1_b_32x3': dict(flavor='v1', depths=(2, 3, 16, 3), frames=32, kernel=None),
  'mvit_v1_b16_32x3': dict(flavor='v1', depths=(1, 2, 11, 2), frames=32),
  'mvit_v1_b16_64x3': dict(flavor='v1', depths=(1, 2, 11, 2), frames=64),
  # Li et al. 2022, table 4; PySlowFast's model zoo.
  'mvit_v2_s_16x4': dict(flavor='v2', depths=(1, 2, 11, 2), frames=16),
  'mvit_v2_b_32x3': dict(flavor='v2', depths=(2, 3, 16, 3), frames=32),
  'mvit_v2_l_40x3': dict(
    flavor='v2', depths=(2, 6, 36, 4), frames=40, crop=312, width=144, heads=2,
  ),
  # Liang et al. 2022, table 1, and the released configs.
  'mvit_multitrain_b_16x4': dict(
    depths=(1, 2, 11, 2), frames=16, flavor='multitrain', class_token=False,
  ),
  'mvit_multitrain_b_32x3': dict(
    depths=(2, 3, 16, 3), frames=32, flavor='multitrain', class_token=False,
  ),
  'mvit_multitrain_half_b_16x4': dict(
    depths=(1, 2, 11, 2), frames=16, flavor='multitrain_half', class_token=False,
  ),
}  # fmt: skip
HEAD: dict[str, Any] = {}
CLIP = (16, 224)
# Frame stride of the clips that the published weights are for.
FRAME_STRIDES = {
  'mvit_v1_b_16x4': 4,
  'mvit_v1_b_32x3': 3,
  'mvit_v1_b16_32x3': 3,
  'mvit_v1_b16_64x3': 3,
  'mvit_v2_s_16x4': 4,
  'mvit_v2_b_32x3': 3,
  'mvit_v2_l_40x3': 3,
  'mvit_multitrain_b_16x4': 4,
  'mvit_multitrain_b_32x3': 3,
  'mvit_multitrain_half_b_16x4': 4,
}


@dataclass(frozen=True)
class Layer:
  """Settings of one block.

  Attributes:
    attend: width of the attention.
    features: width of the output.
    heads: attention heads.
    query: strides of the queries through (time, height, width).
    key: strides of keys and values through (time, height, width).
    grid: token grid of the input; the tables of relative positions are for it.
    drop_path: rate of stochastic depth.
  """

  attend: int
  features: int
  heads: int
  query: Grid
  key: Grid
  grid: Grid
  drop_path: float

  @property
  def rows(self) -> tuple[int, ...]:
    """Rows of the block's tables of relative positions.

    Pooled grids are floored here, as in PySlowFast. At 312 px the pooled grids are larger than
    that, and every forward pass interpolates the tables.
    """
    of = lambda strides: tuple(n // s for n, s in zip(self.grid, strides))
    return relative.rows(of(self.query), of(self.key))


class Pool(nn.Module):
  """Pooling convolution: tokens (B, N, heads * d) of a grid -> (B, N', heads, d) of a coarser grid.

  A depthwise convolution, whose kernel all heads share, then a norm over each head. Tokens before
  those of the grid (a class token) skip the convolution.
  """

  heads: int
  kernel: Grid
  strides: Grid
  eps: float
  start: attention.Init
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c'], grid: Grid) -> tuple[Float[Array, 'b m h d'], Grid]:
    b, n, c = x.shape
    width, rest = c // self.heads, n - math.prod(grid)
    shape = (*self.kernel, 1, width)
    init = (
      attention.uniform(math.prod(self.kernel) ** -0.5)
      if self.start.kernel is None
      else self.start.kernel
    )
    kernel = jnp.tile(self.param('kernel', init, shape, jnp.float32), self.heads).astype(self.dtype)
    clip = x[:, rest:].reshape(b, *grid, c)
    y = conv.conv3d(clip, kernel, self.strides, tuple(k // 2 for k in self.kernel), groups=c)
    grid = y.shape[1:4]
    y = jnp.concatenate([x[:, :rest], y.reshape(b, -1, c)], axis=1).reshape(
      b, -1, self.heads, width
    )
    return attention.norm('norm', self.dtype, self.start.norm_bias, self.eps)(y).astype(
      self.dtype
    ), grid


class Attention(nn.Module):
  """Multi-head pooling attention: (B, N, C) -> (B, N', layer.attend), and the grid of its queries.

  (Fan et al. 2021, sec. 3.1.)
  """

  layer: Layer
  flavor: Flavor
  kernel: Grid | None
  start: attention.Init
  pool_start: attention.Init
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c'], grid: Grid) -> tuple[Float[Array, 'b m d'], Grid]:
    layer, dense = self.layer, lambda name: _dense(layer.attend, self.start, self.dtype, name)
    (q, to), (k, of), (v, _) = (
      self._pooled(name, dense(name)(x), layer.query if name == 'q' else layer.key, grid)
      for name in 'qkv'
    )
    if axes := self.flavor.relative:
      tables = relative.tables(self, layer.rows, q.shape[-1], nn.initializers.normal(0.02), axes)
      y = attention.attend_relative(q, k, v, tables, (to, of))
    else:
      y = attend(q, k, v)
    if self.flavor.add_query:  # not to the class token
      rest = y.shape[1] - math.prod(to)
      y = jnp.concatenate([y[:, :rest], y[:, rest:] + q[:, rest:]], axis=1) if rest else y + q
    return dense('proj')(y.reshape(*y.shape[:2], -1)), to

  def _pooled(self, name: str, x: Float[Array, 'b n c'], strides: Grid, grid: Grid):
    kernel = self.kernel or tuple(s + 1 if s > 1 else 1 for s in strides)
    plain = math.prod(strides) == 1 and (
      math.prod(kernel) == 1 or (name == 'q' and not self.flavor.pool_all)
    )
    if plain:
      return x.reshape(*x.shape[:2], self.layer.heads, -1), grid
    pool = Pool(
      self.layer.heads,
      kernel,
      strides,
      self.flavor.eps,
      self.pool_start,
      self.dtype,
      name=f'pool_{name}',
    )
    return pool(x, grid)


class Block(nn.Module):
  """Transformer block: tokens (B, N, C) of a grid -> (B, N', layer.features).

  Attention, then an MLP, each with a norm before it and a shortcut around both. `grid` and `train`
  are positional so that `nn.remat` can take them as static.
  """

  layer: Layer
  flavor: Flavor
  kernel: Grid | None
  start: attention.Init
  pool_start: attention.Init
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c'], grid: Grid, train: bool) -> Float[Array, 'b m d']:
    layer, flavor = self.layer, self.flavor
    dropped = drop.DropPath(layer.drop_path, name='drop')
    norm = lambda name: attention.norm(name, self.dtype, self.start.norm_bias)
    project = lambda width: _dense(width, self.start, self.dtype, 'proj')
    y = norm('norm1')(x)
    branch = Attention(
      layer, flavor, self.kernel, self.start, self.pool_start, self.dtype, name='attn'
    )(y, grid)[0]
    skip = x
    if layer.attend != x.shape[-1]:
      skip = project(layer.attend)(x if flavor.raw_skip else y)
    x = _max_pool(skip, grid, layer.query) + dropped(branch, train)
    y = norm('norm2')(x)
    branch = attention.Mlp(4.0, self.start, self.dtype, layer.features, name='mlp')(y)
    skip = x if layer.features == layer.attend else project(layer.features)(y)
    return skip + dropped(branch, train)


class Backbone(types.Backbone):
  """MViT of len(depths) stages. Each stage but the first halves rows and columns in its first
  block, and has twice the heads and the width of the stage before.

  Attributes:
    flavor: an entry of FLAVORS.
    depths: blocks of each stage.
    frames, crop: frames, and side in pixels, of the clips that the position tables are for.
      Relative tables take other clips too, and are interpolated.
    width, heads: of the first stage.
    key_stride: stride of the keys through rows and columns in the first stage. It halves from stage
      to stage, so that all stages have as many keys.
    kernel: of the pooling convolutions (time, height, width), None = stride + 1.
    class_token: the pooled features are the class token; without it, the mean of the tokens.
    drop_path: stochastic depth rate of the last block; the rate rises linearly from 0.
    positions, relative, widen, pool_all, add_query: replace the flavor's, see Flavor; None = the
      flavor's.
  """

  flavor: str
  depths: tuple[int, ...]
  frames: int
  crop: int = 224
  width: int = 96
  heads: int = 1
  key_stride: int = 8
  kernel: Grid | None = (3, 3, 3)
  class_token: bool = True
  drop_path: float = 0.0
  positions: str | None = None
  relative: str | None = None
  widen: str | None = None
  pool_all: bool | None = None
  add_query: bool | None = None
  dtype: Any = jnp.float32
  remat: bool = False

  @nn.nowrap
  def clip_frames(self) -> int:
    """Returns the frames that the position tables are for."""
    return self.frames

  @property
  def depth(self) -> int:
    """Number of blocks of all stages."""
    return sum(self.depths)

  @nn.nowrap
  def num_layers(self) -> int:
    """Returns the number of blocks of all stages."""
    return self.depth

  @nn.nowrap
  def layer_of(self, name: str) -> int:
    """Returns the layer of a parameter, see vit.layer_of: names are those of ViT."""
    return vit.layer_of(name, self.depth)

  @property
  def patch(self) -> Grid:
    return PATCH

  @nn.nowrap
  def resolve_flavor(self) -> Flavor:
    """Returns the flavor, with the fields that this network replaces.

    Raises ValueError for an unknown flavor and for values that the fields cannot have.
    """
    if self.flavor not in FLAVORS:
      raise ValueError(f'flavor is {self.flavor!r}; it must be one of {", ".join(FLAVORS)}')
    names = ('positions', 'relative', 'widen', 'pool_all', 'add_query')
    set_here = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
    flavor = replace(FLAVORS[self.flavor], **set_here)
    if flavor.positions not in ('separable', 'joint', ''):
      raise ValueError(
        f"positions is {flavor.positions!r}; it must be 'separable', 'joint' or '' for none"
      )
    if not set(flavor.relative) <= set('thw'):
      raise ValueError(
        f"relative is {flavor.relative!r}; it names axes, as 'thw', 'hw' or '' for none"
      )
    if flavor.widen not in ('attention', 'mlp'):
      raise ValueError(f"widen is {flavor.widen!r}; it must be 'attention' or 'mlp'")
    return flavor

  @nn.nowrap
  def layers(self) -> list[Layer]:
    """Returns the settings of the blocks in order."""
    found, grid, key = (
      [],
      position.grid_of((self.frames, self.crop, self.crop), PATCH),
      self.key_stride,
    )
    rates = drop.linear_rates(self.drop_path, sum(self.depths))
    stages = [stage for stage, depth in enumerate(self.depths) for _ in range(depth)]
    for i, stage in enumerate(stages):
      first, early = i > 0 and stage > stages[i - 1], self.resolve_flavor().widen == 'mlp'
      stride = 2 if first else 1
      key = max(key // stride, 1)
      after = stages[min(i + 1, len(stages) - 1)] if early else stage
      width, heads = self.width << stage, self.heads << stage
      found.append(
        Layer(width, self.width << after, heads, (1, stride, stride), (1, key, key), grid, rates[i])
      )
      grid = (grid[0], grid[1] // stride, grid[2] // stride)
    return found

  @nn.compact
  def __call__(self, video: Float[Array, 'b t h w c'], *, train: bool) -> Features:
    """Returns features of clips (B, T, H, W, 3).

    Raises ValueError for an unknown flavor, a clip that does not fit the position tables, or frames
    that the patches do not divide.
    """
    flavor = self.resolve_flavor()
    start, pool_start = _starts(flavor)
    small, layers = nn.initializers.normal(0.02), self.layers()
    position.grid_of(video.shape[1:4], PATCH)  # raises where frames do not divide
    bound = attention.uniform((3 * 7 * 7 * video.shape[-1]) ** -0.5)
    patches = Conv3D(
      self.width, (3, 7, 7), PATCH, (1, 3, 3), bias=True, dtype=self.dtype,
      kernel_init=small if flavor.official else bound, bias_init=bound, name='patch',
    )(video)  # fmt: skip
    grid, x = patches.shape[1:4], patches.reshape(len(video), -1, self.width)
    first = self.param('class_token', small, (1, 1, self.width)) if self.class_token else None
    if flavor.positions:
      position.check_grid(video.shape[1:4], grid, layers[0].grid)
      table, of_class = position.table(
        self, flavor.positions, grid, self.width, self.class_token, small
      )
      x, first = x + table.astype(self.dtype), first if first is None else first + of_class
    if first is not None:
      x = jnp.concatenate(
        [jnp.broadcast_to(first, (len(x), 1, self.width)).astype(x.dtype), x], axis=1
      )
    block = nn.remat(Block, static_argnums=(2, 3)) if self.remat else Block
    for i, layer in enumerate(layers):
      x = block(layer, flavor, self.kernel, start, pool_start, self.dtype, name=f'block{i}')(
        x, grid, train
      )
      grid = _pooled_grid(grid, layer.query)
    tokens = attention.norm('norm', self.dtype, start.norm_bias)(x)
    pooled = tokens[:, 0] if self.class_token else tokens.mean(1)
    maps = tokens[:, int(self.class_token) :].reshape(len(x), *grid, -1).astype(self.dtype)
    return Features(maps=(maps,), pooled=pooled, tokens=tokens.astype(self.dtype), grid=grid)


def _starts(flavor: Flavor) -> tuple[attention.Init, attention.Init]:
  """Returns the initializers of linear layers and norms in blocks, and those of pooling."""
  small, some = nn.initializers.normal(0.02), nn.initializers.constant(0.02)
  if flavor.official:
    return attention.Init(small, some, some), attention.Init(small, some, some)
  return attention.Init(small), attention.Init(None)


def _dense(width: int, start: attention.Init, dtype: Any, name: str) -> nn.Dense:
  return attention.Dense(
    width, dtype=dtype, kernel_init=start.kernel, bias_init=start.bias, name=name
  )


def _pooled_grid(grid: Grid, strides: Grid) -> Grid:
  return tuple(-(-n // s) for n, s in zip(grid, strides))


def _max_pool(x: Float[Array, 'b n c'], grid: Grid, strides: Grid) -> Float[Array, 'b m c']:
  """Returns the tokens of a grid, max-pooled over stride + 1 neighbors. Tokens before those of the
  grid stay as they are."""
  if math.prod(strides) == 1:
    return x
  rest, kernel = x.shape[1] - math.prod(grid), tuple(s + 1 if s > 1 else 1 for s in strides)
  y = x[:, rest:].reshape(len(x), *grid, -1)
  y = pool.max_pool(y, kernel, strides, tuple((k // 2, k // 2) for k in kernel))
  return jnp.concatenate([x[:, :rest], y.reshape(len(x), -1, x.shape[-1])], axis=1)
