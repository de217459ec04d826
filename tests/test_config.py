"""The config's schema: names, types, defaults, old names, and the keys that the command line may
set."""

import dataclasses
import importlib
import json
import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.data import make
from tests.experiments import shrunk
from vjax import build, checkpoint, config, main, train_step
from vjax.evals import views
from vjax.models import mvit

CONFIGS = (
  'mae_k400',
  'mae_finetune_k400',
  'mae_finetune_ssv2',
  'mvit_k400',
  'mvit_ssv2',
  'probe_k400',
  'r2plus1d_k400',
)
OLD = {  # what the first edition wrote into meta.json
  'seed': 0,
  'model': {'name': 'mvit', 'flavour': 'v2', 'depths': [1, 1]},
  'head': {'name': 'linear'},
  'objective': {'name': 'classify', 'many': False},
  'data': {'name': 'k400', 'split': 'train', 'batch': 8, 'mean': [0.5] * 3, 'std': [0.5] * 3},
  'clip': {'frames': 4, 'stride': 2, 'crop': 32, 'short_side': 36, 'repeats': 2},
  'augment': {'crop': 'fixed', 'colour': [0.1, 0.1, 0.1], 'randaug': 2, 'erase': 0.25},
  'optim': {
    'name': 'sgd', 'rate': 0.1, 'rate_batch': 8, 'schedule': 'cosine', 'end': 0.0,
    'warmup_start': 0.01,
    'weight_decay': 0.0, 'momentum': 0.9, 'nesterov': False, 'total_examples': 100,
    'warmup_steps': 1,
  },
  'train': {'dtype': 'float32', 'log_steps': 1, 'save_steps': 1, 'accumulate': 2, 'ema': 0.5},
  'init': {'path': 'x', 'inflate': 'centre'},
  'evals': {'test': {'name': 'views', 'split': 'val', 'clips': 3, 'crops': 1, 'batch': 4}},
}  # fmt: skip


def recipe(name: str, arg: str = '') -> ConfigDict:
  return importlib.import_module(f'configs.{name}').get_config(arg)


def test_a_config_of_the_first_edition_is_translated(tmp_path):
  (tmp_path / 'meta.json').write_text(json.dumps({'config': OLD, 'classes': ['a']}))
  found = config.parse(checkpoint.read_meta(tmp_path)['config'])
  assert found.clip == config.ClipConfig(4, 2, 32, 36, num_repeats=2)
  assert (found.optim.learning_rate, found.optim.base_batch_size, found.optim.end_lr) == (
    0.1,
    8,
    0.0,
  )
  assert found.optim.total_clips == 100 and found.optim.warmup_start_lr == 0.01
  assert (found.train.grad_accumulation, found.train.ema_decay) == (2, 0.5)
  assert (found.augment.rand_augment, found.augment.random_erasing) == (2, 0.25)
  assert found.augment.color_jitter == (0.1, 0.1, 0.1) and found.data.batch_size == 8
  assert found.init.inflate == 'center'
  assert found.model.name == 'mvit_v2_s_16x4'
  assert found.model.settings == {'depths': (1, 1), 'frames': 4}
  assert found.objective.settings == {'multi_label': False}
  assert (found.evals['test'].clip.num_clips, found.evals['test'].batch_size) == (3, 4)


OLD_MODELS = [  # config.model of schemas 1 and 2: the name that it has today, and what stays
  ({'name': 'vit', 'variant': 'L', 'drop_path': 0.2}, 'vit_large', {'drop_path': 0.2}),
  ({'name': 'resnet', 'variant': 'tam_r50'}, 'tam_r50', {}),
  ({'name': 'inception', 'variant': 'tam_tp'}, 'tam_tp_inception', {}),
  ({'name': 'blresnet', 'variant': '50'}, 'blresnet_50', {}),
  ({'name': 'slowfast', 'variant': 'r50_8x8'}, 'slowfast_r50_8x8', {}),
  ({'name': 'slowfast', 'variant': 'mm_r50_8x8'}, 'mm_slowfast_r50_8x8', {}),
  ({'name': 'x3d', 'variant': 'sts_s'}, 'sts_x3d_s', {}),
  ({'name': 'mvit', 'variant': 'multitrain_b_16x4'}, 'mvit_multitrain_b_16x4', {}),
  ({'name': 'resnet', 'variant': 'tam_r50', 'tam_blend': 'max', 'bn_group_size': 4}, 'tam_r50',
   {'temporal': {'blend': 'max'}, 'norm': {'group_size': 4}}),
  ({'name': 'blresnet', 'variant': '50', 'tam': False}, 'blresnet_50',
   {'temporal': {'kind': ''}}),
  # Without a variant, all settings: the row that is nearest, and the differences.
  ({'name': 'vit', 'width': 96, 'depth': 4, 'heads': 3}, 'vit_tiny', {'width': 96, 'depth': 4}),
  ({'name': 'mvit', 'flavor': 'v2', 'depths': [1, 2, 11, 2], 'frames': 16}, 'mvit_v2_s_16x4', {}),
  ({'name': 'x3d', 'deep': 5.0, 'shortcut_norm': False}, 'ptv_x3d_l', {}),
  (
    {'name': 'resnet', 'depths': [3, 4, 6, 3], 'bottleneck': True, 'pool1': True, 'stem': 3,
     'convs': ['ir'] * 4, 'time_strides': [1, 2, 2, 2], 'eps': 1e-3},
    'vmz_ir_csn_r50', {},
  ),
]  # fmt: skip


@pytest.mark.parametrize(('old', 'name', 'settings'), OLD_MODELS)
def test_a_model_of_an_older_schema_gets_its_name(old, name, settings, tmp_path):
  given = {**config.plain(recipe('mae_k400')), 'model': old}
  given['clip'] = {**given['clip'], 'num_frames': 16, 'crop_size': 224}
  (tmp_path / 'meta.json').write_text(json.dumps({'schema': 2, 'config': given, 'classes': []}))
  found = config.parse(checkpoint.read_meta(tmp_path)['config']).model
  assert (found.name, found.settings) == (name, settings)


@pytest.mark.parametrize(('schema', 'seed'), [(2, 7), (3, 7), (4, 0)])
def test_the_seed_chose_the_videos_up_to_schema_3(schema, seed, tmp_path):
  given = config.plain(recipe('mae_finetune_k400', 'tiny'))
  given['seed'] = 7
  read = lambda: config.parse(checkpoint.read_meta(tmp_path)['config']).data.subset_seed
  for few, chosen in ((None, 0), (0.5, seed)):
    given['data'] = {**given['data'], 'videos_per_class': few, 'subset_seed': None}
    meta = {'schema': schema, 'config': given, 'classes': []}
    (tmp_path / 'meta.json').write_text(json.dumps(meta))
    assert read() == chosen
  del given['data']['subset_seed']  # as before there was the key
  (tmp_path / 'meta.json').write_text(json.dumps({**meta, 'config': given}))
  assert read() == seed


def test_translated_settings_build_the_same_model():
  """Two stages of an MViT with everything written out, as `tiny` had it before."""
  old = {'name': 'mvit', 'flavor': 'multitrain', 'depths': [1, 2], 'width': 48, 'key_stride': 4}
  given = config.plain(recipe('mvit_k400', 'tiny'))
  given = config.translate({**given, 'model': {**old, 'class_token': False}}, 2)
  assert given['model']['name'] == 'mvit_multitrain_b_16x4'
  wanted = mvit.Backbone(
    flavor='multitrain', depths=(1, 2), width=48, key_stride=4, class_token=False, frames=8, crop=48
  )
  assert build.model(given, 5).backbone == wanted


def test_a_variant_is_refused_with_the_models_name():
  given = config.plain(recipe('mae_k400'))
  for model, message in (
    ({'name': 'vit', 'variant': 'L'}, "write config.model.name='vit_large'"),
    ({'name': 'vit', 'variant': 'XL'}, 'vjax.list_models'),
  ):
    with pytest.raises(ValueError, match=message):
      config.parse({**given, 'model': model})
  with pytest.raises(ValueError, match="no model 'vit_lage': did you mean 'vit_large'"):
    build.model({**given, 'model': {'name': 'vit_lage'}}, 5)


def test_a_config_of_today_is_not_translated(tmp_path):
  given = config.plain(recipe('mae_k400', 'tiny'))
  (tmp_path / 'meta.json').write_text(
    json.dumps({'schema': config.SCHEMA, 'config': given, 'classes': []})
  )
  assert config.plain(checkpoint.read_meta(tmp_path)['config']) == given


@pytest.mark.parametrize('section', [name for name in config.RENAMED if name != 'init'])
def test_an_old_key_is_refused_with_its_new_name(section):
  given = config.plain(recipe('mae_finetune_k400', 'tiny'))
  for old, new in config.RENAMED[section].items():
    place = given['evals']['test'] if section == 'evals' else given[section]
    where = 'evals.test' if section == 'evals' else section
    changed = {
      **given,
      section: {'test': {**place, old: 1}} if section == 'evals' else {**place, old: 1},
    }
    with pytest.raises(
      ValueError, match=f'config.{where}.{old} is called config.{where}.{new} now'
    ):
      config.parse(changed)


@pytest.mark.parametrize(
  'path, message',
  [
    ('optim.rate', 'config.optim.rate is called config.optim.learning_rate now'),
    ('evals.test.clips', 'config.evals.test.clips is called config.evals.test.num_clips now'),
    ('model.variant', 'a model has one name now'),
    ('model.bn_group_size', 'called config.model.norm.group_size now'),
    ('data.bach', "unknown key 'bach': did you mean 'batch_size'"),
    ('train.ema_decy', "unknown key 'ema_decy': did you mean 'ema_decay'"),
  ],
)
def test_a_wrong_flag_is_named(path, message):
  with pytest.raises(ValueError, match=message):
    config.check_flag(path.split('.'))


def test_flags_of_rooms_are_left_to_the_config():
  for path in (
    'head.window',
    'model.sts.variant',
    'model.norm.eps',
    'evals.test.average',
    'seed',
    'optim.learning_rate',
  ):
    config.check_flag(path.split('.'))


@pytest.mark.parametrize(
  'place, value, message',
  [
    ('optim.learning_rate', 'fast', "config.optim.learning_rate is 'fast'; it must be a number"),
    ('optim.nesterov', 1, 'config.optim.nesterov is 1; it must be True or False'),
    ('augment.area', 0.5, 'config.augment.area is 0.5; it must be a tuple of 2, each a number'),
    ('data.name', 3, 'config.data.name is 3; it must be a string'),
    ('data.workers', -2, 'config.data.workers is -2; it must be a whole number, 0 or more'),
    ('augment.decode', 'half', "config.augment.decode is 'half'; it must be one of full, reduced"),
    (
      'augment.resize_quality',
      'linear',
      "config.augment.resize_quality is 'linear'; it must be one of exact, fast",
    ),
    ('augment.short_side', (256.5, 300), 'it must be a tuple of 2, each a whole number'),
    ('data.mean', (0.5, 0.5), 'it must be a tuple of 3, each a number'),
    ('data.std', (58.0, 57.0, 57.0), 'it must be above 0, and at most 1'),
    ('augment.flip', 5, 'config.augment.flip is 5; it must be 0 or more, and at most 1'),
    ('augment.area', (0.9, 0.1), 'the first must not be above the second'),
    ('optim.learning_rate', -1.0, 'config.optim.learning_rate is -1.0; it must be 0 or more'),
    ('init.inflate', 'center', 'config.init.path is empty'),
  ],
)
def test_a_wrong_type_is_named(place, value, message):
  given = config.plain(recipe('mae_k400'))
  section, key = place.split('.')
  given[section] |= {key: value}
  with pytest.raises(ValueError, match=message):
    config.parse(given)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'seed': None}, r"lacks \['seed'\]"),
    ({'optim': None}, r"lacks \['optim'\]"),
    ({'clip': [8, 1]}, r'config.clip is \[8, 1\]; it must be a dict of keys'),
    ({'evals': {'test': 'views'}}, "config.evals.test is 'views'; it must be a dict of keys"),
    ({'datasets': {'a': {'clip': 'x'}}}, "config.datasets.a.clip is 'x'; it must be a dict"),
  ],
)
def test_sections_that_are_none_or_no_sections(change, message):
  with pytest.raises(ValueError, match=message):
    config.parse({**config.plain(recipe('mae_k400')), **change})


def test_what_is_missing_is_named():
  given = config.plain(recipe('mae_k400'))
  del given['optim']['base_batch_size'], given['evals']['val']['num_crops']
  with pytest.raises(ValueError, match='config.optim lacks base_batch_size'):
    config.parse(given)
  given['optim']['base_batch_size'] = 8
  with pytest.raises(ValueError, match='config.evals.val lacks num_crops'):
    config.parse(given)


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('arg', ['', 'tiny'])
def test_every_key_of_every_section_is_there(name, arg):
  """So that each can be set on the command line: fields of the typed sections, arguments of the
  rooms."""
  found = recipe(name, arg)
  for section, kind in config._TYPED.items():
    if section != 'optim' or len(found.optim):
      assert set(found[section]) == {f.name for f in dataclasses.fields(kind)}, section
  for section, what in config._ROOMS.items():
    module = config.room_file(section, found[section].name)
    wanted = set(config.parameters(getattr(module, what))) - {'video', 'name', 'remat', 'batch'}
    assert wanted <= set(found[section]), section
  assert {'window', 'bias_start'} <= set(recipe('mae_finetune_k400').head)
  assert set(recipe('r2plus1d_k400').model.norm) == {'eps', 'inner_eps', 'group_size', 'decay'}


def test_an_open_key_takes_the_models_own_value():
  found = recipe('r2plus1d_k400', 'variant=r2plus1d_34')
  assert found.model.depths is None and 'depths' not in config.plain(found)['model']
  assert build.model(found, 5).backbone.depths == (3, 4, 6, 3)
  found.model.depths = (1, 1, 1, 1)
  assert build.model(found, 5).backbone.depths == (1, 1, 1, 1)
  found.model.norm.group_size, found.model.sts.variant = 4, 'sts'
  net = build.model(found, 5).backbone
  assert (net.norm.group_size, net.norm.eps, net.sts.variant) == (4, 1e-3, 'sts')
  assert config.plain(found)['model']['norm'] == {'group_size': 4}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """Folders 'several' (two labels on a clip), 'none' (no labels) and 'one'."""
  root = tmp_path_factory.mktemp('labels')
  for name, labels in (('several', [[0, 1], [2]]), ('none', [[], []]), ('one', [[0], [1]])):
    make.folder(
      root / name,
      [make.example(v, 8, 24, 24, {'': label} if label else {}) for v, label in enumerate(labels)],
    )
  return root


def own(name: str, folders, config_name: str = 'mae_finetune_k400', **updates):
  settings = {
    'data.name': 'custom',
    'data.folder': name,
    'data.batch_size': 2,
    'optim.base_batch_size': 2,
    **updates,
  }
  given = shrunk(config_name, **settings)
  given['evals'] = (
    {'test': {**given['evals']['test'], 'split': 'train'}}
    if 'test' in given['evals']
    else given['evals']
  )
  return build.experiment(given, str(folders))


def test_several_labels_need_an_objective_for_them(folders):
  with pytest.raises(
    ValueError, match=r'several labels by manifest.json.*config.objective.multi_label=True'
  ):
    own('several', folders)
  assert (
    own(
      'several', folders, **{'objective.multi_label': True, 'objective.label_smoothing': 0.0}
    ).labels
    == 'multi_label'
  )
  assert own('one', folders).labels == 'single_label'


def test_what_an_evaluation_needs_is_checked_at_the_start(folders):
  probe = {'test_split': 'train'}
  with pytest.raises(
    ValueError, match="config.evals.probe needs labels, and split 'train' of .*none has none"
  ):
    given = shrunk(
      'mae_k400', **{'data.name': 'custom', 'data.folder': 'none', 'data.batch_size': 2}
    )
    given['evals'] = {'probe': {**given['evals']['probe'], **probe}}
    build.experiment(given, str(folders))
  evals = shrunk('mae_k400', 'tiny,unlabeled')['evals']
  assert set(evals) == {'val', 'pictures'}, 'none of these needs labels'


def test_hidden_labels_are_evaluated_for_predictions_alone(folders):
  """A test split whose labels nobody tells, beside a training split that has them."""
  videos = [make.example(v, 8, 24, 24, {}) for v in range(3)]
  make.folder(folders / 'one', videos, split='hidden')
  given = shrunk(
    'mae_finetune_k400', **{'data.name': 'custom', 'data.folder': 'one', 'data.batch_size': 2}
  )
  given['evals'] = {'test': {**given['evals']['test'], 'split': 'hidden'}}
  with pytest.raises(
    ValueError, match="split 'hidden' of .*has none: set --config.evals.test.save_predictions=True"
  ):
    build.experiment(given, str(folders))
  given['evals']['test']['save_predictions'] = True
  exp = build.experiment(given, str(folders))
  entry = exp.evals['test']
  batch = next(exp.eval_batches(entry, 'hidden', 4))
  assert batch['label'].tolist() == [-1, -1, -1, 0] and batch['valid'].tolist() == [1, 1, 1, 0]
  logits = lambda batch: np.zeros((4, 2, len(exp.classes)), np.float32)
  report = views.run(logits, [batch], num_classes=len(exp.classes), save_predictions=True)
  assert report.numbers == {'count': 0.0, 'hidden': 3.0}
  assert report.predictions.logits.shape == (3, 2, len(exp.classes))
  assert exp.video_names(entry, 'hidden', [0, 2]) == ['0', '2']  # these records have no names


def test_frozen_layers_keep_their_running_averages():
  old = {
    'batch_stats': {
      'backbone': {'norm': {'mean': np.zeros(2)}},
      'head': {'norm': {'mean': np.zeros(2)}},
    }
  }
  new = {
    'batch_stats': {
      'backbone': {'norm': {'mean': np.ones(2)}},
      'head': {'norm': {'mean': np.ones(2)}},
    }
  }
  found = train_step.keep_frozen(old, new, ('backbone/.*',))['batch_stats']
  assert not found['backbone']['norm']['mean'].any() and found['head']['norm']['mean'].all()
  assert train_step.keep_frozen(old, new, ()) is new


def test_make_passes_on_what_a_call_raises():
  def broken(x: int) -> None:
    raise TypeError('a mistake in the code')

  with pytest.raises(TypeError, match='a mistake in the code'):
    build.make(broken, {'x': 1}, 'evals.test')
  with pytest.raises(ValueError, match='config.evals.test lacks x'):
    build.make(broken, {}, 'evals.test')


@pytest.mark.parametrize(
  'source, name, classes, mean, clip, average',
  [
    ('ibm', 'tam_inception', 174, 0.5, {'sampling': 'uniform'}, 'logits'),
    (
      'ibm',
      'tam_r50',
      400,
      0.485,
      {'sampling': 'dense', 'num_frames': 32, 'frame_stride': 2},
      'logits',
    ),
    ('torchvision', 'tsn_r50', 1000, 0.485, {'crop_size': 224}, 'probabilities'),
    ('torchvision', 'tsn_inception', 1000, 0.5, {'crop_size': 224}, 'probabilities'),
    ('torchvision', 'tv_r3d_18', 400, 0.43216, {'crop_size': 112}, 'probabilities'),
    (
      'vmz',
      'vmz_ir_csn_r152',
      359,
      0.43216,
      {'crop_size': 224, 'short_side': 256, 'frame_stride': 2},
      'probabilities',
    ),
    ('vmz', 'r2plus1d_34', 400, 0.43216, {'crop_size': 112, 'frame_stride': 1}, 'probabilities'),
    ('mmaction', 'sts_x3d_s', 400, 0.45, {}, 'probabilities'),
    ('mmaction', 'vmz_ir_csn_r152', 400, None, {}, 'probabilities'),
    ('slowfast', 'mvit_v2_l_40x3', 400, 0.485, {'sampling': 'linspace'}, 'probabilities'),
  ],
)
def test_converted_weights_get_the_pixels_and_clips_of_their_source(
  source, name, classes, mean, clip, average
):
  from vjax.convert import _config

  found = _config.preprocessing(source, name, classes)
  assert (found.pixels[0] or (None,))[0] == mean and found.average == average
  assert clip.items() <= found.clip.items()


COMMANDS = [
  command
  for name in CONFIGS
  for command in re.findall(
    r'--config=configs/(\S+)', importlib.import_module(f'configs.{name}').__doc__
  )
]


@pytest.mark.parametrize('command', COMMANDS)
def test_commands_in_docstrings_build(command, tmp_path, monkeypatch):
  """Config and model of every command that a config's docstring names; what it starts from is put
  where it looks."""
  name, _, arg = command.rstrip('.').partition(':')
  start = re.search(r'init=([^,]+)', arg)
  if start:
    (tmp_path / start[1]).mkdir(parents=True)
    saved = {
      'schema': config.SCHEMA,
      'config': config.plain(recipe('mae_k400', 'tiny')),
      'classes': [],
    }
    (tmp_path / start[1] / 'meta.json').write_text(json.dumps(saved))
    # Runs lie where the command that a docstring names for them puts them.
    known = {main.default_workdir(f'configs/{c}') for c in COMMANDS} | {'CHECKPOINT'}
    assert start[1] in known, f'no command of a docstring writes {start[1]}'
  monkeypatch.chdir(tmp_path)
  found = config.parse(recipe(name.removesuffix('.py'), arg))
  assert build.model(found, 400).head is not None


def test_docstrings_name_a_command_of_every_config():
  assert {command.partition('.py')[0] for command in COMMANDS} >= set(CONFIGS)
