"""Lines of whole numbers, many millions of them."""

import itertools
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from nas_face.errors import DataError

_BLOCK_BYTES = 1 << 21
_MAX_LINE_BYTES = 1 << 16
_MAX_DIGITS = 18  # so many always fit 64 bits

_Index = npt.NDArray[np.int64]


def read_whole_numbers(path: Path, n_columns: int, form: str) -> _Index:
    """Read lines of whole numbers, separated by blanks or tabs; blank lines are skipped.

    Args:
        path: the file.
        n_columns: numbers on each line.
        form: what a line looks like, for messages.

    Returns:
        int64 `(n_lines, n_columns)`.

    Raises:
        DataError: the file cannot be read, or a line is of another form.
    """
    line, n_rows = 1, 0
    try:
        with path.open("rb") as file:
            # column by column, since that is how they are used
            table = np.empty((n_columns, _max_lines(file)), dtype=np.int64)
            file.seek(0)
            while block := file.read(_BLOCK_BYTES):
                rest = file.readline(_MAX_LINE_BYTES)
                if len(rest) == _MAX_LINE_BYTES:
                    line += block.count(b"\n")
                    raise DataError(f"{path}:{line}: a line is '{form}', and this has no end")
                block += rest
                rows = _regular(block, n_columns)
                if rows is None:
                    rows = _irregular(path, block, line, n_columns, form)
                table[:, n_rows : n_rows + len(rows)] = rows.T
                n_rows += len(rows)
                line += block.count(b"\n")
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such list") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return table[:, :n_rows].T


def line_of_row(path: Path, row: int) -> int:
    """Number of the line, from 1, that a row of `read_whole_numbers` comes from; for messages."""
    with path.open("rb") as file:
        filled = (number for number, line in enumerate(file, start=1) if line.strip())
        return next(itertools.islice(filled, row, None))


def _max_lines(file: BinaryIO) -> int:
    n_lines = 1
    while block := file.read(_BLOCK_BYTES):
        n_lines += block.count(b"\n")
    return n_lines


def _regular(block: bytes, n_columns: int) -> _Index | None:
    """The numbers of lines that are all of the right form; None if any is not."""
    text = np.frombuffer(block, dtype=np.uint8)
    digit = (text >= ord("0")) & (text <= ord("9"))
    newline = text == ord("\n")
    blank = (text == ord(" ")) | (text == ord("\t")) | (text == ord("\r"))
    if not (digit | newline | blank).all():
        return None
    edges = np.flatnonzero(np.diff(digit.view(np.int8), prepend=0, append=0))
    starts, ends = edges[::2], edges[1::2]
    n_lines = int(np.count_nonzero(newline)) + (not newline[-1])
    if len(starts) != n_lines * n_columns or (ends - starts).max() > _MAX_DIGITS:
        return None
    # The line ends lie between the last number of a line and the first one of the next.
    line_ends = np.flatnonzero(newline)
    n_inner = n_lines - 1
    last, following = ends[n_columns - 1 :: n_columns], starts[n_columns::n_columns]
    if (last[:n_inner] > line_ends[:n_inner]).any() or (following < line_ends[:n_inner]).any():
        return None
    n_digits = ends - starts
    numbers = np.zeros(len(starts), dtype=np.int64)
    for place in range(int(n_digits.max())):
        longer = n_digits > place
        digits = text[starts + place * longer] - np.uint8(ord("0"))
        numbers = np.where(longer, 10 * numbers + digits, numbers)
    return numbers.reshape(n_lines, n_columns)


def _irregular(path: Path, block: bytes, line: int, n_columns: int, form: str) -> _Index:
    """The same line by line, with blank ones and signs; slow, and it knows which line is wrong."""
    rows = []
    for number, text in enumerate(block.split(b"\n"), start=line):
        fields = text.split()
        if not fields:
            continue
        if len(fields) != n_columns:
            raise DataError(f"{path}:{number}: a line is '{form}', got {len(fields)} fields")
        try:
            values = [int(field) for field in fields]
        except ValueError as error:
            raise DataError(
                f"{path}:{number}: a line is '{form}' in whole numbers, "
                f"got {text.decode(errors='replace').strip()[:80]!r}"
            ) from error
        if not all(-(2**63) <= value < 2**63 for value in values):
            raise DataError(f"{path}:{number}: a number does not fit 64 bits")
        rows.append(values)
    return np.array(rows, dtype=np.int64).reshape(-1, n_columns)
