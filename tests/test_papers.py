"""Facts of the papers: each says where it was read, and configs and studies quote no others."""

import importlib
import pathlib
import re

import pytest

from configs import papers
from vjax import study, study_report

CONFIGS = ('mae_k400', 'mae_finetune_k400', 'mae_finetune_ssv2', 'mvit_k400', 'mvit_ssv2')
CONFIGS += ('r2plus1d_k400', 'probe_k400', 'sts_image', 'sts_video', 'sts_slices')
CONFIGS += ('multitrain',)


def numbers(text: str) -> set[str]:
  return set(re.findall(r'\b\d{1,3}\.\d{1,2}\b', text))


KNOWN = set().union(*(numbers(fact.value) for fact in papers.FACTS.values()))


@pytest.mark.parametrize('name', CONFIGS)
def test_expected_numbers_of_configs_are_facts(name):
  text = importlib.import_module(f'configs.{name}').__doc__
  expected = text.partition('Expected:')[2].partition('Command:')[0]
  assert numbers(expected) and numbers(expected) <= KNOWN


@pytest.mark.parametrize('name', papers.FACTS)
def test_a_fact_says_its_paper_and_source(name):
  fact = papers.FACTS[name]
  assert fact.paper in papers.PAPERS and name.startswith(f'{fact.paper}/')
  assert fact.source in (papers.PAPER, papers.MEMORY, papers.ZOO)
  assert any(map(str.isdigit, fact.value))
  assert all((fact.table, fact.dataset, fact.what))


def test_a_fact_that_was_not_read_in_the_paper_is_marked_and_explained():
  rows = [
    {'paper': papers.cell('{} ({}) at 90 %', 'mae/random_90', 'mae/ssv2_random_90')},
    {'paper': papers.FACTS['mae/large_top1']},
  ]
  assert study_report.texts(rows) == [['84.4 † (63.4) at 90 %'], ['84.8']]
  assert study_report.footnotes([rows], {}) == ['† not read in the paper itself, but from memory']


@pytest.mark.parametrize('file', sorted(pathlib.Path('configs/studies').glob('[!_]*.py')), ids=str)
def test_figures_of_papers_in_studies_are_facts(file):
  rows = study_report.named(study.load(str(file)).table(study.Results({}, {})))
  cells = [row['paper'] for table in rows.values() for row in table if row.get('paper')]
  assert not any(isinstance(value, str) and numbers(value) for value in cells)
