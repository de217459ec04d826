"""Moments in Time, version 2: 305 actions and events, one label, videos of 3 s."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='moments_v2',
  num_classes=305,
  prepare=(
    'python -m data_prep.write --list trainingSet.csv validationSet.csv --root=DIR '
    '--out=data/moments_v2'
  ),
)
