"""Mini-Moments in Time: 200 of the classes of Moments in Time, and an eighth of its videos. Its
authors publish lists of its own, from which the records are made."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='mini_mit',
  num_classes=200,
  prepare=(
    'python -m data_prep.write --list trainingSet.csv validationSet.csv --root=DIR '
    '--out=data/mini_mit'
  ),
)
