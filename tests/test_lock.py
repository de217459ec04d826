"""The lock of a workdir: one run at a time, stale locks, other hosts."""

import json
import logging
import os
import socket

import pytest

from vjax import lock


def test_a_workdir_is_held_by_one_run(tmp_path):
  first = lock.WorkdirLock(str(tmp_path))
  with pytest.raises(ValueError, match=f'in use by process {os.getpid()} on .*--workdir'):
    lock.WorkdirLock(str(tmp_path))
  first.close()
  assert list(tmp_path.iterdir()) == []
  with lock.WorkdirLock(str(tmp_path)):
    assert (tmp_path / lock.NAME).exists()


def test_of_two_that_start_together_one_has_the_workdir(tmp_path, monkeypatch):
  with lock.WorkdirLock(str(tmp_path)), monkeypatch.context() as late:
    late.setattr(lock.WorkdirLock, '_read', lambda self: None)  # looked before the other wrote
    with pytest.raises(ValueError, match='taken by another run at the same time'):
      lock.WorkdirLock(str(tmp_path))


@pytest.mark.parametrize(
  'owner',
  [
    {'process': 2**22 + 1, 'started': '1'},  # no such process
    {'process': os.getpid(), 'started': '1'},  # its number is used again
    {'host': 'elsewhere', 'process': 1, 'started': '1', 'beats': 3},  # no sign of life
    None,  # no lock at all, but a file
  ],
)
def test_a_stale_lock_is_taken_over(owner, tmp_path, caplog):
  text = 'nothing' if owner is None else json.dumps({'host': socket.gethostname(), **owner})
  (tmp_path / lock.NAME).write_text(text)
  with caplog.at_level(logging.WARNING), lock.WorkdirLock(str(tmp_path), patience_s=0.2):
    assert json.loads((tmp_path / lock.NAME).read_text())['process'] == os.getpid()
  assert 'taken over' in caplog.text


def test_a_run_on_another_host_that_gives_signs_of_life_is_not_disturbed(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, 'BEAT_S', 0.05)
  with monkeypatch.context() as elsewhere:
    elsewhere.setattr(lock.socket, 'gethostname', lambda: 'elsewhere')
    other = lock.WorkdirLock(str(tmp_path))
  with pytest.raises(ValueError, match='in use by process .* on elsewhere'):
    lock.WorkdirLock(str(tmp_path), patience_s=4)
  other.close()
