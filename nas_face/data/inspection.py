"""Looking into every image of a data set once: its bytes, its header, how bright it is."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar, final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image

from nas_face.data.blobs import Blobs
from nas_face.data.images import decode_bytes, decode_upright, opened_image
from nas_face.data.jpeg import plain_jpeg_size
from nas_face.data.pixels import data_threads
from nas_face.errors import DataError

Progress = Callable[[int], None]
"""Called with the number of images that were finished since the last call."""

_T = TypeVar("_T")

_RUN = 16  # images that a thread takes at once
_CHUNK = 4096  # images handed to the threads at once
_SMALL = 256 * 256  # images up to this many pixels are looked at in full
_SIDE = 128  # larger ones in this size
# Pillow's modes (https://pillow.readthedocs.io, "Concepts") and simplejpeg's colour spaces.
_KINDS = {
    "1": "grey",
    "L": "grey",
    "Gray": "grey",
    "I": "16-bit",
    "LA": "transparent",
    "PA": "transparent",
    "RGBA": "transparent",
    "P": "palette",
    "CMYK": "CMYK",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InspectedImages:
    """What was seen of some images of a data set, in columns.

    Args:
        rows: which images, int64 `(N,)`.
        digests: of the encoded bytes, see `digest_of`, `(N,)`; empty where unreadable.
        size_bytes: encoded, int64 `(N,)`.
        heights: of the upright image in pixels, int64 `(N,)`; 0 where broken.
        widths: likewise.
        encodings: such as `JPEG`; empty where broken.
        kinds: `colour`, `grey`, `CMYK`, `16-bit`, `palette` or `transparent`; empty where broken.
        turned: bool `(N,)`, whether EXIF says that the pixels are stored turned or mirrored.
        brightness: mean luma in 0 to 255, float64 `(N,)`; NaN where broken.
        contrast: standard deviation of luma, float64 `(N,)`; NaN where broken.
        broken: why an image cannot be decoded, by row.
    """

    rows: npt.NDArray[np.int64]
    digests: npt.NDArray[np.bytes_]
    size_bytes: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]
    encodings: tuple[str, ...]
    kinds: tuple[str, ...]
    turned: npt.NDArray[np.bool_]
    brightness: npt.NDArray[np.float64]
    contrast: npt.NDArray[np.float64]
    broken: dict[int, str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    digest: bytes = b""
    size_bytes: int = 0
    height: int = 0
    width: int = 0
    encoding: str = ""
    kind: str = ""
    turned: bool = False
    brightness: float = float("nan")
    contrast: float = float("nan")
    broken: str | None = None


def inspect_images(
    blobs: Blobs, rows: npt.NDArray[np.int64] | None = None, *, on_progress: Progress | None = None
) -> InspectedImages:
    """Read, hash and decode images on all cores.

    Of an image of more than 256x256 pixels brightness and contrast are those of its centred
    square, brought to 128x128.

    Args:
        blobs: the images.
        rows: which of them, int64 `(N,)`; all by default.
        on_progress: called from this thread as images are done.

    Returns:
        What was seen. Broken images are named there; none ends it.
    """
    if rows is None:
        rows = np.arange(len(blobs), dtype=np.int64)
    seen = list(for_each_image(lambda row: _look(blobs, row), rows, on_progress=on_progress))
    return InspectedImages(
        rows=rows,
        digests=np.array([each.digest for each in seen], dtype="S16"),
        size_bytes=np.array([each.size_bytes for each in seen], dtype=np.int64),
        heights=np.array([each.height for each in seen], dtype=np.int64),
        widths=np.array([each.width for each in seen], dtype=np.int64),
        encodings=tuple(each.encoding for each in seen),
        kinds=tuple(each.kind for each in seen),
        turned=np.array([each.turned for each in seen], dtype=np.bool_),
        brightness=np.array([each.brightness for each in seen], dtype=np.float64),
        contrast=np.array([each.contrast for each in seen], dtype=np.float64),
        broken={
            int(row): each.broken
            for row, each in zip(rows, seen, strict=True)
            if each.broken is not None
        },
    )


def for_each_image(
    look: Callable[[int], _T],
    rows: npt.NDArray[np.int64],
    *,
    on_progress: Progress | None = None,
) -> Iterator[_T]:
    """Call `look(row)` for every row on all cores; results come in the order of `rows`."""

    def look_at(run: list[int]) -> list[_T]:
        return [look(row) for row in run]

    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK].tolist()
        runs = [chunk[first : first + _RUN] for first in range(0, len(chunk), _RUN)]
        for found in data_threads().map(look_at, runs):
            yield from found
            if on_progress is not None:
                on_progress(len(found))


def digest_of(data: bytes) -> bytes:
    """16 bytes by which equal files are known (BLAKE2b)."""
    return hashlib.blake2b(data, digest_size=16).digest()


def reason_of(error: DataError, blobs: Blobs, row: int) -> str:
    """Why an image cannot be had, without saying where it lies."""
    return str(error).removeprefix(f"{blobs.where(row)}: ")


def _look(blobs: Blobs, row: int) -> _Seen:
    try:
        data = blobs.read(row)
    except DataError as error:
        return _Seen(broken=reason_of(error, blobs, row))
    digest = digest_of(data)
    try:
        height, width, encoding, mode, turned = _header(data)
        if height * width <= _SMALL:
            pixels = decode_upright(data)
        else:
            pixels = decode_bytes(data, _SIDE, _SIDE)
    except DataError as error:
        return _Seen(digest=digest, size_bytes=len(data), broken=reason_of(error, blobs, row))
    brightness, contrast = _luma(pixels)
    return _Seen(
        digest=digest,
        size_bytes=len(data),
        height=height,
        width=width,
        encoding=encoding,
        kind=_KINDS.get(mode, "16-bit" if mode.startswith("I;") else "colour"),
        turned=turned,
        brightness=brightness,
        contrast=contrast,
    )


def _header(data: bytes) -> tuple[int, int, str, str, bool]:
    """Upright height and width, encoding, mode, and whether it is stored turned."""
    plain = plain_jpeg_size(data)
    if plain is not None:
        try:
            return *plain, "JPEG", simplejpeg.decode_jpeg_header(data)[2], False
        except ValueError:
            pass  # Pillow says what is wrong with it
    with opened_image(data) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        turned = orientation in range(2, 9)
        width, height = image.size[::-1] if turned and orientation >= 5 else image.size
        return height, width, image.format or "", image.mode, turned


def _luma(pixels: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of ITU-R 601 luma."""
    counts = np.array(Image.fromarray(pixels).convert("L").histogram(), dtype=np.float64)
    levels = np.arange(256)
    mean = float(counts @ levels / counts.sum())
    return mean, float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum()))
