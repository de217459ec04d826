"""Accuracy of the unified framework on full datasets.  Chen et al. (CVPR 2021), tables 2 and 9 and
figures 1 and 7.

Table 2: I3D, TAM and SlowFast on ResNet-50 and ResNet-101, 32 frames; ten clips and three crops,
two clips on Something-Something V2. Table 9: the same from scratch. Figure 7: from I3D-InceptionV1
with temporal pooling to I3D-SE-R50 without, one step at a time.

Expected: all three within a point on Kinetics-400; on Something-Something V2 TAM a point above I3D
and almost four above SlowFast. ImageNet weights hardly matter on Kinetics-400 (table 9). From
InceptionV1 to ResNet-50 Kinetics-400 gains 4 points, without pooling 1.1 more and with
squeeze-and-excitation another half; on Something-Something V2 only the pooling matters, 6 points.

The image networks of configs/studies/cnn_grid.py must be there before, tsn_r101 too.
SlowFast starts from scratch, on Something-Something V2 R50-16x8 from the 8x8 of Kinetics-400.

Command:  python -m vjax.study configs/studies/cnn_full.py
Hardware: in the paper 128 GPUs for each training.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import cnn_study
from configs.papers import FACTS
from vjax.analysis import claims, cnn

IMAGES = 'checkpoints/tsn_{}'  # converted image networks
TABLE2 = {
  'k400': (
    'I3D-R50', 'TAM-R50', 'SF-R50-8x8', 'I3D-R101', 'TAM-R101', 'SF-R101-8x8', 'TSN-R50-tp'
  ),
  'ssv2': ('I3D-R50', 'TAM-R50', 'SF-R50-8x8', 'I3D-R101', 'TAM-R101'),
  'moments': ('I3D-R50', 'TAM-R50', 'SF-R50-8x8'),
}  # fmt: skip
TABLE9 = ('I3D-R50', 'TAM-R50')  # on Kinetics-400
FIGURE7 = ('I3D-InceptionV1-tp', 'I3D-R50-tp', 'I3D-R50', 'I3D-SE-R50')
FIGURE7_DATA = ('k400', 'ssv2')


def runs(workdir: str) -> Iterator[tuple[str, ConfigDict]]:
  for data, models in TABLE2.items():
    steps = [m for m in FIGURE7 if m not in models] if data in FIGURE7_DATA else []
    for model in (*models, *steps):
      name = cnn_study.parse_name(model)
      end = cnn_study.BACKBONES[name.backbone]
      init = '' if name.module == 'slowfast' else f',init={IMAGES.format(end)}'
      yield (
        f'{data}_{model}',
        cnn_study.get_config(f'protocol=full,data={data},model={model}{init}'),
      )
  for model in TABLE9:
    yield f'k400_{model}_scratch', cnn_study.get_config(f'protocol=full,data=k400,model={model}')
  start = f'{workdir}/k400_SF-R50-8x8'
  arg = f'protocol=slowfast_ssv2,test=video,init={start}'
  yield 'ssv2_SF-R50-16x8', cnn_study.get_config(arg)


def _row(results: Mapping[str, Any], run: str) -> dict[str, Any]:
  """Returns cost and accuracy of a run. GMACs are of a clip of 224 px, as trained."""
  result = results.get(run)
  return {
    'GMACs of a clip': result['training']['gmacs_per_clip'] if result else None,
    'top-1 %': 100 * result['video']['top1'] if result else None,
    'paper': FACTS.get(f'chen/{run}'),
  }


def table(results: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
  """Returns tables 2 and 9, and the steps of figure 7."""
  table2 = [
    {'dataset': data, 'network': model, **_row(results, f'{data}_{model}')}
    for data, models in TABLE2.items()
    for model in (*models, *(['SF-R50-16x8'] if data == 'ssv2' else []))
  ]
  table9 = [
    {'network': model, 'start': start, **_row(results, f'k400_{model}{end}')}
    for model in TABLE9
    for start, end in (('ImageNet', ''), ('random', '_scratch'))
  ]
  figure7 = [
    {'dataset': data, 'network': model, **_row(results, f'{data}_{model}')}
    for data in FIGURE7_DATA
    for model in FIGURE7
  ]
  return {'Table 2': table2, 'Table 9': table9, 'Figure 7': figure7}


def figures(results: Mapping[str, Any]) -> dict[str, Any]:
  """Returns figure 1, accuracy over cost: of the runs, one figure a dataset, and of the paper."""
  found: dict[str, Any] = {'Figure 1 of the paper': cnn.draw_table2()}
  for data in TABLE2:
    lines = {}
    for run, result in results.items():
      if run.startswith(f'{data}_') and 'video' in result:
        point = (result['training']['gmacs_per_clip'], 100 * result['video']['top1'])
        lines[run.removeprefix(f'{data}_')] = [point]
    if lines:
      found[f'Figure 1, {data}'] = {'lines': lines, 'x': 'GMACs of a clip', 'y': 'top-1 %'}
  return found


def outcome(results: Mapping[str, Any]) -> list[str]:
  """Returns how many pairs of networks are in the paper's order on each dataset."""
  return [
    claims.ordered(
      f'{title}, {data}', [r for r in rows if r.get('dataset', 'k400') == data], 'top-1 %'
    )
    for title, rows in table(results).items()
    for data in dict.fromkeys(row.get('dataset', 'k400') for row in rows)
  ]
