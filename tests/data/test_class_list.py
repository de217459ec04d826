"""Class lists are read alike wherever --classes is a flag."""

import sys

import pytest

from data_prep import write
from vjax.convert import _config
from vjax.data import index
from vjax.data.class_list import read_classes

NAMES = ['café', 'riding a bike', 'walk']


@pytest.mark.parametrize('start', ['', '\ufeff'])
@pytest.mark.parametrize('end', ['', '\n', '\n\n', '\r\n \n'])
@pytest.mark.parametrize('between', ['\n', '\r\n', '\n\n', ' \n'])
def test_the_same_names_however_the_lines_end(start, end, between, tmp_path):
  path = tmp_path / 'classes.txt'
  path.write_bytes((start + between.join(NAMES) + end).encode())
  assert read_classes(str(path)) == NAMES


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('a\ncafé\n'.encode('latin-1'), r'is not text in UTF-8: .* on line 2; save it as UTF-8'),
    ('a\nb\n'.encode('utf-16'), 'is not text in UTF-8: .* on line 1; save it as UTF-8'),
    (b'run\nwalk\nrun\n', 'repeated: run; it must hold every class once'),
    (b'\n \n', 'no class in it'),
  ],
)
def test_other_files_are_refused_alike(content, message, tmp_path, monkeypatch):
  """By the reader, the converter, the index of foreign records and the writer of records."""
  path = tmp_path / 'classes.txt'
  path.write_bytes(content)
  message = f'--classes={path}.*{message}'
  with pytest.raises(ValueError, match=message):
    read_classes(str(path))
  with pytest.raises(ValueError, match=message):
    _config.classes(str(path), 2)
  (tmp_path / 'train-00000-of-00001.tfrecord').touch()
  monkeypatch.setattr(sys, 'argv', ['index', f'--folder={tmp_path}', f'--classes={path}'])
  with pytest.raises(SystemExit, match=message):
    index.main()
  with pytest.raises(SystemExit, match=message):
    write.main([f'--folder={tmp_path}', f'--out={tmp_path}/out', f'--classes={path}'])


def test_a_missing_file(tmp_path):
  with pytest.raises(ValueError, match=r'--classes=.*none.txt: No such file; it must hold one'):
    read_classes(str(tmp_path / 'none.txt'))
