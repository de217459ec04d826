"""A user's own videos; the config names the folder: dataclasses.replace(SPEC, folder='mine'). Classes are the manifest's."""

from vjax.types import DatasetSpec

SPEC = DatasetSpec(
  name='custom',
  num_classes=0,
  prepare='python -m data_prep.write --folder=DIR --out=data/custom',
)
