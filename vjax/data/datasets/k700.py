"""Kinetics-700: human actions, one label, clips of 10 s from YouTube. 13.9k of its training videos
are in the test set of Kinetics-400 (Feichtenhofer et al. 2022, appendix B)."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='k700',
  num_classes=700,
  leaks=('k400',),
  prepare='python -m data_prep.write --list train.csv val.csv --root=DIR --out=data/k700',
)
