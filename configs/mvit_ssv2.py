"""Multiscale vision transformers on Something-Something V2, from Kinetics-400.  Li et al. (CVPR
2022), MViTv2, table 5, with the settings of PySlowFast.

Expected: top-1 / top-5 of 68.2 / 91.4 (v2_s_16x4), 70.5 / 92.7 (v2_b_32x3), 73.3 / 94.1 (v2_l_40x3,
from ImageNet-21K and Kinetics-400), 3 crops x 1 clip.
Command:  python -m vjax.main --config=configs/mvit_ssv2.py:variant=v2_s_16x4,init=runs/mvit_k400_variant-v2_s_16x4
          python -m vjax.main --config=configs/mvit_ssv2.py:tiny
Learning rates are for nodes of 16 videos (8 for L); the batch here is that of 8 nodes. Labels name
left and right, so nothing is mirrored.
"""  # noqa: E501

from ml_collections import ConfigDict

from configs import common, mvit_k400
from vjax.config import complete

# learning rate, videos a node, learning rate at the start of warm-up, epochs, drop path, clipping,
# mixing
RECIPES = {
  'v2_s_16x4': (2.5e-3, 16, 1e-4, 100.0, 0.4, 1.0, True),
  'v2_b_32x3': (1.5e-3, 16, 1e-4, 100.0, 0.4, 1.0, True),
  'v2_l_40x3': (1.25e-3, 8, 1e-6, 40.0, 0.75, 2.0, False),
}


def get_config(arg: str | None = None) -> ConfigDict:
  """Returns the config.

  Axes: variant; init = workdir of the training on Kinetics; tiny.
  """
  arg = common.parse_arg(arg, variant='v2_s_16x4', init='')
  rate, node, warmup_start, epochs, drop_path, clip_norm, mixing = common.choose(
    'variant', arg.variant, RECIPES
  )
  config = mvit_k400.recipe(arg.variant, arg.init)
  config.model.drop_path = drop_path
  config.objective = dict(
    name='classify',
    label_smoothing=0.1,
    **(dict(mixup=0.8, cutmix=1.0, mix_group=16) if mixing else {}),
  )
  config.data.update(name='ssv2', batch_size=8 * node)
  config.clip.update(
    frame_stride=1, sampling='segments', num_repeats=1, short_side=config.clip.crop_size
  )
  config.augment.flip = 0.0
  if not mixing:  # L: windows of a frame whose short side is 356 to 446 px
    config.augment.update(crop='jitter', short_side=(356, 446))
    del config.augment.area
  del config.augment.repeat_window
  config.optim = dict(
    name='sgd', learning_rate=rate, base_batch_size=node, momentum=0.9, nesterov=True,
    weight_decay=1e-4,
    clip_norm=clip_norm,
    schedule='cosine', warmup_start_lr=warmup_start, end_lr=1e-6, total_epochs=epochs,
    warmup_epochs=3.0,
  )  # fmt: skip
  config.evals = dict(
    test=dict(
      name='views', split='val', num_clips=1, num_crops=3, batch_size=16, average='probabilities'
    )
  )
  if arg.tiny:
    config = mvit_k400.tiny(config)
    config.optim.update(learning_rate=0.05, warmup_start_lr=1e-3)
  return complete(config)
