"""The demo from rendered videos to its report, with a few steps of everything."""

import pytest

from vjax import demo, study
from vjax.config import plain


def test_classifiers_get_the_same_few_labels():
  runs = demo.configs('W', short=False)
  tuned, scratch = (plain(runs[name]) for name in ('finetuned', 'scratch'))
  assert tuned['init']['path'] == 'W/mae' and 'videos_per_class' not in plain(runs['mae'])['data']
  for key in ('data', 'seed'):
    assert tuned[key] == scratch[key], 'both learn from the same videos'
  assert tuned['data']['videos_per_class'] == 25
  assert tuned['optim']['total_steps'] == scratch['optim']['total_steps'] == 400


def test_the_verdict_knows_the_noise():
  rows = [('a', 0.25, 0.1), ('b', 0.45, 0.1), ('c', 0.40, 0.1), ('d', 0.42, 0.1)]
  words = demo.verdict(rows, clips=600)
  assert 'at +20.0 points against its untrained twin' in words
  assert '25 labels a class it is at +2.0 points, within the noise of 600 test clips' in words


@pytest.mark.slow
def test_demo_reports(data_dir, tmp_path, capsys):
  demo.main(['--workdir', str(tmp_path), '--data_dir', str(data_dir), '--short'])
  printed = capsys.readouterr().out
  for row in (
    'probe, untrained network',
    'probe, masked autoencoder',
    'trained from scratch, 25 labels a class',
    'fine-tuned from the autoencoder, 25 labels a class',
  ):
    assert row in printed
  page = (tmp_path / 'report.html').read_text()
  assert page.count('<img') == 5
  for name in ('motions', 'reconstruction', 'confusion'):
    assert (tmp_path / f'{name}.png').read_bytes().startswith(b'\x89PNG')


def test_accept_code_keeps_results(tmp_path, monkeypatch):
  """As of a study; nothing is trained."""
  given = {}

  def run_all(runs, workdir, data_dir, **options):
    given.update(options)
    raise KeyboardInterrupt

  monkeypatch.setattr(study, 'run_all', run_all)
  monkeypatch.setattr('vjax.built_in_data.render_if_missing', lambda config, data_dir: None)
  for flags, kept in (([], False), (['--accept_code'], True)):
    with pytest.raises(KeyboardInterrupt):
      demo.main(['--workdir', str(tmp_path), '--data_dir=x', *flags])
    assert given == {'accept_code': kept}
