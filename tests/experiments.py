"""Configs of the repository shrunk until a test can train them."""

import importlib

from vjax.config import plain
from vjax.models import vit


def shrunk(name: str, arg: str = 'tiny', **updates):
  """The plain config configs/<name>.py:<arg>, smallest network, batch 8, six steps; updates:
  {'section.key': value}."""
  config = plain(importlib.import_module(f'configs.{name}').get_config(arg))
  if config['model']['name'] in vit.MODELS:
    config['model'] |= {
      'width': 32,
      'depth': 1,
      'heads': 2,
      'patch': (4, 16, 16),
      'positions': 'separable',
    }
    config['clip'] |= {'crop_size': 48, 'short_side': 54}
    config['augment'] |= {'size': (54, 54)}
  else:
    config['model'] |= {'width': 0.0625, 'depths': (1, 1, 1, 1), 'norm': {'group_size': 2}}
  if config['head']['name'] == 'mae':
    config['head'] |= {'width': 32, 'depth': 1, 'heads': 2, 'positions': 'joint'}
    config['objective'] |= {'kind': 'random'}
  config['data'] |= {'batch_size': 8}
  config['train'] |= {'log_steps': 2, 'save_steps': 2, 'keep': 10}
  if config['optim']:
    config['optim'] |= {'base_batch_size': 8, 'total_steps': 6, 'warmup_steps': 1}
    if 'boundary_steps' in config['optim']:
      config['optim'] |= {'boundary_steps': (4,)}
  for place, value in updates.items():
    section, key = place.split('.')
    config[section] |= {key: value}
  return config
