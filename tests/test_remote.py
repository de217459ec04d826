"""Data and runs on object stores, against local emulators: s3:// (moto) and gs://
(gcp-storage-emulator)."""

import concurrent.futures
import contextlib
import datetime
import itertools
import json
import os
import pathlib
import socket

import botocore.exceptions
import numpy as np
import pytest
from etils import epath

from tests.data import make
from tests.experiments import shrunk
from tests.test_study import Trainings
from tests.test_study import config as rated
from tests.test_train import timeless
from vjax import build, evaluate, files, study, study_report, train
from vjax import s3 as s3_reads
from vjax.config import AugmentConfig, ViewsConfig
from vjax.data import pipeline, tfrecord
from vjax.data import split as split_lib
from vjax.data.index import open_index
from vjax.data.specs import DatasetSpec
from vjax.data.split import open_split

SPEC = DatasetSpec(name='toy', num_classes=4)
CLIP = ViewsConfig(num_frames=4, frame_stride=2, crop_size=16, short_side=20, sampling='dense')


def free_port() -> int:
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


def upload(folder: pathlib.Path, url: str) -> str:
  for file in folder.rglob('*'):
    if file.is_file():
      target = epath.Path(f'{url}/{file.relative_to(folder.parent)}')
      target.write_bytes(file.read_bytes())
  return url


@pytest.fixture(scope='module')
def s3():
  """A bucket of an S3 that lives in this process."""
  from moto.server import ThreadedMotoServer

  port = free_port()
  server = ThreadedMotoServer(port=port, verbose=False)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('AWS_ENDPOINT_URL', f'http://localhost:{port}')
    for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
      patch.setenv(name, 'testing')
    patch.setenv('AWS_DEFAULT_REGION', 'us-east-1')
    server.start()
    import boto3

    boto3.client('s3').create_bucket(Bucket='bucket')
    yield 's3://bucket'
    server.stop()


@pytest.fixture(scope='module')
def gs():
  """A bucket of a Google Cloud Storage that lives in this process."""
  from gcp_storage_emulator.handlers import objects
  from gcp_storage_emulator.server import create_server

  download = objects.download

  def with_generation(request, response, storage, *args, **kwargs):
    """The header that Google's server sends and the emulator forgets; conditional writes go by
    it."""
    with contextlib.suppress(Exception):
      name = request.params['bucket_name'], request.params['object_id']
      response['x-goog-generation'] = storage.get_file_obj(*name)['generation']
    return download(request, response, storage, *args, **kwargs)

  port = free_port()
  server = create_server('localhost', port, in_memory=True, default_bucket='bucket')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(objects, 'download', with_generation)
    for name in ('STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL'):
      patch.setenv(name, f'http://localhost:{port}')
    server.start()
    yield 'gs://bucket'
    server.stop()


def batches(data_dir, steps=3, workers=0):
  source = open_split(str(data_dir), SPEC, 'train')
  settings = {'batch': 4, 'host': 0, 'hosts': 1, 'workers': workers}
  of_train = {'seed': 7, 'start_step': 0, **settings}
  train_batches = pipeline.train_batches(source, SPEC, CLIP, AugmentConfig(), **of_train)
  test = pipeline.eval_batches(source, SPEC, CLIP, **settings)
  return [*itertools.islice(train_batches, steps), *test]


@pytest.mark.parametrize('store', ['s3', 'gs'])
def test_records_are_read_by_range(store, request, tmp_path, monkeypatch):
  """The same batches as from a local folder; no shard is fetched whole."""
  make.dataset(tmp_path / 'toy')
  url = upload(tmp_path / 'toy', request.getfixturevalue(store))
  asked = []
  original = files.read_ranges
  monkeypatch.setattr(files, 'read_ranges', lambda *a: asked.append(sum(a[2])) or original(*a))
  for near, far in zip(batches(tmp_path), batches(url), strict=True):
    for name in near:
      np.testing.assert_array_equal(near[name], far[name])
  index = open_index(f'{url}/toy', 'train')
  assert set(asked) <= {int(n) + 16 for n in index.length}


@pytest.mark.parametrize('store', ['s3', 'gs'])
def test_frames_of_large_records_are_read_by_range(store, request, tmp_path, monkeypatch):
  """The same frames as from a local folder, in fewer bytes; damage has the same words."""
  make.dataset(tmp_path / 'toy')
  url = upload(tmp_path / 'toy', f'{request.getfixturevalue(store)}/frames')
  monkeypatch.setattr(split_lib, 'WHOLE', 0)
  monkeypatch.setattr(tfrecord, '_NEAR_REMOTE', 100)
  asked = []
  original = files.read_spans
  monkeypatch.setattr(
    files, 'read_spans', lambda path, spans: asked.append(spans) or original(path, spans)
  )
  near, far = open_split(str(tmp_path), SPEC, 'train'), open_split(url, SPEC, 'train')
  for row in (0, 7):
    record, wanted = far.read(row), [9, 0, 1, 1, 4]
    assert record.num_frames == near.read(row).num_frames
    asked.clear()
    assert record.frames(wanted) == near.read(row).frames(wanted)
    ((first, _, _),) = asked  # frames 0 and 1 are one span
    assert 0 < first[1] - first[0] < near.index.length[row] // 3
  index = near.index
  shard, place = (
    pathlib.Path(index.files[index.shard[0]]),
    int(index.offset[0] + index.table[1]['start']),
  )
  data = bytearray(shard.read_bytes())
  data[place + 9] ^= 1
  shard.write_bytes(data)
  epath.Path(far.index.files[0]).write_bytes(bytes(data))
  words = f'record 0 at byte 12: wrong checksum of frame 1 at byte {place}'
  for source in (near, far):
    assert len(source.read(0).frames([0, 2])) == 2
    with pytest.raises(ValueError, match=words):
      source.read(0).frames([0, 1])


def test_workers_read_ahead(gs, tmp_path, monkeypatch):
  """The same batches as from a local folder; a broken record is named at its batch."""
  make.dataset(tmp_path / 'toy')
  url = upload(tmp_path / 'toy', f'{gs}/ahead')
  near, far = batches(tmp_path), batches(url, workers=1)
  for a, b in zip(near, far, strict=True):
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])
  index = open_index(f'{url}/toy', 'train')
  shard = epath.Path(index.files[index.shard[5]])
  content, start = bytearray(shard.read_bytes()), int(index.offset[5])
  content[start + 9 : start + 99] = bytes(90)
  shard.write_bytes(bytes(content))
  with pytest.raises(ValueError, match=f'{shard.name}: record 5 at byte'):
    batches(url, workers=1)


def test_a_file_system_is_shared_by_all_threads(gs):
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    found = list(pool.map(files._filesystem, ['gs://bucket/a', 'gs://bucket/b']))
  assert found[0] is found[1] is files._filesystem('gs://bucket/c')


def test_missing_and_damaged_data_are_named(s3, tmp_path):
  with pytest.raises(FileNotFoundError, match='no dataset in s3://bucket/nothing/toy'):
    batches(f'{s3}/nothing')
  make.dataset(tmp_path / 'toy')
  upload(tmp_path / 'toy', f'{s3}/cut')
  shard = epath.Path(f'{s3}/cut/toy/train-00001-of-00003.tfrecord')
  shard.write_bytes(shard.read_bytes()[:-5])
  with pytest.raises(ValueError, match='train-00001-of-00003.tfrecord'):
    batches(f'{s3}/cut')


@pytest.mark.parametrize('name', ['bucket', 'elsewhere'])
def test_spans_of_s3_are_read_in_the_region_of_the_bucket(name, s3):
  """As the client of s3fs does; what goes wrong has the store's words, on one line."""
  import boto3

  if name == 'elsewhere':
    place = {'LocationConstraint': 'eu-west-1'}
    boto3.client('s3').create_bucket(Bucket=name, CreateBucketConfiguration=place)
  file = f's3://{name}/digits'
  files.path(file).write_bytes(b'0123456789')
  assert files.read_ranges(file, 2, (3, 4)) == [b'234', b'5678']
  assert files.read_spans(file, [(1, 2), (4, 12)]) == [b'1', b'456789']
  assert files.read_ranges(file, 2, (0,)) == [b'']
  store = s3_reads._store(files._filesystem(file), name)
  assert store.config['region'] == ('us-east-1' if name == 'bucket' else 'eu-west-1')
  assert store.config['endpoint'] == os.environ['AWS_ENDPOINT_URL']
  with pytest.raises(
    OSError, match=f'{name}/none cannot be read at byte 3: .*: NoSuchKey: [^\n]*$'
  ):
    files.read_ranges(f's3://{name}/none', 3, (1,))


@pytest.mark.parametrize('store', ['s3', 'gs'])
def test_a_read_that_fails_names_file_byte_and_reason(store, request):
  file = f'{request.getfixturevalue(store)}/nothing'
  for read in (lambda: files.read_ranges(file, 3, (1,)), lambda: files.read_spans(file, [(3, 4)])):
    with pytest.raises(
      OSError, match=f'{file} cannot be read at byte 3: .*(not found|FileNotFound)'
    ):
      read()


def test_reads_of_s3_have_the_account_of_s3fs(s3, monkeypatch):
  """Asked again for each client, as temporary accounts expire; nothing is signed for anonymous
  reading."""
  import obstore.store

  asked = {}
  monkeypatch.setattr(obstore.store, 'S3Store', lambda *a, **kw: asked.update(kw))
  system = files._filesystem('s3://bucket')
  s3_reads._store.__wrapped__(system, 'bucket')
  found = asked['credential_provider']()
  assert (found['access_key_id'], found['secret_access_key']) == ('testing', 'testing')
  left = found['expires_at'] - datetime.datetime.now(datetime.UTC)
  assert datetime.timedelta(minutes=5) < left < datetime.timedelta(minutes=11)
  monkeypatch.setattr(system, 'anon', 1)  # of FSSPEC_S3_ANON=1
  s3_reads._store.__wrapped__(system, 'bucket')
  assert asked['skip_signature'] is True and asked['credential_provider'] is None


def test_a_bucket_that_may_not_be_listed_tells_its_region(s3, monkeypatch):
  system = files._filesystem('s3://bucket')
  headers = {'x-amz-bucket-region': 'eu-west-1'}

  def refused(*args, **kwargs):
    told = {'Error': {'Code': '403'}, 'ResponseMetadata': {'HTTPHeaders': headers}}
    error = botocore.exceptions.ClientError(told, 'HeadBucket')
    raise PermissionError('Forbidden') from error

  monkeypatch.setattr(system, 'call_s3', refused)
  assert s3_reads._region(system, 'bucket') == 'eu-west-1'
  headers.clear()
  assert s3_reads._region(system, 'bucket') == ''


def test_a_fork_of_a_process_that_has_read_from_s3_says_so(s3, monkeypatch):
  """It would wait for ever for threads that it has not."""
  monkeypatch.setattr(s3_reads, '_process', [os.getpid() + 1])
  with pytest.raises(OSError, match="get_context\\('spawn'\\)"):
    files.read_ranges('s3://bucket/x', 0, (1,))


def test_other_schemes_are_refused():
  with pytest.raises(ValueError, match='gs://, s3://'):
    files.is_remote('hdfs://host/data')
  assert not files.is_remote('/a/folder') and files.is_remote(epath.Path('gs://bucket/x'))


def test_a_study_lives_on_an_object_store(gs, monkeypatch):
  """A run of another config is moved aside there, folders and all."""
  trainings = Trainings(monkeypatch)
  workdir = f'{gs}/study'
  for rate in (0.5, 0.25):
    made = study.Study([('a', rated(rate))], workdir, '')
    assert made.run()['a'] == {'test': {'top1': rate}}
  assert trainings.made == ['a', 'a']
  assert (
    json.loads((files.path(workdir) / 'a.old-1/result.json').read_text())['test']['top1'] == 0.5
  )
  study_report.write(workdir, 'A study', {'': [{'x': 1}]}, None, {}, (), {}, [])
  assert (files.path(workdir) / 'table.csv').read_text() == 'x\n1\n'


@pytest.mark.slow
def test_a_run_on_an_object_store_resumes_bit_for_bit(gs, data_dir, tmp_path):
  """Interrupted and continued in gs://, it ends as the unbroken one on a local disk; all that a run
  leaves is there."""
  config = shrunk('mae_finetune_k400', **{'train.save_steps': 2})
  whole = train.run(build.experiment(config, str(data_dir)), str(tmp_path / 'whole'))
  exp = build.experiment(config, str(data_dir))
  begun = build.experiment(config, str(data_dir))

  def broken(start):
    yield from itertools.islice(exp.train_batches(start), 5)
    raise KeyboardInterrupt

  object.__setattr__(begun, 'train_batches', broken)
  workdir = f'{gs}/runs/one'
  with pytest.raises(KeyboardInterrupt):
    train.run(begun, workdir)
  found = train.run(exp, workdir)
  assert timeless(found) == timeless(whole)
  lines = lambda text: [
    {
      k: v
      for k, v in json.loads(line).items()
      if k not in ('clips_per_s', 'data_wait', 'memory_gib', 'seconds')
    }
    for line in text.splitlines()
  ]
  far = epath.Path(workdir)
  assert lines((far / 'metrics.jsonl').read_text()) == lines(
    (tmp_path / 'whole' / 'metrics.jsonl').read_text()
  )
  assert json.loads((far / 'result.json').read_text()) == found
  assert any(p.name.startswith('events.') for p in far.iterdir())
  again = evaluate.load(workdir, str(data_dir))
  assert again.run_one('test').numbers == pytest.approx(whole['test'])


def test_checkpoints_on_s3_are_refused(s3, data_dir):
  exp = build.experiment(shrunk('mae_finetune_k400'), str(data_dir))
  with pytest.raises(ValueError, match='mount'):
    train.run(exp, f'{s3}/runs/one')
