"""Windows: consecutive parts of the annotated segments of long videos, each a clip of its own, as
Liang et al. 2022 (MultiTrain) cut ActivityNet; and how much of a list is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from data_prep.rows import Row

LEAST_S = 2.0  # a shorter rest of a segment is no window
_EXACT_S = 1e-6  # times of lists are decimal numbers: 0.1 + 10 is 10.1


def cut(row: Row, window_s: float) -> list[Row]:
  """Returns the rows of the windows of a row's segment, [] where it has none, or one shorter than
  LEAST_S.

  Windows follow each other from the start of the segment; the last one is what is left of it.
  """
  # DIFFERS(paper): it says "10 s pieces of annotated segments", no more. Here they begin with the
  # segment, do not overlap, and a rest of 2 s or more counts. Each has its segment's class: where
  # segments of several classes overlap, so do their windows.
  if row.end_s is None:
    return []
  start, end = row.start_s or 0.0, row.end_s
  whole = int((end - start + _EXACT_S) / window_s)
  edges = [round(start + i * window_s, 6) for i in range(whole + 1)]
  if end - edges[-1] >= LEAST_S - _EXACT_S:
    edges.append(end)
  return [replace(row, start_s=first, end_s=last) for first, last in zip(edges, edges[1:])]


def availability(rows: Sequence[Row], missing: Sequence[Row]) -> list[str]:
  """Returns a line for each split on the videos and clips of a list that are there.

  Args:
    rows: of the list.
    missing: those of them whose videos are not there.
  """
  lines = []
  for split in sorted({row.split for row in rows}):
    clips, gone = ([r.path for r in some if r.split == split] for some in (rows, missing))
    parts = [('videos', len({*clips}), len({*gone}))]
    if len(clips) > len({*clips}):
      parts.append(('clips', len(clips), len(gone)))
    texts = [f'{n - less} of {n} {what} ({1 - less / n:.1%})' for what, n, less in parts]
    lines.append(f'{split}: {" and ".join(texts)} are there')
  return lines
