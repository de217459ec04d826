"""Benchmarks import, and their PyTorch peers are the networks that vjax computes."""

import importlib
import pathlib

import jax.numpy as jnp
import pytest

FOLDER = pathlib.Path(__file__).parent.parent / 'benchmarks'
NAMES = sorted(
  path.stem
  for path in FOLDER.glob('*.py')
  if path.stem not in ('__init__', 'peers', 'cnn_peers', 'mvit_peer', 'gpu_report')
)


@pytest.mark.parametrize('name', NAMES)
def test_benchmarks_import(name):
  assert importlib.import_module(f'benchmarks.{name}').main


@pytest.mark.slow
def test_peers_of_residual_networks():
  pytest.importorskip('torch', reason='peers are PyTorch')
  from benchmarks import against_torch as bench

  case = bench.case('r2plus1d_18')
  batch = bench.inputs(case, 1, 4, 16)
  ours = bench.Ours(case, batch, jnp.float32).infer()
  theirs = bench.Theirs(case, batch, 'float32', 'cpu', compiled=False).infer()
  assert bench.difference(ours, theirs) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
  'name', ['tam_r50', 'slowfast_4x16', 'i3d_r50', 'slow_r50', 'sts_slow_r50', 'csn_50', 'x3d_s']
)
def test_peers_of_the_zoo(name, monkeypatch):
  pytest.importorskip('torch', reason='peers are PyTorch')
  from benchmarks import against_torch as bench
  from benchmarks import cnn_peers

  if name != 'tam_r50':
    pytest.importorskip('pytorchvideo', reason="they are PyTorchVideo's")
  small = cnn_peers.SETTINGS[name]._replace(clip=(8, 64))
  monkeypatch.setitem(cnn_peers.SETTINGS, name, small)
  case = bench.case(name)
  batch = bench.inputs(case, 1, *case.clip)
  ours = bench.Ours(case, batch, jnp.float32).infer()
  theirs = bench.Theirs(case, batch, 'float32', 'cpu', compiled=False).infer()
  assert bench.difference(ours, theirs) < 1e-4


@pytest.mark.parametrize('ratio', ['90', pytest.param('dense', marks=pytest.mark.slow)])
def test_peers_of_masked_autoencoders(ratio):
  pytest.importorskip('torch', reason='peers are PyTorch')
  from benchmarks import against_torch as bench

  sizes = dict(width=24, depth=2, heads=3)
  case = bench.case(
    f'mae_ti_{ratio}', **sizes, frames=4, crop=32, decoder_width=32, decoder_depth=1
  )
  found = bench.check(case, bench.inputs(case, 2, 4, 32), 'cpu')
  assert found['output'] < 1e-4 and found['loss'] < 1e-4 and found['step'] < 1e-2


@pytest.mark.slow
def test_peers_of_transformers():
  pytest.importorskip('torch', reason='peers are PyTorch')
  from benchmarks import against_torch as bench
  from benchmarks import mvit_peer, peers

  case = bench.case('vit_ti')
  case.peer, case.clip = (
    peers.randomise(peers.ViT(**{'width': 192, 'depth': 12, 'heads': 3}, frames=4, crop=32)),
    (4, 32),
  )
  found = bench.check(case, bench.inputs(case, 2, 4, 32), 'cpu')
  assert found['output'] < 1e-4 and found['loss'] < 1e-4 and found['step'] < 1e-2
  case = bench.case('mvit_s')
  case.peer, case.clip = peers.randomise(mvit_peer.MViT((1, 2, 11, 2), 8, 64)), (8, 64)
  batch = bench.inputs(case, 1, 8, 64)
  ours = bench.Ours(case, batch, jnp.float32).infer()
  theirs = bench.Theirs(case, batch, 'float32', 'cpu', compiled=False).infer()
  assert bench.difference(ours, theirs) < 1e-4
