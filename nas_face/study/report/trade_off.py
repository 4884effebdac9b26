"""Pages with one picture: accuracy by latency and by bytes, side by side."""

import base64
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from rich.table import Table

from nas_face.study.files import write_text
from nas_face.study.picture import blank, write_picture
from nas_face.study.report.html import STYLE, section

INK: Final = "#3c4651"

# Of what is drawn: its name, what the axis is called, and what a value is divided by.
_PANELS: Final = (
    ("latency_ms", "latency, ms, one thread", 1.0),
    ("size_bytes", "file, MB", 1e6),
)
_STYLE: Final = f"""{STYLE}
body {{ background: #fff; max-width: 86rem; }} img {{ max-width: min(100%, 66rem); height: auto; }}
"""


def plot_trade_off(draw: Callable[[Axes, str, float], None], path: Path) -> None:
    """Draw both panels, with one legend below.

    Args:
        draw: is called for each panel with its axes, `latency_ms` or `size_bytes`, and what these
            are to be divided by; accuracy goes upwards, in percent.
        path: PNG, SVG or PDF file to write.
    """
    figure = blank(10.4, 4.4)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (name, title, unit) in zip(axes, _PANELS, strict=True):
        draw(axis, name, unit)
        axis.set_xlabel(title)
        axis.set_xlim(left=0)
        axis.margins(y=0.1)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("accuracy on the pairs that decide, %")
    named = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(named.values()),
        list(named),
        fontsize=8,
        loc="outside lower center",
        ncols=len(named),
    )
    write_picture(figure, path)


def write_trade_off_page(
    path: Path, title: str, remark: str, picture: Path, tables: Sequence[Table], style: str = ""
) -> None:
    """Write a page that needs nothing else.

    Args:
        path: of the page.
        title: of the page.
        remark: below the title.
        picture: a PNG file of `plot_trade_off`.
        tables: below the picture.
        style: CSS beside that of all pages.
    """
    embedded = base64.b64encode(picture.read_bytes()).decode()
    write_text(
        path,
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}{style}</style></head><body>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(remark)}</p>"
        f"<img alt='Accuracy by latency and by bytes' src='data:image/png;base64,{embedded}'>"
        f"{''.join(section(each) for each in tables)}</body></html>",
    )
