"""Classes that stand for what a PyTorch or Caffe2 file may name. All of them are inert.

A pickle calls what it names and sets the state of what it made. So whatever a file can reach here
is a built-in type, has a `__setstate__` that takes numbers only, or has one that does nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

DTYPES = {
  'Double': np.float64,
  'Float': np.float32,
  'Half': np.float16,
  'BFloat16': ml_dtypes.bfloat16,
  'Long': np.int64,
  'Int': np.int32,
  'Short': np.int16,
  'Char': np.int8,
  'Byte': np.uint8,
  'Bool': np.bool_,
}
NUMPY_DTYPES = set('b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8'.split())


class Placeholder:
  """An object that is no array, such as argparse.Namespace. Its attributes are not kept.

  Setting the state of the class itself fails: `__setstate__` then lacks an argument.
  """

  __slots__ = ()

  def __init__(self, *_):
    pass

  def __setstate__(self, state):
    pass


class OrderedDict(dict):
  """A state dict. Attributes such as `_metadata` are not kept: they could hide its methods."""

  __slots__ = ()
  __setstate__ = Placeholder.__setstate__


class Call:
  """A function that a file may call. The function's attributes are out of reach."""

  __slots__ = ('_function',)

  def __init__(self, function: Callable):
    self._function = function

  def __call__(self, *arguments):
    return self._function(*arguments)

  def __setstate__(self, state):
    raise ValueError('the file sets attributes of a function')


@dataclass(slots=True, eq=False)
class Storage(Placeholder):
  """A flat run of numbers that tensors share. Legacy files bring the bytes after the tensors."""

  dtype: np.dtype
  count: int
  data: bytes | None = None


@dataclass(slots=True, eq=False)
class Tensor(Placeholder):
  """A view of a storage, with offset and stride in elements."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  stride: tuple[int, ...]

  def array(self) -> np.ndarray:
    """Returns the numbers, read-only. Raises ValueError if they do not fit into the storage."""
    storage, size = self.storage, self.storage.dtype.itemsize
    if storage.data is None:
      raise ValueError('the file ends before the numbers of the tensor')
    try:
      offset = 0 if 0 in self.shape else self.offset * size
      strides = [step * size for step in self.stride]
      array = np.ndarray(self.shape, storage.dtype, storage.data, offset, strides)
    except (TypeError, ValueError, OverflowError) as error:
      raise ValueError(f'the tensor leaves its storage of {storage.count}: {error}') from error
    if array.size > storage.count:  # a stride of 0 repeats elements
      raise ValueError(f'the tensor, of shape {array.shape}, leaves its storage of {storage.count}')
    return array


@dataclass(slots=True, eq=False)
class DType(Placeholder):
  """A NumPy number type, whose state is its byte order."""

  dtype: np.dtype

  def __setstate__(self, state):
    if state[1] in ('<', '>'):
      self.dtype = self.dtype.newbyteorder(state[1])


@dataclass(slots=True, eq=False)
class Array(Placeholder):
  """A NumPy array, whose state is its shape, type and numbers."""

  numbers: np.ndarray | None = None

  def __setstate__(self, state):
    _, shape, dtype, fortran, data = state
    if isinstance(data, str):
      data = data.encode('latin1')  # written by Python 2
    if not isinstance(dtype, DType) or not isinstance(data, bytes):
      raise ValueError('a NumPy array in the file holds Python objects; only numbers are read')
    self.numbers = np.ndarray(shape, dtype.dtype, data, order='F' if fortran else 'C')
    if self.numbers.nbytes != len(data):
      raise ValueError(f'a NumPy array of shape {self.numbers.shape} brings {len(data)} bytes')

  def array(self) -> np.ndarray | None:
    """Returns the numbers, read-only; None for an array without state."""
    return self.numbers


def say(value: Any) -> str:
  """Returns a short form for messages. Printed whole, nested and shared values can be endless."""
  short = value is None or isinstance(value, (str, bytes, float))
  short = short or (isinstance(value, int) and abs(value) < 2**63)
  return repr(value)[:80] if short else f'some {type(value).__name__}'


def _tensor(storage, offset, shape, stride, *_):
  if not isinstance(storage, Storage):
    raise ValueError('a tensor in the file has no storage')
  return Tensor(storage, offset, shape, stride)


def _dtype(name, *_):
  if name not in NUMPY_DTYPES:
    raise ValueError(f'a NumPy array in the file is of type {say(name)}; only numbers are read')
  return DType(np.dtype(name))


def _scalar(dtype, data):
  scalar = Array()
  scalar.__setstate__((1, (), dtype, False, data))
  return scalar


def _encode(text, encoding='latin1'):
  if encoding not in ('latin1', 'latin-1', 'iso-8859-1'):
    raise ValueError(f'bytes in the file are encoded as {say(encoding)}; only latin1 is read')
  return text.encode('latin1')


# What a file may name.
ALLOWED = {
  'collections.OrderedDict': OrderedDict,
  'builtins.set': set,
  '__builtin__.set': set,
  '_codecs.encode': Call(_encode),
  'argparse.Namespace': Placeholder,
  'numpy.ndarray': Placeholder,
  'numpy.dtype': Call(_dtype),
  'numpy.core.multiarray._reconstruct': Call(lambda *_: Array()),
  'numpy.core.multiarray.scalar': Call(_scalar),
  'numpy._core.multiarray._reconstruct': Call(lambda *_: Array()),
  'numpy._core.multiarray.scalar': Call(_scalar),
  'torch.Size': tuple,
  'torch.device': Placeholder,
  'torch.serialization._get_layout': Placeholder,
  'torch._utils._rebuild_tensor': Call(_tensor),
  'torch._utils._rebuild_tensor_v2': Call(_tensor),
  'torch._utils._rebuild_parameter': Call(lambda tensor, *_: tensor),
  **{f'torch.{name}Storage': name for name in DTYPES},
  **{f'torch.cuda.{name}Storage': name for name in DTYPES},
}
