"""Where pixels come from: a block of memory, or encoded images decoded when they are asked for."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import numpy.typing as npt

from nas_face.data.blobs import Blobs
from nas_face.data.images import decode_into
from nas_face.errors import DataError

DEFAULT_CACHE_BYTES = 4 * 1024**3
"""Decoded images are kept in memory up to this size: 114,000 images of 112x112."""

RUN = 16
"""Images that a thread decodes between two visits to the queue."""

# images handed to the threads at once, so that a million do not become as many waiting tasks
_CHUNK = 4096


@functools.cache
def data_threads() -> ThreadPoolExecutor:
    """The threads that read, decode and mirror images: one a core, for all of the process.

    They never wait for one another, so any thread but themselves may wait for them.
    """
    try:
        n_cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        n_cores = os.cpu_count() or 1
    return ThreadPoolExecutor(n_cores, thread_name_prefix="nas_face_data")


if hasattr(os, "register_at_fork"):  # a forked process has none of its parent's threads
    os.register_at_fork(after_in_child=data_threads.cache_clear)


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

    def read_into(self, rows: npt.NDArray[np.int64], images: npt.NDArray[np.uint8]) -> None:
        """Write images into a contiguous array of that shape, in the calling thread."""


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

    def read_into(self, rows: npt.NDArray[np.int64], images: npt.NDArray[np.uint8]) -> None:
        np.take(self.array, rows, axis=0, out=images, mode="wrap")  # "raise" would copy twice


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlobPixels:
    """Encoded images, decoded each time they are read."""

    blobs: Blobs
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.blobs)

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        images = np.empty((len(rows), self.height, self.width, 3), dtype=np.uint8)
        starts = range(0, len(rows), RUN)

        def decode(start: int) -> None:
            run = slice(start, start + RUN)
            self.read_into(rows[run], images[run])

        list(data_threads().map(decode, starts))
        return images

    def read_into(self, rows: npt.NDArray[np.int64], images: npt.NDArray[np.uint8]) -> None:
        for image, row in zip(images, rows.tolist(), strict=True):
            data = self.blobs.read(row)
            try:
                decode_into(data, image)
            except DataError as error:
                raise DataError(f"{self.blobs.where(row)}: {error}") from error


def open_pixels(
    blobs: Blobs, *, height: int, width: int, cache_bytes: int
) -> tuple[PixelSource, dict[int, str]]:
    """Decode every image once, keep the pixels if they fit, and say which images are broken.

    Images that do not fit are decoded all the same: hours into a training run is no time to meet a
    broken one.

    Args:
        blobs: the images.
        height: rows of every image, at least 1.
        width: columns of every image, at least 1.
        cache_bytes: how much memory the decoded images may take; beyond it they are decoded on
            demand.

    Returns:
        The source, with a row for each image, and the reason by row number of each that cannot be
        decoded.

    Raises:
        ValueError: `height` or `width` is below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"an image needs height and width of at least 1, got {height}x{width}")
    n_images = len(blobs)
    fits = n_images * height * width * 3 <= cache_bytes
    cache = np.empty((n_images if fits else 0, height, width, 3), dtype=np.uint8)

    def decode(start: int) -> list[tuple[int, str]]:
        scratch = np.empty((height, width, 3), dtype=np.uint8)
        broken = []
        for row in range(start, min(start + RUN, n_images)):
            try:
                decode_into(blobs.read(row), cache[row] if fits else scratch)
            except DataError as error:
                broken.append((row, str(error).removeprefix(f"{blobs.where(row)}: ")))
        return broken

    broken: dict[int, str] = {}
    for start in range(0, n_images, _CHUNK):
        runs = range(start, min(start + _CHUNK, n_images), RUN)
        for found in data_threads().map(decode, runs):
            broken.update(found)
    if fits:
        return MemoryPixels(array=cache), broken
    return BlobPixels(blobs=blobs, height=height, width=width), broken
