"""Kinetics-600: human actions, one label, clips of 10 s from YouTube."""

from vjax.types import DatasetSpec

SPEC = DatasetSpec(
  name='k600',
  num_classes=600,
  prepare='python -m data_prep.write --manifest=train.csv --videos=DIR --out=data/k600',
)
