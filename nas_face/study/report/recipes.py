"""What a search for a recipe came to, as a page and a picture."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes

from nas_face.search.budget import Wall
from nas_face.study.compression.recipe_search.objectives import JUDGED, LATENCY, SIZE
from nas_face.study.compression.recipe_search.results import RecipeFront, TriedRecipe
from nas_face.study.compression.recipe_search.wording import recipe_front_table, recipes_table
from nas_face.study.files import write_text
from nas_face.study.picture import BLUE, GREY, RED, blank, write_picture
from nas_face.study.report.html import STYLE, section

REPORT_FILE: Final = "report.html"
PICTURE: Final = "report/front.png"
_INK: Final = "#3c4651"
_WALL: Final[dict[str, Any]] = {"color": RED, "linewidth": 0.9, "linestyle": "--", "label": "wall"}
_STYLE: Final = f"""{STYLE}
body {{ background: #fff; max-width: 86rem; }} img {{ max-width: min(100%, 66rem); height: auto; }}
td:last-child, th:last-child {{ text-align: left; min-width: 24rem; }}
"""


def write_recipes_report(folder: Path, found: RecipeFront, walls: Sequence[Wall]) -> Path:
    """Write `report.html`, which needs nothing else, and `report/front.png`.

    Args:
        folder: of the search.
        found: all recipes.
        walls: on what was measured, drawn as lines.

    Returns:
        Path of the page.
    """
    plot_recipes(found, walls, folder / PICTURE)
    picture = base64.b64encode((folder / PICTURE).read_bytes()).decode()
    title = "Search for a compression recipe"
    remark = f"Not as asked: {found.shortfall}." if found.shortfall else ""
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f"<p>{html.escape(headline(found))} {html.escape(remark)}</p>"
        f"<img alt='Accuracy by latency and by bytes' src='data:image/png;base64,{picture}'>"
        f"{section(recipe_front_table(found))}{section(recipes_table(found))}</body></html>"
    )
    path = folder / REPORT_FILE
    write_text(path, page)
    return path


def headline(found: RecipeFront) -> str:
    """Before and after in one sentence."""
    best, given = found.best, found.original
    if best is None:
        return "No recipe could be carried out."
    return (
        f"Trial {best.trial} of {found.n_trials}: from {given[LATENCY]:.2f} ms, "
        f"{given[SIZE] / 1e6:.2f} MB and {given[JUDGED]:.2%} to {best.latency_ms:.2f} ms, "
        f"{best.size_bytes / 1e6:.2f} MB and {best.judged:.2%} on the pairs that decide. What it "
        f"does on pairs that decided nothing is in best-trial-{best.trial}/report.html."
    )


def plot_recipes(found: RecipeFront, walls: Sequence[Wall], path: Path) -> None:
    """Draw accuracy by latency and by bytes of every recipe, and of what was given.

    Args:
        found: all recipes.
        walls: drawn as lines.
        path: PNG, SVG or PDF file to write.
    """
    figure = blank(10.4, 4.4)
    axes = figure.subplots(1, 2, sharey=True)
    titles = {LATENCY: "latency, ms, one thread", SIZE: "file, MB"}
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        unit = 1e6 if name == SIZE else 1.0
        _draw(axis, found, name, unit)
        for wall in walls:
            if wall.quantity == name:
                axis.axvline(wall.limit / unit, **_WALL)
            elif wall.quantity == JUDGED:
                axis.axhline(100 * wall.limit, **_WALL)
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


def _draw(axis: Axes, found: RecipeFront, name: str, unit: float) -> None:
    def points(recipes: Sequence[TriedRecipe]) -> tuple[list[float], list[float]]:
        return (
            [getattr(each, name) / unit for each in recipes],
            [100 * each.judged for each in recipes],
        )

    over = [each for each in found.tried if each.over]
    beaten = [each for each in found.tried if not each.over and not each.on_front]
    axis.scatter(*points(over), s=22, color=GREY, marker="x", label="breaks a wall")
    axis.scatter(*points(beaten), s=22, color=GREY, label="beaten")
    axis.scatter(*points(found.members), s=36, color=BLUE, zorder=3, label="front")
    if found.best is not None:
        axis.scatter(
            *points([found.best]),
            s=110,
            facecolors="none",
            edgecolors=RED,
            zorder=4,
            label="carried out",
        )
    axis.scatter(
        [found.original[name] / unit],
        [100 * found.original[JUDGED]],
        s=60,
        color=_INK,
        marker="*",
        zorder=3,
        label="as it was given",
    )
    for each in found.tried:
        if each.on_front or each == found.best:
            axis.annotate(
                str(each.trial),
                (getattr(each, name) / unit, 100 * each.judged),
                xytext=(5, 5),
                textcoords="offset points",
                fontsize=7,
            )
