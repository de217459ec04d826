"""All tests see eight simulated CPU devices; public signatures of vjax are shape-checked
(production is not)."""

import importlib.metadata
import os
import pathlib
import tempfile

import pytest

os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
)
# XLA has two ways to write fused loops for CPUs; the older one compiles a training step of a CNN in
# half the time. A flag that a jaxlib does not know ends the process: 0.10 knows this one.
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  os.environ['XLA_FLAGS'] += ' --xla_cpu_use_fusion_emitters=false'
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')
# Tests, and the processes they start, train the same small networks over and over: each is compiled
# once.
if 'PYTEST_XDIST_WORKER' not in os.environ:  # workers inherit it
  _COMPILED = tempfile.TemporaryDirectory(prefix='vjax-compiled-')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _COMPILED.name
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.02'
os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'

from jaxtyping import install_import_hook

install_import_hook(
  ['vjax.models', 'vjax.heads', 'vjax.layers', 'vjax.kernels'], 'beartype.beartype'
)


@pytest.fixture
def optimized():
  """LLVM's optimizations, which the Makefile leaves out, for a test that computes longer than it
  compiles."""
  import jax

  before = jax.config.values['jax_disable_most_optimizations']
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', before)


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory) -> pathlib.Path:
  """A folder with the built-in dataset, 60 training and 36 test clips: real H.264 videos, written
  as records."""
  from data_prep import synthetic

  folder = tmp_path_factory.mktemp('data')
  synthetic.prepare(str(folder / 'motions'), 60, 36, seed=0)
  return folder


# The costliest files begin first, so that no core waits for one of them at the end.
COSTLY = (
  'test_train', 'test_processes', 'test_kills', 'test_zoo', 'test_disks', 'test_mvit', 'test_ibm',
  'test_gpu_benchmark', 'test_joint', 'test_checkpoints', 'test_demo', 'test_visualize',
  'test_evaluate', 'test_study', 'test_colab', 'test_motion4', 'test_inflate', 'test_usable',
  'test_predict', 'test_resnet', 'test_vit', 'test_mae_golden', 'test_vmz', 'test_conv',
)  # fmt: skip


def pytest_collection_modifyitems(items):
  """Sorts files by cost, and keeps the order within each."""
  place = {name: number for number, name in enumerate(COSTLY)}
  items.sort(key=lambda item: place.get(item.path.stem, len(COSTLY)))
