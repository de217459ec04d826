"""Image sets that TensorFlow Datasets prepared, as clips of one frame: reads the files of TFDS, and
caches an index beside them, or in the user's cache where their folder cannot be written to."""

from __future__ import annotations

import logging

from etils import epath

from vjax.data import index as index_lib
from vjax.data.index import Index


def open_index(name: str, data_dir: str, split: str) -> Index:
  """Returns the index of a split of the TFDS image set `name` under data_dir, built on first use by
  scanning the files.

  Raises FileNotFoundError with the command that prepares the set, ValueError for an unknown split,
  or a set whose features are not `image` and `label`, or whose files are not TFRecords.
  """
  from tensorflow_datasets.core import read_only_builder, registered

  prepare = f'tfds build {name} --data_dir={data_dir}'
  try:  # from the files alone: the code that made them need not be importable
    builder = read_only_builder.builder_from_files(name, data_dir=str(data_dir))
  except registered.DatasetNotFoundError as e:
    raise FileNotFoundError(f'no TFDS set {name!r} in {data_dir}; to prepare it: {prepare}') from e
  info, folder = builder.info, epath.Path(builder.data_path)
  if split not in info.splits:
    raise index_lib.UnknownSplitError(split, folder, info.splits)
  if not {'image', 'label'} <= set(info.features):
    raise ValueError(
      f'TFDS set {name!r} has features {sorted(info.features)}; needed: image and label'
    )
  files = [epath.Path(f) for f in info.splits[split].filepaths]
  if 'tfrecord' not in files[0].name:
    raise ValueError(
      f'{files[0]} is not a TFRecord file; prepare the set again: {prepare} --file_format=tfrecord'
    )
  classes = list(info.features['label'].names)
  path = folder / f'vjax-{split}.index.npz'
  if not path.exists() and (kept := index_lib.kept_folder(folder, files) / path.name).exists():
    path = kept
  if not path.exists():
    content = [f.name for f in files], [f.stat().length for f in files], index_lib.scan(files)
    try:
      index_lib.save_index(path, *content)
    except Exception as e:  # packages of object stores raise kinds of their own
      path = index_lib.kept_place(folder, files, e, logging.warning) / path.name
      index_lib.save_index(path, *content)
  manifest = {'format': 'tfds', 'name': info.full_name, 'classes': classes, 'labels': 'one'}
  manifest['splits'] = {s: {'clips': info.splits[s].num_examples} for s in info.splits}
  return index_lib.load_index(path, folder, manifest, '', f'rm {path}')
