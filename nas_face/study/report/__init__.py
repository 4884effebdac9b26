"""What a run came to: table, picture, page."""

from pathlib import Path

from nas_face.study.report.front import Front, front_of
from nas_face.study.report.html import write_html
from nas_face.study.report.plot import plot_front
from nas_face.study.run import Run

__all__ = ["Front", "front_of", "plot_front", "write_html", "write_report"]


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
        f"{front.n_trials} trials, {front.n_stopped} stopped at a rung, {front.n_failed} failed. "
        "Columns that begin with test_ were measured on identities that the search never saw."
    )
    write_html(front, page, title=title, choices=choices, note=note)
    return csv, png, page
