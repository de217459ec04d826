"""Version of the code that made a result."""

import functools
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any


@functools.cache
def code_version() -> dict[str, Any]:
  """Returns the package's version and, in a git checkout, its commit and whether files differ from
  it (None elsewhere)."""
  folder = Path(__file__).parent
  try:
    version = metadata.version('vjax')
  except metadata.PackageNotFoundError:  # run from a copy of the tree
    version = None
  return {
    'version': version,
    'commit': _git(folder, 'rev-parse', 'HEAD'),
    'dirty': None if (text := _git(folder, 'status', '--porcelain', '.')) is None else bool(text),
  }


def _git(folder: Path, *arguments: str) -> str | None:
  try:
    found = subprocess.run(
      ['git', '-C', str(folder), *arguments],
      check=False,
      capture_output=True,
      text=True,
      timeout=20,
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return found.stdout.strip() if found.returncode == 0 else None
