"""The cases of `python -m benchmarks.gpu`, in the order in which they are worth knowing. Importing
this imports no JAX."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PARTS = {
  1: 'What is there',
  2: 'Is it right?',
  3: 'Masked pre-training',
  4: 'Against PyTorch',
  5: 'Kernels',
  6: 'Size',
}


@dataclass(frozen=True)
class Case:
  """A few results that one process can find by itself.

  Attributes:
    name: of the case, unique; results are named `name` and the line.
    part: number in PARTS.
    function: 'file.function' in this folder, called with a Recorder and the settings.
    settings: arguments on a GPU.
    estimate_s: seconds on a GPU, compilation included; killed after twice as many.
    small: settings that differ on a CPU; None = not run there.
    small_s: seconds on a CPU.
    needs: packages without which it is skipped.
    env: environment variables; XLA_FLAGS are added to those that there are.
    timed: it measures time, so nothing may run beside it.
  """

  name: str
  part: int
  function: str
  settings: dict[str, Any]
  estimate_s: float
  small: dict[str, Any] | None = None
  small_s: float = 20.0
  needs: tuple[str, ...] = ()
  env: dict[str, str] = field(default_factory=dict)
  timed: bool = True


# fixture: source, variant, how its input becomes (B, T, H, W, 3), settings. One of each family.
_FIXTURES = {
  'r2plus1d': ('tv_r2plus1d_18', 'torchvision', 'tv_r2plus1d_18', 'clip', {}),
  'vit': ('mae_finetune_base_patch16', 'mae_st', 'vit_base', 'clip', {}),
  'mvit': ('sf_MVITv2_S_16x4', 'slowfast', 'mvit_v2_s_16x4', 'clip', {}),
  'slowfast': ('sf_SLOWFAST_4x16_R50', 'slowfast', 'slowfast_r50_4x16', 'clip', {}),
  'csn_sts': ('sts_ircsn_r50', 'sts', 'sts_ir_csn_r50', 'clip', {}),
  'x3d': ('sf_X3D_S', 'slowfast', 'x3d_s', 'clip', {}),
  'non_local': ('sf_I3D_NLN_8x8_R50', 'slowfast', 'i3d_nln_r50', 'clip', {}),
  'tsm': ('mm_tsm_resnet18', 'mmaction', 'tsm_r18', 'segments', {}),
  'tam': ('ibm_tam_resnet18', 'ibm', 'tam_r18', 'frame_major', {}),
  's3d_inception': ('ibm_s3d_inception', 'ibm', 's3d_inception', 'clip', {}),
}
_DETERMINISTIC = {'XLA_FLAGS': '--xla_gpu_deterministic_ops=true'}
_TORCH, _VIDEO = ('torch',), ('torch', 'torchvision', 'pytorchvideo')
# JAX takes at most three quarters of the memory unless told otherwise, and gives nothing back:
# alone it may have nearly all, beside PyTorch less than half.
_ALONE = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'true', 'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.92'}
_BESIDE = {'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.45'}

# model: clips a call, small settings, packages
_PEERS = {
  'vit_b': (8, None, _TORCH),
  'slowfast_8x8': (8, None, _VIDEO),
  'r2plus1d_18': (16, {'clip': (4, 16), 'batch': 2}, _TORCH),
  'mvit_s': (16, None, _TORCH),
  'x3d_m': (16, None, _VIDEO),
  'csn_50': (16, None, _VIDEO),
  'slow_r50': (16, None, _VIDEO),
  'mae_b_90': (
    64,
    {'sizes': {'frames': 4, 'crop': 32, 'depth': 1}, 'clip': (4, 32), 'batch': 2},
    _TORCH,
  ),
  'sts_slow_r50': (16, None, _VIDEO),
  'mvit_b': (8, None, _TORCH),
}


def _machine() -> list[Case]:
  return [Case('machine', 1, 'machine.facts', {'side': 8192}, 40, {'side': 512}, 10)]


def _right() -> list[Case]:
  rows = []
  for family, (fixture, source, variant, layout, settings) in _FIXTURES.items():
    given = dict(fixture=fixture, source=source, variant=variant, layout=layout, overrides=settings)
    small = {} if family == 'tam' else None
    rows.append(
      Case(f'right/fixture/{family}', 2, 'right.fixture', given, 60, small, 40, timed=False)
    )
  for name in ('vit', 'mvit', 'r2plus1d', 'csn'):
    small = {} if name == 'vit' else None
    rows.append(
      Case(f'right/step/{name}', 2, 'right.step', {'name': name}, 90, small, 30, timed=False)
    )
  for name in ('vit', 'csn'):
    for kind, env in (('default', {}), ('deterministic', _DETERMINISTIC)):
      small = {} if (name, kind) == ('vit', 'default') else None
      given = dict(name=name, width=1)
      rows.append(
        Case(f'right/resume/{name}/{kind}', 2, 'right.resume', given, 60, small, 30, env=env)
      )
  return rows


def _headline() -> list[Case]:
  tiny = {'name': 'vit_tiny', 'batches': (1,), 'crop': 64, 'frames': 4, 'sizes': {'depth': 1}}
  mae = lambda case, estimate, small=None, **given: Case(
    f'headline/{case}', 3, 'headline.mae', given, estimate, small, 30, env=_ALONE
  )
  return [
    mae('mae_l_90', 180, tiny, name='vit_large', ratio=0.9, batches=(128, 64, 256)),
    mae('mae_l_dense', 150, name='vit_large', ratio=None, batches=(16, 32)),
    mae('mae_b_90', 120, name='vit_base', ratio=0.9, batches=(256, 128)),
    mae('mae_b_dense', 120, name='vit_base', ratio=None, batches=(64, 32)),
    mae('mae_l_75', 150, name='vit_large', ratio=0.75, batches=(64, 128)),
  ]


def _peers() -> list[Case]:
  rows = []
  for name, (batch, small, needs) in _PEERS.items():
    given = dict(name=name, batch=batch, dtype='bfloat16')
    rows.append(Case(f'peers/{name}', 4, 'peers.compare', given, 150, small, 60, needs, _BESIDE))
  return rows


def _kernels() -> list[Case]:
  rows = []
  for kind in ('depthwise', 'spatial', 'temporal', 'full', 'pointwise', 'grouped'):
    small = {'batch': 1, 'shrink': 4, 'most': 1} if kind == 'temporal' else None
    for dtype in ('bfloat16', 'float32'):
      given = dict(kind=kind, dtype=dtype)
      rows.append(Case(f'kernels/{kind}/{dtype}', 5, 'kernels.convolutions', given, 90, small, 20))
      small = None
  for layer in ('batch_norm', 'layer_norm', 'max_pool', 'linear'):
    small = {'batch': 1, 'shrink': 4, 'most': 1} if layer == 'batch_norm' else None
    for dtype in ('bfloat16', 'float32'):
      given = dict(layer=layer, dtype=dtype)
      rows.append(Case(f'kernels/{layer}/{dtype}', 5, 'kernels.gradients', given, 40, small, 20))
      small = None
  for width in (64, 96, 128, 80, 160, 192, 256):
    given = dict(width=width)
    rows.append(Case(f'kernels/attention/{width}', 5, 'kernels.attentions', given, 40))
  # Convolutions were measured first because CNNs depend on them; attention's rows must not wait for
  # all of them.
  order = {name: i for i, name in enumerate(('depthwise', 'attention', 'batch_norm', 'max_pool'))}
  return sorted(rows, key=lambda case: order.get(case.name.split('/')[1], len(order)))


def _size() -> list[Case]:
  rows = []
  for name, clips in (('vit_l', (8, 16)), ('vit_h', (4, 8)), ('mvit_l', (2, 4))):
    for remat in (False, True):
      small = {'name': 'vit_ti', 'clips': (1, 2)} if name == 'vit_l' and not remat else None
      given = dict(name=name, remat=remat, clips=clips)
      rows.append(
        Case(
          f'size/{name}{"/remat" if remat else ""}',
          6,
          'size.largest',
          given,
          200,
          small,
          60,
          env=_ALONE,
        )
      )
  return rows


CASES = [*_machine(), *_right(), *_headline(), *_peers(), *_kernels(), *_size()]
BY_NAME = {case.name: case for case in CASES}
