"""Speed and memory of the unified framework.  Chen et al. (CVPR 2021), table 8.

Clips a second of forward passes in float32 at the largest batch that fits into the device, 32
frames of 256 px.

Expected: on a V100, which the paper has, TSN-R50-tp and SlowFast-R50 8x8 are three times as fast as
TAM-R50 and I3D-R50. TAM, of half the cost of I3D, is not faster: depthwise convolutions are slow.

In miniature: 8 frames of 64 px, two clips.

Command:  python -m vjax.study configs/studies/cnn_speed.py
          python -m vjax.study configs/studies/cnn_speed.py --tiny
Hardware: any one device; a CPU gets four clips at most, and takes minutes.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from configs import cnn_study
from configs.papers import FACTS
from vjax.analysis import claims, speed

MODELS = ('TSN-R50-tp', 'TAM-R50', 'I3D-R50', 'SF-R50-8x8')


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, Callable, tuple]]:
  """Yields measurements, one a network."""
  size = dict(frames=8, crop=64, limit=2, repeats=2) if tiny else dict(frames=32, crop=256)
  for model in MODELS:
    yield model, _measurement(model, size), ()


def _measurement(model: str, size: dict[str, int]) -> Callable:
  name = cnn_study.parse_name(model)
  of_zoo = cnn_study.model_name(name.module, name.backbone, name.pool, name.frames)
  return lambda results, data_dir: speed.measure(of_zoo, **size)


def table(results: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns a row for each network."""
  rows = []
  for model in MODELS:
    found = results.get(model, {})
    rows.append(
      {
        'network': model,
        'device': found.get('device'),
        'GMACs of a clip': found.get('gmacs'),
        'largest batch': found.get('batch'),
        'clips a second': found.get('clips_per_s'),
        'paper (V100), clips a second': FACTS[f'chen/speed_{model}'],
        'paper, top-1 %': FACTS[f'chen/k400_{model}'],
      }
    )
  return rows


def outcome(results: Mapping[str, Any]) -> list[str]:
  """Returns whether the networks are as fast, one beside the other, as in the paper."""
  seen, paper = 'clips a second', 'paper (V100), clips a second'
  return [claims.ordered('Networks by clips a second', table(results), seen, paper)]
