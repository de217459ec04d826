"""Something-Something v1: 174 actions on objects, named by templates; folders of images, 12 a
second. Never mirrored: left and right are in the labels."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='ssv1',
  num_classes=174,
  flip=False,
  prepare=(
    'python -m data_prep.write --list something-something-v1-*.csv --root=DIR --out=data/ssv1'
  ),
)
