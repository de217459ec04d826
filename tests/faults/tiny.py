"""The smallest experiments as a config file, for tests that start whole commands:
--config=tests/faults/tiny.py:mae"""

from ml_collections import ConfigDict, config_dict

from tests.experiments import joint, shrunk

CONFIGS = {'mae': 'mae_k400', 'classify': 'mae_finetune_k400'}


def get_config(arg: str = 'mae') -> ConfigDict:
  """mae: with the loss of the test split at the end; classify, and joint of two datasets: with
  dropout, an average of parameters, and test views."""
  config = joint() if arg == 'joint' else shrunk(CONFIGS[arg])
  config['train'] |= {'keep': 3}
  config['evals'].pop('probe', None)
  config['data'] |= {'workers': config_dict.placeholder(int)}
  if arg in ('classify', 'joint'):
    config['head'] |= {'dropout': 0.3}
    config['train'] |= {'ema_decay': 0.9}
  for evaluation in config['evals'].values():
    evaluation |= {
      'batch_size': 16
    }  # 36 test clips: the last batch is neither full nor shared evenly by hosts
  return ConfigDict(config)
