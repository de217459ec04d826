"""Checkpoints: save and resume of a run through Orbax, and strict warm starts with a report.

A checkpoint folder (a run's workdir, or what `python -m vjax.convert` writes) holds
  meta.json                the config, class names and versions: enough to rebuild the model
  checkpoints/<step>/model       params, stats and, where kept, their moving average
  checkpoints/<step>/optimizer   optimizer state and step
  checkpoints/<step>/interval    sums of the logging interval in progress
  checkpoints/<step>/checksums   of every array, so that a flipped bit is found
"""

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from vjax import remote, tree
from vjax.config import SCHEMA, translate
from vjax.types import TrainState

SAVE_TIMEOUT_S = (
  7200  # Orbax measures it by the time of day, which may be set an hour ahead while it waits
)


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes `value` to a temporary name, then renames: readers see the old file or the new one. The
  temporary name is always the same, so that what a kill leaves is overwritten by the next run."""
  path, text = remote.path(path), json.dumps(value, indent=2, sort_keys=True) + '\n'
  if remote.is_remote(path):
    path.write_text(text)  # an object is there whole or not at all
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'{path.name}.partial')
  with open(temporary, 'w') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  temporary.replace(path)


class Meta(dict):
  """meta.json; asking for an entry that is not there raises ValueError naming file and entry."""

  path = ''

  def __missing__(self, name: str) -> Any:
    raise ValueError(
      f'{self.path} has no {name!r}, only {", ".join(sorted(self)) or "nothing"}: this needs the '
      'workdir of a training '
      f'run, or weights converted by `python -m vjax.convert` since it writes a config'
    )


def read_meta(path: str | os.PathLike) -> Meta:
  """meta.json of a checkpoint folder, its config under today's names.

  Raises FileNotFoundError that says what the folder should be, ValueError where the file is damaged
  or something else.
  """
  file = remote.path(path) / 'meta.json'
  if not file.is_file():
    raise FileNotFoundError(
      f'no meta.json in {remote.path(path)}: give the --workdir of a training run, or a folder '
      'written by '
      f'`python -m vjax.convert`'
    )
  try:
    content = json.loads(file.read_text())
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f'{file} is damaged: {error}. The command of the training run writes it anew when it '
      'continues'
    ) from error
  if not isinstance(content, dict) or not isinstance(content.get('config', {}), dict):
    raise ValueError(
      f'{file} is no description of a checkpoint: need an object with config, classes and versions'
    )
  if 'config' in content and content.get('schema', 1) < SCHEMA:
    content = {**content, 'config': translate(content['config'])}
  meta = Meta(content)
  meta.path = str(file)
  return meta


class Checkpoints:
  """The checkpoints of one workdir. Saves are asynchronous; a save cut short leaves nothing that a
  later run would take, and what it leaves is removed by the next run. Errors of saving are
  OSErrors, raised by the next call of any method."""

  def __init__(self, workdir: str | os.PathLike, *, keep: int):
    import orbax.checkpoint as ocp

    self._ocp = ocp
    if str(workdir).startswith('s3://'):
      raise ValueError(
        f'workdir is {workdir}: Orbax cannot write to s3://; mount the bucket, or use a folder or '
        'gs://'
      )
    self._folder = remote.path(workdir) / 'checkpoints'
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        enable_async_checkpointing=True,
        cleanup_tmp_directories=True,
        async_options=ocp.AsyncOptions(timeout_secs=SAVE_TIMEOUT_S),
      ),
      # named here, for else metadata cannot be read before the first save or restore
      item_handlers={
        'model': ocp.StandardCheckpointHandler(),
        'optimizer': ocp.StandardCheckpointHandler(),
        'interval': ocp.JsonCheckpointHandler(),
        'checksums': ocp.JsonCheckpointHandler(),
      },
    )
    self._saving: int | None = None

  @property
  def latest(self) -> int | None:
    """Step of the newest complete checkpoint, or None."""
    steps = complete_steps(self._folder)
    return steps[-1] if steps else None

  def last_good(self) -> str:
    """Where a run that cannot go on will be continued, in words."""
    step = self.latest
    return (
      'there is no checkpoint yet'
      if step is None
      else f'the last good checkpoint is that of step {step}'
    )

  def save(self, state: TrainState, interval: dict[str, Any]) -> None:
    """Starts writing `state` and the sums of the current logging interval."""
    self.wait()
    args, step = self._ocp.args, int(state.step)
    self._saving = step
    model = {'params': state.params, 'stats': state.stats, 'ema': state.ema or {}}
    optimizer = {'opt_state': state.opt_state, 'step': state.step}
    items = {'model': args.StandardSave(model), 'optimizer': args.StandardSave(optimizer)}
    items['interval'] = args.JsonSave(interval)
    items['checksums'] = args.JsonSave(
      {'model': checksums(model), 'optimizer': checksums(optimizer)}
    )
    with self._writing():
      self._manager.save(step, args=args.Composite(**items), force=True)

  def check(self) -> None:
    """Raises what went wrong in the background since the last call; waits for nothing."""
    if not self._manager.is_saving_in_progress():
      self.wait()

  def wait(self) -> None:
    """Until all is written."""
    with self._writing():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, and ends the threads."""
    self.wait()
    self._manager.close()

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    """Errors of what is written inside become OSErrors in words. Orbax and its store raise many
    kinds."""
    try:
      yield
    except Exception as error:
      raise OSError(
        f'the checkpoint of step {self._saving} could not be written to {self._folder}: '
        f'{_reason(error)}; '
        f'{self.last_good()}. Make room or mend the folder, then start the same command again: it '
        'continues from there'
      ) from error

  def restore(self, target: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """The newest state, laid out like `target` (a tree of ShapeDtypeStructs with shardings), and
    interval sums.

    Raises ValueError listing the names that differ where the checkpoint is of another model or
    optimizer.
    """
    step, args = self.latest, self._ocp.args
    model = {'params': target.params, 'stats': target.stats, 'ema': target.ema or {}}
    optimizer = {'opt_state': target.opt_state, 'step': target.step}
    with _reading(self._folder, step):
      saved = self._manager.item_metadata(step)
      saved = [saved[name].tree for name in ('model', 'optimizer')]
    differences = _compare(model, saved[0]) + _compare(optimizer, saved[1])
    if differences:
      raise ValueError(
        f'checkpoint {step} in {self._folder} is of another model or optimizer; use another '
        '--workdir, or the config it '
        f'was made with:\n' + _list(differences)
      )
    with _reading(self._folder, step):
      items = {'model': args.StandardRestore(model), 'optimizer': args.StandardRestore(optimizer)}
      items |= {
        name: args.JsonRestore() for name in ('interval', *_kept_checksums(self._folder, step))
      }
      got = self._manager.restore(step, args=args.Composite(**items))
      model, optimizer, interval = got['model'], got['optimizer'], got['interval']
      for name, item in (
        (('model', model), ('optimizer', optimizer)) if 'checksums' in items else ()
      ):
        _check_sums(item, got['checksums'][name])
      if int(optimizer['step']) != step:
        raise ValueError(f'it holds the state after step {int(optimizer["step"])}')
      interval = {name: [float(total), float(count)] for name, (total, count) in interval.items()}
    state = TrainState(
      step=optimizer['step'],
      params=model['params'],
      stats=model['stats'],
      opt_state=optimizer['opt_state'],
      ema=None if target.ema is None else model['ema'],
    )
    return state, interval


@jax.jit
def _checksum(x: jax.Array) -> jax.Array:
  """uint32 of an array's bits and their places, the same on every mesh. Any change of one element
  changes it: the weights are odd."""
  bits = jnp.asarray(x)
  if bits.dtype != bool:
    width = min(bits.dtype.itemsize, 4)
    bits = jax.lax.bitcast_convert_type(bits, {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[width])
  bits = bits.astype(jnp.uint32)
  return (bits * (2 * jnp.arange(bits.size, dtype=jnp.uint32).reshape(bits.shape) + 1)).sum(
    dtype=jnp.uint32
  )


def checksums(x: Any) -> dict[str, int]:
  """Checksum of every array in a tree, by name, alike on all hosts. Of what all devices hold alike,
  one device's; else one array after the other, since on simulated devices many sums over a mesh at
  once wait for each other's threads."""
  one = lambda leaf: (
    leaf.addressable_data(0) if isinstance(leaf, jax.Array) and leaf.is_fully_replicated else leaf
  )
  return {name: int(_checksum(one(leaf))) for name, leaf in _leaves(x).items()}


def _check_sums(x: Any, wanted: dict[str, int]) -> None:
  """Raises ValueError naming the arrays of a tree that are not what was written."""
  found = checksums(x)
  differ = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
  if differ:
    raise ValueError(
      f'{len(differ)} of {len(found)} arrays are not what was written, {", ".join(differ[:5])}'
    )


def _kept_checksums(folder: epath.Path, step: int) -> list[str]:
  """The name of the item if the checkpoint has it: those made before there were checksums do
  not."""
  return ['checksums'] if (folder / str(step) / 'checksums').exists() else []


def complete_steps(folder: epath.Path) -> list[int]:
  """Steps of the complete checkpoints below `folder`, rising."""
  from orbax.checkpoint import utils

  return sorted(utils.checkpoint_steps(folder)) if folder.is_dir() else []


@contextlib.contextmanager
def _reading(folder: epath.Path, step: int) -> Iterator[None]:
  """Whatever goes wrong inside becomes a ValueError that says which checkpoint is damaged and which
  can be used."""
  try:
    yield
  except (MemoryError, jax.errors.JaxRuntimeError):
    raise  # too large for this machine, not damaged
  except Exception as error:
    earlier = [s for s in complete_steps(folder) if s < step]
    remedy = (
      f'remove {folder / str(step)} to use that of step {earlier[-1]}'
      if earlier
      else 'there is no earlier one'
    )
    raise ValueError(
      f'checkpoint {step} in {folder} is damaged: {_reason(error)}; {remedy}'
    ) from error


def _reason(error: BaseException, longest: int = 400) -> str:
  """An error on one line, without what libraries add about their own code. A long one loses its
  middle: it begins with what failed and ends with what the system said."""
  text = ' '.join(f'{error}'.split(' [source locations')[0].split()) or type(error).__name__
  return text if len(text) <= longest else f'{text[: longest // 2]} ... {text[-longest // 2 :]}'


def _leaves(x: Any) -> dict[str, Any]:
  """The arrays of a tree, or their descriptions, by name."""
  leaves = jax.tree_util.tree_flatten_with_path(x)[0]
  parts = lambda path: '/'.join(
    str(getattr(k, 'key', getattr(k, 'name', getattr(k, 'idx', k)))) for k in path
  )
  return {parts(path): leaf for path, leaf in leaves if hasattr(leaf, 'shape')}


def _names(x: Any) -> dict[str, tuple[int, ...]]:
  return {name: tuple(leaf.shape) for name, leaf in _leaves(x).items()}


def _compare(wanted: Any, saved: Any) -> list[str]:
  wanted, saved = _names(wanted), _names(saved)
  rows = [
    f'- {name} {saved[name]}: in the checkpoint only'
    for name in sorted(saved.keys() - wanted.keys())
  ]
  rows += [
    f'+ {name} {wanted[name]}: in the model only' for name in sorted(wanted.keys() - saved.keys())
  ]
  both = sorted(n for n in wanted.keys() & saved.keys() if wanted[n] != saved[n])
  return rows + [
    f'! {name}: {saved[name]} in the checkpoint, {wanted[name]} in the model' for name in both
  ]


def _list(rows: Sequence[str], most: int = 40) -> str:
  return '\n'.join(
    [*rows[:most], *([f'... and {len(rows) - most} more'] if len(rows) > most else [])]
  )


def save_params(path: str | os.PathLike, variables: dict[str, Any], meta: dict[str, Any]) -> None:
  """Writes an ordinary checkpoint folder: variables {'params': ..., other collections} as step 0,
  and meta.json."""
  import orbax.checkpoint as ocp

  stats = {name: value for name, value in variables.items() if name != 'params'}
  folder = remote.path(path) / 'checkpoints'
  with ocp.CheckpointManager(folder) as manager:
    model = jax.tree.map(np.asarray, {'params': variables['params'], 'stats': stats, 'ema': {}})
    items = {
      'model': ocp.args.StandardSave(model),
      'checksums': ocp.args.JsonSave({'model': checksums(model)}),
    }
    manager.save(0, args=ocp.args.Composite(**items), force=True)
    manager.wait_until_finished()
  write_json(f'{path}/meta.json', meta)


def load_params(path: str | os.PathLike, *, average: bool = True) -> tuple[dict[str, Any], Meta]:
  """({'params': ..., **stats} as NumPy arrays, meta) of the newest checkpoint; the moving average
  if kept and wanted.

  Raises FileNotFoundError where the folder holds no complete checkpoint, ValueError where that is
  damaged.
  """
  import orbax.checkpoint as ocp

  meta = read_meta(path)
  folder = remote.path(path) / 'checkpoints'
  steps = complete_steps(folder)
  if not steps:
    raise FileNotFoundError(f'no complete checkpoint in {folder}: the run has not saved yet')
  step = steps[-1]
  with _reading(folder, step), ocp.StandardCheckpointer() as checkpointer:
    shapes = checkpointer.metadata(folder / str(step) / 'model').item_metadata.tree
    target = jax.tree.map(
      lambda x: np.zeros(x.shape, x.dtype), shapes, is_leaf=lambda x: hasattr(x, 'shape')
    )
    model = checkpointer.restore(folder / str(step) / 'model', target)
    found = sorted(model)
    if not {'params', 'stats', 'ema'} <= set(found):
      raise ValueError(f'its model holds {found}, not params, stats and ema')
    for name in _kept_checksums(folder, step):
      with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as sums:
        _check_sums(model, sums.restore(folder / str(step) / name)['model'])
  meta['step'] = step
  params = model['ema'] if average and model['ema'] else model['params']
  return {'params': params, **model['stats']}, meta


def check_fits(model: Any, clip: Any, variables: dict[str, Any], path: str | os.PathLike) -> None:
  """Raises ValueError listing the names by which the variables of `path` differ from those that
  `model` wants."""
  video = jax.ShapeDtypeStruct((1, clip.num_frames, clip.crop_size, clip.crop_size, 3), np.float32)
  wanted = jax.eval_shape(lambda rng, x: model.init(rng, x, train=False), jax.random.key(0), video)
  differences = _compare(wanted, variables)
  if differences:
    raise ValueError(
      f'the checkpoint in {path} is of another model than the config:\n' + _list(differences)
    )


def warm_start(
  params: Any,
  stats: Any,
  path: str | os.PathLike,
  *,
  skip: Sequence[str] = (),
  resize: Callable[[str, np.ndarray, tuple[int, ...], dict[str, Any]], np.ndarray | None]
  | None = None,
  rename: Callable[[Collection[str], Collection[str]], dict[str, str]] | None = None,
  adapt: Callable[[Any], Any] | None = None,
) -> tuple[Any, Any, dict[str, list[str]]]:
  """Parameters and statistics taken from the checkpoint in `path`, and a report {loaded, resized,
  skipped}.

  Every name must match in both directions, unless a regular expression of `skip` matches it whole.
  `resize(name, array, shape, meta)` adapts what has another shape (position tables, kernels of
  images), or answers None; `rename(names, wanted)` says what those of another kind of network are
  called here; `adapt(params)` changes what was loaded. Raises ValueError with the lists of names
  that do not fit.
  """
  loaded, meta = load_params(path)
  source = tree.flatten(loaded.pop('params'))
  source_stats = tree.flatten(loaded)
  report: dict[str, list[str]] = {'loaded': [], 'resized': [], 'skipped': []}
  wrong: list[str] = []

  def take(wanted: dict[str, Any], given: dict[str, Any], prefix: str) -> dict[str, Any]:
    result = dict(wanted)
    if rename is not None:
      here = rename(given.keys(), wanted.keys())
      given = {here[name]: value for name, value in given.items()}
    for name in sorted(wanted.keys() | given.keys()):
      plain = (
        name.split('/', 1)[1] if prefix else name
      )  # statistics: 'batch_stats/backbone/...' is skipped as its module
      if tree.matches(skip, plain):
        report['skipped'].append(name)
      elif name not in given:
        wrong.append(f'+ {name} {tuple(wanted[name].shape)}: missing in the checkpoint')
      elif name not in wanted:
        wrong.append(f'- {name} {tuple(given[name].shape)}: the model has no such parameter')
      elif tuple(given[name].shape) == tuple(wanted[name].shape):
        result[name] = np.asarray(given[name], wanted[name].dtype)
        report['loaded'].append(name)
      elif (
        resize is not None
        and (fitted := resize(name, given[name], tuple(wanted[name].shape), meta)) is not None
      ):
        result[name] = np.asarray(fitted, wanted[name].dtype)
        report['resized'].append(name)
      else:
        wrong.append(
          f'! {name}: {tuple(given[name].shape)} in the checkpoint, {tuple(wanted[name].shape)} in '
          'the model'
        )
    return result

  new_params = take(tree.flatten(params), source, '')
  new_stats = take(tree.flatten(stats), source_stats, 'stats')
  if wrong:
    raise ValueError(
      f'the checkpoint in {path} does not fit the model; name what may differ in init.skip '
      '(regular expressions such as '
      f"'head/.*'):\n" + _list(wrong)
    )
  _check_used(skip, report['skipped'], path)
  loaded = tree.unflatten(new_params)
  return adapt(loaded) if adapt else loaded, tree.unflatten(new_stats), report


def _check_used(skip: Sequence[str], skipped: Sequence[str], path: str | os.PathLike) -> None:
  """Raises ValueError naming patterns of init.skip that match nothing."""
  unused = [
    p for p in skip if not any(tree.matches([p], n.removeprefix('batch_stats/')) for n in skipped)
  ]
  if unused:
    raise ValueError(
      f'init.skip has {unused}, which match no parameter of the model or of {path}: remove or '
      'correct them'
    )
