"""MXNet's RecordIO: how records are framed in a file, and the header of an image record.

A record is the magic number, its length with a kind in the top three bits, its bytes, and zeros up
to a multiple of four. Wherever the bytes hold the magic number at a multiple of four, they are cut
there into parts, each framed so, and the magic number between them is left out.

Source: dmlc-core, `include/dmlc/recordio.h`; MXNet, `python/mxnet/recordio.py`.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.data.blobs import SpanBlobs
from nas_face.errors import DataError

MAX_RECORD_BYTES = 2**29 - 1

MAGIC = struct.pack("<I", 0xCED7230A)
_FRAME = struct.Struct("<4sI")
_HEADER = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_HEAD_BYTES = _FRAME.size + _HEADER.size + 8  # with the first two labels of many
_CHUNK = 65536  # records whose heads are looked at together

_Bytes = npt.NDArray[np.uint8]
_Index = npt.NDArray[np.int64]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Records:
    """What the frames and headers of some records say, in the order they were asked for.

    Args:
        spans: the content of each, without its header; of a record in parts, only where it begins.
        in_parts: byte at which each record in parts begins, by its number.
        flags: number of labels that follow the header, int64 `(N,)`; 0: the header has the label.
        labels: the first two labels, float32 `(N, 2)`; NaN where there are fewer.
        ids: what the header says, uint64 `(N,)`.
    """

    spans: SpanBlobs
    in_parts: Mapping[int, int]
    flags: _Index
    labels: npt.NDArray[np.float32]
    ids: npt.NDArray[np.uint64]


@final
@dataclass(frozen=True, slots=True, eq=False)
class JoinedBlobs:
    """Records of which some lie in parts.

    Args:
        spans: those that do not.
        in_parts: byte at which each record in parts begins, by its row.
    """

    spans: SpanBlobs
    in_parts: Mapping[int, int]

    def __len__(self) -> int:
        return len(self.spans)

    def read(self, row: int) -> bytes:
        if row not in self.in_parts:
            return self.spans.read(row)
        path = self.spans.paths[0]
        view = open_view(path)
        parts = _parts(path, view, self.in_parts[row])
        joined = MAGIC.join(view[start : start + length].tobytes() for start, length in parts)
        (n_labels,) = struct.unpack_from("<I", joined.ljust(4))
        if len(joined) < _HEADER.size + 4 * n_labels:
            raise DataError(f"{self.where(row)}: the record was changed since it was listed")
        return joined[_HEADER.size + 4 * n_labels :]

    def where(self, row: int) -> str:
        return f"{self.spans.paths[0]} at byte {self.in_parts.get(row, self.spans.offsets[row])}"


def open_view(path: Path) -> _Bytes:
    """The bytes of a file, read as they are looked at.

    Raises:
        DataError: it cannot be opened, or is empty.
    """
    try:
        return np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: the file is empty, and records are needed") from error


def scan(path: Path, view: _Bytes) -> _Index:
    """Where each record of a whole file begins; nothing may lie between or behind them.

    Raises:
        DataError: a frame is broken, or bytes are left over.
    """
    offsets: list[int] = []
    at = 0
    while at < len(view):
        offsets.append(at)
        for start, length in _parts(path, view, at):
            at = start + _padded(length)
    return np.array(offsets, dtype=np.int64)


def read_heads(path: Path, view: _Bytes, offsets: _Index) -> Records:
    """Look at frame and header of some records.

    Args:
        path: the file, for messages.
        view: its bytes.
        offsets: where each record begins, int64 `(N,)`, from 0.

    Raises:
        DataError: one does not begin there, does not end in the file, or has no header.
    """
    n_records = len(offsets)
    heads = np.zeros((n_records, _HEAD_BYTES), dtype=np.uint8)
    for start in range(0, n_records, _CHUNK):
        chunk = np.minimum(offsets[start : start + _CHUNK], len(view) - 1)
        places = np.minimum(chunk[:, None] + np.arange(_HEAD_BYTES), len(view) - 1)
        heads[start : start + _CHUNK] = view[places]
    words = heads[:, : _FRAME.size].copy().view("<u4").astype(np.int64)
    kinds, lengths = words[:, 1] >> 29, words[:, 1] & MAX_RECORD_BYTES
    good = (words[:, 0] == int.from_bytes(MAGIC, "little")) & (kinds == _WHOLE)
    good &= offsets + _FRAME.size + (lengths + 3 & ~3) <= len(view)
    in_parts: dict[int, int] = {}
    for row in np.flatnonzero(~good).tolist():
        begin = int(offsets[row])
        head, lengths[row] = _head_of_parts(path, view, begin)
        heads[row, _FRAME.size :] = np.frombuffer(head, dtype=np.uint8)
        in_parts[row] = begin

    flags = heads[:, 8:12].copy().view("<u4")[:, 0].astype(np.int64)
    skipped = _HEADER.size + 4 * flags
    short = np.flatnonzero(lengths < skipped)
    if len(short):
        row = int(short[0])
        raise DataError(
            f"{path} at byte {offsets[row]}: an image record begins with a header of "
            f"{_HEADER.size} "
            f"bytes and its labels, here {int(skipped[row])} bytes, and this record has "
            f"{int(lengths[row])}; the file was damaged or holds no images"
        )
    labels = heads[:, 32:40].copy().view("<f4").astype(np.float32)
    labels[flags == 1, 1] = np.nan
    single = heads[:, 12:16].copy().view("<f4")[:, 0]
    labels[flags == 0, 0] = single[flags == 0]
    labels[flags == 0, 1] = np.nan
    spans = SpanBlobs(
        paths=(path,),
        files=np.zeros(n_records, dtype=np.int64),
        offsets=offsets + _FRAME.size + skipped,
        lengths=lengths - skipped,
    )
    ids = heads[:, 16:24].copy().view("<u8")[:, 0].astype(np.uint64)
    return Records(spans=spans, in_parts=in_parts, flags=flags, labels=labels, ids=ids)


def frame(content: bytes) -> bytes:
    """A record as it stands in a file, in parts where it must be.

    Raises:
        DataError: it is longer than `MAX_RECORD_BYTES`.
    """
    if len(content) > MAX_RECORD_BYTES:
        raise DataError(
            f"a record has at most {MAX_RECORD_BYTES} bytes, and an image needs {len(content)}"
        )
    cuts = []
    found = content.find(MAGIC)
    while found >= 0:
        if found % 4 == 0:
            cuts.append(found)
        found = content.find(MAGIC, found + (4 if found % 4 == 0 else 1))
    if not cuts:
        return _framed(_WHOLE, content)
    starts = [0, *(cut + 4 for cut in cuts)]
    ends = [*cuts, len(content)]
    kinds = [_FIRST, *[_MIDDLE] * (len(cuts) - 1), _LAST]
    parts = zip(kinds, starts, ends, strict=True)
    return b"".join(_framed(kind, content[start:end]) for kind, start, end in parts)


def with_header(key: int, labels: tuple[float, ...], content: bytes) -> bytes:
    """An image record's bytes, before they are framed.

    Args:
        key: its number.
        labels: one, or several.
        content: the image.
    """
    if len(labels) == 1:
        return _HEADER.pack(0, labels[0], key, 0) + content
    numbers = np.array(labels, dtype="<f4").tobytes()
    return _HEADER.pack(len(labels), 0.0, key, 0) + numbers + content


def _framed(kind: int, content: bytes) -> bytes:
    padding = bytes(_padded(len(content)) - len(content))
    return _FRAME.pack(MAGIC, kind << 29 | len(content)) + content + padding


def _padded(length: int) -> int:
    return length + 3 & ~3


def _parts(path: Path, view: _Bytes, begin: int) -> Iterator[tuple[int, int]]:
    """Where each part's bytes begin, and how many there are."""
    at, expected = begin, (_WHOLE, _FIRST)
    while True:
        if at + _FRAME.size > len(view):
            raise DataError(
                f"{path} at byte {at}: a record should begin here, and the file has "
                f"{max(0, len(view) - at)} more bytes; it was cut short, or its .idx is another's"
            )
        magic, word = _FRAME.unpack(view[at : at + _FRAME.size].tobytes())
        kind, length = word >> 29, word & MAX_RECORD_BYTES
        if magic != MAGIC:
            raise DataError(
                f"{path} at byte {at}: a record begins with {MAGIC.hex()}, found {magic.hex()}; "
                "the file was damaged, is of another kind, or its .idx is another's"
            )
        if kind not in expected:
            raise DataError(
                f"{path} at byte {at}: this part of a record must be of kind "
                f"{' or '.join(map(str, expected))}, found {kind}; the file was damaged, or its "
                ".idx is another's"
            )
        start = at + _FRAME.size
        at = start + _padded(length)
        if at > len(view):
            raise DataError(
                f"{path} at byte {start}: a record of {length} bytes should follow, and the file "
                f"has only {len(view) - start} more; it was cut short, fetch it anew"
            )
        yield start, length
        if kind in (_WHOLE, _LAST):
            return
        expected = (_MIDDLE, _LAST)


def _head_of_parts(path: Path, view: _Bytes, begin: int) -> tuple[bytes, int]:
    """The first bytes of a record in parts, zeros behind its end, and its length."""
    wanted = _HEAD_BYTES - _FRAME.size
    head, total = b"", -len(MAGIC)
    for start, length in _parts(path, view, begin):
        if len(head) < wanted:
            head += (MAGIC if total >= 0 else b"") + view[
                start : start + min(length, wanted)
            ].tobytes()
        total += len(MAGIC) + length
    return head[:wanted].ljust(wanted, b"\0"), total
