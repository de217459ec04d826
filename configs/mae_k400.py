"""Masked autoencoding of Kinetics-400 clips.  Feichtenhofer, Fan, Li, He: Masked Autoencoders As
Spatiotemporal Learners (NeurIPS 2022), table 5a; the same recipe for B, L and H.

Expected: fine-tuned with mae_finetune_k400.py, top-1 81.3 (B), 84.8 (L), 85.1 (H) after 1600
epochs; L 84.4 after 800.
Command:  python -m vjax.main --config=configs/mae_k400.py:variant=L
          python -m vjax.main --config=configs/mae_k400.py:tiny   (built-in data, minutes)
Table 10 pre-trains on Kinetics-600 and -700 by the same recipe: data=k600, data=k700, epochs=1600;
table 12 on Something-Something V2: data=ssv2, epochs=200.

Hardware: the paper used 128 A100 for 35.8 h (L, 800 epochs, data loading included). Epochs count
clips: four are drawn from every decoded video, so 800 epochs are 200 passes over the videos.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import common
from vjax.config import complete


def get_config(arg: str | None = None) -> ConfigDict:
  """Returns the config.

  Axes: variant = B, L or H; epochs; data = k600, k700, ssv2 or a folder of your own under data_dir;
  unlabeled = its videos have no labels, so that tiny has no probe; tiny.
  """
  axes: Any = common.parse_arg(arg, variant='L', epochs=800.0, data='', unlabeled=False)
  config = ConfigDict()
  config.seed = 0
  config.model = dict(name=common.choose('variant', axes.variant, common.VITS))
  config.head = dict(name='mae', preset='released', width=512, depth=4)
  config.objective = dict(name='mae', ratio=0.9, kind='random', normalize=True, target='stride')
  config.data = dict(name='k400', split='train', batch_size=512, **common.KINETICS_PIXELS)
  config.clip = dict(
    num_frames=16, frame_stride=4, crop_size=224, short_side=256, sampling='linspace', num_repeats=4
  )
  config.augment = dict(
    crop='resized', area=(0.5, 1.0), flip=0.5, device_frame_size=(256, 340)
  )  # resized on the accelerator
  config.optim = dict(
    name='adamw', learning_rate=1.6e-3, base_batch_size=512, b1=0.9, b2=0.95, eps=1e-8,
    weight_decay=0.05, clip_norm=0.02,
    schedule='cosine', end_lr=0.0, total_epochs=axes.epochs, warmup_epochs=0.15 * axes.epochs,
  )  # fmt: skip
  config.train = dict(
    dtype='bfloat16', log_steps=50, save_steps=1000, eval_epochs=80.0, remat=axes.variant != 'B'
  )
  config.evals = dict(
    val=dict(name='loss', split='val', num_clips=1, num_crops=1, batch_size=256),
    pictures=dict(
      name='reconstruction',
      split='val',
      num_clips=1,
      num_crops=1,
      batch_size=8,
      ratios=(0.9, 0.95, 0.98),
    ),
  )
  common.use_data(config, axes.data, ssv2=True)
  config = tiny(config) if axes.tiny else config
  if axes.unlabeled:
    config.evals = {name: e for name, e in config.evals.items() if e['name'] != 'probe'}
  return complete(config)


def tiny(config: ConfigDict) -> ConfigDict:
  """Shrinks the recipe to the built-in data.

  The differences were found by trying. One of the two slots in time is masked as a whole
  (studies/mae_pretraining.py: the network learns far less from random halves). All frames of a
  patch are predicted. Learning rate and clipping are for a batch of 32 clips.
  """
  config.model = dict(common.TINY_VIT)
  config.head = dict(
    name='mae', preset='released', width=96, depth=2, heads=3, positions='sincos', pred_frames=8
  )
  config.objective.update(ratio=0.5, kind='frame')
  own = common.own_data(config)
  config.data = {**common.TINY_DATA, 'batch_size': 32, **own}
  config.clip = dict(common.TINY_VIT_CLIP, num_repeats=1)
  config.augment = dict(common.TINY_VIT_AUGMENT)
  del config.optim.total_epochs, config.optim.warmup_epochs
  config.optim.update(
    learning_rate=4e-3, base_batch_size=32, clip_norm=1.0, total_steps=1000, warmup_steps=100
  )
  config.train = dict(dtype='float32', log_steps=50, save_steps=500)
  split = 'val' if own else 'test'
  config.evals = dict(
    val=dict(name='loss', split=split, num_clips=1, num_crops=1, batch_size=64),
    probe={**common.TINY_PROBE, 'test_split': split},
    pictures=dict(name='reconstruction', split=split, num_clips=1, num_crops=1, batch_size=8),
  )
  return config
