"""Domain B of the built-in data, labeled by appearance: shape and texture, seen in one frame."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='domain_b_appearance',
  num_classes=12,
  splits=('train', 'test'),
  folder='domains/b',
  label_space='appearance',
  prepare='python -m data_prep.synthetic --out=data/domains/b --style=b',
)
