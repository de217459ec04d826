"""Collects the wheels that `python -m benchmarks.gpu --wheels=FOLDER` may need on a machine without
a network.

  python -m benchmarks.collect_wheels --out=FOLDER [--python=3.12]

Small packages of vjax and of its PyTorch peers, without JAX, PyTorch and their like, which the
machine must have: compiled ones for Linux on x86-64 and that Python; those that exist as sources
alone (PyTorchVideo, fvcore, iopath) are built here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

# jaxtyping with wadler-lindig and etils with what its epath needs: vjax; the rest: PyTorchVideo.
BINARY = (
  'jaxtyping', 'wadler-lindig', 'safetensors', 'etils', 'fsspec', 'importlib-resources', 'zipp',
  'typing-extensions',
  'yacs', 'pyyaml', 'tqdm', 'termcolor', 'tabulate', 'portalocker', 'parameterized', 'networkx',
  'pillow',
)  # fmt: skip
SOURCE = ('pytorchvideo', 'fvcore', 'iopath')
PLATFORMS = (
  'manylinux_2_28_x86_64',
  'manylinux_2_27_x86_64',
  'manylinux_2_17_x86_64',
  'manylinux2014_x86_64',
)


def collect(out: Path, python: str) -> list[str]:
  """Names of the wheels that lie in `out` afterwards. Raises CalledProcessError where pip finds one
  nowhere."""
  out.mkdir(parents=True, exist_ok=True)
  pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
  platforms = [f'--platform={name}' for name in PLATFORMS]
  target = [
    '--no-deps',
    '--only-binary=:all:',
    f'--python-version={python}',
    '--implementation=cp',
    *platforms,
  ]
  for package in BINARY:
    subprocess.run([*pip, 'download', '-q', *target, '-d', str(out), package], check=True)
  for package in SOURCE:
    subprocess.run([*pip, 'wheel', '-q', '--no-deps', '-w', str(out), package], check=True)
  return sorted(wheel.name for wheel in out.glob('*.whl'))


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--out', default='.wheels', help='folder of the wheels')
  parser.add_argument(
    '--python', default='3.12', help='version of Python on the machine with the GPU'
  )
  args = parser.parse_args()
  print('\n'.join(collect(Path(args.out), args.python)))


if __name__ == '__main__':
  main()
