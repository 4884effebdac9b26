"""A folder of faces on disk, one sub-folder for each identity."""

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np

from nas_face.data.faces import FaceImages, SkippedImage
from nas_face.data.pixels import DEFAULT_CACHE_BYTES, open_pixels
from nas_face.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""File name endings that are taken for images, in lower case; `.JPG` is one too."""

_LAYOUT = "the layout is FOLDER/IDENTITY/IMAGE"

_logger = logging.getLogger(__name__)


def load_folder(
    root: Path,
    *,
    height: int,
    width: int,
    exclude: Collection[str] = (),
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> FaceImages:
    """Load `root/IDENTITY/IMAGE`, identities and images sorted by name.

    Files with another ending than `IMAGE_SUFFIXES` and names that begin with a dot are not looked
    at. Images that cannot be decoded, images that lie beside the identities' folders, and
    identities without a readable image are left out, named in `skipped`, and counted in one logged
    warning.

    Args:
        root: the folder.
        height: rows that each image is brought to.
        width: columns that each image is brought to.
        exclude: identities that are left out on purpose, and not named in `skipped`. Names that
            are not there are counted in a logged warning.
        cache_bytes: how much memory the decoded images may take; beyond it they are decoded again
            whenever they are asked for. All are decoded once here, so that broken ones are known.

    Returns:
        The images of at least two identities.

    Raises:
        DataError: `root` is missing, not a folder, or empty; it has no folder for each identity;
            more than half of the images are broken; or fewer than two identities remain.
    """
    folders, skipped = _list_root(root)
    absent = set(exclude).difference(folder.name for folder in folders)
    if absent:
        _logger.warning(
            "%s: %d of %d excluded identities are not there, for one %r",
            root,
            len(absent),
            len(set(exclude)),
            min(absent),
        )
    paths: list[Path] = []
    for folder in folders:
        if folder.name not in exclude:
            paths += sorted(path for path in _entries(folder) if _is_image(path))
    if not paths:
        raise DataError(f"{root}: none of its {len(folders)} folders has an image; {_LAYOUT}")

    pixels, broken = open_pixels(paths, height=height, width=width, cache_bytes=cache_bytes)
    names = [path.relative_to(root).as_posix() for path in paths]
    _refuse_if_mostly_broken(root, names, broken)
    skipped += [SkippedImage(name=names[row], reason=broken[row]) for row in sorted(broken)]

    rows = [row for row in range(len(paths)) if row not in broken]
    identities = sorted({paths[row].parent.name for row in rows})
    for folder in folders:
        if folder.name not in identities and folder.name not in exclude:
            skipped.append(SkippedImage(name=folder.name, reason="identity without an image"))
    if len(identities) < 2:
        raise DataError(
            f"{root}: at least 2 identities are needed to tell faces apart, found only "
            f"{identities[0]!r}; {_LAYOUT}"
        )
    if skipped:
        _logger.warning(
            "%s: left out %d of its images and folders, first %s (%s)",
            root,
            len(skipped),
            skipped[0].name,
            skipped[0].reason,
        )
    label_of = {name: label for label, name in enumerate(identities)}
    return FaceImages(
        pixels=pixels,
        rows=np.array(rows, dtype=np.int64),
        labels=np.array([label_of[paths[row].parent.name] for row in rows], dtype=np.int64),
        identities=tuple(identities),
        names=tuple(names[row] for row in rows),
        skipped=tuple(skipped),
    )


def _list_root(root: Path) -> tuple[list[Path], list[SkippedImage]]:
    if not root.exists():
        raise DataError(f"{root}: there is no such folder; {_LAYOUT}")
    if not root.is_dir():
        raise DataError(f"{root}: this is a file, and a folder of faces is needed; {_LAYOUT}")
    entries = _entries(root)
    if not entries:
        raise DataError(f"{root}: the folder is empty; {_LAYOUT}")
    folders = sorted(path for path in entries if path.is_dir())
    loose = sorted(path for path in entries if _is_image(path))
    if not folders and loose:
        raise DataError(
            f"{root}: its {len(loose)} images must lie in one folder for each identity; {_LAYOUT}"
        )
    if not folders:
        raise DataError(f"{root}: no folder in it, and one for each identity is needed; {_LAYOUT}")
    reason = "lies in no identity's folder"
    return folders, [SkippedImage(name=path.name, reason=reason) for path in loose]


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _refuse_if_mostly_broken(root: Path, names: list[str], broken: dict[int, str]) -> None:
    if 2 * len(broken) <= len(names):
        return
    first = min(broken)
    share = "every image is" if len(broken) == len(names) else "more than half of the images are"
    raise DataError(
        f"{root}: {share} broken ({len(broken)} of {len(names)}), first {names[first]} "
        f"({broken[first]}); check how the folder was copied"
    )
