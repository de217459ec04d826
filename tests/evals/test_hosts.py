"""Two processes with half of the videos each report what one process does."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from vjax.evals import views

ROOT = pathlib.Path(__file__).parents[2]
HOST = """
import json, sys
import jax, numpy as np
port, host = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(f'localhost:{port}', num_processes=2, process_id=host)
from tests.evals.test_hosts import batches, predict
from vjax.evals import views
print('RESULT', json.dumps(views.run(predict, batches(host, 2), num_classes=6).numbers))
"""
LOGITS = np.random.default_rng(0).normal(size=(11, 2, 6))
LABELS = np.random.default_rng(1).integers(0, 6, 11)


def batches(host, hosts):
  """Every hosts-th video in batches of 4; all hosts yield equally many, the last ones padded."""
  mine = np.arange(host, 12, hosts)
  for start in range(0, 12 // hosts, 4):
    rows = np.pad(
      mine[start : start + 4], (0, 4 - len(mine[start : start + 4])), constant_values=11
    )
    real = rows < 11
    yield {
      'video': np.minimum(rows, 10),
      'label': np.where(real, LABELS[np.minimum(rows, 10)], 0),
      'valid': real.astype(np.float32),
      'video_id': np.where(real, rows, -1).astype(np.int32),
    }


def predict(batch):
  return LOGITS[batch['video']]


def test_two_processes_equal_one():
  with socket.socket() as s:
    s.bind(('localhost', 0))
    port = str(s.getsockname()[1])
  env = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '', 'PYTHONPATH': str(ROOT)}
  command = [sys.executable, '-c', HOST, port]
  hosts = [
    subprocess.Popen([*command, str(i)], env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for i in range(2)
  ]
  lines = [host.communicate(timeout=300)[0] for host in hosts]
  want = views.run(predict, batches(0, 1), num_classes=6).numbers
  assert want['count'] == 11
  for text in lines:
    assert json.loads(text.split('RESULT')[1]) == pytest.approx(want)
