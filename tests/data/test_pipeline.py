"""Batches: exact order, exact resume, the same for any number of hosts; padding, repeats, views;
readable errors."""

import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pytest

from tests.data import make
from vjax import preprocess
from vjax.config import AugmentConfig, ClipConfig, ViewsConfig
from vjax.data import clips, image, pipeline, tfrecord
from vjax.data.specs import DatasetSpec
from vjax.data.split import evaluation_split, open_split

SPEC = DatasetSpec(name='toy', num_classes=4)
CLIP = ViewsConfig(num_frames=4, frame_stride=2, crop_size=16, short_side=20, sampling='dense')
PLAIN = AugmentConfig()


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  root = tmp_path_factory.mktemp('data')
  make.dataset(root / 'toy')
  return str(root)


def train(data_dir, steps=3, spec=SPEC, clip=CLIP, augment=PLAIN, **settings):
  settings = {'batch': 4, 'seed': 7, 'start_step': 0, 'host': 0, 'hosts': 1, **settings}
  source = open_split(data_dir, spec, 'train')
  return list(
    itertools.islice(pipeline.train_batches(source, spec, clip, augment, **settings), steps)
  )


def same(a, b):
  assert a.keys() == b.keys()
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_batch_layout(data_dir):
  batch = train(data_dir, 1)[0]
  assert batch['video'].shape == (4, 4, 16, 16, 3) and batch['video'].dtype == np.uint8
  assert batch['label'].dtype == batch['video_id'].dtype == batch['epoch'].dtype == np.int32
  assert batch['valid'].tolist() == [1, 1, 1, 1]
  assert (batch['label'] == batch['video_id'] % 4).all()
  blue = batch['video'][..., 2].mean(axis=(1, 2, 3))  # tells the video
  np.testing.assert_allclose(blue, 20 + 12 * (batch['video_id'] % 16), atol=3)
  red = batch['video'][..., 0].mean(axis=(2, 3))  # tells the time: stride 2
  np.testing.assert_allclose(np.diff(red[:, :2]), 16, atol=3)


def test_the_log_says_how_many_workers_there_are(data_dir, caplog):
  caplog.set_level('INFO')
  train(data_dir, 1, workers=0)
  assert 'input: 0 worker processes on this host (config.data.workers is 0), ' in caplog.text


def test_same_seed_same_batches(data_dir):
  first, again, other = train(data_dir), train(data_dir), train(data_dir, seed=8)
  for a, b in zip(first, again):
    same(a, b)
  assert any((a['video_id'] != b['video_id']).any() for a, b in zip(first, other))


def test_resume_equals_unbroken(data_dir):
  settings = {'augment': AugmentConfig(rand_augment=2, random_erasing=1.0)}
  for a, b in zip(train(data_dir, 7, **settings)[4:], train(data_dir, 3, start_step=4, **settings)):
    same(a, b)


def test_a_script_ends_whatever_it_left_open(data_dir):
  # An iterator at the top of a script or notebook lives until Python shuts down; it once waited
  # there forever.
  script = f"""
from tests.data import test_pipeline as toy
from vjax.data import pipeline
from vjax.data.split import open_split
source = open_split({data_dir!r}, toy.SPEC, 'train')
batches = pipeline.train_batches(source, toy.SPEC, toy.CLIP, toy.PLAIN, batch=4, seed=7, start_step=0, host=0, hosts=1)
print(next(batches)['label'].shape)
"""
  done = subprocess.run(
    [sys.executable, '-c', script], check=False, capture_output=True, text=True, timeout=120
  )
  assert (done.returncode, done.stdout.strip()) == (0, '(4,)'), done.stderr


def test_every_epoch_visits_each_clip_once(data_dir):
  batches = train(data_dir, 11)  # 44 places: four epochs of 11
  ids = np.concatenate([b['video_id'] for b in batches]).reshape(4, 11)
  epochs = np.concatenate([b['epoch'] for b in batches]).reshape(4, 11)
  assert (np.sort(ids) == np.arange(11)).all() and (epochs == np.arange(4)[:, None]).all()
  assert len({tuple(row) for row in ids}) == 4


def test_two_hosts_read_one_global_batch(data_dir):
  one, first, second = (train(data_dir, 3, host=h, hosts=n) for h, n in ((0, 1), (0, 2), (1, 2)))
  for whole, a, b in zip(one, first, second):
    same(whole, {name: np.concatenate([a[name], b[name]]) for name in whole})
  with pytest.raises(ValueError, match='4 videos a batch .* 3 hosts: make config.data.batch_size'):
    train(data_dir, hosts=3)


@pytest.mark.parametrize('window', ['new', 'same'])
def test_repeats(data_dir, window):
  clip = dataclasses.replace(CLIP, num_repeats=3, frame_stride=1)
  batch = train(data_dir, 1, clip=clip, augment=AugmentConfig(repeat_window=window, flip=0.0))[0]
  assert (
    batch['video'].shape[0] == 12
    and (batch['video_id'].reshape(4, 3).T == batch['video_id'][::3]).all()
  )
  red = batch['video'][..., 0].mean(axis=(1, 2, 3)).reshape(4, 3)
  if window == 'same':
    np.testing.assert_allclose(red, np.broadcast_to(red[:, :1], red.shape), atol=1)
  else:
    assert (np.ptp(red, axis=1) > 4).any()
  green = batch['video'][..., 1].reshape(4, 3, -1)
  assert (green[:, 0] != green[:, 1]).any()  # crops differ in either case


def test_repeats_are_spread_over_the_batch(data_dir):
  """Blocks of two videos: a b a' b' a" b" c d c' ... The clips are those that else stand side by
  side, on one host as on two."""
  near = dataclasses.replace(CLIP, num_repeats=3, frame_stride=1)
  far = dataclasses.replace(near, repeat_distance=2)
  order = np.arange(12).reshape(2, 2, 3).swapaxes(1, 2).ravel()
  assert order.tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
  for a, b in zip(train(data_dir, 2, clip=near), train(data_dir, 2, clip=far), strict=True):
    same({name: x[order] for name, x in a.items()}, b)
    for group in b['video_id'].reshape(-1, 2):
      assert len(set(group.tolist())) == 2
  hosts = [train(data_dir, 1, clip=far, host=h, hosts=2)[0] for h in (0, 1)]
  whole = train(data_dir, 1, clip=far)[0]
  same(whole, {name: np.concatenate([host[name] for host in hosts]) for name in whole})
  with pytest.raises(ValueError, match='repeat_distance is 4, which does not divide the 2 videos'):
    train(data_dir, clip=dataclasses.replace(near, repeat_distance=4), hosts=2)
  with pytest.raises(ValueError, match='clip.num_repeats is 1'):
    ClipConfig(4, 2, 16, 18, repeat_distance=2)


def clip_of(source, clip):
  """The clips of record 0 in epoch 0."""
  maker = clips.TrainClips(source, SPEC.flip, clip, PLAIN, 0)
  out = {name: np.zeros(shape, kind) for name, (kind, shape) in maker.arrays.items()}
  maker.render(maker.read(0, 0), 0, 0, out)
  return out['video']


def test_only_used_frames_are_read_and_decoded(data_dir, monkeypatch):
  """Of 10 frames each: 4 for a clip; for four clips of the same video those that any of them shows,
  once."""
  decoded, read = [], []
  whole, pread = image.decode, tfrecord._FILES.read
  monkeypatch.setattr(
    image, 'decode', lambda jpeg, *args: decoded.append(jpeg) or whole(jpeg, *args)
  )
  monkeypatch.setattr(
    tfrecord._FILES, 'read', lambda *args: read.append(sum(args[2])) or pread(*args)
  )
  monkeypatch.setattr(tfrecord, '_NEAR_LOCAL', 0)  # these frames are small
  source = open_split(data_dir, SPEC, 'train')
  video = clip_of(source, CLIP)
  assert (
    video.shape == (1, 4, 16, 16, 3)
    and len(decoded) == 4
    and 0 < sum(read) < 0.6 * source.index.length[0]
  )
  decoded.clear()
  video = clip_of(source, dataclasses.replace(CLIP, num_repeats=4))
  assert video.shape == (4, 4, 16, 16, 3) and 4 < len(decoded) == len(set(decoded)) <= 10


def test_reduced_decoding_keeps_places_and_colors(data_dir):
  """Frames of 40x56 px, windows of 32 px and more: half of the size for crops of 16 px."""
  rule = dict(crop='fixed', size=(20, 28), color_jitter=(0.2, 0.2, 0.2))
  full = train(data_dir, augment=AugmentConfig(**rule))
  reduced = train(data_dir, augment=AugmentConfig(**rule, decode='reduced'))
  canvas = AugmentConfig(**rule, decode='reduced', device_frame_size=(20, 28))
  for a, b, c in zip(full, reduced, train(data_dir, augment=canvas)):
    difference = np.abs(a['video'].astype(int) - b['video'])
    assert 0 < difference.mean() < 2 and difference.max() < 12
    assert (a['video_id'] == b['video_id']).all()
    whole = c['window'][c['video_id'] % 3 != 2]  # the others are upright, and cut on the host
    assert (whole[:, 2:] >= 15).all() and whole[:, 0].max() > 0
    on_device = preprocess.crops(c['video'], c['window'], c['mirror'], c['color'], 16)
    assert np.abs(np.asarray(on_device) - b['video']).mean() < 1.5


def test_fast_resizing_keeps_windows_and_changes_pixels_by_one_level(data_dir):
  """Crops on the host, and on the canvas where frames (40x56 px) do not fit it."""
  for settings in ({}, {'device_frame_size': (20, 28)}):
    exact = train(data_dir, augment=AugmentConfig(**settings))
    fast = train(data_dir, augment=AugmentConfig(**settings, resize_quality='fast'))
    changed = 0
    for a, b in zip(exact, fast):
      difference = np.abs(a.pop('video').astype(int) - b.pop('video'))
      assert difference.max() <= 1
      changed += difference.sum()
      same(a, b)  # labels, records and, on the canvas, windows and mirroring
    assert changed > 0


def evaluate(data_dir, spec=SPEC, clip=CLIP, **settings):
  source = open_split(data_dir, spec, 'train')
  return list(
    pipeline.eval_batches(source, spec, clip, **{'batch': 4, 'host': 0, 'hosts': 1, **settings})
  )


@pytest.mark.parametrize('batch, hosts', [(4, 1), (4, 2), (8, 4), (16, 4)])
def test_eval_counts_every_clip_once(data_dir, batch, hosts):
  shares = [evaluate(data_dir, batch=batch, host=h, hosts=hosts) for h in range(hosts)]
  assert {len(s) for s in shares} == {-(-11 // batch)}
  ids = [b['video_id'][b['valid'] == 1] for s in shares for b in s]
  assert sorted(np.concatenate(ids)) == list(range(11))
  for b in itertools.chain(*shares):
    assert b['video'].shape == (batch // hosts, 1, 4, 16, 16, 3)
    padding = b['valid'] == 0
    assert (b['video_id'][padding] == -1).all() and not b['video'][padding].any()
    assert {v.dtype for k, v in b.items() if k in ('label', 'video_id')} == {np.dtype(np.int32)}
  whole = [evaluate(data_dir, batch=batch)[s]['video'] for s in range(len(shares[0]))]
  for s, video in enumerate(whole):
    np.testing.assert_array_equal(video, np.concatenate([share[s]['video'] for share in shares]))


def test_eval_views(data_dir):
  clip = dataclasses.replace(CLIP, num_clips=2, num_crops=3)
  video = evaluate(data_dir, clip=clip)[0]['video']
  assert video.shape == (4, 6, 4, 16, 16, 3)
  green = video[0, :, 0, :, :, 1].mean(axis=(1, 2)).reshape(3, 2)  # rises from left to right
  assert (np.diff(green, axis=0) > 15).all() and np.allclose(green[:, 0], green[:, 1], atol=3)
  red = (
    video[0, :, 0, :, :, 0].mean(axis=(1, 2)).reshape(3, 2)
  )  # rises in time: starts 0 and n - stride*K
  np.testing.assert_allclose(red[:, 1] - red[:, 0], 16, atol=3)


def test_ten_crops_are_five_and_their_mirror_images(data_dir):
  clip = dataclasses.replace(CLIP, num_clips=2, num_crops=10)
  video = evaluate(data_dir, clip=clip)[0]['video'][0].reshape(10, 2, 4, 16, 16, 3)
  np.testing.assert_array_equal(video[1::2], video[::2, :, :, :, ::-1])
  five = evaluate(data_dir, clip=dataclasses.replace(clip, num_crops=5))[0]['video'][0]
  np.testing.assert_array_equal(video[::2].reshape(five.shape), five)


def test_eval_fixed_size(data_dir):
  video = evaluate(data_dir, size=(16, 24))[0]['video'][0, 0, 0]
  expected = make.frame(0, 0, 40, 56)[:, :, 1].mean(axis=0)
  columns = np.interp((np.arange(4, 20) + 0.5) * 56 / 24 - 0.5, np.arange(56), expected)
  np.testing.assert_allclose(video[:, :, 1].mean(axis=0), columns, atol=3)


@pytest.mark.parametrize('size', [None, (20, 29)])
def test_eval_reduced(data_dir, size):
  clip = dataclasses.replace(CLIP, num_crops=3, decode='reduced')
  full = evaluate(data_dir, clip=dataclasses.replace(clip, decode='full'), size=size)
  for a, b in zip(full, evaluate(data_dir, clip=clip, size=size)):
    difference = np.abs(a['video'].astype(int) - b['video'])
    assert 0 < difference.mean() < 2 and difference.max() < 12


def test_label_spaces(data_dir):
  spec = DatasetSpec(name='other', num_classes=2, folder='toy', label_space='even')
  batch = train(data_dir, 1, spec=spec)[0]
  assert (batch['label'] == batch['video_id'] % 2).all()
  source = open_split(data_dir, spec, 'train')
  assert source.classes == ('even 0', 'even 1') and source.num_clips == 11
  with pytest.raises(ValueError, match="no label space 'odd'.*'even'"):
    open_split(data_dir, dataclasses.replace(spec, label_space='odd'), 'train')


def test_many_labels(tmp_path):
  videos = [make.example(v, 4, 24, 24, {'': [v, 3]}) for v in range(3)]
  make.folder(tmp_path / 'many', videos)
  spec = DatasetSpec(name='many', num_classes=0, labels='multi_label')
  batch = train(str(tmp_path), 1, spec=spec, batch=3)[0]
  order = np.argsort(batch['video_id'])
  assert batch['label'][order].tolist() == [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]]
  padded = evaluate(str(tmp_path), spec=spec, batch=8, hosts=2, host=1)[0]
  assert padded['label'].shape == (4, 4) and padded['valid'].sum() == 0
  assert make.manifest(tmp_path / 'many')['labels'] == 'many'


def test_errors_of_choosing_videos_name_the_keys(data_dir, tmp_path):
  with pytest.raises(ValueError, match=r'config\.data\.videos_per_class .*is 0; .*whole number of'):
    open_split(data_dir, SPEC, 'train', per_class=0)
  folder = make.folder(tmp_path / 'motions', [make.example(0, 2, 24, 24, {'': [0]})])
  for number in range(2):
    (tmp_path / 'motions' / f'val-{number:05}-of-00002.tfrecord').write_bytes(b'')
  make.write_index(folder, 'val')
  (tmp_path / 'motions' / 'manifest.json').unlink()
  make.write_scanned(folder)
  spec = DatasetSpec(name='motions', num_classes=0)
  with pytest.raises(
    ValueError, match=r"split 'val' of .* is empty: .*config\.data\.split.*failed"
  ):
    open_split(str(tmp_path), spec, 'val')


@pytest.mark.parametrize('held_out', ['dev', 'eval', 'testing', 'validate'])
def test_a_set_with_one_held_out_split_of_any_name_is_evaluated_on_it(tmp_path, held_out):
  for split in ('train', held_out):
    make.folder(tmp_path / 'set', [make.example(0, 2, 24, 24, {'': [0]})], split=split, shards=1)
    (tmp_path / 'prefixed').mkdir(exist_ok=True)
    (tmp_path / 'prefixed' / f'kinetics-{split}-00000-of-00001').touch()
  spec = DatasetSpec(name='set', num_classes=0)
  assert tfrecord.splits(str(tmp_path / 'prefixed')) == sorted([held_out, 'train'])
  assert evaluation_split(str(tmp_path), spec, 'val', ('train',)) == held_out


def test_few_clips_per_class(data_dir):
  source = open_split(data_dir, SPEC, 'train', per_class=2, seed=1)
  assert np.bincount(source.index.label[source.rows]).tolist() == [2, 2, 2, 2]
  share = open_split(data_dir, SPEC, 'train', per_class=0.34, seed=1)
  assert np.bincount(share.index.label[share.rows]).tolist() == [1, 1, 1, 1]
  settings = {'batch': 4, 'seed': 0, 'start_step': 0, 'host': 0, 'hosts': 1}
  batches = itertools.islice(
    pipeline.train_batches(source, SPEC, CLIP, AugmentConfig(), **settings), 2
  )
  assert sorted(np.concatenate([b['video_id'] for b in batches])) == source.rows.tolist()


def test_single_clip_source(tmp_path):
  make.folder(tmp_path / 'toy', [make.example(0, 3, 24, 24, {'': [0]})], shards=1)
  spec = dataclasses.replace(SPEC, num_classes=0)
  assert train(str(tmp_path), 2, spec=spec, batch=2)[1]['epoch'].tolist() == [2, 3]


def test_damaged_frame_is_named(tmp_path):
  videos = [make.example(v, 4, 24, 24, {'': [0]}) for v in range(4)]
  videos[2].feature_lists.feature_list['image/encoded'].feature[1].bytes_list.value[0] = (
    make.example(0, 1, 24, 24, {})
    .feature_lists.feature_list['image/encoded']
    .feature[0]
    .bytes_list.value[0][:300]
  )
  make.folder(tmp_path / 'bad', videos, shards=1)
  spec = DatasetSpec(name='bad', num_classes=0)
  clip = dataclasses.replace(CLIP, frame_stride=1)
  with pytest.raises(
    ValueError,
    match=r'train-00000-of-00001.tfrecord: record 2 at byte \d+ \(video v2.mp4\): frame 1',
  ):
    train(str(tmp_path), 2, spec=spec, clip=clip, batch=2)
  with pytest.raises(ValueError, match=r'record 2 at byte \d+ \(video v2.mp4\): frame 1'):
    evaluate(str(tmp_path), spec=spec, clip=clip, batch=3)


def test_missing_data_names_folder_and_command(data_dir, tmp_path):
  spec = DatasetSpec(
    name='kinetics', num_classes=4, prepare='python -m data_prep.write --out=data/kinetics'
  )
  with pytest.raises(
    FileNotFoundError,
    match=rf'kinetics; to prepare it: python -m data_prep.write --out={data_dir}/kinetics$',
  ):
    open_split(data_dir, spec, 'train')
  with pytest.raises(ValueError, match="split 'val' is not in .*toy; it has: train"):
    open_split(data_dir, SPEC, 'val')
  with pytest.raises(ValueError, match='has 4 classes, dataset toy 5'):
    open_split(data_dir, dataclasses.replace(SPEC, num_classes=5), 'train')
  with pytest.raises(ValueError, match="labels='boxes'"):
    open_split(data_dir, dataclasses.replace(SPEC, labels='boxes'), 'train')


@pytest.mark.parametrize('crop', ['resized', 'jitter', 'fixed', 'multiscale'])
def test_every_crop(data_dir, crop):
  augment = AugmentConfig(
    crop=crop, short_side=(20, 28), size=(20, 30), color_jitter=(0.2, 0.2, 0.2)
  )
  for batch in train(data_dir, 2, augment=augment):
    assert batch['video'].shape == (4, 4, 16, 16, 3) and batch['video'].std() > 5
