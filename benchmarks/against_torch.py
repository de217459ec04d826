"""vjax against PyTorch: the same weights, the same inputs, one process, measured in turns.

  python -m benchmarks.against_torch [--models=r2plus1d_18,mae_b_90,x3d_s] [--batch=2] [--steps=5] [--dtype=float32]
      [--device=auto]

The peers of benchmarks/peers.py and cnn_peers.py get random weights; vjax gets them through
vjax.convert. First both must give the same output and, from one training step, the same loss and
parameters: transformers in float32, CNNs in float64 on a small clip. Then medians of a call of
  inference   the whole network, forwards (of the masked autoencoder: encoder and decoder)
  step        forwards, backwards and optimizer: SGD with momentum for CNNs, AdamW for transformers
at 16x112x112 (R(2+1)D), 16x224x224 (autoencoders) or what cnn_peers.py says of the other CNNs
(--models=zoo: all of them), inputs on the device. mae_SIZE_RATIO: ViT-Ti, S, B or L at 90 or 75 %,
or 'dense', where the encoder sees removed tokens as a learned one; vit_SIZE: its classifier on all
tokens; mvit_s, mvit_b: MViTv2. Ratio: vjax over the fastest PyTorch; bars: 1.3 for dense 3D
networks on a CPU, 1.0 for everything else. On a GPU PyTorch runs as it is and compiled, CNNs with
channels last; bfloat16 is autocast. Memory: the most that a call takes beyond what is there between
calls. First: seconds of the first call, compilation included. Needs PyTorch: pip install -e
'.[bench]'
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vjax import convert, optim
from vjax.layers import mask as masks
from vjax.models import vit
from vjax.types import VideoModel

MODELS = ('r2plus1d_18', 'mae_b_dense', 'mae_b_75', 'mae_b_90')
RATIOS = {'dense': 0.9, '75': 0.75, '90': 0.9}
SAVING = 4.0  # bar: a dense step over one at 90 %
TOLERANCE = {'output': 1e-3, 'loss': 1e-3, 'step': 1e-2}  # relative, of float32
DOUBLE_TOLERANCE = {
  'output': 1e-6,
  'loss': 1e-6,
  'step': 1e-5,
}  # of float64; losses and compared parameters are float32
VITS = {'ti': 'vit_tiny', 's': 'vit_small', 'b': 'vit_base', 'l': 'vit_large', 'h': 'vit_huge'}


@dataclass
class Case:
  """One model: its peer, and what makes of the peer's weights our model and variables."""

  name: str
  peer: Any  # torch.nn.Module
  source: str
  variant: str
  objective: Callable
  optimizer: dict[str, Any]
  ratio: float | None  # of the mask; None: no masked autoencoder
  bar: float
  size: dict[str, int]  # of the backbone, where it is not the variant's
  clip: tuple[int, int] = (16, 224)  # frames, side

  def ours(self, dtype: Any) -> tuple[VideoModel, dict[str, Any]]:
    """Model and variables with the peer's weights."""
    weights = {
      name: tensor.detach().cpu().numpy() for name, tensor in self.peer.state_dict().items()
    }
    blank = weights.pop('encoder_mask_token', None)
    model, variables = convert.load(
      self.source, weights, variant=self.variant, dtype=dtype, **self.size
    )
    if blank is not None:  # no published model has one, so the converter knows no name for it
      model = VideoModel(model.backbone.clone(keep_mask_tokens=True), model.head)
      variables['params']['backbone']['mask_token'] = blank
    return model, variables


def case(name: str, **sizes: Any) -> Case:
  """The case of a name; sizes: of the masked autoencoder's peer, for tests. Raises ValueError for
  another name."""
  from benchmarks import peers
  from vjax.objectives import classify, mae

  if name == 'r2plus1d_18':
    rule = dict(name='sgd', momentum=0.9, nesterov=False, weight_decay=1e-4)
    peer = peers.randomise(peers.R2Plus1D18())
    return Case(
      name,
      peer,
      'torchvision',
      'tv_r2plus1d_18',
      classify.loss,
      rule,
      None,
      1.3,
      {},
      (16, 112),
    )
  from benchmarks import cnn_peers

  if name in cnn_peers.SETTINGS:
    rule = dict(name='sgd', momentum=0.9, nesterov=False, weight_decay=1e-4)
    source, variant, clip, bar, backbone = cnn_peers.SETTINGS[name]
    peer = peers.randomise(cnn_peers.make(name))
    return Case(name, peer, source, variant, classify.loss, rule, None, bar, backbone, clip)
  adamw = dict(name='adamw', b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.05)
  if name in ('mvit_s', 'mvit_b'):
    from benchmarks import mvit_peer

    depths, frames = mvit_peer.SIZES[name[-1]]
    variant = {'s': 'mvit_v2_s_16x4', 'b': 'mvit_v2_b_32x3'}[name[-1]]
    peer = peers.randomise(mvit_peer.MViT(depths, frames))
    return Case(name, peer, 'slowfast', variant, classify.loss, adamw, None, 1.0, {}, (frames, 224))
  kind, _, rest = name.partition('_')
  if kind == 'vit' and rest in VITS:
    peer = peers.randomise(peers.ViT(**vit.MODELS[VITS[rest]]))
    return Case(name, peer, 'mae_st', VITS[rest], classify.loss, adamw, None, 1.0, {})
  size, _, ratio = rest.partition('_')
  if kind != 'mae' or size not in VITS or ratio not in RATIOS:
    cnns = ', '.join(('r2plus1d_18', *cnn_peers.SETTINGS))
    raise ValueError(
      f'--models: {name!r} is none of {cnns}, mvit_s, mvit_b, nor vit_SIZE, mae_SIZE_RATIO, e.g. '
      'vit_b, mae_s_dense'
    )
  share = RATIOS[ratio]
  rule = dict(name='adamw', b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.05)
  row = vit.MODELS[VITS[size]]
  sizes = {**row, **sizes}
  backbone = {key: sizes[key] for key in row}
  peer = peers.randomise(peers.MAE(**sizes, ratio=share, dense=ratio == 'dense'))
  return Case(
    name,
    peer,
    'mae_st',
    VITS[size],
    partial(mae.loss, ratio=share),
    rule,
    share,
    1.0,
    backbone,
  )


def inputs(case: Case, batch: int, frames: int, side: int, seed: int = 0) -> dict[str, np.ndarray]:
  """video (B, T, H, W, 3) normal, label (B,), mask (B,) ones, keys (B, 2) of the clips'
  randomness."""
  rng = np.random.default_rng(seed)
  keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), batch)))
  video = rng.standard_normal((batch, frames, side, side, 3), np.float32)
  return {
    'video': video,
    'label': rng.integers(0, 400, batch),
    'valid': np.ones(batch, np.float32),
    'keys': keys,
  }


def noise(keys: Any, tokens: int) -> jax.Array:
  """(B, N): what vjax's random mask draws for the clips' keys."""
  return jax.vmap(lambda key: jax.random.uniform(key, (tokens,)))(
    jax.random.wrap_key_data(jnp.asarray(keys))
  )


class Ours:
  """vjax: `infer()` gives the output, `step()` the loss; state and inputs stay on the device.
  `start_infer` and `start_step` are the same but wait for nothing."""

  def __init__(self, case: Case, batch: dict[str, np.ndarray], dtype: Any, rate: float = 1e-3):
    model, variables = case.ours(dtype)
    batch = {**jax.device_put(batch), 'rng': jax.random.wrap_key_data(jnp.asarray(batch['keys']))}
    tx = optim.make(
      variables['params'], schedule=optax.constant_schedule(rate), decayed='all', **case.optimizer
    )

    def forward(variables, batch):
      if case.ratio is None:
        return model.apply(variables, batch['video'], train=False)
      grid = model.backbone.grid(batch['video'].shape[1:4])
      mask = masks.make(batch['rng'], grid, case.ratio, 'random')
      return model.apply(variables, batch['video'], train=False, token_mask=mask)

    def update(state, batch):
      params, stats, moments = state
      loss = lambda p: case.objective(model, p, stats, batch, jax.random.key(0), train=True)
      (value, (_, stats)), grads = jax.value_and_grad(loss, has_aux=True)(params)
      updates, moments = tx.update(grads, moments, params)
      return (optax.apply_updates(params, updates), stats, moments), value

    if dtype == jnp.float64:
      variables = jax.tree.map(lambda x: jnp.asarray(x, dtype), variables)
    self.batch, self.variables = batch, jax.device_put(variables)
    params = jax.tree.map(jnp.copy, self.variables['params'])
    stats = {
      name: jax.tree.map(jnp.copy, tree)
      for name, tree in self.variables.items()
      if name != 'params'
    }
    self.state = (params, stats, jax.jit(tx.init)(params))
    self.forward, self.update = jax.jit(forward), jax.jit(update, donate_argnums=0)

  def start_infer(self) -> jax.Array:
    return self.forward(self.variables, self.batch)

  def start_step(self) -> jax.Array:
    self.state, loss = self.update(self.state, self.batch)
    return loss

  def infer(self) -> jax.Array:
    return jax.block_until_ready(self.start_infer())

  def step(self) -> float:
    loss = self.start_step()
    jax.block_until_ready(self.state)
    return float(loss)

  def planned_bytes(self, what: str) -> int:
    """Work memory of a call by the compiler's plan."""
    function, first = {'infer': (self.forward, self.variables), 'step': (self.update, self.state)}[
      what
    ]
    return function.lower(first, self.batch).compile().memory_analysis().temp_size_in_bytes


class Theirs:
  """PyTorch: the same calls. channels_last: layout of parameters and inputs, None = of CNNs on
  GPUs."""

  def __init__(
    self, case: Case, batch: dict[str, np.ndarray], dtype: str, device: str, compiled: bool,
    rate: float = 1e-3,
    channels_last: bool | None = None,
  ):  # fmt: skip
    import torch

    last = (
      device == 'cuda' and case.optimizer['name'] == 'sgd'
      if channels_last is None
      else channels_last
    )
    layout = torch.channels_last_3d if last else torch.contiguous_format
    self.peer = case.peer.to(device, memory_format=layout)
    video = torch.from_numpy(batch['video'].transpose(0, 4, 1, 2, 3).copy()).to(
      device, memory_format=layout
    )
    self.extra = torch.from_numpy(batch['label'])
    if case.ratio is not None:
      self.extra = torch.from_numpy(np.array(noise(batch['keys'], self.peer.tokens)))
    self.video, self.extra = video, self.extra.to(device)
    wrap = torch.compile if compiled else lambda function: function
    self.forward = wrap(self.peer.forward)
    self.loss = wrap(self.peer.loss)
    rule = dict(case.optimizer)
    if rule.pop('name') == 'sgd':
      rule.pop('nesterov')
      self.tx = torch.optim.SGD(self.peer.parameters(), lr=rate, **rule)
    else:
      betas = rule.pop('b1'), rule.pop('b2')
      self.tx = torch.optim.AdamW(self.peer.parameters(), lr=rate, betas=betas, fused=True, **rule)
    half = dtype == 'bfloat16'
    self.cast = lambda: torch.autocast(device, torch.bfloat16, enabled=half)
    self.wait = torch.cuda.synchronize if device == 'cuda' else lambda: None
    self.inference, self.masked = torch.inference_mode, case.ratio is not None

  def start_infer(self) -> Any:
    self.peer.eval()
    with self.inference(), self.cast():
      return self.forward(self.video, self.extra) if self.masked else self.forward(self.video)

  def start_step(self) -> Any:
    self.peer.train()
    self.tx.zero_grad(set_to_none=True)
    with self.cast():
      loss = self.loss(self.video, self.extra)
    loss.backward()
    self.tx.step()
    return loss

  def infer(self) -> Any:
    out = self.start_infer()
    self.wait()
    return out

  def step(self) -> float:
    loss = self.start_step()
    self.wait()
    return loss.item()


def difference(ours: Any, theirs: Any) -> float:
  """Largest difference relative to the largest of their values."""
  ours, theirs = np.asarray(ours, np.float32), theirs.detach().float().cpu().numpy()
  return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def check(
  case: Case, batch: dict[str, np.ndarray], device: str, double: bool = False
) -> dict[str, float]:
  """Relative differences at full precision of the outputs and after one training step; the peer is
  left as it was. Raises ValueError where they exceed the tolerance. double: in float64, where the
  signs that ReLUs turn on are the same."""
  import torch

  before = {name: tensor.clone() for name, tensor in case.peer.state_dict().items()}
  tf32 = torch.backends.cudnn.allow_tf32
  torch.backends.cudnn.allow_tf32 = False
  dtype, bounds = ('float64', DOUBLE_TOLERANCE) if double else ('float32', TOLERANCE)
  batch = {**batch, 'video': batch['video'].astype(dtype)}
  case.peer.to(getattr(torch, dtype))
  with jax.default_matmul_precision('highest'), jax.enable_x64(double):
    ours = Ours(
      case, batch, jnp.dtype(dtype), rate=1.0
    )  # so large that rounding of the parameters does not hide the step
    theirs = Theirs(case, batch, dtype, device, compiled=False, rate=1.0)
    found = {'output': difference(ours.infer(), theirs.infer())}
    a, b = ours.step(), theirs.step()
    found['loss'] = abs(a - b) / abs(b)
    _, moved = case.ours(jnp.float32)  # the peer's parameters after its step, under our names
    start = ours.variables['params']
    step = lambda params: np.concatenate(
      [
        np.ravel(new) - np.ravel(old)
        for new, old in zip(jax.tree.leaves(params), jax.tree.leaves(start))
      ]
    )
    x, y = step(ours.state[0]), step(moved['params'])
    found['step'] = float(np.linalg.norm(x - y) / np.linalg.norm(y))
  torch.backends.cudnn.allow_tf32 = tf32
  case.peer.float().load_state_dict(before)
  case.peer.zero_grad(set_to_none=True)
  wrong = {name: value for name, value in found.items() if not value < bounds[name]}
  if wrong:
    raise ValueError(
      f'{case.name}: vjax and PyTorch differ by {wrong}, relative; {bounds} is allowed'
    )
  return found


def in_turns(
  calls: dict[str, Callable], steps: int
) -> tuple[dict[str, float], dict[str, list[float]]]:
  """(seconds of the first call, seconds of `steps` later ones) by name, one of each in turn, each
  right after another that is not counted: in training steps follow one another, and memory that was
  given back meanwhile is slow to come by."""

  def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start

  first = {name: seconds(call) for name, call in calls.items()}
  times = {name: [] for name in calls}
  for _ in range(steps):
    for name, call in calls.items():
      call()
      times[name].append(seconds(call))
  return first, times


def resident_bytes(call: Callable) -> int:
  """Largest growth of this process during a call; Linux, sampled every 2 ms."""
  import ctypes
  import resource

  page, done, most = resource.getpagesize(), threading.Event(), 0

  def size() -> int:
    with open('/proc/self/statm') as file:
      return int(file.read().split()[1]) * page

  def watch() -> None:
    nonlocal most
    while not done.is_set():
      most = max(most, size())
      time.sleep(0.002)

  ctypes.CDLL(None).malloc_trim(0)  # what earlier calls freed would hide growth
  before, thread = size(), threading.Thread(target=watch)
  thread.start()
  call()
  done.set()
  thread.join()
  return max(0, most - before)


def memory(name: str, side: Ours | Theirs, what: str, device: str) -> int:
  """Bytes a call takes beyond what is there between calls: seen on a CPU; on a GPU planned by XLA,
  seen by PyTorch."""
  if device == 'cpu':
    return resident_bytes(getattr(side, what))
  if name == 'vjax':
    return side.planned_bytes(what)
  import torch

  torch.cuda.reset_peak_memory_stats()
  before = torch.cuda.memory_allocated()
  getattr(side, what)()
  return torch.cuda.max_memory_allocated() - before


def measure(
  name: str, batch: int, steps: int, dtype: str, device: str
) -> dict[str, dict[str, float]]:
  """Checks one model, prints its rows; the medians in seconds, by what and by whom."""
  chosen = case(name)
  data = inputs(chosen, batch, *chosen.clip)
  if chosen.optimizer['name'] == 'sgd':  # a small clip will do: CNNs take any
    found = check(chosen, inputs(chosen, 2, 8, 64), 'cpu', double=True)
  else:
    found = check(chosen, data, device)
  print(
    f'{name}: relative difference ' + ', '.join(f'{k} {v:.1e}' for k, v in found.items()),
    flush=True,
  )
  sides: dict[str, Any] = {'vjax': Ours(chosen, data, jnp.dtype(dtype))}
  sides['PyTorch'] = Theirs(chosen, data, dtype, device, compiled=False)
  if device == 'cuda':
    sides['PyTorch compiled'] = Theirs(chosen, data, dtype, device, compiled=True)
  medians = {}
  bar = chosen.bar if device == 'cpu' else 1.0
  for what in ('infer', 'step'):
    first, times = in_turns({who: getattr(side, what) for who, side in sides.items()}, steps)
    medians[what] = {who: statistics.median(seconds) for who, seconds in times.items()}
    best = min(value for who, value in medians[what].items() if who != 'vjax')
    for who, side in sides.items():
      ratio = medians[what]['vjax'] / best
      verdict = (
        f'{ratio:7.2f}{bar:5.1f}  {"met" if ratio <= bar else "missed"}' if who == 'vjax' else ''
      )
      row = f'{name:13}{"inference" if what == "infer" else "step":10}{who:17}{1e3 * medians[what][who]:10.1f}'
      row += f'{1e3 * min(times[who]):10.1f}{first[who]:8.1f}{memory(who, side, what, device) / 2**20:9.0f}'
      print(row + verdict, flush=True)
  return medians


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    '--models', default=','.join(MODELS), help='r2plus1d_18, mae_{ti,s,b,l}_{dense,75,90}'
  )
  parser.add_argument('--batch', type=int, default=2, help='clips a call')
  parser.add_argument('--steps', type=int, default=5, help='calls measured of each')
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
  parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto')
  args = parser.parse_args()
  os.environ.setdefault(
    'XLA_PYTHON_CLIENT_PREALLOCATE', 'false'
  )  # PyTorch needs memory of the device, too
  try:
    import torch
  except ImportError:
    raise SystemExit("error: PyTorch is not installed: pip install -e '.[bench]'") from None
  if args.device == 'cpu':
    jax.config.update('jax_platforms', 'cpu')
  both = jax.default_backend() == 'gpu' and torch.cuda.is_available()
  if args.device == 'cuda' and not both:
    raise SystemExit(
      f'error: --device=cuda: JAX sees {jax.default_backend()}, PyTorch CUDA: '
      f'{torch.cuda.is_available()}'
    )
  device = 'cuda' if both else 'cpu'
  if device == 'cpu':
    jax.config.update('jax_platforms', 'cpu')
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
  torch.set_num_threads(cores)
  torch.backends.cuda.matmul.allow_tf32 = True  # as JAX does by itself
  kind = jax.devices()[0].device_kind
  print(
    f'{kind}, {cores} cores, {args.dtype}, {args.batch} clips; jax {jax.__version__}, torch '
    f'{torch.__version__}'
  )
  print(
    f'{"model":13}{"what":10}{"":17}{"median ms":>10}{"min ms":>10}{"first s":>8}{"MiB":>9}{"ratio":>7}{"bar":>5}'
  )
  found = {}
  from benchmarks import cnn_peers

  for name in args.models.replace('zoo', ','.join(cnn_peers.SETTINGS)).split(','):
    found[name] = measure(name, args.batch, args.steps, args.dtype, device)
  for name in found:
    dense = name.removesuffix('90') + 'dense'
    if name.endswith('_90') and dense in found:
      saved = {
        who: found[dense]['step'][who] / found[name]['step'][who] for who in found[name]['step']
      }
      verdict = 'met' if saved['vjax'] >= SAVING else 'missed'
      print(
        f'{name}: a dense step takes '
        + ', '.join(f'{x:.2f} times ({who})' for who, x in saved.items()),
        end='',
      )
      print(f'; bar {SAVING} for vjax: {verdict}')


if __name__ == '__main__':
  main()
