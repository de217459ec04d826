"""The fc-only probe of any checkpoint on Kinetics-400: features once, then L2-regularized logistic
regression.  Ghadiyaram et al. (CVPR 2019), section 4 ("fc-only"): 10 clips of every training video,
10 of every test video.

Expected: R(2+1)D-34, 8 frames, pre-trained on 65M hashtagged videos: top-1 73.0.
Command:  python -m vjax.main --config=configs/probe_k400.py:init=CHECKPOINT
          python -m vjax.main --config=configs/probe_k400.py:init=runs/mae_k400_tiny,tiny
          python -m vjax.main --config=configs/probe_k400.py:init=CHECKPOINT,data=FOLDER
Without init an untrained network of `variant` is probed, as the baseline for every such number.
Nothing is trained: model, clip and normalization are the checkpoint's own, and only the evaluation
runs.
"""

import json
from pathlib import Path

from ml_collections import ConfigDict

from configs import common, mae_k400
from vjax import registry
from vjax.config import SCHEMA, complete, plain, translate


def get_config(arg: str | None = None) -> ConfigDict:
  """Returns the config.

  Axes: init = workdir or converted checkpoint; variant = untrained ViT to probe instead; clips =
  views in time; data = another dataset, or a folder of your own under data_dir; tiny.
  """
  arg = common.parse_arg(arg, init='', variant='L', clips=10, data='')
  config = ConfigDict(plain(mae_k400.get_config(f'variant={arg.variant}' + ',tiny' * arg.tiny)))
  if arg.init:
    before = saved(arg.init)
    for name in (
      'model',
      'clip',
      'augment',
    ):  # replaced as a whole: another network has other settings
      config[name] = before[name]
    config.data.update({name: tuple(before['data'][name]) for name in ('mean', 'std')})
  if arg.data in registry.names('data.datasets') and arg.data != 'custom':
    config.data.name = arg.data
  elif arg.data:
    config.data.update(name='custom', folder=arg.data)
  config.head = dict(name='linear')
  config.objective = dict(name='classify')
  config.optim = {}
  config.init = common.warm_start(arg.init)
  probe = dict(
    name='probe',
    train_split='train',
    test_split='val',
    num_clips=arg.clips,
    num_crops=1,
    batch_size=32,
  )
  config.evals = dict(probe=dict(common.TINY_PROBE) if arg.tiny else probe)
  return complete(config)


def saved(path: str) -> dict:
  """Returns the config of a checkpoint. Raises ValueError where there is none, or the config has no
  clip settings."""
  meta = Path(path, 'meta.json')
  if not meta.is_file():
    raise ValueError(
      f'config argument init={path!r}: there is no {meta}; give a workdir or converted checkpoint'
    )
  found = json.loads(meta.read_text())
  if 'config' not in found:
    raise ValueError(
      f'config argument init={path!r}: {meta} has no config; convert the weights again'
    )
  schema = found.get('schema', 1)
  config = found['config'] if schema == SCHEMA else translate(found['config'], schema)
  known = {
    'clip': ('num_frames', 'frame_stride', 'crop_size', 'short_side', 'sampling'),
    'data': ('mean', 'std'),
  }
  unknown = [
    f'--{key}'
    for section, keys in known.items()
    for key in keys
    if config[section].get(key) is None
  ]
  if unknown:
    raise ValueError(
      f'config argument init={path!r}: {meta} does not say for what clips the weights are; '
      f'convert them again, python -m vjax.convert --overwrite, with {", ".join(unknown)}'
    )
  return config
