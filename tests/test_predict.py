"""What a new user does: a folder of own videos -> records -> training -> labels for a new video."""

import pathlib
import shutil

import numpy as np
import pytest

from data_prep import write
from tests.experiments import shrunk
from vjax import build, evaluate, predict, train


@pytest.fixture(scope='module')
def run(data_dir, tmp_path_factory):
  """A classifier trained on DIR/<class>/*.mp4, three classes of the built-in videos."""
  root = tmp_path_factory.mktemp('mine')
  import csv

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
  for row in expected[batch['mask'] > 0]:
    assert np.abs(found - row).max(1).min() < 0.02
  np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_command_prints_labels_and_names_broken_files(run, capsys, tmp_path):
  root, _, _ = run
  good = str(next((root / 'videos').rglob('*.mp4')))
  broken = tmp_path / 'broken.mp4'
  broken.write_bytes(b'not a video')
  assert predict.main(['--workdir', str(root / 'run'), good, str(broken)]) == 1
  out, err = capsys.readouterr()
  assert pathlib.Path(good).name in out and '%  left' in out and str(broken) in err


def test_no_checkpoint_and_no_classifier(run, data_dir, tmp_path):
  with pytest.raises(FileNotFoundError, match='no meta.json'):
    predict.Predictor(str(tmp_path))
