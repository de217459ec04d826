"""The built-in dataset, labeled by verb and noun: motion and appearance together."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='motions_action',
  num_classes=0,
  flip=False,
  splits=('train', 'test'),
  folder='motions',
  label_space='action',
  prepare='python -m data_prep.synthetic --out=data/motions',
)
