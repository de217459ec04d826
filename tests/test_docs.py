"""The worked examples of docs/add_*.md run as they stand."""

import importlib
import pathlib
import re
import sys

import pytest

from vjax import registry

DOCS = pathlib.Path(__file__).parent.parent / 'docs'
PAGES = sorted(DOCS.glob('add_*.md'))


def blocks(page: pathlib.Path) -> list[str]:
  """The Python of a page, in order."""
  return re.findall(r'```python\n(.*?)```', page.read_text(), re.S)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_worked_example_runs(page, tmp_path, monkeypatch):
  """Blocks that begin with a file's name are that file; the others are run."""
  files = [text for text in blocks(page) if text.startswith('# ')]
  assert files and len(blocks(page)) > len(files)
  for text in files:
    path = pathlib.PurePath(text.splitlines()[0].removeprefix('# '))
    (tmp_path / path.parent).mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    package = importlib.import_module('.'.join(path.parent.parts))
    places = [*package.__path__, str(tmp_path / path.parent)]
    monkeypatch.setattr(package, '__path__', places)
    monkeypatch.delitem(sys.modules, '.'.join(path.with_suffix('').parts), raising=False)
  monkeypatch.chdir(tmp_path)
  scope: dict = {}
  try:
    for text in blocks(page):
      if text not in files:
        exec(compile(text, str(page), 'exec'), scope)
  finally:
    registry.models.cache_clear()
  for name in [
    n for n in sys.modules if str(tmp_path) in str(getattr(sys.modules[n], '__file__', ''))
  ]:
    del sys.modules[name]


def test_each_kind_of_file_has_a_page():
  kinds = {'dataset', 'evaluation', 'model', 'objective', 'study', 'converter'}
  assert {re.sub('^add_an?_', '', page.stem) for page in PAGES} == kinds


def test_the_reference_of_config_keys_is_current():
  from vjax import config_docs

  assert (DOCS / 'config.md').read_text() == config_docs.reference(), (
    'run python -m vjax.config_docs and commit docs/config.md'
  )
