"""Where a network spends, as a picture."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nas_face.arch.conventions import CONVENTIONS, Convention, operations
from nas_face.arch.summary import Row, Summary
from nas_face.study.picture import BLUE, GREY, blank, require_picture, write_picture

Measure = Callable[[Row], int]


def plot_cost(summary: Summary, convention: Convention, path: Path, *, title: str) -> None:
    """Draw compute, parameters and peak activations: a wide bar a stage, a thin one a block.

    Args:
        summary: what to draw.
        convention: how compute is counted.
        path: PNG, SVG or PDF file to write.
        title: above the picture.

    Raises:
        ConfigError: the file's name ends in something else.
    """
    require_picture(path)
    ours = convention is CONVENTIONS["A"]
    compute = "MAdds" if ours else f"operations (convention {convention.name})"
    panels: tuple[tuple[str, Measure, bool], ...] = (
        (compute, lambda row: operations(row.layer, row.input, convention), True),
        ("parameters", lambda row: row.cost.params, True),
        ("peak activations", lambda row: row.cost.peak_activations, False),
    )
    n_blocks = len(summary.blocks)
    figure = blank(min(16.0, 5.0 + 0.2 * n_blocks), 8.0)
    axes = figure.subplots(len(panels), 1, sharex=True)
    for axis, (name, measure, adds_up) in zip(axes, panels, strict=True):
        _panel(axis, summary, measure, share=adds_up)
        axis.set_ylabel(name)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=len(labels))
    figure.suptitle(title, fontsize=11)
    write_picture(figure, path)


def _panel(axis: Axes, summary: Summary, measure: Measure, *, share: bool) -> None:
    whole = max(1, measure(summary.total))
    left, middles = 0.0, []
    for number, stage in enumerate(summary.stages):
        prefix = f"{stage.name}."
        blocks = [row for row in summary.blocks if f"{row.name}.".startswith(prefix)]
        width, value = max(2, len(blocks)), measure(stage)  # two, so that the label has room
        middle = left + width / 2
        middles.append(middle)
        wide = "stage" if number == 0 else None
        thin = "block" if number == 0 else None
        axis.bar(middle, value, width=width - 0.1, color=GREY, alpha=0.55, label=wide)
        places = [middle + position + (1 - len(blocks)) / 2 for position in range(len(blocks))]
        axis.bar(places, [measure(row) for row in blocks], width=0.5, color=BLUE, label=thin)
        label = _short(value) + (f"\n{value / whole:.1%}" if share else "")
        axis.annotate(
            label,
            (middle, value),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
        )
        left += width
    axis.set_xticks(middles, [row.name for row in summary.stages])
    axis.tick_params(axis="x", length=0)
    axis.margins(x=0.01, y=0.18)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.yaxis.set_major_locator(MaxNLocator(5))
    axis.grid(axis="y", alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _short(value: float) -> str:
    """Three digits and a unit, such as `88.0 M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"
