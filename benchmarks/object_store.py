"""Clips per second from an object store that answers late, against those from a local folder.

  python -m benchmarks.object_store [--store=gs|s3] [--workers=1] [--latency_ms=20] [--seconds=10]

The store is an emulator in a process of its own; every request waits `--latency_ms` before it
reaches the emulator. The input pipeline's workers read records, decode 16 of their 64 frames of
256x340 px, and crop them to 224 px. Each round has local folder and store in turn, so that other
work on the machine counts for both. The bar: 0.9 of local. Emulator and relay need cores besides
the workers': on a machine that has none to spare, rates say less than the CPU-seconds of this
process and its workers, which leave the emulator's out.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import pathlib
import socket
import statistics
import tempfile
import time

import numpy as np

from benchmarks.input_pipeline import Rate, measure, train
from vjax.config import AugmentConfig, ClipConfig
from vjax.data import sequence_example, tfrecord
from vjax.data.index import write_index
from vjax.data.manifest import write_scanned
from vjax.data.specs import DatasetSpec
from vjax.data.split import open_split

SPEC = DatasetSpec(name='clips', num_classes=2)
FRAMES = 64  # of a record
CLIP = ClipConfig(num_frames=16, frame_stride=2, crop_size=224, short_side=256, sampling='linspace')
CROP = AugmentConfig(area=(0.5, 1.0))


def main() -> None:
  """Prints clips per second from folder and store, and their ratio."""
  parser = argparse.ArgumentParser(description='Clips per second from a late object store.')
  parser.add_argument('--store', choices=['gs', 's3'], default='gs')
  parser.add_argument('--workers', type=int, default=1, help='processes that read')
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
      f'{args.store}, {args.workers} workers, {args.latency_ms:g} ms, records of '
      f'{open_split(folder, SPEC, "train").index.length.mean() / 1e6:.1f} MB, rounds of '
      f'{args.seconds:g} s'
    )
    rates: dict[str, list[Rate]] = {'local': [], args.store: []}
    for number in range(args.rounds + 1):  # the first one warms up
      for way, place in zip(rates, (folder, url)):
        source = open_split(place, SPEC, 'train')
        rate = measure(train(source, CLIP, CROP, args.workers), args.seconds)
        if number:
          rates[way].append(rate)
    for way, found in rates.items():
      ratios = [a.per_s / b.per_s for a, b in zip(found, rates['local'])]
      print(
        f'{way:>6}: {statistics.median(r.per_s for r in found):6.1f} clips/s, '
        f'{statistics.median(ratios):.2f} of local ({min(ratios):.2f} to {max(ratios):.2f}), '
        f'{statistics.median(1e3 / r.per_cpu_s for r in found):.1f} ms of CPU a clip'
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
