"""EPIC-Kitchens-55, labeled by noun: 352 classes."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='epic55_noun',
  num_classes=352,
  splits=('train',),
  folder='epic55',
  label_space='noun',
  prepare=(
    'python -m data_prep.write --list EPIC_train_action_labels.csv EPIC_verb_classes.csv '
    'EPIC_noun_classes.csv --root=DIR --out=data/epic55'
  ),
)
