"""Command about zero-cost proxies: `proxies`."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_face.cli.console import JsonFlag, console, print_json, results

if TYPE_CHECKING:
    from nas_face.study.proxies.audit import Worth
    from nas_face.study.proxies.audit_run import ProxyReport
    from nas_face.study.proxies.kendall import Estimate


def proxies(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a search.")],
    names: Annotated[
        str | None, typer.Option(help="Some of them, such as synflow,zico; all by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and of the faces drawn.")] = 0,
    images: Annotated[int, typer.Option(min=4, help="Training faces that they look at.")] = 32,
    as_json: JsonFlag = False,
) -> None:
    """Say what zero-cost proxies are worth on a run, beside multiply-adds alone."""
    from nas_face.study.proxies.audit_run import audit_run
    from nas_face.study.proxies.settings import PROXY_NAMES
    from nas_face.study.run import Run

    opened = Run.open(run)
    wanted = PROXY_NAMES if names is None else [name.strip() for name in names.split(",")]
    terminal = console()
    with terminal.status("measuring proxies") as status:
        report = audit_run(
            opened,
            wanted,
            n_images=images,
            seed=seed,
            on_network=lambda done, n: status.update(f"measuring proxies: {done} of {n}"),
        )
    if as_json:
        print_json(_plain(report))
    else:
        _print(report)


def _print(report: "ProxyReport") -> None:
    from rich.table import Table

    for name in dict.fromkeys(each.objective for each in report.worth):
        table = Table(
            title=f"Proxies against {name}, {report.n_networks} networks",
            caption="Kendall's tau-b [95 % interval], positive where a high score goes with a "
            f"good {name}; partial: with multiply-adds held fixed. Of twenty rows that add "
            "nothing, "
            "about one will seem to add or to harm.",
            caption_justify="left",
        )
        table.add_column("proxy")
        for title in ("tau", "less that of madds", "partial", "networks", "s/network"):
            table.add_column(title, justify="right")
        table.add_column("beyond madds")
        for each in report.worth:
            if each.objective == name:
                table.add_row(*_row(each))
        results().print(table)


def _row(worth: "Worth") -> list[str]:
    found = worth.comparison
    yardstick = worth.verdict == "the yardstick"
    return [
        worth.proxy,
        _text(found.tau),
        "" if yardstick else _text(found.gain),
        "" if yardstick else _text(found.partial),
        str(worth.n_networks),
        f"{worth.seconds:.2f}",
        worth.verdict,
    ]


def _text(found: "Estimate") -> str:
    if math.isnan(found.value):
        return "not defined"
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _plain(report: "ProxyReport") -> dict[str, Any]:
    """The report as data for JSON, which knows no NaN."""
    from nas_face.arch.codec import to_data

    text = json.dumps([to_data(each) for each in report.worth])
    rows = json.loads(text, parse_constant=lambda constant: None)
    return {"networks": report.n_networks, "images": report.n_images, "proxies": rows}
