"""The command `data convert`."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_face.cli.console import JsonFlag, console, print_json, results

if TYPE_CHECKING:
    from rich.console import Console

    from nas_face.data.formats.convert import Conversion

MAX_NAMED = 3  # left-out images of which the reason is told


def convert(
    source: Annotated[Path, typer.Argument(metavar="A", help="Faces or pairs in any format.")],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="B", help="NAME.rec, NAME.tar, NAME-%06d.tar, NAME.bin, NAME.csv or a folder."
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(metavar="ROOT", help="Where a pair list's names start from.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(metavar="FF|FP", help="Which pairs of CFP.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Convert faces or pairs to another format, images as they are; B's name says which.

    Faces: a folder with one folder for each identity, .rec/.idx records, WebDataset tars. Pairs: a
    .bin verification set, LFW's pairs.txt, CSV, CFP's protocols.
    """
    from nas_face.data.formats.convert import convert as convert_data

    terminal = console()
    with _image_bar(terminal) as on_image:
        done = convert_data(
            source,
            target,
            images=images,
            protocol=protocol,
            overwrite=force,
            on_image=on_image,
        )
    for skipped in done.skipped[:MAX_NAMED]:
        terminal.print(f"left out: {skipped.name} ({skipped.reason})")
    if len(done.skipped) > MAX_NAMED:
        terminal.print(f"left out: {len(done.skipped) - MAX_NAMED} more")
    if as_json:
        print_json({"target": str(target), **dataclasses.asdict(done)})
    else:
        results().print(f"{target}: {_summary(done)}", soft_wrap=True)


def _summary(done: "Conversion") -> str:
    parts = [f"{done.n_images:,} images"]
    if done.n_pairs is None:
        parts.append(f"{done.n_identities:,} identities")
    else:
        parts.append(f"{done.n_pairs:,} pairs")
    parts.append(f"{done.image_bytes / 1e6:,.1f} MB")
    if done.skipped:
        parts.append(f"{len(done.skipped):,} left out")
    return ", ".join(parts)


@contextlib.contextmanager
def _image_bar(terminal: "Console") -> Iterator[Callable[[int, int], None]]:
    """A progress bar over images; yields what is called with their number so far and in all."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal) as progress:
        task = progress.add_task("images", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
