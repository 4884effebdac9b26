"""InsightFace's record files: `train.rec` with `.idx`, `.lst` and `property` beside it."""

import logging
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas_face.data.blobs import Blobs, SpanBlobs
from nas_face.data.formats.atomic import replacing
from nas_face.data.formats.record_index import read_idx, read_lst, read_property
from nas_face.data.formats.recordio import (
    JoinedBlobs,
    Records,
    frame,
    open_view,
    read_heads,
    scan,
    with_header,
)
from nas_face.data.images import opened_image
from nas_face.data.listing import FaceListing
from nas_face.errors import DataError

_EXACT = 2**24  # whole numbers up to it are exact as float32, which is what labels are
_MAX_LABEL = 2**31

_Index = npt.NDArray[np.int64]

_logger = logging.getLogger(__name__)


def list_records(path: Path) -> FaceListing:
    """List a record file of InsightFace's or of plain im2rec; its images stay in the file.

    With an `.idx` beside it the records are found by that, and bytes that it does not point at are
    not looked at. Without one the file is read through, records must follow each other up to its
    end, and their keys are the numbers in their headers, or where these repeat their places from
    0.

    If record 0 has no image but two labels, these are the first key of the identities' header
    records and the one behind the last: InsightFace's layout. The records before them are images.
    Otherwise all are.

    An identity is called by its label as a whole number. Where an `.lst` beside the file has a
    path `IDENTITY/FILE` for every image, and one identity for each label, those names are used.

    Args:
        path: the `.rec` file, its `.idx`, or a folder with `train.rec` or only one `.rec` file.

    Returns:
        The images in the order of their keys, named `IDENTITY/KEY.jpg`, or as the `.lst` says.

    Raises:
        DataError: a file is missing, cut short or contradicts itself.

    Source:
        InsightFace, `recognition/_datasets_` and `arcface_torch/dataset.py`, `MXFaceDataset`.
    """
    rec = _record_file(path)
    view = open_view(rec)
    index_file = rec.with_suffix(".idx")
    if path.suffix == ".idx" or index_file.is_file():
        index = read_idx(index_file)
        keys = index.keys
        records = read_heads(rec, view, index.offsets)
    else:
        records = read_heads(rec, view, scan(rec, view))
        keys = _own_keys(records)
    order = np.argsort(keys, kind="stable")
    rows = order[_is_image(rec, keys, records)[order]]
    if not len(rows):
        raise DataError(f"{rec}: none of its {len(keys)} records is an image")
    labels = _identity_labels(rec, keys, records, rows)
    _compare_property(rec, labels)
    identities, names = _names(rec, keys[rows].tolist(), labels)
    return FaceListing(root=path, blobs=_blobs(records, rows), names=names, identities=identities)


def write_records(listing: FaceListing, path: Path) -> None:
    """Write faces as a record file in InsightFace's layout, images as they are.

    Record 0 states where the identities' header records are; images have the keys from 1, those of
    an identity one after another, identities in the order of their first image, their labels from
    0; then comes a header record for each identity with its first key and the one behind its last.
    Beside `NAME.rec` come `NAME.idx`, `NAME.lst` with the names, and, where no other `.rec` file
    is in the folder, `property`. All are written first and then moved into place.

    Args:
        listing: the faces.
        path: the `.rec` file, or a folder, for `train.rec` in it.

    Raises:
        DataError: there is no image, one cannot be read, none can be decoded (`property` needs
            their size), a name does not fit in a line, there are more records than the layout can
            number (2^24), or a file cannot be written.
    """
    rec = path if path.suffix.lower() == ".rec" else path / "train.rec"
    label_of: dict[str, int] = {}
    labels = np.array(
        [label_of.setdefault(who, len(label_of)) for who in listing.identities], dtype=np.int64
    )
    if not len(labels):
        raise DataError(f"{listing.root}: there is no image, and no record file can be written")
    if 1 + len(labels) + len(label_of) > _EXACT:
        raise DataError(
            f"{rec}: this layout numbers at most {_EXACT:,} records, got {len(labels):,} images "
            f"of {len(label_of):,} identities; write several files"
        )
    lst = _lst_lines(listing, labels)
    with ExitStack() as stack:
        # Moved into place in the opposite order: an old index must not outlive the new file.
        partial_rec, partial_lst, partial_idx = (
            stack.enter_context(replacing(file))
            for file in (rec, rec.with_suffix(".lst"), rec.with_suffix(".idx"))
        )
        offsets = _write_rec(partial_rec, listing, labels)
        lines = (f"{key}\t{offset}\n" for key, offset in enumerate(offsets))
        partial_idx.write_text("".join(lines), encoding="ascii", newline="\n")
        partial_lst.write_text(lst, encoding="utf-8", newline="\n")
        if _is_alone(rec):
            height, width = _image_size(listing)
            stack.enter_context(replacing(rec.with_name("property"))).write_text(
                f"{len(label_of)},{height},{width}", encoding="ascii"
            )


def _record_file(path: Path) -> Path:
    if not path.is_dir():
        return path.with_suffix(".rec") if path.suffix == ".idx" else path
    if (path / "train.rec").is_file():
        return path / "train.rec"
    found = sorted(path.glob("*.rec"))
    if len(found) != 1:
        raise DataError(
            f"{path}: a folder of records must have train.rec or only one .rec file, found "
            f"{len(found)}; name the file"
        )
    return found[0]


def _own_keys(records: Records) -> _Index:
    """The numbers in the headers if they are all different, else the records' places."""
    ids = records.ids
    if len(np.unique(ids)) == len(ids) and ids.max() < 2**63:
        return ids.astype(np.int64)
    return np.arange(len(ids), dtype=np.int64)


def _is_image(rec: Path, keys: _Index, records: Records) -> npt.NDArray[np.bool_]:
    lengths = records.spans.lengths
    zero = np.flatnonzero(keys == 0)
    if not len(zero) or records.flags[zero[0]] < 2 or lengths[zero[0]] > 0:
        return np.ones(len(keys), dtype=np.bool_)
    first, end = records.labels[zero[0]].tolist()
    if not (1 <= first <= end < _MAX_LABEL) or first % 1 or end % 1:
        raise DataError(
            f"{rec}: record 0 must state the keys of the identities' header records, whole "
            "numbers "
            f"from 1, got {first:g} to {end:g}; the file was damaged"
        )
    if first >= _EXACT:  # rounded when it was written
        rounded: npt.NDArray[np.bool_] = (lengths > 0) | (keys > 0) & (keys < first - 2)
        return rounded
    wrong = np.flatnonzero((keys >= first) & (lengths > 0))
    if len(wrong):
        raise DataError(
            f"{rec}: record 0 says that images have keys below {first:g}, and record "
            f"{keys[wrong[0]]} is one; the file was damaged, or its .idx is another's"
        )
    exact: npt.NDArray[np.bool_] = (keys > 0) & (keys < first)
    return exact


def _identity_labels(rec: Path, keys: _Index, records: Records, rows: _Index) -> _Index:
    labels = records.labels[rows, 0]
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(~((labels >= 0) & (labels < _MAX_LABEL) & (labels % 1 == 0)))
    if len(wrong):
        raise DataError(
            f"{rec}: record {keys[rows[wrong[0]]]}: an identity's label is a whole number from 0, "
            f"got {labels[wrong[0]]:g} ({len(wrong)} of {len(rows)} are); the file was damaged or "
            "is not of faces"
        )
    whole: _Index = labels.astype(np.int64)
    return whole


def _compare_property(rec: Path, labels: _Index) -> None:
    path = rec.with_name("property")
    if not path.is_file() or not _is_alone(rec):
        return
    present = np.unique(labels)
    stated, found = read_property(path), len(present)
    if stated == found:
        return
    gap = ""
    if present[-1] < stated:  # labels from 0, as InsightFace's are
        first = int(np.argmin(np.append(present, -1) == np.arange(found + 1)))
        gap = f"; label {first}, for one, has no image"
    _logger.warning(
        "%s: states %d identities, and the records show %d%s", path, stated, found, gap
    )


def _is_alone(rec: Path) -> bool:
    return all(path.name == rec.name for path in rec.parent.glob("*.rec"))


def _blobs(records: Records, rows: _Index) -> Blobs:
    spans = records.spans
    chosen = SpanBlobs(
        paths=spans.paths,
        files=spans.files[rows],
        offsets=spans.offsets[rows],
        lengths=spans.lengths[rows],
    )
    in_parts = {
        new: records.in_parts[row]
        for new, row in enumerate(rows.tolist())
        if row in records.in_parts
    }
    return JoinedBlobs(chosen, in_parts) if in_parts else chosen


def _names(rec: Path, keys: list[int], labels: _Index) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The identity and the name of each image."""
    numbers = labels.tolist()
    path = rec.with_suffix(".lst")
    if path.is_file():
        paths = read_lst(path)
        parts = [paths.get(key, "").replace("\\", "/").split("/")[-2:] for key in keys]
        folders = tuple(part[0] if len(part) == 2 else "" for part in parts)
        n_couples = len(set(zip(numbers, folders, strict=True)))
        if all(folders) and len(set(folders)) == len(set(numbers)) == n_couples:
            names = tuple("/".join(part) for part in parts)
            if len(set(names)) < len(names) or not all(part[1] for part in parts):
                names = tuple(f"{who}/{key}.jpg" for who, key in zip(folders, keys, strict=True))
            return folders, names
        _logger.warning(
            "%s: not used, as it has no path IDENTITY/FILE for every image with one identity for "
            "each label; identities are called by their labels",
            path,
        )
    identities = tuple(map(str, numbers))
    return identities, tuple(f"{who}/{key}.jpg" for who, key in zip(identities, keys, strict=True))


def _write_rec(path: Path, listing: FaceListing, labels: _Index) -> list[int]:
    """Write the records; the byte at which each begins."""
    order = np.argsort(labels, kind="stable")
    n_images, counts = len(labels), np.bincount(labels)
    first = n_images + 1
    ends = (np.cumsum(counts) + 1).tolist()
    offsets: list[int] = []
    with path.open("wb") as file:

        def write(labels: tuple[float, ...], content: bytes) -> None:
            offsets.append(file.tell())
            file.write(frame(with_header(len(offsets) - 1, labels, content)))

        write((first, first + len(counts)), b"")
        for row in order.tolist():
            write((int(labels[row]),), listing.blobs.read(row))
        for end, count in zip(ends, counts.tolist(), strict=True):
            write((end - count, end), b"")
    return offsets


def _lst_lines(listing: FaceListing, labels: _Index) -> str:
    lines = []
    for key, row in enumerate(np.argsort(labels, kind="stable").tolist(), start=1):
        identity, file = listing.identities[row], listing.names[row].rpartition("/")[2]
        joined = f"{identity}/{file}"
        if not identity or not file or "/" in identity or not _is_one_column(joined):
            raise DataError(
                f"{listing.root}: an .lst file takes names of one line without tabs, and "
                f"identities without '/', got {identity!r} and {file!r}; rename them"
            )
        lines.append(f"{key}\t{labels[row]}\t{joined}\n")
    return "".join(lines)


def _is_one_column(text: str) -> bool:
    return "\t" not in text and text.splitlines() == [text] and text == text.strip()


def _image_size(listing: FaceListing) -> tuple[int, int]:
    """Height and width of the first image that can be opened."""
    reason = ""
    for row in range(len(listing.blobs)):
        try:
            with opened_image(listing.blobs.read(row)) as image:
                return image.height, image.width
        except DataError as error:
            reason = reason or str(error)
    raise DataError(f"{listing.root}: none of its images can be opened, the first: {reason}")
