"""Lists of published datasets in the form in which these publish them."""

import json

import pytest

from data_prep import published, write
from data_prep.list_rows import read_lists
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
