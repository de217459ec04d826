"""The built-in dataset, labeled by appearance: shape and texture, which one frame shows."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='motions_appearance',
  num_classes=0,
  splits=('train', 'test'),
  folder='motions',
  label_space='appearance',
  prepare='python -m data_prep.synthetic --out=data/motions',
)
