"""ActivityNet 1.3 in windows of 10 s of its segments, one label each, as for joint training (Liang
et al. 2022, MultiTrain)."""

from vjax.data.specs import DatasetSpec

SPEC = DatasetSpec(
  name='activitynet_10s',
  num_classes=200,
  # DIFFERS(paper): its split is not known. 107K windows of training to 16K of test are no official
  # subsets, so that 13 % of the videos of each class, of both subsets together, are kept apart.
  leaks=('activitynet',),
  prepare=(
    'python -m data_prep.write --list activity_net.v1-3.min.json --root=DIR --window_s=10 '
    '--join_splits --holdout=0.13 --out=data/activitynet_10s'
  ),
)
