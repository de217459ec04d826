"""Classes that stand for what a PyTorch or Caffe2 file may name. All of them are inert.

A pickle calls what it names and sets the state of what it made. So whatever a file can reach here
is a built-in type, has a `__setstate__` that takes numbers only, or has one that does nothing.

Training scripts keep objects of their own beside the weights: configs, paths, histories of losses.
Any object of another package gets a `StandIn`, which forgets all it is given. The standard library,
NumPy and PyTorch are what a harmful file would call: of these only what ALLOWED lists is read.
"""

import re
import sys
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


class StandIn(Placeholder):
  """An object beside the weights: a config, a path, a history. It takes arguments, items and state,
  and keeps none, so that no array within it is read as a weight."""

  __slots__ = ()

  def _forget(self, *_):
    pass

  append = extend = add = update = __setitem__ = _forget


class OrderedDict(dict):
  """A state dict. Attributes such as `_metadata` are not kept: they could hide its methods."""

  __slots__ = ()
  __setstate__ = Placeholder.__setstate__


class DefaultDict(OrderedDict):
  """A dictionary without the function that makes its missing values."""

  __slots__ = ()

  def __init__(self, *_):
    super().__init__()


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
  """A NumPy number type, whose state is its byte order; None for text, dates, objects."""

  dtype: np.dtype | None

  def __setstate__(self, state):
    if self.dtype is not None and state[1] in ('<', '>'):
      self.dtype = self.dtype.newbyteorder(state[1])


@dataclass(slots=True, eq=False)
class Array(Placeholder):
  """A NumPy array, whose state is its shape, type and numbers. One of text, dates or objects keeps
  nothing."""

  numbers: np.ndarray | None = None
  numeric: bool = True

  def __setstate__(self, state):
    _, shape, dtype, fortran, data = state
    if isinstance(dtype, DType) and dtype.dtype is None:
      self.numbers, self.numeric = None, False
      return
    if isinstance(data, str):
      data = data.encode('latin1')  # written by Python 2
    if not isinstance(dtype, DType) or not isinstance(data, bytes):
      raise ValueError('a NumPy array in the file holds Python objects; only numbers are read')
    self.numbers = np.ndarray(shape, dtype.dtype, data, order='F' if fortran else 'C')
    if self.numbers.nbytes != len(data):
      raise ValueError(f'a NumPy array of shape {self.numbers.shape} brings {len(data)} bytes')

  def array(self) -> np.ndarray | None:
    """Returns the numbers, read-only; None for an array without state. Raises ValueError for an
    array of anything else."""
    if not self.numeric:
      raise ValueError(
        'the array is of text, dates, fields or Python objects; only numbers are read'
      )
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


def _rebuilt(function, kind, arguments, *_):
  """A tensor of a class of its own, or with attributes, as the tensor it is."""
  if not isinstance(function, Call):
    raise ValueError('a tensor in the file is made by something that is not read')
  return function(*arguments)


def _dtype(name, *_):
  return DType(np.dtype(name) if name in NUMPY_DTYPES else None)


def _scalar(dtype, data):
  scalar = Array()
  scalar.__setstate__((1, (), dtype, False, data))
  return scalar


def _frombuffer(data, dtype, shape, order='C', *_):
  """A NumPy array as pickles of protocol 5 hold it."""
  if not isinstance(data, (bytes, bytearray)):
    raise ValueError('a NumPy array in the file has its numbers elsewhere')
  array = Array()
  array.__setstate__((1, shape, dtype, order == 'F', bytes(data)))
  return array


def _getattr(owner, *_):
  """An attribute of an object beside the weights, such as a method."""
  if not (isinstance(owner, StandIn) or owner is StandIn):
    raise ValueError('the file asks for builtins.getattr, which will not be run')
  return StandIn


def _encode(text, encoding='latin1'):
  if encoding not in ('latin1', 'latin-1', 'iso-8859-1'):
    raise ValueError(f'bytes in the file are encoded as {say(encoding)}; only latin1 is read')
  return text.encode('latin1')


# What a file may name.
_BUILTINS = 'bool bytearray bytes complex dict float int list object range slice str tuple type'
_INERT = (  # of the standard library, NumPy and PyTorch
  *(f'{module}.{name}' for module in ('builtins', '__builtin__') for name in _BUILTINS.split()),
  '__builtin__.long', '__builtin__.unicode',
  'collections.Counter', 'collections.deque',
  'copyreg._reconstructor', 'copy_reg._reconstructor',
  'datetime.date', 'datetime.datetime', 'datetime.time', 'datetime.timedelta', 'datetime.timezone',
  'decimal.Decimal', 'fractions.Fraction', 'functools.partial', 'uuid.UUID', 'time.struct_time',
  *(f'{module}.{name}' for module in ('pathlib', 'pathlib._local')
    for name in ('Path', 'PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath')),
  're._compile', 'types.SimpleNamespace', 'zoneinfo.ZoneInfo',
  *(f'numpy.{name}' for name in (
    'bool', 'bool_', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64',
    'float16', 'float32', 'float64', 'str_', 'bytes_', 'datetime64', 'timedelta64',
  )),
  'numpy.random._pickle.__randomstate_ctor', 'numpy.random._pickle.__generator_ctor',
  'numpy.random._pickle.__bit_generator_ctor', 'numpy.random._mt19937.MT19937',
  'numpy.random._pcg64.PCG64',
  *(f'torch.{name}' for name in (
    'float16', 'float32', 'float64', 'bfloat16', 'int8', 'int16', 'int32', 'int64', 'uint8', 'bool',
    'strided', 'contiguous_format', 'channels_last', 'channels_last_3d',
  )),
)  # fmt: skip
ALLOWED = {
  **dict.fromkeys(_INERT, StandIn),
  'collections.OrderedDict': OrderedDict,
  'collections.defaultdict': DefaultDict,
  'builtins.set': set,
  '__builtin__.set': set,
  'builtins.frozenset': frozenset,
  '__builtin__.frozenset': frozenset,
  'builtins.getattr': Call(_getattr),
  '__builtin__.getattr': Call(_getattr),
  '_codecs.encode': Call(_encode),
  'argparse.Namespace': Placeholder,
  'numpy.ndarray': Placeholder,
  'numpy.dtype': Call(_dtype),
  'numpy.core.multiarray._reconstruct': Call(lambda *_: Array()),
  'numpy.core.multiarray.scalar': Call(_scalar),
  'numpy.core.numeric._frombuffer': Call(_frombuffer),
  'numpy._core.multiarray._reconstruct': Call(lambda *_: Array()),
  'numpy._core.multiarray.scalar': Call(_scalar),
  'numpy._core.numeric._frombuffer': Call(_frombuffer),
  'torch.Size': tuple,
  'torch.device': Placeholder,
  'torch.serialization._get_layout': Placeholder,
  'torch._tensor._rebuild_from_type_v2': Call(_rebuilt),
  'torch._utils._rebuild_tensor': Call(_tensor),
  'torch._utils._rebuild_tensor_v2': Call(_tensor),
  'torch._utils._rebuild_parameter': Call(lambda tensor, *_: tensor),
  'torch._utils._rebuild_parameter_with_state': Call(lambda tensor, *_: tensor),
  **{f'torch.{name}Storage': name for name in DTYPES},
  **{f'torch.cuda.{name}Storage': name for name in DTYPES},
}
# Packages of which nothing but the list above is read; the last are of Python 2.
_GUARDED = sys.stdlib_module_names | {'numpy', 'torch', '__builtin__', 'commands', 'copy_reg'}
_CLASSES = re.compile(
  r'torch\.(\w+\.)*[A-Z]\w*|numpy\.dtypes\.\w+DType'
)  # of these packages, inert


def stand_in(module: str, name: str) -> Any:
  """Returns the object that a name of a file stands for: an entry of ALLOWED, or StandIn for a
  class of another package; None for a name that is refused."""
  asked = f'{module}.{name}'
  if asked in ALLOWED:
    return ALLOWED[asked]
  foreign = module.partition('.')[0] not in _GUARDED
  return StandIn if foreign or _CLASSES.fullmatch(asked) else None
