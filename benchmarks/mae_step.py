"""Time of a masked-autoencoder training step at several mask ratios, and how much masking saves.

  python benchmarks/mae_step.py [--model=vit_small] [--batch=2] [--steps=3] [--dtype=float32]

A step is forward and backward at 16 x 224 x 224, decoder 512 x 4. Dense: the encoder sees every
token, masked ones as a learned token. The paper's figure for ViT-L: 7.7 times fewer operations at
90 % masking, 5.8 times less time (Feichtenhofer et al. 2022, sec. 4). Multiply-adds are counted by
formula: matrix products of the blocks and the embedding.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp

from vjax.heads import mae as mae_head
from vjax.models import vit
from vjax.objectives import mae
from vjax.types import VideoModel

SHAPE = (16, 224, 224)
RATIOS = (None, 0.75, 0.9)  # None: dense


def macs(tokens: int, width: int, depth: int) -> int:
  """Multiply-adds of `depth` blocks on `tokens` tokens: 12 N D^2 in linear layers, 2 N^2 D in
  attention."""
  return depth * (12 * tokens * width**2 + 2 * tokens**2 * width)


def step_macs(name: str, kept: int, tokens: int) -> int:
  """Multiply-adds of one clip, forward."""
  size = vit.MODELS[name]
  embed = kept * 1536 * size['width']
  decoder = (kept + 1) * size['width'] * 512 + macs(tokens + 1, 512, 4) + tokens * 512 * 768
  return embed + macs(kept + 1, size['width'], size['depth']) + decoder


def seconds(model: VideoModel, batch: dict, ratio: float, steps: int) -> float:
  """Least time of a training step's loss and gradient, after compilation."""
  params = model.init(jax.random.key(0), batch['video'], train=False)['params']

  @jax.jit
  def gradient(params, batch):
    loss = lambda p: mae.loss(model, p, {}, batch, jax.random.key(1), train=True, ratio=ratio)[0]
    return jax.value_and_grad(loss)(params)

  jax.block_until_ready(gradient(params, batch))
  times = []
  for _ in range(steps):
    start = time.perf_counter()
    jax.block_until_ready(gradient(params, batch))
    times.append(time.perf_counter() - start)
  return min(times)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--model', choices=vit.MODELS, default='vit_small')
  parser.add_argument('--batch', type=int, default=2)
  parser.add_argument('--steps', type=int, default=3)
  parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
  parser.add_argument('--remat', action='store_true')
  args = parser.parse_args()
  shared = {'dtype': jnp.dtype(args.dtype), 'remat': args.remat}
  batch = {
    'video': jax.random.normal(jax.random.key(0), (args.batch, *SHAPE, 3)),
    'valid': jnp.ones(args.batch),
    'rng': jax.random.split(jax.random.key(1), args.batch),
  }
  device = jax.devices()[0]
  print(f'{args.model}, {args.batch} clips, {args.dtype}, {device.platform} {device.device_kind}')
  print(f'{"mask":>6} {"s/step":>8} {"clips/s":>8} {"faster":>7} {"by MACs":>8} {"GMAC/s":>8}')
  first = None
  for ratio in RATIOS:
    backbone = vit.Backbone(**vit.MODELS[args.model], keep_mask_tokens=ratio is None, **shared)
    tokens = 8 * 14 * 14
    kept = tokens if ratio is None else int(tokens * (1 - ratio))
    cost = 3 * args.batch * step_macs(args.model, kept, tokens)
    took = seconds(
      VideoModel(backbone, mae_head.Head(**shared)),
      batch,
      0.9 if ratio is None else ratio,
      args.steps,
    )
    first = first or (took, cost)
    name = 'dense' if ratio is None else f'{ratio:.0%}'
    row = f'{name:>6} {took:8.3f} {args.batch / took:8.2f} {first[0] / took:6.2f}x {first[1] / cost:7.2f}x'
    print(f'{row} {cost / took / 1e9:8.0f}', flush=True)


if __name__ == '__main__':
  main()
