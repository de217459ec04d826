"""The demo from rendered videos to its report, with a few steps of everything."""

import pytest

from vjax import demo


@pytest.mark.slow
def test_demo_reports(data_dir, tmp_path, capsys):
  demo.main(['--workdir', str(tmp_path), '--data_dir', str(data_dir), '--short'])
  printed = capsys.readouterr().out
  for row in (
    'probe, untrained network',
    'probe, masked autoencoder',
    'trained from scratch',
    'fine-tuned',
  ):
    assert row in printed
  page = (tmp_path / 'report.html').read_text()
  assert page.count('<img') == 5
  for name in ('motions', 'reconstruction', 'confusion'):
    assert (tmp_path / f'{name}.png').read_bytes().startswith(b'\x89PNG')
