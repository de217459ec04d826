"""Configs of the repository shrunk until a test can train them."""

import importlib

from configs import multitrain
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


def joint(**updates):
  """The plain config configs/multitrain.py:tiny with the smallest transformer, two label spaces of
  the built-in data, batch 8, four steps; updates: {'section.key': value}."""
  found = plain(multitrain.get_config('tiny'))
  found['model'] = {
    'name': 'vit_tiny', 'width': 16, 'depth': 1, 'heads': 2, 'patch': (4, 16, 16),
    'positions': 'separable',
  }  # fmt: skip
  found['head'] |= {'hidden': 8, 'expander': 8}
  found['data'] |= {'batch_size': 8, 'workers': 0}
  found['optim'] |= {'base_batch_size': 8, 'total_steps': 4, 'warmup_steps': 1}
  found['train'] |= {'log_steps': 2, 'save_steps': 2, 'keep': 10}
  views = found['evals']['motion'] | {'num_clips': 1, 'batch_size': 36}
  found['evals'] = {
    'motion': views,
    'motion_projected': views | {'name': 'projected'},
    'appearance': views | {'dataset': 'appearance', 'save_predictions': True},
  }
  for place, value in updates.items():
    section, key = place.split('.')
    found[section] = {**found[section], key: value}
  return found
