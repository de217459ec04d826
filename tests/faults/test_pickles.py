"""Hostile and broken weights of strangers: refused in words, nothing executed, no memory read or
filled."""

import os
import random
import re
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from tests.convert.torch_files import Standins, Stored
from tests.faults import commands
from vjax.convert import __main__ as convert_main
from vjax.convert import _placeholders, _read

DOUBLED = 60  # times that a structure holds itself twice: 2**60 leaves if it is walked


def run_code(canary) -> dict[str, bytes]:
  """Pickles that touch the file `canary` if anything they name is called."""
  touch = f'touch {canary}'.encode()
  text = b'\x8c' + bytes([len(touch)]) + touch
  call = lambda module, name: (
    b'\x80\x04\x8c%c%b\x8c%c%b\x93' % (len(module), module, len(name), name) + text + b'\x85R.'
  )
  return {
    'os.system': b'cos\nsystem\n(S"%b"\ntR.' % touch,
    'eval': call(b'builtins', b'eval'),
    'exec of Python 2': b'c__builtin__\nexec\n(S"import os; os.mknod(%r)"\ntR.' % str(canary),
    'getattr': call(b'builtins', b'getattr'),
    'subprocess': call(b'subprocess', b'getoutput'),
    'INST': b'(S"%b"\nios\nsystem\n.' % touch,
    'OBJ': b'(cos\nsystem\nS"%b"\no.' % touch,
    'NEWOBJ': b'\x80\x02csubprocess\nPopen\n(S"%b"\nt\x81.' % touch,
    'a name with dots': call(b'collections', b'OrderedDict.__init__.__globals__'),
    'a loader of torch': call(b'torch.storage', b'_load_from_bytes'),
    'the hub of torch': call(b'torch.hub', b'load'),
    'a rebuild that calls': call(b'torch._utils', b'_rebuild_wrapper_subclass'),
    'an attribute of an attribute': b'cbuiltins\ngetattr\n(cbuiltins\ngetattr\n(cfoo\nBar\nS"__init__"\ntR'
    b'S"__globals__"\ntR.',
    'numpy evaluates': call(b'numpy.f2py.crackfortran', b'myeval'),
    '__setstate__ from the file': b'\x80\x02cargparse\nNamespace\n)\x81}U\x0c__setstate__cos\nsystem\nsbU\x01ab.',
    'defaults of our function': b'ctorch._utils\n_rebuild_tensor_v2\n(N}S"__defaults__"\n(I1\ntstb.',
    "NumPy's own float type": b'\x80\x02ctorch\nFloatStorage\n(K\x03U\x01>NNNM\xe8\x03K\x01K\x00tb.',
    'class of an instance': b'\x80\x02cargparse\nNamespace\n)\x81(N}U\x09__class__cnumpy\nndarray\nstb.',
    'extension registry': b'\x80\x02\x82\x01.',
    'another kind of reference': b'Pwhatever\n.',
  }


def bag(*attributes: bytes) -> bytes:
  """A program that makes a Namespace of attributes, each a name and what pushes its value."""
  return b'\x80\x02}U\x01wcargparse\nNamespace\n)\x81}(' + b''.join(attributes) + b'ubs.'


def pointers() -> dict[str, bytes]:
  """Pickles whose weights ask NumPy to read memory at an address of the file's choice, or to call
  what they hold."""
  name = lambda text: b'U%c%b' % (len(text), text)
  place = b'}(U\x04data\x8a\x01\x01\x88\x86U\x05shapeJ\x40\0\0\0\x85U\x07typestrU\x03|u1U\x07versionK\x03u'
  return {
    'an address': bag(name(b'__array_interface__'), place),
    'an address and more': bag(name(b'lr'), b'K\x01', name(b'__array_interface__'), place),
    'a structure': bag(name(b'__array_struct__'), b'K\x01'),
    'a method': bag(name(b'__array__'), b'c_codecs\nencode\n'),
    'a bag': bag(name(b'lr'), b'K\x01'),
    'an array not filled': b'\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\n)Rs.',
    'a type not filled': b'\x80\x02}U\x01wcnumpy\ndtype\n)\x81s.',
    'a type': b'\x80\x02}U\x01wcnumpy\ndtype\nU\x02f4\x85Rs.',
  }


def bombs() -> dict[str, bytes]:
  """Small files that state, or unfold to, more than any memory or life time."""
  nested = b')q\x00' + b'h\x00\x86q\x00' * DOUBLED
  lists = b']q\x00' + b'(h\x00h\x00lq\x00' * DOUBLED
  text = b'X' + (2**20).to_bytes(4, 'little') + b'a' * 2**20 + b'q\x02'
  array, kind = b'cnumpy.core.multiarray\n_reconstruct\nq\x01', b'cnumpy\ndtype\nU\x02u1\x85Rq\x03'
  storage = b'(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x01tQq\x01'
  filled = b'h\x01)R(K\x01J\0\0\x10\0\x85h\x03\x89h\x02tb'
  rebuild, huge = (
    b'ctorch._utils\n_rebuild_tensor\nq\x03',
    b'\x8a\x08' + (2**62).to_bytes(8, 'little'),
  )
  huge += b'q\x02' + array + b')R(K\x01('
  frame = b'\x80\x04\x95' + (2).to_bytes(8, 'little') + b'X\0'  # a string, its length cut in two
  hidden = b'\x05\0\0\0' + b'a' * 5 + b'r' + b'\x7f' * 4 + b'.'  # as the unpickler goes on
  state = b'}(' + b''.join(b'U\x04%04dK\x01' % i for i in range(10_000)) + b'uq\x02'
  numbers = b'(' + b'K\x00' * 30_000 + b'tq\x02'
  return {
    'nested key': b'\x80\x02}' + nested + b'K\x01s.',
    'deep key': b'\x80\x02})' + b'\x85' * 300_000 + b'K\x01s.',
    'nested reference': b'\x80\x02)' + b'2\x86' * DOUBLED + b'Q.',
    'nested set': b'\x80\x02cbuiltins\nset\n](' + nested + b'e\x85R.',
    'nested lists as weights': b'\x80\x02' + lists + b'}U\x01ah\x00s.',
    'a string copied often': b'\x80\x02c_codecs\nencode\nq\x01' + text + b'](' + b'h\x01h\x02\x85R' * 5000 + b'e.',
    'bytes that are not there': b'\x80\x04\x8e' + (2**44).to_bytes(8, 'little') + b'x.',
    'a bytearray that is not there': b'\x80\x05\x96' + (2**44).to_bytes(8, 'little') + b'.',
    'a forged memo index': b'\x80\x02r\xff\xff\xff\xff.',
    'a frame within an opcode': frame + hidden.ljust(1283, b'a') + b'.',
    'deep nesting': b'\x80\x02' + b']' * 30_000 + b'a' * 29_999 + b'.',
    'deep marks': b'(' * 30_000 + b'.',
    'a dictionary in itself': b'\x80\x02}q\x00U\x05modelh\x00s.',
    'arrays of one string': b'\x80\x02' + text + kind + array + b'](' + filled * 1000 + b'e.',
    'a shape without end': b'\x80\x02}U\x01w' + huge + b'h\x02' * 30_000 + b't' + kind + b'\x89U\x01xtbs.',
    'shapes of one string': b'\x80\x02' + text + storage + rebuild + b'](' + b'h\x03(h\x01K\x00h\x02)tR' * 300 + b'e.',
    'calls with many arguments': b'\x80\x02' + numbers + array + b'](' + b'h\x01h\x02R' * 30_000 + b'e.',
    'one key hashed often': b'\x80\x02' + numbers + b'}(' + b'h\x02K\x01' * 30_000 + b'u.',
    'bags of one dictionary': b'\x80\x02' + state + b'cargparse\nNamespace\nq\x01](' + b'h\x01)\x81h\x02b' * 5000 + b'e.',
    'a type of many fields': b'\x80\x02cnumpy\ndtype\nX' + (3 * 10**6).to_bytes(4, 'little') + b'f4,' * 10**6 + b'\x85R.',
    'names of many classes': b'\x80\x02](' + b''.join(b'ca%d\nb\n' % i for i in range(10_000)) + b'e.',
    'a stand-in that grows': b'\x80\x02cmmengine\nConfigDict\n)\x81' + b'(U\x01aK\x01u' * 5000 + b'.',
    'a huge number': b'\x80\x02}\x8b' + (2**16).to_bytes(4, 'little') + b'\x7f' * 2**16 + b'K\x01s.',
  }  # fmt: skip


def reachable() -> dict:
  """Returns the functions behind the names that a file may use, with all their settable
  attributes."""
  functions = {name: getattr(v, '_function', v) for name, v in _placeholders.ALLOWED.items()}
  return {
    name: (f, dict(getattr(f, '__dict__', {})), getattr(f, '__defaults__', None))
    for name, f in functions.items()
  }


def refused(path, match: str | None = None) -> None:
  """Reading `path` as weights ends in a ValueError, soon, and in little memory."""
  began = time.monotonic()
  tracemalloc.start()
  try:
    with pytest.raises(ValueError, match=match) as caught:
      _read.tensors(path)
    assert str(path) in str(caught.value)
    assert tracemalloc.get_traced_memory()[1] < 2**27
  finally:
    tracemalloc.stop()
  assert time.monotonic() - began < 20


@pytest.fixture
def standins(monkeypatch):
  return Standins(monkeypatch)


@pytest.mark.parametrize('name', run_code('x'))
@pytest.mark.parametrize('archive', [False, True], ids=['plain', 'zip'])
def test_no_pickle_runs_code(name, archive, tmp_path):
  canary, path = tmp_path / 'canary', tmp_path / 'weights.pth'
  program = run_code(canary)[name]
  before = reachable()
  if archive:
    with zipfile.ZipFile(path, 'w') as file:
      file.writestr('archive/data.pkl', program)
  else:
    path.write_bytes(program)
  refused(path)
  assert not canary.exists() and os.listdir(tmp_path) == ['weights.pth']
  assert np.dtype('float32').itemsize == 4 and reachable() == before


ONE_OF_A_KIND = {id(value): name for name, value in _placeholders.ALLOWED.items()}.values()


@pytest.mark.parametrize('name', [*ONE_OF_A_KIND, 'mmengine.config.ConfigDict'])
def test_no_pickle_changes_what_the_next_one_gets(name, tmp_path):
  """Nor sets the state of what it may name, neither through the dictionary nor by assignment."""
  module, _, attribute = name.rpartition('.')
  named = b'\x80\x02c%b\n%b\n' % (module.encode(), attribute.encode())
  before = reachable()
  for changed in (b'__defaults__', b'__setstate__', b'__new__', b'_function', b'other'):
    entry = b'}U%c%bK\x01s' % (len(changed), changed)
    for state in (entry, b'N' + entry + b'\x86'):
      (tmp_path / 'weights.pth').write_bytes(named + state + b'b.')
      refused(tmp_path / 'weights.pth')
      assert reachable() == before


def test_no_pickle_reads_memory(tmp_path):
  """In a process of its own, which a number read from nowhere would end."""
  for name, program in pointers().items():
    (tmp_path / f'{name}.pth').write_bytes(program)
  script = """if True:
    import pathlib, sys
    from vjax.convert import _read
    for path in sorted(pathlib.Path(sys.argv[1]).glob('*.pth')):
      try:
        print(path.stem, 'READ', _read.tensors(path))
      except ValueError as error:
        print(f'{path.stem}: {error}')
  """
  said = commands.ended(commands.start('-c', script, tmp_path)).splitlines()
  assert {line.split(':')[0] for line in said} == set(pointers()) and len(said) == len(
    pointers()
  ), said
  for line in said:
    assert re.search('is a .*, not an array|is damaged', line), line


@pytest.mark.parametrize('name', bombs())
def test_no_pickle_explodes(name, tmp_path):
  path = tmp_path / 'weights.pth'
  path.write_bytes(bombs()[name])
  refused(path)


def test_no_archive_explodes(tmp_path, standins):
  """Compressed, overlapping, encrypted or forged zip files, and what .npz and .safetensors can
  claim."""
  data, _ = standins.dump({'a': Stored(np.zeros(4, np.float32), 0, (4,), (1,))}, legacy=False)
  path = tmp_path / 'weights.pth'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
    file.writestr('archive/data.pkl', data)
    file.writestr('archive/data/0', bytes(2**26))
  refused(path, 'compressed')
  with zipfile.ZipFile(path, 'w') as file:
    file.writestr('archive/data.pkl', data)
  whole = path.read_bytes()
  entry = whole.index(b'PK\x01\x02')
  path.write_bytes(whole[: entry + 24] + (2**31).to_bytes(4, 'little') + whole[entry + 28 :])
  refused(path, 'compressed')
  path.write_bytes(whole[: entry + 8] + b'\x01\x00' + whole[entry + 10 :])
  refused(path, 'encrypted|damaged')
  path = tmp_path / 'weights.npz'
  np.savez_compressed(path, a=np.zeros(2**26, np.uint8))
  refused(path, 'unfold')
  np.savez(path, a=np.array([print], object))
  refused(path, 'more than arrays|allow_pickle')
  header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }" % 2**45
  with zipfile.ZipFile(path, 'w') as file:
    file.writestr('a.npy', b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header)
  refused(path)
  path.write_bytes(whole[:50])
  refused(path, 'damaged')
  path = tmp_path / 'weights.safetensors'
  for content in (b'', (2**60).to_bytes(8, 'little') + b'{}', b'\x02' + bytes(7) + b'[]'):
    path.write_bytes(content)
    refused(path, 'damaged')


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
def test_files_with_flipped_and_lost_bytes_are_read_or_refused(legacy, tmp_path, standins):
  """Any prefix, and any few changed bytes, of a good file."""
  path, flat = tmp_path / 'weights.pth', np.arange(12, dtype=np.float32)
  content = {
    'state_dict': {'a': Stored(flat, 0, (3, 4), (4, 1)), 'b': Stored(flat, 2, (3,), (2,))},
    'epoch': 3,
  }
  (standins.save_legacy if legacy else standins.save)(path, content)
  whole, rng = path.read_bytes(), random.Random(0)
  _read.tensors(path)
  broken = [whole[:n] for n in range(0, len(whole), 3)]
  for _ in range(400):
    changed = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 8))):
      changed[rng.randrange(len(changed))] = rng.randrange(256)
    broken.append(bytes(changed))
  began = time.monotonic()
  for content in broken:
    path.write_bytes(content)
    try:
      _read.tensors(path)
    except ValueError as error:
      assert len(str(error)) < 2000
  assert time.monotonic() - began < 60


def test_the_converter_ends_in_one_message(tmp_path, capsys):
  path, canary = tmp_path / 'weights.pth', tmp_path / 'canary'
  path.write_bytes(run_code(canary)['os.system'])
  with pytest.raises(SystemExit, match=r'error: .*weights.pth: the file asks for os.system'):
    convert_main.main(['--source=vmz', '--variant=r2plus1d_34', str(path), str(tmp_path / 'out')])
  assert not canary.exists() and not (tmp_path / 'out').exists()
