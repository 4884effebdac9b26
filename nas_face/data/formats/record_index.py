"""The text files beside a record file: `.idx`, `.lst` and `property`."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.errors import DataError

_MAX_LINE = 4096
_MAX_DIGITS = 18  # of a number that fits in 64 bits


@final
@dataclass(frozen=True, slots=True, eq=False)
class RecordIndex:
    """Where records begin.

    Args:
        keys: int64 `(N,)`, ascending, without repetition.
        offsets: int64 `(N,)`, without repetition.
    """

    keys: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]


def read_idx(path: Path) -> RecordIndex:
    """Read an `.idx` file, whose lines are `KEY<tab>OFFSET`.

    Raises:
        DataError: it cannot be read, is empty, a line is another, or a key or an offset comes
            twice.
    """
    keys, offsets = array("q"), array("q")
    for number, line in _lines(path):
        columns = line.split()
        if len(columns) != 2 or not all(map(_is_number, columns)):
            raise DataError(
                f"{path}:{number}: a line is 'KEY<tab>OFFSET', whole numbers from 0, got "
                f"{line[:60]!r}; without the .idx file the records are found by themselves"
            )
        keys.append(int(columns[0]))
        offsets.append(int(columns[1]))
    if not keys:
        raise DataError(
            f"{path}: the file is empty; without it the records are found by themselves"
        )
    index = np.array(keys, dtype=np.int64)
    order = np.argsort(index, kind="stable")
    index, places = index[order], np.array(offsets, dtype=np.int64)[order]
    _refuse_repeated(path, "key", index)
    _refuse_repeated(path, "offset", np.sort(places))
    return RecordIndex(index, places)


def read_lst(path: Path) -> dict[int, str]:
    """Read an `.lst` file: the path of each key.

    Lines are im2rec's `KEY<tab>LABEL...<tab>PATH`, or InsightFace's
    `ALIGNED<tab>PATH<tab>LABEL...`, where the first line is key 1.

    Raises:
        DataError: it cannot be read, a line is another, or a key comes twice.
    """
    paths: dict[int, str] = {}
    for number, line in _lines(path):
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) < 3 or not _is_number(columns[0]):
            raise DataError(
                f"{path}:{number}: a line is 'KEY<tab>LABEL<tab>PATH' or "
                f"'ALIGNED<tab>PATH<tab>LABEL', got {line[:60]!r}; mend it, or remove the file to "
                "go without names"
            )
        is_im2rec = _is_float(columns[1])
        key = int(columns[0]) if is_im2rec else number
        if key in paths:
            raise DataError(f"{path}:{number}: key {key} comes twice; mend it, or remove the file")
        paths[key] = columns[-1] if is_im2rec else columns[1]
    return paths


def read_property(path: Path) -> int:
    """Number of identities that a `property` file states, `N_IDENTITIES,HEIGHT,WIDTH`.

    Raises:
        DataError: it cannot be read, or is another.
    """
    line = next((line for _, line in _lines(path)), "")
    columns = [column.strip() for column in line.split(",")]
    if len(columns) < 3 or not all(map(_is_number, columns)):
        raise DataError(
            f"{path}: the file must be 'N_IDENTITIES,HEIGHT,WIDTH', got {line[:60]!r}; mend it, "
            "or "
            "remove it"
        )
    return int(columns[0])


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, numbered from 1."""
    number = 0
    try:
        with path.open("rb") as file:
            while raw := file.readline(_MAX_LINE):
                number += 1
                if len(raw) == _MAX_LINE:
                    raise DataError(f"{path}:{number}: a line has at most {_MAX_LINE} bytes")
                line = raw.decode("utf-8").rstrip("\r\n")
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: the file must be UTF-8 text, and is not") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refuse_repeated(path: Path, what: str, ascending: npt.NDArray[np.int64]) -> None:
    repeated = ascending[1:][ascending[1:] == ascending[:-1]]
    if len(repeated):
        raise DataError(
            f"{path}: each {what} must come once, and {repeated[0]} comes more often; without the "
            ".idx file the records are found by themselves"
        )
