"""What a search for a recipe came to, as a page and a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes

from nas_face.search.budget import Wall
from nas_face.study.compression.recipe_search.objectives import JUDGED, LATENCY, SIZE
from nas_face.study.compression.recipe_search.results import RecipeFront, TriedRecipe
from nas_face.study.compression.recipe_search.wording import recipe_front_table, recipes_table
from nas_face.study.picture import BLUE, GREY, RED
from nas_face.study.report.trade_off import INK, plot_trade_off, write_trade_off_page

REPORT_FILE: Final = "report.html"
PICTURE: Final = "report/front.png"
_STYLE: Final = "td:last-child, th:last-child { text-align: left; min-width: 24rem; }"
_WALL: Final[dict[str, Any]] = {"color": RED, "linewidth": 0.9, "linestyle": "--", "label": "wall"}


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
    path = folder / REPORT_FILE
    remark = f" Not as asked: {found.shortfall}." if found.shortfall else ""
    write_trade_off_page(
        path,
        "Search for a compression recipe",
        headline(found) + remark,
        folder / PICTURE,
        [recipe_front_table(found), recipes_table(found)],
        _STYLE,
    )
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

    def draw(axis: Axes, name: str, unit: float) -> None:
        _draw(axis, found, name, unit)
        for wall in walls:
            if wall.quantity == name:
                axis.axvline(wall.limit / unit, **_WALL)
            elif wall.quantity == JUDGED:
                axis.axhline(100 * wall.limit, **_WALL)

    plot_trade_off(draw, path)


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
        color=INK,
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
