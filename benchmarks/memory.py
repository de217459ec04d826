"""Memory of a training step, from shapes alone, by variant, fsdp and rematerialisation:

  python -m benchmarks.memory [--config=mae_k400] [--variants=B,L,H] [--devices=8]
  python -m benchmarks.memory --variants=B --compiled     also what the compiler plans for a clip more, minutes each

State: parameters, optimizer moments and gradients on each device. Saved: what the forward pass
keeps for the backward pass, a clip, as formulated on this backend; fused attention on GPUs keeps no
tokens x tokens matrix. A device needs state + clips on it x saved, a gathered copy of the layer at
work, and the compiler's margin.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable


def state_bytes(config: dict, fsdp: int) -> tuple[int, int]:
  """(parameters, bytes of parameters, gradients and optimizer state on one device)."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from vjax import build, sharding
  from vjax.config import parse

  net, clip = build.model(config, 400), parse(config).clip
  tx = build.optimizer(config, net, clips_per_epoch=240_000)[0]
  video = jax.ShapeDtypeStruct((1, clip.num_frames, clip.crop_size, clip.crop_size, 3), jnp.float32)
  params = jax.eval_shape(lambda rng, x: net.init(rng, x, train=False), jax.random.key(0), video)[
    'params'
  ]
  state = {'params': params, 'gradients': params, 'opt_state': jax.eval_shape(tx.init, params)}
  shardings = sharding.state_shardings(sharding.mesh(fsdp), state)
  local = jax.tree.map(
    lambda x, s: int(np.prod(s.shard_shape(x.shape))) * x.dtype.itemsize, state, shardings
  )
  return sum(x.size for x in jax.tree.leaves(params)), sum(jax.tree.leaves(local))


def step(config: dict, remat: bool, clips: int) -> tuple[Callable, tuple]:
  """(function that gives the loss of params, statistics and batch; shapes of the three) for so many
  clips."""
  import jax
  import jax.numpy as jnp

  from vjax import build
  from vjax.config import parse

  config = {**config, 'train': {**config['train'], 'remat': remat}}
  net, clip, objective = build.model(config, 400), parse(config).clip, build.objective(config)
  video = jax.ShapeDtypeStruct(
    (clips, clip.num_frames, clip.crop_size, clip.crop_size, 3), jnp.float32
  )
  variables = jax.eval_shape(lambda rng, x: net.init(rng, x, train=False), jax.random.key(0), video)
  params = variables.pop('params')
  batch = {'video': video, 'label': jax.ShapeDtypeStruct((clips,), jnp.int32)}
  batch |= {'valid': jax.ShapeDtypeStruct((clips,), jnp.float32)}

  def loss(params, stats, batch):
    batch = {**batch, 'rng': jax.random.split(jax.random.key(0), clips)}
    return objective(net, params, stats, batch, jax.random.key(1), train=True)[0]

  return loss, (params, variables, batch)


def saved_bytes(config: dict, remat: bool) -> int:
  """Bytes that the forward pass of one more clip keeps for the backward pass."""
  import jax

  def residuals(clips: int) -> int:
    loss, (params, stats, batch) = step(config, remat, clips)
    backward = lambda params, stats, batch: jax.vjp(lambda p: loss(p, stats, batch), params)[1]
    kept = jax.eval_shape(backward, params, stats, batch)
    return sum(
      x.size * x.dtype.itemsize for x in jax.tree.leaves(kept) if x.dtype != jax.dtypes.float0
    )

  return (residuals(96) - residuals(48)) // 48  # MixUp works on groups of 16, BatchNorm of 6 or 8


def compiled_bytes(config: dict, remat: bool) -> int:
  """Bytes of work memory that the compiler plans for one more clip of loss and gradients, on one
  device."""
  import jax

  def planned(clips: int) -> int:
    loss, shapes = step(config, remat, clips)
    return jax.jit(jax.grad(loss)).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

  return (planned(96) - planned(48)) // 48


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--config', default='mae_k400')
  parser.add_argument('--variants', default='B,L,H')
  parser.add_argument('--devices', type=int, default=8, help='simulated')
  parser.add_argument(
    '--compiled', action='store_true', help='compare with what the compiler plans'
  )
  args = parser.parse_args()
  os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={args.devices}'
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  from vjax.config import plain

  columns = [
    'config',
    'parameters',
    'state, fsdp=1',
    f'state, fsdp={args.devices}',
    'saved a clip',
    'with remat',
  ]
  columns += ['planned by the compiler', 'with remat'] if args.compiled else []
  print(f'| {" | ".join(columns)} |')
  print(f'|{" --- |" * len(columns)}')
  for variant in args.variants.split(','):
    config = plain(
      importlib.import_module(f'configs.{args.config}').get_config(f'variant={variant}')
    )
    (count, whole), (_, part) = (state_bytes(config, n) for n in (1, args.devices))
    bytes_of = [saved_bytes, compiled_bytes] if args.compiled else [saved_bytes]
    kept = ' | '.join(
      f'{f(config, remat) / 2**20:.0f} MiB' for f in bytes_of for remat in (False, True)
    )
    sizes = f'{whole / 2**30:.2f} GiB | {part / 2**30:.2f} GiB'
    print(f'| {args.config} {variant} | {count / 1e6:.1f} M | {sizes} | {kept} |', flush=True)


if __name__ == '__main__':
  main()
