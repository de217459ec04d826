"""Memory of a training step, from shapes alone, by variant, fsdp and rematerialisation:

  python -m benchmarks.memory [--config=mae_k400] [--variants=B,L,H] [--devices=8]

State: parameters, optimizer moments and gradients on each device. Saved: what the forward pass keeps for the backward
pass, a clip, as formulated on this backend; fused attention on GPUs keeps no tokens x tokens matrix. A device needs
state + clips on it x saved, a gathered copy of the layer at work, and the compiler's margin.
"""

from __future__ import annotations

import argparse
import importlib
import os


def state_bytes(config: dict, fsdp: int) -> tuple[int, int]:
  """(parameters, bytes of parameters, gradients and optimizer state on one device)."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from vjax import build, shard
  from vjax.types import ClipSpec

  net, clip = build.model(config, 400), ClipSpec(**config['clip'])
  tx = build.optimizer(config, net, clips_per_epoch=240_000)[0]
  video = jax.ShapeDtypeStruct((1, clip.frames, clip.crop, clip.crop, 3), jnp.float32)
  params = jax.eval_shape(lambda rng, x: net.init(rng, x, train=False), jax.random.key(0), video)['params']
  state = {'params': params, 'gradients': params, 'opt_state': jax.eval_shape(tx.init, params)}
  shardings = shard.state_shardings(shard.mesh(fsdp), state)
  local = jax.tree.map(lambda x, s: int(np.prod(s.shard_shape(x.shape))) * x.dtype.itemsize, state, shardings)
  return sum(x.size for x in jax.tree.leaves(params)), sum(jax.tree.leaves(local))


def saved_bytes(config: dict, remat: bool) -> int:
  """Bytes that the forward pass of one more clip keeps for the backward pass."""
  import jax
  import jax.numpy as jnp

  from vjax import build
  from vjax.types import ClipSpec

  config = {**config, 'train': {**config['train'], 'remat': remat}}
  net, clip, objective = build.model(config, 400), ClipSpec(**config['clip']), build.objective(config)[0]
  shape = (clip.frames, clip.crop, clip.crop, 3)

  def residuals(clips: int) -> int:
    video = jax.ShapeDtypeStruct((clips, *shape), jnp.float32)
    variables = jax.eval_shape(lambda rng, x: net.init(rng, x, train=False), jax.random.key(0), video)
    params = variables.pop('params')
    batch = {'video': video, 'label': jax.ShapeDtypeStruct((clips,), jnp.int32)}
    batch |= {'mask': jax.ShapeDtypeStruct((clips,), jnp.float32)}

    def backward(params, stats, batch):
      batch = {**batch, 'rng': jax.random.split(jax.random.key(0), clips)}
      loss = lambda p: objective(net, p, stats, batch, jax.random.key(1), train=True)[0]
      return jax.vjp(loss, params)[1]

    kept = jax.eval_shape(backward, params, variables, batch)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept) if x.dtype != jax.dtypes.float0)

  return (residuals(96) - residuals(48)) // 48  # MixUp works on groups of 16, BatchNorm of 6 or 8


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--config', default='mae_k400')
  parser.add_argument('--variants', default='B,L,H')
  parser.add_argument('--devices', type=int, default=8, help='simulated')
  args = parser.parse_args()
  os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={args.devices}'
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  from vjax import build

  print(f'| config | parameters | state, fsdp=1 | state, fsdp={args.devices} | saved a clip | with remat |')
  print('| --- | --- | --- | --- | --- | --- |')
  for variant in args.variants.split(','):
    config = build.plain(importlib.import_module(f'configs.{args.config}').get_config(f'variant={variant}'))
    (count, whole), (_, part) = (state_bytes(config, n) for n in (1, args.devices))
    kept = ' | '.join(f'{saved_bytes(config, remat) / 2**20:.0f} MiB' for remat in (False, True))
    sizes = f'{whole / 2**30:.2f} GiB | {part / 2**30:.2f} GiB'
    print(f'| {args.config} {variant} | {count / 1e6:.1f} M | {sizes} | {kept} |', flush=True)


if __name__ == '__main__':
  main()
