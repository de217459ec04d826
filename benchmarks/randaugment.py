"""RandAugment's operations beside Pillow's: milliseconds for a clip of 16 frames of 224 px.

  python -m benchmarks.randaugment
  python -m benchmarks.randaugment --device [--clips=4]     on JAX's device beside the host, 256x340 px

The second needs jax and numpy alone; the host's column is there if OpenCV is.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from vjax import device_augment
from vjax.config import RAND_AUGMENT

try:
  import cv2

  from vjax.data import augment as augments
  from vjax.data import randaugment
except ImportError:  # machines with accelerators may have neither OpenCV nor Pillow
  cv2 = None
if TYPE_CHECKING:
  from PIL import Image

VALUES = {  # arguments of the operations at level 7
  'autocontrast': 0.0,
  'equalize': 0.0,
  'invert': 0.0,
  'rotate': 21.0,
  'posterize': 2.0,
  'solarize': 77.0,
  'solarize_add': 77.0,
  'color': 1.63,
  'contrast': 1.63,
  'brightness': 1.63,
  'sharpness': 1.63,
  'shear_x': 0.21,
  'shear_y': 0.21,
  'translate_x': 0.315,
  'translate_y': 0.315,
}


def by_pillow(
  image: Image.Image, name: str, value: float, resample: int | None = None
) -> Image.Image:
  """Applies an operation as timm does, to one Pillow image. resample: of moves, None = bicubic."""
  from PIL import Image, ImageEnhance, ImageOps

  resample = Image.Resampling.BICUBIC if resample is None else resample
  geometry = {'resample': resample, 'fillcolor': (128, 128, 128)}
  affine = lambda *m: image.transform(image.size, Image.Transform.AFFINE, m, **geometry)
  return {
    'autocontrast': lambda: ImageOps.autocontrast(image),
    'equalize': lambda: ImageOps.equalize(image),
    'invert': lambda: ImageOps.invert(image),
    'rotate': lambda: image.rotate(value, **geometry),
    'posterize': lambda: ImageOps.posterize(image, int(value)),
    'solarize': lambda: ImageOps.solarize(image, int(value)),
    'solarize_add': lambda: image.point(
      [min(255, i + int(value)) if i < 128 else i for i in range(256)] * 3
    ),
    'color': lambda: ImageEnhance.Color(image).enhance(value),
    'contrast': lambda: ImageEnhance.Contrast(image).enhance(value),
    'brightness': lambda: ImageEnhance.Brightness(image).enhance(value),
    'sharpness': lambda: ImageEnhance.Sharpness(image).enhance(value),
    'shear_x': lambda: affine(1, value, 0, 0, 1, 0),
    'shear_y': lambda: affine(1, 0, 0, value, 1, 0),
    'translate_x': lambda: affine(1, 0, value * image.size[0], 0, 1, 0),
    'translate_y': lambda: affine(1, 0, 0, 0, 1, value * image.size[1]),
    'identity': lambda: image,
  }[name]()


def milliseconds(function: Callable[[Any], object], clip: Iterable) -> float:
  """Shortest time of five in which `function` was applied to all frames."""
  times = []
  for _ in range(5):
    began = time.perf_counter()
    for frame in clip:
      function(frame)
    times.append(time.perf_counter() - began)
  return 1e3 * min(times)


def host(clip: np.ndarray) -> None:
  """Prints a row for every operation: OpenCV's and Pillow's."""
  from PIL import Image

  print('operation        ours  Pillow  ratio')
  sums = np.zeros(2)
  for name, value in VALUES.items():
    ours = milliseconds(lambda x: randaugment.apply(x, name, value), clip)  # noqa: B023
    pillow = lambda x: np.asarray(by_pillow(Image.fromarray(x), name, value))  # noqa: B023
    theirs = milliseconds(pillow, clip)
    sums += ours, theirs
    print(f'{name:14}{ours:7.2f}{theirs:8.2f}{theirs / ours:7.2f}', flush=True)
  print(f'{"sum":14}{sums[0]:7.2f}{sums[1]:8.2f}{sums[1] / sums[0]:7.2f}')


def device(clip: np.ndarray, clips: int) -> None:
  """Prints a row for every operation on the device of JAX, of a batch of `clips`, and on one core
  of the host where OpenCV is installed. Erasing is of a crop of 224 px, with a quarter of it new."""
  frames, height, width, _ = clip.shape
  video = jax.device_put(np.repeat(clip[None], clips, 0))
  size = jnp.tile(jnp.array([height, width], jnp.int32), (clips, 1))
  augment = jax.jit(device_augment.rand_augment)

  def there(function: Callable, *args) -> float:
    jax.block_until_ready(function(*args))
    run = lambda _: jax.block_until_ready(function(*args))
    return milliseconds(run, range(1)) / clips

  print(f'{jax.devices()[0].device_kind}, {clips} clips a batch; ms a clip')
  print('operation        host  device  ratio')
  rows = []
  for name, value in {**VALUES, 'identity': 0.0}.items():
    op = jnp.full((clips, 1), RAND_AUGMENT.index(name), jnp.int32)
    found = there(augment, video, size, op, jnp.full((clips, 1), value))
    ours = milliseconds(lambda x: randaugment.apply(x, name, value), clip) if cv2 else math.nan  # noqa: B023
    rows.append((name, ours, found))
    _row(*rows[-1])
  # Every operation is drawn equally often, and applied half the time.
  of_one = [(np.mean(column[:-1]) + column[-1]) / 2 for column in list(zip(*rows))[1:]]
  _row('two, as drawn', *(2 * ms for ms in of_one))
  crops = jnp.zeros((clips, frames, 224, 224, 3))
  boxes = jnp.tile(jnp.array([9, 9, 112, 112], jnp.int32), (clips, 1))
  found = there(jax.jit(device_augment.erase), crops, boxes, jnp.ones((clips, 2), jnp.int32))
  fill = lambda t: augments._noise(np.array([1, 2]), t, 112, 112)
  _row('erasing', milliseconds(fill, range(frames)) if cv2 else math.nan, found)


def _row(name: str, ours: float, found: float) -> None:
  print(f'{name:14}{ours:7.2f}{found:8.2f}{ours / found:7.2f}', flush=True)


def main() -> None:
  """Prints a row for every operation."""
  parser = argparse.ArgumentParser(description='Cost of RandAugment.')
  parser.add_argument('--device', action='store_true', help="beside JAX's device, 256x340 px")
  parser.add_argument('--clips', type=int, default=4, help='of a batch on the device')
  args = parser.parse_args()
  shape = (16, 256, 340, 3) if args.device else (16, 224, 224, 3)
  clip = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
  if cv2:
    cv2.setNumThreads(1)
    clip = np.stack([cv2.GaussianBlur(frame, (9, 9), 3) for frame in clip])
  if args.device:
    device(clip, args.clips)
  elif cv2:
    host(clip)
  else:
    parser.error('OpenCV is not installed here: install it and Pillow, or give --device')


if __name__ == '__main__':
  main()
