"""IJB-style lists: images by template and medium, pairs of templates, faces that were found."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt

from nas_face.data.blobs import Blobs, FileBlobs
from nas_face.data.formats.number_lines import line_of_row, read_whole_numbers
from nas_face.data.formats.pair_lines import is_file, refuse_line_breaks
from nas_face.errors import DataError

_N_POINTS = 5

_Index = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TemplateListing:
    """Encoded images by template, and pairs of templates.

    Args:
        path: the list of images.
        blobs: the images, most often loose crops; they are to be aligned by `landmarks`.
        names: of each image, as the list has it; an image may occur in several templates.
        template_ids: of each image, int64 `(N,)`.
        media_ids: the photo or video that each image comes from, int64 `(N,)`.
        first: template of each pair, int64 `(P,)`; each has at least one image.
        second: likewise.
        same: bool `(P,)`.
        detector_scores: how sure the detector is of each face, float64 `(N,)`, or None.
        landmarks: eyes, nose and mouth corners as (x, y) in pixels of the image, float64
            `(N, 5, 2)`, or None.
    """

    path: Path
    blobs: Blobs
    names: tuple[str, ...]
    template_ids: _Index
    media_ids: _Index
    first: _Index
    second: _Index
    same: npt.NDArray[np.bool_]
    detector_scores: _Floats | None
    landmarks: _Floats | None


def list_templates(
    images_file: Path, pairs_file: Path, root: Path, *, points_file: Path | None = None
) -> TemplateListing:
    """Read the lists of an IJB-style set; fields are separated by blanks or tabs.

    Args:
        images_file: lines `image template medium`, such as `ijbc_face_tid_mid.txt`.
        pairs_file: lines `template template label`, label 1 for the same identity and 0 for
            different ones, such as `ijbc_template_pair_label.txt`. 15 million lines take some
            seconds and about 400 MB.
        root: what image names are relative to.
        points_file: lines `image x1 y1 x2 y2 x3 y3 x4 y4 x5 y5 score`, one for each image in any
            order, such as `ijbc_name_5pts_score.txt`.

    Returns:
        The listing. Images are not opened.

    Raises:
        DataError: a file is missing or does not keep to the format, a pair names a template
            without images, all pairs are of one kind, an image has no points, or the first image
            is not there.

    Source:
        InsightFace's layout of IJB-B and IJB-C, recognition/arcface_torch/eval_ijbc.py.
    """
    names, template_ids, media_ids = _read_images(images_file)
    if not is_file(root / names[0]):
        raise DataError(
            f"{images_file}:1: image {root / names[0]} is missing; "
            f"is {root} the folder that the names start from?"
        )
    pairs = read_whole_numbers(pairs_file, 3, "template template label")
    _check_pairs(pairs_file, pairs, images_file, template_ids)
    scores = landmarks = None
    if points_file is not None:
        landmarks, scores = _read_points(points_file, names)
    return TemplateListing(
        path=images_file,
        blobs=FileBlobs(tuple(root / name for name in names)),
        names=names,
        template_ids=template_ids,
        media_ids=media_ids,
        first=pairs[:, 0],
        second=pairs[:, 1],
        same=pairs[:, 2] == 1,
        detector_scores=scores,
        landmarks=landmarks,
    )


def list_template_folder(root: Path) -> TemplateListing:
    """Read a set as IJB-B and IJB-C are laid out: lists in `meta`, images in `loose_crop`.

    Args:
        root: the folder; lists may also lie in it directly, and so may the images.

    Returns:
        See `list_templates`; with points if there is a `*_name_5pts_score.txt`.

    Raises:
        DataError: a list is missing, or there are several; or see `list_templates`.
    """
    meta = root / "meta" if (root / "meta").is_dir() else root
    images = root / "loose_crop" if (root / "loose_crop").is_dir() else root
    points = sorted(meta.glob("*_name_5pts_score.txt"))
    return list_templates(
        _only_one(meta, "*_face_tid_mid.txt"),
        _only_one(meta, "*_template_pair_label.txt"),
        images,
        points_file=_only_one(meta, "*_name_5pts_score.txt") if points else None,
    )


def _only_one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise DataError(f"{folder}: one file must be named {pattern}, got {len(found)}")
    return found[0]


def _lines(path: Path, n_fields: int, form: str) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line that is not blank; blanks within the first field are kept."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                fields = line.strip().rsplit(None, n_fields - 1)
                if len(fields) not in (0, n_fields):
                    raise DataError(
                        f"{path}:{number}: a line is '{form}', got {len(fields)} fields"
                    )
                if fields:
                    yield number, fields
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such list") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a list is UTF-8 text, and this is not") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _read_images(path: Path) -> tuple[tuple[str, ...], _Index, _Index]:
    names: list[str] = []
    ids: list[tuple[int, int]] = []
    for number, (name, template, medium) in _lines(path, 3, "image template medium"):
        refuse_line_breaks(path, number, name)
        try:
            ids.append((int(template), int(medium)))
        except ValueError as error:
            raise DataError(
                f"{path}:{number}: template and medium are whole numbers, "
                f"got {template!r} and {medium!r}"
            ) from error
        names.append(name)
    if not names:
        raise DataError(f"{path}: the list of images is empty")
    try:
        columns = np.array(ids, dtype=np.int64)
    except OverflowError as error:
        raise DataError(f"{path}: an id does not fit 64 bits") from error
    return tuple(names), columns[:, 0], columns[:, 1]


def _check_pairs(path: Path, pairs: _Index, images_file: Path, template_ids: _Index) -> None:
    if not len(pairs):
        raise DataError(f"{path}: the list of pairs is empty")
    known = np.unique(template_ids)
    for column in (0, 1):
        places = np.searchsorted(known, pairs[:, column]).clip(max=len(known) - 1)
        missing = np.flatnonzero(known[places] != pairs[:, column])
        if len(missing):
            raise DataError(
                f"{path}:{line_of_row(path, int(missing[0]))}: template "
                f"{pairs[missing[0], column]} has no image in {images_file} "
                f"({len(missing)} of {len(pairs)} pairs have such a template)"
            )
    wrong = np.flatnonzero((pairs[:, 2] != 0) & (pairs[:, 2] != 1))
    if len(wrong):
        raise DataError(
            f"{path}:{line_of_row(path, int(wrong[0]))}: the label must be 1 or 0, "
            f"got {pairs[wrong[0], 2]}"
        )
    n_same = int(np.count_nonzero(pairs[:, 2]))
    if n_same in (0, len(pairs)):
        raise DataError(
            f"{path}: both same and different pairs are needed, got {n_same} same and "
            f"{len(pairs) - n_same} different"
        )


def _read_points(path: Path, names: tuple[str, ...]) -> tuple[_Floats, _Floats]:
    """Landmarks `(N, 5, 2)` and detector scores `(N,)` in the order of the images."""
    n_numbers = 2 * _N_POINTS + 1
    row_of: dict[str, int] = {}
    numbers: list[list[float]] = []
    for number, (name, *fields) in _lines(path, n_numbers + 1, "image x1 y1 ... x5 y5 score"):
        try:
            values = [float(field) for field in fields]
        except ValueError as error:
            raise DataError(f"{path}:{number}: not a number: {error}") from error
        if not all(map(math.isfinite, values)):
            raise DataError(f"{path}:{number}: points and scores must be finite")
        if row_of.setdefault(name, len(numbers)) != len(numbers):
            if numbers[row_of[name]] != values:
                raise DataError(f"{path}:{number}: image {name} has other points further up")
            continue
        numbers.append(values)
    missing = [name for name in names if name not in row_of]
    if missing:
        raise DataError(
            f"{path}: there are no points of image {missing[0]} "
            f"({len(missing)} of {len(names)} images have none)"
        )
    table = np.array(numbers, dtype=np.float64)[[row_of[name] for name in names]]
    return table[:, :-1].reshape(-1, _N_POINTS, 2), table[:, -1].copy()
