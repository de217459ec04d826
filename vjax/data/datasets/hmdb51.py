"""HMDB51: 51 human actions, one label, from films and the web; three splits, of which one is
prepared."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='hmdb51',
  num_classes=51,
  splits=('train', 'test'),
  prepare='python -m data_prep.write --list *_test_split1.txt --root=DIR --out=data/hmdb51',
)
