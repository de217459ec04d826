"""Files are read without PyTorch, and nothing inside them runs."""

import argparse
import collections
import datetime
import functools
import os
import pathlib
import pickle
import re
import sys
import types
import zipfile

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.convert.torch_files import Standins, Stored
from vjax.convert import _read


@pytest.fixture
def standins(monkeypatch):
  return Standins(monkeypatch)


def state():
  """A state dict of views on shared storages, several types, and what trainers put beside it."""
  flat = np.arange(24, dtype=np.float32)
  tensors = collections.OrderedDict(
    whole=Stored(flat, 0, (2, 3, 4), (12, 4, 1)),
    transposed=Stored(flat, 0, (4, 6), (1, 4)),
    part=Stored(flat, 7, (3,), (2,)),
    half=Stored(np.array([0.5, -2], np.float16), 0, (2,), (1,), 'Half'),
    brain=Stored(np.array([0.5, -2], ml_dtypes.bfloat16), 0, (2,), (1,), 'BFloat16'),
    counter=Stored(np.array([7], np.int64), 0, (), (), 'Long'),
    empty=Stored(np.zeros(0, np.float32), 0, (0, 3), (3, 1)),
  )
  tensors._metadata = {'version': 1}
  beside = dict(
    epoch=3,
    best=np.float64(0.5),
    args=argparse.Namespace(lr=0.1),
    optimizer={'state': {0: {'step': 1}}},
  )
  return {'model': {'state_dict': tensors}, **beside}, flat


@pytest.mark.parametrize('legacy', [False, True])
def test_both_formats_with_shared_storages_strides_and_types(tmp_path, standins, legacy):
  content, flat = state()
  path = str(tmp_path / 'weights.pth')
  (standins.save_legacy if legacy else standins.save)(path, content)
  found = _read.tensors(path)
  np.testing.assert_array_equal(found['whole'], flat.reshape(2, 3, 4))
  np.testing.assert_array_equal(found['transposed'], flat.reshape(6, 4).T)
  np.testing.assert_array_equal(found['part'], [7, 9, 11])
  assert found['half'].dtype == np.float16 and found['brain'].dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(found['brain'].astype(np.float32), [0.5, -2])
  assert found['counter'] == 7 and found['counter'].shape == () and found['empty'].shape == (0, 3)


class Command:
  def __init__(self, target):
    self.target = target

  def __reduce__(self):
    return os.system, (f'touch {self.target}',)


@pytest.mark.parametrize('kind', ['zip', 'legacy', 'pickle'])
def test_code_is_refused_by_name_and_does_not_run(tmp_path, standins, kind):
  path, target = str(tmp_path / 'weights.pth'), tmp_path / 'ran'
  content = {
    'state_dict': {'a': Stored(np.zeros(2, np.float32), 0, (2,), (1,))},
    'args': Command(target),
  }
  if kind == 'pickle':
    path = str(tmp_path / 'weights.pkl')
    with open(path, 'wb') as file:
      pickle.dump({'blobs': {}, 'args': Command(target)}, file)
  else:
    (standins.save if kind == 'zip' else standins.save_legacy)(path, content)
  with pytest.raises(ValueError, match=r'posix.system, which is not a tensor'):
    _read.tensors(path)
  assert not target.exists()


@pytest.fixture
def mmengine(monkeypatch):
  """Classes as MMEngine and yacs have them, under their names."""
  history, config, yacs = (types.ModuleType(name) for name in FOREIGN)

  class HistoryBuffer:
    """Pickled with a method of its class, by getattr."""

    def __init__(self):
      self.history, self.methods = np.arange(3.0), {'mean': HistoryBuffer.mean}

    def mean(self):
      raise AssertionError('only named, never called')

  history.HistoryBuffer = HistoryBuffer
  config.ConfigDict, yacs.CfgNode = type('ConfigDict', (dict,), {}), type('CfgNode', (dict,), {})
  found = {}
  for module, name in ((history, 'HistoryBuffer'), (config, 'ConfigDict'), (yacs, 'CfgNode')):
    kind = found[name] = getattr(module, name)
    kind.__module__, kind.__qualname__ = module.__name__, name
    parts = module.__name__.split('.')
    for n in range(1, len(parts)):
      parent = '.'.join(parts[:n])
      monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, module.__name__, module)
  HistoryBuffer.mean.__module__ = history.__name__
  HistoryBuffer.mean.__qualname__ = 'HistoryBuffer.mean'
  return types.SimpleNamespace(**found)


FOREIGN = ('mmengine.logging.history_buffer', 'mmengine.config.config', 'yacs.config')


def beside(kinds) -> dict[str, object]:
  """Objects that trainings of MMEngine and PySlowFast put beside the weights."""
  node = kinds.CfgNode(lr=0.1)
  node.frozen = True  # a dictionary with attributes
  counts = collections.defaultdict(list)
  counts['epoch'].append(3)
  return {
    'message_hub': {'log_scalars': {'loss': kinds.HistoryBuffer()}},
    'cfg': kinds.ConfigDict(model=kinds.ConfigDict(type='R50'), pipeline=[node]),
    'work_dir': pathlib.PosixPath('runs/a'),
    'counts': counts,
    'time': datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
    'dtypes': [np.dtype('float32'), np.float64, np.dtype('O'), np.dtype('U5')],
    'names': np.array(['walk', 'run']),
    'objects': np.array([None, 'a'], object),
    'name': np.str_('walk'),
    'when': np.datetime64('2024-01-02'),
    'types': [int, dict, type(None)],
    'sets': [frozenset([1]), collections.deque([1], maxlen=3), collections.Counter('ab')],
    'space': types.SimpleNamespace(a=1),
    'slice': slice(1, 2),
    'complex': 1j,
    'partial': functools.partial(kinds.ConfigDict, a=1),
  }


@pytest.mark.parametrize('kind', ['zip', 'legacy', 0, 2, 4, 5])
def test_objects_beside_the_weights_do_not_matter(kind, tmp_path, standins, mmengine, monkeypatch):
  """Of both formats of PyTorch, and of plain pickles."""
  path, flat = tmp_path / 'weights.pth', np.arange(6, dtype=np.float32)
  if kind in ('zip', 'legacy'):
    content = {'state_dict': {'a': Stored(flat, 0, (2, 3), (3, 1))}, **beside(mmengine)}
    (standins.save if kind == 'zip' else standins.save_legacy)(path, content)
  else:
    content = {'state_dict': {'a': flat.reshape(2, 3)}, **beside(mmengine)}
    path.write_bytes(pickle.dumps(content, protocol=kind))
  for name in FOREIGN:
    monkeypatch.delitem(sys.modules, name)  # nothing of the file may import
  found = _read.read(path)
  assert list(found.tensors) == ['a'] and found.section == 'state_dict' and found.others == ()
  np.testing.assert_array_equal(found.tensors['a'], flat.reshape(2, 3))
  assert not set(FOREIGN) & set(sys.modules)


def test_objects_in_place_of_weights_are_named(tmp_path, mmengine):
  path = tmp_path / 'weights.pth'
  for content, message in (
    ({'state_dict': {'a': mmengine.HistoryBuffer()}}, "'a' is a StandIn, not an array of numbers"),
    ({'state_dict': {'a': np.array(['b'])}}, 'text, dates, fields or Python objects; only numbers'),
    (mmengine.HistoryBuffer(), r'no weights found: the file holds a StandIn.*model.state_dict\(\)'),
    ({'model': mmengine.HistoryBuffer()}, "'model' is a StandIn, not an array of numbers"),
  ):
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=f'weights.pth: .*{message}'):
      _read.tensors(path)


@pytest.mark.parametrize(
  'name',
  [
    'builtins.eval', 'builtins.__import__', 'os.system', 'os.popen', 'subprocess.Popen', 'nt.system',
    'importlib.import_module', 'shutil.rmtree', 'runpy.run_path', 'operator.attrgetter',
    'torch.load', 'torch.hub.load', 'torch.jit.load', 'numpy.load', 'numpy.f2py.crackfortran.myeval',
    'collections.namedtuple', 'pathlib.os', '__builtin__.execfile', 'commands.getoutput',
  ],
)  # fmt: skip
def test_what_a_harmful_file_would_call_is_refused_beside_weights_too(name, tmp_path):
  module, _, attribute = name.rpartition('.')
  call = f'c{module}\n{attribute}\n(S"x"\ntR'.encode()
  path = tmp_path / 'weights.pth'
  path.write_bytes(b'}(S"state_dict"\n}S"a"\nI1\nsS"cfg"\n' + call + b'u.')
  with pytest.raises(
    ValueError, match=f'asks for {re.escape(name)}, which is not a tensor and will'
  ):
    _read.tensors(path)


LFS = 'version https://git-lfs.github.com/spec/v1\noid sha256:0d71\nsize 132822003\n'
DOWNLOADS = {  # file -> content, what is said
  'page.pth': (
    '<!DOCTYPE html><html><head><title>Quota exceeded</title></head></html>',
    r"is a web page \('Quota exceeded'\) .*download the file itself",
  ),
  'page.safetensors': ('\n<html>', 'is a web page .*browser'),
  'error.pkl': ('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', 'is a web page'),
  'lfs.pth': (LFS, 'is a Git LFS pointer .* 132,822,003 bytes.*git lfs pull'),
  'lfs.npz': (LFS, 'is a Git LFS pointer'),
  'empty.pth': ('', r'is empty \(0 bytes\); download it again'),
  'config.json': ('{"model_type": "vivit"}', 'is JSON, .*the weights are another file'),
  'index.bin': (
    '{"weight_map": {"a": "w-1-of-2.bin", "b": "w-2-of-2.bin"}}',
    'is JSON, .*an index of w-1-of-2.bin, w-2-of-2.bin; join them',
  ),
  'message.pth': ('Not Found', "damaged, or no PyTorch .*text that begins 'Not Found'"),
  'weights.pth.gz': (b'\x1f\x8b\x08\0', 'is a gzip archive: unpack it'),
  'weights.tar': (b'w.pth'.ljust(257, b'\0') + b'ustar', 'is a tar archive: unpack it'),
  'weights.h5': (b'\x89HDF\r\n', 'is HDF5, .*need a file of PyTorch or Caffe2'),
}


@pytest.mark.parametrize('name', DOWNLOADS)
def test_downloads_that_are_no_weights_are_told(name, tmp_path):
  content, message = DOWNLOADS[name]
  path = tmp_path / name
  path.write_bytes(content.encode() if isinstance(content, str) else content)
  with pytest.raises(ValueError, match=f'{name} .*{message}|{name} {message}'):
    _read.tensors(path)


@pytest.mark.parametrize('kind', ['pth', 'npz', 'safetensors'])
def test_cut_downloads_are_told(kind, tmp_path, standins):
  path, numbers = tmp_path / f'weights.{kind}', np.zeros(1000, np.float32)
  if kind == 'pth':
    standins.save(path, {'a': Stored(numbers, 0, (1000,), (1,))})
  else:
    (save_file if kind == 'safetensors' else savez)({'a': numbers}, path)
  path.write_bytes(path.read_bytes()[:2000])
  with pytest.raises(ValueError, match=f'weights.{kind} is damaged'):
    _read.tensors(path)


def savez(arrays, path):
  np.savez(path, **arrays)


def test_safetensors_under_another_name_folders_and_torchscript(tmp_path):
  save_file({'a': np.arange(3)}, tmp_path / 'weights.bin')
  np.testing.assert_array_equal(_read.tensors(tmp_path / 'weights.bin')['a'], [0, 1, 2])
  with pytest.raises(ValueError, match='is a folder: give the file of weights within'):
    _read.tensors(tmp_path)
  with zipfile.ZipFile(tmp_path / 'script.pt', 'w') as archive:
    for name in ('data.pkl', 'constants.pkl', 'code/__torch__.py'):
      archive.writestr(f'model/{name}', b'}.')
  with pytest.raises(ValueError, match='TorchScript archive, a program .*save its state dict'):
    _read.tensors(tmp_path / 'script.pt')


@pytest.mark.parametrize(
  'offset, shape, stride',
  [
    (0, (5,), (1,)),
    (2, (3,), (1,)),
    (0, (2,), (4,)),
    (0, (10**12,), (0,)),  # 4 TB of zeros
    (-1, (2,), (1,)),
    (0, (2,), (-1,)),
    (0, (2, 2), (1,)),
  ],
)
def test_sizes_are_checked_against_the_bytes(tmp_path, standins, offset, shape, stride):
  path = str(tmp_path / 'weights.pth')
  standins.save(path, {'a': Stored(np.zeros(4, np.float32), offset, shape, stride)})
  with pytest.raises(ValueError, match=f'{path}: .*leaves its storage of 4'):
    _read.tensors(path)


def test_storage_of_another_length_truncation_and_compression(tmp_path, standins):
  path = str(tmp_path / 'weights.pth')
  flat = np.zeros(4, np.float32)
  for compression, payload, message in (
    (zipfile.ZIP_STORED, b'\0' * 12, 'states 4 elements of float32 and brings 12 bytes'),
    (zipfile.ZIP_DEFLATED, b'\0' * 16, 'compressed'),
  ):
    data, storages = standins.dump({'a': Stored(flat, 0, (4,), (1,))}, legacy=False)
    with zipfile.ZipFile(path, 'w', compression) as archive:
      archive.writestr('archive/data.pkl', data)
      archive.writestr(f'archive/data/{next(iter(storages))}', payload)
    with pytest.raises(ValueError, match=message):
      _read.tensors(path)
  standins.save_legacy(path, {'a': Stored(flat, 0, (4,), (1,))})
  with open(path, 'rb+') as file:
    file.truncate(os.path.getsize(path) - 5)
  with pytest.raises(ValueError, match='states 4 elements of float32 and brings 11 bytes'):
    _read.tensors(path)


@pytest.mark.parametrize(
  'program',
  [
    b'\x80\x02r\xff\xff\xff\x7f.',  # a memo index of two thousand million
    b'\x80\x04\x8e' + (2**40).to_bytes(8, 'little') + b'x.',  # bytes that are not there
    b'(' * 100_000 + b'.',
    b'not a pickle',
  ],
)
def test_damaged_files_are_named(tmp_path, program):
  path = tmp_path / 'weights.pth'
  path.write_bytes(program)
  with pytest.raises(ValueError, match='damaged|no weights found'):
    _read.tensors(path)


def test_numpy_arrays_of_python_2_and_3(tmp_path):
  blobs = {'w': np.arange(6, dtype=np.float32).reshape(2, 3), 'f': np.asfortranarray(np.eye(2, 3))}
  path = tmp_path / 'weights.pkl'
  for protocol in (2, 4):
    path.write_bytes(pickle.dumps({'blobs': blobs, 'lr': np.float32(0.1)}, protocol=protocol))
    found = _read.tensors(path)
    assert all(np.array_equal(found[name], blobs[name]) for name in blobs)
  path.write_bytes(pickle.dumps({'blobs': {'w': np.array([print])}}, protocol=2))
  with pytest.raises(ValueError, match='print|only numbers'):
    _read.tensors(path)


PYTHON_2 = {
  2: (
    b'\x80\x02}U\x05blobs}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R'
    b'(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
    b'\x89U\x08\x00\x00\xc0?\x00\x00@\xc0tbss.'
  ),
  0: (
    b"(dp0\nS'blobs'\np1\n(dp2\nS'w'\np3\ncnumpy.core.multiarray\n_reconstruct\np4\n(cnumpy\nndarray\np5\n(I0\ntp6\n"
    b"S'b'\np7\ntp8\nRp9\n(I1\n(I2\ntp10\ncnumpy\ndtype\np11\n(S'f4'\np12\nI0\nI1\ntp13\nRp14\n(I3\nS'<'\np15\nNNNI-1\n"
    b"I-1\nI0\ntp16\nbI00\nS'\\x00\\x00\\xc0?\\x00\\x00@\\xc0'\np17\ntp18\nbss."
  ),
}


@pytest.mark.parametrize('protocol', PYTHON_2)
def test_arrays_as_python_2_wrote_them(protocol, tmp_path):
  """Caffe2's pickles: byte strings, `numpy.core.multiarray`."""
  path = tmp_path / 'weights.pkl'
  path.write_bytes(PYTHON_2[protocol])
  np.testing.assert_array_equal(_read.tensors(path)['w'], np.float32([1.5, -3]), strict=True)


def test_safetensors_npz_mapping_and_prefix(tmp_path):
  arrays = {'module.a': np.ones((2, 3), np.float32), 'module.b': np.zeros(2, ml_dtypes.bfloat16)}
  save_file(arrays, tmp_path / 'weights.safetensors')
  found = _read.tensors(tmp_path / 'weights.safetensors')
  assert sorted(found) == ['a', 'b'] and found['b'].dtype == ml_dtypes.bfloat16
  np.savez(tmp_path / 'weights.npz', a=np.arange(3))
  np.testing.assert_array_equal(_read.tensors(tmp_path / 'weights.npz')['a'], [0, 1, 2])
  with pytest.raises(ValueError, match='nothing.pth: no such file; give the file of weights'):
    _read.tensors(tmp_path / 'nothing.pth')
  with pytest.raises(ValueError, match='is a folder: give the file of weights within'):
    _read.tensors(tmp_path)
  with pytest.raises(ValueError, match="'epoch_name' is a str"):
    _read.tensors({'a': np.ones(2), 'epoch_name': 'last'})


def test_safetensors_keep_every_type_and_digit(tmp_path):
  """Nothing of 64 bits is halved on the way, as JAX would, and types NumPy lacks are read as they
  are."""
  arrays = {
    'double': np.array([1 + 1e-12, 2]),
    'long': np.array([2**40, -3]),
    'whole': np.array([[2**63]], np.uint64),
    'yes': np.array([True, False]),
    'empty': np.zeros((0, 3), np.float16),
    'point': np.array(3, np.int8),
    'brain': np.array([0.5, -2], ml_dtypes.bfloat16),
    'eighth': np.array([0.5, -2], ml_dtypes.float8_e4m3fn),
    'fifth': np.array([0.5, -2], ml_dtypes.float8_e5m2),
  }
  save_file(arrays, tmp_path / 'weights.safetensors')
  found = _read.tensors(tmp_path / 'weights.safetensors')
  assert found.keys() == arrays.keys()
  for name, array in arrays.items():
    assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
    assert found[name].tobytes() == array.tobytes(), name
  header = b'{"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}'
  (tmp_path / 'weights.safetensors').write_bytes(
    len(header).to_bytes(8, 'little') + header + bytes(8)
  )
  with pytest.raises(
    ValueError, match=r'weights.safetensors .* not read: a \(C64\); save them as one of'
  ):
    _read.tensors(tmp_path / 'weights.safetensors')


@pytest.mark.parametrize(
  'array, kind',
  [
    (np.array([1 + 2j]), 'complex128'),
    (np.zeros(2, 'i4,f4'), r'\[\('),
    (np.array([3], 'm8[s]'), r'timedelta64\[s\]'),
    (np.array([3], 'M8[s]'), r'datetime64\[s\]'),
    (np.array([print], object), 'object'),
    (np.array(['a']), '<U1'),
    (np.zeros(2, ml_dtypes.bfloat16), r'\|V2'),  # NumPy's files do not say that it is bfloat16
  ],
)
def test_npz_of_other_types_are_refused_by_name(tmp_path, array, kind):
  np.savez(tmp_path / 'weights.npz', good=np.ones(2), w=array)
  with pytest.raises(
    ValueError, match=rf'weights.npz .*: w.npy is of type {kind}.*: save it as real numbers'
  ):
    _read.tensors(tmp_path / 'weights.npz')
  if kind != r'\|V2':
    with pytest.raises(ValueError, match="'w' is a ndarray, not an array of numbers"):
      _read.tensors({'w': array})


@pytest.mark.filterwarnings('ignore:Duplicate name')
@pytest.mark.parametrize('names', [('a', 'a.npy'), ('a.npy', 'a.npy')])
def test_npz_with_a_name_twice_is_refused(tmp_path, names):
  """NumPy would read one of the two."""
  with zipfile.ZipFile(tmp_path / 'weights.npz', 'w') as archive:
    for i, name in enumerate(names):
      with archive.open(name, 'w') as member:
        np.lib.format.write_array(member, np.full(2, i))
  with pytest.raises(ValueError, match='more than one array called a; keep one of each name'):
    _read.tensors(tmp_path / 'weights.npz')


class Pointer:
  """An object that NumPy would read as an array at an arbitrary address."""

  __array_interface__ = {'data': (1, True), 'shape': (4,), 'typestr': '|u1', 'version': 3}


@pytest.mark.parametrize(
  'value', [Pointer(), [1, 2], 'text', b'bytes', None, 1j, {1}, slice(2), memoryview(b'1')]
)
def test_mappings_hold_arrays_and_numbers_only(value):
  with pytest.raises(ValueError, match=f"'w' is a {type(value).__name__}, not an array"):
    _read.tensors({'w': value})


def test_mappings_hold_arrays_of_jax_and_numbers():
  found = _read.tensors({'a': jnp.ones(2, jnp.bfloat16), 'b': 3, 'c': np.float32(0.5), 'd': True})
  assert [found[name].dtype.name for name in 'abcd'] == ['bfloat16', 'int64', 'float32', 'bool']


def test_attributes_of_a_state_dict_do_not_hide_its_methods(tmp_path):
  """They are left out; once `items` or `get` of a file hid the dictionary's own."""
  for name in ('items', 'get', '_metadata'):
    program = b'\x80\x02ccollections\nOrderedDict\n)R}U%c%bK\x03sbU\x01aK\x07s.' % (
      len(name),
      name.encode(),
    )
    (tmp_path / 'weights.pth').write_bytes(program)
    assert _read.tensors(tmp_path / 'weights.pth') == {'a': 7}


def test_names_of_rematerialised_blocks():
  found = _read.tensors(
    {
      'module.blocks.0._checkpoint_wrapped_module.attn.qkv.weight': np.ones(3),
      'module.a': np.ones(1),
    }
  )
  assert sorted(found) == ['a', 'blocks.0.attn.qkv.weight']
  with pytest.raises(ValueError, match='differ in'):
    _read.tensors({'_checkpoint_wrapped_module.a': np.ones(3), 'a': np.ones(3)})
