"""A user's own videos. The config names the folder: dataclasses.replace(SPEC, folder='mine'). The
manifest has the classes, and whether a clip has one label or several."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='custom',
  num_classes=0,
  labels='',
  prepare='python -m data_prep.write --folder=DIR --out=data/custom',
)
