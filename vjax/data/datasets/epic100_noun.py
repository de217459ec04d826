"""EPIC-Kitchens-100, labeled by noun: 300 classes."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='epic100_noun',
  num_classes=300,
  folder='epic100',
  label_space='noun',
  prepare=(
    'python -m data_prep.write --list EPIC_100_train.csv EPIC_100_validation.csv '
    'EPIC_100_verb_classes.csv EPIC_100_noun_classes.csv --root=DIR --out=data/epic100'
  ),
)
