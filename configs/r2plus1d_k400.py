"""R(2+1)D on Kinetics-400, from scratch or fully fine-tuned.  Ghadiyaram, Feiszli, Tran, Yan, Wang,
Mahajan: Large-scale weakly-supervised pre-training for video action recognition (CVPR 2019), tables
2, 9 and 13.

Expected: from scratch, 32 frames, 10 clips: top-1 69.3 (18), 69.6 (34), 71.7 (101), 72.0 (152);
fine-tuned from 65M hashtagged videos: 76.0, 78.2, 79.1, 79.9. The pre-training data was never
released; published weights for it load with `python -m vjax.convert --source=vmz`.
Command:  python -m vjax.main --config=configs/r2plus1d_k400.py:variant=r2plus1d_34,frames=32
          python -m vjax.main --config=configs/r2plus1d_k400.py:init=CHECKPOINT
          python -m vjax.main --config=configs/r2plus1d_k400.py:tiny
          Where decoding is what a step waits for: --config.augment.decode=reduced (docs/scaling.md)
Hardware: fine-tuning in the paper: 64 GPUs, 6 clips of 32 frames each (16 of 8 frames).

The paper gives no recipe for training from scratch: durations and learning rates are those of the
authors' code, for as many GPUs. Fine-tuning has the learning rate of table 13, 3e-5 a GPU, which is
for weights of 65M videos. For smaller pre-training sets the paper has 2.5e-4 to 1e-2 a GPU (tables
8 and 10 to 12): set --config.optim.learning_rate, and --config.optim.warmup_start_lr, to 64 times
that.
"""

from ml_collections import ConfigDict

from configs import common
from vjax.config import complete

GPUS = 64
GROUPS = {8: 16, 32: 6}  # frames -> clips a GPU, which share BatchNorm statistics


def get_config(arg: str | None = None) -> ConfigDict:
  """Returns the config.

  Axes: variant = a model of vjax.list_models(); frames = 8 or 32; init = checkpoint to fine-tune;
  data = a folder of your own under data_dir; tiny.
  """
  arg = common.parse_arg(arg, variant='r2plus1d_34', frames=32, init='', data='')
  group = common.choose('frames', arg.frames, GROUPS)
  batch = GPUS * group
  config = ConfigDict()
  config.seed = 0
  config.model = dict(name=arg.variant, norm=dict(group_size=group))
  config.head = dict(name='linear')
  config.objective = dict(name='classify')
  config.data = dict(name='k400', split='train', batch_size=batch, **common.VMZ_PIXELS)
  config.clip = dict(
    num_frames=arg.frames, frame_stride=1, crop_size=112, short_side=128, sampling='consecutive'
  )
  config.augment = dict(crop='fixed', size=(128, 171), flip=0.5)
  config.optim = dict(
    name='sgd', base_batch_size=batch, momentum=0.9, nesterov=True, weight_decay=1e-4,
    decayed='kernels_and_scales',
    schedule='step', factor=0.1,
  )  # fmt: skip
  if arg.init:  # table 13; rates are per GPU in the paper
    rates = dict(learning_rate=3e-5 * GPUS, warmup_start_lr=3e-5)
    config.optim.update(rates, total_epochs=58.0, warmup_epochs=16.0, boundary_epochs=(32.0, 48.0))
  else:
    rates = dict(learning_rate=0.01 * GPUS, warmup_start_lr=0.01)
    config.optim.update(
      rates, total_clips=45e6, warmup_clips=10e6, boundary_clips=(20e6, 30e6, 40e6)
    )
  config.train = dict(dtype='bfloat16', log_steps=50, save_steps=500)
  config.init = common.warm_start(arg.init)
  config.evals = dict(
    test=dict(
      name='views', split='val', num_clips=10, num_crops=1, batch_size=16, average='probabilities'
    )
  )
  if arg.data:
    config.data.update(name='custom', folder=arg.data)
  return complete(tiny(config, own_data=bool(arg.data)) if arg.tiny else config)


def tiny(config: ConfigDict, own_data: bool) -> ConfigDict:
  """Shrinks the recipe to an eighth of the width of the 18-layer network and 8 frames, by the same
  rules."""
  config.model.update(name='r2plus1d_18', width=0.125, norm=dict(group_size=16))
  data = dict(name=config.data.name, folder=config.data.folder) if own_data else {}
  config.data = {**common.TINY_DATA, 'batch_size': 32, **common.VMZ_PIXELS, **data}
  config.clip = dict(common.TINY_CLIP)
  config.augment = dict(common.TINY_AUGMENT)
  for key in list(config.optim):
    if key.startswith(('total_', 'warmup_', 'boundary_')):
      del config.optim[key]
  config.optim.update(
    learning_rate=0.1,
    base_batch_size=32,
    total_steps=800,
    warmup_steps=80,
    boundary_steps=(500, 700),
  )
  config.train = dict(dtype='float32', log_steps=50, save_steps=200)
  config.evals = dict(test={**common.TINY_VIEWS, 'split': 'val' if own_data else 'test'})
  return config
