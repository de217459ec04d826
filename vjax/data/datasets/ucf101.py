"""UCF101: 101 human actions, one label, videos from YouTube; three splits, of which one is
prepared."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='ucf101',
  num_classes=101,
  prepare=(
    'python -m data_prep.write --list trainlist01.txt val:testlist01.txt classInd.txt --root=DIR '
    '--out=data/ucf101'
  ),
)
