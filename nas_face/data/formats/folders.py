"""A folder of faces on disk, one sub-folder for each identity."""

from collections.abc import Collection
from pathlib import Path

from nas_face.data.blobs import FileBlobs
from nas_face.data.decoding import DEFAULT_MAX_BROKEN_SHARE, decode_faces
from nas_face.data.faces import FaceImages, SkippedImage
from nas_face.data.listing import FaceListing
from nas_face.data.pixels import DEFAULT_CACHE_BYTES
from nas_face.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""File name endings that are taken for images, in lower case; `.JPG` is one too."""

_LAYOUT = "the layout is FOLDER/IDENTITY/IMAGE"


def list_folder(root: Path) -> FaceListing:
    """List `root/IDENTITY/IMAGE`, identities and images sorted by name.

    Files with another ending than `IMAGE_SUFFIXES`, names that begin with a dot and folders inside
    an identity's are not looked at. Images that lie beside the identities' folders and identities
    without an image are named in `skipped`.

    Args:
        root: the folder.

    Returns:
        Its images; none has been opened.

    Raises:
        DataError: `root` is missing, not a folder, or empty, or has no folder with an image.
    """
    folders, skipped = _list_root(root)
    paths: list[Path] = []
    for folder in folders:
        found = sorted(path for path in _entries(folder) if _is_image(path))
        if not found:
            skipped.append(SkippedImage(name=folder.name, reason="identity without an image"))
        paths += found
    if not paths:
        raise DataError(f"{root}: none of its {len(folders)} folders has an image; {_LAYOUT}")
    return FaceListing(
        root=root,
        blobs=FileBlobs(tuple(paths)),
        names=tuple(f"{path.parent.name}/{path.name}" for path in paths),
        identities=tuple(path.parent.name for path in paths),
        skipped=tuple(skipped),
    )


def load_folder(
    root: Path,
    *,
    height: int,
    width: int,
    exclude: Collection[str] = (),
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    max_broken_share: float = DEFAULT_MAX_BROKEN_SHARE,
) -> FaceImages:
    """List `root` by `list_folder` and decode it by `decode_faces`, whose arguments these are.

    Raises:
        DataError: see there.
    """
    return decode_faces(
        list_folder(root),
        height=height,
        width=width,
        exclude=exclude,
        cache_bytes=cache_bytes,
        max_broken_share=max_broken_share,
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
