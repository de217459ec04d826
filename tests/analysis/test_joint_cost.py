"""Cost of joint training, and of one dataset's model."""

import pytest

from configs import multitrain
from tests.experiments import joint as config
from vjax import build, zoo
from vjax.analysis import joint_cost

ONE, SAME, LINEAR = (
  'one classifier of several',
  'alone, the same classifier',
  'alone, a linear classifier',
)


def by(rows, *keys):
  return {tuple(row[k] for k in keys): (row['parameters'], row['GMACs of a clip']) for row in rows}


def test_what_multitrain_adds():
  """16 features, an expander of 8: two projections, two layers, the covariance."""
  backbone, features = joint_cost.of_backbone(config())
  head = build.model(config(), build.known_outputs(config())).head
  classes = list(head.num_classes.values())
  projections, expander = 2 * classes[0] * classes[1], 2 * 16 * 8
  found = by(joint_cost.tables(config())['Training'], 'training')
  assert found['MultiTrain adds',][0] == f'{projections + expander + 8 + 16 + 2}'
  costs = [joint_cost.of_head(head, features.pooled, informative=x) for x in (False, True)]
  served = [joint_cost.of_head(head.serving(d), features.pooled) for d in head.num_classes]
  assert costs[1][1] - costs[0][1] == 16 * 16
  assert costs[0][1] - sum(macs for _, macs in served) == projections + expander
  assert found['vanilla joint',][0] == f'{backbone[0] + sum(size for size, _ in served):,}'


def test_one_dataset_costs_what_its_own_network_costs():
  joint = config()
  net = build.model(joint, build.known_outputs(joint))
  served = net.clone(head=net.head.serving('motion'))
  head = {'name': 'mlp', 'hidden': joint['head']['hidden']}
  only = {'motion': joint['datasets']['motion']}
  alone = {
    **joint, 'head': head, 'objective': {'name': 'classify'}, 'datasets': only, 'evals': {}
  }  # fmt: skip
  ours, theirs = (zoo.measure(n, 8, 48) for n in (served, build.model(alone, 12)))
  assert ours == theirs
  found = by(joint_cost.tables(joint)['Served'], 'dataset', 'network')
  cells = f'{ours.parameters:,}', f'{ours.gmacs:.4f}'
  assert found['motion', ONE] == found['motion', SAME] == cells != found['motion', LINEAR]


@pytest.mark.slow
def test_the_papers_network():
  """Beside counts of the authors' code: backbone 50,986,176; 223.1 GMACs with a linear classifier
  of 400 classes."""
  tables = joint_cost.tables(multitrain.get_config())
  training, served = by(tables['Training'], 'training'), by(tables['Served'], 'dataset', 'network')
  assert training['vanilla joint',] == ('59,496,695', '223.1371')
  assert training['MultiTrain',] == (f'{63_486_179 + 4:,}', '223.1416')
  assert training['MultiTrain adds, %',] == ('6.7', '0.0021')
  assert served['k400', ONE] == (f'{50_986_176 + 1_574_912 + 2049 * 400:,}', '223.1309')
  assert served['k400', LINEAR] == ('51,293,776', '223.1289')
  small = joint_cost.tables(multitrain.get_config('backbone=mvit_v2_s_16x4'))
  found = by(small['Training'], 'training')
  assert found['vanilla joint',] == ('42,740,663', '64.2320')
  assert found['MultiTrain adds',] == ('3,989,488', '0.0046')


def test_the_command(capsys):
  assert joint_cost.main(['configs/multitrain.py:tiny']) == 0
  assert '| MultiTrain adds ' in capsys.readouterr().out
  for where, words in (
    ('configs/mvit_k400.py:tiny', "config.head.name is 'linear': give a config with"),
    ('none.py', 'there is no file none.py: give configs/multitrain.py'),
    ('configs/multitrain.py:sets=x', "sets='x': it must be one of k400, k700"),
  ):
    assert joint_cost.main([where]) == 1
    assert words in capsys.readouterr().err
