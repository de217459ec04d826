"""EPIC-Kitchens-55, labeled by verb: 125 classes."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='epic55_verb',
  num_classes=125,
  splits=('train',),
  folder='epic55',
  label_space='verb',
  prepare=(
    'python -m data_prep.write --list EPIC_train_action_labels.csv EPIC_verb_classes.csv '
    'EPIC_noun_classes.csv --root=DIR --out=data/epic55'
  ),
)
