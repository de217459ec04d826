"""3D convolution: one meaning, several formulations; `kernels/table.py` says which one a backend
uses.

XLA's 3D convolutions are slow on CPUs, their gradients with strides or groups by two orders of
magnitude, while its 2D convolutions, matrix products and fused elementwise code are near the
machine's peak. `benchmarks/conv.py` measures all formulations on the machine it runs on.
"""

import contextlib
import contextvars
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vjax.kernels import table

Triple = tuple[int, int, int]
LARGE = 784  # pixels of a frame, 28 x 28: from here on gradients of CPUs go frame by frame
_forced: contextvars.ContextVar[str | None] = contextvars.ContextVar('formulation', default=None)


@contextlib.contextmanager
def formulation(name: str):
  """Makes every conv3d traced inside use one formulation; 'lax' shows the meant arithmetic to those
  who count it. Functions that were jitted and traced before keep what they have."""
  if name not in FORMULATIONS:
    raise ValueError(f'no formulation {name!r}; there are: {", ".join(FORMULATIONS)}')
  token = _forced.set(name)
  try:
    yield
  finally:
    _forced.reset(token)


def as_written() -> bool:
  """True inside `formulation('lax')`: counting multiply-adds needs the graph as written."""
  return _forced.get() == 'lax'


def conv3d(
  x: Float[Array, 'b t h w c'],
  kernel: Float[Array, 'i j k e d'],
  strides: Triple = (1, 1, 1),
  padding: Triple = (0, 0, 0),
  dilation: Triple = (1, 1, 1),
  groups: int = 1,
) -> Float[Array, 'b u v z d']:
  """x correlated with kernel (kT, kH, kW, C / groups, D), zeros beyond the edges; padding counts
  zeros per side.

  Raises ValueError for 'SAME' and 'VALID': XLA pads even sizes unevenly under a stride, published
  models evenly.
  """
  if isinstance(padding, str) or len(padding) != 3:
    raise ValueError(
      f'padding={padding!r}: give three integers, zeros on each side of (time, height, width)'
    )
  name = _forced.get() or table.chosen(kind(kernel.shape, x.shape[-1], groups))
  return FORMULATIONS[name](x, kernel, strides, padding, dilation, groups)


def kind(kernel: tuple[int, ...], channels: int, groups: int) -> str:
  """'depthwise', 'grouped', 'pointwise', 'spatial', 'temporal' or 'full', of a kernel's shape."""
  if groups > 1:
    return 'depthwise' if groups == channels == kernel[-1] else 'grouped'
  if kernel[:3] == (1, 1, 1):
    return 'pointwise'
  if kernel[0] == 1:
    return 'spatial'
  return 'temporal' if kernel[1:3] == (1, 1) else 'full'


def _lax(x, kernel, strides, padding, dilation, groups):
  """The reference: one XLA convolution of three spatial dimensions."""
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    [(p, p) for p in padding],
    rhs_dilation=dilation,
    dimension_numbers=('NDHWC', 'DHWIO', 'NDHWC'),
    feature_group_count=groups,
  )


def _shifted(x, kernel, strides, padding, dilation, groups):
  """Depthwise: the sum over kernel positions of the shifted clip times one weight per channel,
  fused by XLA."""
  if kind(kernel.shape, x.shape[-1], groups) != 'depthwise':
    return _lax(x, kernel, strides, padding, dilation, groups)
  sizes = [
    _size(n, k, s, p, d)
    for n, k, s, p, d in zip(x.shape[1:4], kernel.shape, strides, padding, dilation)
  ]
  wide = jnp.promote_types(
    jnp.float32, x.dtype
  )  # a convolution too adds bfloat16 products in float32
  padded = _pad(x, padding).astype(wide)
  total: Any = 0
  for tap in itertools.product(*(range(k) for k in kernel.shape[:3])):
    shifted = padded
    for axis, (i, n, s, d) in enumerate(zip(tap, sizes, strides, dilation), start=1):
      shifted = lax.slice_in_dim(shifted, i * d, i * d + (n - 1) * s + 1, s, axis)
    total = total + shifted * kernel[tap][0].astype(wide)
  return total.astype(x.dtype)


def _framed(x, kernel, strides, padding, dilation, groups):
  """Depthwise: the same sum, its gradients by hand: with respect to the clip the same sum again,
  with respect to a kernel through space frame by frame, so that a frame stays in the cache for all
  taps."""
  if (
    kind(kernel.shape, x.shape[-1], groups) != 'depthwise'
    or kernel.shape[1:3] == (1, 1)
    or dilation != (1, 1, 1)
  ):
    return _shifted(x, kernel, strides, padding, dilation, groups)
  return _depthwise(x, kernel, tuple(strides), tuple(padding))


def _product(x, kernel, strides, padding, dilation, groups):
  """1x1x1: a matrix product at the strided positions; XLA takes longer for the gradients of
  such a convolution, those of a strided 3D one above all."""
  if kernel.shape[:3] != (1, 1, 1) or groups > 1:
    return _lax(x, kernel, strides, padding, dilation, groups)
  x = _pad(x, padding)[:, :: strides[0], :: strides[1], :: strides[2]]
  return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0, 0]).reshape(*x.shape[:-1], -1)


def _folded(x, kernel, strides, padding, dilation, groups) -> Any:
  """1xkxk: a 2D convolution of single frames, time folded into the batch."""
  if kernel.shape[0] != 1:
    return _lax(x, kernel, strides, padding, dilation, groups)
  x = _pad(x, (padding[0], 0, 0))[:, :: strides[0]]
  y = _conv2d(
    x.reshape(-1, *x.shape[2:]), kernel[0], strides[1:], padding[1:], dilation[1:], groups
  )
  return y.reshape(*x.shape[:2], *y.shape[1:])


def _taps(x, kernel, strides, padding, dilation, groups):
  """kxkxk: the sum over time steps of the kernel of 2D convolutions of single frames."""
  frames = _size(x.shape[1], kernel.shape[0], strides[0], padding[0], dilation[0])
  x = _pad(x, (padding[0], 0, 0))
  total: Any = 0
  for i in range(kernel.shape[0]):
    shifted = lax.slice_in_dim(
      x, i * dilation[0], i * dilation[0] + (frames - 1) * strides[0] + 1, strides[0], 1
    )
    total = total + _folded(
      shifted, kernel[i : i + 1], (1, *strides[1:]), (0, *padding[1:]), (1, *dilation[1:]), groups
    )
  return total


def _flattened(x, kernel, strides, padding, dilation, groups) -> Any:
  """kx1x1: a kx1 convolution of an image whose rows are the frames; 3 times faster than anything
  with H and W."""
  if kernel.shape[1:3] != (1, 1):
    return _lax(x, kernel, strides, padding, dilation, groups)
  x = _pad(x, (0, *padding[1:]))[:, :, :: strides[1], :: strides[2]]
  rows = x.reshape(*x.shape[:2], -1, x.shape[-1])  # (B, T, H W, C)
  settings = ((strides[0], 1), (padding[0], 0), (dilation[0], 1))
  if groups == 1:
    y: Any = _rows(rows, kernel[:, 0], *settings)
  else:
    y = _plain2d(rows, kernel[:, 0], *settings, groups)
  return y.reshape(*y.shape[:2], *x.shape[2:4], y.shape[-1])


FORMULATIONS = dict(
  lax=_lax,
  shifted=_shifted,
  framed=_framed,
  product=_product,
  folded=_folded,
  flattened=_flattened,
  taps=_taps,
)


def _size(n: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
  return (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _pad(x, padding):
  return jnp.pad(x, ((0, 0), *((p, p) for p in padding), (0, 0))) if any(padding) else x


def _plain2d(x, kernel, strides, padding, dilation, groups=1):
  pads = [p if isinstance(p, tuple) else (p, p) for p in padding]
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    pads,
    rhs_dilation=dilation,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=groups,
  )


def _side_by_side(x, kernel, padding, dilation):
  """The stride-1 convolution of all images laid side by side in one long one, padding between them:
  for few channels twice as fast on CPUs, whose convolution prefers long rows."""
  n, h, w, c = x.shape
  reach = dilation[1] * (kernel.shape[1] - 1)
  x = jnp.pad(x, ((0, 0), (0, 0), (padding[1], padding[1]), (0, 0)))
  row = x.transpose(1, 0, 2, 3).reshape(1, h, -1, c)
  y = _plain2d(row, kernel, (1, 1), (padding[0], (0, reach)), dilation)
  y = y.reshape(y.shape[1], n, -1, y.shape[-1])[:, :, : w + 2 * padding[1] - reach]
  return y.transpose(1, 0, 2, 3)


def _fast2d(x, kernel, strides, padding, dilation):
  if strides == (1, 1) and min(kernel.shape[2:]) <= 64:
    return _side_by_side(x, kernel, padding, dilation)
  return _plain2d(x, kernel, strides, padding, dilation)


# Three gradients are written by hand, since what is fastest forwards is not what is fastest for the
# kernel's gradient. They cost forward-mode differentiation (`jax.jvp`); `formulation('lax')` has
# it.


def _conv2d(x, kernel, strides, padding, dilation, groups) -> Any:
  if groups == 1:
    return _images(x, kernel, tuple(strides), tuple(padding), tuple(dilation))
  return _plain2d(x, kernel, strides, padding, dilation, groups)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _images(x, kernel, strides, padding, dilation) -> Any:
  """2D convolution of images. The kernel's gradient is XLA's, a convolution whose kernel is dy,
  only up to 64 features: with more it takes up to four times as long as matrix products, which for
  large images go one by one."""
  return _fast2d(x, kernel, strides, padding, dilation)


def _images_backward(strides, padding, dilation, saved, dy):
  x, kernel = saved
  _, to_x = jax.vjp(lambda x: _fast2d(x, kernel, strides, padding, dilation), x)
  if strides == (1, 1) and dy.shape[-1] <= 64:
    _, to_kernel = jax.vjp(lambda kernel: _plain2d(x, kernel, strides, padding, dilation), kernel)
    return *to_x(dy), *to_kernel(dy)
  if dilation == (1, 1) and dy.shape[1] * dy.shape[2] >= LARGE:
    return *to_x(dy), _frame_by_frame(
      x[:, None], kernel[None], dy[:, None], (1, *strides), (0, *padding)
    )[0]
  return *to_x(dy), _to_kernel(x, kernel, dy, strides, padding, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _rows(x, kernel, strides, padding, dilation) -> Any:
  """kx1 convolution of (B, T, H W, C); the kernel's gradient by matrix products, for large frames
  one by one."""
  return _plain2d(x, kernel, strides, padding, dilation)


def _rows_backward(strides, padding, dilation, saved, dy):
  x, kernel = saved
  _, to_x = jax.vjp(lambda x: _plain2d(x, kernel, strides, padding, dilation), x)
  if dilation == (1, 1) and dy.shape[2] >= LARGE and x.shape[-1] <= 256:
    by_frame = _frame_by_frame(
      x[:, :, None], kernel[:, None], dy[:, :, None], (*strides, 1), (*padding, 0)
    )
    return *to_x(dy), by_frame[:, 0]
  return *to_x(dy), _to_kernel(x, kernel, dy, strides, padding, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x, kernel, strides, padding):
  """Depthwise convolution, its gradients as `_framed` says."""
  return _shifted(x, kernel, strides, padding, (1, 1, 1), x.shape[-1])


def _depthwise_backward(strides, padding, saved, dy):
  x, kernel = saved
  reach = [
    (k - 1 - p, n + p - (m - 1) * s - 1, s - 1)
    for k, p, n, m, s in zip(kernel.shape, padding, x.shape[1:4], dy.shape[1:4], strides)
  ]
  apart = lax.pad(dy, jnp.zeros((), dy.dtype), [(0, 0, 0), *reach, (0, 0, 0)])
  to_x = _shifted(apart, kernel[::-1, ::-1, ::-1], (1, 1, 1), (0, 0, 0), (1, 1, 1), x.shape[-1])
  return to_x, _frame_by_frame(x, kernel, dy, strides, padding)


def _frame_by_frame(x, kernel, dy, strides, padding):
  """Gradient of a convolution with respect to its kernel, frame by frame of dy, so that a frame
  stays in the cache for all taps: with a depthwise kernel, the sum over pixels of dy times what a
  tap sees; with a dense one a matrix product."""
  wide, x, (b, t, h, w, c) = jnp.promote_types(jnp.float32, x.dtype), _pad(x, padding), dy.shape
  size = (1, kernel.shape[0], *x.shape[2:])
  depthwise = kernel.shape[3:] == (1, x.shape[-1])

  def tap(seen, here):
    if depthwise:
      return (seen.astype(wide) * here.astype(wide)).sum((0, 1))
    return jnp.matmul(
      seen.reshape(h * w, -1).T, here.reshape(h * w, -1), preferred_element_type=wide
    )

  def add(total, i):
    here = lax.dynamic_slice(dy, (i // t, i % t, 0, 0, 0), (1, 1, h, w, c))[0, 0]
    seen = lax.dynamic_slice(x, (i // t, i % t * strides[0], 0, 0, 0), size)[0]
    sums = []
    for frame, row, column in itertools.product(*map(range, kernel.shape[:3])):
      shifted = lax.slice_in_dim(seen[frame], row, row + (h - 1) * strides[1] + 1, strides[1], 0)
      sums.append(
        tap(
          lax.slice_in_dim(shifted, column, column + (w - 1) * strides[2] + 1, strides[2], 1), here
        )
      )
    return total + jnp.stack(sums).reshape(kernel.shape), None

  total, _ = lax.scan(add, jnp.zeros(kernel.shape, wide), jnp.arange(b * t))
  return total.astype(kernel.dtype)


def _to_kernel(x, kernel, dy, strides, padding, dilation):
  """Gradient of a 2D convolution with respect to its kernel: one matrix product per tap."""
  x = jnp.pad(x, ((0, 0), *((p, p) for p in padding), (0, 0)))
  flat, taps = dy.reshape(-1, dy.shape[-1]), []
  for tap in itertools.product(*map(range, kernel.shape[:2])):
    shifted = x
    for axis, (i, n, s, d) in enumerate(zip(tap, dy.shape[1:3], strides, dilation), start=1):
      shifted = lax.slice_in_dim(shifted, i * d, i * d + (n - 1) * s + 1, s, axis)
    taps.append(shifted.reshape(-1, x.shape[-1]).T @ flat)
  return jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)


_depthwise.defvjp(
  lambda x, kernel, *settings: (_depthwise(x, kernel, *settings), (x, kernel)), _depthwise_backward
)
_images.defvjp(
  lambda x, kernel, *settings: (_images(x, kernel, *settings), (x, kernel)), _images_backward
)
_rows.defvjp(
  lambda x, kernel, *settings: (_rows(x, kernel, *settings), (x, kernel)), _rows_backward
)
