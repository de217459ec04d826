"""The image pre-training paper's video checkpoints: MMAction's names, STS convolutions (ECCV
2022)."""

from vjax import convert
from vjax.convert import mmaction

MODELS = (
  'sts_slow_r50', 'sts_3x1x1_r50', 'sts_3x3x3_r50', 'sts_ir_csn_r50', 'sts_r2plus1d_r34',
  'sts_slowfast_r50_4x16', 'sts_slowfast_r50_8x8', 'sts_x3d_s',
)  # fmt: skip
ALIASES: dict[str, str] = {}
build, names, restore = mmaction.build, mmaction.names, mmaction.restore


SOURCE = convert.Source(MODELS, build, names, ALIASES, restore)
