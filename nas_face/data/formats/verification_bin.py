"""InsightFace's `.bin` verification sets: a pickle, read without running it."""

import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, final

import numpy as np
import numpy.typing as npt

from nas_face.data.blobs import Blobs, SpanBlobs
from nas_face.data.formats.atomic import replacing
from nas_face.data.formats.pickle_opcodes import read_pickle
from nas_face.data.formats.pickle_values import Array, Coding, Refused, Stretch, decode
from nas_face.data.listing import PairListing
from nas_face.data.pairs import DEFAULT_N_FOLDS, fold_order
from nas_face.errors import DataError

_LAYOUT = "a verification set is a pickle of (list of 2N encoded images, list of N booleans)"
_BATCH = 1000  # values appended at a time, as pickle itself does

_logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True, eq=False)
class CodedBlobs:
    """Stretches of a file of which some are escaped, as protocols 0 to 2 do.

    Args:
        spans: the stretches as they lie in the file.
        codings: how each is written.
    """

    spans: SpanBlobs
    codings: tuple[Coding, ...]

    def __len__(self) -> int:
        return len(self.spans)

    def read(self, row: int) -> bytes:
        try:
            return decode(self.spans.read(row), self.codings[row])
        except Refused as refused:
            raise DataError(f"{self.where(row)}: {refused}") from refused

    def where(self, row: int) -> str:
        return self.spans.where(row)


def list_bin(path: Path) -> PairListing:
    """List a `.bin` verification set; its images stay in the file.

    The pickle may be of Python 2 or 3, protocols 0 to 5: lists or tuples; images as strings, bytes
    or NumPy's arrays of bytes; booleans as such, as 0 and 1, as NumPy's, or as one array of them.
    Nothing in it is run: see `read_pickle`. Bytes after the pickle's end are an error.

    Args:
        path: the file.

    Returns:
        Images named `000000`, `000001`, ... by their place, each its own identity, as the format
        does not tell who is who; pair i is images 2i and 2i + 1, in 10 folds in the file's order.

    Raises:
        DataError: the file cannot be read, is not such a pickle, or has not two images for each
            boolean.

    Source:
        InsightFace, `recognition/arcface_torch/eval/verification.py`, `load_bin`.
    """
    value = read_pickle(path)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise DataError(f"{path}: the pickle is {_kind(value)}; {_LAYOUT}")
    images, same = value
    stretches = _stretches(path, images)
    truth = _truth(path, same)
    if len(stretches) != 2 * len(truth):
        raise DataError(
            f"{path}: {len(truth)} pairs need {2 * len(truth)} images, got {len(stretches)}; "
            f"{_LAYOUT}"
        )
    names = tuple(f"{row:06d}" for row in range(len(stretches)))
    return PairListing(
        path=path,
        blobs=_blobs(path, stretches),
        names=names,
        identities=names,
        first=np.arange(0, len(stretches), 2, dtype=np.int64),
        second=np.arange(1, len(stretches), 2, dtype=np.int64),
        same=truth,
        n_folds=DEFAULT_N_FOLDS,
    )


def write_bin(listing: PairListing, path: Path) -> None:
    """Write pairs as a `.bin` verification set, which `pickle.load` of Python 3 reads.

    Images are copied as they are, one that several pairs use several times. The file is written
    beside `path` and moved into place. Who is who and the images' names are lost, as the format
    has no place for them. Readers cut the set into 10 folds in order: a listing of 10 folds keeps
    its order, any other is dealt to 10 folds of equal composition.

    Args:
        listing: the pairs.
        path: the file; missing parent folders are made.

    Raises:
        DataError: there is no pair, an image cannot be read, or the file cannot be written.
    """
    n_pairs = len(listing.same)
    if n_pairs == 0:
        raise DataError(f"{listing.path}: the list of pairs is empty, and nothing can be written")
    order = np.arange(n_pairs)
    if listing.n_folds != DEFAULT_N_FOLDS:
        order = fold_order(listing.same, DEFAULT_N_FOLDS)
        _logger.info(
            "%s: the pairs are dealt to %d folds, as .bin files have", path, DEFAULT_N_FOLDS
        )
    with replacing(path) as partial, partial.open("wb") as file:
        _write_pickle(file, listing, order)


def _kind(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, Stretch):
        return "text" if value.is_text else "bytes"
    if isinstance(value, Array):
        return f"an array of type {value.code!r}"
    return repr(value) if isinstance(value, int | None) else "something else"


def _stretches(path: Path, images: object) -> list[Stretch]:
    if not isinstance(images, list | tuple):
        raise DataError(f"{path}: its images are {_kind(images)}; {_LAYOUT}")
    stretches = []
    for number, image in enumerate(images):
        content = image
        if isinstance(image, Array) and image.code == "u1":
            content = image.content
        if not isinstance(content, Stretch) or content.is_text:
            raise DataError(f"{path}: image {number} is not bytes but {_kind(image)}; {_LAYOUT}")
        stretches.append(content)
    return stretches


def _blobs(path: Path, stretches: Sequence[Stretch]) -> Blobs:
    spans = SpanBlobs(
        paths=(path,),
        files=np.zeros(len(stretches), dtype=np.int64),
        offsets=np.array([each.offset for each in stretches], dtype=np.int64),
        lengths=np.array([each.length for each in stretches], dtype=np.int64),
    )
    codings = tuple(each.coding for each in stretches)
    return spans if all(coding == "raw" for coding in codings) else CodedBlobs(spans, codings)


def _truth(path: Path, same: object) -> npt.NDArray[np.bool_]:
    values: list[object] | tuple[object, ...] | bytes
    if isinstance(same, Array) and same.code == "b1" and same.content is not None:
        values = _blobs(path, [same.content]).read(0)
    elif isinstance(same, list | tuple):
        values = same
    else:
        raise DataError(f"{path}: its booleans are {_kind(same)}; {_LAYOUT}")
    for number, value in enumerate(values):
        if type(value) not in (bool, int) or value not in (0, 1):
            raise DataError(f"{path}: boolean {number} is {_kind(value)}; {_LAYOUT}")
    return np.array([value == 1 for value in values], dtype=np.bool_)


_PROTOCOL: Final = b"\x80\x03"


def _write_pickle(file: BinaryIO, listing: PairListing, order: npt.NDArray[np.int64]) -> None:
    """Protocol 3, of which Python 3 makes bytes whatever encoding it is told."""
    file.write(_PROTOCOL + b"]")
    rows = np.stack((listing.first[order], listing.second[order]), axis=1).ravel()
    for start in range(0, len(rows), _BATCH):
        file.write(b"(")
        for row in rows[start : start + _BATCH]:
            image = listing.blobs.read(int(row))
            if len(image) < 2**8:
                file.write(b"C" + struct.pack("<B", len(image)))
            else:
                file.write(b"B" + struct.pack("<I", len(image)))
            file.write(image)
        file.write(b"e")
    file.write(b"](")
    file.write(b"".join(b"\x88" if same else b"\x89" for same in listing.same[order]))
    file.write(b"e\x86.")
