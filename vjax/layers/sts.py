"""STS convolution: half of the output channels static (within a frame), half dynamic (through
time), with the parameters of the 3D convolution in its place.

(In Defense of Image Pre-Training for Spatiotemporal Recognition, ECCV 2022, sec. 3.3.)
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vjax.kernels.conv import Triple, conv3d
from vjax.layers.conv import HE

VARIANTS = ('sts', 'no_split', 'dilated', 'plain')


class STSConv(nn.Module):
  """A convolution over time, height and width as layers.conv.Conv3D. Its kernel (kT, k, k, C /
  groups, features) is divided: the first outputs are static, the rest an ordinary 3D convolution.

  Static outputs of a 3x3x3 kernel: the middle slice as a 2D convolution, plus the first slice as
  nine taps along rows, plus the last slice as nine taps along columns. Static outputs of a 3x1x1 or
  5x1x1 kernel: its taps along rows for the first half of the outputs, along columns for the second.

  Attributes:
    strides: (time, space, space); static outputs take every time-th frame.
    ratio: static to dynamic parts.
    variant: 'sts'; 'no_split': static outputs use the middle slice alone (table 10); 'dilated':
      first and last slice are 2D convolutions of `dilation` (app. B.2); 'plain': no static part.
    dilation: of the variant 'dilated'.
    lines: 'flat': rows and columns are laid end to end, so that taps at an edge read the next line,
      as released; 'aligned': each line by itself, padded with zeros.
  """

  features: int
  kernel: Triple
  strides: Triple = (1, 1, 1)
  groups: int = 1
  ratio: tuple[int, int] = (1, 1)
  variant: str = 'sts'
  dilation: int = 2
  lines: str = 'flat'
  dtype: Any = jnp.float32
  kernel_init: Any = HE

  @nn.compact
  def __call__(self, x: Float[Array, 'b t h w c']) -> Float[Array, 'b u v z d']:
    """Returns [static, dynamic] along the channels.

    Raises ValueError for kernels, groups and sizes that cannot be divided.
    """
    self._check(x.shape)
    shape = (*self.kernel, x.shape[-1] // self.groups, self.features)
    kernel = jnp.asarray(self.param('kernel', self.kernel_init, shape, jnp.float32), self.dtype)
    x, padding = x.astype(self.dtype), tuple(k // 2 for k in self.kernel)
    static = 0 if self.variant == 'plain' else static_width(self.features, self.ratio)
    if not static:
      return conv3d(x, kernel, self.strides, padding, groups=self.groups)
    still, moving, groups = x, x, (1, 1)
    if (
      self.groups > 1
    ):  # an output depends on the inputs of its group: inputs are divided as outputs are
      first = self.groups * static // self.features
      groups = (first, self.groups - first)
      still, moving = jnp.split(x, [x.shape[-1] * first // self.groups], axis=-1)
    dynamic = conv3d(moving, kernel[..., static:], self.strides, padding, groups=groups[1])
    still = still[:, :: self.strides[0]]
    parts = self._pixels if self.kernel[1:] == (1, 1) else self._patches
    return jnp.concatenate([parts(still, kernel[..., :static], groups[0]), dynamic], axis=-1)

  def _patches(self, x, kernel, groups: int):
    """Returns the static outputs of a 3x3x3 kernel."""
    s = self.strides[1]
    still = lambda slice_, dilation: conv3d(
      x,
      kernel[slice_ : slice_ + 1],
      (1, s, s),
      (0, dilation, dilation),
      (1, dilation, dilation),
      groups,
    )
    if self.variant == 'no_split':
      return still(1, 1)
    if self.variant == 'dilated':
      return still(1, 1) + still(0, self.dilation) + still(2, self.dilation)
    taps = kernel.shape[1] * kernel.shape[2]
    line = lambda slice_: kernel[slice_].reshape(taps, *kernel.shape[3:])
    along_rows = _along(x, line(0), s, groups, self.lines)
    along_columns = _along(x.swapaxes(2, 3), line(2), s, groups, self.lines).swapaxes(2, 3)
    return still(1, 1) + along_rows + along_columns

  def _pixels(self, x, kernel, groups: int):
    """Returns the static outputs of a kx1x1 kernel."""
    if self.variant == 'no_split':
      middle = self.kernel[0] // 2
      return conv3d(x, kernel[middle : middle + 1], groups=groups)
    half, line = kernel.shape[-1] // 2, kernel[:, 0, 0]
    if not half:  # a single static output, in a tiny network: taps along columns
      return _along(x.swapaxes(2, 3), line, 1, groups, self.lines).swapaxes(2, 3)
    along_rows = _along(x, line[..., :half], 1, groups, self.lines)
    along_columns = _along(x.swapaxes(2, 3), line[..., half:], 1, groups, self.lines).swapaxes(2, 3)
    return jnp.concatenate([along_rows, along_columns], axis=-1)

  def _check(self, shape) -> None:
    if self.kernel != (3, 3, 3) and (self.kernel[1:] != (1, 1) or self.kernel[0] % 2 == 0):
      raise ValueError(f'kernel={self.kernel}: STS shares out 3x3x3, and kx1x1 of an odd k')
    if self.variant not in VARIANTS or self.lines not in ('flat', 'aligned'):
      raise ValueError(
        f"variant={self.variant!r}, lines={self.lines!r}; there are {VARIANTS} and 'flat', "
        "'aligned'"
      )
    if min(self.ratio) < 0 or self.ratio[1] == 0:
      raise ValueError(
        f'ratio={self.ratio}: give the shares of static and dynamic outputs, the second at least 1'
      )
    static, s = static_width(self.features, self.ratio), self.strides[1]
    if self.groups > 1 and (self.groups * static) % self.features:
      raise ValueError(
        f'groups={self.groups}: {static} of {self.features} static outputs end inside a group'
      )
    if self.kernel[1:] == (1, 1) and (s != 1 or self.groups > 1 or self.variant == 'dilated'):
      raise ValueError(f'kernel={self.kernel}: needs spatial stride 1, one group, and no dilation')
    if self.lines == 'flat' and self.variant == 'sts' and (shape[2] % s or shape[3] % s):
      raise ValueError(
        f'frames are {shape[2]}x{shape[3]}, which stride {s} does not divide: laid end to end, '
        'lines of them do not make '
        f"a picture again. Choose another crop, or lines='aligned'"
      )


def static_width(features: int, ratio: tuple[int, int]) -> int:
  """Returns the number of static outputs among `features`: half of them, or another share, rounded
  down to an even number."""
  return features // 2 if ratio[0] == ratio[1] else features * ratio[0] // sum(ratio) // 2 * 2


def _along(x, taps, stride: int, groups: int, lines: str):
  """Convolves along the rows of every frame (B, T, H, W, C) with taps (k, C / groups, D)."""
  b, t, h, w, _ = x.shape
  kernel, reach = taps[None, None], taps.shape[0] // 2
  if lines == 'aligned':
    return conv3d(x, kernel, (1, stride, stride), (0, 0, reach), groups=groups)
  end_to_end = x.reshape(b, t, 1, h * w, -1)
  y = conv3d(end_to_end, kernel, (1, 1, stride * stride), (0, 0, reach), groups=groups)
  return y.reshape(b, t, h // stride, w // stride, -1)


def static_outputs(net: nn.Module, video: Any) -> dict[str, int]:
  """Returns {name of a kernel in params: number of its static outputs, which come first} for every
  STS convolution of a network, for `inflate.reweight`.

  video: clips (B, T, H, W, C), or their shapes; nothing is computed.
  """
  found = {}

  def note(call, args, kwargs, context):
    layer = context.module
    if (
      isinstance(layer, STSConv) and context.method_name == '__call__' and layer.variant != 'plain'
    ):
      found['/'.join([*layer.path, 'kernel'])] = static_width(layer.features, layer.ratio)
    return call(*args, **kwargs)

  with nn.intercept_methods(note):
    jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), video)
  return found
