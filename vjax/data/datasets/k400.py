"""Kinetics-400: human actions, one label, clips of 10 s from YouTube."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='k400',
  num_classes=400,
  prepare='python -m data_prep.write --list train.csv val.csv --root=DIR --out=data/k400',
)
