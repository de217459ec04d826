"""Splits that evaluations read, and videos that several splits share."""

import logging

import numpy as np
import pytest

from tests.data import foreign
from tests.experiments import shrunk
from vjax import build, checkpoint, checks
from vjax.config import parse, plain
from vjax.data import index as index_lib
from vjax.data import overlap
from vjax.data.specs import DatasetSpec
from vjax.data.split import open_split

VIEWS = dict(name='views', num_clips=1, num_crops=1, batch_size=4)


def records(*numbers: int) -> list[bytes]:
  """A clip a number, of two classes; its name and frames tell the number."""
  return [foreign.record(n, n % 2, 'ab'[n % 2], clip__media_id=[f'v{n}']) for n in numbers]


def data(root, **splits: list[bytes]) -> str:
  """A folder `mine` of these splits; returns its parent."""
  for split, payloads in splits.items():
    foreign.write(root / 'mine', f'{split}-00000-of-00001', payloads)
  index_lib.main([f'--folder={root / "mine"}'])
  return str(root)


def config(**evals):
  changed = shrunk('r2plus1d_k400', **{'data.name': 'custom', 'data.folder': 'mine'})
  changed['clip'] |= {'num_frames': 4, 'crop_size': 16, 'short_side': 16}
  changed['evals'] = {name: {**VIEWS, **entry} for name, entry in evals.items()}
  return parse(changed)


def splits_of(root, **entry) -> dict[str, str]:
  return checks.with_splits(config(test=entry), root)['test'].splits


@pytest.mark.parametrize('asked, there', [('val', 'test'), ('test', 'validation'), ('val', 'val')])
def test_evaluations_read_the_split_that_there_is(tmp_path, caplog, asked, there):
  caplog.set_level(logging.INFO)
  root = data(tmp_path, train=records(0, 1), **{there: records(2, 3)})
  assert splits_of(root, split=asked) == {'split': there}
  said = f"mine has no split '{asked}', so that its '{there}' is evaluated"
  assert (said in caplog.text) == (asked != there)


def test_splits_that_are_not_certain_are_refused(tmp_path):
  root = data(tmp_path, train=records(0, 1), validation=records(2), test=records(3))
  words = 'which of validation, test is meant is not certain: set --config.evals.test.split=SPLIT'
  with pytest.raises(ValueError, match=f"config.evals.test.split: split 'val' is not in .*{words}"):
    splits_of(root, split='val')
  with pytest.raises(ValueError, match="split 'other' is not .*: set --config.evals.test.split="):
    splits_of(root, split='other')
  probe = {'name': 'probe', 'train_split': 'validation', 'test_split': 'val'}
  assert splits_of(root, **probe)['test_split'] == 'test'  # never what the probe is trained on


def test_training_takes_no_other_split(tmp_path):
  root = data(tmp_path, validation=records(0, 1))
  with pytest.raises(ValueError, match="split 'train' is not in .*mine; it has: validation"):
    build.experiment(config(test={'split': 'val'}).plain, root)


def overlaps(root, leak=False, **evals):
  changed = config(**evals).plain
  changed['init']['leak'] = leak
  return build.experiment(changed, root)


def test_videos_that_training_and_evaluation_share(tmp_path, caplog):
  again = foreign.record(1, 1, 'b', clip__media_id=['other name'])
  root = data(tmp_path, train=records(0, 1, 2), val=[again, *records(2, 3)], test=records(0, 1))
  overlaps(root, val={'split': 'val'})
  words = 'evals.val.split=val: 2 of 3 videos of .*mine are among those trained on'
  assert len([r for r in caplog.records if 'are among those' in r.message]) == 1
  assert caplog.text.count('(split train of ') == 1 and 'by name or frames: other name, v2' in (
    caplog.text
  )
  with pytest.raises(
    ValueError, match='test: 2 of 2 videos .*: v0, v1. No number .*init.leak=True'
  ):
    overlaps(root, test={'split': 'test'})
  assert words.split(':')[0] in caplog.text
  overlaps(root, leak=True, test={'split': 'test'})
  caplog.clear()
  overlaps(root, train={'split': 'train'})  # its name says so
  assert 'among those' not in caplog.text


def test_videos_that_the_weights_were_trained_on(tmp_path, caplog, monkeypatch):
  root = data(tmp_path, train=records(0, 1, 2), val=records(3, 4), test=records(2, 3))
  other = data(tmp_path / 'other', train=records(5, 6), val=records(0, 1), test=records(2, 7))
  before = overlaps(root, val={'split': 'val'})
  (tmp_path / 'run').mkdir()
  checkpoint.write_json(tmp_path / 'run' / 'meta.json', before.meta)

  def start(leak=False, **entry):
    changed = config(test=entry).plain
    changed['init'] |= {'path': str(tmp_path / 'run'), 'leak': leak}
    return build.experiment(changed, other)

  start(split='test')
  assert 'test: 1 videos of 2 of' in caplog.text.replace('split=', '') and 'v2, ...' in caplog.text
  with pytest.raises(ValueError, match='val: 2 videos of 2 .*trained on .*init.leak=True'):
    start(split='val')
  after = start(split='val', leak=True)
  assert len(before.meta['trained_videos']) == 1 and len(after.meta['trained_videos']) == 2
  monkeypatch.setattr(overlap, '_MOST', 1)  # a sample: one of the three
  source = open_split(root, DatasetSpec(name='mine', num_classes=0), 'train')
  sketch = overlap.sketch(source)
  rows, told = overlap.sketched_rows(sketch, source)
  assert 1 <= len(rows) == told < 3


def test_seeds_share_a_subset_unless_subset_seed_says_otherwise(tmp_path):
  root = data(tmp_path, train=records(*range(12)), val=records(20, 21))

  def trained(seed, **more):
    changed = plain(config(test={'split': 'val'}))
    changed['seed'] = seed
    changed['data'] = {**changed['data'], 'batch_size': 4, 'videos_per_class': 2.0, **more}
    batch = next(build.experiment(changed, root).train_batches(0))
    return sorted(batch['video_id'].tolist())

  own = [trained(seed, subset_seed=seed) for seed in (0, 1, 2)]
  assert own[0] != own[1] != own[2] != own[0]
  assert trained(1) == trained(2) == own[0] and trained(2, subset_seed=1) == own[1]


@pytest.mark.parametrize('skip', [(), ('head/.*',)])
def test_a_missing_folder_of_init_names_the_key(tmp_path, skip):
  root = data(tmp_path, train=records(0, 1), val=records(2, 3))
  changed = config(test={'split': 'val'}).plain
  changed['init'] |= {'path': f'{root}/gone', 'skip': skip}
  with pytest.raises(FileNotFoundError, match=r"config.init.path is '.*gone': no meta.json in"):
    build.experiment(changed, root)


def test_a_warm_start_from_another_model_says_so_first(tmp_path):
  params = {'backbone': {'kernel': np.zeros(2, np.float32)}}
  meta = {'config': {'model': {'name': 'csn_r50'}}, 'classes': []}
  checkpoint.save_params(tmp_path / 'csn', {'params': params}, meta)
  start = lambda wanted, model: checkpoint.warm_start(wanted, {}, tmp_path / 'csn', model=model)
  other = {'backbone': {'bias': np.zeros(2, np.float32)}}
  words = 'csn is of model csn_r50, the config has vit_base: set config.model.name=csn_r50, or'
  with pytest.raises(ValueError, match=rf'(?s)^the checkpoint in .*{words}.*\+ backbone/bias'):
    start(other, 'vit_base')
  with pytest.raises(ValueError, match=r'csn does not fit the model; name what may differ in'):
    start(other, 'csn_r50')
  assert start(params, 'vit_base')[2]['loaded'] == ['backbone/kernel']  # names alone decide
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'empty/meta.json').write_text('{"config": {}}')
  with pytest.raises(FileNotFoundError, match="config.init.path is '.*empty': no complete"):
    checkpoint.warm_start(params, {}, tmp_path / 'empty')
