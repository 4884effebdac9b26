"""Faces and pairs in whichever format they come, told apart by what is there."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from nas_face.data.bundled import BUILT_IN, list_orl
from nas_face.data.decoding import DEFAULT_MAX_BROKEN_SHARE, decode_faces, decode_pairs
from nas_face.data.faces import FaceImages
from nas_face.data.formats.cfp import list_cfp, list_cfp_faces
from nas_face.data.formats.folders import list_folder
from nas_face.data.formats.lfw_pairs import list_lfw_pairs
from nas_face.data.formats.pair_csv import list_pair_csv
from nas_face.data.formats.pair_lines import read_lines
from nas_face.data.formats.pair_paths import are_pair_paths, list_pair_paths
from nas_face.data.formats.tar_names import is_pattern
from nas_face.data.formats.tars import list_tars
from nas_face.data.formats.trees import restore_names
from nas_face.data.listing import FaceListing, PairListing
from nas_face.data.pairs import PairList
from nas_face.data.pixels import DEFAULT_CACHE_BYTES
from nas_face.errors import DataError

Format = Literal["built in", "folder", "records", "tars", "cfp", "bin", "text"]
"""What a path may be; `text` is a list of pairs of any textual format."""

FACE_FORMATS = (
    "a folder with one folder for each identity, a record file (.rec with .idx), WebDataset tars "
    "(one .tar, a folder of them, or shards-{000..009}.tar), CFP's folder, or orl for the "
    "built-in "
    "faces"
)
"""What `list_faces` takes, for messages."""

PAIR_FORMATS = (
    "a list of pairs (LFW's pairs.txt, CSV, or 'PATH1 PATH2 1' lines), a verification set (.bin), "
    "or CFP's folder"
)
"""What `list_pairs` takes, for messages."""

_RECORD_MAGIC = (0xCED7230A).to_bytes(4, "little")
_GZIP_MAGIC = b"\x1f\x8b"
_HEAD_BYTES = 512


def format_of(path: Path) -> Format:
    """Which format a path is of, by its ending, its content or what the folder holds.

    Raises:
        DataError: nothing is there, or it is of no known format.
    """
    suffix = path.suffix.lower()
    if not path.exists():
        if path == Path(BUILT_IN):
            return "built in"
        if is_pattern(path):
            return "tars"
        raise DataError(f"{path}: there is no such file or folder")
    if path.is_dir():
        return _format_of_folder(path)
    by_suffix: dict[str, Format] = {
        ".rec": "records",
        ".idx": "records",
        ".tar": "tars",
        ".bin": "bin",
        ".csv": "text",
    }
    return by_suffix.get(suffix) or _format_of_content(path)


def list_faces(path: Path) -> FaceListing:
    """List a set of faces of any format.

    Args:
        path: one of `FACE_FORMATS`.

    Returns:
        Its images, none of them decoded.

    Raises:
        DataError: it is missing, broken, of no known format, or has pairs and no identities.
    """
    match format_of(path):
        case "built in":
            return list_orl()
        case "folder":
            return restore_names(list_folder(path))
        case "records":
            from nas_face.data.formats.records import list_records

            return list_records(path)
        case "tars":
            return list_tars(path)
        case "cfp":
            return list_cfp_faces(path)
        case _:
            raise DataError(f"{path}: this has pairs, not identities; faces are {FACE_FORMATS}")


def load_faces(
    path: Path,
    *,
    height: int,
    width: int,
    exclude: Collection[str] = (),
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    max_broken_share: float = DEFAULT_MAX_BROKEN_SHARE,
) -> FaceImages:
    """List faces by `list_faces` and decode them by `decode_faces`, whose arguments these are.

    Raises:
        DataError: see there.
    """
    return decode_faces(
        list_faces(path),
        height=height,
        width=width,
        exclude=exclude,
        cache_bytes=cache_bytes,
        max_broken_share=max_broken_share,
    )


def list_pairs(
    path: Path, root: Path | None = None, *, protocol: str | None = None
) -> PairListing:
    """List pairs of any format.

    Args:
        path: one of `PAIR_FORMATS`.
        root: the folder that a list's image names start from; the list's own by default. A set
            that holds its images takes none.
        protocol: FF or FP, which CFP needs and nothing else takes.

    Returns:
        The pairs, no image of them decoded.

    Raises:
        DataError: it is missing, broken, of no known format, or has identities and no pairs.
    """
    found = format_of(path)
    if found == "cfp":
        return list_cfp(path, protocol, root)
    if protocol is not None:
        raise DataError(
            f"{path}: only CFP's folder has protocols to choose from, got {protocol!r}"
        )
    match found:
        case "bin":
            from nas_face.data.formats.verification_bin import list_bin

            if root is not None:
                raise DataError(f"{path}: a .bin holds its images; leave out the folder {root}")
            return list_bin(path)
        case "text":
            return _list_text(path, path.parent if root is None else root)
        case _:
            raise DataError(f"{path}: this has identities, not pairs; pairs are {PAIR_FORMATS}")


def load_pairs(
    path: Path,
    root: Path | None = None,
    *,
    height: int,
    width: int,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    protocol: str | None = None,
) -> PairList:
    """List pairs by `list_pairs` and decode them by `decode_pairs`, whose arguments these are.

    Raises:
        DataError: see there.
    """
    return decode_pairs(
        list_pairs(path, root, protocol=protocol),
        height=height,
        width=width,
        cache_bytes=cache_bytes,
    )


def _format_of_folder(folder: Path) -> Format:
    if (folder / "Protocol").is_dir():
        return "cfp"
    try:
        suffixes = {path.suffix.lower() for path in folder.iterdir() if path.is_file()}
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error
    if (folder / "train.rec").is_file() or ".rec" in suffixes:
        return "records"
    return "tars" if ".tar" in suffixes else "folder"


def _format_of_content(path: Path) -> Format:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if head.startswith(_RECORD_MAGIC):
        return "records"
    if head[257:262] == b"ustar":
        return "tars"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "bin"
    if head.startswith(_GZIP_MAGIC):
        raise DataError(f"{path}: this is compressed; decompress it first (gunzip)")
    if b"\0" in head:
        raise DataError(
            f"{path}: of no known format; faces are {FACE_FORMATS}; pairs are {PAIR_FORMATS}"
        )
    return "text"


def _list_text(path: Path, root: Path) -> PairListing:
    lines = read_lines(path)
    first = lines[0][1] if lines else ""
    if path.suffix.lower() == ".csv" or "," in first or ";" in first:
        return list_pair_csv(path, root)
    if are_pair_paths(first):
        return list_pair_paths(path, root)
    return list_lfw_pairs(path, root)
