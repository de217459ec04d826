"""Domain D of the built-in data: turning, appearing, vanishing, meeting and parting at night."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='domain_d',
  num_classes=6,
  flip=False,
  splits=('train', 'test'),
  folder='domains/d',
  prepare='python -m data_prep.synthetic --out=data/domains/d --style=d',
)
