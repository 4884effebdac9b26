"""What the formats of pair lists share: reading text, and decoding the images that lines name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from nas_face.data.faces import FaceImages
from nas_face.data.pairs import DEFAULT_N_FOLDS, PairList, fold_order
from nas_face.data.pixels import open_pixels
from nas_face.errors import DataError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PairLine:
    """One line of a list.

    Args:
        line: its number in the file, from 1.
        first: the first image's path relative to the root, with forward slashes.
        second: the second image's path likewise.
        same: whether both show the same identity.
    """

    line: int
    first: str
    second: str
    same: bool


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such list of pairs") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: a list of pairs is UTF-8 text, and this is not") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, each with its number from 1."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def decode_pairs(
    path: Path,
    root: Path,
    pairs: Sequence[PairLine],
    *,
    n_folds: int | None,
    height: int,
    width: int,
    cache_bytes: int,
) -> PairList:
    """Decode the images of a list, each once.

    Args:
        path: the list, for messages.
        root: what its image names are relative to.
        pairs: its lines.
        n_folds: number of folds if the lines come in folds; None deals them to 10.
        height: rows that each image is brought to.
        width: columns that each image is brought to.
        cache_bytes: see `load_folder`.

    Returns:
        The pairs; an image's identity is taken to be its folder.

    Raises:
        DataError: the list is empty or of one kind, or an image is missing or broken.
    """
    if not pairs:
        raise DataError(f"{path}: the list of pairs is empty")
    n_same = sum(pair.same for pair in pairs)
    if n_same in (0, len(pairs)):
        raise DataError(
            f"{path}: both same and different pairs are needed, got {n_same} same and "
            f"{len(pairs) - n_same} different"
        )
    images = _decode_images(path, root, pairs, height, width, cache_bytes)
    row_of = {name: row for row, name in enumerate(images.names)}
    same = np.array([pair.same for pair in pairs], dtype=np.bool_)
    order = np.arange(len(pairs)) if n_folds else fold_order(same, DEFAULT_N_FOLDS)
    return PairList(
        images=images,
        first=np.array([row_of[pair.first] for pair in pairs], dtype=np.int64)[order],
        second=np.array([row_of[pair.second] for pair in pairs], dtype=np.int64)[order],
        same=same[order],
        n_folds=n_folds or DEFAULT_N_FOLDS,
    )


def _decode_images(
    path: Path,
    root: Path,
    pairs: Sequence[PairLine],
    height: int,
    width: int,
    cache_bytes: int,
) -> FaceImages:
    first_line: dict[str, int] = {}
    for pair in pairs:
        first_line.setdefault(pair.first, pair.line)
        first_line.setdefault(pair.second, pair.line)
    missing = [name for name in first_line if not is_file(root / name)]
    if missing:
        raise DataError(
            f"{path}:{first_line[missing[0]]}: image {root / missing[0]} is missing "
            f"({len(missing)} of {len(first_line)} images are); "
            f"is {root} the folder that the names start from?"
        )
    names = sorted(first_line)
    pixels, broken = open_pixels(
        [root / name for name in names], height=height, width=width, cache_bytes=cache_bytes
    )
    if broken:
        name = names[min(broken)]
        raise DataError(
            f"{path}:{first_line[name]}: image {root / name} is broken: {broken[min(broken)]} "
            f"({len(broken)} of {len(names)} images are); replace it, or remove its pairs"
        )
    folders = [name.rpartition("/")[0] for name in names]
    identities, labels = np.unique(np.array(folders, dtype=object), return_inverse=True)
    return FaceImages(
        pixels=pixels,
        rows=np.arange(len(names), dtype=np.int64),
        labels=labels.astype(np.int64),
        identities=tuple(str(identity) for identity in identities),
        names=tuple(names),
    )


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is not."""
    try:
        return path.is_file()
    except OSError:  # for instance a name that is too long
        return False
