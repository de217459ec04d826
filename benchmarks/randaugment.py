"""RandAugment's operations beside Pillow's: milliseconds for a clip of 16 frames of 224 px.

python -m benchmarks.randaugment
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from vjax.data import randaugment


def by_pillow(
  image: Image.Image, name: str, value: float, resample: int = Image.Resampling.BICUBIC
) -> Image.Image:
  """Applies an operation as timm does, to one Pillow image."""
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


def milliseconds(function: Callable[[np.ndarray], object], clip: np.ndarray) -> float:
  """Shortest time of five in which `function` was applied to all frames."""
  times = []
  for _ in range(5):
    began = time.perf_counter()
    for frame in clip:
      function(frame)
    times.append(time.perf_counter() - began)
  return 1e3 * min(times)


def main() -> None:
  """Prints a row for every operation."""
  cv2.setNumThreads(1)
  noise = np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3)).astype(np.uint8)
  clip = np.stack([cv2.GaussianBlur(frame, (9, 9), 3) for frame in noise])
  print('operation        ours  Pillow  ratio')
  sums = np.zeros(2)
  for name in randaugment.NAMES[:-1]:
    value = randaugment.argument(name, 7, 1)
    ours = milliseconds(lambda x: randaugment.apply(x, name, value), clip)  # noqa: B023
    pillow = lambda x: np.asarray(by_pillow(Image.fromarray(x), name, value))  # noqa: B023
    theirs = milliseconds(pillow, clip)
    sums += ours, theirs
    print(f'{name:14}{ours:7.2f}{theirs:8.2f}{theirs / ours:7.2f}', flush=True)
  print(f'{"sum":14}{sums[0]:7.2f}{sums[1]:8.2f}{sums[1] / sums[0]:7.2f}')


if __name__ == '__main__':
  main()
