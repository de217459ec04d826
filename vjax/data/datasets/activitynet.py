"""ActivityNet 1.3: 200 activities, one label a segment; segments of videos of minutes from
YouTube."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='activitynet',
  num_classes=200,
  leaks=('activitynet_10s',),
  prepare=(
    'python -m data_prep.write --list activity_net.v1-3.min.json --root=DIR --out=data/activitynet'
  ),
)
