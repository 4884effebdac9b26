"""From one format to another; encoded images stay as they are."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

from nas_face.data.blobs import Blobs, FileBlobs
from nas_face.data.faces import SkippedImage
from nas_face.data.formats.atomic import replacing
from nas_face.data.formats.folders import IMAGE_SUFFIXES
from nas_face.data.formats.opening import format_of, list_faces, list_pairs
from nas_face.data.formats.pair_csv import write_pair_csv
from nas_face.data.formats.records import write_records
from nas_face.data.formats.tar_names import counted_tars
from nas_face.data.formats.tars import write_tars
from nas_face.data.formats.trees import NAMES_FILE, write_images, write_tree
from nas_face.data.formats.verification_bin import write_bin
from nas_face.data.listing import FaceListing, PairListing
from nas_face.errors import DataError

Form = Literal["records", "tars", "bin", "csv", "folder"]
"""What can be written."""

TARGETS = "NAME.rec, NAME.tar, NAME-%06d.tar or a folder for faces, NAME.bin or NAME.csv for pairs"
"""How targets are called, for messages."""

_FORM_OF_SUFFIX: dict[str, Form] = {
    ".rec": "records",
    ".tar": "tars",
    ".bin": "bin",
    ".csv": "csv",
}
_NOUNS: dict[Form, str] = {
    "records": "record file",
    "tars": "tar",
    "bin": ".bin",
    "csv": ".csv",
    "folder": "folder tree",
}
_NO_FOLDERS = IMAGE_SUFFIXES | {
    *(".txt", ".tsv", ".idx", ".lst", ".json", ".npz", ".lmdb", ".parquet"),
    *(".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip"),
}  # who gives such a name wants a file that is not written here


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What was written.

    Args:
        form: in which format.
        n_images: images.
        n_identities: identities that they show, as far as the source tells.
        n_pairs: pairs; None for faces.
        image_bytes: of the images, encoded, each counted once.
        skipped: what the source's listing left out.
    """

    form: Form
    n_images: int
    n_identities: int
    n_pairs: int | None
    image_bytes: int
    skipped: tuple[SkippedImage, ...]


def convert(
    source: Path,
    target: Path,
    *,
    images: Path | None = None,
    protocol: str | None = None,
    overwrite: bool = False,
    on_image: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Convert faces or pairs to another format; no image is decoded or encoded again.

    The target's name decides: `x.rec` is a record file, `x.tar` or `x-%06d.tar` WebDataset tars,
    `x.bin` a verification set, `x.csv` a list of pairs, and a name without such an ending a folder
    tree. A CSV points at the source's image files, or at `x_images/` beside it if the source has
    no files of its own.

    Args:
        source: faces or pairs in any format that `list_faces` or `list_pairs` opens.
        target: what to write; it is moved into place when it is complete.
        images: the folder that a list's image names start from.
        protocol: FF or FP, which pairs of CFP need.
        overwrite: replace what is there; of folders only trees of faces are.
        on_image: called with the images read so far and all.

    Returns:
        What was written.

    Raises:
        DataError: the source cannot be read, the target cannot hold it, is there already, or
            cannot be written.
    """
    form = form_of(target)
    listing = _open(source, form, images, protocol)
    _check_place(source, target, form, overwrite)
    blobs = _WatchedBlobs(listing.blobs, on_image)
    if isinstance(listing, FaceListing):
        _write_faces(replace(listing, blobs=blobs), target, form)
    else:
        _write_pairs(replace(listing, blobs=blobs), listing.blobs, target, form)
    return Conversion(
        form=form,
        n_images=len(listing.names),
        n_identities=len(set(listing.identities)),
        n_pairs=None if isinstance(listing, FaceListing) else len(listing.same),
        image_bytes=sum(blobs.sizes.values()),
        skipped=listing.skipped if isinstance(listing, FaceListing) else (),
    )


def form_of(target: Path) -> Form:
    """What a target's name asks for.

    Raises:
        DataError: it asks for a file that cannot be written.
    """
    suffix = target.suffix.lower()
    if suffix in _NO_FOLDERS:
        raise DataError(f"{target}: no {suffix} is written; targets are {TARGETS}")
    return _FORM_OF_SUFFIX.get(suffix, "folder")


@final
class _WatchedBlobs:
    """Images whose sizes are noted as they are read."""

    def __init__(self, blobs: Blobs, on_image: Callable[[int, int], None] | None) -> None:
        self._blobs = blobs
        self._on_image = on_image
        self.sizes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._blobs)

    def read(self, row: int) -> bytes:
        data = self._blobs.read(row)
        self.sizes[row] = len(data)
        if self._on_image is not None:
            self._on_image(len(self.sizes), len(self._blobs))
        return data

    def where(self, row: int) -> str:
        return self._blobs.where(row)


def _open(
    source: Path, form: Form, images: Path | None, protocol: str | None
) -> FaceListing | PairListing:
    found = format_of(source)
    wants_pairs = form in ("bin", "csv")
    if found in ("bin", "text") or (found == "cfp" and (wants_pairs or protocol is not None)):
        if not wants_pairs:
            raise DataError(
                f"{source}: a {_NOUNS[form]} has identities and would lose the pairs; pairs "
                "become NAME.bin or NAME.csv"
            )
        return list_pairs(source, images, protocol=protocol)
    if wants_pairs:
        raise DataError(
            f"{source}: these are faces without pairs, and a {_NOUNS[form]} states pairs; faces "
            "become NAME.rec, NAME.tar, NAME-%06d.tar or a folder"
        )
    if images is not None or protocol is not None:
        raise DataError(f"{source}: these are faces; --images and --protocol belong to pairs")
    return list_faces(source)


def _check_place(source: Path, target: Path, form: Form, overwrite: bool) -> None:
    origin, goal = source.resolve(), target.resolve()
    if origin == goal or origin.is_relative_to(goal):
        raise DataError(f"{target}: the target must lie apart from the source, {source}")
    if form not in ("bin", "csv") and goal.is_relative_to(origin):
        raise DataError(f"{target}: the target must not lie inside the source, {source}")
    for path in _existing(target, form):
        if path.resolve() == origin:
            raise DataError(f"{path}: this is the source, and would be replaced")
        if not overwrite:
            raise DataError(f"{path}: this exists already; choose another name, or --force")
        if path.is_dir() != (path == _folder_of(target, form)):
            raise DataError(f"{path}: a folder cannot take a file's place, nor a file a folder's")
        if path.is_dir():
            _refuse_foreign_folder(path)


def _folder_of(target: Path, form: Form) -> Path | None:
    """The folder that a conversion writes, if any."""
    if form == "csv":
        return target.with_name(f"{target.stem}_images")
    return target if form == "folder" else None


def _existing(target: Path, form: Form) -> list[Path]:
    """What is there of what a conversion would write."""
    paths = [target, *filter(None, [_folder_of(target, form)])]
    if form == "records":
        paths = [target, target.with_suffix(".idx"), target.with_suffix(".lst")]
    if form == "tars":
        paths = counted_tars(target)
    return [
        path
        for path in dict.fromkeys(paths)
        if (path.exists() or path.is_symlink()) and not (path.is_dir() and not any(path.iterdir()))
    ]


def _refuse_foreign_folder(folder: Path) -> None:
    """A folder is only replaced if nothing but images is in it, at most one folder down."""
    for place in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        for path in place.iterdir():
            is_ours = path.name == NAMES_FILE or path.suffix.lower() in IMAGE_SUFFIXES
            if not is_ours and not (place == folder and path.is_dir()):
                raise DataError(
                    f"{folder}: {path.relative_to(folder)} is no image, so this folder is not "
                    "replaced; choose another name, or remove it yourself"
                )


def _write_faces(listing: FaceListing, target: Path, form: Form) -> None:
    match form:
        case "records":
            write_records(listing, target)
        case "tars":
            surplus = set(counted_tars(target))
            surplus.difference_update(write_tars(listing, target))
            for shard in surplus:
                shard.unlink()
        case _:
            with replacing(target) as partial:
                write_tree(listing, partial)


def _write_pairs(listing: PairListing, blobs: Blobs, target: Path, form: Form) -> None:
    if form == "bin":
        write_bin(listing, target)
        return
    files = _originals(blobs, target)
    if files is not None:
        for row in range(len(blobs)):
            listing.blobs.read(row)  # so that the list names nothing that cannot be read
        with replacing(target) as partial:
            write_pair_csv(listing, files, partial)
        return
    folder = target.with_name(f"{target.stem}_images")
    with replacing(target) as partial, replacing(folder) as partial_folder:
        names = write_images(listing, partial_folder)
        write_pair_csv(listing, [f"{folder.name}/{name}" for name in names], partial)


def _originals(blobs: Blobs, target: Path) -> list[str] | None:
    """The images' files as a list at `target` can name them; None if it cannot."""
    if not isinstance(blobs, FileBlobs):
        return None
    folder = target.parent.resolve()
    files = [os.path.relpath(path.resolve(), folder).replace(os.sep, "/") for path in blobs.paths]
    plain = (file == file.strip() and "\\" not in file and file.isprintable() for file in files)
    return files if all(plain) else None
