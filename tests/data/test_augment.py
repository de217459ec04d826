"""Windows and their ranges, crops against hand-made numbers, RandAugment against Pillow."""

import collections

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.randaugment import by_pillow
from vjax.config import AugmentConfig, ClipConfig, ViewsConfig
from vjax.data import augment as augments
from vjax.data import clips, image, randaugment

CLIP = ClipConfig(num_frames=2, frame_stride=1, crop_size=224, short_side=256)


def plans(augment, height=256, width=340, clip=CLIP, count=400, flip=True):
  return [
    augments.draw(np.random.default_rng(s), augment, clip, height, width, flip)
    for s in range(count)
  ]


def picture(height=37, width=50, frames=2, seed=0) -> np.ndarray:
  """Frames of smooth color and some noise, no two alike."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width]
  waves = [np.sin(x / (6 + c) + y / (9 - c) + c + t) for t in range(frames) for c in range(3)]
  smooth = 120 + 70 * np.stack(waves, -1).reshape(height, width, frames, 3).transpose(2, 0, 1, 3)
  return np.clip(smooth + rng.normal(0, 5, smooth.shape), 0, 255).astype(np.uint8)


def test_resized_windows():
  windows = np.array([p.window for p in plans(AugmentConfig(area=(0.1, 0.3), aspect=(0.5, 2.0)))])
  y, x, h, w = windows.T
  assert (y >= 0).all() and (x >= 0).all() and (y + h <= 256).all() and (x + w <= 340).all()
  area, aspect = h * w / (256 * 340), w / h
  assert 0.09 < area.min() < 0.12 and 0.28 < area.max() < 0.31
  assert 0.49 < aspect.min() < 0.6 and aspect.max() > 1.7
  assert abs(np.log(aspect).mean()) < 0.1  # log-uniform


def test_resized_falls_back_to_the_centre():
  (plan,) = plans(AugmentConfig(area=(1.0, 1.0), aspect=(0.75, 4 / 3)), 100, 400, count=1)
  assert plan.window.tolist() == [0, (400 - 133) // 2, 100, 133]


@pytest.mark.parametrize('inverse', [False, True])
def test_jitter_windows(inverse):
  windows = np.array(
    [
      p.window
      for p in plans(
        AugmentConfig(crop='jitter', short_side=(256, 320), inverse=inverse), count=2000
      )
    ]
  )
  side = 224 * 256 / windows[:, 2]  # the short side drawn
  assert 254 < side.min() < 258 and 316 < side.max() < 322
  mean = (
    2 / (1 / 256 + 1 / 320) if inverse else 288
  )  # the mean of 1/size is exact where 1/size is uniform
  assert abs((1 / (1 / side).mean() if inverse else side.mean()) - mean) < 2
  assert windows[:, 0].min() == 0 and (windows[:, 0] + windows[:, 2]).max() == 256
  assert windows[:, 1].min() <= 1 and (windows[:, 1] + windows[:, 3]).max() >= 339


def test_fixed_windows():
  clip = ClipConfig(num_frames=1, frame_stride=1, crop_size=112, short_side=128)
  windows = np.array([p.window for p in plans(AugmentConfig(crop='fixed'), 256, 342, clip)])
  assert set(windows[:, 2]) == {224} and set(windows[:, 3]) == {224}  # 128x171 is half of 256x342
  assert set(windows[:, 0]) == set(range(0, 33, 2)) and windows[:, 1].max() == 118
  with pytest.raises(ValueError, match='crop=224 px does not fit frames scaled to 128x171'):
    plans(AugmentConfig(crop='fixed'), 256, 340, count=1)


def test_multiscale_windows():
  windows = [tuple(p.window.tolist()) for p in plans(AugmentConfig(crop='multiscale'), count=3000)]
  sizes = collections.Counter((h, w) for _, _, h, w in windows)
  scales = (256, 224, 192, 168)
  assert set(sizes) == {
    (a, b) for i, a in enumerate(scales) for j, b in enumerate(scales) if abs(i - j) <= 1
  }
  places = {(y, x) for y, x, h, w in windows if (h, w) == (168, 168)}
  rows, columns = (256 - 168) // 4, (340 - 168) // 4
  grid = {(r, c) for r in (0, 2, 4) for c in (0, 2, 4)} | {(r, c) for r in (1, 3) for c in (1, 3)}
  assert places == {(r * rows, c * columns) for r, c in grid}


def test_flip_and_erasing():
  drawn = plans(AugmentConfig(random_erasing=0.25), count=1000)
  assert 0.45 < np.mean([p.mirror for p in drawn]) < 0.55
  assert not any(p.mirror for p in plans(AugmentConfig(), flip=False))
  boxes = np.array([p.erased for p in drawn if p.erased[2]])
  assert 0.2 < len(boxes) / 1000 < 0.3
  assert ((boxes[:, :2] + boxes[:, 2:]) <= 224).all()
  share = boxes[:, 2] * boxes[:, 3] / 224**2
  assert share.min() > 0.018 and share.max() < 0.34


def test_unknown_names():
  with pytest.raises(ValueError, match="augment.crop is 'random'; it must be one of resized"):
    AugmentConfig(crop='random')
  with pytest.raises(ValueError, match="augment.repeat_window is 'old'"):
    AugmentConfig(repeat_window='old')


def resize_by_hand(frame, height, width):
  """Bilinear between pixel centers, edges repeated, in float64."""
  out = frame.astype(np.float64)
  for axis, size in ((0, height), (1, width)):
    n = out.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
    low = np.floor(at).astype(int)
    high, share = np.minimum(low + 1, n - 1), np.expand_dims(at - low, [1 - axis, 2])
    out = np.take(out, low, axis) * (1 - share) + np.take(out, high, axis) * share
  return out


@pytest.mark.parametrize('size', [(16, 16), (60, 71), (37, 50)])
def test_resize_is_bilinear_without_antialias(size):
  frames = picture()
  for frame in frames:
    scaled = augments.resize(frame, *size)
    assert (
      np.abs(scaled - resize_by_hand(frame, *size)).max() <= 0.5 + 1 / 16
    )  # rounding, and weights of 8 bits


@pytest.mark.parametrize('size', [(16, 16), (60, 71), (37, 50), (20, 28)])
def test_fast_resizing_is_one_level_off_at_most(size):
  noise = np.random.default_rng(0).integers(0, 256, (4, 40, 56, 3), dtype=np.uint8)
  for frame in [*picture(), *noise]:
    exact, fast = (augments.resize(frame, *size, quality=q).astype(int) for q in ('exact', 'fast'))
    assert np.abs(exact - fast).max() <= 1
    assert (exact != fast).mean() < 0.3
    assert np.abs(fast - resize_by_hand(frame, *size)).max() <= 1


def test_bicubic_is_pillow_s_in_training_and_in_views():
  """With antialiasing: single bright pixels of a frame twice as large keep a trace."""
  rng = np.random.default_rng(0)
  frame = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
  expected = np.asarray(Image.fromarray(frame).resize((30, 20), Image.Resampling.BICUBIC))
  settings = AugmentConfig(crop='fixed', size=(40, 60), flip=0.0, interpolation='bicubic')
  clip = ClipConfig(num_frames=1, frame_stride=1, crop_size=20, short_side=20)
  plan = augments.draw(rng, settings, clip, 40, 60, False)
  plan = plan._replace(window=np.array([0, 0, 40, 60], np.int32), mirror=np.array(False))
  out = np.zeros((20, 30, 3), np.uint8)
  augments.render(frame, plan, settings, 0, out)
  np.testing.assert_array_equal(out, expected)
  views = ViewsConfig(**vars(clip), interpolation='bicubic')
  found = clips.test_views(iter([frame]), np.zeros((1, 1), int), views)
  np.testing.assert_array_equal(found[0, 0], expected[:, 5:25])
  dots = np.zeros((40, 40, 3), np.uint8)
  dots[0::4, 0::4] = 255
  assert augments.resize(dots, 10, 10).max() == 0  # bilinear: between pixels 1 and 2 of four
  assert augments.resize(dots, 10, 10, interpolation='bicubic').mean() == pytest.approx(16, abs=3)
  with pytest.raises(ValueError, match='device_frame_size leaves resizing to the accelerator'):
    AugmentConfig(interpolation='bicubic', device_frame_size=(40, 60))
  with pytest.raises(ValueError, match="interpolation is 'area'; it must be one of bilinear"):
    ViewsConfig(**vars(clip), interpolation='area')


def test_render_cuts_resizes_mirrors_and_erases():
  frames = picture()
  none = {
    'color': np.ones(3, np.float32),
    'ops': np.zeros(0, np.int32),
    'values': np.zeros(0, np.float32),
  }
  window, noise = np.int32([3, 5, 20, 30]), np.int32([1, 2])
  plan = augments.Plan(
    window=window, mirror=np.array(True), erased=np.int32([2, 4, 6, 5]), noise=noise, **none
  )
  clip = np.zeros((len(frames), 16, 16, 3), np.uint8)
  for t, frame in enumerate(frames):
    augments.render(frame, plan, AugmentConfig(random_erasing=1.0), t, clip[t])
  by_hand = np.stack([resize_by_hand(f[3:23, 5:35], 16, 16)[:, ::-1] for f in frames])
  box = np.zeros((16, 16), bool)
  box[2:8, 4:9] = True
  assert np.abs(clip - by_hand)[:, ~box].max() <= 0.5 + 1 / 16
  noise = clip[:, box].astype(np.float32)
  assert abs(noise.mean() - 0.45 * 255) < 12 and 40 < noise.std() < 70
  assert (noise[0] != noise[1]).any()  # fresh in every frame


@pytest.mark.parametrize(
  'height, width, scaled, divisor',
  [
    (256, 340, (128, 171), 2),
    (257, 455, (128, 171), 2),
    (513, 684, (128, 171), 4),
    (224, 223, (112, 112), 2),
  ],
)
def test_reduced_windows_are_where_full_windows_are(height, width, scaled, divisor):
  clip = ClipConfig(num_frames=2, frame_stride=1, crop_size=112, short_side=128)
  fixed = AugmentConfig(crop='fixed', size=scaled, decode='reduced')
  size = np.array(image.scaled_size(height, width, divisor))
  for before in plans(fixed, height, width, clip, count=40):
    (after,), found = augments.reduce(fixed, [before], 112, height, width)
    assert found == divisor
    start, end = after.window[:2], after.window[:2] + after.window[2:]
    assert (start >= 0).all() and (end <= size).all() and (after.window[2:] >= 112).all()
    edges = np.concatenate([before.window[:2], before.window[:2] + before.window[2:]]) / divisor
    assert np.abs(edges - [*start, *end]).max() <= 1
    assert after.mirror == before.mirror


def test_reduced_windows_near_the_crop_are_copied():
  clip = ClipConfig(num_frames=1, frame_stride=1, crop_size=112, short_side=128)
  fixed = AugmentConfig(crop='fixed', size=(128, 171), decode='reduced')
  for size in [(256, 340), (128, 170)]:
    for plan in plans(fixed, *size, clip, count=20):
      assert plan.window[2] == size[0] * 112 / 128 > plan.window[3]
      (reduced,), _ = augments.reduce(fixed, [plan], 112, *size)
      assert reduced.window[2:].tolist() == [112, 112]


def test_the_smallest_window_chooses_the_divisor():
  jitter = AugmentConfig(crop='jitter', short_side=(128, 512), decode='reduced')
  clip = ClipConfig(num_frames=2, frame_stride=1, crop_size=56, short_side=128)
  drawn = plans(jitter, clip=clip, count=100)
  least = [min(plan.window[2:]) for plan in drawn]
  divisor = lambda *some: augments.reduce(jitter, list(some), 56, 256, 340)[1]
  divisors = [divisor(plan) for plan in drawn]
  assert set(divisors) == {1, 2}
  assert all(d == (2 if n >= 110 else 1) for d, n in zip(divisors, least))
  assert divisor(drawn[np.argmax(least)], drawn[np.argmin(least)]) == 1
  assert augments.reduce(AugmentConfig(crop='jitter'), drawn, 56, 256, 340) == (drawn, 1)


def test_divisor_of_test_frames():
  clip = ViewsConfig(num_frames=1, frame_stride=1, crop_size=112, short_side=128, decode='reduced')
  divisors = [
    augments.test_divisor(clip, h, w, None) for h, w in [(256, 341), (250, 333), (513, 600)]
  ]
  assert divisors == [2, 1, 4]
  assert augments.test_divisor(clip, 256, 340, (128, 171)) == 2
  assert augments.test_divisor(clip, 256, 300, (128, 171)) == 1
  with pytest.raises(ValueError, match="decode is 'half'; it must be one of full, reduced"):
    ViewsConfig(num_frames=1, frame_stride=1, crop_size=112, short_side=128, decode='half')
  with pytest.raises(ValueError, match="augment.decode is 'half'"):
    AugmentConfig(decode='half')


def test_crops_along_the_long_side():
  three = ViewsConfig(num_frames=1, frame_stride=1, crop_size=256, short_side=256, num_crops=3)
  assert augments.test_crops(three, 240, 321, None) == ((256, 342), [(0, 0), (0, 43), (0, 86)])
  assert augments.test_crops(three, 321, 240, None) == ((342, 256), [(0, 0), (43, 0), (86, 0)])
  one = ViewsConfig(num_frames=1, frame_stride=1, crop_size=224, short_side=256)
  assert augments.test_crops(one, 256, 341, None) == (
    (256, 341),
    [(16, 59)],
  )  # the center rounds up
  fixed = ViewsConfig(num_frames=1, frame_stride=1, crop_size=112, short_side=128)
  assert augments.test_crops(fixed, 240, 320, (128, 171)) == (
    (128, 171),
    [(8, 29)],
  )  # and here down
  with pytest.raises(ValueError, match='crop_size=256 px does not fit'):
    augments.test_crops(three, 240, 320, (128, 171))
  with pytest.raises(ValueError, match='crops=4; tests take 1, 3, 5, 10 crops'):
    augments.test_crops(
      ViewsConfig(num_frames=1, frame_stride=1, crop_size=8, short_side=8, num_crops=4), 9, 9, None
    )


def views_of(num_crops, places='quarters'):
  return ViewsConfig(
    num_frames=1, frame_stride=1, crop_size=224, short_side=256, num_crops=num_crops,
    crop_places=places,
  )  # fmt: skip


def test_crops_in_corners_and_center():
  # 256 x 341 px leave 32 and 117 px free: quarters of 8 and 29 px, so that the last ends 1 px inside.
  five = [(0, 0), (0, 116), (32, 0), (32, 116), (16, 58)]
  assert augments.test_crops(views_of(5), 256, 341, None) == ((256, 341), five)
  assert augments.test_crops(views_of(5, 'ends'), 256, 341, None)[1] == [
    (0, 0), (0, 117), (32, 0), (32, 117), (16, 59),
  ]  # fmt: skip
  ten = augments.test_crops(views_of(10), 256, 341, None)[1]
  assert ten[::2] == ten[1::2] == five
  assert [augments.is_mirrored(views_of(10), i) for i in range(4)] == [False, True, False, True]
  assert not augments.is_mirrored(views_of(5), 1)


def test_crops_on_quarters_are_the_authors():
  # Left, right, center; top, bottom, center.
  assert augments.test_crops(views_of(3), 256, 341, None)[1] == [(16, 0), (16, 116), (16, 58)]
  assert augments.test_crops(views_of(3), 341, 256, None)[1] == [(0, 16), (116, 16), (58, 16)]
  assert augments.test_crops(views_of(1), 256, 341, None)[1] == [(16, 58)]  # 58.5, to even
  with pytest.raises(ValueError, match="crop_places is 'thirds'; it must be one of ends, quarters"):
    views_of(3, 'thirds')


@pytest.mark.parametrize('name', randaugment.NAMES)
def test_randaugment_is_pillows(name):
  frames = picture()
  for level, sign in ((3.3, 1.0), (7.2, -1.0), (10.0, 1.0)):
    value = randaugment.argument(name, level, sign)
    got = np.stack([randaugment.apply(frame, name, value) for frame in frames])
    expected = np.stack([np.asarray(by_pillow(Image.fromarray(f), name, value)) for f in frames])
    difference = np.abs(got.astype(int) - expected)
    if name in ('rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y'):
      # Bicubic with another constant, so nearer than bilinear would be; the picture's edges blend
      # otherwise.
      inside = randaugment.apply(np.full_like(frames[0], 255), name, value) == 255
      inside = cv2.erode(inside.astype(np.uint8), np.ones((5, 5)), borderValue=0).astype(bool)
      bilinear = np.stack(
        [np.asarray(by_pillow(Image.fromarray(f), name, value, Image.BILINEAR)) for f in frames]
      )
      bilinear = np.abs(bilinear.astype(int) - expected)[:, inside]
      assert inside.mean() > 0.2 and difference[:, inside].max() <= 3, (level, sign)
      assert difference[:, inside].mean() <= max(0.7 * bilinear.mean(), 0.6), (level, sign)
    else:
      assert difference.max() <= 1 and (difference > 0).mean() < 0.02, (level, sign)


def test_randaugment_arguments():
  assert (
    randaugment.argument('rotate', 10, -1.0) == -30
    and randaugment.argument('solarize', 10, 1.0) == 0
  )
  assert (
    randaugment.argument('posterize', 7, 1.0) == 2
    and randaugment.argument('solarize_add', 10, 1.0) == 110
  )
  assert randaugment.argument('color', 10, -1.0) == pytest.approx(0.1)


def test_no_operations_take_nothing_from_the_generator():
  rng, untouched = np.random.default_rng(3), np.random.default_rng(3)
  ops, values = randaugment.draw(rng, 0, 7.0, 0.5)
  assert (ops.shape, ops.dtype, values.shape, values.dtype) == ((0,), 'int32', (0,), 'float32')
  assert rng.bit_generator.state == untouched.bit_generator.state


def test_randaugment_draws():
  drawn = [randaugment.draw(np.random.default_rng(s), 2, 7.0, 0.5) for s in range(2000)]
  ops = np.concatenate([o for o, _ in drawn])
  assert (
    0.46 < (ops == randaugment.NAMES.index('identity')).mean() < 0.54
  )  # each is applied half the time
  counts = np.bincount(ops)[:-1]
  assert len(counts) == 15 and counts.min() > 80 and counts.max() < 190
  angles = np.concatenate([v[o == randaugment.NAMES.index('rotate')] for o, v in drawn])
  assert abs(np.abs(angles).mean() - 21) < 1 and (angles > 0).any() and (angles < 0).any()
