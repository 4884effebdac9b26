"""What a run came to: table, picture, page."""

from pathlib import Path

from rich.table import Table

from nas_face.study.report.cost import SearchCost, search_cost
from nas_face.study.report.front import Front, front_of
from nas_face.study.report.html import write_html
from nas_face.study.report.plot import plot_front
from nas_face.study.report.rungs import RungReport, rung_report, rung_table
from nas_face.study.run import Run
from nas_face.study.tables import networks_table, seconds_table

__all__ = [
    "Front",
    "RungReport",
    "SearchCost",
    "front_of",
    "plot_front",
    "rung_report",
    "rung_table",
    "search_cost",
    "side_tables",
    "write_html",
    "write_report",
]


def side_tables(run: Run) -> list[Table]:
    """What goes with the front: the rungs, if the run has any, and what it all cost."""
    rungs, cost = rung_report(run), search_cost(run)
    of_rungs = [] if rungs is None else [rung_table(rungs)]
    return [*of_rungs, networks_table(cost), seconds_table(cost)]


def write_report(run: Run, front: Front) -> tuple[Path, Path, Path]:
    """Write `front.csv`, `front.png` and `front.html` into the run's report folder.

    Returns:
        The three paths, in this order.
    """
    folder = run.folder / "report"
    folder.mkdir(parents=True, exist_ok=True)
    csv, png, page = (folder / f"front.{suffix}" for suffix in ("csv", "png", "html"))
    front.trials.to_csv(csv, index=False)
    title = f"{run.config.name}: {run.space.name} under {run.config.budget}"
    plot_front(front, png, title=title)
    choices: dict[int, dict[str, object]] = {
        trial.number: dict(trial.params) for trial in run.trials()
    }
    note = (
        f"{front.n_trials} trials, {front.n_stopped} stopped at a rung, {front.n_refused} refused "
        f"for their latency, {front.n_failed} failed. "
        "Columns that begin with test_ were measured on identities that the search never saw."
    )
    tables = side_tables(run)
    write_html(front, page, title=title, choices=choices, note=note, tables=tables)
    return csv, png, page
