"""Do temporal modules beat a network that does not see the order of frames, and does pooling
through time help?  Chen et al. (CVPR 2021), figures 4, 6 and 10 and table 7.

TSN, TAM, I3D and S3D on InceptionV1, ResNet-18 and ResNet-50, with and without temporal pooling,
8 to 64 frames, on halves of Something-Something V2, Kinetics-400 and Moments in Time: 288
trainings. Those of 16 frames and more start from half as many frames, those of 8 from image
networks, which must be there before:

  python -m vjax.convert --source=torchvision --variant=tsn_r50 resnet50.pth checkpoints/tsn_r50

(likewise tsn_r18 from resnet18.pth and tsn_inception from googlenet.pth).

Expected: on Something-Something V2 TSN has half of the others' accuracy (Phi about 0.53, Psi about
0.46), on the other two there is little to gain (Phi 0.9 to 0.97). Pooling makes all networks worse
but TSN, the most with 8 frames.

In miniature: the same eight kinds of networks on the built-in data, labeled by motion, which TSN
cannot tell within pairs of labels, and on domain B labeled by appearance; 8 frames, three seeds.
Every network is as small, from scratch.

Command:  python -m vjax.study configs/studies/cnn_grid.py
          python -m vjax.study configs/studies/cnn_grid.py --tiny
Hardware: in the paper 6 GPUs for each training; the 48 runs of the miniature, with compilation, 40
minutes on two cores.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import cnn_study
from vjax.analysis import claims, cnn

MODULES = ('tsn', 'tam', 'i3d', 's3d')
BACKBONES = ('inception_v1', 'resnet18', 'resnet50')
DATASETS = ('mini_ssv2', 'mini_k400', 'mini_mit')
IMAGES = 'checkpoints/tsn_{}'  # converted image networks, by the end of a model's name
# Of the miniature: steps by label space; appearance is learned sooner.
STEPS = {'motions': 600, 'domain_b_appearance': 300}
SEEDS = (0, 1, 2)
# The released scores beside those of a dataset.
AUTHORS = {
  'mini_ssv2': 'mini_ssv2', 'mini_k400': 'mini_kinetics', 'mini_mit': 'mini_mit',
  'motions': 'mini_ssv2', 'domain_b_appearance': 'mini_kinetics',
}  # fmt: skip


def runs(workdir: str, tiny: bool = False) -> Iterator[tuple[str, ConfigDict]]:
  """Yields chains of four trainings, 8 to 64 frames; in miniature one training a network."""
  if not tiny:
    for key in _keys(DATASETS, BACKBONES):
      init = IMAGES.format(cnn_study.BACKBONES[key.backbone])
      yield from cnn_study.progressive(
        workdir, f'data={key.dataset},{_arg(key)},backbone={key.backbone}', init, _name(key)
      )
    return
  for seed in SEEDS:
    for key in _keys(STEPS, ('resnet18',)):
      config = cnn_study.miniature(_arg(key), key.dataset, seed, STEPS[key.dataset])
      yield f'{_name(key)}_f{key.frames}_seed{seed}', config


def _keys(datasets: Any, backbones: Any) -> Iterator[cnn.Key]:
  """Yields the networks, of 8 frames."""
  for dataset in datasets:
    for backbone in backbones:
      for module in MODULES:
        for pool in (False, True):
          yield cnn.Key(dataset, module, backbone, pool, cnn_study.FRAMES[0])


def _arg(key: cnn.Key) -> str:
  return f'module={key.module}' + (',pool' if key.pool else '')


def _name(key: cnn.Key) -> str:
  return f'{key.dataset}_{key.module}_{key.backbone}' + ('_tp' if key.pool else '')


def scores(results: Mapping[str, Any]) -> list[dict[cnn.Key, float]]:
  """Returns the top-1 (%) of every network that is finished, one dict a seed."""
  found: list[dict[cnn.Key, float]] = []
  for seed in SEEDS:
    of_seed = {}
    for key in _keys((*DATASETS, *STEPS), BACKBONES):
      for frames in cnn_study.FRAMES:
        name = f'{_name(key)}_f{frames}'
        # At full size there is one seed.
        for run in (f'{name}_seed{seed}', *([name] if seed == SEEDS[0] else [])):
          if run in results:
            of_seed[key._replace(frames=frames)] = 100 * results[run]['clip']['top1']
    if of_seed:
      found.append(of_seed)
  return found


def table(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
  """Returns three tables: contributions of space and time beside the paper's, the effect of
  pooling, and the accuracy of every network.

  The paper's columns are of the scores that the authors released (DIFFERS(paper): table 7 has I3D
  and S3D swapped in Phi and Psi); beside the miniature stand those of Mini-SSV2 (motion) and
  Mini-Kinetics (appearance), over all backbones and numbers of frames in the first
  table, of ResNet-18 with 8 frames in the others.
  """
  seeds, released = scores(results), cnn.released()
  everything = {key: [s[key] for s in seeds if key in s] for s in seeds for key in s}
  if not everything:  # rows of the full size, with the authors' scores alone
    full = itertools.product(_keys(DATASETS, BACKBONES), cnn_study.FRAMES)
    everything = {key._replace(frames=frames): [] for key, frames in full}
  shares = []
  for dataset in dict.fromkeys(key.dataset for key in everything):
    for module in MODULES:
      own = [cnn.contributions(s, dataset, module) for s in seeds]
      theirs = cnn.contributions(released, AUTHORS[dataset], module)
      row = {'dataset': dataset, 'module': module}
      for part, title in {'phi': 'Phi', 'psi': 'Psi', 'psi_tp': 'Psi, pooling'}.items():
        values = [x[part] for x in own if x[part] == x[part]]
        row[f'{title}, %'] = [100 * x for x in values]
        row[f'paper: {title}, %'] = 100 * theirs[part]
      shares.append(row)
  effects, accuracy = [], []
  for key, plain in everything.items():
    if key.pool:
      continue
    name = {'dataset': key.dataset, 'module': key.module, 'backbone': key.backbone}
    name['frames'] = str(key.frames)
    pooled = key._replace(pool=True)
    theirs = [released[k._replace(dataset=AUTHORS[key.dataset])] for k in (key, pooled)]
    effects.append(
      {
        **name,
        'pooling adds, points': [s[pooled] - s[key] for s in seeds if key in s and pooled in s],
        'paper': theirs[1] - theirs[0],
      }
    )
    accuracy.append(
      {
        **name, 'top-1 %': plain, 'with pooling': everything.get(pooled),
        'paper': theirs[0], 'paper, with pooling': theirs[1],
      }
    )  # fmt: skip
  return {
    'Contributions of space (Phi) and time (Psi)': shares,
    'Effect of temporal pooling': effects,
    'Accuracy': accuracy,
  }


def figures(results: Mapping[str, Any]) -> dict[str, Any]:
  """Returns bars of the contributions and of the effect of pooling (figure 6), of means over
  seeds."""
  seeds = scores(results)
  mean = {}
  for key in dict.fromkeys(key for s in seeds for key in s):
    values = [s[key] for s in seeds if key in s]
    mean[key] = sum(values) / len(values)
  if not mean:
    return {}
  return {
    'Contributions': cnn.draw_contributions(mean),
    'Temporal pooling': cnn.draw_pooling(mean),
  }


def outcome(results: Mapping[str, Any]) -> list[str]:
  """Returns what modules and pooling add on each dataset, in the mean over the backbones and
  numbers of frames that both have."""
  seeds = scores(results)

  def said(claim: str, dataset: str, these: tuple[str, bool], those: tuple[str, bool]) -> str:
    """Returns whether networks of one (module, pool) are better than those of another."""
    sides: tuple[dict[int, float], dict[int, float]] = ({}, {})
    for seed, top1 in enumerate(seeds):
      found = [
        {(k.backbone, k.frames): x for k, x in top1.items() if (k.dataset, k.module, k.pool) == key}
        for key in ((dataset, *these), (dataset, *those))
      ]
      shared = found[0].keys() & found[1].keys()
      for side, values in zip(sides, found):
        if shared:
          side[seed] = sum(values[key] for key in shared) / len(shared)
    return claims.better(f'{dataset}: {claim}', *sides)

  found = []
  for dataset in dict.fromkeys(key.dataset for s in seeds for key in s):
    for module in MODULES[1:]:
      claim = f'{module.upper()} is better than TSN'
      found.append(said(claim, dataset, (module, False), ('tsn', False)))
    found.append(said('pooling helps TSN', dataset, ('tsn', True), ('tsn', False)))
    for module in MODULES[1:]:
      found.append(
        said(f'pooling hurts {module.upper()}', dataset, (module, False), (module, True))
      )
  return found
