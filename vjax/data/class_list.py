"""Files with the name of a class on each line: the one reader of all commands' --classes."""

from collections import Counter

from vjax import files


def read_classes(path: str) -> list[str]:
  """Returns the names of a text file, one a line, in label order.

  The text is UTF-8, with a byte-order mark or without. Empty lines and spaces around a name do not
  count, and lines end as on any system.

  Raises ValueError for a missing or empty file, another encoding, and a repeated name.
  """
  try:
    data = files.path(path).read_bytes()
  except OSError as error:
    why = 'No such file' if isinstance(error, FileNotFoundError) else str(error)
    raise ValueError(f'--classes={path}: {why}; it must hold one class name a line') from error
  try:
    lines = data.decode('utf-8-sig').replace('\r', '\n').split('\n')
  except UnicodeDecodeError as error:
    line = data[: error.start].count(b'\n') + 1
    raise ValueError(
      f'--classes={path} is not text in UTF-8: {error.object[error.start : error.end]!r} on line '
      f'{line}; save it as UTF-8'
    ) from error
  names = [line.strip() for line in lines if line.strip()]
  repeated = sorted(name for name, count in Counter(names).items() if count > 1)
  if repeated or not names:
    why = f'repeated: {", ".join(repeated)}'[:300] if repeated else 'no class in it'
    raise ValueError(f'--classes={path}: {why}; it must hold every class once, one name a line')
  return names
