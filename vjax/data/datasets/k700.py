"""Kinetics-700: human actions, one label, clips of 10 s from YouTube."""

from vjax.types import DatasetSpec

SPEC = DatasetSpec(
  name='k700',
  num_classes=700,
  prepare='python -m data_prep.write --manifest=train.csv --videos=DIR --out=data/k700',
)
