"""The command `data align`."""

import contextlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_face.cli.console import JsonFlag, console, print_json, results

if TYPE_CHECKING:
    from nas_face.align import AlignReport
    from nas_face.align.photos import OnDone

MAX_NAMED = 3  # photos of each reason; aligned.csv has them all


class Choose(StrEnum):
    """Which of several faces."""

    CENTRAL = "central"
    LARGEST = "largest"


class Format(StrEnum):
    """What crops are written as."""

    JPG = "jpg"
    PNG = "png"


def align(
    photos: Annotated[
        Path, typer.Argument(metavar="PHOTOS", help="Folder of photos, at any depth.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder of crops to write, laid out alike.")
    ],
    choose: Annotated[Choose, typer.Option(help="Which of several faces.")] = Choose.CENTRAL,
    size: Annotated[
        int, typer.Option(min=16, max=1024, help="Rows and columns of the crops.")
    ] = 112,
    min_score: Annotated[
        float, typer.Option(min=0.3, max=1.0, help="How sure the detector must be.")
    ] = 0.6,
    min_face: Annotated[
        int, typer.Option(min=1, metavar="PX", help="Smallest face, in pixels of the photo.")
    ] = 24,
    format_: Annotated[
        Format, typer.Option("--format", help="JPEG, or PNG without loss.")
    ] = Format.JPG,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG.")] = 95,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Photos at a time; by default one a core.")
    ] = None,
    max_missing: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, metavar="SHARE", help="Fail if more of the photos have no face."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Delete the crops of earlier runs, make all again.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Cut aligned 112x112 faces out of raw photos (an extra, named align).

    Run again, it goes on where it stopped. OUT/aligned.csv says what became of each photo.
    """
    from nas_face.align import AlignSettings, align_photos

    settings = AlignSettings(
        choose="central" if choose is Choose.CENTRAL else "largest",
        size=size,
        min_score=min_score,
        min_face_px=min_face,
        format="jpg" if format_ is Format.JPG else "png",
        quality=quality,
    )
    with _photo_bar() as on_done:
        report = align_photos(
            photos, out, settings=settings, n_workers=workers, force=force, on_done=on_done
        )
    if as_json:
        print_json(_plain(report))
    else:
        _print(report)
    report.check(max_missing)


@contextlib.contextmanager
def _photo_bar() -> Iterator["OnDone"]:
    """A bar over photos; yields what `align_photos` calls after each."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("photos"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    n_missing = 0
    with Progress(*columns, console=console()) as progress:
        task = progress.add_task("photos", total=None, note="")

        def on_done(result: Any, n_done: int, n_photos: int) -> None:
            nonlocal n_missing
            n_missing += result.status != "ok"
            note = f"{n_missing} without a crop" if n_missing else ""
            progress.update(task, completed=n_done, total=n_photos, note=note)

        yield on_done


def _print(report: "AlignReport") -> None:
    from rich.table import Table

    table = Table("photos", "number", "first")
    table.columns[1].justify = "right"
    for status, number in report.counts.items():
        first = [
            f"{each.source} ({each.reason})" if each.reason else each.source
            for each in report.missing(status)[:MAX_NAMED]
        ]
        more = ["..."] if number > MAX_NAMED else []
        if number or status == "ok":
            table.add_row(status, f"{number:,}", "" if status == "ok" else "\n".join(first + more))
    results().print(table)
    terminal = console()
    if report.n_done_before:
        terminal.print(f"{report.n_done_before:,} of them were done before")
    if report.ignored:
        others = ", ".join(
            f"{number:,} {suffix}" for suffix, number in sorted(report.ignored.items())
        )
        terminal.print(f"not looked at, because of their endings: {others}")
    terminal.print(f"written: {report.out} (aligned.csv says what became of each photo)")


def _plain(report: "AlignReport") -> dict[str, Any]:
    return {
        "photos": str(report.photos),
        "out": str(report.out),
        "n_photos": len(report.results),
        "n_done_before": report.n_done_before,
        "counts": report.counts,
        "missing_share": report.missing_share,
        "missing": [
            {"source": each.source, "status": each.status, "reason": each.reason}
            for each in report.results
            if each.status != "ok"
        ],
        "ignored": dict(report.ignored),
    }
