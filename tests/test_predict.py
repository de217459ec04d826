"""The steps of a new user: a folder of own videos -> records -> training -> labels for a new
video."""

import csv
import io
import json
import resource
import shutil
import types

import av
import numpy as np
import pytest

from data_prep import write
from tests.experiments import shrunk
from vjax import build, evaluate, predict, train
from vjax.config import ViewsConfig


@pytest.fixture(scope='module')
def run(data_dir, tmp_path_factory):
  """A classifier trained on DIR/<class>/*.mp4, three classes of the built-in videos."""
  root = tmp_path_factory.mktemp('mine')
  with open(data_dir / 'motions' / 'train.csv') as f:
    rows = list(csv.DictReader(f))
  for label in ('left', 'right', 'grow'):
    (root / 'videos' / label).mkdir(parents=True)
    for row in [r for r in rows if r['label'] == label][:5]:
      shutil.copy(data_dir / 'motions' / row['path'], root / 'videos' / label)
  write.main(
    [
      '--folder',
      str(root / 'videos'),
      '--out',
      str(root / 'data' / 'mine'),
      '--holdout',
      '0.2',
      '--short_side',
      '64',
    ]
  )
  config = shrunk('mae_finetune_k400', 'tiny,data=mine', **{'optim.total_steps': 2})
  exp = build.experiment(config, str(root / 'data'))
  result = train.run(exp, str(root / 'run'))
  return root, exp, result


def test_notebooks_take_features_of_a_folder_of_ones_own(run):
  """By converted weights too, whose classes are others; 'test' is the split that is held out."""
  root, exp, _ = run
  found = evaluate.load(str(root / 'run'), str(root / 'data'), data='mine')
  assert found.exp.classes == exp.classes
  batch = next(found.batches('test'))
  assert batch['valid'].sum() == 3
  assert found.model.features(batch['video'])[:3].shape == (3, 1, 32)
  meta = json.loads((root / 'run' / 'meta.json').read_text())
  meta['config']['data'] |= {'name': '', 'folder': ''}  # as of converted weights
  shutil.copytree(root / 'run' / 'checkpoints', root / 'converted' / 'checkpoints')
  (root / 'converted' / 'meta.json').write_text(json.dumps(meta))
  with pytest.raises(ValueError, match='converted weights, which belong to no dataset'):
    evaluate.load(str(root / 'converted'), str(root / 'data'))
  again = evaluate.load(str(root / 'converted'), str(root / 'data'), data='mine')
  np.testing.assert_array_equal(
    again.model.features(batch['video'])[:3], found.model.features(batch['video'])[:3]
  )


def test_trained_on_own_folder(run):
  _, exp, result = run
  assert exp.classes == ('grow', 'left', 'right')
  assert result['test']['count'] == 3  # one of five of each class is held out


def test_predict_agrees_with_evaluation(run):
  root, exp, _ = run
  predictor = predict.Predictor(str(root / 'run'))
  loaded = evaluate.load(str(root / 'run'), str(root / 'data'))
  batch = next(loaded.batches('val', num_clips=2, batch_size=8))
  logits = loaded.model.logits(batch['video']).astype(np.float64)
  expected = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).mean(1)
  held_out = sorted((root / 'videos').rglob('*.mp4'))
  found = np.stack([predictor.probabilities(str(p)) for p in held_out])
  # Records hold JPEGs at another size than predict decodes to: close, not equal.
  for row in expected[batch['valid'] > 0]:
    assert np.abs(found - row).max(1).min() < 0.02
  np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_command_prints_labels_and_names_broken_files(run, capsys, tmp_path):
  root, _, _ = run
  good = str(next((root / 'videos').rglob('*.mp4')))
  broken = tmp_path / 'broken.mp4'
  broken.write_bytes(b'not a video')
  assert predict.main(['--workdir', str(root / 'run'), good, str(broken)]) == 1
  out, err = capsys.readouterr()
  assert out.startswith(f'{good}\n') and '%  left' in out and str(broken) in err


def test_command_prints_paths_as_given(monkeypatch, capsys):
  """Videos of one name in two folders are told apart."""
  classes = types.SimpleNamespace(classes=('run', 'walk'))
  predictor = types.SimpleNamespace(
    model=classes, probabilities=lambda path: np.array([0.25, 0.75])
  )
  predictor.windows = lambda path, seconds: [(0.0, 1.0, np.array([0.25, 0.75]))]
  monkeypatch.setattr(predict, 'Predictor', lambda workdir, batch_size: predictor)
  assert predict.main(['--workdir=x', '--top=1', 'one/a.mp4', './two/a.mp4']) == 0
  assert capsys.readouterr().out == 'one/a.mp4\n   75.0%  walk\n./two/a.mp4\n   75.0%  walk\n'
  assert predict.main(['--workdir=x', '--top=1', '--window_s=1', 'one/a.mp4']) == 0
  assert capsys.readouterr().out.startswith('one/a.mp4\n')


@pytest.mark.parametrize('ending', ['csv', 'json', 'jsonl'])
@pytest.mark.parametrize('window', ['0', '1'])
def test_labels_go_to_a_file(ending, window, monkeypatch, capsys, tmp_path):
  def probabilities(path):
    if path == 'cut.mp4':
      raise ValueError('cut.mp4: truncated')
    return np.array([0.25, 0.75], np.float32)

  classes = types.SimpleNamespace(classes=('run, "fast"', 'marché'))
  predictor = types.SimpleNamespace(model=classes, probabilities=probabilities)
  predictor.windows = lambda path, seconds: [(0.5, 1.5, probabilities(path))]
  monkeypatch.setattr(predict, 'Predictor', lambda workdir, batch_size: predictor)
  out = tmp_path / f'labels.{ending}'
  command = ['--workdir=x', f'--window_s={window}', f'--out={out}', 'a.mp4', 'cut.mp4']
  assert predict.main(command) == 1
  said = capsys.readouterr().err
  assert 'truncated' in said and '1 of 2 videos were not read, see above' in said
  text = out.read_bytes().decode()
  if ending == 'csv':
    rows = list(csv.DictReader(io.StringIO(text, newline='')))
  else:
    rows = json.loads(text) if ending == 'json' else [json.loads(x) for x in text.splitlines()]
  times = {'start_s': 0.5, 'end_s': 1.5} if window == '1' else {}
  want = [
    {'video': 'a.mp4', **times, 'rank': 1, 'class': 'marché', 'probability': 0.75},
    {'video': 'a.mp4', **times, 'rank': 2, 'class': 'run, "fast"', 'probability': 0.25},
  ]
  assert rows == ([{k: str(v) for k, v in r.items()} for r in want] if ending == 'csv' else want)
  assert predict.main(command) == 1
  assert f'{out} is there already: give another --out' in capsys.readouterr().err
  assert predict.main([*command[:-1], '--overwrite', '--top=1']) == 0
  assert len(out.read_text().splitlines()) == 1 + (ending == 'csv')
  with pytest.raises(SystemExit):
    predict.main(['--workdir=x', '--out=labels.txt', 'a.mp4'])
  assert '--out=labels.txt: the file must end with .csv, .json, .jsonl' in capsys.readouterr().err


def test_no_checkpoint_and_no_classifier(run, data_dir, tmp_path):
  with pytest.raises(FileNotFoundError, match='no meta.json'):
    predict.Predictor(str(tmp_path))


def film(path, seconds: int) -> str:
  """Ten frames of 160x120 a second, brighter from second to second."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('mpeg4', rate=10)
    stream.width, stream.height, stream.pix_fmt = 160, 120, 'yuv420p'
    for t in range(10 * seconds):
      pixels = np.full((120, 160, 3), t // 10 % 250, np.uint8)
      container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
    container.mux(stream.encode())
  return str(path)


def test_memory_does_not_grow_with_the_length_of_a_film(tmp_path):
  """Neither for the views of the whole nor for windows; 2400 more frames would take 138 MB."""
  clip = ViewsConfig(8, 2, 96, 120, sampling='dense', num_clips=4)
  peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  predictor = object.__new__(predict.Predictor)
  predictor.clip, predictor.size = clip, None
  predictor._of_views = lambda views: np.array([views.mean()])
  one, five = film(tmp_path / 'one.mp4', 60), film(tmp_path / 'five.mp4', 300)
  assert predict.views(one, clip, None).shape == (4, 8, 96, 96, 3)
  windows = list(predictor.windows(one, 10.0))
  assert [round(start) for start, _, _ in windows] == [0, 10, 20, 30, 40, 50]
  found = [mean[0] for _, _, mean in windows]
  assert found == sorted(found) and found[-1] > found[0] + 30
  before = peak()
  predict.views(five, clip, None)
  assert len(list(predictor.windows(five, 10.0))) == 30
  assert peak() - before < 30


def test_windows_have_labels_with_times(run, capsys):
  root, _, _ = run
  video = str(next((root / 'videos').rglob('*.mp4')))
  assert predict.main([f'--workdir={root}/run', '--window_s=0.4', '--top=1', video]) == 0
  out = capsys.readouterr().out.splitlines()
  assert len(out) > 2 and out[1].startswith('  0:00:00.0 to 0:00:00.4 ') and '%' in out[1]
  with pytest.raises(SystemExit):
    predict.main([f'--workdir={root}/run', '--window_s=-1', video])
  assert '--window_s is -1.0' in capsys.readouterr().err
