"""The house stands: every file imports, imports point down and in no circle, nothing of one machine
is in the tree."""

import ast
import importlib
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# Rooms of vjax: a file sees those on lower floors, and files of its own room.
FLOORS = {
  **dict.fromkeys(['demo', 'visualize'], 9),  # a study with a report; views that predict makes
  **dict.fromkeys(['main', 'study', 'predict', 'zoo', 'config_docs'], 8),
  'train': 7,  # evaluates on the way
  'built_in_data': 7,  # main, study and demo render the built-in data
  'analysis': 6.5,  # of results, evaluations among them
  'evaluate': 6,
  'export': 6,
  'inference': 5,
  **dict.fromkeys(['build', 'convert', 'guards'], 4),  # whole models of what lies below
  **dict.fromkeys(['factory', 'checks'], 3.5),  # models with their heads; checks of whole configs
  'train_step': 3,
  **dict.fromkeys(['models', 'heads', 'objectives', 'evals', 'cost', 'checkpoint', 'lock'], 3),
  'study_report': 3,  # tables and figures
  'study_needs': 4,  # and names runs as they do
  **dict.fromkeys(['data', 'layers', 'optim', 'metrics', 'preprocess', 'figures', 'inflate'], 2),
  **dict.fromkeys(['config', 'sharding'], 1),
  'targets': 2.5,  # of objectives, made of clips cut by layers
  'device_augment': 1.5,  # preprocess calls it
  'old_models': 0.5,  # reads old configs
  **dict.fromkeys(
    [
      'budget',
      'types',
      'registry',
      'tree',
      'files',
      'kernels',
      'code_version',
      'event_writer',
      'feed',
      'sources',
    ],
    0,
  ),
  's3': -1,  # of files
}
COMMANDS = 8  # this floor and those above see configs/ and data_prep/
RENDERS = 'built_in_data'  # sees data_prep/ for them
SEEN_BY_CONFIGS = ('config', 'registry', 'tree', 'types')
SEEN_BY_STUDIES = ('analysis',)  # these too: tables and figures of results
SEEN_BY_DATA_PREP = ('data', 'files')  # without what of it needs JAX
TREES = ('vjax', 'configs', 'data_prep', 'benchmarks')
FILES = sorted(p.relative_to(ROOT) for d in TREES for p in (ROOT / d).rglob('*.py'))


def imports(path: pathlib.Path):
  """(imported module, whether at the top of the file) of a Python file."""
  tree = ast.parse((ROOT / path).read_text())
  top = set(tree.body)
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from ((alias.name, node in top) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
      yield from ((f'{node.module}.{alias.name}', node in top) for alias in node.names)


def room(parts) -> str | None:
  """'models' for vjax/models/vit.py or vjax.models.vit; None outside vjax and for
  vjax/__init__.py."""
  parts = [p.removesuffix('.py') for p in parts]
  return parts[1] if parts[0] == 'vjax' and len(parts) > 1 and parts[1] != '__init__' else None


@pytest.mark.parametrize('path', FILES, ids=str)
def test_every_file_imports(path):
  module = '.'.join(path.with_suffix('').parts).removesuffix('.__init__')
  if ('torch', True) in imports(path):
    pytest.importorskip('torch', reason='PyTorch is an optional extra')
  assert importlib.import_module(module).__name__ == module


@pytest.mark.parametrize('path', FILES, ids=str)
def test_imports_point_down(path):
  here, tree = room(path.parts), path.parts[0]
  for module, _ in imports(path):
    parts = module.split('.')
    there, what = room(parts), f'{path} imports {module}'
    if parts[0] not in TREES or tree == 'benchmarks':  # which stands on top
      continue
    assert parts[0] != 'benchmarks', what
    if tree == 'configs':
      seen = SEEN_BY_CONFIGS + (SEEN_BY_STUDIES if path.parts[1] == 'studies' else ())
      assert parts[0] == 'configs' or there in seen, what
    elif tree == 'data_prep':
      assert parts[0] == 'data_prep' or there in SEEN_BY_DATA_PREP, what
    elif parts[0] != 'vjax':
      renders = here == RENDERS and parts[0] == 'data_prep'
      assert renders or FLOORS.get(here, 0) >= COMMANDS, what
    elif here in FLOORS and there in FLOORS:
      assert there == here or FLOORS[there] < FLOORS[here], (
        f'{what}, floor {FLOORS[here]} to {FLOORS[there]}'
      )


def test_every_room_has_a_floor():
  rooms = {room(path.parts) for path in FILES if path.parts[0] == 'vjax'} - {None}
  assert rooms <= set(FLOORS), f'add to FLOORS: {sorted(rooms - set(FLOORS))}'


def file_of(module: str) -> str | None:
  """The file that holds what is imported as `module`, which may end in a name of that file."""
  parts = module.split('.')
  for n in range(len(parts), 0, -1):
    for end in ('.py', '/__init__.py'):
      if pathlib.Path('/'.join(parts[:n]) + end) in FILES:
        return '/'.join(parts[:n]) + end
  return None


def test_no_circle_of_imports():
  """Files that import none of those left, or are imported by none, are taken away again and again:
  circles stay."""
  left = {}
  for path in FILES:
    seen = {file_of(module) for module, _ in imports(path)}
    left[path.as_posix()] = seen - {None, path.as_posix()}
  while True:
    seen = set().union(*left.values())
    circles = {f: left[f] & left.keys() for f in left if f in seen and left[f] & left.keys()}
    if circles == left:
      break
    left = circles
  assert not left, f'these files import each other, directly or through others: {left}'


@pytest.mark.parametrize('path', FILES, ids=str)
def test_who_may_see_what(path):
  tensorflow = path.parts[:2] == ('vjax', 'data') or path.parts[0] in ('data_prep', 'benchmarks')
  for module, top in imports(path):
    package = module.split('.')[0]
    assert package != 'torch' or path.parts[0] == 'benchmarks', f'{path} imports torch'
    if package in ('tensorflow', 'tensorflow_datasets'):
      assert tensorflow and not top, (
        f'{path}: tensorflow belongs to data/ and data_prep/, inside functions'
      )
    if package == 'ml_collections':
      assert path.parts[0] == 'configs' or path.name in ('main.py', 'config.py'), (
        f'{path} sees configs'
      )
  if path.parts[0] == 'vjax' and path.name not in ('sharding.py', 'config.py'):
    assert not re.search(r"""['"]fsdp['"]""", (ROOT / path).read_text()), (
      f'{path} names a mesh axis'
    )


def test_models_and_objectives_import_no_tensorflow():
  code = (
    'import sys, pkgutil, importlib\n'
    "for room in ('models', 'heads', 'objectives', 'layers', 'convert'):\n"
    "  package = importlib.import_module(f'vjax.{room}')\n"
    '  for m in pkgutil.iter_modules(package.__path__):\n'
    "    if m.name != '__main__': importlib.import_module(f'vjax.{room}.{m.name}')\n"
    'import vjax.optim, vjax.train\n'
    "print('tensorflow' in sys.modules, 'ml_collections' in sys.modules and 'vjax.build' not in "
    'sys.modules)\n'
  )
  python = __import__('sys').executable
  result = subprocess.run(
    [python, '-c', code], capture_output=True, text=True, cwd=ROOT, check=True
  )
  assert result.stdout.split() == ['False', 'False'], result.stderr


def test_no_machine_paths():
  listed = subprocess.run(
    ['git', 'ls-files'], capture_output=True, text=True, cwd=ROOT, check=True
  ).stdout.split()
  pattern = re.compile('|'.join(['/ho' + 'me/', '/wo' + 'rk/', '/Us' + 'ers/', 'bash_' + 'jobs']))
  for name in listed:
    path = ROOT / name
    if path.suffix in ('.py', '.md', '.toml', '.ipynb', '.yml', '') and path.is_file():
      found = pattern.search(path.read_text(errors='ignore'))
      assert not found, f'{name} names a path of one machine: {found.group()}'


@pytest.mark.parametrize('path', FILES, ids=str)
def test_docstrings_begin_with_a_verb_or_a_noun(path):
  """No "what"-clauses in place of a noun."""
  for node in ast.walk(ast.parse((ROOT / path).read_text())):
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
      text = ast.get_docstring(node) or ''
      assert not re.match(r'(What|Whatever|Whether|How|Which|Where|When|Who)\b', text), text
