"""Parts that configs share: the argument of a config (one string, typed axes), normalizations, and
the built-in dataset for `tiny`."""

from typing import Any

from ml_collections import ConfigDict

from vjax import registry

KINETICS_PIXELS = dict(
  mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225)
)  # PySlowFast's, RGB in [0, 1]
IMAGENET_PIXELS = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # ImageNet's
VMZ_PIXELS = dict(mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989))  # VMZ's
# The built-in dataset, 12 motions, at a size that two cores train on in minutes: 8 frames over the
# whole clip, the whole frame squeezed to 54 x 54 px, of which a training crop takes 48 x 48.
# Patches are four frames long: the motion inside a patch lets the network learn within 1000 steps.
# With two frames it had learned almost nothing by then.
TINY_DATA = dict(name='motions', split='train', **KINETICS_PIXELS)
TINY_CLIP = dict(num_frames=8, frame_stride=1, crop_size=48, short_side=54, sampling='uniform')
TINY_AUGMENT = dict(crop='fixed', size=(54, 54), flip=0.0)
KINETICS = ('k400', 'k600', 'k700')
VITS = {'B': 'vit_base', 'L': 'vit_large', 'H': 'vit_huge'}  # of the axis `variant`
# The transformers of masked pre-training get 32 x 32 px, 32 tokens instead of 72, since
# pre-training needs many steps. Positions are fixed: learned positions are small at first, and the
# loss stays high for longer.
TINY_VIT = dict(name='vit_tiny', width=96, depth=4, heads=3, patch=(4, 8, 8), positions='sincos')
TINY_VIT_CLIP = {**TINY_CLIP, 'crop_size': 32, 'short_side': 36}
TINY_VIT_AUGMENT = {**TINY_AUGMENT, 'size': (36, 36)}
TINY_VIEWS = dict(name='views', split='test', num_clips=2, num_crops=1, batch_size=64)
TINY_PROBE = dict(
  name='probe',
  train_split='train',
  test_split='test',
  num_clips=1,
  num_crops=1,
  batch_size=64,
  grid=(1e-4, 1e-3, 1e-2, 1e-1),
)


def warm_start(path: str) -> dict[str, Any]:
  """Returns config.init for a warm start from a workdir or converted checkpoint, without its head;
  '' = from scratch. See vjax.config.InitConfig."""
  return {'path': path, 'skip': ('head/.*',) if path else ()}


def use_data(config: ConfigDict, data: str, ssv2: bool = False) -> None:
  """Sets config.data to a dataset of vjax/data/datasets/, or to a folder of your own under
  data_dir; '' leaves it.

  With `ssv2`, Something-Something V2 is allowed too (one frame of each segment, nothing mirrored).
  Raises ValueError for the other datasets whose clips may not be mirrored, and for the built-in
  data: these need another recipe.
  """
  known = (*KINETICS, *(('ssv2',) if ssv2 else ()))
  spec = registry.find('data.datasets', data).SPEC if _is_dataset(data) else None
  if data in known:
    config.data.name = data
    if data == 'ssv2':
      config.clip.update(frame_stride=1, sampling='segments')
      config.augment.flip = 0.0
  elif spec and (not spec.flip or spec.folder == 'motions'):
    raise ValueError(
      f'config argument data={data!r}: this recipe is for {", ".join(known)}, or a folder of your '
      f'own; give a config of {data} instead (tiny runs on the built-in data)'
    )
  elif spec:
    config.data.name = data
  elif data:
    config.data.update(name='custom', folder=data)


def _is_dataset(name: str) -> bool:
  return name != 'custom' and name in registry.names('data.datasets')


def own_data(config: ConfigDict) -> dict[str, str]:
  """Returns name and folder of the data where another dataset was chosen than those of the paper,
  so that a tiny config keeps it; else nothing."""
  if config.data.name in (*KINETICS, 'ssv2'):
    return {}
  return dict(name=config.data.name, folder=config.data.get('folder', ''))


def tiny_classifier(config: ConfigDict, rate: float) -> ConfigDict:
  """Shrinks a recipe to a small network and few steps, without the heaviest augmentation, on the
  built-in data or a folder of your own."""
  data = own_data(config)
  config.objective = dict(name='classify')
  config.data = {**TINY_DATA, 'batch_size': 32, **data}
  config.clip = dict(TINY_CLIP, num_repeats=1)
  config.augment = dict(TINY_AUGMENT)
  del config.optim.total_epochs, config.optim.warmup_epochs
  for key in [key for key in ('warmup_start_lr', 'end_lr') if key in config.optim]:
    config.optim[key] = rate / 100 if key == 'warmup_start_lr' else 1e-6
  config.optim.update(learning_rate=rate, base_batch_size=32, total_steps=600, warmup_steps=60)
  config.train = dict(dtype='float32', log_steps=50, save_steps=250)
  config.evals = dict(test={**TINY_VIEWS, 'split': 'val' if data else 'test'})
  return config


def parse_arg(arg: str | None, **defaults: Any) -> ConfigDict:
  """Returns 'variant=L,tiny' as {'variant': 'L', 'tiny': True}, typed like `defaults`, which name
  all axes.

  A bare word is True. Raises ValueError naming the axes for a word that is none of them.
  """
  parsed = ConfigDict({'tiny': False, **defaults})
  for item in filter(None, (arg or '').split(',')):
    name, given, text = item.partition('=')
    if name not in parsed:
      raise ValueError(
        f'config argument {item!r}: there is no axis {name!r}; there are {sorted(parsed)}'
      )
    kind = type(parsed[name])
    if kind is bool:
      if given and text.lower() not in ('true', 'false', '1', '0'):
        raise ValueError(
          f'config argument {item!r}: {name} is a switch: write {name}, {name}=true or {name}=false'
        )
      parsed[name] = not given or text.lower() in ('true', '1')
    elif not given:
      raise ValueError(
        f'config argument {item!r}: {name} needs a value, as in {name}={defaults[name]}'
      )
    else:
      try:
        parsed[name] = kind(text)
      except ValueError:
        raise ValueError(f'config argument {item!r}: {name} must be a {kind.__name__}') from None
  return parsed


def choose(axis: str, value: str, table: dict[str, Any]) -> Any:
  """Returns table[value]. Raises ValueError naming the axis and its values."""
  if value not in table:
    raise ValueError(
      f'config argument {axis}={value!r}: it must be one of {", ".join(map(str, table))}'
    )
  return table[value]
