"""A user's own videos; the config names the folder: dataclasses.replace(SPEC, folder='mine').
Classes, and whether a clip has one label or several, are the manifest's."""

from vjax.types import DatasetSpec

SPEC = DatasetSpec(
  name='custom',
  num_classes=0,
  labels='',
  prepare='python -m data_prep.write --folder=DIR --out=data/custom',
)
