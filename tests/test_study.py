"""Studies: what is missing is run, what is there is not run again, the table shows what is
finished."""

import importlib
import inspect
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from configs import cnn_study
from tests.experiments import shrunk
from vjax import checkpoint, figures, sources, study, study_needs, study_report
from vjax.config import parse, plain

STUDY = """'''Two seeds.'''
from tests.experiments import shrunk


def runs(workdir):
  for seed in (0, 1):
    config = shrunk('mae_finetune_k400', **{'optim.total_steps': 2})
    config['seed'] = seed
    yield f'tuned_{seed}', config


def table(results):
  return [{'what': 'top-1', 'seen': [100 * r['test']['top1'] for r in results.values()], 'paper': None}]
"""
ALL = sorted(p.stem for p in pathlib.Path('configs/studies').glob('[!_]*.py'))
MASKED = [name for name in ALL if name.startswith('mae_')]


def config(rate: float = 0.1, start: str = '') -> dict:
  found = shrunk('mae_finetune_k400', **{'optim.learning_rate': rate})
  return {**found, 'init': {'path': start, 'skip': ('head/.*',)}} if start else found


class Trainings:
  """Stands for vjax.train: a training writes its learning rate as its result."""

  def __init__(self, monkeypatch):
    self.made, self.diverges = [], []
    monkeypatch.setattr(study.build, 'experiment', lambda config, data_dir, classes: config)
    monkeypatch.setattr(study.built_in_data, 'render_if_missing', lambda config, data_dir: None)
    monkeypatch.setattr(study.train, 'run', self.run)

  def run(self, config, workdir):
    name = pathlib.Path(workdir).name
    self.made.append(name)
    checkpoint.write_json(f'{workdir}/meta.json', {'config': plain(config), 'schema': 3})
    if name in self.diverges:
      raise FloatingPointError('loss is nan at step 3')
    rate = config['optim']['learning_rate']
    checkpoint.write_json(f'{workdir}/result.json', {'test': {'top1': rate}})


@pytest.fixture
def trainings(monkeypatch):
  return Trainings(monkeypatch)


def run(runs, workdir, **options):
  made = study.Study(runs, str(workdir), '', **options)
  return made, made.run()


def test_runs_wait_for_results_and_depend_on_them(trainings, tmp_path):
  def search(workdir):
    for rate in (0.1, 0.3, 0.2):
      yield f'rate_{rate}', config(rate)
    results = yield
    best = max(results.values(), key=lambda r: r['test']['top1'])
    yield 'final', config(best['test']['top1'])

  made, results = run(search(''), tmp_path)
  assert results['final']['test']['top1'] == 0.3 and trainings.made[-1] == 'final'
  made, results = run(search(''), tmp_path)
  assert len(results) == len(trainings.made) == 4, 'nothing is run twice'
  made, results = run(search(''), tmp_path / 'other', only='rate_0.1')
  assert list(results) == ['rate_0.1'] and not made.waits_for, 'one run by its name'
  made, results = run(search(''), tmp_path / 'other', only='rate_0.[12]')
  assert len(results) == 2 and made.waits_for == ['rate_0.3'] and 'final' not in made.entries


def test_an_analysis_is_saved_and_made_again_only_for_other_results(trainings, tmp_path):
  calls = []

  def summed(results, data_dir):
    calls.append(sorted(results))
    return {'sum': sum(r['test']['top1'] for r in results.values())}

  def runs(rate):
    yield 'a', config(rate)
    yield 'b', config(0.5)
    yield 'both', summed
    yield 'one', summed, ('b',)

  assert run(runs(0.25), tmp_path)[1]['both'] == {'sum': 0.75}
  run(runs(0.25), tmp_path)
  assert calls == [['a', 'b'], ['b']]
  assert run(runs(0.5), tmp_path)[1]['both'] == {'sum': 1.0}
  assert calls[2:] == [['a', 'b']], 'b is as it was'


def test_an_analysis_must_return_json(trainings, tmp_path):
  made, results = run([('a', lambda results, data_dir: {1j})], tmp_path)
  assert not results and 'JSON cannot hold' in made.failed['a']


def test_a_run_of_another_config_is_moved_aside_and_what_starts_from_it_too(trainings, tmp_path):
  def runs(rate):
    yield 'a', config(rate)
    yield 'b', config(0.5)
    yield 'from_a', config(0.2, f'{tmp_path}/a')

  run(runs(0.1), tmp_path)
  results = run(runs(0.3), tmp_path)[1]
  assert trainings.made[3:] == ['a', 'from_a'] and results['a']['test']['top1'] == 0.3
  old = json.loads((tmp_path / 'a.old-1/result.json').read_text())
  assert old['test']['top1'] == 0.1 and (tmp_path / 'from_a.old-1').is_dir()


def test_a_moved_study_is_the_same(trainings, tmp_path):
  runs = lambda workdir: [('a', config()), ('from_a', config(0.2, f'{workdir}/a'))]
  run(runs(tmp_path / 'x'), tmp_path / 'x')
  (tmp_path / 'x').rename(tmp_path / 'y')
  assert len(run(runs(tmp_path / 'y'), tmp_path / 'y')[1]) == 2 and len(trainings.made) == 2


def test_other_code_makes_a_run_again_unless_accepted(trainings, tmp_path):
  runs = [('a', config()), ('b', config())]
  run(runs, tmp_path)
  record = json.loads((tmp_path / 'a/study.json').read_text())
  assert 'vjax/train.py' in record['code'] and 'configs/common.py' in record['code']
  record['code']['vjax/train.py'] = 'another'
  (tmp_path / 'a/study.json').write_text(json.dumps(record))
  made, results = run(runs, tmp_path, accept_code=True)
  assert len(results) == 2 and made.older() == {'a': ('vjax/train.py',)}
  assert list(made.results(newer=True)) == ['b']
  made, results = run(runs, tmp_path)
  assert trainings.made == ['a', 'b', 'a'] and not made.older() and (tmp_path / 'a.old-1').is_dir()


def test_a_training_stays_when_an_analysis_changes(trainings, tmp_path):
  runs = [('a', config()), ('b', lambda results, data_dir: results['a'])]
  run(runs, tmp_path)
  for name in ('a', 'b'):
    record = json.loads((tmp_path / name / 'study.json').read_text())
    record['code'] |= {'vjax/analysis/cnn.py': 'another'}
    (tmp_path / name / 'study.json').write_text(json.dumps(record))
  made = run(runs, tmp_path, accept_code=True)[0]
  assert made.older() == {'b': ('vjax/analysis/cnn.py',)}


def test_a_hash_of_code_ignores_comments(tmp_path):
  texts = (
    'def f():\n  "Docs."\n  return 1\n',
    '# why\ndef f():\n  return  1\n',
    'def f(): return 2',
  )
  for number, text in enumerate(texts):
    (tmp_path / f'{number}.py').write_text(text)
  one, two, three = (sources.source_hash(f'{tmp_path}/{n}.py') for n in range(3))
  assert one == two != three and sources.source_hash('none.py') == ''


def test_the_others_go_on_when_one_diverges(trainings, tmp_path):
  runs = lambda: [
    ('a', config()), ('from_a', config(0.2, f'{tmp_path}/a')), ('b', config()), ('c', config()),
  ]  # fmt: skip
  trainings.diverges = ['a']
  made, results = run(runs(), tmp_path)
  assert list(results) == ['b', 'c'] and made.failed['a'] == 'loss is nan at step 3'
  assert 'from_a starts from a, which diverged' in made.failed['from_a']
  with pytest.raises(ValueError, match='result of a, which failed: loss is nan'):
    results['a']
  run(runs(), tmp_path)
  assert trainings.made == ['a', 'b', 'c'], 'the same would diverge again'


def test_the_others_go_on_when_a_config_is_wrong(trainings, tmp_path):
  run([('a', config()), ('b', config())], tmp_path)
  wrong = {name: section for name, section in config().items() if name != 'optim'}
  made, results = run([('a', {**wrong, 'optim': None}), ('b', config())], tmp_path)
  assert list(results) == ['b'] and 'optim' in made.failed['a']


def test_a_diverged_run_does_not_stop_a_search(trainings, tmp_path):
  def runs():
    yield 'a', config()
    yield 'b', config()
    results = yield
    yield 'best', config(results['b']['test']['top1'])

  trainings.diverges = ['a']
  assert list(run(runs(), tmp_path)[1]) == ['b', 'best']


def test_a_run_waits_for_the_one_it_starts_from(trainings, tmp_path):
  runs = [('first', config()), ('second', config(start=f'{tmp_path}/first/best'))]
  made, _ = run(runs, tmp_path, only='second')
  assert 'second starts from first, which is not finished: run that' in made.failed['second']


def test_commands_come_in_levels(trainings, tmp_path):
  def runs():
    yield 'a', config()
    yield 'from_a', config(0.2, f'{tmp_path}/a')
    yield 'b', config()
    yield
    yield 'unknown', config()

  made = study.Study(runs(), str(tmp_path), 'data', source='s.py')
  lines = list(made.commands())
  assert [level for level, _ in lines] == [1, 1, 2] and made.waits_for
  want = f'python -m vjax.study s.py --only=a --workdir={tmp_path} --data_dir=data --no_report'
  assert lines[0][1] == want and '--only=b' in lines[1][1]
  run(runs(), tmp_path, only='a')
  assert [level for level, _ in study.Study(runs(), str(tmp_path), 'data').commands()] == [1, 1]


def test_jobs_run_at_the_same_time_and_in_order(trainings, tmp_path, monkeypatch):
  """Processes that end when both of the first level have begun."""
  script = 'import sys, time, pathlib\nw, name, needs = sys.argv[1:]\n'
  script += 'pathlib.Path(w, name + ".begun").touch()\n'
  script += 'while needs and not pathlib.Path(w, needs + ".begun").exists(): time.sleep(.01)\n'
  script += 'print("hello from", name); sys.exit(name == "bad")\n'
  others = {'a': 'b', 'b': 'a', 'from_a': '', 'bad': ''}

  def command(self, entry, python):
    self._train(entry, self._folder(entry.name)) if entry.name != 'bad' else None
    return [sys.executable, '-c', script, str(tmp_path), entry.name, others[entry.name]]

  monkeypatch.setattr(study, '_POLL_S', 0.01)
  monkeypatch.setattr(study.Study, '_command', command)
  runs = [('from_a', config(0.2, f'{tmp_path}/a')), ('bad', config())]
  runs = [('a', config()), ('b', config()), *runs]
  made, results = run(runs, tmp_path, jobs=2)
  assert list(results) == ['a', 'b', 'from_a'] and 'status 1' in made.failed['bad']


@pytest.mark.parametrize(
  ('item', 'words'),
  [
    ('a', 'must be \\(name, config\\)'),
    (('a/b', {}), 'cannot be the name of a folder'),
    (('a', print, ('x',)), 'a needs x, which'),
  ],
)
def test_what_is_no_run_is_refused(item, words, tmp_path):
  with pytest.raises(ValueError, match=words):
    run([item], tmp_path)


MAIN = """'''Rates.'''
from tests.test_study import config

def runs(workdir):
  for rate in (0.5, 0.25):
    yield f'rate_{rate}', config(rate)

def table(results):
  seen = [100 * r['test']['top1'] for r in results.values()]
  return {'All rates': [{'what': 'a <b>', 'seen': seen}], 'Other': [{'x': 1}]}

def figures(results):
  return {'By rate': {'lines': {'top-1': [(1, [0.5, 0.6]), (2, [])]}, 'x': 'rate'}}

def outcome(results):
  return [f'{len(results)} < 3: shows']
"""


def test_main_writes_tables_and_figures_and_its_status_tells_of_a_divergence(
  trainings, tmp_path, capsys
):
  (tmp_path / 'rates.py').write_text(MAIN)
  flags = [str(tmp_path / 'rates.py'), f'--workdir={tmp_path}/work', '--data_dir=.']
  trainings.diverges = ['rate_0.25']
  with pytest.raises(SystemExit) as end:
    study.main(flags)
  assert end.value.code == 1 and 'FAILED rate_0.25: loss is nan' in capsys.readouterr().out
  work = tmp_path / 'work'
  assert (work / 'all_rates.csv').read_text().splitlines()[1] == 'a <b>,50.0,,1'
  assert '## All rates' in (work / 'table.md').read_text()
  assert (work / 'by_rate.png').read_bytes().startswith(b'\x89PNG')
  page = (work / 'report.html').read_text()
  assert (work / 'table.md').read_text().endswith('## Outcome\n\n* 1 < 3: shows\n')
  assert '<ul><li>1 &lt; 3: shows</ul>' in page
  assert 'data:image/png;base64,' in page and 'a &lt;b&gt;' in page and 'diverged: loss' in page
  trainings.diverges = []
  (work / 'rate_0.25/study.json').unlink()
  with pytest.raises(SystemExit) as end:
    study.main([*flags, '--accept_code'])
  assert end.value.code == 0 and '37.5 ± 17.7 (2)' in capsys.readouterr().out
  with pytest.raises(SystemExit) as end:
    study.main([*flags, '--only=x', '--accept_code'])
  assert end.value.code == 1


@pytest.fixture(scope='module')
def trained(data_dir, tmp_path_factory):
  """(the study, its workdir, results after the first and the second call)."""
  folder = tmp_path_factory.mktemp('study')
  (folder / 'two_seeds.py').write_text(STUDY)
  module = study.load(str(folder / 'two_seeds.py'))
  work = str(folder / 'work')
  one = study.run_all(dict(module.runs('')), work, str(data_dir), only='*_0')
  written = (folder / 'work/tuned_0/result.json').stat().st_mtime_ns
  both = study.run_all(dict(module.runs('')), work, str(data_dir))
  assert (folder / 'work/tuned_0/result.json').stat().st_mtime_ns == written
  return module, work, one, both


@pytest.mark.slow
def test_runs_what_is_missing_and_nothing_twice(trained):
  module, _, one, both = trained
  assert (
    list(one) == ['tuned_0']
    and list(both) == ['tuned_0', 'tuned_1']
    and both['tuned_0'] == one['tuned_0']
  )
  assert '(2)' in study.markdown(module.table(both))


SEARCH = """

def seeds(workdir, runs=runs):
  yield from runs(workdir)
  results = yield
  best = max(results, key=lambda name: results[name]['test']['top1'])
  yield f'best_is_{best}', lambda results, data_dir: sorted(results)


runs = seeds
table = lambda results: [{'finished': len(results)}]
"""


@pytest.mark.slow
def test_two_processes_at_a_time(data_dir, tmp_path):
  """Two real runs in processes of their own, stopped and continued; what follows from their results
  is a third."""
  (tmp_path / 'two_seeds.py').write_text(STUDY + SEARCH)
  command = [sys.executable, '-m', 'vjax.study', str(tmp_path / 'two_seeds.py'), '--jobs=2']
  command += [f'--workdir={tmp_path}/work', f'--data_dir={data_dir}']
  first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
  for line in first.stderr:
    if 'tuned_1 (2 of 2' in line:
      break
  first.send_signal(signal.SIGTERM)
  first.communicate(timeout=200)
  assert first.returncode == 75
  done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
  assert done.returncode == 0, done.stderr[-3000:]
  assert '3 of 3 runs are finished' in done.stdout
  (result,) = (tmp_path / 'work').glob('best_is_tuned_?/result.json')
  assert json.loads(result.read_text()) == ['tuned_0', 'tuned_1']
  assert (tmp_path / 'work/tuned_0/log.txt').exists()


def test_a_stop_while_a_process_starts_ends_that_process(tmp_path, monkeypatch):
  started = []

  def start(*_):
    started.append(subprocess.Popen(['sleep', '60']))
    os.kill(os.getpid(), signal.SIGTERM)
    return started[-1]

  monkeypatch.setattr(study, '_start', start)
  runs = [('one', lambda *_: 1, ()), ('two', lambda *_: 2, ())]
  with pytest.raises(SystemExit) as stop:
    study.Study(runs, str(tmp_path), '', jobs=2).run()
  assert stop.value.code == 75
  assert [process.poll() for process in started] == [-signal.SIGTERM]


def test_a_miniature_has_runs_and_a_folder_of_its_own(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  file = tmp_path / 'sizes.py'
  file.write_text('''"""Two sizes."""
def runs(workdir, tiny=False):
  yield 'one', lambda results, data_dir: [workdir, tiny], ()
def table(results):
  return [{'what': str(results['one'])}]
''')
  for flags, found in ((['--tiny'], ['runs/sizes_tiny', True]), ([], ['runs/sizes', False])):
    with pytest.raises(SystemExit) as end:
      study.main([str(file), *flags])
    assert end.value.code == 0
    assert json.loads((tmp_path / found[0] / 'one/result.json').read_text()) == found
    assert not list(tmp_path.glob('runs/*/*.old-*')), 'a first run moves nothing aside'
  capsys.readouterr()
  study.main([str(file), '--tiny', '--print_commands'])
  assert not capsys.readouterr().out, 'it is finished'
  study.main([str(file), '--tiny', '--workdir=elsewhere', '--print_commands'])
  assert '--workdir=elsewhere' in (line := capsys.readouterr().out) and ' --tiny' in line
  file.write_text(STUDY)
  with pytest.raises(ValueError, match='--tiny: the study sizes has one size alone'):
    study.runs_of(study.load(str(file)), '', tiny=True)


def test_a_key_that_no_config_has_names_the_line_of_the_study(tmp_path):
  file = tmp_path / 'misspelled.py'
  file.write_text("""from configs import mae_finetune_k400
def runs(workdir):
  config = mae_finetune_k400.get_config('tiny')
  config.objective.smoothing = 0.1
  yield 'one', config
def table(results):
  return []
""")
  module = study.load(str(file))
  with pytest.raises(ValueError, match=r'misspelled.py:4: AttributeError: .*smoothing'):
    next(study.Study(module.runs(''), str(tmp_path), '').batches())


def test_numbers_that_are_not_finite_do_not_stop_a_report():
  rows = [{'seen': [1.0, float('nan')]}]
  assert 'nan ± nan (2)' in study.markdown(rows)
  assert study_report.as_csv(rows).splitlines()[1] == 'nan,nan,2'


def test_table_says_what_is_missing():
  rows = [
    {'what': 'a', 'seen': [60.0, 62.0], 'paper': '71.4'},
    {'what': 'b', 'seen': [], 'paper': None},
  ]
  lines = study.markdown(rows).splitlines()
  assert [x.strip() for x in lines[2].split('|')[1:-1]] == ['a', '61.0 ± 1.4 (2)', '71.4']
  assert [x.strip() for x in lines[3].split('|')[1:-1]] == ['b', '-', '-']


def test_csv_has_mean_deviation_and_count():
  rows = [{'what': 'a', 'seen': [60.0, 62.0]}, {'what': 'b', 'seen': 3.25}, {'what': 'c'}]
  lines = study_report.as_csv(rows).splitlines()
  assert lines[0] == 'what,seen,"seen, deviation","seen, runs"'
  assert lines[1].startswith('a,61.0,1.414213') and lines[1].endswith(',2')
  assert lines[2:] == ['b,3.25,,1', 'c,,,0']


def test_cells_with_older_results_are_marked():
  rows = [{'what': 'a', 'seen': [60.0, 62.0]}, {'what': 'b', 'seen': [1.0]}]
  newer = [{'what': 'a', 'seen': [60.0]}, {'what': 'b', 'seen': [1.0]}]
  assert study_report.texts(rows, newer) == [['a', '61.0 ± 1.4 (2) *'], ['b', '1.0 (1)']]
  notes = study_report.footnotes([rows], {'a_1': ('vjax/train.py',)})
  assert notes == ['* with results of older code, kept by --accept_code: a_1 (vjax/train.py)']


def test_points_have_means_and_bars():
  figure = figures.points({'a': [(1, [1.0, 3.0]), (2, None), (3, 4.0)]}, x='n', y='top-1')
  container = figure.axes[0].containers[0]
  assert container.lines[0].get_ydata().tolist() == [2.0, 4.0]
  assert figure.axes[0].get_xlabel() == 'n'


def test_errors_name_the_remedy(tmp_path):
  (tmp_path / 'good.py').write_text(STUDY)
  with pytest.raises(ValueError, match='good.py'):
    study.load(str(tmp_path / 'missing.py'))
  (tmp_path / 'empty.py').write_text('')
  with pytest.raises(ValueError, match='no function runs'):
    study.load(str(tmp_path / 'empty.py'))


@pytest.mark.parametrize('name', ALL)
def test_every_study_builds_and_prints_without_results(name):
  module = importlib.import_module(f'configs.studies.{name}')
  sizes = (False, True) if 'tiny' in inspect.signature(module.runs).parameters else (False,)
  for tiny in sizes:
    made = study.Study(study.runs_of(module, 'work', tiny), 'work', '')
    assert len(next(made.batches())) > 1
  tables = study_report.named(module.table(study.Results({}, {})))
  for rows in tables.values():
    assert len(study.markdown(rows).splitlines()) > 2
  if name == 'cnn_grid':  # its outcome is that of the networks that are finished
    assert module.outcome({}) == []
  else:
    assert all('not told' in words for words in module.outcome({}))


def test_what_a_study_needs_is_told_with_its_commands(tmp_path, monkeypatch):
  """Each dataset and each checkpoint once, with the runs; what a run of the study makes is none."""
  monkeypatch.chdir(tmp_path)
  for folder in ('here/ssv2', 'checkpoints/r18'):
    (tmp_path / folder).mkdir(parents=True)
  runs = {
    name: cnn_study.get_config(f'module=tsn,backbone={backbone},data={data},init={init}')
    for name, backbone, data, init in (
      ('a', 'resnet18', 'mini_ssv2', 'checkpoints/r18'),
      ('b', 'resnet50', 'mini_k400', 'checkpoints/r50'),
      ('c', 'resnet50', 'k400', 'checkpoints/r50'),
      ('d', 'resnet50', 'ssv2', 'work/c'),
    )
  }
  k400 = f'{tmp_path}/here/k400'
  prepare = f'python -m data_prep.write --list train.csv val.csv --root=DIR --out={k400}'
  assert study_needs.missing(runs, ['d'], 'here') == [
    f'dataset {k400} (to prepare it: {prepare}): needed by b, c',
    'weights checkpoints/r50: needed by b, c',
  ]


def listed(name: str, *, tiny: bool) -> dict:
  """{run: config or function} of a study, also of what waits for results that it does not need."""
  found = study.runs_of(study.load(f'configs/studies/{name}.py'), 'W', tiny)
  runs: dict = {}
  for item in found:
    if item is not None:
      assert item[0] not in runs, 'a name stands for one run'
      runs[item[0]] = item[1]
  return runs


@pytest.mark.parametrize('name', MASKED)
def test_studies_of_masked_autoencoders_have_configs_that_parse(name):
  """In both sizes, where there are two; a start is a run before, or weights from elsewhere."""
  module = study.load(f'configs/studies/{name}.py')
  for tiny in (False, True) if 'tiny' in inspect.signature(module.runs).parameters else (False,):
    before = set()
    for run_name, what in listed(name, tiny=tiny).items():
      if not callable(what):
        path = parse(what).init.path
        assert not path.startswith('W/') or path.removeprefix('W/') in before, run_name
        assert not tiny or plain(what)['data']['name'] == 'motions'
      before.add(run_name)
    assert len(before) > 1
  assert study.markdown(module.table(study.Results({}, {}))).count('|') > 10


def test_a_run_of_several_studies_of_masked_autoencoders_is_the_same():
  seen: dict = {}
  for name in MASKED:
    if '_mae' in vars(study.load(f'configs/studies/{name}.py')):
      for run_name, what in listed(name, tiny=False).items():
        if not callable(what):
          assert plain(seen.setdefault(run_name, what)) == plain(what), f'{run_name} of {name}'
  assert len(seen) > 80
