"""The front as one HTML page that needs nothing else: hover shows the candidate."""

import html
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from nas_face.search import Objective
from nas_face.study.picture import BLUE, GREY
from nas_face.study.report.front import Front

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem;
       padding: 0 1rem; color: #1c2530; }
h1 { font-size: 1.4rem; } code { background: #f0f2f5; padding: .1rem .3rem; }
table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #dde2e8; }
.wide { overflow-x: auto; }
th:first-child, td:first-child { text-align: left; }
"""


def write_html(
    front: Front, path: Path, *, title: str, choices: dict[int, dict[str, object]], note: str
) -> None:
    """Write the page.

    Args:
        front: what to show.
        path: HTML file to write.
        title: of the page.
        choices: labels of every complete trial, by trial number; shown on hover.
        note: plain text below the title.
    """
    trained = next(each for each in front.objectives if each.origin == "trained")
    others = [each for each in front.objectives if each is not trained] or [trained]
    figures = [
        _figure(front, trained, other, choices).to_html(
            full_html=False, include_plotlyjs=position == 0, div_id=f"front-{other.name}"
        )
        for position, other in enumerate(others)
    ]
    table = front.members.drop(columns="on_front").to_html(
        index=False, border=0, float_format=lambda value: f"{value:.4g}"
    )
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(note)}</p>{''.join(figures)}"
        f"<h2>Front</h2><div class=wide>{table}</div></body></html>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _figure(
    front: Front, trained: Objective, other: Objective, choices: dict[int, dict[str, object]]
) -> go.Figure:
    figure = go.Figure()
    parts = (
        ("other trials", front.trials[~front.trials["on_front"]], GREY, 7),
        ("front", front.members, BLUE, 11),
    )
    for name, rows, colour, size in parts:
        figure.add_scatter(
            x=rows[other.name].tolist(),
            y=rows[trained.name].tolist(),
            mode="markers",
            name=name,
            marker={"color": colour, "size": size},
            text=[_hover(row, choices) for _, row in rows.iterrows()],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.update_layout(
        xaxis_title=other.title,
        yaxis_title=trained.title,
        template="plotly_white",
        height=460,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        hoverlabel={"align": "left"},
    )
    return figure


def _hover(row: "pd.Series[Any]", choices: dict[int, dict[str, object]]) -> str:
    number = int(str(row["trial"]))
    lines = [f"<b>trial {number}</b> {row['arch_id']}"]
    for name in row.index:
        if name not in ("trial", "arch_id", "on_front"):
            value = row[name]
            lines.append(
                f"{name}: {value:,.4g}" if isinstance(value, float) else f"{name}: {value}"
            )
    lines += [f"<i>{key}</i> = {value}" for key, value in choices.get(number, {}).items()]
    return "<br>".join(lines)
