"""Result files of `benchmarks.gpu` as Markdown, and as the row of GPUs in
`vjax/kernels/table.py`."""

from __future__ import annotations

import collections
import math
import re
from pathlib import Path
from typing import Any

from benchmarks.gpu_cases import PARTS

Row = dict[str, Any]
BARS = {'mfu': 0.5, 'saving': 4.0, 'peers': 1.0}
DTYPE = 'bfloat16'  # by whose measurements --apply chooses: GPUs train in it


def document(rows: list[Row], files: list[str]) -> str:
  """benchmarks/RESULTS-GPU.md."""
  names = ' '.join(f'`{file}`' for file in files)
  made = f'Made by `python -m benchmarks.gpu --report` from {names}; `docs/scaling.md` says how to run it.'
  return f'# Results on GPUs\n\n{made}\n\n{markdown(rows)}'


def markdown(rows: list[Row]) -> str:
  """Tables of all results, by device and part. The latest result of a line counts."""
  latest = {(row['device'], row['case'], row['line']): row for row in rows}
  devices: dict[str, list[Row]] = {}
  for (device, _, _), row in latest.items():
    devices.setdefault(device or 'unknown device', []).append(row)
  return '\n'.join(_device(device, found) for device, found in devices.items())


def _device(device: str, rows: list[Row]) -> str:
  failed = lambda row: (
    row['status'] != 'done' or 'error' in row['values'] and row['part'] in (1, 2, 4)
  )
  done = [row for row in rows if not failed(row) and row['line'] != 'end']
  rate = next((r['values']['tflop_per_s'] for r in done if r['line'] == f'product/{DTYPE}'), None)
  parts = {number: [row for row in done if row['part'] == number] for number in PARTS}
  small = 'Small settings: these figures show that the code runs, and nothing about speed.'
  blocks = [f'## {device}', *([small] if device == 'cpu' else [])]
  for number, name in PARTS.items():
    if parts[number]:
      blocks.append(f'### {number}. {name}\n\n' + _TABLES[number](parts[number], rate))
  bad = [row for row in rows if failed(row)]
  if bad:
    lines = [
      f'| {r["case"]} | {r["line"]} | {r["status"]} | {_cell(r["values"].get("error", ""))} |'
      for r in bad
    ]
    blocks.append('### Not measured\n\n' + _table(['case', 'line', 'status', 'why'], lines))
  return '\n\n'.join(blocks) + '\n'


def _cell(text: str) -> str:
  return ' '.join(str(text).replace('|', '/').split())[-160:]


def _table(columns: list[str], lines: list[str]) -> str:
  return '\n'.join([f'| {" | ".join(columns)} |', f'|{" --- |" * len(columns)}', *lines])


def _machine(rows: list[Row], rate: float | None) -> str:
  cells = []
  for row in rows:
    if row['line'] == 'versions':
      cells += [f'| {name} | {_cell(value)} |' for name, value in row['values'].items()]
    elif 'tflop_per_s' in row['values']:
      v = row['values']
      cells.append(
        f'| matrix product, {row["line"].split("/")[1]}, {v["side"]} rows | {v["tflop_per_s"]:.2f} '
        'TFLOP/s |'
      )
    else:
      cells.append(f'| device memory, read and written | {row["values"]["gb_per_s"]:.0f} GB/s |')
  return _table(['', ''], cells)


def _right(rows: list[Row], rate: float | None) -> str:
  cells = []
  for row in rows:
    v, name = row['values'], f'{row["case"].removeprefix("right/")}, {row["line"]}'
    if 'resumed_is_identical' in v:
      words = ', '.join(
        f'{key.split("_")[0]}: {"bit for bit" if v[key] else "differs"}' for key in list(v)[:2]
      )
      cells.append(
        f'| {name} | {words}; largest difference {v["largest_difference"]:.1e} | {v["ms"]:.2f} ms '
        'a step |'
      )
    elif 'step' in v:
      words = f'loss {v["loss"]:.1e}, update {v["step"]:.1e}'
      cells.append(
        f'| {name} | {words}, relative to the CPU | {_verdict(v["right"])}, allowed '
        f'{v["tolerance"]} |'
      )
    else:
      verdict = f'{_verdict(v["right"])}, allowed {v["tolerance"]:.0e}' if 'right' in v else ''
      cells.append(f'| {name} | {v["difference"]:.1e} of the largest logit | {verdict} |')
  return _table(['', 'found', ''], cells)


def _verdict(met: bool) -> str:
  return 'met' if met else 'MISSED'


def _headline(rows: list[Row], rate: float | None) -> str:
  cells, best = [], {}
  for row in rows:
    v, name = row['values'], row['case'].removeprefix('headline/')
    if 'error' in v:
      cells.append(f'| {name} | {row["line"]} | {v["error"]} | | | | |')
    elif 'clips_per_s' in v:
      share = f'{v["tflop_per_s"] / rate:.2f}' if rate else ''
      best[name] = max(best.get(name, 0.0), v['clips_per_s'])
      peak = '' if v['peak_gib'] is None else f'{v["peak_gib"]:.1f}'
      numbers = (
        f'{v["clips_per_s"]:.1f} | {v["tflop_per_s"]:.2f} | {share} | {peak} | {v["compile_s"]:.0f}'
      )
      cells.append(f'| {name} | {row["line"]} | {numbers} |')
  columns = [
    'model',
    'batch',
    'clips/s',
    'TFLOP/s',
    'of the matrix product',
    'peak GiB',
    'compilation s',
  ]
  text = _table(columns, cells)
  if rows[0]['device'] == 'cpu':
    return text + ''.join(_profile(row) for row in rows if 'kernels' in row['values'])
  of_l = [
    r['values']['tflop_per_s']
    for r in rows
    if r['case'] == 'headline/mae_l_90' and 'tflop_per_s' in r['values']
  ]
  if of_l and rate:
    share, bar = max(of_l) / rate, BARS['mfu']
    text += f'\n\nViT-L at 90 %: {share:.2f} of the matrix product at its best batch (bar {bar}: {_verdict(share >= bar)}).'
  for size in 'lb':
    pair = [best.get(f'mae_{size}_{ratio}') for ratio in ('90', 'dense')]
    if None not in pair:
      ratio, bar = pair[0] / pair[1], BARS['saving']
      text += f'\n\nViT-{size.upper()}: hiding 90 % is {ratio:.1f} times faster than dense, each at its best batch '
      text += f'(bar {bar}: {_verdict(ratio >= bar)}).'
  return text + ''.join(_profile(row) for row in rows if 'kernels' in row['values'])


def _profile(row: Row) -> str:
  v = row['values']
  cells = [
    f'| {_cell(name)} | {ms:.2f} | {share:.2f} | {count} |'
    for name, ms, share, count in v['kernels']
  ]
  of = f', {v["of"]}' if 'of' in v else ''
  head = f'\n\n{row["case"]}{of}: {v["busy_ms"]:.1f} ms of kernels in a step, the costliest:\n\n'
  return head + _table(['kernel', 'ms', 'share', 'calls'], cells)


def _peers(rows: list[Row], rate: float | None) -> str:
  found: dict[tuple[str, str], dict[str, float]] = collections.defaultdict(dict)
  apart = {}
  for row in rows:
    name, v = row['case'].removeprefix('peers/'), row['values']
    if row['line'] == 'difference':
      apart[name] = v['output'] if 'output' in v else math.nan
    elif 'ms' in v:
      what, who = row['line'].split('/')
      found[name, what][who] = v['ms']
  cells = []
  for (name, what), times in found.items():
    others = {who: ms for who, ms in times.items() if who != 'vjax'}
    show = lambda who, times=times: f'{times[who]:.2f}' if who in times else ''
    ratio = verdict = ''
    if 'vjax' in times and others:
      value = times['vjax'] / min(others.values())
      ratio = f'{value:.2f}'
      verdict = '' if rows[0]['device'] == 'cpu' else _verdict(value <= BARS['peers'])
    columns = [show(who) for who in ('vjax', 'pytorch', 'pytorch_channels_last', 'compiled')]
    difference = f'{apart[name]:.1e}' if name in apart else ''
    cells.append(
      f'| {name} | {what} | {" | ".join(columns)} | {ratio} | {verdict} | {difference} |'
    )
  columns = [
    'model',
    '',
    'vjax ms',
    'PyTorch',
    'channels last',
    'compiled',
    'ratio',
    f'bar {BARS["peers"]}',
    'apart',
  ]
  return _table(columns, cells) + ''.join(
    _profile(row) for row in rows if 'kernels' in row['values']
  )


def _kernels(rows: list[Row], rate: float | None) -> str:
  cells = []
  for row in rows:
    v = row['values']
    if row['line'] == 'choice':
      ratios = ', '.join(
        f'{name} {ratio:.2f}' for name, ratio in sorted(v['ratios'].items(), key=lambda x: x[1])
      )
      word = 'as it is' if v['fastest'] == v['table'] else f'now `{v["table"]}`'
      where = f'{v["operation"]}, {v["dtype"]}'
      if v['operation'] == 'attention':
        where += f', heads of {row["case"].split("/")[-1]}'
      cells.append(f'| {where} | `{v["fastest"]}` | {word} | {ratios} |')
  text = _table(
    ['operation', 'the table should hold', '', 'times the fastest, mean over shapes'], cells
  )
  lines = []
  for row in rows:
    v = row['values']
    if row['line'] != 'choice':
      forward, both = (f'{v[key]:.3f}' if key in v else '' for key in ('forward_ms', 'ms'))
      numbers = f'{forward} | {both or v["error"]}'
      lines.append(
        f'| {row["case"].removeprefix("kernels/")} | {row["line"].replace("|", "/")} | {numbers} |'
      )
  return (
    text
    + '\n\n'
    + _table(['operation', 'shape and formulation', 'forward ms', 'with gradients ms'], lines)
  )


def _size(rows: list[Row], rate: float | None) -> str:
  cells = []
  for row in rows:
    v = row['values']
    if row['line'].startswith('plan/'):
      continue
    numbers = (
      f'{v["clips_per_s"]:.1f} | {v["mib_a_clip"]:.0f} | {v["peak_gib"]:.1f}'
      if 'clips' in v
      else f'{v["error"]} | |'
    )
    cells.append(f'| {row["case"].removeprefix("size/")} | {row["line"]} | {numbers} |')
  return _table(['model', 'batch', 'clips/s', 'MiB a clip', 'peak GiB'], cells)


_TABLES = {1: _machine, 2: _right, 3: _headline, 4: _peers, 5: _kernels, 6: _size}


def choices(rows: list[Row]) -> tuple[dict[str, str], int | None]:
  """({operation: fastest formulation}, widest head for which cuDNN's attention won) on GPUs, in
  DTYPE. Raises ValueError where results are of two kinds of GPU, or of none."""
  found = [
    r
    for r in rows
    if r['line'] == 'choice' and r['status'] == 'done' and r['values']['dtype'] == DTYPE
  ]
  devices = sorted({row['device'] for row in found if row['device'] != 'cpu'})
  if len(devices) != 1:
    raise ValueError(
      f'the files hold choices of {devices or "no GPU"}: --apply needs those of one kind of GPU'
    )
  found = [row for row in found if row['device'] == devices[0]]
  attention = {
    int(row['case'].split('/')[-1]): row['values']
    for row in found
    if row['values']['operation'] == 'attention'
  }
  chosen = {
    r['values']['operation']: r['values']['fastest']
    for r in found
    if r['values']['operation'] != 'attention'
  }
  width = None
  if attention:
    fused = [w for w, v in attention.items() if v['fastest'] == 'cudnn' and len(v['ratios']) > 1]
    slower = [w for w in attention if w not in fused]
    width = max((w for w in fused if not slower or w < min(slower)), default=0)
    chosen['attention'] = 'cudnn' if width else 'xla'
  return chosen, width or None


def apply(rows: list[Row], path: Path) -> str:
  """Writes the measured choices into the row of GPUs of `kernels/table.py`; says what changed."""
  chosen, width = choices(rows)
  text = path.read_text()
  start = text.index("  'gpu': {")
  end = text.index('  },', start)
  block, changed = text[start:end], []
  for operation, name in chosen.items():
    before = re.search(rf"'{operation}': '(\w+)'", block)
    if before is None:
      raise ValueError(f'{path} has no entry {operation!r} in the row of GPUs')
    if before.group(1) != name:
      changed.append(f'{operation}: {before.group(1)} -> {name}')
      block = block.replace(before.group(0), f"'{operation}': '{name}'")
  text = text[:start] + block + text[end:]
  if width:
    before = re.search(r'^CUDNN_WIDTH = (\d+)', text, re.M)
    if int(before.group(1)) != width:
      changed.append(f'CUDNN_WIDTH: {before.group(1)} -> {width}')
      text = text.replace(before.group(0), f'CUDNN_WIDTH = {width}')
  path.write_text(text)
  return '\n'.join(changed) or 'nothing to change'
