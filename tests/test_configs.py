"""Every config builds, tiny and whole, and its model traces; what is wrong in one is said by
name."""

import contextlib
import dataclasses
import importlib
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from configs import common, mae_finetune_k400
from tests.experiments import shrunk
from vjax import build, built_in_data, checkpoint, checks, main, registry
from vjax.config import ClipConfig, InitConfig, parse, plain
from vjax.kernels import conv

CONFIGS = sorted(
  p.stem
  for p in (pathlib.Path(__file__).parent.parent / 'configs').glob('*.py')
  if p.stem not in ('__init__', 'common', 'papers')
)
ARGS = {  # beside '' and 'tiny'
  'cnn_study': (
    'model=TAM-IncV1-f16,data=mine',
    'protocol=slowfast_ssv2,tiny',
    'model=bLVNet-TAM-50-a2-b4-f8x2,tiny',
    'protocol=transfer,data=mine,tiny',
  ),
  'mae_k400': ('variant=B', 'variant=H,epochs=1600,data=k700', 'data=mine,tiny', 'data=ssv2'),
  'mae_finetune_k400': (
    'variant=B,init=x',
    'variant=H',
    'data=mine',
    'data=mine,tiny',
    'data=k600',
    'mask=0.75,intermediate',
    'frames=40,crop=312',
  ),
  'mae_finetune_ssv2': ('variant=H,init=x', 'mask=0.5,tiny'),
  'multitrain': ('backbone=slow_r50', 'backbone=slow_r50,tiny'),
  'mvit_k400': (
    'variant=v1_b_32x3',
    'variant=multitrain_b_16x4,tiny',
    'variant=v1_b_16x4,tiny',
    'data=mine,tiny',
    'variant=multitrain_half_b_16x4',
    'variant=v1_b16_32x3',
  ),
  'mvit_ssv2': ('variant=v2_l_40x3,init=x',),
  'r2plus1d_k400': (
    'variant=r2plus1d_18,frames=8',
    'variant=r2plus1d_152,init=x',
    'data=mine,tiny',
  ),
  'sts_image': (
    'model=csn,conv=sts_1_2,recipe=300',
    'model=x3d_s,conv=dilated_3,recipe=300,tiny',
    'model=slowfast_4x16,data=k400',
    'model=r2plus1d,conv=no_split,data=mine,tiny',
  ),
  'sts_video': (
    'model=csn,data=ssv2,init=x',
    'model=x3d_s,init=x,rule=sts',
    'model=slowfast_8x8,branch=slow,init=x,tiny',
    'model=r2plus1d,data=mine,tiny',
  ),
}


# Quick: every config's tiny form and recipe; slow: the other sizes, whose networks take seconds to
# trace.
TRACED = [(n, a) for n in CONFIGS for a in ('', 'tiny', *ARGS.get(n, ()))]


@pytest.mark.parametrize(
  ('name', 'arg'),
  [(n, a) if a in ('', 'tiny') else pytest.param(n, a, marks=pytest.mark.slow) for n, a in TRACED],
)
def test_config_builds_and_traces(name, arg):
  config = plain(importlib.import_module(f'configs.{name}').get_config(arg))
  registry.find('objectives', config['objective']['name'])
  assert callable(build.objective(config).loss)
  model = build.model(config, build.known_outputs(config))
  clip = ClipConfig(**config['clip'])
  video = jax.ShapeDtypeStruct((1, clip.num_frames, clip.crop_size, clip.crop_size, 3), jnp.float32)
  # XLA's convolutions trace faster than those of a CPU: these are traced in the tiny forms alone.
  with contextlib.nullcontext() if 'tiny' in arg else conv.formulation('lax'):
    shapes = jax.eval_shape(
      lambda rng, x: model.init_with_output(rng, x, train=False), jax.random.key(0), video
    )
  assert jax.tree.leaves(shapes[0])[0].shape[0] == 1
  assert set(shapes[1]['params']) == {'backbone', 'head'}
  tx, schedule, total = build.optimizer(config, model, clips_per_epoch=240_000)
  if config['optim']:
    jax.eval_shape(tx.init, shapes[1]['params'])
    assert total > 100 and float(schedule(total // 2)) > 0
  for evaluation in config['evals'].values():
    needs = registry.find('evals', evaluation['name']).EVALUATION.needs
    assert needs in ('logits', 'projected_logits', 'features', 'metrics', 'reconstructions')
  doc = importlib.import_module(f'configs.{name}').__doc__
  assert 'Command:' in doc and 'Expected:' in doc


def test_rematerialisation_reaches_encoder_and_decoder():
  config = plain(importlib.import_module('configs.mae_k400').get_config('tiny'))
  for remat in (False, True):
    config['train']['remat'] = remat
    model = build.model(config, 5)
    assert model.backbone.remat == model.head.remat == remat


def test_recipes_are_the_papers():
  optimizer = lambda name, arg, clips: build.optimizer(
    c := plain(importlib.import_module(f'configs.{name}').get_config(arg)),
    build.model(c, 400),
    clips_per_epoch=clips,
  )
  # Feichtenhofer et al. 2022, table 5a: 800 effective epochs of 240k videos are 200 passes of
  # 468.75 steps.
  _, schedule, total = optimizer('mae_k400', 'variant=B', 240_000)
  assert total == 93_750 and float(schedule(14_062)) == pytest.approx(1.6e-3, rel=1e-3)
  # Ghadiyaram et al. 2019, table 13: 58 passes over 246k videos, 384 clips a step; drops after 32
  # and 48 passes.
  _, schedule, total = optimizer('r2plus1d_k400', 'variant=r2plus1d_18,init=x', 246_000)
  assert total == 37_156
  rates = [float(schedule(int(p * 246_000 / 384))) for p in (0, 20, 40, 50)]
  assert rates == pytest.approx([3e-5, 64 * 3e-5, 64 * 3e-6, 64 * 3e-7], rel=1e-5)


@pytest.mark.parametrize(
  ('section', 'key', 'message'),
  [
    (
      'optim',
      'weight_decy',
      r"config.optim has the unknown key 'weight_decy': did you mean 'weight_decay'",
    ),
    ('objective', 'masking', r"config.objective has the unknown key 'masking'.*ratio"),
    ('model', 'dept', r"config.model has the unknown key 'dept': did you mean 'depth'"),
    ('data', 'bach', r"config.data has the unknown key 'bach': did you mean 'batch_size'"),
    ('init', 'skp', r"config.init has the unknown key 'skp': did you mean 'skip'"),
    ('clip', 'frame', r"config.clip has the unknown key 'frame': did you mean 'num_frames'"),
  ],
)
def test_unknown_key_is_named_with_the_nearest(section, key, message, data_dir):
  config = plain(importlib.import_module('configs.mae_k400').get_config('tiny'))
  config.setdefault(section, {})[key] = 1
  with pytest.raises(ValueError, match=message):
    build.experiment(config, str(data_dir))


def test_unknown_section_and_argument():
  config = importlib.import_module('configs.mae_k400').get_config('tiny').to_dict()
  with pytest.raises(ValueError, match=r"unknown sections \['opt'\]"):
    plain({**config, 'opt': {}})
  with pytest.raises(
    ValueError,
    match=r"no axis 'varian'; there are \['data', 'epochs', 'tiny', 'unlabeled', 'variant'\]",
  ):
    importlib.import_module('configs.mae_k400').get_config('varian=L')
  with pytest.raises(ValueError, match="variant='XXL'.*B, L, H"):
    importlib.import_module('configs.mae_k400').get_config('variant=XXL')
  assert common.parse_arg('tiny,rate=0.5', rate=1.0).to_dict() == {'tiny': True, 'rate': 0.5}


def test_missing_data_names_folder_and_command(tmp_path):
  config = plain(importlib.import_module('configs.mae_k400').get_config('variant=B'))
  with pytest.raises(FileNotFoundError, match=rf'{tmp_path}/k400(.|\n)*python -m data_prep.write'):
    build.experiment(config, str(tmp_path))


@pytest.mark.parametrize(
  ('flag', 'message'),
  [
    (
      '--config.optim.rat=3',
      "--config.optim.rat=3: config.optim has the unknown key 'rat': did you mean 'learning_rate'?",
    ),
    (
      '--config.optim.learning_rate=fast',
      '--config.optim.learning_rate=fast: it must be a number',
    ),
    ('--config.train.keep=few', '--config.train.keep=few: it must be a whole number'),
    ('--config.train.remat=perhaps', '--config.train.remat=perhaps: it must be True or False'),
    (
      '--config.optim.lr=1',
      "--config.optim.lr=1: config.optim has the unknown key 'lr': did you mean 'learning_rate'?",
    ),
    (
      '--config.model=vit_base',
      '--config.model=vit_base: config.model is a section; set its keys, such as '
      '--config.model.name=vit_base',
    ),
    (
      '--config.optim.nosuch=None',
      "--config.optim.nosuch=None: config.optim has the unknown key 'nosuch'",
    ),
    (
      '--config.evals.test.nosuch=None',
      "config.evals.test.nosuch: this config has no entry 'test' there",
    ),
    ('--wordir=x', "--wordir=x: Unknown command line flag 'wordir'. Did you mean: workdir ?"),
    (
      '--config=configs/mae_k400.py:tin',
      "tin: config argument 'tin': there is no axis 'tin'; there are ['data', 'epochs', 'tiny', "
      "'unlabeled', 'variant']",
    ),
  ],
)
def test_wrong_flags_are_answered(flag, message, monkeypatch):
  config = [] if flag.startswith('--config=') else ['--config=configs/mae_k400.py:tiny']
  with pytest.raises(SystemExit) as found:
    parsed(monkeypatch, *config, flag, '--data_dir=x')
  assert message in str(found.value) and '--data_dir' not in str(found.value)


def test_of_many_flags_the_wrong_one_is_named(monkeypatch):
  flags = (
    '--config=configs/mae_finetune_k400.py:tiny',
    '--data_dir=x',
    '--config.evals.tst.name=y',
  )
  with pytest.raises(SystemExit) as found:
    parsed(monkeypatch, *flags)
  assert str(found.value).startswith('--config.evals.tst.name=y: there is no tst. Did you mean "te')


@pytest.mark.parametrize(
  'flags, where',
  [
    (['--config.optim.b2=0.5', '--config=configs/mae_k400.py:tiny'], 'before --config, which says'),
    (['--config.optim.b2=0.5'], 'without --config, which says'),
  ],
)
def test_settings_come_after_the_config(flags, where, monkeypatch):
  with pytest.raises(
    SystemExit, match=f'--config.optim.b2=0.5: {where}.*: put the config in front'
  ):
    parsed(monkeypatch, *flags)


def parsed(monkeypatch, *arguments):
  """The config that the flags give. ml_collections reads sys.argv itself."""
  argv = ['vjax.main', *arguments]
  monkeypatch.setattr(sys, 'argv', argv)
  try:
    main.parse_flags(argv)
    return main.flags.FLAGS['config'].value
  finally:
    main.flags.FLAGS.unparse_flags()


def test_none_leaves_a_key_open(monkeypatch):
  config = parsed(monkeypatch, '--config=configs/mae_k400.py:tiny', '--config.optim.b1=None')
  assert config.optim.b1 is None and config.optim.b2 == 0.95
  assert 'b1' not in plain(config)['optim']


def test_the_last_of_one_flag_counts(monkeypatch):
  flags = ('--config.optim.eps=None', '--config.optim.eps=0.5', '--config.optim.b2=0.5')
  config = parsed(
    monkeypatch, '--config=configs/mae_k400.py:tiny', *flags, '--config.optim.b2=None'
  )
  assert config.optim.eps == 0.5 and config.optim.b2 is None


SWEEP = """from configs import mae_k400


def get_config(arg=None):
  return mae_k400.get_config('tiny')


def sweep():
  for rate in (0.1, 0.2):
    yield {'optim.learning_rate': rate, 'seed': 3}
"""


def test_a_sweep_sets_several_keys(monkeypatch, tmp_path, capsys):
  (tmp_path / 'swept.py').write_text(SWEEP)
  config = f'--config={tmp_path}/swept.py'
  found = parsed(monkeypatch, config, '--sweep=1')
  assert (found.optim.learning_rate, found.seed) == (0.2, 3)
  for flags, words in {
    ('--sweep=2',): "--sweep=2: it must be 0 to 1, or 'list'",
    ('--sweep=0', '--config.seed=1'): '--config.seed is what --sweep=0 sets to 3',
  }.items():
    with pytest.raises(SystemExit, match=re.escape(words)):
      parsed(monkeypatch, config, *flags)
  with pytest.raises(SystemExit) as end:
    parsed(monkeypatch, config, '--sweep=list')
  assert end.value.code == 0
  assert capsys.readouterr().out.startswith("0: {'optim.learning_rate': 0.1, 'seed': 3}\n1: ")
  with pytest.raises(SystemExit, match=r'has no function sweep\(\)'):
    parsed(monkeypatch, '--config=configs/mae_k400.py:tiny', '--sweep=0')


def test_a_wrong_flag_is_answered_in_one_line():
  command = [sys.executable, '-m', 'vjax.main', '--config=configs/mae_k400.py:tiny']
  root = pathlib.Path(__file__).parent.parent
  found = subprocess.run(
    [*command, '--config.optim.rat=3'], capture_output=True, text=True, cwd=root, check=False
  )
  assert found.returncode == 1
  assert len(found.stderr.strip().splitlines()) == 1


def test_weights_that_saw_the_test_set_are_refused(tmp_path):
  """Kinetics-700 has test videos of Kinetics-400 among its training videos: directly, in a chain,
  and converted."""
  k400 = registry.find('data.datasets', 'k400').SPEC

  def weights(**meta):
    checkpoint.write_json(tmp_path / 'meta.json', meta)
    return InitConfig(path=str(tmp_path))

  on = lambda name, optim=True: {
    'data': {'name': name},
    'optim': {'name': 'adamw'} if optim else {},
  }
  for init in (
    weights(config=on('k700')),
    weights(config=on('ssv2'), trained_on=['k700', 'ssv2']),
    weights(trained_on=['k700']),
  ):
    with pytest.raises(
      ValueError, match='trained on k700, which has test videos of k400(.|\n)*config.init.leak=True'
    ):
      checks.check_leaks(init, k400)
    with pytest.raises(ValueError, match='test videos of mini_k400'):  # a part of k400
      checks.check_leaks(init, registry.find('data.datasets', 'mini_k400').SPEC)
    assert 'k700' in checks.check_leaks(dataclasses.replace(init, leak=True), k400)
    assert 'k700' in checks.check_leaks(init, registry.find('data.datasets', 'ssv2').SPEC)
  assert checks.check_leaks(weights(config=on('k600'), trained_on=['k600']), k400) == ['k600']
  assert (
    checks.check_leaks(weights(config=on('k700', optim=False)), k400) == []
  )  # a probe trains nothing
  assert checks.check_leaks(InitConfig(), k400) == []
  tuned = parse(importlib.import_module('configs.mae_finetune_k400').get_config(''))
  assert build.describe(tuned, (), ['k600'], '')['trained_on'] == ['k600', 'k400']


@pytest.mark.parametrize(
  'setting, value',
  [
    ('train.keep', 0),
    ('train.save_steps', 0),
    ('train.log_steps', 0),
    ('train.grad_accumulation', 0),
    ('train.fsdp', 0),
    ('train.dtype', 'float99'),
    ('train.ema_decay', 1.5),
    ('train.eval_epochs', -1.0),
    ('train.eval_epochs', float('nan')),
    ('clip.frame_stride', 0),
    ('clip.num_frames', -8),
    ('clip.num_repeats', 0),
    ('data.batch_size', 8.0),
    ('data.batch_size', 0),
    ('seed', -1),
  ],
)
def test_settings_out_of_range_are_named(setting, value, data_dir):
  """Before anything is compiled, and before a checkpoint could be lost."""
  config = shrunk('mae_k400', **({setting: value} if '.' in setting else {}))
  if '.' not in setting:
    config[setting], setting = value, f'config.{setting}'
  with pytest.raises(ValueError, match=re.escape(f'{setting} is {value!r}; it must be')):
    build.experiment(config, str(data_dir))


def test_data_axis_takes_registered_names_that_the_recipe_is_for():
  get = lambda name, arg: plain(importlib.import_module(f'configs.{name}').get_config(arg))
  config = get('mae_k400', 'data=ssv2')
  assert config['data']['name'] == 'ssv2' and config['augment']['flip'] == 0
  assert (config['clip']['sampling'], config['clip']['frame_stride']) == ('segments', 1)
  for name in ('mae_finetune_k400', 'mvit_k400'):
    with pytest.raises(
      ValueError, match=r"data='ssv2': this recipe is for k400, k600, k700, or a folder of your own"
    ):
      get(name, 'data=ssv2')
  with pytest.raises(
    ValueError, match=r"data='motions': this recipe is for k400, k600, k700, ssv2"
  ):
    get('mae_k400', 'data=motions')
  with pytest.raises(ValueError, match="data='jester': this recipe is for"):
    get('mvit_k400', 'data=jester')
  for axes in ('data=ucf101', 'data=ucf101,tiny'):
    data = get('mae_finetune_k400', axes)['data']
    assert (data['name'], data['folder']) == ('ucf101', '')
  assert get('mae_finetune_k400', 'data=k600,tiny')['data']['name'] == 'motions'
  assert get('mae_k400', 'data=mine')['data']['folder'] == 'mine'


def test_large_mvit_has_pixels_windows_and_warm_up_of_its_own():
  get = lambda name, arg: plain(importlib.import_module(f'configs.{name}').get_config(arg))
  large, small = (get('mvit_ssv2', f'variant={variant}') for variant in ('v2_l_40x3', 'v2_s_16x4'))
  assert large['data']['mean'] == (0.485, 0.456, 0.406) and small['data']['mean'] == (0.45,) * 3
  assert large['optim']['warmup_start_lr'] == 1e-6 and small['optim']['warmup_start_lr'] == 1e-4
  assert (large['augment']['crop'], large['augment']['short_side']) == ('jitter', (356, 446))
  assert 'mixup' not in large['objective'] and small['augment']['crop'] == 'resized'
  assert small['head']['bias_start'] == 0.02
  assert get('mvit_k400', 'variant=multitrain_b_16x4')['head']['bias_start'] == 0


def test_what_a_model_cannot_have_is_said():
  config = plain(importlib.import_module('configs.mvit_k400').get_config('variant=v2_s_16x4'))
  config['clip']['num_frames'] = 32
  with pytest.raises(
    ValueError, match=r'config.clip.num_frames is 32, but the model is made for 16'
  ):
    build.model(config, 5)
  config = plain(importlib.import_module('configs.mvit_k400').get_config('tiny'))
  config['optim']['layer_decay'] = 0.75
  net = build.model(config, 5)
  build.optimizer(
    config, net, clips_per_epoch=100
  )  # the groups of MViT are those of a ViT of so many blocks
  assert net.backbone.depth == 3
  config = plain(importlib.import_module('configs.r2plus1d_k400').get_config('tiny'))
  config['optim']['layer_decay'] = 0.75
  with pytest.raises(ValueError, match='layer_decay is .*, but r2plus1d_18 has no order of layers'):
    build.optimizer(config, build.model(config, 5), clips_per_epoch=100)


def test_a_wrong_config_is_answered_before_data_are_rendered(tmp_path):
  for section, change, message in (
    ('optim', {'name': 'sgd'}, "optim.name='sgd' needs momentum, nesterov and cannot use b1"),
    ('objective', {'ratio': 2.0}, 'config.objective.ratio is 2.0; it must be 0 or more'),
    ('model', {'patch': (4,)}, 'config.model.patch is .* a tuple of 3, each a whole number'),
    ('clip', {'crop_size': 96}, 'config.clip.crop_size is 96, more than config.augment.size='),
    ('optim', {'freeze': ('head/(',)}, "freeze has 'head/.', no regular expression"),
  ):
    config = plain(importlib.import_module('configs.mae_k400').get_config('tiny'))
    config[section] |= change
    with pytest.raises(ValueError, match=message):
      built_in_data.render_if_missing(config, str(tmp_path))
  assert not list(tmp_path.iterdir())


def test_larger_clips_cost_the_papers_multiply_adds():
  """Feichtenhofer et al. 2022, table 7: 4757 G for ViT-L at 40x312; all 24 blocks cost the same."""

  def cost(depth: int) -> float:
    config = mae_finetune_k400.get_config('variant=L,frames=40,crop=312')
    config.model.depth = depth
    net, clip = build.model(config, 400), parse(config).clip
    return build.objective_macs(build.objective(config), net, clip, 400) / 1e9

  one, two = cost(1), cost(2)
  assert one + 23 * (two - one) == pytest.approx(4757, rel=1e-3)
