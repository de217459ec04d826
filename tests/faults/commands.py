"""Starts the real commands as processes of their own, stops them, and reads what they leave."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parents[2]
PATIENCE_S = 300
# Who is started in the background by a shell ignores Ctrl-C, and so do its children.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)


def environment(devices: int = 1, **more: str) -> dict[str, str]:
  own = os.environ.get('XLA_FLAGS', '')  # the last of one flag counts
  flags = f'{own} --xla_force_host_platform_device_count={devices}'
  quick = {
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'
  }  # runs of a few steps: compilation is most of their time
  return {
    **os.environ,
    **quick,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': flags,
    'PYTHONPATH': str(ROOT),
    **more,
  }


def start(
  *command: str, devices: int = 1, variables: dict[str, str] | None = None, **settings
) -> subprocess.Popen:
  """`python command...` from the root of the repository, its output in one pipe; variables: of its
  environment."""
  return subprocess.Popen(
    [sys.executable, *map(str, command)],
    cwd=ROOT,
    env=environment(devices, **(variables or {})),
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    **settings,
  )


def train(config: str, workdir, data_dir, *flags: str, **settings) -> subprocess.Popen:
  """The training command; config: an argument of tiny.get_config."""
  places = [
    f'--config=tests/faults/tiny.py:{config}',
    f'--workdir={workdir}',
    f'--data_dir={data_dir}',
  ]
  return start('-m', 'vjax.main', *places, *flags, **settings)


def train_on(
  processes: int, config: str, workdir, data_dir, *flags: str, devices: int
) -> list[subprocess.Popen]:
  """The training command as `processes` processes of `devices` simulated devices each; data_dir:
  one, or one each."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    port = s.getsockname()[1]
  pod = [f'--coordinator=localhost:{port}', f'--num_processes={processes}']
  places = data_dir if isinstance(data_dir, tuple) else (data_dir,) * processes
  return [
    train(config, workdir, place, *pod, f'--process_id={i}', *flags, devices=devices)
    for i, place in enumerate(places)
  ]


def ended(run: subprocess.Popen, status: int = 0, timeout_s: float = PATIENCE_S) -> str:
  """Output of a process that must end with `status`; it is killed when it takes longer."""
  try:
    output = run.communicate(timeout=timeout_s)[0]
  except subprocess.TimeoutExpired:
    run.kill()
    raise AssertionError(
      f'not ended after {timeout_s} s:\n{run.communicate()[0][-3000:]}'
    ) from None
  assert run.returncode == status, f'ended with {run.returncode}, not {status}:\n{output[-5000:]}'
  return output


def wait_for(condition: Callable[[], bool], run: subprocess.Popen, what: str) -> None:
  """Waits until `condition` holds while `run` is alive."""
  deadline = time.monotonic() + PATIENCE_S
  while not condition():
    if run.poll() is not None or time.monotonic() > deadline:
      run.kill()
      raise AssertionError(
        f'{what} did not come; status {run.returncode}:\n{run.communicate()[0][-3000:]}'
      )
    time.sleep(0.005)


def saved_steps(workdir) -> list[int]:
  """Steps of the complete checkpoints of a workdir."""
  folder = pathlib.Path(workdir, 'checkpoints')
  return (
    sorted(int(p.name) for p in folder.glob('*') if p.name.isdigit()) if folder.exists() else []
  )


def temporaries(folder) -> list[str]:
  """Files and folders below `folder` that are neither finished nor meant to stay. A run may delete
  them meanwhile."""
  marks = ('tmp', '.partial', '.lock', 'rendering.json', '.done.json')
  walked = os.walk(folder)  # passes over folders that vanish
  found = [
    os.path.relpath(os.path.join(root, n), folder)
    for root, dirs, files in walked
    for n in dirs + files
  ]
  return sorted(
    p for p in found if any(mark in p for mark in marks) or '/.' in p or p.startswith('.')
  )
