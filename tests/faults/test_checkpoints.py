"""Damaged checkpoints of one's own, and those of another experiment: named, with what can be used
instead."""

import copy
import errno
import json
import os
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.experiments import shrunk
from vjax import build, checkpoint, evaluate, sharding, train, train_step, tree
from vjax.checkpoint import integrity


@pytest.fixture(scope='module')
def trained(data_dir, tmp_path_factory):
  """(experiment, workdir with checkpoints 2, 4 and 6, what a restore must give)."""
  config = shrunk('mae_finetune_k400', **{'train.ema_decay': 0.9})
  config['evals'] = {}
  exp = build.experiment(config, str(data_dir))
  workdir = tmp_path_factory.mktemp('trained')
  train.run(exp, str(workdir))
  one = sharding.mesh(1, jax.devices()[:1])  # is restored sooner than on eight devices
  return exp, workdir, train_step.init_state(exp.update, one, jax.random.key(0))[1]


def restored(workdir, target) -> dict[str, np.ndarray]:
  checkpoints = checkpoint.Checkpoints(workdir, keep=10)
  try:
    state, interval = checkpoints.restore(target)
  finally:
    checkpoints.close()
  assert isinstance(interval, dict)
  leaves = jax.tree_util.tree_flatten_with_path(state)[0]
  return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}


_UNDAMAGED: dict[pathlib.Path, tuple] = {}


def undamaged(workdir, target) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Returns the results of resuming and of loading a whole checkpoint, read once."""
  if workdir not in _UNDAMAGED:
    _UNDAMAGED[workdir] = (
      restored(workdir, target),
      tree.flatten(checkpoint.load_params(workdir)[0]),
    )
  return _UNDAMAGED[workdir]


def files_of(folder: pathlib.Path) -> list[str]:
  return sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())


def damaged(workdir, target, file: str, how: str, to) -> tuple[str, str]:
  """Returns the errors of resuming and of loading after `file` of the newest checkpoint was
  deleted, halved or emptied: '' where every number is still read."""
  shutil.copytree(workdir, to)
  path = to / 'checkpoints' / '6' / file
  if how == 'deleted':
    path.unlink()
  else:
    os.truncate(path, path.stat().st_size // 2 if how == 'halved' else 0)
  answers = []
  reads = (lambda w: restored(w, target), lambda w: tree.flatten(checkpoint.load_params(w)[0]))
  for read, want in zip(reads, undamaged(workdir, target)):
    try:
      got = read(to)
      assert got.keys() == want.keys() and all(np.array_equal(got[n], want[n]) for n in got), (
        file,
        how,
      )
      answers.append('')
    except ValueError as error:
      text = str(error)
      assert 'checkpoint 6' in text and 'damaged' in text and len(text) < 1200, text
      assert f'remove {to}/checkpoints/6 to use that of step 4' in text
      answers.append(text)
  if any(answers):
    shutil.rmtree(to / 'checkpoints' / '6')
    assert restored(to, target)['.step'] == 4
  shutil.rmtree(to)
  return answers[0], answers[1]


def test_a_half_written_checkpoint_is_refused_by_step_with_the_remedy(trained, tmp_path):
  """Of one file; test_every_file_of_a_checkpoint_may_be_lost tries all kinds."""
  file, (_, workdir, target) = 'model/manifest.ocdbt', trained
  assert damaged(workdir, target, file, 'deleted', tmp_path / 'a')[0]
  assert damaged(workdir, target, file, 'halved', tmp_path / 'b')[0]


def test_largest_data_file_and_interval(trained, tmp_path):
  _, workdir, target = trained
  newest = workdir / 'checkpoints' / '6'
  largest = max(files_of(newest / 'model'), key=lambda f: (newest / 'model' / f).stat().st_size)
  resumed, loaded = damaged(workdir, target, f'model/{largest}', 'halved', tmp_path / 'a')
  assert resumed and loaded
  resumed, loaded = damaged(workdir, target, 'interval/metadata', 'halved', tmp_path / 'b')
  assert resumed and not loaded  # weights alone need no interval


def flipped(workdir, target, file: str, place: int, to) -> bool:
  """Returns whether resuming finds a flipped bit in a file of the newest checkpoint. If not,
  asserts that every number is unchanged."""
  shutil.copytree(workdir, to)
  path = to / 'checkpoints' / '6' / file
  data = bytearray(path.read_bytes())
  data[place % len(data)] ^= 1 << place % 8
  path.write_bytes(data)
  try:
    got, want = restored(to, target), undamaged(workdir, target)[0]
    assert all(np.array_equal(got[n], want[n]) for n in want), (file, place)
    return False
  except ValueError as error:
    assert f'remove {to}/checkpoints/6 to use that of step 4' in str(error)
    return True
  finally:
    shutil.rmtree(to)


def raised_by_reading(error: BaseException, folder) -> BaseException:
  with pytest.raises(BaseException) as caught:
    with integrity.reading(folder, 6):
      raise error
  return caught.value


@pytest.mark.parametrize(
  'error, remedy',
  [
    (PermissionError(errno.EACCES, 'Permission denied'), 'get permission to read its files'),
    (ValueError('PERMISSION_DENIED: Error opening "x" [OS error 13: EACCES]'), 'get permission'),
    (OSError(errno.ENOSPC, 'No space left on device'), 'make room'),
    (ValueError('Error reading "x" [OS error 24: EMFILE Too many open files]'), 'ulimit -n'),
    (MemoryError('cannot allocate'), 'more memory'),
    (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory'), 'more memory'),
    (TimeoutError('timed out'), 'when disk and network answer'),
    (ConnectionResetError(errno.ECONNRESET, 'reset'), 'when disk and network answer'),
    (ValueError('DEADLINE_EXCEEDED: Read of "x"'), 'when disk and network answer'),
    (OSError(errno.EIO, 'Input/output error'), 'when disk and network answer'),
  ],
)
def test_faults_of_machine_and_network_are_not_called_damage(error, remedy, tmp_path):
  (tmp_path / '4').mkdir()
  outer = RuntimeError('a library says more')
  outer.__cause__ = error
  for given in (error, outer):
    told = raised_by_reading(given, tmp_path)
    assert isinstance(told, OSError) and told.__cause__ is given
    before, _, after = str(told).partition('The checkpoint itself may be whole, keep it: ')
    assert remedy in after and str(given) in before
    assert 'damaged' not in str(told) and 'remove' not in str(told)


@pytest.mark.parametrize(
  'error',
  [
    FileNotFoundError(errno.ENOENT, 'No such file or directory'),
    ValueError('NOT_FOUND: Error opening "zarr" driver'),
    ValueError('DATA_LOSS: CRC-32C checksum verification failed'),
    ValueError('2 of 3 arrays are not what was written, ADAM'),
    KeyError('totals'),
    NotADirectoryError(errno.ENOTDIR, 'Not a directory'),
  ],
)
def test_missing_files_and_wrong_bytes_are_damage(error, tmp_path):
  told = raised_by_reading(error, tmp_path)
  assert isinstance(told, ValueError) and 'checkpoint 6 in' in str(told)
  assert 'is damaged' in str(told) and 'there is no earlier one' in str(told)


def test_interrupts_and_missing_packages_stay_what_they_are(tmp_path):
  for error in (KeyboardInterrupt(), SystemExit(75), ImportError('gs:// needs gcsfs')):
    assert raised_by_reading(error, tmp_path) is error


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can become another user')
def test_files_of_another_user_are_not_damaged(tmp_path):
  checkpoint.save_params(tmp_path, {'params': {'a': np.ones(3, np.float32)}}, {'config': {}})
  for folder in (tmp_path, *tmp_path.parents):
    if folder.stat().st_uid == os.geteuid() and folder != pathlib.Path('/'):
      folder.chmod(folder.stat().st_mode | 0o055)
  sealed = next(path for path in (tmp_path / 'checkpoints/0/model/d').iterdir() if path.is_file())
  sealed.chmod(0o600)
  os.seteuid(65534)
  try:
    with pytest.raises(OSError, match='could not be read: .*keep it: get permission'):
      checkpoint.load_params(tmp_path)
  finally:
    os.seteuid(0)
  assert checkpoint.load_params(tmp_path)[0]['params']['a'].tolist() == [1, 1, 1]


@pytest.mark.slow
def test_flipped_bits_are_found(trained, tmp_path):
  """In the largest file of parameters and of moments, where the store itself keeps no checksum."""
  _, workdir, target = trained
  for item in ('model', 'optimizer'):
    folder = workdir / 'checkpoints' / '6' / item
    largest = max(files_of(folder), key=lambda f: (folder / f).stat().st_size)
    places = np.random.default_rng(0).integers(0, 1 << 30, 6).tolist()
    found = [
      flipped(workdir, target, f'{item}/{largest}', place, tmp_path / 'x') for place in places
    ]
    assert any(found), item  # the others hit bytes that hold no number


def test_flipped_bits_are_found_when_weights_are_loaded(trained, tmp_path):
  _, workdir, _ = trained
  shutil.copytree(workdir, tmp_path / 'x')
  folder = tmp_path / 'x' / 'checkpoints' / '6' / 'model'
  path = folder / max(files_of(folder), key=lambda f: (folder / f).stat().st_size)
  data = bytearray(path.read_bytes())
  for place in range(len(data) // 32, len(data), len(data) // 16):  # some bytes hold no number
    data[place] ^= 4
  path.write_bytes(data)
  with pytest.raises(ValueError, match='checkpoint 6 .* is damaged: .*'):
    checkpoint.load_params(tmp_path / 'x')


def test_checkpoints_made_before_there_were_checksums_are_read(trained, tmp_path):
  _, workdir, target = trained
  shutil.copytree(workdir, tmp_path / 'x')
  shutil.rmtree(tmp_path / 'x' / 'checkpoints' / '6' / 'checksums')
  got, want = restored(tmp_path / 'x', target), restored(workdir, target)
  assert all(np.array_equal(got[n], want[n]) for n in want)


def test_a_checksum_changes_with_any_element_and_its_place():
  rng = np.random.default_rng(0)
  for dtype in (np.float32, jnp.bfloat16, np.int32, np.uint8, bool):
    x = jnp.asarray(rng.normal(0, 9, (3, 5))).astype(dtype)
    one = checkpoint.checksums({'x': x})['x']
    for i in range(15):
      changed = (
        x.ravel().at[i].set(1 - x.ravel()[i] if dtype is not bool else ~x.ravel()[i]).reshape(3, 5)
      )
      assert (checkpoint.checksums({'x': changed})['x'] != one) == bool((changed != x).any())
    assert dtype is bool or checkpoint.checksums({'x': x[::-1]})['x'] != one


@pytest.mark.slow
def test_every_file_of_a_checkpoint_may_be_lost(trained, tmp_path):
  """Deleted, halved or emptied: either the same numbers come, or the words."""
  _, workdir, target = trained
  # One file of each kind: data of arrays lie in several files with names of hexadecimal digits.
  kinds = {
    re.sub(r'[0-9a-f]{16,}', '#', name): name
    for name in sorted(files_of(workdir / 'checkpoints' / '6'))
  }
  files = list(kinds.values())
  must = {
    'model/manifest.ocdbt',
    'model/_METADATA',
    'optimizer/manifest.ocdbt',
    'interval/metadata',
  }
  for how in ('deleted', 'halved'):
    noticed = {f for f in files if damaged(workdir, target, f, how, tmp_path / 'x')[0]}
    assert must <= noticed, f'{how}: not noticed {sorted(must - noticed)}'


@pytest.mark.parametrize(
  'text, message',
  [
    (None, 'no meta.json in'),
    ('', 'meta.json is damaged'),
    ('{"config": {"mod', 'meta.json is damaged'),
    ('[' * 100_000, 'meta.json is damaged'),
    ('[1, 2]', 'no description of a checkpoint'),
    ('{"config": 3}', 'no description of a checkpoint'),
    ('{"weights": "r3d.pth"}', "meta.json has no 'config', only weights"),
    ('{}', "meta.json has no 'config', only nothing"),
    ('{"config": {"model": {"name": "os"}}}', 'lacks'),
  ],
)
def test_meta_missing_truncated_or_of_something_else(text, message, trained, data_dir, tmp_path):
  shutil.copytree(trained[1] / 'checkpoints', tmp_path / 'checkpoints')
  if text is not None:
    (tmp_path / 'meta.json').write_text(text)
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    evaluate.load(str(tmp_path), str(data_dir))


def test_model_of_a_stranger_is_not_looked_up_outside_its_room(trained, data_dir, tmp_path):
  meta = json.loads((trained[1] / 'meta.json').read_text())
  for section in ('model', 'objective', 'head'):
    strange = copy.deepcopy(meta)
    strange['config'][section]['name'] = '..convert.__main__'
    (tmp_path / 'meta.json').write_text(json.dumps(strange))
    with pytest.raises(ValueError, match=r"no (model )?'\.\.convert.__main__'"):
      evaluate.load(str(tmp_path), str(data_dir))


def test_workdir_without_a_checkpoint(trained, tmp_path):
  shutil.copy(trained[1] / 'meta.json', tmp_path)
  with pytest.raises(FileNotFoundError, match='no complete checkpoint'):
    checkpoint.load_params(tmp_path)
  assert os.listdir(tmp_path) == ['meta.json']  # looking leaves nothing behind


@pytest.mark.parametrize(
  'change, message',
  [
    ({'train.ema_decay': 0.0}, '- ema/backbone.*in the checkpoint only'),
    ({'model.width': 64}, r'! ema/backbone/.*\(32,\) in the checkpoint, \(64,\) in the model'),
    ({'optim.name': 'sgd'}, 'opt_state.*in the checkpoint only'),
  ],
)
def test_a_checkpoint_of_another_experiment_lists_what_differs(change, message, trained, data_dir):
  config = shrunk('mae_finetune_k400', **{'train.ema_decay': 0.9, **change})
  if 'optim.name' in change:
    config['optim'] = {k: v for k, v in config['optim'].items() if k not in ('b1', 'b2', 'eps')}
    config['optim'] |= {'momentum': 0.9, 'nesterov': False}
  exp = build.experiment(config, str(data_dir))
  with pytest.raises(ValueError, match=f'another model or optimizer(.|\n)*({message})'):
    restored(trained[1], train_step.init_state(exp.update, sharding.mesh(), jax.random.key(0))[1])


def test_an_evaluation_with_another_model_says_which_config_to_use(trained):
  exp, workdir, _ = trained
  variables, _ = checkpoint.load_params(workdir)
  variables['params'].pop('head')
  with pytest.raises(
    ValueError, match=r'another model than .*: use the config .*/meta.json(.|\n)*head'
  ):
    checkpoint.check_fits(exp.model, exp.clip, variables, workdir)


@pytest.mark.slow
def test_another_mesh_reads_the_same_numbers(data_dir, tmp_path):
  """Saved with the state split over four devices, restored whole, on one device, and split over
  eight."""
  config = shrunk('mae_k400', **{'model.width': 128, 'train.fsdp': 4, 'optim.total_steps': 2})
  config['evals'] = {}
  exp = build.experiment(config, str(data_dir))
  train.run(exp, str(tmp_path))
  kernel = ".params['backbone']['block0']['mlp']['fc1']['kernel']"
  found = []
  for mesh in (
    sharding.mesh(4),
    sharding.mesh(1),
    sharding.mesh(1, jax.devices()[:1]),
    sharding.mesh(8),
  ):
    found.append(restored(tmp_path, train_step.init_state(exp.update, mesh, jax.random.key(0))[1]))
  assert found[0][kernel].shape == (128, 512)
  for other in found[1:]:
    assert all(np.array_equal(other[name], found[0][name]) for name in found[0])
