"""Pictures of a compression: figures step by step, accuracy by latency, losses of layers."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox

from nas_face.study.compression.results import FileResult, StepResult, Try
from nas_face.study.compression.state import LayerLossRow
from nas_face.study.picture import blank, write_picture
from nas_face.study.tables import file_kind
from nas_face.verify import wilson_interval

# Of Okabe and Ito's palette, which the colour-blind can tell apart: jfly.uni-koeln.de/color
_COLOURS: Final = {"onnxruntime": "#d55e00", "openvino": "#0072b2"}
_RUNTIMES: Final = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
_PALE, _INK = "#9aa2ad", "#3c4651"
_OF_LAYERS: Final = {False: ("#0072b2", "o"), True: ("#d55e00", "D")}
_MARKERS: Final = {"fp32": "o", "int8": "s"}
_OTHER_MARKER: Final = "^"
_FLOAT_ALPHA, _ALPHA = 0.5, 1.0
_MOST_LAYERS: Final = 40


def original_of(results: Sequence[StepResult]) -> FileResult:
    """The plain original, which all others are compared with: the last of the first row that is
    fp32 for ONNX Runtime."""
    for each in reversed(results[0].files):
        if (each.runtime, each.precision) == ("onnxruntime", "fp32"):
            return each
    return results[0].first


def way_of(file: FileResult, plain: FileResult) -> str:
    """Precision and runtime of a file, and whether it is the plain original."""
    return f"{'plain ' if file is plain else ''}{file_kind(file)}"


def plot_steps(results: Sequence[StepResult], path: Path, *, n_pairs: int) -> None:
    """Draw accuracy with its interval, latency and size of every file, one row each.

    Args:
        results: of every step, the original first.
        path: PNG, SVG or PDF file to write.
        n_pairs: on which accuracy was measured.
    """
    rows = [(step, each) for step in results for each in step.files]
    heights = _heights(results)
    figure = blank(11.0, 1.5 + 0.3 * (max(heights) + 1))
    axes = figure.subplots(1, 3, sharey=True, width_ratios=(1.15, 1, 1))
    accuracy, latency, size = axes
    longest = max(each.latency_ms for _, each in rows), max(each.size_bytes for _, each in rows)
    for (step, each), y in zip(rows, heights, strict=True):
        colour = _COLOURS[each.runtime]
        alpha = _FLOAT_ALPHA if each.precision == "fp32" else _ALPHA
        interval = wilson_interval(round(each.accuracy * n_pairs), n_pairs)
        accuracy.plot(
            (100 * interval.low, 100 * interval.high), (y, y), color=colour, linewidth=1.6
        )
        accuracy.plot(
            100 * each.accuracy,
            y,
            marker=_marker(each.precision),
            color=colour,
            markerfacecolor="white" if step.rolled_back else colour,
        )
        latency.barh(y, each.latency_ms, height=0.7, color=colour, alpha=alpha)
        size.barh(y, each.size_bytes / 1e6, height=0.7, color=colour, alpha=alpha)
        faster = f" {each.latency_ms:.3g} ms, {each.speedup:.2g}x"
        latency.text(each.latency_ms, y, faster, va="center", fontsize=7.5, color=_INK)
        text = f" {each.size_bytes / 1e6:.3g} MB"
        size.text(each.size_bytes / 1e6, y, text, va="center", fontsize=7.5, color=_INK)
    before = original_of(results)
    accuracy.axvline(100 * before.accuracy, color=_PALE, linewidth=0.9, linestyle=":", zorder=0)
    latency.set_xlim(0, 1.42 * longest[0])
    size.set_xlim(0, 1.35 * longest[1] / 1e6)
    labels = [_row_label(step, each, before) for step, each in rows]
    accuracy.set_yticks(heights, labels, fontsize=8)
    accuracy.set_ylim(max(heights) + 0.8, -0.8)  # the original on top
    titles = (
        f"accuracy, % of {n_pairs:,} pairs\n(95 % interval)",
        "latency, ms, one thread\n(x: faster than the plain original)",
        "size, MB\n",
    )
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=9)
        axis.set_axisbelow(True)
        axis.grid(axis="x", alpha=0.25, linewidth=0.6)
        axis.tick_params(axis="y", length=0)
        axis.tick_params(axis="x", labelsize=8)
        axis.spines[["top", "right", "left"]].set_visible(False)
    _legend(figure, [each for _, each in rows])
    write_picture(figure, path)


def plot_trade(results: Sequence[StepResult], tries: Sequence[Try], path: Path) -> None:
    """Draw accuracy by latency of every file and of what was tried; a line joins those that
    nothing faster beats.

    Args:
        results: of every step, the original first.
        tries: what was tried besides.
        path: PNG, SVG or PDF file to write.
    """
    figure = blank(8.0, 5.0)
    axis = figure.subplots()
    rows = [(step, each) for step in results for each in step.files if not step.rolled_back]
    points = [(each.latency_ms, 100 * each.accuracy) for _, each in rows]
    tried = [(each.file.latency_ms, 100 * each.file.accuracy) for each in tries]
    axis.scatter(*_columns(tried), s=18, color=_PALE, linewidths=0, zorder=2)
    for (_, each), (x, y) in zip(rows, points, strict=True):
        axis.plot(
            x, y, marker=_marker(each.precision), color=_COLOURS[each.runtime], zorder=3, alpha=0.9
        )
    best = _frontier([*points, *tried])
    axis.step(*_columns(best), where="post", color=_INK, linewidth=0.9, alpha=0.6, zorder=1)
    latencies = [x for x, _ in (*points, *tried)]
    wide = max(latencies) > 4 * min(latencies)  # narrower, a logarithmic axis has too few labels
    if wide:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(_sparse)
    axis.tick_params(which="both", labelsize=8, length=3, pad=3)
    axis.set_xlabel(f"latency, ms, one thread{' (log)' if wide else ''}", fontsize=9)
    axis.set_ylabel("accuracy, %", fontsize=9)
    axis.grid(which="major", alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.12, y=0.12)
    _legend(figure, [each for _, each in rows], tried=bool(tries))
    names = [
        (x, y, step.step)
        for (step, each), (x, y) in zip(rows, points, strict=True)
        if each is step.first
    ]
    plain = original_of(results)
    if plain is not results[0].first:
        names.append((plain.latency_ms, 100 * plain.accuracy, "plain original"))
    _name(figure, axis, names, [*points, *tried])
    write_picture(figure, path)


def plot_layers(layers: Sequence[LayerLossRow], path: Path) -> None:
    """Draw what layers lose by int8, the worst first.

    Args:
        layers: at least one.
        path: PNG, SVG or PDF file to write.
    """
    shown = sorted(layers, key=lambda each: -each.mean_loss)[:_MOST_LAYERS]
    figure = blank(8.0, 1.3 + 0.2 * len(shown))
    axis = figure.subplots()
    least = 1e-7  # float32 has no finer cosine
    for y, each in enumerate(shown):
        colour, marker = _OF_LAYERS[each.in_float]
        axis.plot(max(each.mean_loss, least), y, marker=marker, markersize=5, color=colour)
    axis.set_xscale("log")
    axis.set_yticks(range(len(shown)), [each.path for each in shown], fontsize=7)
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.set_xlabel("mean of 1 - cosine when this layer alone is int8 (log)", fontsize=9)
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right", "left"]].set_visible(False)
    rest = f"; the {len(shown)} worst of {len(layers)}" if len(layers) > len(shown) else ""
    n_kept = sum(each.in_float for each in layers)
    labels = {False: f"int8{rest}", True: f"left in float ({n_kept} of {len(layers)})"}
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=colour, label=labels[in_float])
        for in_float, (colour, marker) in _OF_LAYERS.items()
    ]
    figure.legend(handles=handles, fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    write_picture(figure, path)


def _heights(results: Sequence[StepResult]) -> list[float]:
    """Where rows are drawn: a gap between steps."""
    found, y = [], 0.0
    for step in results:
        for _ in step.files:
            found.append(y)
            y += 1
        y += 0.5
    return found


def _row_label(step: StepResult, file: FileResult, plain: FileResult) -> str:
    way = way_of(file, plain)
    if file is not step.first:
        return way
    mark = " (rolled back)" if step.rolled_back else ""
    return f"{step.step}{mark}: {way}"


def _marker(precision: str) -> str:
    return _MARKERS.get(precision, _OTHER_MARKER)


def _columns(points: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    listed = list(points)
    return [x for x, _ in listed], [y for _, y in listed]


def _frontier(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that no faster one reaches, fastest first."""
    found: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or y > found[-1][1]:
            found.append((x, y))
    return found


def _sparse(value: float, position: float) -> str:
    """Labels of minor ticks: of those digits that leave room for one another."""
    digit = value / 10 ** np.floor(np.log10(value))
    return f"{value:g}" if round(float(digit)) in (2, 3, 5, 7) else ""


def _legend(figure: Figure, files: Sequence[FileResult], *, tried: bool = False) -> None:
    runtimes = dict.fromkeys(each.runtime for each in files)
    precisions = dict.fromkeys(each.precision for each in files)
    handles = [Patch(color=_COLOURS[each], label=_RUNTIMES[each]) for each in runtimes]
    lines = [
        Line2D([], [], linestyle="", marker=_marker(each), color=_INK, label=each)
        for each in precisions
    ]
    if tried:
        lines.append(
            Line2D([], [], linestyle="", marker=".", color=_PALE, label="tried on the way")
        )
    figure.legend(
        handles=[*handles, *lines],
        fontsize=8,
        loc="outside lower center",
        ncols=len(handles) + len(lines),
        frameon=False,
    )


def _name(
    figure: Figure,
    axis: Axes,
    names: Sequence[tuple[float, float, str]],
    points: Sequence[tuple[float, float]],
) -> None:
    """Write names beside points, where they cover no point and no other name."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    inside = axis.get_window_extent(renderer)
    taken = []
    for x, y in points:
        at = axis.transData.transform((x, y))
        taken.append(Bbox.from_bounds(at[0] - 7, at[1] - 7, 14, 14))
    for x, y, name in names:
        for right, up in ((8, 5), (8, -11), (-8, 5), (-8, -11), (0, 14), (0, -20), (8, 18)):
            text = axis.annotate(
                name,
                (x, y),
                xytext=(right, up),
                textcoords="offset points",
                ha="left" if right > 0 else "right" if right < 0 else "center",
                fontsize=8,
                color=_INK,
            )
            box = text.get_window_extent(renderer)
            outside = box.x0 < inside.x0 or box.x1 > inside.x1
            if not outside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
