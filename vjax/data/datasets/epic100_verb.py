"""EPIC-Kitchens-100, labeled by verb: 97 classes."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='epic100_verb',
  num_classes=97,
  folder='epic100',
  label_space='verb',
  prepare=(
    'python -m data_prep.write --list EPIC_100_train.csv EPIC_100_validation.csv '
    'EPIC_100_verb_classes.csv EPIC_100_noun_classes.csv --root=DIR --out=data/epic100'
  ),
)
