"""Domain B of the built-in data: left, right, turning, appearing and vanishing, dark on paper."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='domain_b',
  num_classes=6,
  flip=False,
  splits=('train', 'test'),
  folder='domains/b',
  prepare='python -m data_prep.synthetic --out=data/domains/b --style=b',
)
