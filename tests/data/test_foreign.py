"""Records of DMVR and Scenic: names of shards, numbers and names of classes, frame rates."""

import errno
import json

import numpy as np
import pytest

from tests.data import foreign, make
from vjax import files
from vjax.config import ViewsConfig
from vjax.data import clips, tfrecord
from vjax.data import index as index_lib
from vjax.data.specs import DatasetSpec
from vjax.data.split import open_split

SPEC = DatasetSpec(name='set', num_classes=0, labels='')


def index(folder, *flags):
  """Runs the index command."""
  index_lib.main([f'--folder={folder}', *flags])


@pytest.mark.parametrize(
  'name, split',
  [
    ('train-{}-of-00002', 'train'),
    ('validation.tfrecord-{}-of-00002', 'validation'),
    ('train-{}-of-00002.tfrecord', 'train'),
    ('kinetics-train.tfrecord-{}-of-00002', 'train'),
    ('hmdb51_test-{}-of-00002', 'test'),
    ('my.split1-{}-of-00002.tfrecord', 'my.split1'),
  ],
)
def test_shards_are_found_by_their_names(tmp_path, name, split):
  for s in range(2):
    foreign.write(
      tmp_path / 'set', name.format(f'{s:05}'), [foreign.record(2 * s + i, i) for i in range(2)]
    )
  index(tmp_path / 'set')
  source = open_split(str(tmp_path), SPEC, split)
  assert source.num_clips == 4 and source.index.label.tolist() == [0, 1, 0, 1]
  assert source.read(3).frame(2) == foreign.jpeg(76)


@pytest.mark.parametrize(
  'names, words',
  [
    (
      ['train-00000-of-00002', 'train-00001-of-00002.tfrecord'],
      r'shards of train have names of 2 forms .*train-00000-of-00002, train-00001-of-00002.tfrecord',
    ),
    (
      ['train.tfrecord-00000-of-00001', 'train-00000-of-00001.tfrecord'],
      'shards of train have names of 2 forms',
    ),
    (['train-00000-of-00002'], 'missing: train-00001-of-00002$'),
    (['a-val.tfrecord-00001-of-00002'], 'shards of val are missing: a-val.tfrecord-00000-of-00002'),
    (['train-00000-of-00001', 'train-00001-of-00001'], 'no number 1 of 1'),
  ],
)
def test_shards_of_two_forms_or_too_few_are_refused(tmp_path, names, words):
  for name in names:
    foreign.write(tmp_path, name, [foreign.record(0, 0)])
  with pytest.raises(SystemExit, match=words):
    index(tmp_path)


def test_prefixes_that_may_mean_anything_stay(tmp_path):
  for name in ('kinetics-train', 'ucf-train'):
    foreign.write(tmp_path, f'{name}-00000-of-00001', [foreign.record(0, 0)])
  foreign.write(tmp_path, 'model.data-00000-of-00001', [])
  assert tfrecord.splits(tmp_path) == ['kinetics-train', 'ucf-train']
  old = foreign.write(tmp_path / 'old', 'my_train-00000-of-00001.tfrecord', [foreign.record(0, 0)])
  index_lib.write_index(str(old), 'my_train')
  assert tfrecord.splits(old) == ['my_train']


def named(*pairs):
  """One record a pair of label and name."""
  return [foreign.record(n, label, text) for n, (label, text) in enumerate(pairs)]


def names_of(folder, split):
  """Names of the classes of a split's records, in order, and of their labels when read."""
  source = open_split(str(folder.parent), SPEC, split)
  for row, label in enumerate(source.index.label):
    assert source.labels_of(source.read(row)) == [label]
  return [source.classes[label] for label in source.index.label]


def test_splits_that_number_classes_differently_are_taken_by_name(tmp_path, capsys):
  train = named((0, 'bikes'), (1, 'people'), (2, 'cats'))
  val = named((0, 'people'), (1, 'cats'), (2, 'bikes'))
  folder = foreign.two_splits(tmp_path / 'set', train, val)
  index(folder)
  said = [line for line in capsys.readouterr().out.splitlines() if 'numbers classes' in line]
  assert len(said) == 1 and 'val numbers classes in another way' in said[0]
  assert '0 to 1, 1 to 2, 2 to 0' in said[0]
  assert names_of(folder, 'train') == ['bikes', 'people', 'cats']
  assert names_of(folder, 'val') == ['people', 'cats', 'bikes']
  assert make.manifest(folder)['splits']['val']['clips_per_class'] == [1, 1, 1]
  assert make.manifest(folder)['classes'] == ['bikes', 'people', 'cats']
  index(folder)  # again, with the manifest that is there
  assert names_of(folder, 'val') == ['people', 'cats', 'bikes']


def test_several_labels_are_taken_by_name_too(tmp_path):
  train = [foreign.record(0, [0, 1], ['run', 'jump']), foreign.record(1, 2, 'sit')]
  val = [foreign.record(0, [2, 0], ['run', 'sit']), foreign.record(1, 1, 'Jump')]
  folder = foreign.two_splits(tmp_path / 'set', train, val)
  index(folder)
  source = open_split(str(tmp_path), SPEC, 'val')
  assert [source.labels_of(source.read(row)) for row in range(2)] == [[0, 2], [1]]
  assert source.labels == 'multi_label' and source.index.label.tolist() == [0, 1]


@pytest.mark.parametrize(
  'train, val, words',
  [
    (
      named((0, 'bikes'), (1, 'people')),
      named((0, 'people'), (1, 'dogs')),
      "'people' is 1 in train and 0 in val; label 0 is 'bikes' in train and 'people' in val",
    ),
    (named((0, 'a'), (1, 'b')), named((0, 'b'), (1, 'a'), (0, '')), "'a' is 0 in train and 1 in v"),
    (named((0, 'a'), (0, 'b')), named((0, 'a')), "label 0 is 'a' in train, val and 'b' in train"),
    (named((0, 'a'), (3, 'a')), named((0, 'a')), "'a' is 0 in train, val and 3 in train"),
  ],
  ids=['other classes', 'without names', 'two names', 'two numbers'],
)
def test_labels_that_contradict_each_other_are_refused(tmp_path, train, val, words):
  folder = foreign.two_splits(tmp_path / 'set', train, val)
  with pytest.raises(
    SystemExit, match=f'{words}.*Write the records again with one list of classes'
  ):
    index(folder)
  assert not (folder / 'manifest.json').exists()


def test_labels_of_a_further_label_space_are_compared(tmp_path):
  verbs = lambda n, i, text: foreign.record(
    n, 0, 'x', clip__label__verb__index=[i], clip__label__verb__text=[text]
  )
  folder = foreign.two_splits(
    tmp_path / 'set', [verbs(0, 0, 'cut'), verbs(1, 1, 'mix')], [verbs(0, 0, 'mix')]
  )
  index(folder)
  spec = DatasetSpec(name='set', num_classes=2, label_space='verb')
  source = open_split(str(tmp_path), spec, 'val')
  assert source.index.label.tolist() == [1] and source.labels_of(source.read(0)) == [1]


@pytest.mark.parametrize(
  'lines, words',
  [
    ('people\nbikes\n', "label 0 is 'bikes' in the records, 'people' in --classes"),
    ('bikes\npersons\n', "label 1 is 'people' in the records, 'persons' in --classes"),
    ('none\nbikes\npeople\n', "label 0 is 'bikes' in the records, 'none' in --classes"),
  ],
)
def test_class_lists_that_contradict_the_records_are_refused(tmp_path, lines, words):
  folder = foreign.two_splits(
    tmp_path / 'set', named((0, 'bikes'), (1, 'people')), named((1, 'people'))
  )
  (tmp_path / 'names.txt').write_text(lines)
  with pytest.raises(SystemExit, match=f'--classes contradicts the records.*{words}.*Leave --cla'):
    index(folder, f'--classes={tmp_path / "names.txt"}')


def test_a_class_list_that_is_too_short_and_a_folder_without_shards_say_the_remedy(tmp_path):
  folder = foreign.two_splits(tmp_path / 'set', named((0, 'a'), (2, 'c')), named((0, 'a')))
  (tmp_path / 'names.txt').write_text('a\nb\n')
  with pytest.raises(SystemExit, match='label 2, but --classes names 2 classes, labels 0 to 1: '):
    index(folder, f'--classes={tmp_path / "names.txt"}')
  (tmp_path / 'none').mkdir()
  with pytest.raises(SystemExit, match=r'error: no <split>.* in --folder=.*none: give the folder'):
    index(tmp_path / 'none')


def test_class_lists_that_agree_or_rename_are_used(tmp_path, capsys):
  folder = foreign.two_splits(tmp_path / 'set', named((0, 'n01'), (1, 'n02')), named((1, 'n02')))
  (tmp_path / 'names.txt').write_text('N01\nn02\nmore\n')
  index(folder, f'--classes={tmp_path / "names.txt"}')
  assert names_of(folder, 'val') == ['n02'] and 'renames' not in capsys.readouterr().out
  (tmp_path / 'names.txt').write_text('fish\nbird\n')
  with pytest.raises(SystemExit, match='names other classes than .*manifest.json'):
    index(folder, f'--classes={tmp_path / "names.txt"}')
  (folder / 'manifest.json').unlink()
  index(folder, f'--classes={tmp_path / "names.txt"}')
  assert "--classes renames classes: 'n01' is 'fish', 'n02' is 'bird'" in capsys.readouterr().out
  assert names_of(folder, 'train') == ['fish', 'bird']


@pytest.mark.parametrize('old', [False, True])
def test_a_manifest_that_contradicts_the_records_is_refused(tmp_path, old):
  folder = foreign.two_splits(tmp_path / 'set', named((0, 'a'), (1, 'b')), named((1, 'b')))
  index(folder)
  changed = make.manifest(folder) | {'classes': ['b', 'a']}
  (folder / 'manifest.json').write_text(json.dumps(changed))
  if old:  # an index of before has no names, so that the record itself is asked
    with np.load(folder / 'val.index.npz') as arrays:
      columns = {key: arrays[key] for key in arrays.files if not key.startswith('name_')}
    np.savez(folder / 'val.index.npz', **columns)
  with pytest.raises(ValueError, match="label 1 is 'b' in the records, 'a' in manifest.json"):
    open_split(str(tmp_path), SPEC, 'val').read(0)
  with pytest.raises(SystemExit, match='class names in manifest.json contradict .*Delete manifest'):
    index(folder)


def test_classes_that_differ_by_their_spelling_alone(tmp_path):
  train = named((0, 'A b'), (1, 'a-b'))
  folder = foreign.two_splits(tmp_path / 'set', train, named((0, 'a-b'), (1, 'A b')))
  index(folder)
  assert names_of(folder, 'train') == ['A b', 'a-b'] and names_of(folder, 'val') == ['a-b', 'A b']


def test_frame_rates_that_records_lack(tmp_path, capsys, caplog):
  rated = foreign.record(1, 0, frames=20, image__frame_rate=[25.0])
  folder = foreign.two_splits(
    tmp_path / 'set', [foreign.record(0, 0, frames=20), rated], [foreign.record(0, 0, frames=1)]
  )
  clip = ViewsConfig(
    num_frames=16, frame_stride=4, crop_size=16, short_side=16, sampling='linspace'
  )
  frames = lambda source, row: clips.test_orders(20, source.read(row).frame_rate, clip)[0]
  index(folder)
  line = '1 of 2 records of train, 0 of 1 records of val have no image/frame_rate: 30 frames per '
  assert line in capsys.readouterr().out
  source = open_split(str(tmp_path), SPEC, 'train')
  assert [source.read(row).frame_rate for row in range(2)] == [0.0, 25.0]
  assert sum(frames(source, 0) == 19) == 11
  assert '1 of 2 records of train have no image/frame_rate: 30 frames' in caplog.text
  caplog.clear()
  for _ in range(2):  # the manifest that is there takes the rate
    index(folder, '--frame_rate=10')
    assert '10 frames per second are assumed, as --frame_rate says' in capsys.readouterr().out
    source = open_split(str(tmp_path), SPEC, 'train')
    assert [source.read(row).frame_rate for row in range(2)] == [10.0, 25.0]
  assert len({*frames(source, 0)}) == 16 and not caplog.text
  (folder / 'manifest.json').unlink()
  index(folder, '--frame_rate=12.5')
  assert open_split(str(tmp_path), SPEC, 'train').read(0).frame_rate == 12.5
  for wrong in ('0', '-5', 'nan', 'inf'):
    with pytest.raises(SystemExit):
      index(folder, f'--frame_rate={wrong}')
    assert 'must be frames per second above 0' in capsys.readouterr().err


def read_only(monkeypatch, folder):
  """Nothing can be written below the folder (not by its rights, which do not bind root)."""
  write = files.write_bytes

  def refuse(file, data, **settings):
    if str(file).startswith(str(folder)):
      raise PermissionError(errno.EROFS, 'Read-only file system', str(file))
    write(file, data, **settings)

  monkeypatch.setattr(files, 'write_bytes', refuse)


def test_indexes_of_a_read_only_folder_are_kept_in_the_cache(tmp_path, monkeypatch, capsys):
  folder = foreign.two_splits(tmp_path / 'data' / 'set', named((0, 'a')), named((0, 'a')))
  there = sorted(folder.iterdir())
  read_only(monkeypatch, folder)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  index(folder, '--frame_rate=10')
  said = capsys.readouterr().out
  assert said.count('cannot be written to (PermissionError): its index is kept in') == 1
  assert sorted(folder.iterdir()) == there
  source = open_split(str(tmp_path / 'data'), SPEC, 'val')
  assert source.classes == ('a',) and source.read(0).frame_rate == 10
  index(folder, '--frame_rate=12')
  assert open_split(str(tmp_path / 'data'), SPEC, 'val').read(0).frame_rate == 12
  foreign.write(folder, 'val-00000-of-00001', named((0, 'a'), (0, 'a')))  # another content
  with pytest.raises(FileNotFoundError, match='no manifest.json'):
    open_split(str(tmp_path / 'data'), SPEC, 'val')
  read_only(monkeypatch, tmp_path)
  with pytest.raises(SystemExit, match='set XDG_CACHE_HOME to a folder that can'):
    index(folder)
