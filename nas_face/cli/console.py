"""What every command prints with."""

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def console() -> "Console":
    """For talk: standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def results() -> "Console":
    """For results: standard output, wide enough not to fold where it is piped."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


@contextlib.contextmanager
def epoch_bar(terminal: "Console", n_epochs: int) -> Iterator[Any]:
    """A progress bar over epochs; yields what `train` calls after each."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("epochs"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=terminal) as progress:
        task = progress.add_task("epochs", total=n_epochs, note="")
        yield lambda report: progress.update(
            task, completed=report.epoch, note=f"loss {report.loss:.3f}"
        )
