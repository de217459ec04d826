"""Kinetics-400: human actions, one label, clips of 10 s from YouTube."""

from vjax.types import DatasetSpec

SPEC = DatasetSpec(
  name='k400',
  num_classes=400,
  prepare='python -m data_prep.write --manifest=train.csv --videos=DIR --out=data/k400',
)
