"""What the documents tell people to type and to apply is what the code and the clusters take."""

import importlib.util
import pathlib
import re
import textwrap

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[1]
DOCS = (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')))


def yaml_documents() -> dict[str, dict]:
  """kind -> object, of the indented blocks of docs/scaling.md that Kubernetes would take."""
  blocks = re.findall(r'(?:^(?: {4}.*)?\n)+', (ROOT / 'docs' / 'scaling.md').read_text(), re.M)
  found = [
    d
    for block in blocks
    if 'apiVersion:' in block
    for d in yaml.safe_load_all(textwrap.dedent(block))
  ]
  return {document['kind']: document for document in found}


def test_the_kubernetes_job_is_one_that_kubernetes_takes():
  """backoffLimitPerIndex is refused without restartPolicy Never; pods find each other by the
  headless service alone."""
  found = yaml_documents()
  service, job = found['Service'], found['Job']
  pod = job['spec']['template']['spec']
  assert service['apiVersion'] == 'v1' and service['spec']['clusterIP'] == 'None'
  assert service['metadata']['name'] == pod['subdomain']
  assert service['spec']['selector'] == {'job-name': job['metadata']['name']}
  assert job['apiVersion'] == 'batch/v1' and job['spec']['completionMode'] == 'Indexed'
  assert job['spec']['completions'] == job['spec']['parallelism']
  assert job['spec']['backoffLimitPerIndex'] > 0 and pod['restartPolicy'] == 'Never'
  command = pod['containers'][0]['command'][-1]
  assert f'--num_processes={job["spec"]["completions"]} ' in command
  assert f'--coordinator={job["metadata"]["name"]}-0.{pod["subdomain"]}:' in command


def test_srun_is_told_the_cores():
  """It takes them from the job no longer, since SLURM 22.05."""
  text = (ROOT / 'docs' / 'scaling.md').read_text()
  cores = re.search(r'#SBATCH .*--cpus-per-task=(\d+)', text)[1]
  assert f'srun --cpus-per-task={cores} ' in text and 'scontrol requeue $SLURM_JOB_ID' in text


@pytest.mark.parametrize('path', DOCS, ids=lambda path: path.name)
def test_commands_name_modules_and_files_that_exist(path):
  text = path.read_text()
  modules = set(re.findall(r'python3? -m ([\w.]+)', text)) - {'venv'}
  assert modules and [m for m in modules if importlib.util.find_spec(m) is None] == []
  configs = set(re.findall(r'configs/\w+(?:/\w+)*\.py', text))
  assert configs and [c for c in configs if not (ROOT / c).is_file()] == []
