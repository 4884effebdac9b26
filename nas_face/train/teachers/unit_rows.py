"""Vectors of unit length in a `.npy` file that grows until it is whole."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

DTYPE = np.dtype("<f2")
MAX_LENGTH_ERROR = 1e-2
"""Numbers of a unit vector are rounded to 11 bits, so its length is off by less."""

UnitRows = NDArray[np.float16]

_ROWS = 256  # that are read at once


def opened(path: Path, shape: tuple[int, int]) -> UnitRows | None:
    """A view on disk; None where there is none, or another."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == DTYPE else None


@contextlib.contextmanager
def appending(path: Path, shape: tuple[int, int]) -> Iterator[tuple[BinaryIO, int]]:
    """A `.npy` file that grows by rows, behind those that it has; and how many these are.

    It is written, not mapped: to run out of disk in a map kills the process.
    """
    with open(path, "ab+") as file:
        row_bytes = shape[1] * DTYPE.itemsize
        n_done = _whole_rows(file, shape)
        if n_done is None:
            file.truncate(0)
            np.lib.format.write_array_header_1_0(
                file, {"descr": DTYPE.str, "fortran_order": False, "shape": shape}
            )
            n_done = 0
        else:
            file.truncate(file.tell() + n_done * row_bytes)
        yield file, n_done


def _whole_rows(file: BinaryIO, shape: tuple[int, int]) -> int | None:
    """Rows of unit length at the start of a file, whose position is left behind its header; None
    where the header is of another array."""
    file.seek(0)
    try:
        np.lib.format.read_magic(file)
        found = np.lib.format.read_array_header_1_0(file)
    except ValueError:
        return None
    if found != (shape, False, DTYPE):
        return None
    start = file.tell()
    n_rows = 0
    while data := file.read(_ROWS * shape[1] * DTYPE.itemsize):
        n_whole = len(data) // (shape[1] * DTYPE.itemsize)
        block = np.frombuffer(data, DTYPE, n_whole * shape[1]).reshape(n_whole, shape[1])
        lengths = np.linalg.norm(block.astype(np.float32), axis=1)
        sound = np.abs(lengths - 1) < MAX_LENGTH_ERROR
        n_rows += n_whole if sound.all() else int(np.argmin(sound))
        if not sound.all():
            break
    file.seek(start)
    return min(n_rows, shape[0])
