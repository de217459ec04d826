"""Clips per second from an object store that answers late, against those from a local folder.

  python -m benchmarks.object_store [--store=gs|s3] [--readers=1] [--latency_ms=20] [--seconds=10]

The store is an emulator in a process of its own; every request waits `--latency_ms` before it
reaches the emulator. Readers are processes that do what an input worker does with a record: read
it, decode 16 of its 64 frames of 256x340 px, scale and crop them to 224 px. Each round has the three
ways in turn, so that other work on the machine counts for all: local; the store, reading ahead
(vjax.data.read_ahead); and the store, record by record. The bar: reading ahead, 0.9 of local.
CPU-seconds are of the readers alone. Emulator and relay need cores besides them: on a machine that
has none to spare, rates say less than CPU-seconds, and than those of the decoding thread, which the
threads that fetch leave alone.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import pathlib
import socket
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from vjax.data import image, read_ahead, sequence_example, tfrecord
from vjax.data.index import write_index
from vjax.data.manifest import write_scanned
from vjax.data.split import Record, Split, open_split
from vjax.types import DatasetSpec

SPEC = DatasetSpec(name='clips', num_classes=2)
FRAMES, CLIP, SHOWN = 64, 16, 224
WAYS = ('local', 'reading ahead', 'record by record')


def main() -> None:
  """Prints clips per second of the three ways, and their ratios."""
  parser = argparse.ArgumentParser(description='Clips per second from a late object store.')
  parser.add_argument('--store', choices=['gs', 's3'], default='gs')
  parser.add_argument('--readers', type=int, default=1, help='processes that read')
  parser.add_argument('--latency_ms', type=float, default=20.0, help='of every request')
  parser.add_argument('--seconds', type=float, default=10.0, help='of each measurement')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--records', type=int, default=64)
  args = parser.parse_args()
  spawn = multiprocessing.get_context('spawn')
  with tempfile.TemporaryDirectory() as folder:
    make_set(pathlib.Path(folder, 'clips'), args.records)
    ports = free_port(), free_port()
    server = spawn.Process(target=serve, args=(args.store, *ports, args.latency_ms), daemon=True)
    server.start()
    wait_for(ports)
    os.environ |= environment(args.store, ports[0])
    url = upload(args.store, pathlib.Path(folder, 'clips'))
    os.environ |= environment(args.store, ports[1])  # of the readers
    print(
      f'{args.store}, {args.readers} readers, {args.latency_ms:g} ms, records of '
      f'{open_split(folder, SPEC, "train").index.length.mean() / 1e6:.1f} MB, rounds of '
      f'{args.seconds:g} s'
    )
    rates = {way: [] for way in WAYS}
    cpu = {way: [] for way in WAYS}  # ms a clip: of a reader, and of its thread that decodes
    with ProcessPoolExecutor(args.readers, mp_context=spawn) as pool:
      for number in range(args.rounds + 1):  # the first one warms up
        for way in WAYS:
          place = folder if way == 'local' else url
          tasks = [pool.submit(read, place, way, args.seconds) for _ in range(args.readers)]
          done = [task.result() for task in tasks]
          if number:
            rates[way].append(sum(clips / seconds for clips, seconds, *_ in done))
            clips = sum(clips for clips, *_ in done) / 1e3
            cpu[way].append([sum(each) / clips for each in zip(*[spent for *_, spent in done])])
    for way in WAYS:
      ratios = [a / b for a, b in zip(rates[way], rates['local'])]
      print(
        f'{way:>17}: {statistics.median(rates[way]):6.1f} clips/s, {statistics.median(ratios):.2f} '
        f'of local ({min(ratios):.2f} to {max(ratios):.2f}), '
        f'{statistics.median(all_ for all_, _ in cpu[way]):.1f} ms of CPU a clip, '
        f'{statistics.median(own for _, own in cpu[way]):.1f} of them where it is decoded'
      )
    server.terminate()


def make_set(folder: pathlib.Path, count: int) -> None:
  """Writes records of smooth frames with grain, four to a shard."""
  import cv2
  import simplejpeg

  rng = np.random.default_rng(0)
  jpegs = []
  for _ in range(FRAMES):
    coarse = rng.uniform(0, 255, (8, 11, 3)).astype(np.float32)
    frame = cv2.resize(coarse, (340, 256), interpolation=cv2.INTER_CUBIC)
    frame = np.clip(frame + rng.normal(0, 4, frame.shape), 0, 255).astype(np.uint8)
    jpegs.append(simplejpeg.encode_jpeg(frame, 90, 'RGB', '420'))
  folder.mkdir(parents=True)
  shards = -(-count // 4)
  for shard in range(shards):
    with open(folder / tfrecord.shard_name('train', shard, shards), 'wb') as stream:
      for i in range(4 * shard, min(4 * shard + 4, count)):
        context = {'clip/label/index': [i % 2], 'image/frame_rate': [30.0]}
        context['clip/label/text'] = [f'class {i % 2}']
        frames = {sequence_example.FRAMES: [[jpeg] for jpeg in jpegs]}
        stream.write(tfrecord.encode(sequence_example.encode(context, frames)))
  write_index(str(folder), 'train')
  write_scanned(str(folder))


def read(folder: str, way: str, seconds: float) -> tuple[int, float, tuple[float, float]]:
  """Reads and decodes clips for so long; returns their number, the seconds, and the CPU-seconds of
  the process and of the thread that decodes."""
  split = open_split(folder, SPEC, 'train')
  rows = itertools.cycle(np.random.default_rng(os.getpid()).permutation(split.rows).tolist())
  if way == 'record by record':
    records = (split.read(row) for row in rows)
  else:
    records = read_ahead.records(split, ((row, window) for row in rows))
  show(split, next(records))  # connections are made
  clips, began = 0, time.perf_counter()
  spent = time.process_time(), time.thread_time()
  while time.perf_counter() - began < seconds:
    show(split, next(records))
    clips += 1
  seconds = time.perf_counter() - began
  spent = time.process_time() - spent[0], time.thread_time() - spent[1]
  del records  # gives up what is read ahead and has not begun
  time.sleep(1)  # the rest is not the next measurement's
  return clips, seconds, spent


def window(record: Record) -> list[int]:
  """Returns the frames of a clip in the middle of a record."""
  start = (record.num_frames - 2 * CLIP) // 2
  return list(range(start, start + 2 * CLIP, 2))


def show(split: Split, record: Record) -> np.ndarray:
  """Returns a clip: decoded, scaled and cropped frames."""
  import cv2

  cv2.setNumThreads(1)
  frames = [image.decode(jpeg) for jpeg in record.frames(window(record))]
  scaled = [cv2.resize(frame, (298, SHOWN), interpolation=cv2.INTER_AREA) for frame in frames]
  return np.stack([frame[:, 37 : 37 + SHOWN] for frame in scaled])


def free_port() -> int:
  """Returns a port that nothing listens to."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


def wait_for(ports: tuple[int, ...]) -> None:
  """Waits until something listens to each port."""
  for port in ports:
    for _ in range(600):
      try:
        socket.create_connection(('localhost', port)).close()
        break
      except OSError:
        time.sleep(0.1)


def environment(store: str, port: int) -> dict[str, str]:
  """Returns what sends a store's package to a local port."""
  if store == 'gs':
    # Otherwise gcsfs asks Google, for every request, of what kind the bucket is.
    return {
      'STORAGE_EMULATOR_HOST': f'http://localhost:{port}',
      'GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT': 'false',
    }
  names = ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY')
  place = {'AWS_ENDPOINT_URL': f'http://localhost:{port}', 'AWS_DEFAULT_REGION': 'us-east-1'}
  return place | dict.fromkeys(names, 'testing')


def upload(store: str, folder: pathlib.Path) -> str:
  """Copies a folder to the store; returns the URL that it lies in."""
  from vjax import files

  if store == 's3':
    files._filesystem('s3://bucket').mkdir('s3://bucket')
  url = f'{store}://bucket/data'
  for file in sorted(folder.iterdir()):
    files.write_bytes(f'{url}/{folder.name}/{file.name}', file.read_bytes())
  return url


def serve(store: str, inner: int, outer: int, latency_ms: float) -> None:
  """Runs the emulator at the port `inner`, and in front of it, at `outer`, a relay that is late."""
  if store == 'gs':
    from gcp_storage_emulator.server import create_server

    create_server('localhost', inner, in_memory=True, default_bucket='bucket').start()
  else:
    from moto.server import ThreadedMotoServer

    ThreadedMotoServer(port=inner, verbose=False).start()
  asyncio.run(relay(inner, outer, latency_ms / 1e3))


async def relay(inner: int, outer: int, latency_s: float) -> None:
  """Passes on connections to a port: requests after a delay, answers at once."""

  async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float):
    try:
      while data := await reader.read(1 << 20):
        await asyncio.sleep(delay_s)
        writer.write(data)
        await writer.drain()
    except OSError:
      pass
    finally:
      writer.close()

  async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
    there, back = await asyncio.open_connection('localhost', inner)
    await asyncio.gather(passed(reader, back, latency_s), passed(there, writer, 0.0))

  server = await asyncio.start_server(connected, 'localhost', outer)
  await server.serve_forever()


if __name__ == '__main__':
  main()
