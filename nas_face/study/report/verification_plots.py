"""ROC and DET curves of one list of pairs, as a picture or as a page."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.special import ndtri

from nas_face.errors import ConfigError
from nas_face.study.picture import BLUE, RED, SUFFIXES, blank, write_picture
from nas_face.study.report.html import STYLE
from nas_face.verify import Roc, thinned, wilson_interval

_Floats = NDArray[np.float64]

_COLOURS = (BLUE, RED, "#2f8f5b", "#8456b8", "#c28a12", "#47525e", "#1a9db0", "#b04a8c")
_N_COLUMNS = 512
_RATES = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
_HIGHEST_RATE = 0.5  # of a DET curve; beyond it a model guesses
_FALSE_ACCEPTS, _TRUE_ACCEPTS = "false accept rate", "true accept rate"
_FALSE_REJECTS = "false reject rate"


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """What there is to draw of a ROC: the true accept rate at each supported false accept rate.

    Attributes:
        far: limits on the false accept rate, rising from one impostor pair's to 1, `(K,)`.
        tar: highest true accept rate within each limit, `(K,)`; holds up to the next one.
        low: lower end of Wilson's 95 % interval of `tar`, as if the pairs were independent,
            `(K,)`.
        high: upper end.
    """

    far: _Floats
    tar: _Floats
    low: _Floats
    high: _Floats

    @classmethod
    def of(cls, curve: Roc) -> Self:
        """Of a curve of any number of points; columns too narrow to see are left out."""
        accepts = np.unique(thinned(curve, n_columns=_N_COLUMNS).false_accepts)
        accepts = accepts[accepts > 0]
        if accepts[0] > 1:
            accepts = np.append(1, accepts)
        n_true = np.rint(curve.tar_within(accepts) * curve.n_same).astype(np.int64)
        bands = {n: wilson_interval(n, curve.n_same) for n in np.unique(n_true).tolist()}
        return cls(
            far=accepts / np.float64(curve.n_different),
            tar=n_true / np.float64(curve.n_same),
            low=np.array([bands[n].low for n in n_true.tolist()]),
            high=np.array([bands[n].high for n in n_true.tolist()]),
        )


def require_plot(path: Path) -> None:
    """Check the name of a plot before any work is done for it.

    Raises:
        ConfigError: it ends in no format that is written.
    """
    endings = (*SUFFIXES, ".html")
    if path.suffix.lower() not in endings:
        raise ConfigError(f"{path}: the name of a plot must end in {', '.join(endings)}")


def plot_verification(curves: Mapping[str, Roc], path: Path, *, title: str) -> None:
    """Draw the ROC (FAR on a logarithmic axis) and the DET curve (axes of normal deviates).

    False accept rates that the impostor pairs do not support, below one of them, are not drawn,
    nor are false reject rates of no genuine pair. Bands are Wilson's intervals of the share of
    genuine pairs, as if the pairs were independent and the threshold given.

    Args:
        curves: of models by name, all on the same pairs; at least one.
        path: PNG, SVG, PDF or HTML file to write.
        title: above the curves.

    Raises:
        ConfigError: the file's name ends in something else.
    """
    require_plot(path)
    steps = {name: Steps.of(curve) for name, curve in curves.items()}
    one = next(iter(curves.values()))
    note = (
        f"{one.n_same:,} genuine and {one.n_different:,} impostor pairs; "
        "bands: 95 % intervals (Wilson)"
    )
    if path.suffix.lower() == ".html":
        _write_page(curves, steps, path, title, note)
        return
    figure = blank(10.4, 4.9)
    roc_axis, det_axis = figure.subplots(1, 2)
    for (name, curve), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        _draw_roc(roc_axis, steps[name], colour, f"{name}  (EER {curve.eer():.2%})")
        _draw_det(det_axis, steps[name], colour)
    _finish_roc(roc_axis, steps)
    _finish_det(det_axis, curves, steps)
    columns = 1 if max(map(len, curves)) > 40 else min(3, len(curves))
    figure.legend(fontsize=8, loc="outside lower center", ncols=columns, frameon=False)
    figure.suptitle(f"{title}\n{note}", fontsize=10)
    write_picture(figure, path)


def _colours(n: int) -> list[str]:
    return [_COLOURS[at % len(_COLOURS)] for at in range(n)]


def _draw_roc(axis: Axes, steps: Steps, colour: str, label: str) -> None:
    axis.fill_between(
        steps.far, steps.low, steps.high, step="post", color=colour, alpha=0.15, linewidth=0
    )
    axis.step(steps.far, steps.tar, where="post", color=colour, linewidth=1.4, label=label)


def _finish_roc(axis: Axes, steps: Mapping[str, Steps]) -> None:
    lowest = min(float(each.low[0]) for each in steps.values())
    axis.set_xscale("log")
    axis.set_xlim(min(float(each.far[0]) for each in steps.values()), 1.0)
    axis.set_ylim(max(0.0, lowest - 0.08 * (1 - lowest)), 1.0 + 0.02 * (1 - lowest))
    axis.set_xlabel(f"{_FALSE_ACCEPTS} (log)")
    axis.set_ylabel(_TRUE_ACCEPTS)
    axis.set_title("ROC", fontsize=10)
    axis.grid(which="major", alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_det(axis: Axes, steps: Steps, colour: str) -> None:
    x, y, low, high = _deviates(steps)
    axis.fill_between(x, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
    axis.step(x, y, where="post", color=colour, linewidth=1.4)


def _deviates(steps: Steps) -> tuple[_Floats, _Floats, _Floats, _Floats]:
    """Normal deviates of FAR, false reject rate and the ends of its interval, NaN where a rate is
    0 or 1."""
    rates = (steps.far, 1 - steps.tar, 1 - steps.high, 1 - steps.low)
    drawn = (steps.tar < 1) & (steps.far < 1)
    x, y, low, high = (np.where(drawn, ndtri(np.clip(each, 1e-12, 1)), np.nan) for each in rates)
    return x, y, low, high


def _det_ranges(
    curves: Mapping[str, Roc], steps: Mapping[str, Steps]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """From which rate to which the axes of a DET plot go: down to one impostor and one genuine
    pair, and up to where a model guesses, false rejects no further than they reach."""
    lowest_x = min(1 / curve.n_different for curve in curves.values())
    lowest_y = min(1 / curve.n_same for curve in curves.values())
    most_rejected = max(1 - float(each.low[0]) for each in steps.values())
    highest_y = next((rate for rate in _RATES if rate > most_rejected), _HIGHEST_RATE)
    return (
        (min(lowest_x, 0.4), _HIGHEST_RATE),
        (min(lowest_y, highest_y / 2), highest_y),
    )


def _finish_det(axis: Axes, curves: Mapping[str, Roc], steps: Mapping[str, Steps]) -> None:
    x_range, y_range = _det_ranges(curves, steps)
    x_rates, y_rates = _ticks(x_range), _ticks(y_range)
    axis.set_xticks(ndtri(x_rates), [_percent(rate) for rate in x_rates], fontsize=8)
    axis.set_yticks(ndtri(y_rates), [_percent(rate) for rate in y_rates], fontsize=8)
    axis.set_xlim(*ndtri(x_range))
    axis.set_ylim(*ndtri(y_range))
    ends = ndtri([min(x_range[0], y_range[0]), _HIGHEST_RATE])
    axis.plot(
        ends, ends, color="#9aa2ad", linewidth=0.8, linestyle=":", scalex=False, scaley=False
    )
    axis.set_xlabel(f"{_FALSE_ACCEPTS} (normal deviate)")
    axis.set_ylabel(f"{_FALSE_REJECTS} (normal deviate)")
    axis.set_title("DET (dotted: equal error rates)", fontsize=10)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def _ticks(ends: tuple[float, float]) -> list[float]:
    return [rate for rate in _RATES if ends[0] * (1 - 1e-9) <= rate <= ends[1]]


def _percent(rate: float) -> str:
    return f"{100 * rate:g} %"


def _write_page(
    curves: Mapping[str, Roc], steps: Mapping[str, Steps], path: Path, title: str, note: str
) -> None:
    roc_figure, det_figure = go.Figure(), go.Figure()
    for name, colour in zip(curves, _colours(len(curves)), strict=True):
        each = steps[name]
        hover = [
            f"FAR {far:.3g}<br>TAR {tar:.4f} ({low:.4f} to {high:.4f})"
            for far, tar, low, high in zip(each.far, each.tar, each.low, each.high, strict=True)
        ]
        _add(roc_figure, name, colour, (each.far, each.tar, each.low, each.high), hover)
        _add(det_figure, name, colour, _deviates(each), hover)
    lowest = min(float(each.low[0]) for each in steps.values())
    roc_figure.update_layout(
        xaxis={"title": _FALSE_ACCEPTS, "type": "log", "exponentformat": "power"},
        yaxis={"title": _TRUE_ACCEPTS, "range": [max(0.0, lowest - 0.08 * (1 - lowest)), 1.002]},
    )
    x_range, y_range = _det_ranges(curves, steps)
    det_figure.update_layout(
        xaxis=_deviate_axis(_FALSE_ACCEPTS, x_range),
        yaxis=_deviate_axis(_FALSE_REJECTS, y_range),
    )
    parts = []
    for at, (label, figure) in enumerate((("ROC", roc_figure), ("DET", det_figure))):
        figure.update_layout(
            template="plotly_white", height=460, margin={"l": 70, "r": 20, "t": 20, "b": 50}
        )
        drawn = figure.to_html(full_html=False, include_plotlyjs=at == 0, div_id=label.lower())
        parts.append(f"<h2>{label}</h2>{drawn}")
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(note)}</p>{''.join(parts)}</body></html>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _add(
    figure: go.Figure,
    name: str,
    colour: str,
    values: tuple[_Floats, _Floats, _Floats, _Floats],
    hover: list[str],
) -> None:
    x, y, low, high = (
        [None if np.isnan(value) else value for value in each.tolist()] for each in values
    )
    shared = {"x": x, "mode": "lines", "legendgroup": name}
    for ends, fill in ((low, None), (high, "tonexty")):
        figure.add_scatter(
            **shared,
            y=ends,
            fill=fill,
            fillcolor=f"rgba{(*_rgb(colour), 0.15)}",
            line={"width": 0, "shape": "hv", "color": colour},
            hoverinfo="skip",
            showlegend=False,
        )
    figure.add_scatter(
        **shared,
        y=y,
        name=name,
        line={"color": colour, "shape": "hv", "width": 2},
        text=hover,
        hovertemplate="%{text}",
        showlegend=True,
    )


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return red, green, blue


def _deviate_axis(title: str, ends: tuple[float, float]) -> dict[str, object]:
    rates = _ticks(ends)
    return {
        "title": title,
        "tickvals": ndtri(rates).tolist(),
        "ticktext": [_percent(rate) for rate in rates],
        "range": ndtri(ends).tolist(),
        "zeroline": False,
    }
