"""Domain C of the built-in data: outlines that go up and down, grow and shrink, meet and part."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='domain_c',
  num_classes=6,
  splits=('train', 'test'),
  folder='domains/c',
  prepare='python -m data_prep.synthetic --out=data/domains/c --style=c',
)
