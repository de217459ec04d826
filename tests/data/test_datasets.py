"""Facts of the datasets."""

from vjax import registry


def test_every_dataset_file_states_its_facts():
  specs = {
    name: registry.find('data.datasets', name).SPEC for name in registry.names('data.datasets')
  }
  assert {
    n: specs[n].num_classes for n in ('k400', 'k600', 'k700', 'ssv2', 'motions', 'custom')
  } == {
    'k400': 400,
    'k600': 600,
    'k700': 700,
    'ssv2': 174,
    'motions': 12,
    'custom': 0,
  }
  for name, spec in specs.items():
    assert spec.name == name and spec.prepare.startswith('python -m data_prep.')
  assert (
    not (specs['ssv2'].flip or specs['motions'].flip or specs['motions_action'].flip)
    and specs['k400'].flip
  )
  assert {specs[n].folder or n for n in specs if n.startswith('motions')} == {'motions'}
