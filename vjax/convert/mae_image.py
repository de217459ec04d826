"""Vision transformers trained on images (He et al. 2022's masked autoencoder, DeiT, timm) -> the
encoder of a video one.

The patch embedding is repeated along the frames of a patch and divided by their number, so that a
still clip has the image's tokens; the position table becomes the spatial one, the temporal one is
0.  (Feichtenhofer et al. 2022, appendix A.) A decoder is left out.
"""

import math
import re
from typing import Any, cast

import numpy as np

from vjax import convert, factory
from vjax.convert import _table, mae_st
from vjax.heads import linear
from vjax.layers import position
from vjax.models import vit
from vjax.types import VideoModel

MODELS, ALIASES = mae_st.MODELS, mae_st.ALIASES
FRAMES = 2  # of a patch
_DECODER = re.compile(r'(decoder_.*|mask_token)')


def build(
  tensors: dict[str, np.ndarray], name: str, overrides: dict[str, Any]
) -> convert.SourceModel:
  """The model that the weights are for, and how they fit into it.

  overrides: also frames (16) and crop (the images').

  pool: 'mean' of the tokens, then the norm, for 'fc_norm' (a fine-tuned masked autoencoder) and for
  weights without classifier; 'class' for 'norm' and a classifier (DeiT). Raises ValueError for
  patches of other than 16 px, unless patch is given."""
  tensors = _table.split_qkv(
    {name: x for name, x in tensors.items() if not _DECODER.fullmatch(name)}
  )
  kernel, table = (tensors.pop(name, None) for name in ('patch_embed.proj.weight', 'pos_embed'))
  if (
    kernel is None
    or kernel.ndim != 4
    or table is None
    or table.ndim != 3
    or 'cls_token' not in tensors
  ):
    raise ValueError(
      "the weights have no 'patch_embed.proj.weight' of four dimensions, 'pos_embed' and "
      "'cls_token': no image ViT"
    )
  wanted = tuple(overrides['patch']) if 'patch' in overrides else (FRAMES, 16, 16)
  if kernel.shape[2:] != wanted[1:]:
    raise ValueError(
      f'the patches are {kernel.shape[2]}x{kernel.shape[3]} px, the video model wants '
      f'{wanted[1]}x{wanted[2]} (the image ViT-H has 14): choose other weights, or give --set '
      f'"patch=({wanted[0]}, {kernel.shape[2]}, {kernel.shape[3]})"'
    )
  side = math.isqrt(table.shape[1] - 1)
  if side * side != table.shape[1] - 1:
    raise ValueError(
      f"'pos_embed' has {table.shape[1] - 1} places beside the class token's, which are not those "
      'of a square crop: choose weights that were trained on square images, with one class token ('
      'a distilled DeiT has two)'
    )
  settings = {'patch': wanted, 'crop': side * wanted[1], 'pool': _pool(tensors)}
  settings['qkv_bias'] = 'blocks.0.attn.q.bias' in tensors
  net = cast(vit.Backbone, factory.create_backbone(name, **{**settings, **overrides}))
  clip = (net.frames, *convert.sides(net.crop))
  grid = position.grid_of(clip, wanted)
  tensors = {re.sub(r'^fc_norm\.', 'norm.', name): x for name, x in tensors.items()}
  tensors['patch_embed.proj.weight'] = np.repeat(kernel[:, :, None], wanted[0], axis=2) / wanted[0]
  tensors['pos_embed_class'] = table[:, :1]
  tensors['pos_embed_spatial'] = position.resize(
    'position_spatial',
    table[:, 1:],
    (1, grid[1] * grid[2], table.shape[2]),
    old_grid=(1, side, side),
    new_grid=grid,
  )
  tensors['pos_embed_temporal'] = np.zeros((1, grid[0], table.shape[2]), np.float32)
  tensors = mae_st.with_relative(tensors, net)
  head = linear.Head(convert.num_classes(tensors, 'head.weight'))
  return convert.SourceModel(
    VideoModel(net, head), clip=clip, table=mae_st.table('repo', 0), tensors=tensors
  )


def _pool(tensors: dict[str, np.ndarray]) -> str:
  if 'norm.weight' in tensors and 'fc_norm.weight' in tensors:
    raise ValueError(
      "the weights have both 'norm' and 'fc_norm': give those of one classifier, or leave one out"
    )
  return 'class' if 'norm.weight' in tensors and 'head.weight' in tensors else 'mean'


def names(variables: dict[str, np.ndarray], name: str) -> list[_table.Row]:
  """The table of the encoder and a classifier."""
  return mae_st.table('repo', 0)


def restore(tensors: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  """Raises ValueError: a video network is no image network."""
  raise ValueError("source 'mae_image' leads one way: write the weights as those of 'mae_st'")


SOURCE = convert.Source(MODELS, build, names, ALIASES, restore)
