"""Lists of published datasets and other frameworks: recognized, read, and written from end to end."""

import csv
import json
import pathlib
import re
import shlex
import shutil

import pytest

from data_prep import list_rows, lists, write
from data_prep.list_rows import read_lists
from data_prep.rows import read_manifest
from tests.data_prep.films import write_video

KINETICS = 'label,youtube_id,time_start,time_end,split,is_cc\n'


def made(tmp_path, *files, text=None, name='train.txt', encoding='utf-8'):
  """Path of a list in a folder that holds these files, each of a byte."""
  for file in files:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b'x')
  path = tmp_path / name
  if text is not None:
    path.write_text(text, encoding=encoding, newline='')
  return str(path)


def brief(entries):
  """(first name, labels, split) of entries."""
  return [(e.names[0], *e.labels, e.split) for e in entries]


def placed(found):
  """(path, label, split) of rows."""
  return [(r.path, *r.labels.get('', ()), r.split) for r in found.rows]


def refused(*words, **kwargs):
  with pytest.raises(ValueError) as e:
    read_lists(**kwargs)
  assert all(word in str(e.value) for word in words), e.value
  return str(e.value)


# Readers


def test_kinetics():
  text = KINETICS + '"testifying, in court",---QUuC4vJs,84,94,validate,0\nyoga,a_b,5.0,15,train,1\n'
  first, second = lists.read_kinetics(text)
  assert first.names == ('---QUuC4vJs_000084_000094', '---QUuC4vJs_84_94', '---QUuC4vJs')
  assert (first.labels, first.split, first.segment) == (('testifying, in court',), 'val', (84, 94))
  assert (second.names[0], second.line) == ('a_b_000005_000015', 3)
  [entry] = lists.read_kinetics('youtube_id,time_start,time_end,split\nabc,0,10,test\n')
  assert entry.labels == () and entry.split == 'test'
  with pytest.raises(ValueError, match='line 2: .*time_start and time_end must be seconds'):
    lists.read_kinetics(KINETICS + 'yoga,abc,9,3,train,1')


def test_ssv2():
  item = {'id': '78687', 'label': 'holding a cup', 'template': 'Holding [something]'}
  assert brief(lists.read_ssv2(json.dumps([item]))) == [('78687', 'Holding something', '')]
  assert brief(lists.read_ssv2('[{"id": "1420"}]')) == [('1420', '')]
  assert lists.read_ssv2_labels('{"B [something]": "1", "A": "0"}') == ['A', 'B something']
  for text, words in (
    ('[{"id": "1", "template": "A"}, {"id": "2"}]', '1 of 2 rows have no label'),
    ('[{"id": "../1"}]', 'no id that is the name of a file'),
    ('[{"id": "1", "label": "a"}]', 'no template'),
    ('[{', 'is no JSON'),
  ):
    with pytest.raises(ValueError, match=words):
      lists.read_ssv2(text)


def test_ucf101():
  text = 'HandstandPushups/v_HandStandPushups_g01_c01.avi 37\r\n\r\n'
  assert brief(lists.read_ucf101(text)) == [('v_HandStandPushups_g01_c01', 'HandstandPushups', '')]
  assert lists.read_ucf101_classes('1 Archery\n2 Biking\n') == ['Archery', 'Biking']


def test_hmdb51():
  text = '#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi 1 \nb.avi 2 \nc.avi 0 \n'
  entries = lists.read_hmdb51(text, 'clap')
  assert [e.split for e in entries] == ['train', 'test', ''] and entries[2].unused
  assert entries[0].names == ('#20_Rhythm_clap_u_nm_np1_fr_goo_0',)


@pytest.mark.parametrize('text', [
  'a b/1.mp4 3\nc.mp4 0\n', 'a b/1.mp4,3\nc.mp4,0\n', 'a b/1.mp4\t3\r\nc.mp4\t0\r\n\r\n',
  '"a b/1.mp4" 3\n"c.mp4" 0', '"a b/1.mp4","3"\n"c.mp4",0\n', 'a b/1.mp4;3\nc.mp4;0\n',
  'path label\na b/1.mp4 3\nc.mp4 0\n', 'video,class\na b/1.mp4,3\nc.mp4,0\n',
  'id,class_name,Path\n7,3,a b/1.mp4\n8,0,c.mp4\n', 'was,ist\na b/1.mp4,3\nc.mp4,0\n',
  'path num_frames label\n"a b/1.mp4" 90 3\nc.mp4 80 0\n', 'a b/1.mp4, 3\nc.mp4, 0\n',
])  # fmt: skip
def test_paths_and_labels_in_every_form(text):
  assert lists.recognize('x.txt', text) == 'path_label'
  assert brief(lists.read_path_label(text)) == [('a b/1.mp4', '3', ''), ('c.mp4', '0', '')]


def test_other_labels():
  assert brief(lists.read_path_label('a, b.mp4 air drumming\n')) == [
    ('a, b.mp4', 'air drumming', '')
  ]
  assert brief(lists.read_path_label('my video.mp4\nb.mp4\n')) == [
    ('my video.mp4', ''),
    ('b.mp4', ''),
  ]
  text = 'path,label,split\na.mp4,x|y,valid\n'
  assert brief(lists.read_path_label(text)) == [('a.mp4', 'x', 'y', 'val')]
  assert brief(lists.read_path_label('a.mp4 1 2\nb.mp4 3\n', multi_label=True)) == [
    ('a.mp4', '1', '2', ''),
    ('b.mp4', '3', ''),
  ]
  for text, words in (
    ('a.mp4 1 2\n', 'pass --multi_label if all are labels'),
    ('a.mp4 -1\n', 'must be 0 or more'),
    ('a.mp4 1\nb.mp4\n', '1 of 2 rows have no label, the first in line 2'),
    ('path,label,start_s,end_s\na.mp4,x,1,2\n', r'columns start_s, end_s\).*--manifest'),
  ):
    with pytest.raises(ValueError, match=words):
      lists.read_path_label(text)


def test_rawframes():
  text = 'some dir/1 120 3\nb 80 0\n'
  assert lists.recognize('x.txt', text) == lists.recognize('x', 'a 0 9 1\nb 0 9 2\n') == 'rawframes'
  assert brief(lists.read_rawframes(text)) == [('some dir/1', '3', ''), ('b', '0', '')]
  text = 'original_vido_id video_id frame_id path labels\n1 0 0 1/1_000001.jpg ""\n'
  assert lists.recognize('train.csv', text) == 'rawframes'
  with pytest.raises(ValueError, match='lists single images, as SlowFast does'):
    lists.read_rawframes(text)


def test_several_labels_without_extensions_are_not_guessed(tmp_path):
  path = made(tmp_path, 'a.mp4', text='a 0 3\n')
  with pytest.raises(ValueError, match='pass --list_kind=rawframes if it is, or --list_kind=path'):
    read_lists([path], multi_label=True)
  (row,) = read_lists([path], multi_label=True, kind='path_label').rows
  assert row.labels == {'': ('0', '3')}


@pytest.mark.parametrize('name, text, kind', [
  ('x.csv', KINETICS + 'yoga,abc,0,10,train,0', 'kinetics'),
  ('x.csv', 'yoga,---QUuC4vJs,0,10,train', 'kinetics'),
  ('x.json', '\n[{"id": "1"}]', 'ssv2'), ('x.json', '{"A": "0"}', 'ssv2_labels'),
  ('x.txt', 'Archery/v_Archery_g08_c01.avi 3', 'ucf101'), ('x.txt', '1 A\n2 B', 'ucf101_classes'),
  ('clap_test_split1.txt', 'a.avi 1 ', 'hmdb51'), ('x.txt', 'a.avi 1 ', 'path_label'),
])  # fmt: skip
def test_kinds_are_recognized_by_content(name, text, kind):
  assert lists.recognize(name, text) == kind
  assert lists.recognize(name, text.replace('\n', '\r\n') + '\r\n\r\n') == kind


def test_no_error_quotes_a_line_of_megabytes(tmp_path):
  long = 'x' * 300_000
  for text in (f'a.mp4,1,{long}\n', f'{long}\n', f'path,{long},label\na.mp4,1,2\n', f'[{long}',
               f'a.mp4 1\nb.mp4 {long} 2 3\n', KINETICS + long, f'a.mp4 1\n{long}.mp4 2\n'):  # fmt: skip
    assert len(refused(paths=[made(tmp_path, text=text)])) < 2000
  for text in (f'path,{long[:9999]}\na.mp4,1\n', f'a,b.mp4 1,{long[:9999]}\n', f'a.mp4,1\n{long},\n',
               f'a.mp4,1\nb.mp4,2,{long[:9999]}\n', f'a.mp4,1,{long[:9999]},2\n'):  # fmt: skip
    with pytest.raises(ValueError) as e:
      read_manifest(made(tmp_path, text=text), 'train', str(tmp_path))
    assert len(str(e.value)) < 2000


# Files


def test_encodings_are_read_alike(tmp_path):
  for encoding in ('utf-8-sig', 'utf-16', 'latin-1'):
    path = made(tmp_path, 'café.mp4', text='café.mp4,run\n', encoding=encoding)
    found = read_lists([path])
    assert placed(found) == [('café.mp4', 'run', 'train')]
    assert any('Latin-1' in note for note in found.notes) == (encoding == 'latin-1')


def test_kinetics_files(tmp_path, monkeypatch):
  """In any folder, under three names; an original is cut, a clip under the bare id is not."""
  lengths = {'whole.mp4': 60.0, 'clip.webm': 10.1, 'mute.mkv': None}
  monkeypatch.setattr(list_rows, 'length_s', lambda path: lengths[path.rsplit('/', 1)[1]])
  files = ['air_drumming/a_000001_000011.mp4', 'x/a_000001_000011.mkv', 'b_2_12.mp4', *lengths]
  names = ['a,1,11', 'b,2,12', 'whole,3,13', 'clip,4,14', 'mute,5,15']
  text = KINETICS + ''.join(f'air drumming,{name},train,0\n' for name in [*names, 'gone,6,16'])
  found = read_lists([made(tmp_path, *files, text=text)])
  assert [r.media_id for r in found.rows] == [
    'air_drumming/a_000001_000011.mp4', 'b_2_12.mp4', 'whole.mp4@3-13', 'clip.webm', 'mute.mkv',
    'gone_000006_000016.mp4',
  ]  # fmt: skip
  said = '\n'.join(found.notes)
  assert 'official Kinetics CSV (--list_kind=kinetics), 6 rows, split train' in said
  assert '1 of 6 videos are not in' in said and 'several files' not in said
  assert '1 files are longer than their segment' in said and '1 files do not say how long' in said
  assert 'train: 6 rows of 1 classes (air drumming: 6)' in said


def test_of_two_files_one_is_taken_and_told(tmp_path):
  path = made(
    tmp_path, 'p/1.webm', 'q/1.webm', text='[{"id": "1", "template": "A"}]', name='train.json'
  )
  found = read_lists([path])
  assert placed(found) == [('p/1.webm', 'A', 'train')]
  assert 'careful: 1 names have several files (1: taken is p/1.webm, not q/1.webm)' in found.notes


def test_paths_with_another_extension_or_from_the_top(tmp_path):
  path = made(tmp_path, 'a/1.mkv', 'b.mp4', text='a/1.mp4 run\n/b.mp4 run\n')
  assert [r.path for r in read_lists([path]).rows] == ['a/1.mkv', 'b.mp4']
  path = made(
    tmp_path, 'c/2.mp4', text='/their/x/a/1.mp4 run\n/their/x/c/2.mp4 run\n/their/c/2.mp4 run\n'
  )
  found = read_lists([path])
  assert [r.path for r in found.rows] == ['a/1.mkv', 'c/2.mp4', 'their/c/2.mp4']
  assert f'paths that begin with /their/x/ are looked for in {tmp_path}' in found.notes
  refused('line 1', 'lies outside', '--allow_outside', paths=[made(tmp_path, text='../c.mp4 1\n')])


def test_numbers_become_classes_at_their_index(tmp_path):
  path = made(tmp_path, 'a.mp4', 'b.mp4', text='a.mp4 1\nb.mp4 3\n')
  found = read_lists([path])
  assert found.classes == ['0', '1', '2', '3'] and placed(found)[1] == ('b.mp4', '3', 'train')
  assert any('--classes=FILE names them' in note for note in found.notes)
  found = read_lists([path], classes=['p', 'q', 'r', 's'])
  assert [row[1] for row in placed(found)] == ['q', 's']
  found = read_lists([path], classes=['p', 'q', 'r'])
  assert [row[1] for row in placed(found)] == ['p', 'r']
  assert 'labels go from 1 to 3, for 3 classes: counted from 1' in found.notes
  refused('labels go from 1 to 3, and there are 2 class names', paths=[path], classes=['p', 'q'])


def test_splits(tmp_path):
  for name in ('a.mp4', 'b.mp4'):
    made(tmp_path, name)
  train = made(tmp_path, text='a.mp4 1\n', name='k400_train_list.txt')
  other = made(tmp_path, text='b.mp4 1\n', name='more.txt')
  assert [r[2] for r in placed(read_lists([train, f'val:{other}']))] == ['train', 'val']
  assert [r[2] for r in placed(read_lists([train, other], splits=['x', 'y']))] == ['x', 'y']
  assert placed(read_lists([other]))[0][2] == 'train'
  refused('says no split: write --list train:', paths=[train, other])
  refused('may hold letters', '--list train:', paths=[f'a-b:{other}'])
  both = made(tmp_path, text='path,label,split\na.mp4,1,train\nb.mp4,1,test\n')
  refused('several splits (test, train); leave --split=val out', paths=[both], splits=['val'])


def test_most_missing_is_an_error_with_paths_and_remedy(tmp_path):
  text = ''.join(f'c/{i}.mp4 0\n' for i in range(5))
  path = made(tmp_path, 'in/c/0.mp4', 'c/4.mp4', text=text)
  words = refused("4 of 5 videos of split 'train'", f'--root={tmp_path}/in;', paths=[path])
  assert ', '.join(f'{tmp_path}/c/{i}.mp4' for i in range(3)) in words
  assert len(read_lists([path], allow_missing=True).rows) == 5
  refused('Set --root=DIR', '(--list_kind=path_label)', paths=[made(tmp_path, text='d.mp4 0\n')])
  refused('--root: no folder gone', paths=[path], root='gone')


def test_folders_of_images_or_the_videos_beside_them(tmp_path):
  path = made(tmp_path, 'c/1/img_00001.jpg', 'c/2/img_00001.jpg', text='c/1 120 0\nc/2 80 0\n')
  found = read_lists([path])
  assert [(r.path, r.image_rate) for r in found.rows] == [('c/1', 0), ('c/2', 0)]
  assert any('second: not known; pass --image_rate' in note for note in found.notes)
  assert [r.image_rate for r in read_lists([path], image_rate=25).rows] == [25, 25]
  made(tmp_path, 'c/1.avi', 'c/2.mp4')
  assert [(r.path, r.image_rate) for r in read_lists([path]).rows] == [
    ('c/1.avi', None),
    ('c/2.mp4', None),
  ]
  path = made(tmp_path, 'e/1/notes.txt', 'e/2/x.jpg', text='e/1 120 0\ne/2 80 0\n')
  refused('2 of 2 rows name folders (e/1, e/2)', 'nor images with numbers', paths=[path])
  path = made(tmp_path, text='d/1 120 0\nd/2 80 0\n')
  refused('one of rawframes', 'neither a video nor images', '--list_kind=path_label', paths=[path])


def test_hmdb51_lists_of_one_split(tmp_path):
  names = [f'{c}_test_split{n}.txt' for c in ('clap', 'brush_hair') for n in (1, 2)]
  paths = [
    made(tmp_path, text=f'{n[0]}1.avi 1\n{n[0]}2.avi 2\n{n[0]}3.avi 0\n', name=n) for n in names
  ]
  made(tmp_path, *(f'v/{c}/{c[0]}{i}.avi' for c in ('clap', 'brush_hair') for i in (1, 2, 3)))
  found = read_lists(paths[::2])
  assert placed(found) == [
    ('v/clap/c1.avi', 'clap', 'train'), ('v/clap/c2.avi', 'clap', 'test'),
    ('v/brush_hair/b1.avi', 'brush_hair', 'train'), ('v/brush_hair/b2.avi', 'brush_hair', 'test'),
  ]  # fmt: skip
  assert found.skipped[0] == (
    f'c3 ({paths[0]}, line 3)',
    'unused: the list has 0 for it, in neither train nor test',
  )
  refused('HMDB51 splits 1, 2', paths=paths)


def test_lists_that_are_none(tmp_path):
  refused('there is no such file', paths=[str(tmp_path / 'gone.txt')])
  refused('is empty', paths=[made(tmp_path, text='\n\n')])
  refused('is no text file', paths=[made(tmp_path, text='a\0b')])
  refused('not of Something-Something', paths=[made(tmp_path, text='{"database": {}}')])
  refused(
    'taken for UCF101 split (else pass --list_kind): 1 bad lines',
    paths=[made(tmp_path, text='A/v_A_g01_c01.avi 1\n' * 300 + 'b.mp4 1\n')],
  )
  assert read_lists(
    [made(tmp_path, text='1 A\n', name='i.txt'), made(tmp_path, 'v_A_g01_c01.avi', text='A/v_A_g01_c01.avi')],
    kind='ucf101',
  ).classes == ['A']  # fmt: skip
  refused('names classes and no videos', paths=[made(tmp_path, text='{"A": "0"}')])


# From end to end


def test_a_list_becomes_a_dataset(tmp_path, capsys):
  """Every row is a clip, a failure or skipped, and the order of classes is that of labels.json."""
  film = write_video(tmp_path / 'film.mp4', frames=6)
  (tmp_path / 'v').mkdir()
  for i in range(4):
    shutil.copy(film, tmp_path / 'v' / f'{i}.mp4')
  items = [{'id': str(i), 'template': f'{"BA"[i % 2]} [something]'} for i in (0, 1, 2, 2, 9)]
  train = made(tmp_path, text=json.dumps(items), name='x-train.json')
  test = made(tmp_path, text='[{"id": "3"}]', name='x-test.json')
  labels = made(tmp_path, text='{"B something": "0", "A something": "1"}', name='labels.json')
  out = tmp_path / 'out'
  write.main(
    ['--list', train, test, labels, f'--root={tmp_path}/v', f'--out={out}', '--processes=1']
  )
  manifest = json.loads((out / 'manifest.json').read_text())
  assert manifest['classes'] == ['B something', 'A something']
  assert manifest['splits']['train']['clips_per_class'] == [2, 1]
  assert manifest['splits']['test']['clips'] == 1 and manifest['failed'] == 2
  with open(out / 'failed.csv', newline='') as file:
    assert [(line[0], line[2], line[3].split(':')[0]) for line in list(csv.reader(file))[1:]] == [
      ('2.mp4', '4', 'duplicate'),
      ('9.mp4', '5', 'missing'),
    ]
  said = capsys.readouterr().out
  assert f'{train}: Something-Something V2 JSON (--list_kind=ssv2), 5 rows, split train' in said
  assert 'careful: 1 rows repeat a video' in said and 'test: 1 rows without labels' in said


def test_lists_that_are_no_manifest_are_sent_to_the_right_flag(tmp_path):
  for text in (
    KINETICS + 'yoga,abc,0,10,train,0\n',
    'c/1 120 3\n',
    'c/1 3\n',
    'c/1,120,3\n',
    'a.mp4 3',
  ):
    with pytest.raises(ValueError, match='--list'):
      read_manifest(made(tmp_path, text=text), 'train', str(tmp_path))


def test_commands_of_the_page_are_commands():
  """Flags of docs/prepare.md are flags, and its kinds are all kinds."""
  page = (pathlib.Path(__file__).parents[2] / 'docs' / 'prepare.md').read_text()
  commands = re.findall(r'`python -m data_prep.write (--list [^`]*--out=data/\w+)`', page)
  for command in commands:
    args, unknown = write._parser().parse_known_args(shlex.split(command))
    assert args.list and args.videos and not unknown
  rows = [line for line in page.splitlines() if 'data_prep.write --list ' in line and '|' in line]
  assert {kind for row in rows for kind in re.findall(r'\| `(\w+)` \|', row)} == set(
    list_rows.KINDS
  )


def test_a_manifest_without_its_videos_is_refused(tmp_path):
  path = made(tmp_path, 'a.mp4', text='a.mp4,x\nb.mp4,x\nc.mp4,x\n')
  with pytest.raises(SystemExit, match=r"2 of 3 videos of split 'train'.*b.mp4.*Set --videos=DIR"):
    write.main([f'--manifest={path}', f'--out={tmp_path}/out'])
