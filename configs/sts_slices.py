"""Linear probe of images on the frozen network that one temporal slice of a video network's kernels
makes.  Li, Wei, Kim, Khanna, Yuille, Xie: In Defense of Image
Pre-Training for Spatiotemporal Recognition (ECCV 2022), section 3.1, table 1.

Expected: top-1 on ImageNet of slices 0, 1, 2 of networks trained from scratch on Kinetics-400:
CSN-50 3.0, 33.5, 6.3; X3D-S 5.7, 41.2, 5.5; R(2+1)D-34 0.8, 32.3, 2.2; SlowOnly-50 18.3, 45.1, 17.6
(its first stages have no kernels through time).
Command:  python -m vjax.main --config=configs/sts_slices.py:init=VIDEO_WORKDIR,slice=1
          python -m vjax.main --config=configs/sts_slices.py:init=VIDEO_WORKDIR,slice=0,data=FOLDER
          python -m vjax.main --config=configs/sts_slices.py:init=runs/sts_video_model-csn_tiny,tiny
Hardware: one pass over the images. The host keeps 11 GB of features, the device 50,000 at a time.

VIDEO_WORKDIR is a run of configs/sts_video.py without init, or converted weights. Every kernel of
three frames has one slice, in its middle; longer ones have the middle one or a neighbor of it. The
network sees images, clips of one frame; statistics of batch normalization are those of the videos.

DIFFERS(paper): the paper trains the linear classifier for 100 epochs, by an optimizer that it does
not name; here it is fitted to convergence, on features of one view without augmentation.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import common, probe_k400, sts_image
from vjax import registry
from vjax.config import complete, plain


def get_config(arg: str | None = None) -> ConfigDict:
  """Returns the config.

  Axes: init = workdir of a video network, or converted weights; without, an untrained CSN, as the
  baseline; slice = 0, 1 or 2: before, at and after the middle; data = imagenet, tfds:NAME, or a
  folder of your own under data_dir; tiny.
  """
  axes: Any = common.parse_arg(arg, init='', slice=1, data='imagenet')
  common.choose('slice', axes.slice, {index: index for index in (0, 1, 2)})
  image = sts_image.get_config('model=csn,conv=plain' + (',tiny' if axes.tiny else ''))
  config = ConfigDict(plain(image))
  config.objective = dict(name='classify')
  config.optim = {}
  if axes.init:
    before = probe_k400.saved(axes.init)
    config.model = before['model']
    config.data.update({name: tuple(before['data'][name]) for name in ('mean', 'std')})
    config.clip.crop_size = before['clip']['crop_size']
    config.clip.short_side = max(config.clip.short_side, config.clip.crop_size)
    config.init = {**common.warm_start(axes.init), 'time_slice': axes.slice}
  config.clip.update(num_repeats=1, repeat_distance=1)
  config.data.batch_size = 32
  own = axes.data not in registry.names('data.datasets')
  if not axes.tiny or own:
    config.data.update(dict(name='custom', folder=axes.data) if own else dict(name=axes.data))
  probe = dict(
    name='probe', train_split='train', test_split='val', num_clips=1, num_crops=1,
    block_size=50_000,
  )  # fmt: skip
  settings = dict(common.TINY_PROBE) if axes.tiny else {**probe, 'batch_size': 256}
  if axes.tiny and own:
    settings['test_split'] = 'val'
  short_side = max(sts_image.test_side(config.clip.crop_size, 0.875), config.clip.crop_size)
  config.evals = dict(probe={**settings, 'short_side': short_side, 'interpolation': 'bicubic'})
  return complete(config)
