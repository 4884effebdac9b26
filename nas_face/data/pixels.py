"""Where pixels come from: a block of memory, or files decoded when they are asked for."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

import numpy as np
import numpy.typing as npt

from nas_face.data.images import decode_image
from nas_face.errors import DataError

DEFAULT_CACHE_BYTES = 4 * 1024**3
"""Decoded images are kept in memory up to this size: 114,000 images of 112x112."""

# Pillow decodes outside Python's global lock; beyond 8 threads the rest of the work holds the
# others up (assumed).
_N_THREADS = min(8, os.cpu_count() or 1)
# files handed to the threads at once, so that a million files do not become a million futures
_CHUNK = 4096


class PixelSource(Protocol):
    """Anything that yields images of one size by row number."""

    @property
    def height(self) -> int:
        """Rows of every image."""

    @property
    def width(self) -> int:
        """Columns of every image."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """A new array of images `(B, height, width, 3)`, for row numbers `(B,)`."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemoryPixels:
    """Decoded images in memory.

    Args:
        array: uint8, `(N, height, width, 3)`.
    """

    array: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.array.dtype != np.uint8 or self.array.ndim != 4 or self.array.shape[3] != 3:
            raise ValueError(
                "images must be uint8 of shape (N, height, width, 3), "
                f"got {self.array.dtype} of shape {self.array.shape}"
            )

    @property
    def height(self) -> int:
        return int(self.array.shape[1])

    @property
    def width(self) -> int:
        return int(self.array.shape[2])

    def __len__(self) -> int:
        return int(self.array.shape[0])

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        return self.array[rows]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FilePixels:
    """Image files, decoded by a few threads each time they are read."""

    paths: tuple[Path, ...]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        images = np.empty((len(rows), self.height, self.width, 3), dtype=np.uint8)

        def decode(position: int) -> None:
            images[position] = decode_image(self.paths[rows[position]], self.height, self.width)

        with ThreadPoolExecutor(_N_THREADS) as pool:
            list(pool.map(decode, range(len(rows))))
        return images


def open_pixels(
    paths: Sequence[Path], *, height: int, width: int, cache_bytes: int
) -> tuple[PixelSource, dict[int, str]]:
    """Decode every file once, keep the pixels if they fit, and say which files are broken.

    Images that do not fit are decoded all the same: hours into a training run is no time to meet a
    broken file.

    Args:
        paths: image files.
        height: rows of every image.
        width: columns of every image.
        cache_bytes: how much memory the decoded images may take; beyond it they are decoded on
            demand.

    Returns:
        The source, with one row a path, and the reason by row number of each that cannot be
        decoded.
    """
    fits = len(paths) * height * width * 3 <= cache_bytes
    cache = np.empty((len(paths) if fits else 0, height, width, 3), dtype=np.uint8)

    def decode(row: int) -> str | None:
        try:
            image = decode_image(paths[row], height, width)
        except DataError as error:
            return str(error).removeprefix(f"{paths[row]}: ")
        if fits:
            cache[row] = image
        return None

    broken: dict[int, str] = {}
    with ThreadPoolExecutor(_N_THREADS) as pool:
        for start in range(0, len(paths), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(paths)))
            for row, reason in zip(rows, pool.map(decode, rows), strict=True):
                if reason is not None:
                    broken[row] = reason
    if fits:
        return MemoryPixels(array=cache), broken
    return FilePixels(paths=tuple(paths), height=height, width=width), broken
