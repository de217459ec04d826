"""Tiny real videos, sound and pictures for the tests, good and bad."""

import struct
from fractions import Fraction

import av
import numpy as np

CORNERS = {'red': (255, 0, 0), 'blue': (0, 0, 255), 'green': (0, 255, 0), 'white': (255, 255, 255)}


def pictures(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
  """(T, H, W, 3): corners red, blue / green, white; noise that changes in the middle, so that
  frames cost bytes."""
  video = np.zeros((frames, height, width, 3), np.uint8)
  h, w = height // 2, width // 2
  video[:, :h, :w], video[:, :h, w:], video[:, h:, :w], video[:, h:, w:] = CORNERS.values()
  noise = np.random.default_rng(0).integers(0, 255, (frames, h, w, 3))
  video[:, h // 2 : h // 2 + h, w // 2 : w // 2 + w] = noise
  return video


def write_video(
  path,
  frames=24,
  height=48,
  width=64,
  rate=12,
  codec='libx264',
  times=None,
  rotation=0,
  mirror=False,
  aspect=None,
  **options,
):
  """Encodes `pictures`; times: presentation times in 1/1000 s; rotation: to display, degrees
  counter-clockwise."""
  with av.open(str(path), 'w', options=options) as container:
    stream = container.add_stream(codec, rate=rate, options={'g': '12'})
    stream.width, stream.height = width, height
    odd = height % 2 or width % 2
    stream.pix_fmt = 'yuv444p' if odd else 'yuv420p'
    if aspect:
      stream.codec_context.sample_aspect_ratio = Fraction(aspect)
    if times is not None:
      stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
    if rotation or mirror:
      stream.set_display_rotation(rotation, hflip=mirror)
    for i, image in enumerate(pictures(frames, height, width)):
      frame = av.VideoFrame.from_ndarray(image, 'rgb24')
      if times is not None:
        frame.pts, frame.time_base = times[i], Fraction(1, 1000)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def write_sound(path):
  """A second of noise, no picture."""
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('aac', rate=16000)
    samples = np.random.default_rng(0).normal(size=(1, 16000)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(samples, format='fltp', layout='mono')
    frame.sample_rate = 16000
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def cut(path, source, share: float):
  """The first `share` of a file's bytes."""
  data = source.read_bytes()
  path.write_bytes(data[: int(len(data) * share)])
  return path


def encoded(codec: str, frames: int = 12, rate: int = 12, **options) -> list[bytes]:
  """Packets of `pictures`, in no container."""
  context = av.CodecContext.create(codec, 'w')
  context.width, context.height, context.pix_fmt = 64, 48, 'yuv420p'
  context.framerate, context.time_base = rate, Fraction(1, rate)
  context.options = {key: str(value) for key, value in options.items()}
  packets = []
  for i, image in enumerate(pictures(frames)):
    frame = av.VideoFrame.from_ndarray(image, 'rgb24')
    frame.pts = i
    packets += context.encode(frame)
  return [bytes(packet) for packet in packets + context.encode(None)]


def write_avi(path, chunks, rate=12, ticks=None, closed=True):
  """An AVI of these chunks of MPEG-4, of which empty ones are ticks without a picture.

  ticks: number in the header, default that of the chunks. closed: with sizes and an index at the
  end, as a recorder that was not interrupted leaves it.
  """
  chunk = lambda name, data: (
    name + struct.pack('<I', len(data) if closed else 0) + data + bytes(len(data) % 2)
  )
  ticks = len(chunks) if ticks is None else ticks
  main = struct.pack('<14I', 10**6 // rate, 0, 0, 16, ticks, 0, 1, 0, 64, 48, 0, 0, 0, 0)
  header = struct.pack('<4s4sIIIIIIIIIIHHHH', b'vids', b'FMP4', 0, 0, 0, 1, rate, 0, ticks, 0,
                       2**32 - 1, 0, 0, 0, 64, 48)  # fmt: skip
  form = struct.pack('<IiiHH4sIiiII', 40, 64, 48, 1, 24, b'FMP4', 64 * 48 * 3, 0, 0, 0, 0)
  full = lambda name, data: name + struct.pack('<I', len(data)) + data
  streams = full(b'LIST', b'strl' + full(b'strh', header) + full(b'strf', form))
  headers = full(b'LIST', b'hdrl' + full(b'avih', main) + streams)
  movie, index = b'movi', b''
  for i, data in enumerate(chunks):
    index += b'00dc' + struct.pack('<III', 16 if i == 0 else 0, len(movie), len(data))
    movie += full(b'00dc', data) + bytes(len(data) % 2)
  tail = full(b'idx1', index) if closed else b''
  path.write_bytes(chunk(b'RIFF', b'AVI ' + headers + chunk(b'LIST', movie) + tail))
  return path


def write_with_sound(path, codec='mpeg4', sound='mp3', seconds=2.0, frames=24, rate=12, late=0,
                     options=None, **container_options):  # fmt: skip
  """`pictures`, from frame number `late` of the clock, beside so many seconds of noise."""
  with av.open(str(path), 'w', options=container_options) as container:
    video = container.add_stream(codec, rate=rate, options=options or {})
    video.width, video.height, video.pix_fmt = 64, 48, 'rgb8' if codec == 'gif' else 'yuv420p'
    audio = container.add_stream(sound, rate=48000, layout='mono') if sound else None
    if audio:
      audio.bit_rate = 64000
    for i, image in enumerate(pictures(frames)):
      frame = av.VideoFrame.from_ndarray(image, 'rgb24')
      frame.pts, frame.time_base = i + late, Fraction(1, rate)
      container.mux(video.encode(frame))
    container.mux(video.encode(None))
    if audio:
      noise = np.random.default_rng(0).normal(size=(1, int(48000 * seconds)), scale=0.1)
      frame = av.AudioFrame.from_ndarray(noise.astype(np.float32), format='fltp', layout='mono')
      frame.sample_rate, frame.pts = 48000, 0
      container.mux(audio.encode(frame))
      container.mux(audio.encode(None))
  return path


def with_times_of_decoding(path, source):
  """A copy whose frames are said to be shown when they are decoded."""
  with av.open(str(source)) as old, av.open(str(path), 'w') as new:
    stream = new.add_stream_from_template(old.streams.video[0])
    for number, packet in enumerate(old.demux(video=0)):
      if packet.size:
        packet.pts = packet.dts = number * packet.duration
        packet.stream = stream
        new.mux(packet)
  return path


def write_theora(path, stays, rate=12):
  """A Theora file of gray pictures of 64x48; each stays for so many more packets that are empty."""
  head = b'\x80theora\3\2\1' + struct.pack('>HH', 4, 3) + bytes((0, 0, 64, 0, 0, 48, 0, 0))
  head += struct.pack('>II', rate, 1) + bytes((0, 0, 1, 0, 0, 1, 0, 0, 0, 0)) + b'\0\xc0'
  # No loop filter; scales of 1; the first of two matrices for all; 80 codes of two tokens: 0 ends blocks.
  tables = '000' + '0000' + '1' * 64 + '0000' + '1' * 64 + f'{1:09b}' + f'{16:08b}' * 128
  tables += '0' + f'{62:06b}' + '0' + '0' * 2 + '00' * 3 + ('0' + f'1{6:05b}' + f'1{7:05b}') * 80
  # Key frame, quality 32, then no coefficient in any block: the run of ends has no end.
  picture = '00' + f'{32:06b}' + '0' + '000' + '0' * 8 + '0' + '0' * 12 + '0' * 8
  packets = [(head, 0), (b'\x81theora' + bytes(8), 0), (b'\x82theora' + _bits(tables), 0)]
  for stay in stays:
    key = len(packets) - 2
    packets += [(_bits(picture), key << 6)] + [(b'', key << 6 | i + 1) for i in range(stay)]
  out = b''
  for number, (packet, granule) in enumerate(packets):
    flags = 2 if number == 0 else 4 if number == len(packets) - 1 else 0
    lacing = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    page = b'OggS\0' + bytes((flags,)) + struct.pack('<QIII', granule, 1, number, 0)
    page += bytes((len(lacing),)) + lacing + packet
    out += page[:22] + _ogg_crc(page).to_bytes(4, 'little') + page[26:]
  path.write_bytes(out)
  return path


def _bits(text: str) -> bytes:
  text += '0' * (-len(text) % 8)
  return int(text, 2).to_bytes(len(text) // 8, 'big')


def _ogg_crc(data: bytes) -> int:
  crc = 0
  for byte in data:
    crc ^= byte << 24
    for _ in range(8):
      crc = (crc << 1 ^ 0x104C11DB7) if crc & 1 << 31 else crc << 1
  return crc
