"""The front as one HTML page that needs nothing else: hover shows the candidate."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from rich.table import Table

from nas_face.search import Objective
from nas_face.study.picture import BLUE, GREY
from nas_face.study.report.front import Front
from nas_face.study.tables import hypervolume_line

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem;
       padding: 0 1rem; color: #1c2530; }
h1 { font-size: 1.4rem; } code { background: #f0f2f5; padding: .1rem .3rem; }
table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #dde2e8; }
.wide { overflow-x: auto; }
h2 { font-size: 1.15rem; } .note { color: #55606c; font-size: .85rem; max-width: 60rem; }
th:first-child, td:first-child { text-align: left; }
"""


def write_html(
    front: Front,
    path: Path,
    *,
    title: str,
    choices: dict[int, dict[str, object]],
    note: str,
    tables: Sequence[Table] = (),
) -> None:
    """Write the page.

    Args:
        front: what to show.
        path: HTML file to write.
        title: of the page.
        choices: labels of every complete trial, by trial number; shown on hover.
        note: plain text below the title.
        tables: shown below the front, each under its title, with its caption.
    """
    trained = next(each for each in front.objectives if each.origin == "trained")
    others = [each for each in front.objectives if each is not trained] or [trained]
    figures = [
        _figure(front, trained, other, choices).to_html(
            full_html=False, include_plotlyjs=position == 0, div_id=f"front-{other.name}"
        )
        for position, other in enumerate(others)
    ]
    figures.append(
        _hypervolumes(front).to_html(full_html=False, include_plotlyjs=False, div_id="hypervolume")
    )
    table = front.members.drop(columns="on_front").to_html(
        index=False, border=0, float_format=lambda value: f"{value:.4g}"
    )
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{html.escape(title)}</h1><p>{html.escape(note)}</p>{''.join(figures)}"
        f"<h2>Front</h2><p class=note>{html.escape(hypervolume_line(front))}</p>"
        f"<div class=wide>{table}</div>{''.join(map(section, tables))}</body></html>"
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


def _hypervolumes(front: Front) -> go.Figure:
    """What the front dominated after each trial."""
    figure = go.Figure()
    figure.add_scatter(
        x=front.trials["trial"].tolist(),
        y=front.hypervolumes(),
        mode="lines+markers",
        line={"color": BLUE, "shape": "hv"},
        hovertemplate="trial %{x}: %{y:.2%}<extra></extra>",
    )
    figure.update_layout(
        xaxis_title="trial",
        yaxis_title="hypervolume of the front so far",
        yaxis={"tickformat": ".0%", "rangemode": "tozero"},
        template="plotly_white",
        height=320,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
    )
    return figure


def section(table: Table) -> str:
    """A table of the terminal as a section of the page."""
    title, caption = html.escape(str(table.title or "")), html.escape(str(table.caption or ""))
    head = "".join(f"<th>{_cell(column.header)}</th>" for column in table.columns)
    rows = zip(*(column.cells for column in table.columns), strict=True)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f"<h2>{title}</h2><div class=wide><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div><p class=note>{_lines(caption)}</p>"
    )


def _cell(content: object) -> str:
    return _lines(html.escape(str(content)))


def _lines(text: str) -> str:
    return text.replace("\n", "<br>")


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
