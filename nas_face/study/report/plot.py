"""The front as a picture."""

from pathlib import Path

import pandas as pd

from nas_face.search import Objective
from nas_face.study.picture import BLUE, GREY, RED, blank, require_picture, write_picture
from nas_face.study.report.front import Front


def plot_front(front: Front, path: Path, *, title: str) -> None:
    """Draw the trained objective against each of the others, one panel an axis.

    Args:
        front: what to draw; an empty one gives empty panels.
        path: PNG, SVG or PDF file to write.
        title: above the picture.

    Raises:
        ConfigError: the file's name ends in something else.
    """
    require_picture(path)
    trained = next(each for each in front.objectives if each.origin == "trained")
    others = [each for each in front.objectives if each is not trained]
    panels = others or [trained]
    figure = blank(5.2 * len(panels), 4.2)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, other in zip(axes, panels, strict=True):
        rest = front.trials[~front.trials["on_front"]]
        axis.scatter(
            _scaled(rest, other), rest[trained.name], s=18, color=GREY, label="other trials"
        )
        members = front.members.sort_values(other.name)
        axis.scatter(
            _scaled(members, other),
            members[trained.name],
            s=34,
            color=BLUE,
            zorder=3,
            label="front (all objectives)",
        )
        step = _edge(members, trained, other)
        axis.step(
            _scaled(step, other),
            step[trained.name],
            where="post",
            color=BLUE,
            linewidth=1,
            alpha=0.6,
        )
        for x, y, number in zip(
            _scaled(members, other), members[trained.name], members["trial"], strict=True
        ):
            axis.annotate(
                str(number), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
        if front.knee is not None:
            knee = members[members["trial"] == front.knee]
            axis.scatter(
                _scaled(knee, other),
                knee[trained.name],
                s=90,
                facecolors="none",
                edgecolors=RED,
                zorder=4,
                label="nearest to ideal",
            )
        axis.set_xlabel(_label(other))
        axis.set_ylabel(trained.title)
        axis.grid(alpha=0.25, linewidth=0.6)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=len(labels))
    figure.suptitle(title, fontsize=10)
    write_picture(figure, path)


def _in_millions(objective: Objective) -> bool:
    return objective.name in ("madds", "params")


def _scaled(table: pd.DataFrame, objective: Objective) -> "pd.Series[float]":
    column = table[objective.name].astype(float)
    return column / 1e6 if _in_millions(objective) else column


def _label(objective: Objective) -> str:
    return f"{objective.title}, millions" if _in_millions(objective) else objective.title


def _edge(members: pd.DataFrame, trained: Objective, other: Objective) -> pd.DataFrame:
    """Those members that no cheaper one beats on these two axes, cheapest first."""
    sign = 1 if trained.direction == "maximize" else -1
    ordered = members.sort_values([other.name, trained.name], ascending=[True, sign < 0])
    gains = sign * ordered[trained.name]
    return ordered[gains > gains.cummax().shift(fill_value=float("-inf"))]
