"""colabs/linear_probe.ipynb runs from top to bottom on the built-in data."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

from tests.experiments import shrunk
from vjax import build, train

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.slow
def test_linear_probe_runs(data_dir, tmp_path):
  config = shrunk('mae_k400', **{'optim.total_steps': 2})
  config['evals'] = {}
  train.run(build.experiment(config, str(data_dir)), str(tmp_path / 'run'))
  notebook = nbformat.read(ROOT / 'colabs' / 'linear_probe.ipynb', as_version=4)
  assert all(not cell.get('outputs') for cell in notebook.cells)
  env = {'VJAX_WORKDIR': str(tmp_path / 'run'), 'VJAX_DATA': str(data_dir), 'XLA_FLAGS': ''}
  with pytest.MonkeyPatch.context() as patch:
    for name, value in env.items():
      patch.setenv(name, value)
    patch.delenv('MPLBACKEND', raising=False)  # the kernel shows figures in the page
    NotebookClient(notebook, timeout=300, resources={'metadata': {'path': str(ROOT)}}).execute()
  text = ''.join(o.get('text', '') for cell in notebook.cells for o in cell.get('outputs', []))
  assert 'probe of this checkpoint' in text and 'chance                      8.3%' in text
  pictures = [
    o
    for cell in notebook.cells
    for o in cell.get('outputs', [])
    if 'image/png' in o.get('data', {})
  ]
  assert len(pictures) == 3  # confusion, neighbors, map
