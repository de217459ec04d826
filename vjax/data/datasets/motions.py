"""The built-in dataset, labeled by motion: pairs that differ in the order of frames only. Left and
right are labels."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='motions',
  num_classes=12,
  flip=False,
  splits=('train', 'test'),
  prepare='python -m data_prep.synthetic --out=data/motions',
)
