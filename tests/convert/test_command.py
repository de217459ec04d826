"""The command python -m vjax.convert: what it prints, and which folders it writes to."""

import json

import numpy as np
import pytest

from tests.convert.test_mae_st import dictionary
from vjax import build, checkpoint, predict, registry
from vjax.config import parse
from vjax.convert import __main__ as command
from vjax.convert import _config
from vjax.heads import joint
from vjax.types import VideoModel


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """Weights of a classifier, with a section of their moving average, and of a backbone."""
  folder = tmp_path_factory.mktemp('weights')
  classifier = dictionary('repo', classes=3)
  np.savez(folder / 'classifier.npz', **{f'module.{n}': x for n, x in classifier.items()})
  np.savez(folder / 'backbone.npz', **{n: x for n, x in classifier.items() if 'head' not in n})
  broken = {n: x.copy() for n, x in classifier.items()}
  broken['blocks.3.mlp.fc1.weight'][5, 7] = np.nan
  np.savez(folder / 'nan.npz', **broken)
  return folder


def convert(root, name, out, *more):
  command.main(['--source=mae_st', '--variant=Ti', *more, f'{root}/{name}.npz', str(out)])


def test_a_full_folder_is_kept(root, tmp_path, capsys):
  out = tmp_path / 'out'
  out.mkdir()  # an empty one is no hindrance
  convert(root, 'classifier', out)
  assert "classifier.npz: prefix 'module.' taken off" in capsys.readouterr().out
  before = (out / 'meta.json').read_text()
  with pytest.raises(
    SystemExit,
    match=r'out holds converted weights, mae_st vit_tiny of .*classifier.npz.*--overwrite',
  ):
    convert(root, 'backbone', out)
  with pytest.raises(SystemExit, match='error: .*no such file'):
    convert(root, 'nothing', out, '--overwrite')
  with pytest.raises(SystemExit, match='NaN'):
    convert(root, 'nan', out, '--overwrite')
  assert (out / 'meta.json').read_text() == before and checkpoint.load_params(out)
  (out / 'result.json').write_text('{}')
  (out / 'notes.txt').write_text('mine')
  convert(root, 'backbone', out, '--overwrite')
  said = capsys.readouterr().out
  assert f'deleting {out}/checkpoints' in said and f'deleting {out}/result.json' in said
  assert 'notes' not in said and (out / 'notes.txt').read_text() == 'mine'
  meta = json.loads((out / 'meta.json').read_text())
  assert meta['headless'] and meta['classes'] == []
  found, _ = checkpoint.load_params(out)
  assert found['params']['head']['linear']['kernel'].shape == (192, 1)


@pytest.mark.parametrize('more', [(), ('--overwrite',)])
@pytest.mark.parametrize(
  ('files', 'what'),
  [
    ({'meta.json': '{"config": {}, "schema": 3, "classes": []}'}, 'a training run'),
    (
      {
        'meta.json': '{"config": {}, "schema": 3, "source": "a", "variant": "b", "weights": "c"}',
        'metrics.jsonl': '',
      },
      'a training run',
    ),
    ({'video.mp4': ''}, 'other files'),
  ],
)
def test_runs_and_other_folders_are_never_written_to(root, tmp_path, files, what, more):
  for name, text in files.items():
    (tmp_path / name).write_text(text)
  with pytest.raises(SystemExit, match=rf'holds {what} \(.*give a new folder'):
    convert(root, 'classifier', tmp_path, *more)
  assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files
  if 'video.mp4' in files:
    with pytest.raises(SystemExit, match='is a file'):
      convert(root, 'classifier', tmp_path / 'video.mp4', *more)


def test_a_backbone_starts_runs_and_predicts_nothing(root, tmp_path, capsys):
  convert(root, 'backbone', tmp_path / 'out')
  said = capsys.readouterr().out
  assert "no classifier: a backbone for warm starts (init.skip 'head/.*') and probes" in said
  assert '--classes' not in said
  with pytest.raises(ValueError, match='converted weights without a classifier, which know no lab'):
    predict.Predictor(str(tmp_path / 'out'))
  names = tmp_path / 'names.txt'
  names.write_text('a\n')
  with pytest.raises(SystemExit, match='have no classifier whose classes'):
    convert(root, 'backbone', tmp_path / 'other', f'--classes={names}')
  convert(root, 'classifier', tmp_path / 'other', '--headless')
  assert 'no classifier' in capsys.readouterr().out
  wanted = lambda: {'backbone': {'norm': {'bias': np.zeros(192, np.float32)}}}
  names = r'head/.*|(?!backbone/norm/bias).*'
  params, _, report = checkpoint.warm_start(wanted(), {}, tmp_path / 'out', skip=[names])
  assert report['loaded'] == ['backbone/norm/bias'] and params['backbone']['norm']['bias'].any()


def test_all_datasets_of_a_model_of_several(tmp_path):
  """Its config is that of a joint run, from which a classifier can be exported."""
  name = 'mvit_multitrain_half_b_16x4'
  family, row = registry.find_model(name)
  head = joint.Head({'kinetics': 3, 'mit': 2}, hidden=8, expander=8)
  found = _config.config(
    'multitrain', name, VideoModel(family.Backbone(**row), head), (16, 224, 224), {}
  )
  config = parse({**found, 'data': {**found['data'], 'mean': (0.45,) * 3, 'std': (0.225,) * 3}})
  assert (config.head.name, config.objective.name) == ('joint', 'joint')
  assert {name: entry.dataset for name, entry in config.evals.items()} == {
    'kinetics': 'kinetics', 'mit': 'mit'
  }  # fmt: skip
  counts = _config.joint_counts(VideoModel(None, head))
  model = VideoModel(family.Backbone(**row), head)
  with pytest.raises(ValueError, match='--headless leaves out .* give --set dataset=kinetics'):
    _config.config('multitrain', name, model, (16, 224, 224), {}, headless=True)
  names = _config.joint_classes('', counts)
  assert names == ['kinetics/0', 'kinetics/1', 'kinetics/2', 'mit/0', 'mit/1']
  assert build.outputs(config, names) == counts
  file = tmp_path / 'names.txt'
  file.write_text('kinetics/a\nkinetics/b\nkinetics/c\nmit/a\nmit/b\n')
  assert _config.joint_classes(str(file), counts)[3] == 'mit/a'
  file.write_text('kinetics/a\nkinetics/b\nmit/a\nmit/b\nkinetics/c\n')
  with pytest.raises(
    ValueError, match="'mit/a' should be of dataset kinetics: write DATASET/CLASS"
  ):
    _config.joint_classes(str(file), counts)
