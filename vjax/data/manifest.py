"""The manifest.json of records that came without one: what data_prep writes beside its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from vjax.data import recordio, records


def write_manifest(folder: str, classes: Sequence[str] = ()) -> str:
  """Path of the manifest.json written for a folder of records that came without one, from a scan of
  all its splits.

  classes: names by label index; without them the records' own `clip/label/text` is used, or the
  numbers.
  """
  folder = epath.Path(folder)
  names: dict[str, dict[int, str]] = {'': dict(enumerate(classes))}
  many, described = False, {}
  for split in records.splits(folder):
    counts, clips, frames, duration_us = [], [], 0, 0
    for file in records.shard_files(folder, split):
      clips.append(0)
      for offset, payload, _ in recordio.payloads(folder / file):
        context, spans, views = records.parse(payload, folder / file, offset)
        where = f'{folder / file}: the record at byte {offset}'
        for view, labels in views.items():
          if classes and not view and max(labels, default=0) >= len(classes):
            raise ValueError(
              f'{where} has label {max(labels)}, but --classes names {len(classes)}: add the others'
            )
          if view or not classes:
            named = dict(zip(labels, _texts(context, view, where)))
            names.setdefault(view, {}).update(
              {i: named.get(i, names.get(view, {}).get(i, str(i))) for i in labels}
            )
          many |= len(labels) > 1
          counts += labels if not view else []
        clips[-1] += 1
        frames += len(spans) or len(context.get('image', []))
        try:
          duration_us += records.number(context, 'clip/end/timestamp') - records.number(
            context, 'clip/start/timestamp'
          )
        except ValueError as e:
          raise ValueError(f'{where}: {e}') from e
    described[split] = {
      'clips': sum(clips),
      'frames': frames,
      'duration_s': duration_us / 1e6,
      'shards': [
        _describe(folder / f, n) for f, n in zip(records.shard_files(folder, split), clips)
      ],
      'clips_per_class': np.bincount(np.array([c for c in counts if c >= 0], np.int64)).tolist(),
    }
  listed = {view: _listed(indexed, f'{folder}, view {view!r}') for view, indexed in names.items()}
  manifest = {
    'format': 'vjax-1',
    'name': folder.name,
    'classes': listed.pop(''),
    'labels': 'many' if many else 'one',
  }
  manifest |= {'views': listed, 'settings': {}, 'versions': {}, 'splits': described, 'failed': 0}
  records.write(folder / 'manifest.json', json.dumps(manifest, indent=1).encode())
  return str(folder / 'manifest.json')


def _texts(context: dict[str, list], view: str, where: str) -> list[str]:
  """Label names that a record gives."""
  key = f'clip/label/{view}/text' if view else 'clip/label/text'
  try:
    return [text.decode() for text in context.get(key, [])]
  except (AttributeError, UnicodeDecodeError) as e:
    raise ValueError(
      f'{where}: {key} is {context[key]!r:.60}, not text in UTF-8; pass names by --classes'
    ) from e


def _describe(file: epath.Path, clips: int) -> dict[str, Any]:
  buffer = recordio.contents(file)
  return {
    'file': file.name,
    'clips': clips,
    'bytes': len(buffer),
    'sha256': hashlib.sha256(buffer).hexdigest(),
  }


def _listed(names: dict[int, str], where: str) -> list[str]:
  """Names in label order; a label between others that no record names is called by its number."""
  if any(i < 0 for i in names):
    raise ValueError(
      f'{where}: labels {[i for i in names if i < 0]} are negative; they must count from 0'
    )
  return [names.get(i, str(i)) for i in range(max(names, default=-1) + 1)]
