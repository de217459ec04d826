"""Sports-1M: 487 sports, several labels a video, videos of minutes from YouTube."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='sports1m',
  num_classes=487,
  labels='multi_label',
  splits=('train', 'test'),
  prepare=(
    'python -m data_prep.write --list train_partition.txt test_partition.txt '
    '--classes=labels.txt --root=DIR --out=data/sports1m'
  ),
)
