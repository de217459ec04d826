"""Moments in Time, version 1: 339 actions and events, one label, videos of 3 s."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='moments',
  num_classes=339,
  prepare=(
    'python -m data_prep.write --list trainingSet.csv validationSet.csv --root=DIR '
    '--out=data/moments'
  ),
)
