"""A front before and after compression, as a page and a picture."""

from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes

from nas_face.study.compression.front import CompressedFront
from nas_face.study.picture import BLUE, GREY, RED
from nas_face.study.report.trade_off import INK, plot_trade_off, write_trade_off_page
from nas_face.study.tables import front_change_table

_TITLE: Final = "The front before and after compression"


def write_front_change(front: CompressedFront, path: Path) -> None:
    """Write a page that needs nothing else, and its picture beside it.

    Args:
        front: of one recipe.
        path: of the page, `.html`; the picture's name ends in `.png` instead.
    """
    picture = path.with_suffix(".png")
    plot_front_change(front, picture)
    winner = next(row for row in front.rows if row.trial == front.best_after)
    before = "it" if front.best_before == front.best_after else f"trial {front.best_before}"
    remark = (
        f"Trial {front.best_after} wins: from {winner.before.latency_ms:.2f} ms, "
        f"{winner.before.size_bytes / 1e6:.2f} MB and {winner.before.judged:.2%} to "
        f"{winner.after.latency_ms:.2f} ms, {winner.after.size_bytes / 1e6:.2f} MB and "
        f"{winner.after.judged:.2%} on the pairs that decide. Before compression, {before} won."
    )
    write_trade_off_page(path, _TITLE, remark, picture, [front_change_table(front)])


def plot_front_change(front: CompressedFront, path: Path) -> None:
    """Draw every member before and after, with an arrow from the one to the other.

    Args:
        front: of one recipe.
        path: PNG, SVG or PDF file to write.
    """

    def draw(axis: Axes, name: str, unit: float) -> None:
        sides = {
            "before": [row.before for row in front.rows],
            "after": [row.after for row in front.rows if row.after.on_front],
            "after, beaten": [row.after for row in front.rows if not row.after.on_front],
        }
        looks: dict[str, dict[str, Any]] = {
            "before": {"color": INK, "marker": "*", "s": 60},
            "after": {"color": BLUE, "s": 36},
            "after, beaten": {"color": GREY, "s": 36},
        }
        for side, standings in sides.items():
            axis.scatter(
                [getattr(each, name) / unit for each in standings],
                [100 * each.judged for each in standings],
                zorder=3,
                label=side,
                **looks[side],
            )
        for row in front.rows:
            ends = [
                (getattr(each, name) / unit, 100 * each.judged) for each in (row.before, row.after)
            ]
            axis.annotate(
                "",
                xy=ends[1],
                xytext=ends[0],
                arrowprops={"arrowstyle": "->", "color": GREY, "shrinkA": 4, "shrinkB": 4},
            )
            axis.annotate(
                str(row.trial), ends[1], xytext=(5, 5), textcoords="offset points", fontsize=7
            )
            if row.trial == front.best_after:
                axis.scatter(
                    [ends[1][0]],
                    [ends[1][1]],
                    s=110,
                    facecolors="none",
                    edgecolors=RED,
                    zorder=4,
                    label="wins",
                )

    plot_trade_off(draw, path)
