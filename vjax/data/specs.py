"""Facts of the datasets that a config names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vjax import registry
from vjax.config import AugmentConfig, Config, DatasetConfig, EvalConfig, parse


@dataclass(frozen=True)
class DatasetSpec:
  """Facts of a dataset that its records do not carry.

  Attributes:
    name: of its file.
    num_classes: 0 = whatever the manifest says.
    labels: 'single_label', 'multi_label' or 'boxes', '' = whatever the manifest says.
    flip: whether a mirrored clip keeps its label.
    splits: that there are.
    folder: under --data_dir, where it is not `name`.
    label_space: which labels, where records carry several, '' = the first.
    leaks: datasets whose test videos are among its training videos.
    classes_of: dataset whose records and folder these are, where this one has a part of its
      classes only; '' = it has records of its own.
    classes: names of that part, in label order; () = all.
    prepare: command that makes the records, for the error where they are missing.
  """

  name: str
  num_classes: int
  labels: str = 'single_label'
  flip: bool = True
  splits: tuple[str, ...] = ('train', 'val')
  folder: str = ''
  label_space: str = ''
  leaks: tuple[str, ...] = ()
  classes_of: str = ''
  classes: tuple[str, ...] = ()
  prepare: str = ''

  @property
  def records(self) -> str:
    """Name of the folder of its records, or 'tfds:NAME'."""
    return self.folder or self.classes_of or self.name


def is_joint(config: Config) -> bool:
  """Returns whether a config's network has a classifier for each of its datasets."""
  return config.head.name == 'joint'


def one_dataset(config: Config) -> DatasetConfig:
  """Returns the entry of config.datasets that is trained on, of several the first: clips have the
  same shape in all. Raises ValueError for several without a classifier each."""
  if len(config.datasets) > 1 and not is_joint(config):
    raise ValueError(
      f'config.datasets has {len(config.datasets)} entries ({", ".join(config.datasets)}), which '
      f"need a classifier each, but config.head.name is {config.head.name!r}: set it to 'joint', "
      "with config.objective.name='joint'; or leave one dataset, and evaluate on others by "
      'config.evals.X.dataset'
    )
  return next(iter(config.datasets.values()))


def dataset(config: Any) -> DatasetSpec:
  """Returns the facts of the dataset that is trained on, of several the first, its folder and label
  space included."""
  config = parse(config)
  return spec_of(config, next(iter(config.datasets)))


def classes_by_dataset(config: Config, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
  """Returns the class names of each dataset of a network with a classifier for each, of names
  'ALIAS/CLASS' in order."""
  found: dict[str, list[str]] = {alias: [] for alias in config.datasets}
  for name in classes:
    alias, _, own = name.partition('/')
    if alias not in found:
      raise ValueError(
        f'class {name!r} is of none of config.datasets ({", ".join(found)}): the network was '
        'trained on other datasets; name those, or use another --workdir'
      )
    found[alias].append(own)
  return {alias: tuple(names) for alias, names in found.items()}


def spec_of(config: Config, alias: str) -> DatasetSpec:
  """Facts of a dataset by its alias in config.datasets, or by the name of its file."""
  if alias not in config.datasets:
    if alias not in registry.names('data.datasets'):
      raise ValueError(
        f'dataset {alias!r} is neither an alias in config.datasets ({", ".join(config.datasets)}) '
        f'nor in vjax/data/datasets ({", ".join(registry.names("data.datasets"))})'
      )
    return registry.find('data.datasets', alias).SPEC
  entry = config.datasets[alias]
  spec = registry.find('data.datasets', entry.name).SPEC
  given = {name: getattr(entry, name) for name in ('folder', 'label_space')}
  spec = replace(spec, **{name: value for name, value in given.items() if value})
  if not (spec.folder or spec.num_classes):
    raise ValueError(
      f'config.data.name is {entry.name!r}, a folder of your own: name it in config.data.folder'
    )
  return spec


def frame_size(augment: AugmentConfig, entry: EvalConfig | None) -> tuple[int, int] | None:
  """Returns the (height, width) that test frames are scaled to whatever their aspect, None where
  they keep it. Papers that ignore the aspect in training do in testing; entry: None = training's
  clips."""
  fixed = augment.crop == 'fixed' and not (entry and entry.own_size)
  return augment.size if fixed else None
