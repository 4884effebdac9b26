"""Folder trees of faces written from names that files cannot all have, and those names again."""

import dataclasses
import hashlib
import json
import unicodedata
from pathlib import Path, PurePosixPath

from nas_face.data.formats.folders import IMAGE_SUFFIXES
from nas_face.data.listing import FaceListing, PairListing
from nas_face.errors import DataError

NAMES_FILE = ".names.json"
"""In a tree's folder: what is called otherwise than its file, `{"identities", "images"}`."""

MAX_NAME_BYTES = 200
"""Longest name given to a file or folder; file systems hold 255, and some tools add to it."""

_UNSAFE = frozenset('<>:"/\\|?*%\x7f')
_PORTS = frozenset(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))
_DEVICES = frozenset({"con", "prn", "aux", "nul"}) | _PORTS
_MAGIC = {b"\x89PNG": ".png", b"BM": ".bmp", b"RIFF": ".webp", b"II*\0": ".tif", b"P5": ".pgm"}


def image_suffix(name: str, data: bytes) -> str:
    """The ending for an image's file: its name's, else by its content, else .jpg."""
    suffix = PurePosixPath(name).suffix
    if suffix.lower() in IMAGE_SUFFIXES:
        return suffix
    return next((ending for head, ending in _MAGIC.items() if data.startswith(head)), ".jpg")


class SafeNames:
    """Names of files in one folder, for names of anything.

    What some file system may not hold is written as `%` and two digits for each byte, as in URLs:
    separators, control characters, what Windows reserves, blanks and dots at the ends. A name that
    stays too long is cut, and it as well as one that differs from another only in what some file
    systems do not tell apart (case, composed accents) gets a digest at its end.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str, suffix: str = "") -> str:
        """A name for `name` that nobody else gets.

        Args:
            name: what is named, without its ending.
            suffix: its ending.
        """
        safe = _escape(name)
        if len((safe + suffix).encode()) > MAX_NAME_BYTES or _folded(safe + suffix) in self._taken:
            digest = (
                "%"
                + hashlib.sha256((name + suffix).encode("utf-8", "surrogatepass")).hexdigest()[:16]
            )
            room = MAX_NAME_BYTES - len((digest + suffix).encode())
            safe = safe.encode()[:room].decode("utf-8", "ignore") + digest
        self._taken.add(_folded(safe + suffix))
        return safe + suffix


def write_tree(listing: FaceListing, root: Path) -> None:
    """Write images as `root/IDENTITY/FILE`, their bytes as they are.

    Where that needs other names than the listing has, `NAMES_FILE` keeps the listing's.

    Args:
        listing: what to write.
        root: a folder that is not there yet.

    Raises:
        DataError: an image cannot be read.
    """
    root.mkdir()
    folders = SafeNames()
    folder_of: dict[str, tuple[str, SafeNames]] = {}
    images: dict[str, str] = {}
    for row, (name, identity) in enumerate(zip(listing.names, listing.identities, strict=True)):
        if identity not in folder_of:
            folder = folders.take(identity)
            folder_of[identity] = folder, SafeNames()
            (root / folder).mkdir()
        folder, files = folder_of[identity]
        data = listing.blobs.read(row)
        rest = name.removeprefix(identity + "/")
        suffix = image_suffix(rest, data)
        file = files.take(rest.removesuffix(suffix), suffix)
        (root / folder / file).write_bytes(data)
        if f"{identity}/{file}" != name:
            images[f"{folder}/{file}"] = name
    identities = {
        folder: identity for identity, (folder, _) in folder_of.items() if folder != identity
    }
    if identities or images:
        known = json.dumps({"identities": identities, "images": images}, indent=1)
        (root / NAMES_FILE).write_text(known + "\n", encoding="ascii")


def write_images(listing: PairListing, root: Path) -> list[str]:
    """Write the images of pairs to one folder, by names like theirs.

    Args:
        listing: whose images.
        root: a folder that is not there yet.

    Returns:
        The file name of each.

    Raises:
        DataError: an image cannot be read.
    """
    root.mkdir()
    names = SafeNames()
    files: list[str] = []
    for row, name in enumerate(listing.names):
        data = listing.blobs.read(row)
        suffix = image_suffix(name, data)
        files.append(names.take(name.removesuffix(suffix).replace("/", "_"), suffix))
        (root / files[-1]).write_bytes(data)
    return files


def restore_names(listing: FaceListing) -> FaceListing:
    """Give a listing of a folder tree the names that `write_tree` kept beside it, if any.

    Raises:
        DataError: the file with the names is broken.
    """
    path = listing.root / NAMES_FILE
    if not path.is_file():
        return listing
    identities, images = _read_names(path)
    found = [identities.get(each, each) for each in listing.identities]
    files = (name.partition("/")[2] for name in listing.names)
    names = tuple(
        images.get(name, f"{identity}/{file}")
        for name, identity, file in zip(listing.names, found, files, strict=True)
    )
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two images have one name; without this file they go by folder")
    return dataclasses.replace(listing, names=names, identities=tuple(found))


def _read_names(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        parts = (known["identities"], known["images"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a list of names as convert writes it: {error}") from error
    for part in parts:
        if not isinstance(part, dict) or not all(isinstance(name, str) for name in part.values()):
            raise DataError(f"{path}: not a list of names as convert writes it")
    return parts


def _escape(name: str) -> str:
    ends = (0, len(name) - 1)
    escaped = "".join(
        _percent(letter)
        if letter in _UNSAFE
        or not letter.isprintable()
        or (place in ends and (letter == "." or letter.isspace()))
        else letter
        for place, letter in enumerate(name)
    )
    if escaped.partition(".")[0].lower() in _DEVICES:
        escaped = _percent(escaped[0]) + escaped[1:]
    return escaped or "%"


def _percent(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogatepass"))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
