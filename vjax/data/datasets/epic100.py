"""EPIC-Kitchens-100, labeled by action, a pair of verb and noun: segments of videos of kitchens,
seen from the head."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='epic100',
  num_classes=0,
  prepare=(
    'python -m data_prep.write --list EPIC_100_train.csv EPIC_100_validation.csv '
    'EPIC_100_verb_classes.csv EPIC_100_noun_classes.csv --root=DIR --out=data/epic100'
  ),
)
