"""Something-Something v2: 174 actions on objects, named by templates. Never mirrored: left and
right are in the labels."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='ssv2',
  num_classes=174,
  flip=False,
  prepare='python -m data_prep.write --list train.json validation.json --root=DIR --out=data/ssv2',
)
