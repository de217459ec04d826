"""Decoder of the masked autoencoder.  (Feichtenhofer et al. 2022, sec. 3 and appendix A.)"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.layers import attention, position
from vjax.types import Features

PRESETS = ('released', 'repo')


class Head(nn.Module):
  """Decoder of the masked autoencoder: predicts the pixels, or other values, of every token, (B, N,
  values), from the encoder's visible tokens.

  The token grid comes with the features. For features without a mask, every token counts as
  visible.

  Attributes:
    width, depth: channels and blocks.
    heads, positions: attention heads and kind of position table; None = the preset's.
    preset: one of the two published graphs. 'released' (PySlowFast, the released weights): heads of
      64 channels, a joint position table; the encoder's class token passes through the projection.
      'repo' (the authors' stand-alone code): 16 heads, separable positions; a class token of the
      decoder replaces the encoder's.
    patch: (frames, rows, columns) of a patch.
    pred_frames: frames predicted per clip; None is one of each patch's frames, as in the paper.
    values: predicted of each token; None = the pixels of pred_frames. config.objective.predict
      gives the number.
    mlp_ratio: inner width of the MLPs over `width`.
    init_style: 'repo' (Xavier) or 'released' (PySlowFast: normal 0.02, and PyTorch's default for
      the projection).
    qkv_bias: whether queries, keys and values have a bias.
  """

  width: int = 512
  depth: int = 4
  heads: int | None = None
  preset: str = 'released'
  positions: str | None = None
  patch: tuple[int, int, int] = (2, 16, 16)
  pred_frames: int | None = None
  values: int | None = None
  mlp_ratio: float = 4.0
  init_style: str = 'repo'
  qkv_bias: bool = True
  dtype: Any = jnp.float32
  remat: bool = False

  @nn.compact
  def __call__(self, features: Features, *, train: bool) -> Float[Array, 'b n v']:
    """Returns `values` (B, N, values), or pixels (B, N, frames per slot * patch_h * patch_w * 3) in
    the order of `patchify`, in at least float32."""
    if self.preset not in PRESETS or self.init_style not in ('repo', 'released'):
      raise ValueError(
        f"preset is {self.preset!r}, init_style {self.init_style!r}; each must be 'released' or "
        "'repo'"
      )
    if features.tokens is None:
      raise ValueError('the features hold no tokens: the MAE head needs a ViT backbone')
    own, released = self.preset == 'repo', self.init_style == 'released'
    grid, small = features.grid, nn.initializers.normal(0.02)
    values = self.values
    if values is None:
      values = _frames_per_slot(self.pred_frames, grid[0]) * self.patch[1] * self.patch[2] * 3
    project, init = attention.Init(), attention.Init()
    if released:
      default = attention.uniform(features.tokens.shape[-1] ** -0.5)
      project, init = attention.Init(default, default), attention.Init(small)
    dense = lambda width, name, i: attention.Dense(
      width, dtype=self.dtype, kernel_init=i.kernel, bias_init=i.bias, name=name
    )

    x = dense(self.width, 'embed', project)(features.tokens)
    tokens = grid[0] * grid[1] * grid[2]
    visible = tokens if features.token_mask is None else features.token_mask.keep.shape[1]
    class_token = x.shape[1] > visible
    first, x = x[:, : x.shape[1] - visible], x[:, x.shape[1] - visible :]
    blank = self.param('mask_token', small, (1, 1, self.width)).astype(x.dtype)
    if features.token_mask is not None:
      x = jnp.concatenate(
        [x, jnp.broadcast_to(blank, (len(x), tokens - visible, self.width))], axis=1
      )
      x = jnp.take_along_axis(
        x, features.token_mask.restore[..., None], axis=1
      )  # (B, N, D) in grid order
    positions = self.positions or ('separable' if own else 'joint')
    table, class_position = position.table(self, positions, grid, self.width, class_token, small)
    x = x + table.astype(x.dtype)
    if class_token:
      if own:
        first = self.param('class_token', nn.initializers.zeros, (1, 1, self.width)).astype(x.dtype)
      first = jnp.broadcast_to(first + class_position.astype(x.dtype), (len(x), 1, self.width))
      x = jnp.concatenate([first, x], axis=1)
    heads = self.heads or (16 if own else self.width // 64)
    x = attention.blocks(
      x, heads, [0.0] * self.depth, train, mlp_ratio=self.mlp_ratio, init=init, dtype=self.dtype,
      remat=self.remat,
      qkv_bias=self.qkv_bias,
    )  # fmt: skip
    x = attention.norm('norm', self.dtype)(x)[:, int(class_token) :]
    x = dense(values, 'predict', init)(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _frames_per_slot(pred_frames: int | None, slots: int) -> int:
  """Returns the number of frames that each token predicts.

  Raises ValueError when `pred_frames` is no multiple of the number of slots.
  """
  if pred_frames is None:
    return 1
  if pred_frames < slots or pred_frames % slots:
    raise ValueError(
      f'pred_frames is {pred_frames}; the grid has {slots} slots in time and needs a multiple of '
      'that'
    )
  return pred_frames // slots
