"""Budgets of trainings: images seen, epochs, hours of all devices, and the sums over stages where
one run starts from another.

Images seen are epochs x frames of a clip x clips of an epoch.  (Li et al. 2022, section 4.1, tables
3, 7 and 8.)
"""

from collections.abc import Mapping, Sequence
from typing import Any

KEYS = ('clips_seen', 'images_seen', 'epochs', 'device_hours', 'gmacs')
_SUMMED = ('images_seen', 'device_hours', 'gmacs')


def images_seen(epochs: float, frames: int, clips: float) -> float:
  """Returns the images that a training sees: `frames` of each clip, `clips` in an epoch."""
  return epochs * frames * clips


def passes(images: float, frames: float) -> float:
  """Returns how often a training that sees so many images sees each of `frames` different ones."""
  return images / frames


def hours(clips: float, clips_per_s: float, devices: int) -> float:
  """Returns the hours of all devices for so many clips, at a speed that is measured on all."""
  return clips / clips_per_s * devices / 3600


def stage(training: Mapping[str, Any]) -> dict[str, float]:
  """Returns the budget of one training, of its section of result.json."""
  return {key: training[key] for key in KEYS if key in training}


def stages_of(result: Any) -> list[dict[str, float] | None]:
  """Returns the budgets of all stages up to a finished run, the first one first.

  result: of result.json. A stage without a record of its cost is None: converted weights, a run
  that is not finished, or one of an older version.
  """
  training = result.get('training') if isinstance(result, Mapping) else None
  if not isinstance(training, Mapping):
    return [None]
  if 'stages' in training:
    return list(training['stages'])
  found = stage(training)
  return [found if set(_SUMMED) <= set(found) else None]


def total(stages: Sequence[Mapping[str, float] | None]) -> dict[str, float] | None:
  """Returns the sums over stages; None where the cost of one is unknown."""
  known = [one for one in stages if one is not None]
  if len(known) < len(stages):
    return None
  return {key: sum(one[key] for one in known) for key in _SUMMED}


def planned(epochs: float, clips: float, frames: int, different: int) -> str:
  """Returns a line that says what a training will see.

  Args:
    epochs: over the clips.
    clips: of the training.
    frames: of a clip.
    different: frames of all videos of the training split.
  """
  images = clips * frames
  text = f'budget: {epochs:.4g} epochs, {_millions(images)} images'
  if frames == 1 and different:
    text += f', {passes(images, different):.3g} passes over {_millions(different)} frames'
  return text


def spent(training: Mapping[str, Any]) -> str:
  """Returns a line of what a training cost, with the stages before it."""
  text = (
    f'budget: {training["epochs"]:.4g} epochs, {_millions(training["images_seen"])} images seen, '
    f'{training["device_hours"]:.3g} device hours ({training["devices"]})'
  )
  if 'stages' in training:
    all_stages, together = len(training['stages']), training['total']
    text += f'; all {all_stages} stages: ' + (
      'the cost of one is not known'
      if together is None
      else f'{_millions(together["images_seen"])} images, {together["device_hours"]:.3g} device '
      'hours'
    )
  return text


def _millions(count: float) -> str:
  return f'{count / 1e6:.4g} M'
