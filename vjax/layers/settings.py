"""Settings that several networks share, as small dataclasses: fields of a Backbone, sections of
config.model."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Norm:
  """Batch normalization, see layers.norm.BatchNorm.

  Attributes:
    eps: added to the variance.
    inner_eps: of the norms inside (2+1)D convolutions, None = eps.
    group_size: clips that share statistics in training, 0 = the batch.
    decay: weight of the old running average.
  """

  eps: float = 1e-5
  inner_eps: float | None = None
  group_size: int = 0
  decay: float = 0.9


@dataclass(frozen=True)
class STS:
  """Space-time convolution in place of convolutions through time, see layers.sts.STSConv.

  Attributes:
    variant: 'sts', 'no_split', 'dilated' or 'plain'; '' = ordinary convolutions.
    ratio: of static to dynamic outputs.
    dilation: of the variant 'dilated'.
    lines: 'flat' or 'aligned'.
  """

  variant: str = ''
  ratio: tuple[int, int] = (1, 1)
  dilation: int = 2
  lines: str = 'flat'


@dataclass(frozen=True)
class NonLocal:
  """Non-local blocks, see layers.temporal.NonLocal.

  Attributes:
    blocks: per stage, the blocks after which a non-local block follows.
    kind: 'softmax' or 'dot'.
    scaled: whether scores are divided by the square root of the channels.
    pool: keys and values are pooled 'before' or 'after' their projections; '' = not at all.
    size: of the pool in (time, height, width).
  """

  blocks: Sequence[Sequence[int]] = ((), (), (), ())
  kind: str = 'softmax'
  scaled: bool = True
  pool: str = 'before'
  size: Sequence[int] = (1, 2, 2)


@dataclass(frozen=True)
class TemporalModule:
  """Layer that mixes frames between 2D convolutions, see layers.temporal.

  Attributes:
    kind: 'tam', 'tsm', '' = none.
    where: in ResNets, 'all' blocks, the 'bottom' or 'top' half, 'uniform' (every second), or their
      numbers.
    taps, blend, dense, init: of layers.temporal.TAM.
    in_shortcut: a projection shortcut takes the output of TAM (first releases of TAM-ResNet).
    fraction: TSM shifts 1 / fraction of the channels each way, 8 = an eighth.
    whole_block: TSM shifts the input of the shortcut too.
  """

  kind: str = ''
  where: str | Sequence[int] = 'all'
  taps: int = 3
  blend: str = 'sum'
  dense: bool = False
  init: str = 'ibm'
  in_shortcut: bool = False
  fraction: int = 8
  whole_block: bool = False
