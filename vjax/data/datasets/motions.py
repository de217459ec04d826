"""The built-in set, labeled by motion: pairs that only the order of frames tells apart. Left and
right are labels."""

from vjax.types import DatasetSpec

SPEC = DatasetSpec(
  name='motions',
  num_classes=12,
  flip=False,
  splits=('train', 'test'),
  prepare='python -m data_prep.synthetic --out=data/motions',
)
