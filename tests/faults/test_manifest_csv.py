"""Lists of videos as people write them: accepted as they are meant, or refused in words that say
what to change."""

import csv
import io
import json
import os

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from data_prep import write
from data_prep.rows import EXTENSIONS, read_folder, read_manifest, relative_path
from tests.data_prep.films import write_video

pytestmark = pytest.mark.timeout(120)
quick = settings(
  deadline=None,
  max_examples=60,
  derandomize=True,
  database=None,
  suppress_health_check=list(HealthCheck),
)


def read(tmp_path, content, **kwargs):
  path = tmp_path / 'list.csv'
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return read_manifest(str(path), 'train', str(tmp_path), **kwargs)


def refused(tmp_path, content, *words):
  with pytest.raises(ValueError) as e:
    read(tmp_path, content)
  assert all(word in str(e.value) for word in (str(tmp_path / 'list.csv'), *words)), e.value


@pytest.mark.parametrize('separator', ['|', ' '])
@pytest.mark.parametrize('header', ['', 'path{}label\n', 'Path{}Label\r\n'])
def test_other_separators(tmp_path, separator, header):
  """They would make one column, that is, unlabelled videos none of which is there."""
  if separator == ' ' and header:
    header = 'path label\n'
  lines = header.format(separator) + f'a.mp4{separator}run\nb.mp4{separator}walk\n'
  refused(tmp_path, lines, f'separated by {separator!r}', 'separate them by commas')


@pytest.mark.parametrize('separator', [';', '\t'])
@pytest.mark.parametrize('header', ['', 'path{}label\n', '\ufeff"Path"{}Label\r\n'])
def test_semicolons_and_tabs_are_read_as_lists_are(tmp_path, separator, header):
  rows = read(tmp_path, header.format(separator) + f'a.mp4{separator}run, fast\n')
  assert [(r.path, r.labels['']) for r in rows] == [('a.mp4', ('run, fast',))]


def test_one_column_may_hold_such_characters(tmp_path):
  assert [r.path for r in read(tmp_path, 'a b.mp4\nc;d.mp4\ne|f.mp4\n')] == [
    'a b.mp4',
    'c;d.mp4',
    'e|f.mp4',
  ]
  assert [r.path for r in read(tmp_path, 'path\na.mp4 run\n')] == ['a.mp4 run']


@pytest.mark.parametrize('header', ['video,label', 'file,class', 'label,video_id'])
def test_headers_in_other_words(tmp_path, header):
  """Taken for a video it would add a class called 'label'."""
  refused(
    tmp_path, f'{header}\na.mp4,run\n', f'its first line ({header}) names no file', 'path,label'
  )


def test_files_without_extension_are_no_header(tmp_path):
  (tmp_path / 'clip').write_bytes(b'x')
  assert [r.path for r in read(tmp_path, 'clip,run\na.mp4,run\n')] == ['clip', 'a.mp4']
  assert [r.path for r in read(tmp_path, 'clip1,run\nclip2,run\n')] == ['clip1', 'clip2']


@pytest.mark.parametrize('mark', ['', '\ufeff'])
@pytest.mark.parametrize('header', ['', 'path,label\n', ' PATH , label \n'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_headers_marks_and_line_ends(tmp_path, mark, header, end):
  rows = read(tmp_path, (mark + header + 'a.mp4,run\n\nb c.mp4, walk \n').replace('\n', end))
  assert [(r.path, r.labels['']) for r in rows] == [('a.mp4', ('run',)), ('b c.mp4', ('walk',))]


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'latin-1'])
def test_encodings_are_those_of_lists_and_a_guess_is_told(tmp_path, encoding):
  notes: list[str] = []
  rows = read(tmp_path, 'café.mp4;run\n'.encode(encoding), notes=notes)
  assert [(r.path, r.labels['']) for r in rows] == [('café.mp4', ('run',))]
  said = [f'careful: {tmp_path}/list.csv is not UTF-8 and was read as Latin-1']
  assert [note.partition(';')[0] for note in notes] == (said if encoding == 'latin-1' else [])


def test_a_quote_left_open_swallows_no_rows(tmp_path):
  refused(
    tmp_path,
    'a.mp4,"run\nb.mp4,run\nc.mp4,run"\nd.mp4,run\n',
    'line 3, column label',
    'is a quote left open?',
  )
  refused(tmp_path, 'a.mp4,"run\nb.mp4,run\n', 'not a comma-separated text file')
  refused(tmp_path, '"a\tb.mp4",run\n', 'column path', 'control character')
  refused(tmp_path, 'a.mp4,ru\1n\n', 'column label', 'control character')
  refused(tmp_path, 'a.mp4,ru\0n\n', 'is no text file')


@pytest.mark.parametrize('text, words', [
  ('', 'has no rows'), ('\n \n,\n\r\n', 'has no rows'), ('\ufeff', 'has no rows'),
  ('path,label\n', 'a header and no rows'), ('path,label\r\n\r\n', 'a header and no rows'),
])  # fmt: skip
def test_nothing_in_it(tmp_path, text, words):
  refused(tmp_path, text, words)


def test_a_folder_is_no_manifest(tmp_path):
  with pytest.raises(
    ValueError, match=f'manifest {tmp_path} cannot be read .*it must be a CSV file'
  ):
    read_manifest(str(tmp_path), 'train', str(tmp_path))


@pytest.mark.parametrize('times, words', [
  ('nan,2', "start_s: 'nan' must be 0 or more"), ('0,inf', "end_s: 'inf' must be"),
  ('-0.5,2', "'-0.5' must be 0"),
  ('3,2', "end_s: '2' is not after the start, 3"), ('2,2', "'2' is not after"),
  (',0', "'0' is not after the start, 0"),
  ('1e300,', "'1e300' is more than"), ('1_0,20', "'1_0' is not a number"),
  ('0:01,0:05', "'0:01' is not a number"),
  ('１,2', 'is not a number'), ('0x1,9', 'is not a number'),
  ('"1,5","3,0"', "'1,5' is not a number"),
])  # fmt: skip
def test_times(tmp_path, times, words):
  refused(tmp_path, f'a.mp4,run,0,1\nb.mp4,run,{times}\n', 'line 2, column', words)


@pytest.mark.parametrize(
  'path', ['../a.mp4', 'b/../../a.mp4', '/etc/a.mp4', 'out/a.mp4', 'a.mp4', 'out/../b.mp4']
)
def test_paths_that_leave_the_video_folder(tmp_path, path):
  """By '..', from the root, or by symbolic links: refused, unless a flag allows it."""
  root, elsewhere = tmp_path / 'videos', tmp_path / 'elsewhere' / 'deep'
  root.mkdir()
  elsewhere.mkdir(parents=True)
  (elsewhere / 'a.mp4').write_bytes(b'x')
  (root / 'out').symlink_to(elsewhere)
  (root / 'a.mp4').symlink_to(elsewhere / 'a.mp4')
  manifest = tmp_path / 'list.csv'
  manifest.write_text(f'{path},run\n')
  with pytest.raises(
    ValueError, match=r"line 1, column path: '.*' (lies|leads by .*,) outside .*--allow_outside"
  ):
    read_manifest(str(manifest), 'train', str(root))
  with pytest.raises(SystemExit, match='--allow_outside'):
    write.main([f'--manifest={manifest}', f'--videos={root}', f'--out={tmp_path / "out"}'])
  assert not (tmp_path / 'out').exists()
  [row] = read_manifest(str(manifest), 'train', str(root), allow_outside=True)
  assert os.path.realpath(root / row.path) == os.path.realpath(os.path.join(root, path))


def test_links_within_the_video_folder(tmp_path):
  """Links that stay inside, and a video folder that is a link itself, are as good as the files;
  names are as given."""
  (tmp_path / 'disk' / 'run').mkdir(parents=True)
  (tmp_path / 'disk' / 'run' / 'a.mp4').write_bytes(b'x')
  (tmp_path / 'disk' / 'b.mp4').symlink_to('run/a.mp4')
  (tmp_path / 'disk' / 'again').symlink_to('run')
  (tmp_path / 'videos').symlink_to('disk')
  for path in ('run/a.mp4', 'b.mp4', 'again/a.mp4', 'gone.mp4'):
    assert relative_path(path, str(tmp_path / 'videos'), False) == (path, '')


def test_link_loops_in_class_folders(tmp_path):
  """A loop is named; it is neither followed nor left out in silence."""
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'a.mp4').write_bytes(b'x')
  for name, target, words in (
    ('self', 'self', 'self is a symbolic link that leads nowhere, or to itself'),
    ('gone', 'unmounted/disk', 'gone is a symbolic link that leads nowhere'),
    ('up', '.', 'up is a symbolic link back to'),
    ('further', '..', 'further is a symbolic link back to'),
  ):
    (tmp_path / name).symlink_to(target)
    with pytest.raises(ValueError, match=words):
      read_folder(str(tmp_path))
    (tmp_path / name).unlink()
  (tmp_path / 'run' / 'inner').symlink_to('..')
  (tmp_path / 'other').symlink_to('run')
  assert [r.path for r in read_folder(str(tmp_path))] == ['other/a.mp4', 'run/a.mp4']


def test_links_and_folders_named_like_videos_are_listed_as_failures(tmp_path):
  root = tmp_path / 'in' / 'run'
  root.mkdir(parents=True)
  write_video(root / 'good.mp4', frames=3)
  (root / 'loop.mp4').symlink_to('loop.mp4')
  (root / 'gone.mp4').symlink_to('nowhere.mp4')
  (root / 'folder.mp4').mkdir()
  os.mkfifo(root / 'pipe.mp4')
  write.main([f'--folder={tmp_path / "in"}', f'--out={tmp_path / "out"}', '--processes=1'])
  reasons = failed(tmp_path / 'out')
  assert (
    reasons['run/loop.mp4']
    == reasons['run/gone.mp4']
    == 'missing: a symbolic link that leads nowhere, or to itself'
  )
  assert reasons['run/folder.mp4'] == 'missing: a folder, not a file; name the videos in it'
  assert reasons['run/pipe.mp4'] == 'missing: a pipe or device, not a file' and len(reasons) == 4


def failed(out):
  with open(out / 'failed.csv', newline='') as file:
    return {path: reason for path, _, _, reason in list(csv.reader(file))[1:]}


def test_strange_names_and_repeats_end_to_end(tmp_path):
  """Names with commas, quotes, spaces and other scripts are read and written as they are; repeats
  are listed."""
  names = [
    'a,b.mp4',
    'say "hi".mp4',
    "it's.mp4",
    'two  spaces.mp4',
    'ünï 視頻.mp4',
    'c;d.mp4',
    '-x.mp4',
    '#1.mp4',
    '%20.mp4',
  ]
  for name in names:
    write_video(tmp_path / name, frames=2)
  text = io.StringIO()
  rows = [
    *([name, f'class {i % 2}'] for i, name in enumerate(names)),
    ['./a,b.mp4', 'class 0'],
    ['c;d.mp4', 'class 0'],
  ]
  csv.writer(text).writerows(rows)
  (tmp_path / 'train.csv').write_text(text.getvalue(), encoding='utf-8')
  write.main([f'--manifest={tmp_path / "train.csv"}', f'--out={tmp_path / "out"}', '--processes=1'])
  manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_text())
  assert manifest['splits']['train']['clips_per_class'] == [5, 4] and manifest['failed'] == 2
  with open(tmp_path / 'out' / 'failed.csv', newline='') as file:
    assert [line[0:1] + line[2:] for line in list(csv.reader(file))[1:]] == [
      ['a,b.mp4', '10', 'duplicate: of row 1'],
      ['c;d.mp4', '11', 'duplicate: of row 6, there with labels class 1'],
    ]


def test_a_data_set_whose_manifest_is_damaged_is_left_alone(tmp_path):
  write_video(tmp_path / 'a.mp4', frames=2)
  (tmp_path / 'train.csv').write_text('a.mp4,run\n')
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'manifest.json').write_text('{"classes": [')
  with pytest.raises(
    SystemExit, match=r'out/manifest.json is damaged .*: delete the folder to write'
  ):
    write.main([f'--manifest={tmp_path / "train.csv"}', f'--out={tmp_path / "out"}'])
  assert (tmp_path / 'out' / 'manifest.json').read_text() == '{"classes": ['


@quick
@given(
  st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(str.encode),
    st.text('a.mp4,;"|\n\r\t/ 0', max_size=80).map(str.encode),
  )
)
def test_any_file_is_rows_or_a_value_error(tmp_path_factory, content):
  """And every row of it lies inside the folder, with times in order."""
  folder = tmp_path_factory.getbasetemp() / 'any'
  folder.mkdir(exist_ok=True)
  try:
    rows = read(folder, content)
  except ValueError as e:
    assert str(folder) in str(e)
  else:
    for row in rows:
      assert row.path and not row.path.startswith(('/', '../')) and '\n' not in row.path
      assert (row.start_s or 0) >= 0 and (row.end_s is None or row.end_s > (row.start_s or 0))


names = st.text(
  st.characters(exclude_categories=['C', 'Z'], include_characters=' ,;"\'|#'),
  min_size=1,
  max_size=20,
)


@quick
@given(
  st.lists(st.tuples(names, names, st.sampled_from(EXTENSIONS)), min_size=1, max_size=5),
  st.sampled_from('\n\r'),
  st.booleans(),
)
def test_what_a_csv_writer_wrote_is_read_back(tmp_path_factory, entries, end, header):
  """Whatever the name and the label are made of."""
  folder = tmp_path_factory.getbasetemp() / 'back'
  folder.mkdir(exist_ok=True)
  labels = [label.replace('|', '-').strip() for _, label, _ in entries]
  paths = [f'{name.strip()}{extension}' for name, _, extension in entries]
  assume(all(labels) and all(path == path.strip() and '/' not in path for path in paths))
  text = io.StringIO()
  lines = [['path', 'label']] * header + [list(row) for row in zip(paths, labels)]
  csv.writer(text, lineterminator=end).writerows(lines)
  rows = read(folder, text.getvalue())
  assert [(r.path, r.labels['']) for r in rows] == [
    (path, (label,)) for path, label in zip(paths, labels)
  ]
