"""The built-in dataset: pure functions of the seed, pairs that only time separates, nothing for a
mean pixel."""

import csv
import json
from collections import Counter

import numpy as np
import pytest

from data_prep import motions_render, synthetic
from data_prep.motions_render import (
  ACTIONS,
  MOTIONS,
  SHAPES,
  STYLES,
  TEXTURES,
  classes_of,
  render_clip,
)
from tests.data_prep.test_write import digests, read_records
from vjax.data.index import open_index

TINY = {'train_clips': 26, 'test_clips': 12, 'seed': 3}


@pytest.fixture(scope='module')
def motions(tmp_path_factory):
  out = tmp_path_factory.mktemp('data') / 'motions'
  return out, synthetic.prepare(str(out), **TINY, processes=2)


def test_clips_are_functions_of_seed_split_and_index():
  frames, facts = render_clip(0, 'train', 7)
  again, _ = render_clip(0, 'train', 7)
  np.testing.assert_array_equal(frames, again)
  assert frames.dtype == np.uint8 and frames.shape[1:] == (96, 128, 3) and 24 <= len(frames) <= 48
  assert facts['seconds'] == len(frames) / 12
  for other in ((1, 'train', 7), (0, 'test', 7), (0, 'train', 8)):
    other = render_clip(*other)[0]
    assert other.shape != frames.shape or np.abs(other.astype(int) - frames).mean() > 5


def test_labels_are_balanced():
  facts = [classes_of(5, 'train', i) for i in range(288)]
  assert set(Counter(f['motion'] for f in facts[24:36]).values()) == {1}
  looks = [(f['shape'], f['texture']) for f in facts]
  assert set(Counter(looks[36:48]).values()) == {1}
  both = Counter((f['motion'], *look) for f, look in zip(facts[:144], looks))
  assert len(both) == 144 and set(both.values()) == {1}
  assert [f['motion'] for f in facts[:12]] != [f['motion'] for f in facts[12:24]]


def test_domains_share_motions():
  """Whole pairs, each in two of the four domains; any six clips have the six of a domain."""
  domains = {style: STYLES[style].motions for style in 'abcd'}
  assert Counter(m for motions in domains.values() for m in motions) == dict.fromkeys(MOTIONS, 2)
  for style, motions in domains.items():
    assert all((MOTIONS.index(m) ^ 1) in map(MOTIONS.index, motions) for m in motions)
    facts = [classes_of(5, 'train', i, style) for i in range(72)]
    assert {f['motion'] for f in facts[6:12]} == set(motions)
    assert len({tuple(f.values()) for f in facts}) == 72


def test_domains_differ_in_pixels_only_by_style():
  """A clip of paper is bright, of night dark and gray, of a grid in between; all last as long as
  those of motions."""
  clips = {style: render_clip(0, 'train', 4, style)[0] for style in STYLES}
  assert {len(clip) for clip in clips.values()} == {len(clips['motions'])}
  means = {style: clip.mean() for style, clip in clips.items()}
  assert means['b'] > 150 > 100 > means['c'] and means['d'] < 80
  assert np.ptp(clips['d'].astype(int), axis=-1).max() > 0  # its grain has color
  assert np.abs(np.ptp(clips['d'].mean((0, 1, 2)))) < 1 < np.ptp(clips['a'].mean((0, 1, 2)))


@pytest.mark.parametrize('style', 'bcd')
def test_pairs_of_domains_are_reversed(style, monkeypatch):
  first, second = STYLES[style].motions[-2:]
  clips = []
  for motion in (first, second):
    facts = {'motion': motion, 'shape': 'ring', 'texture': 'plain'}
    monkeypatch.setattr(motions_render, 'classes_of', lambda *_, f=facts: dict(f))
    clips.append(render_clip(0, 'train', 3, style)[0])
  np.testing.assert_array_equal(clips[0], clips[1][::-1])


def test_a_domain_in_a_folder_of_its_own(tmp_path):
  out = str(tmp_path / 'domains/c')
  manifest = synthetic.prepare(out, 6, 6, processes=1, style='c')
  assert manifest['classes'] == sorted(STYLES['c'].motions)
  assert manifest['settings']['origin']['style'] == 'c'
  with pytest.raises(ValueError, match='holds another dataset'):
    synthetic.prepare(out, 6, 6, processes=1, style='a')
  with pytest.raises(ValueError, match="style='e': it must be one of motions, a, b"):
    synthetic.prepare(out, style='e')


def test_names():
  assert len(MOTIONS) == len(set(MOTIONS)) == 12 and len(SHAPES) * len(TEXTURES) == 12
  assert len(ACTIONS) == len(set(ACTIONS.values())) == 12
  assert all(
    motion in MOTIONS and shape in SHAPES and name.split()[1] == shape
    for (motion, shape), name in ACTIONS.items()
  )


def test_the_second_of_a_pair_is_the_first_backwards(monkeypatch):
  for first, second in zip(MOTIONS[::2], MOTIONS[1::2]):
    clips = []
    for motion in (first, second):
      monkeypatch.setattr(
        motions_render,
        'classes_of',
        lambda *_, m=motion: {'motion': m, 'shape': 'cross', 'texture': 'striped'},
      )
      clips.append(render_clip(0, 'train', 3)[0])
    np.testing.assert_array_equal(clips[0], clips[1][::-1])


@pytest.fixture(scope='module')
def rendered():
  """Motion number, time average and mean absolute frame difference, at 12 x 16, of 240 clips."""
  labels, averages, changes, frames = [], [], [], []
  for i in range(240):
    clip, facts = render_clip(11, 'train', i)
    small = clip.reshape(len(clip), 12, 8, 16, 8, 3).mean((2, 4)) / 255
    labels.append(MOTIONS.index(facts['motion']))
    averages.append(small.mean(0))
    changes.append(np.abs(np.diff(small, axis=0)).mean())
    frames.append(small[len(small) // 2])
  return np.array(labels), np.array(averages), np.array(changes), np.array(frames)


def test_frame_statistics_of_pairs_agree(rendered):
  labels, averages, changes, frames = rendered
  for pair in range(6):
    first, second = labels == 2 * pair, labels == 2 * pair + 1
    for values in (
      averages.mean((1, 2, 3)),
      averages.std((1, 2, 3)),
      frames.std((1, 2, 3)),
      changes,
    ):
      a, b = values[first], values[second]
      error = np.sqrt(a.var() / len(a) + b.var() / len(b))
      assert abs(a.mean() - b.mean()) < 3.5 * error, (MOTIONS[2 * pair], a.mean(), b.mean())


def nearest_mean_accuracy(features, labels):
  """Accuracy of nearest class mean, fitted on the first half and tested on the second."""
  features = features.reshape(len(features), -1)
  half = len(labels) // 2
  means = np.stack([features[:half][labels[:half] == k].mean(0) for k in range(12)])
  guesses = ((features[half:, None] - means) ** 2).sum(-1).argmin(1)
  return (guesses == labels[half:]).mean()


def test_no_mean_pixel_solves_it(rendered):
  labels, averages, _, frames = rendered
  chance, spread = 1 / 12, np.sqrt(1 / 12 * 11 / 12 / 120)
  assert nearest_mean_accuracy(averages, labels) < chance + 3.5 * spread
  assert nearest_mean_accuracy(frames, labels) < chance + 3.5 * spread


def test_movement_is_there_and_sudden_never():
  for i in range(12):
    clip, facts = render_clip(2, 'train', i)
    clip = clip.astype(np.float32)
    assert np.abs(clip[-1] - clip[0]).mean() > 2, facts
    assert np.abs(np.diff(clip, axis=0)).mean((1, 2, 3)).max() < 12, facts


def test_folder(motions):
  out, manifest = motions
  for split, clips in (('train', 26), ('test', 12)):
    with open(out / f'{split}.csv', newline='') as file:
      rows = list(csv.DictReader(file))
    assert (
      list(rows[0]) == ['path', 'label', 'label:appearance', 'label:action'] and len(rows) == clips
    )
    assert all((out / row['path']).is_file() for row in rows)
    assert {row['label'] for row in rows} == set(MOTIONS)
    assert set(Counter(row['label'] for row in rows).values()) <= {clips // 12, clips // 12 + 1}
    assert manifest['splits'][split]['clips'] == clips
    assert all(
      row['label:action'].endswith(row['label:appearance'].split()[1])
      for row in rows
      if row['label:action']
    )
    assert (out / f'{split}.index.npz').is_file()
  assert manifest['failed'] == 0 and manifest['classes'] == sorted(MOTIONS)
  assert len(manifest['views']['appearance']) == 12
  assert json.loads((out / 'manifest.json').read_text()) == manifest
  assert (
    not list(out.glob('*.lock'))
    and not list(out.glob('*.json.tmp*'))
    and not (out / 'rendering.json').exists()
  )
  action = open_index(str(out), 'train', label_space='action')
  assert (action.label >= 0).sum() == sum(manifest['splits']['train']['views']['action']) < 26


def test_records_show_what_was_rendered(motions):
  out, _ = motions
  for context, frames in read_records(out)[:6]:
    name = context['video/filename'][0].decode()
    clip, facts = render_clip(3, 'train', int(name.split('/')[-1][:5]))
    assert context['clip/label/text'] == [facts['motion'].encode()]
    assert context['clip/label/appearance/text'] == [facts['appearance'].encode()]
    assert context['image/frame_rate'] == [12.0] and len(frames) == len(clip)
    assert np.abs(np.stack(frames).astype(int) - clip).mean() < 6


def test_prepared_once(motions, tmp_path):
  out, manifest = motions
  before = {p: p.stat().st_mtime_ns for p in out.iterdir()}
  assert synthetic.prepare(str(out), **TINY) == manifest
  assert before == {p: p.stat().st_mtime_ns for p in out.iterdir()}
  with pytest.raises(ValueError, match="holds another dataset.*'seed': 3.*'seed': 4"):
    synthetic.prepare(str(out), **TINY | {'seed': 4})
  (tmp_path / 'letters').mkdir()
  (tmp_path / 'letters' / 'a.txt').write_text('mine')
  with pytest.raises(ValueError, match='is not empty and holds no motions dataset'):
    synthetic.prepare(str(tmp_path / 'letters'), **TINY)


def test_interrupted_rendering_continues(motions, tmp_path, monkeypatch):
  whole, _ = motions
  out = tmp_path / 'motions'
  encoded = []

  def breaks(path, frames, encode=synthetic.encode):
    if len(encoded) == 9:
      raise KeyboardInterrupt
    encode(path, frames)
    encoded.append(path)

  monkeypatch.setattr(synthetic, 'encode', breaks)
  with pytest.raises(KeyboardInterrupt):
    synthetic.prepare(str(out), **TINY, processes=1)
  there = {p: p.stat().st_mtime_ns for p in out.glob('videos/*/*.mp4')}
  assert len(there) == 9 and not (out / 'manifest.json').exists()
  monkeypatch.undo()
  with pytest.raises(ValueError, match='unfinished dataset'):
    synthetic.prepare(str(out), **TINY | {'seed': 4})
  synthetic.prepare(str(out), **TINY, processes=1)
  assert {p: p.stat().st_mtime_ns for p in there} == there
  assert digests(out) == digests(whole)


def test_command_line(tmp_path, capsys):
  synthetic.main([f'--out={tmp_path}/a', '--train=24', '--test=12', '--scale=0.5', '--processes=1'])
  assert 'train: 12 clips' in capsys.readouterr().out
  with pytest.raises(SystemExit, match='both must be at least 1'):
    synthetic.main([f'--out={tmp_path}/b', '--train=0'])
