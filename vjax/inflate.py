"""From image networks to video networks and back: kernels of one frame become kernels of several,
and slices of those become image networks.

Variables are those of `VideoModel` or of a backbone. Kernels have five axes (T, H, W, I, O) here,
also those of image networks, whose T is 1.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from vjax import tree

MODES = {
  'mean': 'every frame gets the kernel, divided by their number: a still clip is answered like its '
  'picture, but for the '
  'first and last frames (Carreira & Zisserman 2017; PySlowFast)',
  'repeat': 'every frame gets the whole kernel, which BatchNorm must learn to undo (Chen et al. '
  '2021): never evaluate '
  'such a network before it has seen training batches',
  'center': 'the middle frame gets it, the others zero: every frame is answered like a picture (Li '
  'et al. 2022, table 9)',
}


def inflate(
  kernel: Float[np.ndarray, 't h w i o'], frames: int, mode: str | Sequence[float] = 'mean'
) -> Float[np.ndarray, 'u h w i o']:
  """The kernel of a frame (1, H, W, I, O) for `frames` of them.

  mode: one of MODES, or the factor of every frame, e.g. (1/9, 1/3, 1/9); kernels of another length
  are then centered. Raises ValueError for a kernel that already looks through time, an even number
  of frames with 'center', or an unknown mode.
  """
  kernel = np.asarray(kernel)
  if kernel.ndim != 5 or kernel.shape[0] != 1:
    raise ValueError(
      f'kernel has shape {kernel.shape}: only one of a single frame, (1, H, W, I, O), can be '
      'inflated'
    )
  if isinstance(mode, str) and mode not in MODES:
    raise ValueError(
      f'mode={mode!r}: it must be one of {", ".join(MODES)}, or the factors of the frames'
    )
  if mode == 'mean' or mode == 'repeat':
    return np.repeat(kernel / frames if mode == 'mean' else kernel, frames, axis=0)
  if isinstance(mode, str) or len(mode) != frames:
    if frames % 2 == 0:
      raise ValueError(f'mode={mode!r}: {frames} frames have no middle one')
    mode = [float(i == frames // 2) for i in range(frames)]
  return kernel * np.asarray(mode, kernel.dtype)[:, None, None, None, None]


def fits(old: tuple[int, ...], shape: tuple[int, ...]) -> bool:
  """Returns whether a kernel of shape `old` looks at one frame of one of `shape`, or has fewer
  inputs and is else the same."""
  same = len(old) == len(shape) == 5 and (*old[1:3], old[4]) == (*shape[1:3], shape[4])
  return same and old[3] <= shape[3] and old[0] in (1, shape[0])


def fit(
  name: str,
  old: Float[np.ndarray, 't h w i o'],
  shape: tuple[int, ...],
  mode: str | Sequence[float] = 'mean',
) -> Float[np.ndarray, 'u h w j o']:
  """The kernel `old` of an image network for `shape`: inflated, with zeros for the inputs that
  `shape` has besides, which come last (SlowFast's laterals). Raises ValueError where it does not
  fit."""
  old = np.asarray(old)
  if not fits(old.shape, shape):
    raise ValueError(
      f'{name}: {old.shape} is not the kernel of a frame of {shape}, up to more inputs'
    )
  wide = np.pad(old, [(0, 0)] * 3 + [(0, shape[3] - old.shape[3]), (0, 0)])
  return wide if old.shape[0] == shape[0] else inflate(wide, shape[0], mode)


def temporal_slice(variables: Mapping[str, Any], index: int) -> dict[str, Any]:
  """The image network that slice `index` (0 earlier, 1 middle, 2 later) of every kernel through
  time makes: of three frames one; of more the middle one and its neighbors. Kernels have one
  frame, names stay. (Li et al. 2022, table 1.)

  Raises ValueError for another index or a kernel of two frames.
  """
  if index not in (0, 1, 2):
    raise ValueError(f'index={index}: there are 0, 1 and 2, before, at and after the middle')

  def cut(name, array):
    array = np.asarray(array)
    if not _through_time(name, array):
      return array
    frames = array.shape[0]
    if frames < 3:
      raise ValueError(f'{name}: {frames} frames have no slice before, at and after a middle one')
    at = frames // 2 + index - 1
    return array[at : at + 1]

  return tree.map_named(cut, variables)


def in_the_middle(variables: Mapping[str, Any], index: int) -> dict[str, Any]:
  """Puts the slices of `temporal_slice` back into kernels through time: in the middle, zero
  elsewhere. So networks that no image network has the shape of (CSN, R(2+1)D, X3D) answer images by
  one slice, as clips of one frame.

  Raises ValueError as `temporal_slice`.
  """
  slices = tree.flatten(temporal_slice(variables, index))

  def put(name, array):
    array = np.asarray(array)
    if not _through_time(name, array):
      return array
    return inflate(slices[name], len(array), 'center')

  return tree.map_named(put, variables)


def reweight(
  variables: Mapping[str, Any],
  rates: Sequence[float] = (0, 1, 0),
  static: Mapping[str, int] | None = None,
) -> dict[str, Any]:
  """Makes kernels of three frames of their middle slice times `rates`, e.g.
  (1/9, 1/3, 1/9); longer ones keep their middle slice alone. So a network trained on pictures,
  whose side slices learnt nothing, becomes one for clips. (Li et al. 2022, table 9.)

  static: {name: number of first outputs whose side slices stay as they are}, for STS networks,
  where those look along rows and columns instead; see layers.sts.static_outputs. Raises ValueError
  for other than three rates.
  """
  if len(rates) != 3:
    raise ValueError(
      f'rates={tuple(rates)}: give three, of the slices before, at and after the middle'
    )
  static = static or {}

  def spread(name, array):
    array = np.asarray(array)
    if not _through_time(name, array):
      return array
    frames, keep = array.shape[0], static.get(name.removeprefix('params/'), 0)
    middle = array[frames // 2]
    found = np.zeros_like(array)
    for i, rate in enumerate(
      rates if frames == 3 else [float(i == frames // 2) for i in range(frames)]
    ):
      found[i] = rate * middle
    found[..., :keep] = array[..., :keep]
    return found

  return tree.map_named(spread, variables)


def middle_only(
  variables: Mapping[str, Any], static: Mapping[str, int] | None = None
) -> dict[str, Any]:
  """Sets to zero all but the middle slice of every kernel through time: each
  frame is answered by itself. static: see `reweight`."""
  return reweight(variables, (0, 1, 0), static)


def renames(old: Collection[str], wanted: Collection[str]) -> dict[str, str]:
  """{name in an image ResNet: name in the video network that has the names `wanted`}, for names of
  parameters or statistics.

  A convolution that is split there goes to its spatial half, and its norm to the one between the
  halves, so that the norm behind both starts anew (as Chen et al. 2021 released it); what a network
  of two pathways has twice goes to the slow one (Feichtenhofer et al. 2019). All else keeps its
  name, and so does everything of a network that is itself of the kind.
  """
  old, wanted, found = set(old), set(wanted), {}
  for name in old:
    slow = re.sub(r'(^|/)(stem|res\d)/', r'\1slow_\2/', name)
    halves = [
      re.sub(
        r'/norm(\d)/(\w+)$',
        r'/conv\1/norm/\2',
        re.sub(r'/conv(\d)/kernel$', r'/conv\1/spatial/kernel', n),
      )
      for n in (name, slow)
    ]
    others = [n for n in (*halves, slow) if n != name and n in wanted and n not in old]
    found[name] = others[0] if others else name
  return found


def _through_time(name: str, array: np.ndarray) -> bool:
  return name.endswith('/kernel') and array.ndim == 5 and array.shape[0] > 1
