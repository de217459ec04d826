"""Text of lists that people wrote: its encoding, and what separates the columns of a table."""

from collections.abc import Callable, Sequence

SEPARATORS = ',;\t'


def decode(data: bytes) -> tuple[str, str]:
  """Returns (text, note) of a list's bytes: UTF-8, UTF-16 with its mark, else Latin-1, which the
  note says. Raises ValueError for what is no text."""
  if data.startswith((b'\xff\xfe', b'\xfe\xff')):
    try:
      return data.decode('utf-16').lstrip('\ufeff'), ''
    except UnicodeDecodeError as e:
      raise ValueError(f'is no text in UTF-16 ({e.reason}); save it as UTF-8') from e
  if b'\0' in data:
    raise ValueError('is no text file; name a list of videos, as text in UTF-8')
  try:
    return data.decode('utf-8-sig'), ''
  except UnicodeDecodeError:
    note = 'is not UTF-8 and was read as Latin-1; save it as UTF-8 if names look wrong'
    return data.decode('latin-1'), note


def separator_of(text: str, fits: Callable[[Sequence[str]], bool]) -> str:
  """Returns the first of SEPARATORS that makes cells which fit of the first line; a comma where
  none does.

  fits: whether cells may be the first of a table.
  """
  first = next((line for line in text.splitlines() if line.strip()), '')
  for separator in SEPARATORS:
    if fits([cell.strip().strip('"').strip() for cell in first.split(separator)]):
      return separator
  return ','
