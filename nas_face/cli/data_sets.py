"""What the commands about data sets share: opening any format, and a bar over images."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nas_face.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from nas_face.data.listing import FaceListing, PairListing

_SHOWN_FROM = 500  # images; fewer are done before a bar could be read


def open_listing(
    path: Path, images: Path | None, protocol: str | None
) -> "tuple[str, FaceListing | PairListing]":
    """List faces or pairs, whichever a path holds.

    Args:
        path: a data set of any format.
        images: root of the images, where it is a list of pairs.
        protocol: FF or FP, where it is CFP's folder and its pairs are wanted.

    Returns:
        The format in words, and the listing.

    Raises:
        DataError: it is missing, broken or of no known format.
        ConfigError: an option does not go with the format.
    """
    from nas_face.data.formats.opening import format_of, list_faces, list_pairs

    words = {
        "built in": "built-in faces (ORL)",
        "folder": "folder of identities",
        "records": "record file",
        "tars": "WebDataset tars",
        "cfp": "CFP's folder",
        "bin": "verification set (.bin)",
        "text": "list of pairs",
    }
    found = format_of(path)
    if found in ("bin", "text") or protocol is not None:
        return words[found], list_pairs(path, images, protocol=protocol)
    if images is not None:
        raise ConfigError(f"{path}: only a list of pairs takes --images, got {images}")
    return words[found], list_faces(path)


@contextlib.contextmanager
def image_bar(terminal: "Console", n_images: int) -> Iterator[Callable[[int], None]]:
    """A progress bar over many images; yields what is called with each further number done."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    shown = n_images >= _SHOWN_FROM and terminal.is_terminal
    with Progress(*columns, console=terminal, transient=True, disable=not shown) as progress:
        task = progress.add_task("images", total=n_images)
        yield lambda n_done: progress.advance(task, n_done)
