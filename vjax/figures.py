"""Pictures of what a run did, as matplotlib figures: training curves, reconstructions, confusion
matrices, frames."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_NAMED = 40  # rows or columns of a heat map


def _axes(rows: int, columns: int, width: float, height: float):
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), layout='constrained', dpi=110)
  FigureCanvasAgg(figure)
  return figure, figure.subplots(rows, columns, squeeze=False)


def curves(
  runs: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str], split: str = 'train'
):
  """Figure with one panel for each of `names`, a line for each run; runs: {title: rows of
  metrics.jsonl}."""
  figure, axes = _axes(1, len(names), 4.2 * len(names), 3)
  for axis, name in zip(axes[0], names):
    for title, rows in runs.items():
      points = [(row['step'], row[name]) for row in rows if row['split'] == split and name in row]
      if points:
        axis.plot(*zip(*points), label=title, linewidth=1.5)
    axis.set(title=name.replace('_', ' '), xlabel='step')
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
  return figure


def points(
  lines: Mapping[str, Sequence[tuple[float, Any]]], x: str = '', y: str = '', log_x: bool = False
):
  """Figure of lines through points.

  Args:
    lines: {title: points (x, y)}; y is a number, or a list of numbers over seeds, drawn as their
      mean with the deviation as a bar. Points with an empty list or None are left out.
    x: name of the horizontal axis.
    y: name of the vertical axis.
    log_x: the horizontal axis is logarithmic.
  """
  figure, axes = _axes(1, 1, 5.5, 3.6)
  axis = axes[0, 0]
  for title, line in lines.items():
    found = [(a, np.atleast_1d(b)) for a, b in line if b is not None and np.size(b)]
    if found:
      spread = [b.std(ddof=1) if b.size > 1 else 0.0 for _, b in found]
      axis.errorbar(
        [a for a, _ in found], [b.mean() for _, b in found], spread,
        label=title, marker='o', markersize=4, linewidth=1.5, capsize=3,
      )  # fmt: skip
  axis.set(xlabel=x, ylabel=y, xscale='log' if log_x else 'linear')
  axis.grid(alpha=0.3)
  if axis.get_legend_handles_labels()[0]:
    axis.legend(frameon=False, fontsize=8)
  return figure


def reconstruction_sheet(
  ratios: Mapping[float, Sequence[np.ndarray]],
  mean: Sequence[float],
  std: Sequence[float],
  oracle: bool,
):
  """Figure of one clip, {share of removed tokens: (original, masked, reconstruction)}, arrays (T,
  H, W, 3) in normalized colors: the original, then two rows a ratio. oracle: says that patches have
  the mean and deviation of the original."""
  rows = {'original': next(iter(ratios.values()))[0]}
  for ratio, (_, masked, reconstruction) in ratios.items():
    rows |= {f'{ratio:.0%} masked': masked, f'{ratio:.0%} rebuilt': reconstruction}
  figure = _rows(rows, mean, std)
  if oracle:
    figure.suptitle(
      'targets were normalized: mean and deviation of each patch are those of the original',
      fontsize=8,
    )
  return figure


def _rows(rows: Mapping[str, np.ndarray], mean: Sequence[float], std: Sequence[float]):
  length = len(next(iter(rows.values())))
  figure, axes = _axes(len(rows), length, 1.3 * length, 1.35 * len(rows))
  for line, (title, clip) in zip(axes, rows.items()):
    pixels = np.clip(np.asarray(clip, np.float32) * np.asarray(std) + np.asarray(mean), 0, 1)
    for axis, frame in zip(line, pixels):
      axis.imshow(frame)
      axis.set(xticks=[], yticks=[])
    line[0].set_ylabel(title)
  return figure


def confusion(labels: np.ndarray, guesses: np.ndarray, classes: Sequence[str]):
  """Figure of the confusion matrix (N,) against (N,): rows are true classes, in shares of each
  row."""
  counts = np.zeros((len(classes), len(classes)))
  np.add.at(counts, (labels, guesses), 1)
  shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
  size = 2 + 0.38 * len(classes)
  figure, axes = _axes(1, 1, size + 0.6, size)
  axis = axes[0, 0]
  picture = axis.imshow(shares, vmin=0, vmax=1, cmap='Blues')
  axis.set(xlabel='predicted', ylabel='true')
  axis.set_xticks(range(len(classes)), classes, rotation=60, ha='right', fontsize=8)
  axis.set_yticks(range(len(classes)), classes, fontsize=8)
  if len(classes) <= 20:
    for i, j in zip(*np.nonzero(shares >= 0.05)):
      axis.text(
        j,
        i,
        f'{shares[i, j]:.0%}',
        ha='center',
        va='center',
        fontsize=6,
        color='w' if shares[i, j] > 0.5 else 'k',
      )
  figure.colorbar(picture, ax=axis, shrink=0.7)
  return figure


def heat_maps(
  panels: Mapping[str, tuple[np.ndarray, Sequence[str], Sequence[str]]], xlabel: str, ylabel: str
):
  """Figure with one panel below another: {title: (shares (N, M) in 0..1, names of the N rows, names
  of the M columns)}. More than _NAMED names are left out."""
  named = [min(len(names), _NAMED) for _, *both in panels.values() for names in both]
  size = 2 + 0.25 * max(named)
  figure, axes = _axes(len(panels), 1, size + 1, size * len(panels))
  for axis, (title, (shares, rows, columns)) in zip(axes[:, 0], panels.items()):
    most = max(float(np.max(shares)), 1e-6)
    picture = axis.imshow(shares, vmin=0, vmax=most, cmap='Blues', aspect='auto')
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if len(columns) <= _NAMED:
      axis.set_xticks(range(len(columns)), columns, rotation=60, ha='right', fontsize=7)
    if len(rows) <= _NAMED:
      axis.set_yticks(range(len(rows)), rows, fontsize=7)
    figure.colorbar(picture, ax=axis, shrink=0.7)
  return figure


def scatter(
  panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], xlabel: str, ylabel: str
):
  """Figure with one panel for each title, and in it each label's points (x, y), joined in the order
  given; NaN interrupts a line. Where every label has one point, it stands beside it."""
  figure, axes = _axes(1, len(panels), 4.6 * len(panels), 3.6)
  for axis, (title, series) in zip(axes[0], panels.items()):
    single = all(len(points) == 1 for points in series.values())
    for label, points in series.items():
      axis.plot(*zip(*points), 'o-', label=label, linewidth=1, markersize=4)
      if single:
        axis.annotate(label, points[0], (3, 3), textcoords='offset points', fontsize=6)
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axis.margins(x=0.15 if single else 0.05)
    axis.grid(alpha=0.3)
    if not single:
      axis.legend(frameon=False, fontsize=6)
  return figure


def bars(panels: Mapping[str, Mapping[str, Sequence[float]]], names: Sequence[str]):
  """Figure with one panel for each title, a group of bars for each of `names`, and in it one bar a
  series; NaN is no bar."""
  figure, axes = _axes(1, len(panels), 3.6 * len(panels), 3)
  for axis, (title, series) in zip(axes[0], panels.items()):
    width = 0.8 / max(len(series), 1)
    for i, (label, values) in enumerate(series.items()):
      axis.bar([x + i * width for x in range(len(names))], values, width, label=label)
    middle = 0.4 - width / 2
    axis.set_xticks([x + middle for x in range(len(names))], names)
    axis.set(title=title)
    axis.axhline(0, color='k', linewidth=0.6)
    axis.legend(frameon=False, fontsize=8)
  return figure


def ranked(panels: Mapping[str, Mapping[str, float]], columns: int, xlabel: str = ''):
  """Figure with one panel for each title, `columns` of them in a line, and in it a horizontal bar
  for each label, the first one on top."""
  lines, most = -(-len(panels) // columns), max(map(len, panels.values()))
  figure, axes = _axes(lines, columns, 5.5 * columns, lines * (0.8 + 0.3 * most))
  for axis, (title, values) in zip(axes.flat, panels.items()):
    axis.barh(range(len(values)), list(values.values()), 0.6)
    axis.set_yticks(range(len(values)), list(values), fontsize=7)
    axis.invert_yaxis()
    axis.set(title=title, xlabel=xlabel)
    axis.axvline(0, color='k', linewidth=0.6)
  for axis in axes.flat[len(panels) :]:
    axis.set_axis_off()
  return figure


def frames(clips: Mapping[str, np.ndarray]):
  """Figure with one clip (T, H, W, 3) uint8 a row, its title to the left."""
  figure, axes = _axes(len(clips), len(next(iter(clips.values()))), 9, 1.05 * len(clips))
  for line, (title, clip) in zip(axes, clips.items()):
    for axis, frame in zip(line, clip):
      axis.imshow(frame)
      axis.set(xticks=[], yticks=[])
    line[0].set_ylabel(title, rotation=0, ha='right', va='center', fontsize=8)
  return figure


def overlaid(frames: np.ndarray, heat: np.ndarray, strength: float = 0.5) -> np.ndarray:
  """Frames (T, H, W, 3) uint8 under a color map of heat (T, H, W) in 0..1, more of it where it is
  hotter."""
  import matplotlib

  colors = 255 * matplotlib.colormaps['jet'](heat)[..., :3]
  share = strength * np.asarray(heat)[..., None]
  return np.uint8(np.round((1 - share) * frames + share * colors))


def mp4(frames: np.ndarray, rate: int = 8) -> bytes:
  """An H.264 video of frames (T, H, W, 3) uint8; odd sizes lose a row or a column, and small ones
  are enlarged."""
  import av

  factor = -(-224 // min(frames.shape[1:3]))
  frames = frames.repeat(factor, 1).repeat(factor, 2)
  frames = np.ascontiguousarray(frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2])
  buffer = io.BytesIO()
  with av.open(buffer, 'w', format='mp4') as container:
    stream = container.add_stream('libx264', rate=rate)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = 'yuv420p'
    for frame in frames:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
    container.mux(stream.encode())
  return buffer.getvalue()


def array(figure) -> np.ndarray:
  """The figure as pixels (H, W, 3) uint8."""
  figure.canvas.draw()
  return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def png(figure) -> bytes:
  """The figure as a PNG file."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png')
  return buffer.getvalue()


def html(figure, title: str) -> str:
  """The figure as an <img> that needs no file beside the page."""
  return html_image(png(figure), title)


def html_image(data: bytes, title: str) -> str:
  """A PNG file as an <img> that needs no file beside the page."""
  return f'<img alt="{title}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
