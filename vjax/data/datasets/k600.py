"""Kinetics-600: human actions, one label, clips of 10 s from YouTube."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='k600',
  num_classes=600,
  prepare='python -m data_prep.write --list train.csv val.csv --root=DIR --out=data/k600',
)
