"""Tables and figures of a study: table.md, one CSV a table, one PNG a figure, and report.html,
which holds all of them and needs no file beside it."""

from __future__ import annotations

import csv
import html
import io
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vjax import figures, files

Rows = Sequence[Mapping[str, Any]]
MISSING = '-'
OLDER = '*'  # beside a cell with results of older code
_STYLE = (
  'body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}'
  'table{border-collapse:collapse;margin:1em 0}td,th{padding:.3em 1.2em .3em 0;text-align:left;'
  'border-bottom:1px solid #ddd}img{max-width:100%}pre{white-space:pre-wrap}'
)


def cell(value: Any) -> str:
  """Text of a value in the table."""
  if isinstance(value, list | tuple):
    if not value:
      return MISSING
    spread = f' ± {_deviation(value):.1f}' if len(value) > 1 else ''
    return f'{statistics.fmean(value):.1f}{spread} ({len(value)})'
  return f'{value:.1f}' if isinstance(value, float) else MISSING if value is None else str(value)


def _deviation(values: Sequence[float]) -> float:
  """Returns the standard deviation; NaN of values that are not finite, where statistics fails."""
  return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan


def columns_of(rows: Rows) -> list[str]:
  """Returns the columns of all rows, in the order in which they come."""
  return list(dict.fromkeys(column for row in rows for column in row))


def texts(rows: Rows, newer: Rows | None = None) -> list[list[str]]:
  """Returns the cells of each row as text.

  Args:
    rows: of a table.
    newer: the same table without the results of older code; cells that differ from it get OLDER.
  """
  columns, found = columns_of(rows), []
  same = newer is not None and len(newer) == len(rows)
  for number, row in enumerate(rows):
    line = [cell(row.get(column)) for column in columns]
    if newer is not None:
      other = [cell(newer[number].get(column)) if same else '' for column in columns]
      line = [a if a == b else f'{a} {OLDER}' for a, b in zip(line, other)]
    found.append(line)
  return found


def markdown(rows: Rows, newer: Rows | None = None) -> str:
  """Returns the table, padded so that it reads well in a terminal too; see `texts`."""
  if not rows:
    return '(no rows)'
  lines = [columns_of(rows), *texts(rows, newer)]
  widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
  text = ['| ' + ' | '.join(x.ljust(w) for x, w in zip(line, widths)) + ' |' for line in lines]
  return '\n'.join([text[0], '| ' + ' | '.join('-' * w for w in widths) + ' |', *text[1:]])


def as_csv(rows: Rows) -> str:
  """Returns the table as CSV with all digits. A column with lists of numbers over seeds becomes
  three: mean, deviation, and how many."""
  many = [c for c in columns_of(rows) if any(isinstance(r.get(c), list | tuple) for r in rows)]
  header: list[str] = []
  for column in columns_of(rows):
    header += [column, f'{column}, deviation', f'{column}, runs'] if column in many else [column]
  stream = io.StringIO()
  writer = csv.writer(stream, lineterminator='\n')
  writer.writerow(header)
  for row in rows:
    line: list[Any] = []
    for column in columns_of(rows):
      value = row.get(column)
      if column not in many:
        line.append('' if value is None else value)
        continue
      values = value if isinstance(value, list | tuple) else [] if value is None else [value]
      line += [
        statistics.fmean(values) if values else '',
        _deviation(values) if len(values) > 1 else '',
        len(values),
      ]
    writer.writerow(line)
  return stream.getvalue()


def named(tables: Any) -> dict[str, Rows]:
  """Returns {title: rows} of what a study's `table` returns: rows, or several tables by title."""
  return dict(tables) if isinstance(tables, Mapping) else {'': tables}


def file_name(title: str) -> str:
  """Returns a title as part of a file's name."""
  return re.sub(r'[^A-Za-z0-9]+', '_', title).strip('_').lower() or 'table'


def footnotes(tables: Iterable[Rows], older: Mapping[str, Sequence[str]]) -> list[str]:
  """Returns the lines below the tables.

  Args:
    tables: rows of each.
    older: {run: files that have changed since}, of the results with older code.
  """
  notes = []
  if older:
    runs = '; '.join(f'{name} ({shortened(files)})' for name, files in older.items())
    notes.append(f'{OLDER} with results of older code, kept by --accept_code: {runs}')
  cells = [value for rows in tables for row in rows for value in row.values()]
  marks = {getattr(value, 'footnote', '') for value in cells}
  return [*notes, *sorted(marks - {''})]


def shortened(names: Sequence[str]) -> str:
  """Returns the first names of a list."""
  return ', '.join(names[:3]) + (f' and {len(names) - 3} more' if len(names) > 3 else '')


def write(
  workdir: str,
  about: str,
  tables: Mapping[str, Rows],
  newer: Mapping[str, Rows] | None,
  pictures: Mapping[str, Any],
  outcome: Sequence[str],
  older: Mapping[str, Sequence[str]],
  runs: Rows,
) -> str:
  """Writes all files of a report.

  Args:
    workdir: local or on an object store.
    about: text above the tables.
    tables: {title: rows}.
    newer: the same without the results of older code; None where there are none of these.
    pictures: {title: matplotlib figure, or the arguments of figures.points}.
    outcome: sentences on what the study shows.
    older: see `footnotes`.
    runs: a row for each run: its state and cost.

  Returns:
    The text of table.md.
  """
  text, page = [], [f'<h1>{html.escape(about.splitlines()[0])}</h1><pre>{html.escape(about)}</pre>']
  for title, rows in tables.items():
    without = None if newer is None else newer.get(title, ())
    text += [*([f'## {title}\n'] if title else []), markdown(rows, without), '']
    page += [f'<h2>{html.escape(title)}</h2>' if title else '', _html(rows, without)]
    _put(workdir, f'{file_name(title)}.csv', as_csv(rows).encode())
  notes = footnotes(tables.values(), older)
  text += [f'{note}\n' for note in notes]
  page += [f'<p>{html.escape(note)}</p>' for note in notes]
  if outcome:
    title = 'Outcome, with results of older code' if older else 'Outcome'
    text += [f'## {title}\n', *(f'* {words}' for words in outcome)]
    items = ''.join(f'<li>{html.escape(words)}' for words in outcome)
    page.append(f'<h2>{title}</h2><ul>{items}</ul>')
  for title, picture in pictures.items():
    figure = figures.points(**picture) if isinstance(picture, Mapping) else picture
    data = figures.png(figure)
    _put(workdir, f'{file_name(title)}.png', data)
    page.append(f'<h2>{html.escape(title)}</h2>{figures.html_image(data, html.escape(title))}')
  if runs:
    page += ['<h2>Runs</h2>', _html(runs, None)]
  joined = '\n'.join(text).rstrip()
  _put(workdir, 'table.md', f'{joined}\n'.encode())
  head = f'<meta charset="utf-8"><title>{html.escape(about.splitlines()[0])}</title>'
  document = f'<!doctype html>{head}<style>{_STYLE}</style>{"".join(page)}'
  _put(workdir, 'report.html', document.encode())
  return joined


def _put(workdir: str, name: str, data: bytes) -> None:
  files.write_bytes(files.path(workdir) / name, data, shared=True)


def _html(rows: Rows, newer: Rows | None) -> str:
  if not rows:
    return ''
  line = lambda tag, cells: (
    '<tr>' + ''.join(f'<{tag}>{html.escape(text)}' for text in cells) + '</tr>'
  )
  body = ''.join(line('td', cells) for cells in texts(rows, newer))
  return f'<table>{line("th", columns_of(rows))}{body}</table>'
