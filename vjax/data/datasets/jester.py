"""Jester: 27 hand gestures; folders of images, 12 a second. Never mirrored: left and right are in
the labels."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='jester',
  num_classes=27,
  flip=False,
  prepare='python -m data_prep.write --list jester-v1-*.csv --root=DIR --out=data/jester',
)
