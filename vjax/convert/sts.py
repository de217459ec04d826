"""The image pre-training paper's video checkpoints: MMAction's names, STS convolutions (ECCV
2022)."""

from vjax import convert
from vjax.convert import mmaction

MODELS = tuple(name for name in mmaction.MODELS if name.startswith('sts_'))
ALIASES: dict[str, str] = {}
build, names, restore = mmaction.build, mmaction.names, mmaction.restore


SOURCE = convert.Source(MODELS, build, names, ALIASES, restore)
