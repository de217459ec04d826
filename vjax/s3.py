"""Ranged reads of s3:// by obstore, for the account, place and options that s3fs finds.

Everything else (listing, writing) goes through s3fs. A clip of a record of 1.2 MB costs 3 ms of a
processor more than from a local disk; read by s3fs it was 8 (`python -m benchmarks.object_store
--store=s3`).
"""

import datetime
import functools
import os
import re
import threading
from collections.abc import Sequence
from typing import Any

# obstore asks again once fewer than five minutes are left; botocore renews what is about to expire.
_KEPT = datetime.timedelta(minutes=10)
_lock = threading.Lock()
_process: list[int | None] = [None]  # that has used obstore, whose threads no fork of it has


def read_spans(system: Any, path: str, spans: Sequence[tuple[int, int]]) -> Sequence[Any]:
  """Returns the bytes of spans (start, end) of a file, asked for all at once; shorter at its end:
  buffers.

  Args:
    system: s3fs' file system, whose account and endpoint are used.
    path: 's3://bucket/name'.
    spans: none empty, or beyond the end of the file.

  Raises OSError of one line, with the store's words. Certificates of an authority of one's own must
  be in SSL_CERT_FILE: obstore does not read AWS_CA_BUNDLE.
  """
  import obstore

  if _process[0] not in (None, os.getpid()):
    raise OSError(
      'this process is a fork of one that has read from s3://, whose threads it lacks: start it by '
      "spawn, multiprocessing.get_context('spawn')"
    )
  _process[0] = os.getpid()
  bucket, _, name = path.removeprefix('s3://').partition('/')
  with _lock:
    store = _store(system, bucket)
  starts, ends = [a for a, _ in spans], [b for _, b in spans]
  try:
    if len(spans) == 1:
      return [obstore.get_range(store, name, start=starts[0], end=ends[0])]
    return obstore.get_ranges(store, name, starts=starts, ends=ends, coalesce=0)
  except Exception as e:
    raise OSError(_short(str(e))) from e


def _short(text: str) -> str:
  """Returns obstore's words without its report of the request and with the store's code and message
  in place of XML."""
  words = text.partition('\n')[0].partition(': <?xml')[0]
  told = [re.search(f'<{tag}>(.*?)</{tag}>', text) for tag in ('Code', 'Message')]
  if 'certificate' in text.lower():
    words += ' (a certificate is not trusted: name those of your authority in SSL_CERT_FILE)'
  return ': '.join([words, *(found[1] for found in told if found)])


@functools.cache
def _store(system: Any, bucket: str) -> Any:
  """Returns obstore's client of a bucket; one for all threads of a process."""
  from fsspec.asyn import sync
  from obstore.store import S3Store

  client = system.connect()
  here, endpoint = client.meta.region_name, client.meta.endpoint_url
  region = _region(system, bucket) or here
  place: dict[str, Any] = {'region': region or 'us-east-1'}
  if region == here or '.amazonaws.' not in endpoint:  # else Amazon's of the bucket's region
    place['endpoint'] = endpoint

  def account() -> Any:
    credentials = client._request_signer._credentials
    if credentials is None:
      raise ValueError(f's3://{bucket}: no credentials found; set AWS_PROFILE or log in')
    found: Any = sync(system.loop, credentials.get_frozen_credentials)
    return {
      'access_key_id': found.access_key,
      'secret_access_key': found.secret_key,
      'token': found.token,
      'expires_at': datetime.datetime.now(datetime.UTC) + _KEPT,
    }

  return S3Store(
    bucket,
    **place,
    skip_signature=bool(system.anon),
    credential_provider=None if system.anon else account,
    virtual_hosted_style_request=False,
    request_payer=bool(system.req_kw),
    client_options={'allow_http': True},
  )


def _region(system: Any, bucket: str) -> str:
  """Returns the region of a bucket, '' where the store does not tell. s3fs follows the store's hint
  to another region by itself; obstore must know it."""
  try:
    answer = system.call_s3('head_bucket', Bucket=bucket)
  except Exception as e:  # such as no right to list: the refusal tells the region too
    answer = getattr(e.__cause__ or e, 'response', {})
  headers = answer.get('ResponseMetadata', {}).get('HTTPHeaders', {})
  return headers.get('x-amz-bucket-region', '')
