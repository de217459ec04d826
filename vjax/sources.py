"""Hashes of source files, by which a result knows the code that made it."""

import ast
import functools
import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREES = ('vjax', 'configs')


@functools.cache
def source_hash(file: str) -> str:
  """Returns a hash of the code in a Python file, '' where there is none. Comments, docstrings and
  layout do not count. Of each file a process reads the first version only, which is nearest to the
  code that it runs."""
  try:
    text = (ROOT / file).read_text(encoding='utf-8')
  except OSError:
    return ''
  try:
    tree = ast.parse(text)
  except SyntaxError:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
  for node in ast.walk(tree):
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
      if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:] or [ast.Pass()]
  return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def hashes(files: Iterable[str | Path]) -> dict[str, str]:
  """Returns {file: hash}; files within the checkout are relative to it."""
  whole = sorted({Path(file).resolve() for file in files})
  names = [f.relative_to(ROOT) if f.is_relative_to(ROOT) else f for f in whole]
  return {name.as_posix(): source_hash(name.as_posix()) for name in names}


def imported() -> dict[str, str]:
  """Returns {file: hash} of all files of vjax/ and configs/ that this process has imported."""
  loaded = [Path(getattr(m, '__file__', None) or '.') for m in list(sys.modules.values())]
  trees = tuple(ROOT / tree for tree in TREES)
  return hashes(f for f in loaded if f.suffix == '.py' and any(map(f.is_relative_to, trees)))


def changed(saved: Mapping[str, str]) -> tuple[str, ...]:
  """Returns those files of {file: hash} whose code is another one now."""
  return tuple(file for file, was in sorted(saved.items()) if source_hash(file) != was)
