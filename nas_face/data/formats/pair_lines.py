"""What the textual lists of pairs share: reading text, and finding the images that lines name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from nas_face.data.blobs import FileBlobs
from nas_face.data.listing import PairListing
from nas_face.errors import DataError

TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
"""How lists say whether a pair shows one identity, in lower case."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PairLine:
    """One line of a list.

    Args:
        line: its number in the file, from 1.
        first: the first image's path relative to the root, with forward slashes.
        second: the second image's path likewise.
        same: whether both show the same identity.
    """

    line: int
    first: str
    second: str
    same: bool


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such list of pairs") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a list of pairs is UTF-8 text, and this is not") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, each with its number from 1."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def paths_pair(path: Path, number: int, first: str, second: str, truth: str) -> PairLine:
    """The pair of a line that names two paths and says whether they are of one identity.

    Raises:
        DataError: a path is missing, both are the same, or the truth is none.
    """
    first, second = first.replace("\\", "/"), second.replace("\\", "/")
    if not first or not second:
        raise DataError(f"{path}:{number}: an image has no name; a line is 'first,second,same'")
    refuse_line_breaks(path, number, first, second)
    if first == second:
        raise DataError(f"{path}:{number}: an image is paired with itself, {first}")
    same = TRUTH.get(truth.lower())
    if same is None:
        raise DataError(f"{path}:{number}: same must be 1 or 0, got {truth!r}")
    return PairLine(line=number, first=first, second=second, same=same)


def refuse_line_breaks(path: Path, number: int, *names: str) -> None:
    """A name with a line break, which quotes allow in CSV, is a mistake in the quotes.

    Raises:
        DataError: there is one.
    """
    for name in names:
        if name.splitlines() != [name]:
            raise DataError(f"{path}:{number}: a name must be of one line, got {name!r}")


def list_lines(
    path: Path,
    root: Path,
    pairs: Sequence[PairLine],
    *,
    n_folds: int | None,
    identity_of: Mapping[str, str] | None = None,
) -> PairListing:
    """Find the images of a list, each once.

    Args:
        path: the list.
        root: what its image names are relative to.
        pairs: its lines.
        n_folds: number of folds if the lines come in folds; None if they do not.
        identity_of: what the list says of images by name.

    Returns:
        The pairs; where nothing is said, an image's identity is taken to be its folder, or its own
        name where it has no folder.

    Raises:
        DataError: the list is empty, or an image is missing.
    """
    if not pairs:
        raise DataError(f"{path}: the list of pairs is empty")
    first_line: dict[str, int] = {}
    for pair in pairs:
        first_line.setdefault(pair.first, pair.line)
        first_line.setdefault(pair.second, pair.line)
    missing = [name for name in first_line if not is_file(root / name)]
    if missing:
        raise DataError(
            f"{path}:{first_line[missing[0]]}: image {root / missing[0]} is missing "
            f"({len(missing)} of {len(first_line)} images are); "
            f"is {root} the folder that the names start from?"
        )
    names = tuple(sorted(first_line))
    row_of = {name: row for row, name in enumerate(names)}
    said = identity_of or {}
    return PairListing(
        path=path,
        blobs=FileBlobs(tuple(root / name for name in names)),
        names=names,
        identities=tuple(said.get(name) or name.rpartition("/")[0] or name for name in names),
        first=np.array([row_of[pair.first] for pair in pairs], dtype=np.int64),
        second=np.array([row_of[pair.second] for pair in pairs], dtype=np.int64),
        same=np.array([pair.same for pair in pairs], dtype=np.bool_),
        n_folds=n_folds,
        lines=tuple(pair.line for pair in pairs),
    )


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is not."""
    try:
        return path.is_file()
    except OSError:  # for instance a name that is too long
        return False
