"""Damaged records: named by file and place when they are read, in training and in evaluation alike;
never a wrong batch, a hang, or memory for what a header merely claims."""

import contextlib
import dataclasses
import itertools
import json
import re
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data import make
from tests.faults.sets import (
  CLIP,
  HEADER,
  MANY,
  SPEC,
  change_columns,
  clip,
  evaluate,
  flip,
  jpeg,
  open_set,
  quick,
  refused,
  shard,
  train,
  write_set,
)
from vjax.data import image, sampling, sequence_example, tfrecord
from vjax.data.index import read_record, scan, write_index
from vjax.data.split import open_record

pytestmark = pytest.mark.timeout(120)


def test_every_flip_is_found_where_it_is(folder):
  """All bytes of headers and checksums, and many of the payloads: the record is named, its
  neighbors read as before."""
  index, path, rng = open_set(folder).index, shard(folder), np.random.default_rng(0)
  clean = [read_record(index, i) for i in range(len(index))]
  starts = [int(index.offset[i]) - HEADER for i in (0, 1)]
  places = rng.integers(0, path.stat().st_size, 300).tolist()
  for start, length in zip(starts, index.length):
    places += [start + i for i in (*range(HEADER), *range(HEADER + length, HEADER + length + 4))]
  for place in places:
    whole = flip(path, place, 1 << int(rng.integers(8)))
    hit = int(place >= starts[1])
    for i in range(len(index)):
      if i == hit:
        with pytest.raises(
          ValueError, match=re.escape(f'{path}: record {i} at byte {index.offset[i]}: ')
        ):
          read_record(index, i)
      else:
        assert read_record(index, i) == clean[i]
    with pytest.raises(ValueError, match=re.escape(f'{path}')):
      scan([path])
    path.write_bytes(whole)


@pytest.mark.parametrize('whole', [True, False], ids=['whole records', 'single frames'])
@pytest.mark.parametrize('place', ['length', 'length checksum', 'labels', 'frame', 'checksum'])
def test_flips_stop_training_and_evaluation(folder, place, whole):
  """With records read whole, and with single frames read; every clip has the middle one of its
  record's three frames."""
  if whole:
    change_columns(folder, head=None)
  index = open_set(folder).index
  start, length, middle = (
    int(index.offset[1]),
    int(index.length[1]),
    shard(folder).read_bytes().rindex(b'\xff\xd8\xff'),
  )
  end = {
    'length': -HEADER,
    'length checksum': -3,
    'labels': 60,
    'frame': middle - start - 60,
    'checksum': length + 1,
  }
  assert (index.head is None) == whole and 0 < end['frame'] < length
  flip(shard(folder), start + end[place])
  refused(folder, f'{shard(folder)}: record 1 at byte {start}: ')


def test_frames_out_of_use_may_be_damaged(folder):
  """Frames outside the clip are not read; reading the whole record finds the damage."""
  source = dataclasses.replace(open_set(folder), rows=np.array([1]))
  clip = dataclasses.replace(
    CLIP, num_frames=1, sampling='consecutive'
  )  # in tests the middle one of three
  before = evaluate(source, clip=clip)
  flip(shard(folder), int(source.index.offset[1] + source.index.length[1]) - 50)
  (old,), (new,) = before, evaluate(source, clip=clip)
  assert all((old[k] == new[k]).all() for k in old)
  with pytest.raises(ValueError, match='record 1 at byte .*: wrong checksum of frame 2 at byte'):
    source.check(1)
  with pytest.raises(
    ValueError, match='record 1 at byte .*: wrong checksum, the record is damaged'
  ):
    read_record(source.index, 1)


def test_records_with_labels_behind_their_frames(tmp_path):
  """Another writer may put the context last: such records are read whole."""
  payload = clip(2)
  size = sequence_example._fields(payload, 0, len(payload))
  (_, _, end), _ = size
  folder = write_set(tmp_path / 'set', [[payload[end:] + payload[:end], clip(3)]])
  index = open_set(folder).index
  assert index.head[0] == 0 < index.head[1]
  assert open_record(index, 0).context == open_record(index, 1).context | {
    'clip/label/index': [2], 'video/filename': [b'v2.mp4']
  }  # fmt: skip
  assert open_record(index, 0).frame(0) == jpeg(2)


def test_a_record_out_of_use_may_be_damaged(folder):
  """A subset reads its own records only: damage elsewhere changes no batch."""
  source = dataclasses.replace(open_set(folder), rows=np.array([0, 2, 3]))
  before = train(source, steps=4), evaluate(source)
  flip(shard(folder), int(source.index.offset[1]) + 50)
  for old, new in zip(
    itertools.chain(*before), itertools.chain(train(source, steps=4), evaluate(source))
  ):
    assert old.keys() == new.keys() and all((old[k] == new[k]).all() for k in old)


@pytest.mark.parametrize('keep', [0, 5, 100, -1, -5])
def test_shards_cut_short(folder, keep):
  """Found by its size before anything is read; and record by record, if it is cut while it is
  open."""
  source, path = open_set(folder), shard(folder, 1)
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(
    ValueError, match=f'{path}.*cut short.*copy it again, or run: python -m vjax.data.index'
  ):
    open_set(folder)
  named = re.escape(str(path)) + r': record [23] at byte \d+: the file ends inside'
  for read in (train, evaluate):
    with pytest.raises(ValueError, match=named):
      read(source)


def test_a_shard_without_bytes_is_told_while_indexing(folder):
  shard(folder, 1).write_bytes(b'')
  (folder / 'manifest.json').unlink()
  command = [sys.executable, '-m', 'vjax.data.index', f'--folder={folder}']
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  assert 'careful: train-00001-of-00002.tfrecord has 0 bytes' in done.stdout


@pytest.mark.parametrize('kind', ['equal records', 'equal files', 'other sizes'])
def test_swapped_shards(tmp_path, kind):
  """Also where the sizes of the files, or of every single record, are the same."""
  a, b, c, d = (clip(v, [jpeg(0) + bytes(16 * v * (kind != 'equal records'))]) for v in range(4))
  shards = {
    'equal records': [[a, b], [c, d]],
    'equal files': [[b, c], [c, b]],
    'other sizes': [[a, b], [c, d]],
  }
  folder = write_set(tmp_path / 'set', shards[kind])
  first, second = shard(folder, 0), shard(folder, 1)
  assert (first.stat().st_size == second.stat().st_size) == (kind != 'other sizes')
  first.rename(folder / 'kept')
  second.rename(first)
  (folder / 'kept').rename(second)
  if kind == 'other sizes':
    refused(folder, str(first), 'swapped with another', 'expected', 'found')
  else:
    word = {'equal records': 'not the record that was indexed', 'equal files': 'another shard'}[
      kind
    ]
    refused(folder, 'tfrecord: record ', word, 'run: python -m vjax.data.index')


def test_a_shard_written_again_in_another_order(tmp_path):
  """The index is older than a shard of the same size and the same clips: labels would be those of
  other clips."""
  a, b = clip(0, [jpeg(0)]), clip(1, [jpeg(0)])
  assert len(a) == len(b)
  folder = write_set(tmp_path / 'set', [[a, b]])
  shard(folder, 0, 1).write_bytes(tfrecord.encode(b) + tfrecord.encode(a))
  refused(folder, 'train-00000-of-00001.tfrecord: record ', 'not the record that was indexed')


def test_a_data_set_prepared_again_in_the_same_process(tmp_path):
  """Shards replaced since they were last read are opened anew."""
  folder = write_set(tmp_path / 'set', [[clip(0), clip(1)]])
  before = read_record(open_set(folder).index, 0)
  new = folder / 'new'
  new.write_bytes(tfrecord.encode(clip(1)) + tfrecord.encode(clip(0)))
  new.rename(shard(folder, 0, 1))
  write_index(str(folder), 'train')
  assert read_record(open_set(folder).index, 0) == clip(1) != before


@pytest.mark.parametrize('claim', [1 << 32, (1 << 63) + 5, 0])
def test_headers_that_claim_what_is_not_there(folder, claim):
  """4 GB by the header, its checksum right: nothing of the kind is allocated, the record is
  named."""
  source, path = open_set(folder), shard(folder)
  start = int(source.index.offset[1])
  length = struct.pack('<Q', claim)
  header = length + struct.pack('<I', tfrecord.masked_crc(length))
  data = path.read_bytes()
  path.write_bytes(data[: start - HEADER] + header + data[start:])
  tracemalloc.start()
  with pytest.raises(
    ValueError, match=f'record 1 at byte {start}: {claim} bytes where the index has'
  ):
    read_record(source.index, 1)
  with pytest.raises(
    ValueError,
    match=f'needs {claim} bytes, beyond the end' if claim else 'wrong checksum of the record',
  ):
    scan([path])
  assert tracemalloc.get_traced_memory()[1] < 2e6
  tracemalloc.stop()
  refused(folder, f'{path}: record 1 at byte {start}: ')


@pytest.mark.parametrize('label', [4, 400, -1])
def test_labels_that_are_no_class(tmp_path, label):
  """As the only label, found when the set is opened; as a clip's second label, when it is read."""
  classes = ['a', 'b', 'c', 'd']
  for name, spec, labels in (('one', SPEC, [label]), ('many', MANY, [0, label])):
    folder = write_set(tmp_path / name, [[clip(0), clip(1)], [clip(2)]])
    payloads = [tfrecord.encode(clip(0)), tfrecord.encode(clip(1, clip__label__index=labels))]
    shard(folder).write_bytes(b''.join(payloads))
    write_index(str(folder), 'train')
    manifest = make.manifest(folder)
    (folder / 'manifest.json').write_text(json.dumps(manifest | {'classes': classes}))
    spec = dataclasses.replace(spec, name=name)
    place = f'{shard(folder)}: record 1 at byte {HEADER + len(payloads[0])}'
    refused(folder, place, str(label), '4 classes', spec=spec)


@pytest.mark.parametrize('label', [1 << 40, -(1 << 40), 1 << 24, b'run', 0.5])
def test_labels_that_are_none(tmp_path, label):
  """They would overflow the index, or ask for as many class names."""
  with pytest.raises(
    ValueError,
    match=r'train-00000-of-00001.tfrecord: the record at byte 12 .*labels are whole numbers',
  ):
    write_set(tmp_path / 'set', [[clip(0, clip__label__index=[label])]])


@pytest.mark.parametrize(
  'context, words',
  [
    ({'clip__label__text': [b'\xff\xfe']}, 'clip/label/text is .*not text in UTF-8'),
    ({'clip__label__text': [3]}, 'clip/label/text is .*not text in UTF-8'),
    ({'clip__end__timestamp': [b'soon']}, "clip/end/timestamp is b'soon'"),
    ({'clip__end__timestamp': [float('nan')]}, 'clip/end/timestamp is nan'),
  ],
)
def test_context_of_other_kinds_is_named_while_indexing(tmp_path, context, words):
  with pytest.raises(
    ValueError, match=f'train-00000-of-00001.tfrecord: the record at byte 12: {words}'
  ):
    write_set(tmp_path / 'set', [[clip(0, **context)]])


@pytest.mark.parametrize('rate', [float('nan'), float('inf'), -25.0, b'fast'])
def test_frame_rates_that_are_none(tmp_path, rate):
  folder = write_set(tmp_path / 'set', [[clip(0), clip(1, image__frame_rate=[rate])]])
  refused(folder, f'{shard(folder, 0, 1)}: record 1 at byte ', 'image/frame_rate is')


@pytest.mark.parametrize(
  'frames, words',
  [
    ([b'\x93\x01rubbish' * 40], ['(video v1.mp4): frame 0', 'neither a JPEG nor a PNG']),
    ([b''], ['frame 0', '0 bytes that are neither']),
    ([b'\x89PNG\r\n\x1a\n'], ['frame 0', 'neither a JPEG nor a PNG']),
    (
      [b'\xff\xd8\xff\xc0\0\x11\x08\0\x18\0\x20' + bytes(60)],
      ['(video v1.mp4): frame 0 cannot be decoded'],
    ),
    (['cut'], ['(video v1.mp4): frame 0 cannot be decoded']),
    (
      ['good', 'large'],
      ['frames of (height, width) (24, 32) and (48, 64)', 'prepare the video again'],
    ),
    ([7, 7], ['(video v1.mp4): frame 0', 'is not one byte string']),
  ],
)
def test_rubbish_under_right_checksums(tmp_path, frames, words):
  known = {'cut': jpeg(1)[: len(jpeg(1)) // 2], 'good': jpeg(1), 'large': jpeg(1, 48, 64)}
  folder = write_set(tmp_path / 'set', [[clip(0), clip(1, [known.get(f, f) for f in frames])]])
  refused(folder, f'{shard(folder, 0, 1)}: record 1 at byte ', *words)


def test_clips_without_frames(tmp_path):
  """Named when the set is opened; where an older index calls it a frame, when it is read."""
  folder = write_set(tmp_path / 'set', [[clip(0), clip(1, [])]])
  refused(folder, f'{shard(folder, 0, 1)}: record 1 at byte ', 'a clip without frames')
  change_columns(folder, frames=np.int32([1, 1]), head=None)
  refused(folder, f'{shard(folder, 0, 1)}: record 1 at byte ', 'it has no image/encoded')


@pytest.mark.parametrize('rule', sorted(sampling.RULES))
def test_clips_of_one_frame(rule):
  """Every sampling rule shows the one frame there is."""
  spec = dataclasses.replace(CLIP, num_frames=4, frame_stride=3, sampling=rule)
  for rate in (0.0, 25.0, 1e-3, 1e6):
    assert (sampling.rule(rule).train(np.random.default_rng(0), 1, spec, rate) == np.zeros(4)).all()
    assert (sampling.rule(rule).test(1, spec, 0, rate) == np.zeros(4)).all()


def test_batches_of_clips_of_one_frame(tmp_path):
  folder = write_set(tmp_path / 'set', [[clip(0), clip(1)]])
  longer = dataclasses.replace(CLIP, num_frames=4, frame_stride=3)
  for batch in (*train(open_set(folder), clip=longer), *evaluate(open_set(folder), clip=longer)):
    video = batch['video'].reshape(2, 4, 16, 16, 3)
    assert (video == video[:, :1]).all()
    np.testing.assert_allclose(video[..., 2].mean((1, 2, 3)), 20 + 12 * batch['video_id'], atol=3)


def parsed(data: bytes) -> None:
  """Reads a payload as training does; a ValueError is an answer, anything else is not."""
  with contextlib.suppress(ValueError):
    context, spans = sequence_example.decode(data)
    sequence_example.labels_by_space(context)
    for span in spans[:20]:
      with contextlib.suppress(ValueError):
        image.image_size(sequence_example.frame(data, span))


@quick
@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_value_error(data):
  parsed(data)


@quick
@given(st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=6), st.integers(0, 400))
def test_any_damage_to_a_message(changes, cut):
  """A real payload with bytes changed and its end cut off: close enough to get deep into the
  parser."""
  whole = bytearray(
    clip(1, [b'\xff\xd8' + bytes(9), b'x' * 200], image__frame_rate=[25.0], label=[1 << 40, -3])
  )
  for place, value in changes:
    whole[place % len(whole)] = value
  parsed(bytes(whole[: len(whole) - cut]))


def test_numbers_without_end_are_refused_at_once():
  """A megabyte of continued digits is not added up."""
  digits = b'\xff' * 1_000_000
  for message in (digits, b'\x0a' + digits, b'\x12' + digits):
    with pytest.raises(ValueError, match='more than 10 bytes'):
      sequence_example.decode(message)
  frames = b'\x0a' + digits
  lists = b'\x0a\x0dimage/encoded\x12' + wire_length(len(frames)) + frames
  entry = b'\x0a' + wire_length(len(lists)) + lists
  with pytest.raises(ValueError, match='more than 10 bytes'):
    sequence_example.decode(b'\x12' + wire_length(len(entry)) + entry)


def wire_length(n: int) -> bytes:
  out = bytearray()
  while n > 127:
    out.append(n & 127 | 128)
    n >>= 7
  return bytes([*out, n])


@quick
@given(
  st.one_of(st.binary(max_size=200), st.lists(st.binary(max_size=40), max_size=4)),
  st.integers(0),
  st.integers(0, 30),
)
def test_any_bytes_are_records_or_a_value_error(tmp_path_factory, content, place, cut):
  """Rubbish, or records with a byte changed and the end cut off: found, or exactly what was
  written."""
  path = tmp_path_factory.mktemp('any') / 'x.tfrecord'
  data, payloads = content, None
  if isinstance(content, list):
    payloads, data = content, bytearray(b''.join(map(tfrecord.encode, content)))
    if data and not cut:
      data[place % len(data)] ^= 1 + place % 255
    data = data[: len(data) - cut]
  path.write_bytes(data)
  try:
    read = [bytes(payload) for _, payload, _ in tfrecord.payloads(path)]
  except ValueError as e:
    assert str(path) in str(e) and 'byte' in str(e)
  else:
    if payloads is not None:
      assert read == payloads[: len(read)] and len(b''.join(map(tfrecord.encode, read))) == len(
        data
      )
