"""What every command prints with."""

import contextlib
import json
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C."""

DataOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FACES", help="Faces of any format, in place of the study's; may be repeated."
    ),
]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@final
class Interrupted(SystemExit):
    """Ctrl-C, in a command that knows how to go on.

    Args:
        line: that says so; None for a process that shall keep quiet.
    """

    def __init__(self, line: str | None) -> None:
        super().__init__(INTERRUPTED)
        self.line = line


def named_sources(data: list[str] | None) -> str | list[str] | None:
    """What `--data` says, as the key `data.source` takes it."""
    return data[0] if data is not None and len(data) == 1 else data or None


def program() -> str:
    """How to type this program's name so that the same one runs again."""
    found = shutil.which("nas-face")
    if found is not None and Path(found).resolve() == Path(sys.argv[0]).resolve():
        return "nas-face"
    return shlex.quote(sys.argv[0]) if Path(sys.argv[0]).name == "nas-face" else "nas-face"


def print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def console(*, quiet: bool = False) -> "Console":
    """For talk: standard error; or for silence."""
    from rich.console import Console

    return Console(
        stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True, quiet=quiet
    )


def results() -> "Console":
    """For results: standard output, wide enough not to fold where it is piped."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 140
    return Console(highlight=False, markup=False, emoji=False, width=width)


def print_table(table: "Table") -> None:
    """A table with its caption below, as wide as the terminal and not only as the table."""
    caption, table.caption = table.caption, None
    results().print(table)
    if caption is not None:
        results().print(caption)


@contextlib.contextmanager
def epoch_bar(terminal: "Console", n_epochs: int) -> Iterator[Any]:
    """A progress bar over epochs on a terminal, a line an epoch anywhere else; yields what `train`
    calls after each."""
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
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal) as progress:
        task = progress.add_task("epochs", total=n_epochs, note="")

        def told(report: Any) -> None:
            note = f"loss {report.loss:.3f} {report.pace}".rstrip()
            progress.update(task, completed=report.epoch, note=note)
            if not terminal.is_terminal:
                terminal.print(f"epoch {report.epoch}/{n_epochs}: {note}")

        yield told
