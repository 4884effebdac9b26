"""Celebrities in Frontal-Profile: its protocol folder."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from nas_face.data.blobs import FileBlobs
from nas_face.data.faces import SkippedImage
from nas_face.data.formats.pair_lines import is_file, read_lines
from nas_face.data.listing import FaceListing, PairListing
from nas_face.errors import DataError

PROTOCOLS = ("FF", "FP")
"""Frontal to frontal, and frontal to profile."""

N_FOLDS = 10

_LISTS = {"F": "Pair_list_F.txt", "P": "Pair_list_P.txt"}
_MAX_DIGITS = 9  # of an image's number; more is no number of an image
_IMAGE_PARTS = 3  # of an image's path: person, view, file


def list_cfp(path: Path, protocol: str | None, root: Path | None = None) -> PairListing:
    """List the pairs of one of CFP's two protocols.

    `Protocol/Pair_list_F.txt` and `Pair_list_P.txt` number the frontal and the profile images, a
    line each: `1 ../Data/Images/001/frontal/01.jpg`. `Protocol/Split/FF/01/same.txt` has a line
    `i,j` for each pair of the fold, and `diff.txt` beside it likewise; in FP the second number is
    of a profile image.

    Args:
        path: the folder that holds `Protocol`.
        protocol: FF or FP.
        root: a folder to take the images from in place of `Data/Images`, such as one with aligned
            crops: `root/001/frontal/01.jpg`. By default they are where the lists say.

    Returns:
        The pairs in 10 folds, each same pairs first, and only the images that they use, each once,
        named `001/frontal/01.jpg`. The identities are the persons' folders.

    Raises:
        DataError: a list or an image is missing, a list does not keep to the format, or folds are
            not of one size.

    Source:
        Sengupta et al., "Frontal to Profile Face Verification in the Wild", 2016: README of the
        data set.
    """
    if protocol not in PROTOCOLS:
        raise DataError(
            f"{path}: CFP has two protocols, FF (frontal to frontal) and FP (frontal to profile); "
            f"choose one (protocol, --protocol), got {protocol}"
        )
    first_list, second_list = (_read_list(path, view) for view in protocol)
    pairs: list[tuple[str, str, bool]] = []
    for fold in range(1, N_FOLDS + 1):
        folder = path / "Protocol" / "Split" / protocol / f"{fold:02d}"
        before = len(pairs)
        for name, same in (("same.txt", True), ("diff.txt", False)):
            pairs += _read_split(folder / name, first_list, second_list, same)
        if fold > 1 and (len(pairs) - before) * (fold - 1) != before:
            raise DataError(
                f"{folder}: the folds must be of one size, {before // (fold - 1)} pairs as in the "
                f"first, got {len(pairs) - before}"
            )
    used = sorted({name for first, second, _ in pairs for name in (first, second)})
    place = _place(path, root)
    files = tuple(map(place, used))
    missing = [file for file in files if not is_file(file)]
    if missing:
        raise DataError(
            f"{path}: image {missing[0]} is missing ({len(missing)} of {len(used)} images are)"
        )
    names = tuple(map(_short, used))
    row_of = {name: row for row, name in enumerate(used)}
    return PairListing(
        path=path,
        blobs=FileBlobs(files),
        names=names,
        identities=tuple(map(_person, names)),
        first=np.array([row_of[first] for first, _, _ in pairs], dtype=np.int64),
        second=np.array([row_of[second] for _, second, _ in pairs], dtype=np.int64),
        same=np.array([same for _, _, same in pairs], dtype=np.bool_),
        n_folds=N_FOLDS,
    )


def list_cfp_faces(path: Path) -> FaceListing:
    """List all of CFP's images, frontal and profile, by person.

    Args:
        path: the folder that holds `Protocol`.

    Returns:
        The images that its two lists number; those that are missing are named in `skipped`.

    Raises:
        DataError: a list is missing or does not keep to the format, or no image is there.
    """
    every = sorted({image for view in _LISTS for image in _read_list(path, view).values()})
    place = _place(path, None)
    found = [image for image in every if is_file(place(image))]
    if not found:
        raise DataError(f"{path}: none of its {len(every)} images is there, such as {every[0]}")
    names = tuple(map(_short, found))
    return FaceListing(
        root=path,
        blobs=FileBlobs(tuple(map(place, found))),
        names=names,
        identities=tuple(map(_person, names)),
        skipped=tuple(
            SkippedImage(name=_short(image), reason="the file is missing")
            for image in sorted(set(every).difference(found))
        ),
    )


def _read_list(path: Path, view: str) -> dict[int, str]:
    """Number of an image -> its path relative to `Protocol`."""
    file = path / "Protocol" / _LISTS[view]
    images: dict[int, str] = {}
    for line, text in read_lines(file):
        number, *rest = text.split(maxsplit=1)
        image = "".join(rest).strip().replace("\\", "/")
        if not _is_number(number) or len(PurePosixPath(image).parts) < _IMAGE_PARTS:
            raise DataError(
                f"{file}:{line}: a line is 'NUMBER ../Data/Images/PERSON/VIEW/FILE', got "
                f"{text.strip()!r}"
            )
        if images.setdefault(int(number), image) != image:
            raise DataError(f"{file}:{line}: the number {number} is taken by another image")
    if not images:
        raise DataError(f"{file}: the list of images is empty")
    return images


def _read_split(
    file: Path, first_list: dict[int, str], second_list: dict[int, str], same: bool
) -> list[tuple[str, str, bool]]:
    pairs = []
    for line, text in read_lines(file):
        numbers = [part.strip() for part in text.split(",")]
        if len(numbers) != 2 or not all(map(_is_number, numbers)):
            raise DataError(f"{file}:{line}: a line is 'NUMBER,NUMBER', got {text.strip()!r}")
        first, second = first_list.get(int(numbers[0])), second_list.get(int(numbers[1]))
        if first is None or second is None:
            number = numbers[0] if first is None else numbers[1]
            raise DataError(f"{file}:{line}: no image has the number {number} in its list")
        if first == second:
            raise DataError(f"{file}:{line}: an image is paired with itself, {first}")
        if (_person(_short(first)) == _person(_short(second))) is not same:
            raise DataError(
                f"{file}:{line}: {_short(first)} and {_short(second)} are "
                f"{'of two persons' if same else 'of one person'}"
            )
        pairs.append((first, second, same))
    return pairs


def _place(path: Path, root: Path | None) -> Callable[[str], Path]:
    if root is None:
        return lambda image: path / "Protocol" / image
    return lambda image: root / _short(image)


def _short(image: str) -> str:
    return "/".join(PurePosixPath(image).parts[-_IMAGE_PARTS:])


def _person(name: str) -> str:
    return name.partition("/")[0]


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _MAX_DIGITS
