"""EPIC-Kitchens-55, labeled by action, a pair of verb and noun: segments of videos of kitchens,
seen from the head."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='epic55',
  num_classes=0,
  splits=('train',),
  prepare=(
    'python -m data_prep.write --list EPIC_train_action_labels.csv EPIC_verb_classes.csv '
    'EPIC_noun_classes.csv --root=DIR --out=data/epic55'
  ),
)
