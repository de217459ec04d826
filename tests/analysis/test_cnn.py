"""Contributions of space and time: the paper's table 7 from its 288 scores."""

import pytest

from vjax import checkpoint, factory, figures, zoo
from vjax.analysis import cnn

# Recomputed from the released scores; columns I3D, S3D, TAM. The paper's table has the first two of
# Phi and Psi swapped.
TABLE_7 = {
  ('mini_ssv2', 'phi'): (0.533, 0.526, 0.518),
  ('mini_ssv2', 'psi'): (0.447, 0.460, 0.474),
  ('mini_ssv2', 'psi_tp'): (0.382, 0.380, 0.374),
  ('mini_kinetics', 'phi'): (0.965, 0.971, 0.963),
  ('mini_kinetics', 'psi'): (0.079, 0.061, 0.090),
  ('mini_kinetics', 'psi_tp'): (-0.084, -0.095, -0.123),
  ('mini_mit', 'phi'): (0.913, 0.889, 0.872),
  ('mini_mit', 'psi'): (0.029, 0.037, 0.044),
  ('mini_mit', 'psi_tp'): (0.022, 0.019, 0.037),
}
TSN_POOLED = {'mini_ssv2': 0.315, 'mini_kinetics': -0.057, 'mini_mit': 0.029}


@pytest.mark.parametrize(('dataset', 'number'), TABLE_7)
def test_table_7_from_the_released_scores(dataset, number):
  scores = cnn.released()
  assert len(scores) == 288
  found = [cnn.contributions(scores, dataset, m)[number] for m in ('i3d', 's3d', 'tam')]
  assert found == pytest.approx(TABLE_7[dataset, number], abs=1e-3)


def test_tsn_with_pooling():
  for dataset, expected in TSN_POOLED.items():
    found = cnn.contributions(cnn.released(), dataset, 'tsn')
    assert found['psi_tp'] == pytest.approx(expected, abs=1e-3)
    assert (found['phi'], found['psi']) == (1, 0)


def test_a_score_below_tsn():
  assert cnn.spatial_contribution(40, 50) == 1 and cnn.temporal_improvement(40, 50) == -0.2
  assert cnn.spatial_contribution(80, 50) == 0.625 and cnn.temporal_improvement(80, 50) == 0.6


def test_pooling_helps_tsn_alone():
  """Figure 6: on Mini-SSV2 by 17 points or more; the others lose, I3D-InceptionV1 least."""
  effect = cnn.pooling_effect(cnn.released())
  assert len(effect) == 144
  of = lambda data, module: [
    x for k, x in effect.items() if k.dataset == data and (k.module == 'tsn') == module
  ]
  assert min(of('mini_ssv2', True)) > 17 and max(of('mini_ssv2', False)) < 0.2
  first = effect[cnn.Key('mini_ssv2', 'tsn', 'inception_v1', False, 8)]
  assert first == pytest.approx(20.2)


def test_costs_are_those_of_the_networks():
  gmacs = cnn.released('gmacs')
  net = factory.create_model('tam_tp_r18', 87)
  for frames in (8, 64):
    key = cnn.Key('mini_mit', 'tam', 'resnet18', True, frames)
    assert gmacs[key] == pytest.approx(zoo.measure(net, frames, 224).gmacs, rel=1e-3)


def test_runs_of_ones_own(tmp_path):
  for name, top1 in {'tsn_r18': 0.3, 'tam_r18': 0.6, 'tam_tp_r18': 0.5, 'vit_base': 0.9}.items():
    config = {'model': {'name': name}, 'data': {'name': 'motions'}, 'clip': {'num_frames': 8}}
    (tmp_path / name).mkdir()
    checkpoint.write_json(tmp_path / name / 'meta.json', {'config': config})
    checkpoint.write_json(tmp_path / name / 'result.json', {'step': 6, 'clip': {'top1': top1}})
  scores = cnn.of_runs(str(tmp_path))
  assert len(scores) == 3
  found = cnn.contributions(scores, 'motions', 'tam')
  assert found == pytest.approx({'phi': 0.5, 'psi': 3 / 7, 'psi_tp': 2 / 7})
  with pytest.raises(ValueError, match='no finished run'):
    cnn.of_runs(str(tmp_path / 'tsn_r18'))


def test_command_prints_and_draws(tmp_path, capsys):
  assert cnn.main([f'--out={tmp_path}']) == 0
  printed = capsys.readouterr().out
  assert cnn.main([f'--out={tmp_path}']) == 1
  assert 'is there already' in capsys.readouterr().err
  assert '| mini_ssv2 | i3d | 0.533 | 0.448 | 0.382 |' in printed
  for name in ('contributions.png', 'grid.png', 'table2.png'):
    assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')
  assert cnn.main([f'--runs={tmp_path}']) == 1


def test_scatter_has_a_line_for_each_label():
  figure = figures.scatter({'a': {'x': [(1, 1), (2, 0)], 'y': [(1, 1)]}}, 'cost', 'top-1')
  axis = figure.axes[0]
  assert [list(line.get_xdata()) for line in axis.lines] == [[1, 2], [1]] and axis.get_legend()
  single = figures.scatter({'a': {'x': [(1, 1)], 'y': [(2, 1)]}}, 'cost', 'top-1').axes[0]
  assert [text.get_text() for text in single.texts] == ['x', 'y'] and not single.get_legend()
