"""ImageNet-1K: images of 1000 classes, which are named by their WordNet numbers, in order. A set of
TensorFlow Datasets does as well: --config.data.folder=tfds:imagenet2012."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='imagenet',
  num_classes=1000,
  prepare='python -m data_prep.write --folder=DIR --out=data/imagenet',
)
