"""The built-in datasets: renders videos, encodes them as H.264, and writes records like those of
any other dataset.

  python -m data_prep.synthetic --out=data/motions [--scale=2] [--train=3000 --test=600] [--seed=0]
  python -m data_prep.synthetic --out=data/domains/a --style=a

Labels: the main label space names the actor's motion (12 classes, in pairs that differ in time
only); label space `appearance` its shape and texture (12; one frame suffices); label space `action`
names some combinations (12; the other clips have no action). The domains a to d are for joint
training: fewer clips, in another style each, with six of the motions, each of which two domains
have.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from data_prep import dataset, motions_render, rows, runners, shards, write
from data_prep.motions_render import render_clip
from vjax import files
from vjax.data.manifest import Manifest

SIZES = {'motions': (3000, 600)}  # training and test clips, by style
SIZES |= dict.fromkeys('abcd', (720, 240))
# Folders under data_dir of what is rendered where it is missing, and their styles.
FOLDERS = {'motions': 'motions', **{f'domains/{style}': style for style in 'abcd'}}
SETTINGS = shards.Settings(short_side_px=96, quality=60, frame_rate=0)
_BATCH = 25  # clips a task
_CRF = 25  # H.264 quality; with the JPEG quality above, the whole dataset stays below 200 MB


def prepare(
  out: str,
  train_clips: int = 0,
  test_clips: int = 0,
  seed: int = 0,
  processes: int = 0,
  style: str = 'motions',
) -> Manifest:
  """Returns the manifest of a built-in dataset in folder `out`. If it does not exist, videos, CSV
  manifests and records are made first. An interrupted run continues.

  Args:
    out: folder.
    train_clips, test_clips: how many, 0 = those of SIZES.
    seed: another one gives other clips.
    processes: 0 = one a core.
    style: a name of motions_render.STYLES.

  Raises:
    ValueError: if `out` holds a dataset made otherwise, or there is no such style.
  """
  if style not in SIZES:
    raise ValueError(f'style={style!r}: it must be one of {", ".join(SIZES)}')
  if min(train_clips, test_clips) < 0:
    raise ValueError(f'train_clips={train_clips}, test_clips={test_clips}: both must be at least 1')
  train_clips, test_clips = train_clips or SIZES[style][0], test_clips or SIZES[style][1]
  origin = {'generator': 'motions', 'version': motions_render.VERSION, 'seed': seed}
  origin |= {'train_clips': train_clips, 'test_clips': test_clips}
  if style != 'motions':
    origin['style'] = style
  found = _complete(out, origin)
  if found:
    return found
  os.makedirs(out, exist_ok=True)
  with dataset.lock(os.path.join(out, '.rendering.lock')):
    found = _complete(out, origin)  # another process may have made it while this one waited
    if found:
      return found
    _claim(out, origin)
    sizes = {'train': train_clips, 'test': test_clips}
    _render(out, sizes, seed, processes, style)
    for split, clips in sizes.items():
      _write_csv(out, seed, split, clips, style)
    found = [
      row for s in sizes for row in rows.read_manifest(os.path.join(out, f'{s}.csv'), s, out)
    ]
    manifest = dataset.write_dataset(
      found, out, root=out, settings=SETTINGS, processes=processes, origin=origin
    )
    os.remove(os.path.join(out, '.rendering.lock'))
    os.remove(os.path.join(out, 'rendering.json'))
  return manifest


def _complete(out: str, origin: dict[str, Any]) -> Manifest | None:
  manifest = dataset.complete_manifest(out)
  if manifest and manifest['settings'].get('origin') != origin:
    raise ValueError(
      f'{out} holds another dataset: {manifest["settings"].get("origin", manifest["name"])}, not '
      f'{origin}; choose another --out, or delete that folder'
    )
  return manifest


def _claim(out: str, origin: dict[str, Any]) -> None:
  """Writes a note about the dataset that is rendered here. Raises ValueError if an unfinished run
  rendered another."""
  path = os.path.join(out, 'rendering.json')
  if os.path.exists(path):
    with open(path, encoding='utf-8') as file:
      theirs = json.load(file)
    if theirs != origin:
      raise ValueError(
        f'{out} holds an unfinished dataset: {theirs}, not {origin}; finish it, or delete that '
        'folder'
      )
  elif set(os.listdir(out)) - {'.rendering.lock'}:
    raise ValueError(f'{out} is not empty and holds no motions dataset; choose another --out')
  shards.write_json(path, origin)


def _render(out: str, sizes: dict[str, int], seed: int, processes: int, style: str) -> None:
  """Writes the mp4s that do not exist yet."""
  tasks = []
  for split, clips in sizes.items():
    folder = os.path.join(out, 'videos', split)
    os.makedirs(folder, exist_ok=True)
    there = set(os.listdir(folder))
    for name in there:
      if not name.endswith('.mp4') or name.startswith('.'):
        os.remove(os.path.join(folder, name))  # rest of an interrupted worker
    todo = [i for i in range(clips) if _name(seed, split, i, style) not in there]
    tasks += [(out, seed, style, split, todo[i : i + _BATCH]) for i in range(0, len(todo), _BATCH)]
  total = sum(sizes.values())
  progress = runners.Progress('rendering', total, 'clips', total - sum(len(t[-1]) for t in tasks))
  runners.run_pool(_render_batch, tasks, processes, progress)
  progress.to(total)
  progress.close()


def _render_batch(task: tuple[str, int, str, str, Sequence[int]], tick: Callable[[], None]) -> None:
  out, seed, style, split, indices = task
  for index in indices:
    frames, _ = render_clip(seed, split, index, style)
    path = os.path.join(out, 'videos', split, _name(seed, split, index, style))
    temporary = os.path.join(os.path.dirname(path), f'.{os.getpid()}-{index}.mp4')
    encode(temporary, frames)
    os.replace(temporary, path)
    tick()


def encode(path: str, frames: np.ndarray) -> None:
  """Writes frames (T, H, W, 3) uint8 as an H.264 mp4 of 12 frames per second; the same frames give
  the same bytes."""
  import av

  with av.open(path, 'w') as container:
    stream = container.add_stream(
      'libx264', rate=motions_render.FPS, options={'crf': str(_CRF), 'preset': 'veryfast'}
    )
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = 'yuv420p'
    stream.time_base = Fraction(1, motions_render.FPS)
    stream.thread_count = 1
    for image in frames:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')))
    container.mux(stream.encode(None))


def _name(seed: int, split: str, index: int, style: str) -> str:
  facts = motions_render.classes_of(seed, split, index, style)
  return f'{index:05}_{facts["motion"]}_{facts["texture"]}-{facts["shape"]}.mp4'


def _write_csv(out: str, seed: int, split: str, clips: int, style: str) -> None:
  path = os.path.join(out, f'{split}.csv')
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['path', 'label', 'label:appearance', 'label:action'])
  for i in range(clips):
    facts = motions_render.classes_of(seed, split, i, style)
    look, action = motions_render.names_of(facts)
    name = _name(seed, split, i, style)
    writer.writerow([f'videos/{split}/{name}', facts['motion'], look, action])
  files.write_bytes(path, text.getvalue().encode())


def main(argv: Sequence[str] | None = None) -> None:
  """Runs the command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--out', required=True, help='folder of the dataset, e.g. data/motions')
  parser.add_argument('--scale', type=float, default=1.0, help='multiplies the number of clips')
  parser.add_argument(
    '--style', choices=list(SIZES), default='motions', help='look and motions of the clips'
  )
  sizes = '; default 3000 and 600, of a domain 720 and 240'
  parser.add_argument('--train', type=int, help='training clips, before --scale' + sizes)
  parser.add_argument('--test', type=int, help='test clips, before --scale')
  parser.add_argument('--seed', type=int, default=0, help='another one gives other clips')
  parser.add_argument('--processes', type=int, default=0, help='0: one a core')
  args = parser.parse_args(argv)
  given = (args.train, args.test)
  train, test = (
    round((default if clips is None else clips) * args.scale)
    for clips, default in zip(given, SIZES[args.style])
  )
  with write.one_message(args.out):
    if min(train, test) < 1:
      raise ValueError(
        f'--train and --test, scaled, are {train} and {test}: both must be at least 1'
      )
    manifest = prepare(args.out, train, test, args.seed, args.processes, args.style)
  print(write.summary(manifest, args.out))


if __name__ == '__main__':
  main()
