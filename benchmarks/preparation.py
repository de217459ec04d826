"""Clips per second and core of `python -m data_prep.write` against the bare work on the same
videos, and its memory.

  python -m benchmarks.preparation [--motions=1000] [--large=40] [--processes=2]
  python -m benchmarks.preparation --clips=10000      resident memory every few seconds while so many clips are written

Videos are made here: motions (96x128 px, 2 to 4 s) and large ones (256x340 px, 10 s), 12 frames per
second. The bare
work: one process decodes every frame with PyAV, converts it to RGB at the stored size and encodes
it as JPEG; nothing is read back or written. Beam's local runner is started as it is, the pool with
--processes. Rates are per second of wall time and process, and per CPU-second of all its processes,
where other work on the machine does not count, both without what the same command takes for one
clip (start). Ratio: of CPU-seconds, to the bare work. With --clips a few videos are listed many
times, a segment each; a flat peak shows that no more than a clip is held at a time.
"""

from __future__ import annotations

import argparse
import csv
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from data_prep import runners, shards, synthetic
from data_prep.motions_render import FPS, render_clip
from vjax.data import video_file

SECONDS = 10  # of a large video
SIDES = {'motions': 96, 'large': 256}  # stored short side, px
QUALITY = 95


def make_motions(folder: pathlib.Path, count: int) -> list[str]:
  """Names of `count` videos of the built-in dataset."""
  names = [f'motions-{i:05}.mp4' for i in range(count)]
  for i, name in enumerate(names):
    synthetic.encode(str(folder / name), render_clip(0, 'bench', i)[0])
  return names


def make_large(folder: pathlib.Path, count: int) -> list[str]:
  """Names of `count` videos of 256x340 px: smooth colors that drift under grain."""
  names, rng = [f'large-{i:05}.mp4' for i in range(count)], np.random.default_rng(0)
  for name in names:
    colors = rng.uniform(0, 255, (5, 6, 3)).repeat(100, 0).repeat(100, 1)
    grain = rng.normal(0, 6, (256, 340, 3))
    frames = [colors[t : t + 256, t : t + 340] + np.roll(grain, t, 0) for t in range(SECONDS * FPS)]
    synthetic.encode(str(folder / name), np.clip(frames, 0, 255).astype(np.uint8))
  return names


def bare(folder: pathlib.Path, names: list[str], side: int) -> tuple[float, float]:
  """(wall, CPU) seconds of decoding, conversion and JPEG encoding of all frames, and nothing
  else."""
  import av
  import simplejpeg
  from av.video.reformatter import VideoReformatter

  wall, cpu = time.perf_counter(), time.process_time()
  for name in names:
    with av.open(str(folder / name)) as container:
      stream = container.streams.video[0]
      stream.thread_count = 1
      scaler = VideoReformatter()  # one a video: it is costly to make
      for frame in container.decode(stream):
        size = video_file.stored_size(frame.width, frame.height, side)
        rgb = scaler.reformat(
          frame, *size, 'rgb24', interpolation='BICUBIC', threads=1
        ).to_ndarray()
        simplejpeg.encode_jpeg(rgb, QUALITY, 'RGB', '420')
  return time.perf_counter() - wall, time.process_time() - cpu


def command(
  manifest: pathlib.Path, out: pathlib.Path, side: int, count: int, *flags: str
) -> list[str]:
  """The command line that writes the manifest's clips, `count` of them, in enough shards for every
  process."""
  parts = max(4 * runners.cores(), round(count / shards.CLIPS_PER_SHARD))
  settings = [f'--short_side={side}', f'--quality={QUALITY}', f'--shards={parts}', *flags]
  return [
    sys.executable,
    '-m',
    'data_prep.write',
    f'--manifest=train:{manifest}',
    f'--out={out}',
    *settings,
  ]


def write_manifest(path: pathlib.Path, rows: list[tuple]) -> pathlib.Path:
  with open(path, 'w', newline='') as file:
    csv.writer(file).writerows(rows)
  return path


def timed(arguments: list[str]) -> tuple[float, float]:
  """(wall, CPU) seconds of a command and its children. Raises CalledProcessError with what it
  said."""
  before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
  done = subprocess.run(arguments, capture_output=True, text=True, check=False)
  if done.returncode:
    raise RuntimeError(f'{" ".join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}')
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  return (
    time.perf_counter() - wall,
    after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
  )


def speeds(root: pathlib.Path, motions: int, large: int, processes: int) -> None:
  """Prints one row per kind of video and runner."""
  print(
    f'{"videos":16}{"who":8}{"processes":>9}{"start, CPU-s":>14}{"clips/s each":>14}{"clips/CPU-s":>13}{"ratio":>8}'
  )
  runs = {'pool': (processes, f'--processes={processes}'), 'Beam': (1, '--runner=DirectRunner')}
  for kind, count, make in (('motions', motions, make_motions), ('large', large, make_large)):
    folder = root / kind
    folder.mkdir()
    names = make(folder, count)
    lists = {
      n: write_manifest(folder / f'{n}.csv', [(name, 'some') for name in names[:n]])
      for n in (1, count)
    }
    rows = {'bare': (1, 0.0, count, *bare(folder, names, SIDES[kind]))}
    for who, (workers, flag) in runs.items():
      one, every = (
        timed(command(lists[n], root / f'{kind}-{who}-{n}', SIDES[kind], n, flag))
        for n in (1, count)
      )
      rows[who] = (workers, one[1], count - 1, every[0] - one[0], every[1] - one[1])
    alone = rows['bare'][2] / rows['bare'][4]
    for who, (workers, start, clips, wall, cpu) in rows.items():
      line = f'{f"{count} {kind}":16}{who:8}{workers:9}{start:14.2f}{clips / wall / workers:14.2f}{clips / cpu:13.2f}'
      print(f'{line}{clips / cpu / alone:8.2f}', flush=True)


def family(parent: int) -> list[int]:
  """Process ids of a process and all below it; Linux."""
  below: dict[int, list[int]] = {}
  for entry in pathlib.Path('/proc').iterdir():
    if entry.name.isdigit():
      try:
        below.setdefault(int((entry / 'stat').read_text().rsplit(')', 1)[1].split()[1]), []).append(
          int(entry.name)
        )
      except OSError:
        continue
  found = [parent]
  for pid in found:
    found += below.get(pid, [])
  return found


def peak_mib(pid: int) -> float:
  """The most memory a process has had resident; 0 once it is gone."""
  try:
    lines = pathlib.Path(f'/proc/{pid}/status').read_text().splitlines()
  except OSError:
    return 0.0
  return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith('VmHWM')), 0.0)


def memory(root: pathlib.Path, clips: int, every: float, flags: list[str]) -> None:
  """Prints peak resident memory, of the parent and of the largest child, while `clips` clips are
  written."""
  files = make_motions(root, 24)
  # A segment a row, so that rows differ: from the start of a video to a second and a little later.
  rows = [
    (files[i % len(files)], f'class{i % 4}', 0, 1 + i // len(files) / 1e5) for i in range(clips)
  ]
  manifest, out = write_manifest(root / 'many.csv', rows), root / 'out'
  with open(root / 'log.txt', 'w') as log:
    began = time.perf_counter()
    child = subprocess.Popen(
      command(manifest, out, SIDES['motions'], clips, *flags), stdout=log, stderr=log
    )
    while child.poll() is None:
      time.sleep(every)
      peaks = [peak_mib(pid) for pid in family(child.pid)]
      if not peaks[0]:
        break
      size = sum(file.stat().st_size for file in out.glob('*.tfrecord*')) / 2**20
      row = f'{time.perf_counter() - began:7.0f} s: {size:8.0f} MiB written, peak resident: parent {peaks[0]:6.0f} MiB'
      print(
        f'{row}, children {", ".join(f"{peak:.0f}" for peak in peaks[1:]) or "none"}', flush=True
      )
  said = (root / 'log.txt').read_text()[-2000:]
  if child.wait():
    raise RuntimeError(f'writing failed:\n{said}')
  print(said)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--motions', type=int, default=1000, help='small videos')
  parser.add_argument('--large', type=int, default=40, help='large videos')
  parser.add_argument('--processes', type=int, default=runners.cores(), help='of the pool')
  parser.add_argument(
    '--clips', type=int, default=0, help='memory while so many clips are written, instead'
  )
  parser.add_argument('--runner', default='pool', help='with --clips: pool or a Beam runner')
  parser.add_argument(
    '--every', type=float, default=5.0, help='with --clips: seconds between lines'
  )
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as root:
    print(f'{os.cpu_count()} cores')
    if args.clips:
      flags = (
        [f'--processes={args.processes}'] if args.runner == 'pool' else [f'--runner={args.runner}']
      )
      memory(pathlib.Path(root), args.clips, args.every, flags)
    else:
      speeds(pathlib.Path(root), args.motions, args.large, args.processes)


if __name__ == '__main__':
  main()
