"""The image pre-training paper's video checkpoints: MMAction's names, STS convolutions (ECCV
2022)."""

from vjax.convert import mmaction

VARIANTS = {
  name: settings for name, settings in mmaction.VARIANTS.items() if name.startswith('sts_')
}
build, names, restore = mmaction.build, mmaction.names, mmaction.restore
