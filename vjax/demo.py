"""The whole path on two cores, in minutes:  make demo

Renders and encodes videos, writes records, pre-trains a masked autoencoder on all of them, probes
it beside its untrained twin, trains a classifier from scratch and another from the autoencoder,
tests both with several views, and writes runs/demo/report.html. The classifiers get 25 labels a
class: with few labels pre-training helps most. Started again, it continues where it was.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from vjax import metrics

LABELS, STEPS = 25, 400  # labels of each class that the classifiers get, and their steps
_ROWS = {  # title of the table's row -> run, and where its top-1 stands in result.json
  'probe, untrained network': ('untrained', 'probe'),
  'probe, masked autoencoder': ('mae', 'probe'),
  f'trained from scratch, {LABELS} labels a class': ('scratch', 'test'),
  f'fine-tuned from the autoencoder, {LABELS} labels a class': ('finetuned', 'test'),
}


def configs(workdir: str, short: bool) -> dict[str, Any]:
  """{run: config}, in the order in which they must run."""
  from configs import mae_finetune_k400, mae_k400, probe_k400

  runs: dict[str, Any] = {
    'untrained': probe_k400.get_config('tiny'),
    'mae': mae_k400.get_config('tiny'),
    'scratch': mae_finetune_k400.get_config('tiny'),
    'finetuned': mae_finetune_k400.get_config(f'tiny,init={workdir}/mae'),
  }
  for name in ('scratch', 'finetuned'):
    runs[name].data.videos_per_class = float(LABELS)
    runs[name].optim.update(total_steps=STEPS, warmup_steps=STEPS // 10)
  if short:
    for config in runs.values():
      with config.unlocked():
        if config.optim:
          config.optim.update(total_steps=4, warmup_steps=1)
        config.train.update(log_steps=2, save_steps=2)
        config.update({'model': {'depth': 1}})
  return runs


def table(results: dict[str, dict[str, Any]], classes: int) -> list[tuple[str, float, float]]:
  """Rows (what, top-1, chance)."""
  return [(title, results[run][part]['top1'], 1 / classes) for title, (run, part) in _ROWS.items()]


def verdict(rows: list[tuple[str, float, float]], clips: float) -> str:
  """Says in words what the table shows; `clips` test clips say how large a difference means
  something."""
  untrained, probe, scratch, tuned = (top1 for _, top1, _ in rows)
  chance, noise = rows[0][2], 2 * (0.25 / clips) ** 0.5

  def compare(a: float, b: float) -> str:
    difference = f'{100 * (a - b):+.1f} points'
    return (
      f'{difference}, within the noise of {clips:.0f} test clips'
      if abs(a - b) < noise
      else difference
    )

  return (
    f'Chance is {chance:.1%}. The better classifier reaches {max(scratch, tuned):.1%}. Under the '
    f'probe the autoencoder is at {compare(probe, untrained)} against its untrained twin; '
    f'fine-tuned from {LABELS} labels a class it is at {compare(tuned, scratch)} against training '
    'from scratch with the same labels and equally many steps. This is one seed and a short '
    'pre-training: configs/studies/mae_pretraining.py has three seeds, twice as many steps, and '
    'all labels, too.'
  )


def report(
  runs: dict[str, Any], results: dict[str, Any], workdir: str, data_dir: str
) -> tuple[list, str, str]:
  """(rows of the table, verdict, path of report.html). The page is one file with table, curves,
  reconstructions, confusion matrix and example clips."""
  from vjax import evaluate, figures, inference
  from vjax.evals import views

  rows_of = lambda name: [
    json.loads(line) for line in Path(workdir, name, 'metrics.jsonl').read_text().splitlines()
  ]
  tuned = evaluate.load(f'{workdir}/finetuned', data_dir)
  classes = tuned.exp.classes
  test = lambda: tuned.batches('test', num_clips=2)
  logits = lambda batch: tuned.model.logits(batch['video'])
  probabilities, labels, _ = views.predictions(logits, test())
  first = next(test())
  examples = {}
  for video, label in zip(first['video'][:, 0], first['label']):
    examples.setdefault(classes[label], video)
  mae = inference.load(f'{workdir}/mae')
  rows = table(results, len(classes))
  words = verdict(rows, len(labels))
  cells = ''.join(
    f'<tr><td>{what}<td>{top1:.1%}<td>{chance:.1%}</tr>' for what, top1, chance in rows
  )
  tuning = {'from scratch': rows_of('scratch'), 'from the autoencoder': rows_of('finetuned')}
  clips = figures.frames(dict(sorted(examples.items())))
  found, ratio, oracle = mae.reconstructions(first['video'][:1, 0])
  sheet = figures.reconstruction_sheet({ratio: found[0]}, mae.mean, mae.std, oracle)
  matrix = figures.confusion(labels, probabilities.argmax(-1), classes)
  for name, figure in {'motions': clips, 'reconstruction': sheet, 'confusion': matrix}.items():
    Path(workdir, f'{name}.png').write_bytes(figures.png(figure))
  parts = [
    ('Result', f'<table><tr><th>motion view<th>top-1<th>chance</tr>{cells}</table><p>{words}</p>'),
    ('The task', figures.html(clips, 'example clips')),
    (
      'Pre-training',
      figures.html(
        figures.curves({'autoencoder': rows_of('mae')}, ('loss', 'learning_rate')), 'curves'
      ),
    ),
    ('Fine-tuning', figures.html(figures.curves(tuning, ('loss', 'top1')), 'curves')),
    (
      'Reconstructions',
      '<p>Original, what the network saw, and its reconstruction where patches were removed.</p>'
      + figures.html(sheet, 'reconstruction'),
    ),
    ('Confusion, fine-tuned', figures.html(matrix, 'confusion')),
  ]
  settings = '\n\n'.join(f'# {name}\n{config}' for name, config in runs.items())
  body = ''.join(f'<h2>{title}</h2>{html}' for title, html in parts)
  page = Path(workdir, 'report.html')
  page.write_text(
    '<!doctype html><meta charset="utf-8"><title>vjax demo</title><style>body{font:15px/1.5 '
    'sans-serif;max-width:62em;'
    'margin:2em auto;padding:0 1em}table{border-collapse:collapse}td,th{padding:.3em 1.2em .3em '
    '0;text-align:left;'
    'border-bottom:1px solid #ddd}img{max-width:100%}pre{font-size:11px}</style><h1>vjax on the '
    'built-in data</h1>'
    f'{body}<details><summary>Configs</summary><pre>{settings}</pre></details>'
  )
  return rows, words, str(page)


def main(argv: list[str] | None = None) -> None:
  """Runs everything, prints the table, says where the report is."""
  import jax

  from vjax import build, built_in_data, study

  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--workdir', default='runs/demo', help='where runs and report go')
  parser.add_argument(
    '--data_dir', default=build.default_data_dir(), help='folder of prepared datasets'
  )
  parser.add_argument('--short', action='store_true', help='a few steps of everything, for tests')
  parser.add_argument(
    '--accept_code', action='store_true', help='keep results of other code than is here now'
  )
  args: Any = parser.parse_args(argv)
  began = time.monotonic()
  metrics.start_log(args.workdir)
  jax.config.update(
    'jax_compilation_cache_dir', str(Path(args.workdir, 'compiled').absolute())
  )  # both classifiers are one
  runs = configs(args.workdir, args.short)
  built_in_data.render_if_missing(runs['mae'], args.data_dir)
  results = study.run_all(runs, args.workdir, args.data_dir, accept_code=args.accept_code)
  rows, words, page = report(runs, results, args.workdir, args.data_dir)
  width = max(map(len, _ROWS))
  print(f'\n{"motion view":{width}}  top-1   chance')
  for what, top1, chance in rows:
    print(f'{what:{width}}  {top1:5.1%}   {chance:5.1%}')
  print(f'\n{words}\n\n{(time.monotonic() - began) / 60:.1f} minutes. Report: {page}')


if __name__ == '__main__':
  main()
