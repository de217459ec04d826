"""Lists of published datasets in the form in which these publish them."""

import json
import os
from dataclasses import replace

import pytest

from data_prep import published, write
from data_prep.list_rows import read_lists
from data_prep.rows import Row, hold_out
from data_prep.windows import cut
from tests.data import make
from tests.data_prep.films import write_video
from tests.data_prep.test_lists import brief, made, placed, refused
from vjax.data.specs import DatasetSpec
from vjax.data.split import open_split

ACTIVITYNET = {
  'version': 'VERSION 1.3',
  'taxonomy': [{'parentName': 'Root', 'nodeName': 'Archery', 'nodeId': 1, 'parentId': 0}],
  'database': {
    'sNAZgHRvR7E': {
      'duration': 17.0,
      'subset': 'training',
      'resolution': '320x240',
      'url': 'https://www.youtube.com/watch?v=sNAZgHRvR7E',
      'annotations': [
        {'segment': [1.5, 8.25], 'label': 'Archery'},
        {'segment': [9, 17.31], 'label': 'Hurling'},
      ],
    },
    'a-b_c': {
      'duration': 9.0,
      'subset': 'validation',
      'annotations': [{'segment': [9.5, 9.9], 'label': 'Archery'}],
    },
    '_hidden': {'duration': 60.0, 'subset': 'testing', 'annotations': []},
  },
}
EPIC_55 = (
  'uid,participant_id,video_id,narration,start_timestamp,stop_timestamp,start_frame,stop_frame,'
  'verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n'
  "0,P01,P01_01,open door,00:00:00.50,00:00:01.00,30,60,open,2,door,1,['door'],[1]\n"
  '1,P01,P01_01,"take a, cup",01:00:01.00,01:00:02.50,1,1,take,0,cup,1,"[\'cup\', \'a\']","[1, 0]"\n'
)
EPIC_100 = (
  'narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,'
  'start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n'
  'P01_101_0,P01,P01_101,00:00:00.560,00:00:00.14,00:00:03.37,8,202,take plate,take,0,plate,2,'
  "['plate'],[2]\n"
)


def test_20bn():
  text = '100218;Something falling like a feather or paper\n24413;Moving [a; b] up\n'
  assert published.recognize('something-something-v1-train.csv', text) == 'ssv1'
  assert published.recognize('jester-v1-train.csv', '34870;Drumming Fingers\n') == 'jester'
  assert published.recognize('jester-v1-test.csv', '34870\n7\n') == 'jester'
  assert published.recognize('numbers.txt', '34870\n7\n') == ''
  assert published.recognize('semicolons.txt', '1;2\n3;4\n') == ''
  entries = published.read_20bn(text)
  assert brief(entries)[0] == ('100218', 'Something falling like a feather or paper', '')
  assert entries[1].labels == ('Moving [a; b] up',) and all(e.images for e in entries)
  assert published.read_20bn('7\n8;\n')[1].labels == ()
  assert published.recognize('jester-v1-labels.csv', 'Swiping Left\nNo gesture\n') == '20bn_labels'
  assert published.read_20bn_labels('Swiping Left\r\nNo gesture\n') == [
    'Swiping Left',
    'No gesture',
  ]
  with pytest.raises(ValueError, match='line 2: .*is no such line'):
    published.read_20bn('1;A\na/1.mp4;A\n')
  with pytest.raises(ValueError, match='line 2: has no label'):
    published.read_20bn('1;A\n2\n')


def test_20bn_folders_and_videos(tmp_path):
  """Folders of images, in the root or one below; videos of these names where there are none."""
  files = ('20bn-jester-v1/1/00001.jpg', '20bn-jester-v1/2/00001.jpg', '3/00001.jpg', '4/x.txt')
  path = made(tmp_path, *files, text='1;A\n2;A\n3;B\n4;B\n5;B\n', name='jester-v1-train.csv')
  found = read_lists([path])
  assert [(r.path, r.image_rate) for r in found.rows] == [
    ('20bn-jester-v1/1', 12), ('20bn-jester-v1/2', 12), ('3', 12), ('4', None), ('5', None),
  ]  # fmt: skip
  assert any('1 of 5 videos are not in' in note for note in found.notes)
  other = tmp_path / 'videos'
  other.mkdir()
  path = made(other, 'x/1.webm', '2.webm', text='1;A\n2;A\n', name='jester-v1-train.csv')
  assert [r.path for r in read_lists([path], image_rate=5).rows] == ['x/1.webm', '2.webm']


def test_moments(tmp_path):
  text = 'clapping/yt-a_12.mp4,clapping,4,1\nadult+male+singing/b c.mp4,adult+male+singing,3,0\n'
  assert published.recognize('trainingSet.csv', text) == 'moments'
  assert published.recognize('x.csv', 'a/b.mp4,c,1,2\n') == ''
  names = ('adult+male+singing,1\n', 'clapping,0\n')
  train = made(
    tmp_path, 'training/clapping/yt-a_12.mp4', 'adult+male+singing/b c.mp4', text=text,
    name='trainingSet.csv',
  )  # fmt: skip
  val = made(
    tmp_path, 'training/clapping/d.mp4', 'validation/clapping/d.mp4',
    text='"clapping/d.mp4","clapping",3,0\n', name='validationSet.csv',
  )  # fmt: skip
  classes = made(tmp_path, text=''.join(names), name='moments_categories.txt')
  found = read_lists([train, val, classes])
  assert placed(found) == [
    ('training/clapping/yt-a_12.mp4', 'clapping', 'train'),
    ('adult+male+singing/b c.mp4', 'adult+male+singing', 'train'),
    ('validation/clapping/d.mp4', 'clapping', 'val'),
  ]
  assert found.classes == ['clapping', 'adult+male+singing']
  with pytest.raises(ValueError, match='must number its 2 classes from 0 to 1'):
    published.read_moments_categories('a,0\nb,2\n')
  with pytest.raises(ValueError, match='line 1: .*is no such line'):
    published.read_moments('a/b.mp4,a,3\n', 'trainingSet.csv')


def test_activitynet(tmp_path):
  text = json.dumps(ACTIVITYNET)
  assert published.recognize('activity_net.v1-3.min.json', text) == 'activitynet'
  files = ('v_sNAZgHRvR7E.mp4', 'a-b_c.mkv', 'x/v__hidden.mp4')
  found = read_lists([made(tmp_path, *files, text=text, name='activity_net.v1-3.min.json')])
  assert [(r.media_id, *r.labels.get('', ()), r.split) for r in found.rows] == [
    ('v_sNAZgHRvR7E.mp4@1.5-8.25', 'Archery', 'train'),
    ('v_sNAZgHRvR7E.mp4@9-17', 'Hurling', 'train'),
    ('x/v__hidden.mp4', 'test'),
  ]
  [(name, why)] = found.skipped
  assert name.startswith('v_a-b_c (') and why == 'unused: its segment ends before it starts'
  for item, words in (
    ({'subset': 'none'}, 'has no subset, one of training, validation, testing'),
    ({'subset': 'training', 'annotations': [{'label': 'A'}]}, 'without segment and label'),
  ):
    with pytest.raises(ValueError, match=words):
      published.read_activitynet(json.dumps({'database': {'a': item}}))
  with pytest.raises(ValueError, match='has no rows'):
    published.read_activitynet('{"database": {}}')


def activitynet(videos=6, seconds=25.5):
  """Annotations of videos of two classes in turn, two of three of training, one of validation."""
  database = {
    f'video{i}': {
      'duration': 100.0,
      'subset': 'validation' if i % 3 == 2 else 'training',
      'annotations': [{'segment': [0.1, 0.1 + seconds], 'label': 'AB'[i % 2]}],
    }
    for i in range(videos)
  }
  return {**ACTIVITYNET, 'database': database}


@pytest.mark.parametrize(
  'start, end, windows',
  [
    (0.1, 25.6, ['0.1-10.1', '10.1-20.1', '20.1-25.6']),
    (5.0, 26.99, ['5-15', '15-25']),  # a rest of 1.99 s
    (5.0, 27.0, ['5-15', '15-25', '25-27']),
    (0.3, 10.3, ['0.3-10.3']),
    (1.0, 3.0, ['1-3']),
    (1.0, 2.5, []),
  ],
)
def test_windows_of_a_segment(start, end, windows):
  row = Row('a.mp4', 'train', {'': ('A',)}, 1, start, end)
  assert [r.media_id.partition('@')[2] for r in cut(row, 10)] == windows
  assert cut(Row('a.mp4', 'train', {}, 1), 10) == []


def test_windows_of_activitynet(tmp_path):
  """Those of missing videos are named; videos without a window are told apart."""
  text = json.dumps(
    {
      **ACTIVITYNET,
      'database': {
        **ACTIVITYNET['database'],
        **activitynet()['database'],
        'short': {'subset': 'training', 'annotations': [{'segment': [1, 2.2], 'label': 'A'}]},
      },
    }
  )
  files = ('train/v_video0.mp4', 'video1.mkv', 'v_video2.mp4', 'v_video3.mp4', 'v_sNAZgHRvR7E.mp4')
  found = read_lists([made(tmp_path, *files, text=text, name='a.json')], window_s=10)
  assert [r.media_id for r in found.rows if 'video0' in r.path] == [
    f'train/v_video0.mp4@{window}' for window in ('0.1-10.1', '10.1-20.1', '20.1-25.6')
  ]
  assert {(r.path, r.split, r.line) for r in found.missing} == {
    ('v_video4.mp4', 'train', 8), ('v_video5.mp4', 'val', 9),
  } and len(found.missing) == 6  # fmt: skip
  assert 'train: 4 of 5 videos (80.0%) and 11 of 14 clips (78.6%) are there' in found.notes
  assert 'val: 1 of 2 videos (50.0%) and 3 of 6 clips (50.0%) are there' in found.notes
  reasons = {name.partition(' (')[0]: why for name, why in found.skipped}
  assert reasons['v__hidden'] == 'unused: the list has no segment of it, to cut windows of'
  assert reasons['v_short'] == 'unused: its segment of 1.2 s is shorter than 2 s'
  refused('every row is unused (the first: unused: the list has no segment of it', window_s=5,
          paths=[made(tmp_path, text='v_video2.mp4 0\n')])  # fmt: skip


def test_a_video_of_windows_is_in_one_split_wherever_it_lies(tmp_path, capsys):
  """The split depends on the names in the list, not on files that are there or their folders."""
  (tmp_path / 'b').mkdir()
  video = write_video(tmp_path / 'b' / 'v_video0.mp4', frames=24, rate=4)
  for i in (1, 2, 3):
    os.link(video, tmp_path / 'b' / f'video{i}.mp4')
  path = made(tmp_path, text=json.dumps(activitynet(seconds=5.4)), name='activity_net.json')
  flags = ['--list', path, f'--root={tmp_path}', '--window_s=3', '--processes=1']
  flags += ['--join_splits', '--holdout=0.34', f'--out={tmp_path}/out']
  write.main([*flags, '--report'])
  said = capsys.readouterr().out
  assert 'missing: 4 clips of 12; each is named in' in said
  assert [p.name for p in (tmp_path / 'out').iterdir()] == ['missing.csv']
  write.main(flags)
  splits = {}
  for name in ('train', 'val'):
    split = open_split(str(tmp_path), DatasetSpec('out', 2), name)
    splits[name] = [split.name_of(row) for row in range(split.num_clips)]
  videos = {name: {clip.partition('@')[0] for clip in clips} for name, clips in splits.items()}
  assert not videos['train'] & videos['val'] and sum(map(len, videos.values())) == 4
  assert sorted(clip.partition('@')[2] for clip in splits['val'] + splits['train']) == sorted(
    ['0.1-3.1', '3.1-5.5'] * 4
  )
  lines = (tmp_path / 'out' / 'missing.csv').read_text().splitlines()
  assert lines[:2] == ['path,split,row,start_s,end_s,label', 'v_video4.mp4,train,5,0.1,3.1,A']
  with pytest.raises(SystemExit, match='--report: .* holds a finished dataset'):
    write.main([*flags, '--report'])


def test_what_is_held_out_depends_on_names_in_the_list(tmp_path):
  text = json.dumps(activitynet(20))
  chosen = []
  for number, form in enumerate(('v_video{}.mp4', 'x/video{}.mkv')):
    root = tmp_path / str(number)
    root.mkdir()
    files = [form.format(i) for i in range(12)]
    found = read_lists([made(root, *files, text=text, name='a.json')], window_s=10)
    rows = [replace(row, split='train') for row in found.rows]
    held = hold_out(rows, 0.2, names=found.names)
    chosen.append([row.split for row in held])
    assert [r.split for r in held[::3]] == [r.split for r in held[2::3]]  # a video's windows
  assert chosen[0] == chosen[1] and chosen[0].count('val') == 4 * 3


def test_epic_kitchens(tmp_path):
  """Both editions; names of verbs and nouns make those of actions."""
  assert published.recognize('EPIC_train_action_labels.csv', EPIC_55) == 'epic'
  assert published.recognize('EPIC_100_train.csv', EPIC_100) == 'epic'
  train = made(tmp_path, 'P01/P01_01.MP4', text=EPIC_55, name='EPIC_train_action_labels.csv')
  found = read_lists([train])
  assert [(r.media_id, r.labels) for r in found.rows] == [
    ('P01/P01_01.MP4@0.5-1', {'': ('2 1',), 'verb': ('2',), 'noun': ('1',)}),
    ('P01/P01_01.MP4@3601-3602.5', {'': ('0 1',), 'verb': ('0',), 'noun': ('1',)}),
  ]
  assert found.space_classes == {'verb': ['0', '1', '2'], 'noun': ['0', '1']}
  assert sum('called by their numbers' in note for note in found.notes) == 2
  verbs = "verb_id,class_key,verbs\n0,take,\"['take', 'get']\"\n1,put,[]\n2,open,[]\n"
  nouns = 'noun_id,class_key,nouns\n0,pan,[]\n1,board:cutting,[]\n'
  lists = [
    made(tmp_path, text=verbs, name='EPIC_verb_classes.csv'),
    made(tmp_path, text=nouns, name='EPIC_noun_classes.csv'),
  ]
  found = read_lists([train, *lists])
  assert [r.labels[''] for r in found.rows] == [('open board:cutting',), ('take board:cutting',)]
  assert found.space_classes == {'verb': ['take', 'put', 'open'], 'noun': ['pan', 'board:cutting']}
  [entry] = published.read_epic(EPIC_100)
  assert (entry.segment, entry.image_rate) == ((0.14, 3.37), 59.9407)
  text = 'id,key,instances,category\n0,take,"[\'take\']",retrieve\n1,put,[],leave\n'
  assert published.recognize('EPIC_100_verb_classes.csv', text) == 'epic_verbs'
  assert published.recognize('EPIC_100_noun_classes.csv', text) == 'epic_nouns'
  assert published.read_epic_classes(text) == ['take', 'put']
  hidden = 'uid,participant_id,video_id,start_timestamp,stop_timestamp,start_frame,stop_frame\n'
  [entry] = published.read_epic(hidden + '9,P01,P01_11,00:00:00.00,00:00:01.89,1,113\n')
  assert (entry.labels, entry.spaces) == ((), {})
  refused(
    'it has 1 classes, and a row has verb 2',
    paths=[train, made(tmp_path, text='verb_id,class_key,verbs\n0,take,[]\n', name='v.csv')],
  )
  with pytest.raises(ValueError, match='line 2: .*has no video_id, or no start and stop'):
    published.read_epic(EPIC_100.replace('00:00:03.37', '3.37'))


def test_epic_folders_of_images(tmp_path):
  files = [f'P01/rgb_frames/P01_01/frame_{i:010}.jpg' for i in (1, 2)]
  path = made(tmp_path, *files, text=EPIC_55.splitlines(True)[0] + EPIC_55.splitlines(True)[1])
  [row] = read_lists([path]).rows
  assert (row.media_id, row.image_rate) == ('P01/rgb_frames/P01_01@0.5-1', 60)


def test_label_spaces_are_written_in_the_order_of_their_numbers(tmp_path):
  write_video(tmp_path / 'P01_01.MP4', frames=24, rate=12)
  text = EPIC_55.splitlines(True)[0] + EPIC_55.splitlines(True)[1]
  train = made(tmp_path, text=text, name='EPIC_train_action_labels.csv')
  out = tmp_path / 'epic'
  write.main(['--list', train, f'--out={out}', '--processes=1', '--allow_empty_classes'])
  assert make.manifest(out)['views'] == {'noun': ['0', '1'], 'verb': ['0', '1', '2']}
  spec = DatasetSpec(name='epic', num_classes=3, label_space='verb')
  split = open_split(str(tmp_path), spec, 'train')
  record = split.read(0)
  assert split.labels_of(record) == [2] and record.num_frames == 6


def test_sports1m(tmp_path):
  text = (
    'http://www.youtube.com/watch?v=---QUuC4vJs 1,0\n'
    'https://www.youtube.com/watch?v=cKEsfnNkVOw 1,1\n'
  )
  assert published.recognize('train_partition.txt', text) == 'sports1m'
  path = made(
    tmp_path, '---QUuC4vJs.mp4', 'x/cKEsfnNkVOw.webm', text=text, name='train_partition.txt'
  )
  found = read_lists([path], classes=['boomerang', 'boxing'])
  assert placed(found) == [
    ('---QUuC4vJs.mp4', 'boxing', 'boomerang', 'train'),
    ('x/cKEsfnNkVOw.webm', 'boxing', 'train'),
  ]
  with pytest.raises(ValueError, match='line 1: .*is no such line'):
    published.read_sports1m('http://www.youtube.com/watch?v=short 1\n')


def test_class_lists_go_with_a_kind_that_is_given(tmp_path):
  path = made(tmp_path, '1/00001.jpg', text='1;A\n', name='jester-v1-train.csv')
  labels = made(tmp_path, text='B\nA\n', name='jester-v1-labels.csv')
  found = read_lists([path, labels], kind='jester')
  assert (found.classes, placed(found)) == (['B', 'A'], [('1', 'A', 'train')])
