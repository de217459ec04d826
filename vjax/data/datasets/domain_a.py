"""Domain A of the built-in data: left, right, up, down, growing and shrinking, over noise."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='domain_a',
  num_classes=6,
  flip=False,
  splits=('train', 'test'),
  folder='domains/a',
  prepare='python -m data_prep.synthetic --out=data/domains/a --style=a',
)
