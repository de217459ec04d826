"""Fine-tuning a masked autoencoder on Kinetics-400.  Feichtenhofer et al. (NeurIPS 2022), table 5b.

Expected: top-1 / top-5 of 81.3 / 94.9 (B), 84.8 / 96.2 (L), 85.1 / 96.6 (H), 3 crops x 7 clips (table 7; 1600 epochs of
pre-training).
Command:  python -m vjax.main --config=configs/mae_finetune_k400.py:variant=L,init=runs/mae_k400
          python -m vjax.main --config=configs/mae_finetune_k400.py:tiny
Without init it trains from scratch. A data set of your own: data=FOLDER, see README.md.
Hardware: about 1/4 of the pre-training's. Epochs count clips, so with two repeats 100 epochs are 50 passes.
"""

from ml_collections import ConfigDict

from configs import common

RECIPES = {  # rate, videos a step it is for, epochs, repeats, drop path, dropout, layer decay
  'B': (1.6e-2, 768, 150.0, 2, 0.1, 0.3, 0.65),
  'L': (4.8e-3, 256, 100.0, 2, 0.2, 0.3, 0.75),
  'H': (1.6e-3, 256, 75.0, 1, 0.2, 0.5, 0.80),
}


def get_config(arg: str | None = None) -> ConfigDict:
  """Axes: variant = B, L or H; init = workdir of the pre-training; data = a folder of your own under data_dir; tiny."""
  arg = common.parse_arg(arg, variant='L', init='', data='')
  rate, batch, epochs, repeats, drop_path, dropout, layer_decay = common.choose('variant', arg.variant, RECIPES)
  config = ConfigDict()
  config.seed = 0
  config.model = dict(name='vit', variant=arg.variant, drop_path=drop_path)
  config.head = dict(name='linear', dropout=dropout, kernel_std=2e-5)
  config.objective = dict(name='classify', label_smoothing=0.1, mixup=0.8, cutmix=1.0, mix_group=16)
  config.data = dict(name='k400', split='train', batch=batch, **common.KINETICS_PIXELS)
  config.clip = dict(frames=16, stride=4, crop=224, short_side=224, sampling='linspace', repeats=repeats)
  # The paper's table says RandAugment (9, 0.5); both published codes use magnitude 7, crops from 8 % and erasing.
  config.augment = dict(
    crop='resized', area=(0.08, 1.0), flip=0.5, randaug=2, magnitude=7.0, magnitude_std=0.5, erase=0.25,
    repeat_window='same',
  )  # fmt: skip
  config.optim = dict(
    name='adamw', rate=rate, rate_batch=batch, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.05, clip_norm=5.0,
    decay_skip=('backbone/position_.*', 'backbone/class_token'), layer_decay=layer_decay,
    schedule='cosine', end=1e-6, total_epochs=epochs, warmup_epochs=5.0 * repeats,
  )  # fmt: skip
  config.train = common.training(
    dtype='bfloat16', log_steps=50, save_steps=500, eval_epochs=0.0, remat=arg.variant != 'B'
  )
  config.init = common.warm_start(arg.init)
  config.evals = dict(test=dict(name='views', split='val', clips=7, crops=3, batch=16, average='probabilities'))
  if arg.data:
    config.data.update(name='custom', folder=arg.data)
  if arg.tiny:
    config = tiny(config, own_data=bool(arg.data))
    config.optim.update(rate=2e-3, b2=0.95, clip_norm=1.0)
  return config.lock()


def tiny(config: ConfigDict, own_data: bool) -> ConfigDict:
  """The same recipe without the heaviest augmentation, for a small network and few steps; the rate stays to be set."""
  config.model = dict(common.TINY_VIT)
  config.head = dict(name='linear', dropout=0.0, kernel_std=0.01)
  config.objective = dict(name='classify')
  data = dict(name=config.data.name, folder=config.data.folder) if own_data else {}
  config.data = {**common.TINY_DATA, 'batch': 32, **data}
  config.clip = dict(common.TINY_CLIP, repeats=1)
  config.augment = dict(common.TINY_AUGMENT)
  del config.optim.total_epochs, config.optim.warmup_epochs
  config.optim.update(rate_batch=32, layer_decay=1.0, total_steps=600, warmup_steps=60)
  config.train = common.training(dtype='float32', log_steps=50, save_steps=250)
  config.evals = dict(test={**common.TINY_VIEWS, 'split': 'val' if own_data else 'test'})
  return config
