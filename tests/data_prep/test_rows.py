"""Manifests and class folders: what is accepted, what is refused and in which words."""

import pytest

from data_prep.rows import (
  Row,
  describe_holdout,
  hold_out,
  list_classes,
  read_folder,
  read_manifest,
  set_aside,
)
from data_prep.shards import assign
from data_prep.write import manifest_splits


def manifest(tmp_path, text, **kwargs):
  path = tmp_path / 'list.csv'
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return read_manifest(str(path), 'train', str(tmp_path), **kwargs)


def refusal(tmp_path, text, **kwargs):
  with pytest.raises(ValueError) as e:
    manifest(tmp_path, text, **kwargs)
  return str(e.value)


def test_without_header(tmp_path):
  rows = manifest(tmp_path, 'a.mp4,run\n\nsub/b.mp4,walk|talk\n')
  assert rows == [
    Row('a.mp4', 'train', {'': ('run',)}, 1),
    Row('sub/b.mp4', 'train', {'': ('walk', 'talk')}, 3),
  ]
  assert manifest(tmp_path, 'a.mp4,path\n')[0].labels == {'': ('path',)}
  assert manifest(tmp_path, 'a.mp4\nb.mp4\n')[1].labels == {}
  assert manifest(tmp_path, 'a.mp4,run,1.5,3\n')[0].media_id == 'a.mp4@1.5-3'


def test_header_mark_and_crlf(tmp_path):
  text = '\ufeffLabel,path,label:look,start_s,end_s\r\nrun,"a,1.mp4",red,,\r\n,b.mp4,blue,2,\r\n'.encode()
  rows = manifest(tmp_path, text)
  assert [r.path for r in rows] == ['a,1.mp4', 'b.mp4']
  assert [r.labels for r in rows] == [{'': ('run',), 'look': ('red',)}, {'look': ('blue',)}]
  assert rows[1].media_id == 'b.mp4@2-end' and rows[1].line == 3


@pytest.mark.parametrize(
  'text, words',
  [
    ('a.mp4,x\nb.mp4,\n', ['list.csv, line 2, column label', "''"]),
    ('a.mp4,x\nb.mp4\n', ['line 2, 1 columns (b.mp4) where 2 are due (path,label)']),
    (
      'path,label,start_s,end_s\na.mp4,x,one,2\n',
      ['line 2, column start_s', "'one' is not a number"],
    ),
    ('a.mp4,x,3,2\n', ['line 1, column end_s', "'2' is not after the start, 3"]),
    ('a.mp4,x,-1,2\n', ['column start_s', "'-1' must be 0 or more"]),
    ('a.mp4,x,0,nan\n', ['column end_s', "'nan' must be 0 or more, and finite"]),
    ('a.mp4,x|\n', ['column label', "'x|' holds an empty or repeated label"]),
    (
      '../a.mp4,x\n',
      ['column path', "'../a.mp4' lies outside the video folder", '--allow_outside'],
    ),
    ('/etc/a.mp4,x\n', ["'/etc/a.mp4' lies outside"]),
    (',x\n', ['column path', 'is no file name']),
    ('path,label,color\na.mp4,x,y\n', ["unknown column 'color'", 'label:NAME']),
    ('path,label,label\na.mp4,x,y\n', ["column 'label' is there 2 times"]),
    ('a.mp4,x,1\n', ['its first line has 3 columns']),
    ('', ['has no rows']),
    ('path,label\n', ['a header and no rows']),
    (b'a.mp4,\0\n', ['is no text file']),
  ],
)
def test_refusals_name_line_column_and_value(tmp_path, text, words):
  reason = refusal(tmp_path, text)
  assert all(word in reason for word in words), reason


def test_many_bad_rows_are_counted(tmp_path):
  reason = refusal(tmp_path, 'a.mp4,x\n' + 'b.mp4,\n' * 25)
  assert reason.startswith('25 bad values in ') and reason.endswith('... and 15 more')


def test_paths_outside_when_allowed(tmp_path):
  rows = manifest(tmp_path, f'../a.mp4,x\n{tmp_path}/b.mp4,x\nc/../d.mp4,x\n', allow_outside=True)
  assert [r.path for r in rows] == [str(tmp_path.parent / 'a.mp4'), 'b.mp4', 'd.mp4']


def test_missing_manifest(tmp_path):
  with pytest.raises(ValueError, match='no manifest .*gone.csv; --manifest=SPLIT:FILE'):
    read_manifest(str(tmp_path / 'gone.csv'), 'train', str(tmp_path))


def folder(tmp_path, *files):
  for file in files:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(b'')
  return str(tmp_path)


def test_class_folders(tmp_path):
  rows = read_folder(
    folder(tmp_path, 'run/b.mp4', 'run/a.MKV', 'run/notes.txt', 'run/.c.mp4', 'walk/x.jpg')
  )
  assert [(r.path, r.labels['']) for r in rows] == [
    ('run/a.MKV', ('run',)),
    ('run/b.mp4', ('run',)),
    ('walk/x.jpg', ('walk',)),
  ]


def test_split_folders(tmp_path):
  rows = read_folder(folder(tmp_path, 'train/run/a.mp4', 'val/run/b.mp4', 'val/walk/c.mp4'))
  assert [(r.path, r.split, r.labels['']) for r in rows] == [
    ('train/run/a.mp4', 'train', ('run',)),
    ('val/run/b.mp4', 'val', ('run',)),
    ('val/walk/c.mp4', 'val', ('walk',)),
  ]


def test_a_class_may_be_called_train(tmp_path):
  rows = read_folder(folder(tmp_path, 'train/a.mp4', 'bus/b.mp4'), 'all')
  assert {(r.split, r.labels['']) for r in rows} == {('all', ('train',)), ('all', ('bus',))}


def test_folder_refusals(tmp_path):
  with pytest.raises(ValueError, match='no folder .*/gone'):
    read_folder(str(tmp_path / 'gone'))
  with pytest.raises(ValueError, match='no class folders in'):
    read_folder(folder(tmp_path, 'a.mp4'))
  with pytest.raises(ValueError, match=r'no videos under .*: move the videos .* for: \.mp4'):
    read_folder(folder(tmp_path, 'run/readme.txt'))


def test_holdout_takes_a_share_of_every_class():
  rows = [Row(f'{c}/{i}.mp4', 'train', {'': (c,)}, i) for c in 'ab' for i in range(20)]
  held = hold_out(rows, 0.1)
  assert [sum(r.split == 'val' and r.labels[''] == (c,) for r in held) for c in 'ab'] == [2, 2]
  assert held == hold_out(rows, 0.1) and [r.path for r in held] == [r.path for r in rows]
  with pytest.raises(ValueError, match='in splits already'):
    hold_out(held, 0.1)


def of_classes(**labels):
  """Rows of videos with these labels, by path."""
  return [
    Row(path, 'train', {'': tuple(names)}, i) for i, (path, names) in enumerate(labels.items())
  ]


def held_out(rows):
  return {r.path for r in rows if r.split == 'val'}


@pytest.mark.parametrize('count, held', [(2, 1), (4, 1), (5, 1), (15, 2), (16, 2)])
def test_holdout_takes_one_of_every_class_with_two_and_leaves_one(count, held):
  rows = [Row(f'{c}/{i}.mp4', 'train', {'': (c,)}, i) for c in 'ab' for i in range(count)]
  assert len(held_out(hold_out(rows, 0.1))) == 2 * held
  assert len(held_out(hold_out(rows, 0.99))) == 2 * (count - 1)


def test_holdout_says_what_it_took():
  rows = [Row(f'{c}/{i}.mp4', 'train', {'': (c,)}, i) for c in 'ab' for i in range(4)]
  rows.append(Row('c/0.mp4', 'train', {'': ('c',)}, 0))
  assert describe_holdout(hold_out(rows, 0.1)) == [
    'held out for val: 2 of 9 videos (a 1 of 4, b 1 of 4, c 0 of 1)',
    'careful: 1 of 3 classes have no video in val (c): each needs two videos or more',
  ]
  with pytest.raises(ValueError, match=r'--holdout=0.1: no class has two videos'):
    hold_out(rows[-1:], 0.1)


def test_holdout_of_videos_with_several_labels_and_segments():
  """Every class keeps a video and gives one, though no two videos have the same labels; segments of
  a video stay together."""
  rows = of_classes(p=['a', 'b'], q=['a', 'c'], r=['b', 'c'], s=['a', 'b', 'c'], t=['d'], u=['d'])
  held = held_out(hold_out(rows, 0.1))
  for name in 'abcd':
    paths = {r.path for r in rows if name in r.labels['']}
    assert paths & held and paths - held
  rows = [
    Row(f'{i}.mp4', 'train', {'': ('a',)}, i, k, k + 1.0) for i in range(10) for k in range(9)
  ]
  assert len(held_out(hold_out(rows, 0.1))) == 1


def test_classes_are_sorted_by_value_where_they_are_numbers():
  rows = [Row('a', 'train', {'': (str(n),), 'look': (f'l{n}',)}, n) for n in (10, 9, 2, 0)]
  assert list_classes(rows) == ['0', '2', '9', '10']
  assert list_classes(rows, 'look') == ['l0', 'l10', 'l2', 'l9']


def test_duplicates_and_unknown_labels_are_set_aside():
  rows = [
    Row('a.mp4', 'train', {'': ('run',)}, 1),
    Row('a.mp4', 'train', {'': ('walk',)}, 2),
    Row('a.mp4', 'train', {'': ('run',)}, 3, 0.0, 1.0),
    Row('b.mp4', 'train', {'': ('fly',)}, 4),
    Row('a.mp4', 'val', {'': ('run',)}, 1),
  ]
  kept, aside = set_aside(rows, ['run', 'walk'])
  assert kept == [rows[0], rows[2], rows[4]]
  assert aside == [
    (rows[1], 'duplicate: of row 1, there with labels run'),
    (rows[3], 'unknown label: fly not in the class list'),
  ]


def test_shards_are_even_mixed_and_fixed():
  rows = [Row(f'{i}.mp4', 'train', {'': (str(i // 50),)}, i) for i in range(100)]
  parts = assign(rows, 3)
  assert [len(p) for p in parts] == [33, 33, 34] and parts == assign(rows[::-1], 3)
  assert all(10 < sum(r.labels[''] == ('0',) for r in part) < 24 for part in parts)
  assert len(assign(rows, 0)) == 1


def test_splits_of_manifests(tmp_path):
  assert manifest_splits(['train:a.csv', 'x/test.csv'], []) == [
    ('train', 'a.csv'),
    ('test', 'x/test.csv'),
  ]
  assert manifest_splits(['a.csv', 'b.csv'], ['train', 'val']) == [
    ('train', 'a.csv'),
    ('val', 'b.csv'),
  ]
  for manifests, splits, words in (
    (['a-b.csv'], [], '--manifest=train:a-b.csv'),
    (['a.csv', 'b.csv'], ['train'], '1 --split for 2 --manifest'),
    (['a.csv', 'x/a.csv'], [], 'share a split'),
  ):
    with pytest.raises(ValueError, match=words):
      manifest_splits(manifests, splits)
