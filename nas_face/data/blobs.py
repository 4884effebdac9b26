"""Encoded images, wherever they lie: files, stretches of one file, memory."""

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol, Self, final

import numpy as np
import numpy.typing as npt

from nas_face.errors import DataError

MAX_IMAGE_BYTES = 256 * 1024**2
"""A larger file is not read into memory as one image."""

# aligned faces are smaller
_USUAL_BYTES = 64 * 1024


class Blobs(Protocol):
    """Encoded images by row number; any thread may read."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, row: int) -> bytes:
        """An image as it is stored, such as a JPEG file's bytes.

        Raises:
            DataError: it cannot be read.
        """

    def where(self, row: int) -> str:
        """Where an image lies, for messages."""


@final
@dataclass(frozen=True, slots=True)
class FileBlobs:
    """One file an image."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, row: int) -> bytes:
        path = self.paths[row]
        try:
            # Half of the time of pathlib's reading (measured).
            file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            try:
                data = os.read(file, _USUAL_BYTES)
                if len(data) < _USUAL_BYTES:
                    return data
                size = os.fstat(file).st_size
                if size > MAX_IMAGE_BYTES:
                    raise DataError(f"{path}: a file of {size} bytes is taken for no image")
                return data + os.read(file, size)
            finally:
                os.close(file)
        except FileNotFoundError as error:
            raise DataError(f"{path}: there is no such file") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error

    def where(self, row: int) -> str:
        return str(self.paths[row])


@final
@dataclass(frozen=True, slots=True, eq=False)
class SpanBlobs:
    """Stretches of files, such as the records of one.

    Args:
        paths: the files.
        files: which of them each image lies in, int64 `(N,)`.
        offsets: first byte of each image, int64 `(N,)`.
        lengths: bytes of each image, int64 `(N,)`.
    """

    paths: tuple[Path, ...]
    files: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, row: int) -> bytes:
        length = int(self.lengths[row])
        if length > MAX_IMAGE_BYTES:
            raise DataError(f"{self.where(row)}: {length} bytes are taken for no image")
        path: Path = self.paths[int(self.files[row])]
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(int(self.offsets[row]))
                found = file.read(length)
        except OSError as error:
            raise DataError(f"{self.where(row)}: cannot be read: {error.strerror}") from error
        if found is None or len(found) != length:
            raise DataError(f"{self.where(row)}: the file ends before its {length} bytes do")
        return found

    def where(self, row: int) -> str:
        return f"{self.paths[int(self.files[row])]} at byte {self.offsets[row]}"


@final
@dataclass(frozen=True, slots=True)
class MemoryBlobs:
    """Images that were read already.

    Args:
        images: one each.
        source: where they came from, for messages.
    """

    images: Sequence[bytes]
    source: str = "memory"

    def __len__(self) -> int:
        return len(self.images)

    def read(self, row: int) -> bytes:
        return self.images[row]

    def where(self, row: int) -> str:
        return f"{self.source}, image {row}"


@final
@dataclass(frozen=True, slots=True, eq=False)
class ChosenBlobs:
    """Some images of others.

    Args:
        blobs: the others.
        rows: of the chosen ones, int64 `(N,)`.
    """

    blobs: Blobs
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int) -> bytes:
        return self.blobs.read(int(self.rows[row]))

    def where(self, row: int) -> str:
        return self.blobs.where(int(self.rows[row]))


@final
@dataclass(frozen=True, slots=True, eq=False)
class ChainedBlobs:
    """The images of several, one after the other.

    Args:
        parts: the several.
        ends: row behind the last image of each part, ascending.
    """

    parts: tuple[Blobs, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, parts: Sequence[Blobs]) -> Self:
        return cls(tuple(parts), tuple(accumulate(map(len, parts))))

    def __len__(self) -> int:
        return self.ends[-1]

    def read(self, row: int) -> bytes:
        part, inner = self._place(row)
        return part.read(inner)

    def where(self, row: int) -> str:
        part, inner = self._place(row)
        return part.where(inner)

    def _place(self, row: int) -> tuple[Blobs, int]:
        at = bisect_right(self.ends, row)
        return self.parts[at], row - (self.ends[at - 1] if at else 0)
